"""Answers of a bounded size: values as JSON, of which long texts and lists are cut until it fits."""

from __future__ import annotations

import datetime
import json
import math
from typing import Any

MOST_ANSWER = 48_000  # characters: what agents can take at once
_STEPS = ((500, 200), (500, 100), (300, 50), (200, 20), (100, 10), (60, 5), (40, 2), (20, 1))
_MOST_NUMBERS = 16  # of a vector


def told(value: Any, most: int = MOST_ANSWER) -> str:
    """A value as JSON of at most so many characters. Where something was left out, an object says so: "shortened"."""
    for texts, items in _STEPS:
        cut, is_whole = _cut(value, texts, items)
        if isinstance(cut, dict) and not is_whole:
            cut = {**cut, "shortened": "long texts and lists are cut"}
        text = json.dumps(cut, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        text = text.encode("utf-8", "replace").decode()  # names may hold bytes that are no text
        if len(text) <= most:
            return text
    return json.dumps({"shortened": f"the answer is longer than {most} characters: ask for less"})


def _cut(value: Any, texts: int, items: int) -> tuple[Any, bool]:
    """The value as JSON has it, and whether all of it is there."""
    if isinstance(value, str):
        return (value, True) if len(value) <= texts else (value[:texts] + "…", False)
    if isinstance(value, dict):
        pairs = {str(name): _cut(each, texts, items) for name, each in value.items() if each is not None}
        return {name: each for name, (each, _) in pairs.items()}, all(whole for _, whole in pairs.values())
    if isinstance(value, list | tuple):
        most = min(items, _MOST_NUMBERS) if value and isinstance(value[0], float) else items
        parts = [_cut(each, texts, items) for each in value[:most]]
        more = [f"… {len(value) - most} more"] if len(value) > most else []
        return [*(each for each, _ in parts), *more], not more and all(whole for _, whole in parts)
    return _plain(value), True


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, datetime.date):
        return value.isoformat()
    return None if isinstance(value, float) and not math.isfinite(value) else value
