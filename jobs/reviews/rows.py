"""What review files hold, whatever their format: an image with what was decided of it, and how JSON is read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

MOST_JSON = 256 << 20  # bytes of a JSON file, which is held in memory
MOST_TEXT = 4096  # characters of a name
Rows = Callable[[], Iterator["Decided"]]  # can be gone through several times
T = TypeVar("T")


class FormatError(ValueError):
    """A file that is not what its format says: one line with the place."""


@dataclass(frozen=True)
class Decided:
    """An image of the lake. decision, label, note, by, at (ISO 8601): what people decided last, or None. own_labels:
    its label, or several. suggestion, suggested_label: None where there is none. width, height: 0 where it cannot be
    read."""

    uri: str
    image_id: int
    width: int
    height: int
    own_labels: tuple[str, ...]
    issues: tuple[str, ...]
    suggestion: str | None
    suggested_label: str | None
    decision: str | None = None
    label: str | None = None
    note: str | None = None
    by: str | None = None
    at: str | None = None

    @property
    def final_labels(self) -> tuple[str, ...]:
        """The label that was decided, else its own."""
        return (self.label,) if self.label else self.own_labels


def in_words(labels: tuple[str, ...]) -> str | None:
    """Labels as one text, for formats that have one of an image; None where there is none."""
    return ", ".join(labels) or None


@dataclass(frozen=True)
class Given:
    """One decision of a file. place: for people. uri: a URI or the end of one. decision: None where the file has a
    label alone, which keeps an image that has it and relabels others. labels: several, where it has these alone."""

    place: str
    uri: str | None
    image_id: int | None
    decision: str | None
    label: str | None = None
    note: str | None = None
    labels: tuple[str, ...] = ()


def loaded(file: Path) -> Any:
    """A JSON file. Raises FormatError, OSError."""
    if file.stat().st_size > MOST_JSON:
        raise FormatError(f"more than {MOST_JSON} bytes")
    try:
        return json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise FormatError(f"no JSON: {' '.join(str(error).split())[:200]}") from error


def field(value: dict[str, Any], name: str, kind: type[T], place: str) -> T | None:
    """A field of an object, None where it is missing or null. Raises FormatError where it is of another type."""
    found = value.get(name)
    if found is None:
        return None
    if not isinstance(found, kind) or isinstance(found, bool) != (kind is bool):
        raise FormatError(f"{place}.{name}: must be {_NAMES[kind]}")
    if isinstance(found, str) and len(found) > MOST_TEXT:
        raise FormatError(f"{place}.{name}: more than {MOST_TEXT} characters")
    return found


def needed(value: dict[str, Any], name: str, kind: type[T], place: str) -> T:
    """As field(), and it must be there."""
    found = field(value, name, kind, place)
    if found is None:
        raise FormatError(f"{place}.{name}: is missing")
    return found


def objects(value: Any, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a list, each with its place."""
    if not isinstance(value, list):
        raise FormatError(f"{place}: must be a list")
    for number, each in enumerate(value):
        if not isinstance(each, dict):
            raise FormatError(f"{place}[{number}]: must be an object")
        yield f"{place}[{number}]", each


def text(value: Any) -> str:
    """A value as JSON on one line. Names that are no text get a mark in place of what is none."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace").decode()


_NAMES: dict[type[Any], str] = {
    str: "a text",
    int: "a whole number",
    list: "a list",
    dict: "an object",
    bool: "true or false",
}
