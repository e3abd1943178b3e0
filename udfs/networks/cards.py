"""Model cards: the entries of the section `models`, checked and made into models; every fault reported at once."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any

from udfs.networks.models import FITS, FORMATS, MODELS, Model
from udfs.stores import uris

Rule = tuple[Callable[[Any], bool], str]  # what a value must be, and how that is said

VECTORS_SIDE = 224  # pixels to which an image is decoded where no network asks for more
NEAR = {
    "near_duplicate_threshold": 1.0,
    "near_duplicate_margin": 1.0,
    "near_duplicate_certain": 1.0,
    "near_duplicate_evidence": 2.5,
}  # and the most that each can be
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,60}@[A-Za-z0-9][A-Za-z0-9._-]{0,60}")  # it names files
_ARCHITECTURE = re.compile(r"[a-z0-9_]+(\.[A-Za-z0-9_]+)?")  # nothing that timm would look up on a server


def read_card(key: object, given: object) -> tuple[Model | None, list[str]]:
    """The model of a card, or None and all that is wrong with it: texts that begin where the card's key ends.

    key: name@revision. given: what YAML made of the card; conf/defaults.yaml says what it holds."""
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        return None, [" must be name@revision, of letters, digits, '.', '_' and '-'"]
    if key in MODELS:
        return None, [" is a model of imagesieve: give yours another name or revision"]
    if not isinstance(given, Mapping):
        return None, [f" must be keys and values, got {given!r}"]
    kind = given.get("format")
    wanted, optional = _rules(kind)
    faults = [f".{name} must be set" for name in wanted if given.get(name) is None]
    for name, value in given.items():
        rule = wanted.get(name) or optional.get(name)
        if rule is None:
            of = f" for {kind}" if kind in FORMATS else ""
            faults.append(f": unknown key {name!r}{of} (there are {', '.join([*wanted, *optional])})")
        elif value is not None and not rule[0](value):
            faults.append(f".{name} {rule[1]}, got {value!r}")
    missing = [name for name in NEAR if given.get(name) is None]
    if 0 < len(missing) < len(NEAR):
        faults.append(f": {', '.join(missing)} must be set too: these numbers come together or not at all")
    if faults:
        return None, faults
    values = {name: value for name, value in given.items() if value is not None}
    values["weights"] = _uri(values["weights"])
    values |= {name: float(values[name]) for name in NEAR if name in values}
    if kind == "vectors":
        values["input_side"] = VECTORS_SIDE
    else:
        values |= {"sha256": values["sha256"].lower(), "mean": _colour(values["mean"]), "std": _colour(values["std"])}
    name, _, revision = key.partition("@")
    return Model(name=name, revision=revision, **values), []


def _rules(kind: object) -> tuple[dict[str, Rule], dict[str, Rule]]:
    """What a card of a format must have and what it may have; where the format is unknown, it may have any key."""
    always: dict[str, Rule] = {
        "format": _one_of(FORMATS),
        "weights": (lambda v: isinstance(v, str) and _uri(v) is not None, "must be a path or an s3:// URI"),
        "dimension": (lambda v: _is_whole(v, 2, 8192), "must be a whole number, 2..8192"),
        "licence": (_is_text, "must be a text"),
        "source": (_is_text, "must be a text"),
    }
    network: dict[str, Rule] = {
        "sha256": (_is_sha256, "must be 64 hexadecimal digits, in quotes"),
        "input_side": (lambda v: _is_whole(v, 16, 1024), "must be a whole number of pixels, 16..1024"),
        "mean": (lambda v: _is_colour(v, 0, 255), "must be one number or three, 0..255"),
        # Below 1 it would be one for pixels of 0..1.
        "std": (lambda v: _is_colour(v, 1, 255), "must be one number or three, 1..255, as pixels are 0..255"),
    }
    timm: dict[str, Rule] = {"architecture": (_is_architecture, "must be a name of timm's list of models")}
    fit: dict[str, Rule] = {"fit": _one_of(FITS)}
    near = {name: _between(0, most) for name, most in NEAR.items()}
    if kind == "vectors":
        return always, near
    if kind not in FORMATS:
        return always, {**network, **timm, **fit, **near}
    return {**always, **network, **(timm if kind == "timm" else {})}, {**fit, **near}


def _one_of(names: tuple[str, ...]) -> Rule:
    return (lambda v: v in names), f"must be one of {', '.join(names)}"


def _between(low: float, high: float) -> Rule:
    return (lambda v: _is_number(v, low, high)), f"must be {low:g}..{high:g}"


def _uri(given: str) -> str | None:
    """A path or URI in its canonical form, a relative path from the working directory; None for what is neither."""
    try:
        return uris.canonical(given, base=os.getcwd())  # noqa: PTH109 (a text)
    except ValueError:
        return None


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value.strip() != ""


def _is_sha256(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-fA-F]{64}", value) is not None


def _is_architecture(value: object) -> bool:
    return isinstance(value, str) and _ARCHITECTURE.fullmatch(value) is not None


def _is_whole(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and _is_number(value, low, high)


def _is_number(value: object, low: float, high: float) -> bool:
    """Also false for true, .nan and .inf."""
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _is_colour(value: object, low: float, high: float) -> bool:
    numbers = value if isinstance(value, list) and len(value) == 3 else [value]
    return all(_is_number(number, low, high) for number in numbers)


def _colour(value: Any) -> tuple[float, ...]:
    return tuple(float(number) for number in (value if isinstance(value, list) else [value] * 3))
