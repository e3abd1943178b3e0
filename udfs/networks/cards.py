"""Model cards: the entries of the section `models`, checked and made into models; every fault reported at once."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic.dataclasses import dataclass

from udfs.networks.models import FITS, FORMATS, MODELS, Model
from udfs.stores import uris
from udfs.typed import CLOSED, Fault, Number, String, Text, between, checked, made, names_of, one_of, rule

VECTORS_SIDE = 224  # pixels to which an image is decoded where no network asks for more
NEAR = (
    "near_duplicate_threshold",
    "near_duplicate_margin",
    "near_duplicate_certain",
    "near_duplicate_evidence",
)
TEXT = ("text_weights", "text_sha256", "text_tokenizer", "text_tokenizer_sha256")
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,60}@[A-Za-z0-9][A-Za-z0-9._-]{0,60}")  # it names files
_DIGEST, _DIGITS = "[0-9a-fA-F]{64}", "must be 64 hexadecimal digits, in quotes"
_ARCHITECTURE = re.compile(r"[a-z0-9_]+(\.[A-Za-z0-9_]+)?")  # nothing that timm would look up on a server


def _whole(low: int, high: int, of: str = "") -> Any:
    must = f"must be a whole number{of}, {low}..{high}"
    return made(lambda value: _number(value, int, low, high), must)


def _number(value: Any, kind: Any, low: float, high: float) -> Any:
    """Also refuses true, .nan and .inf. Raises ValueError."""
    if not isinstance(value, kind) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError
    return value


def _colour(low: float, why: str = "") -> Any:
    """Three numbers, of one or three."""

    def make(value: Any) -> tuple[float, ...]:
        numbers = value if isinstance(value, list) and len(value) == 3 else [value] * 3
        return tuple(float(_number(number, int | float, low, 255)) for number in numbers)

    return made(make, f"must be one number or three, {low:g}..255{why}")


def _place(value: Any) -> str:
    """A path or URI in its canonical form, a relative path from the working directory."""
    if not isinstance(value, str):
        raise TypeError
    return uris.canonical(value, base=os.getcwd())  # noqa: PTH109 (a text)


def _matching(pattern: str, must: str) -> Any:
    return rule(lambda value: re.fullmatch(pattern, value) is not None, must)


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class _Vectors:
    format: Annotated[String, one_of(*FORMATS)]
    weights: Annotated[str, made(_place, "must be a path or an s3:// URI")]
    dimension: Annotated[int, _whole(2, 8192)]
    licence: Text
    source: Text
    near_duplicate_threshold: Annotated[Number, between(0, 1)] | None = None
    near_duplicate_margin: Annotated[Number, between(0, 1)] | None = None
    near_duplicate_certain: Annotated[Number, between(0, 1)] | None = None
    near_duplicate_evidence: Annotated[Number, between(0, 2.5)] | None = None
    text_weights: Annotated[str, made(_place, "must be a path or an s3:// URI")] | None = None
    text_sha256: Annotated[String, _matching(_DIGEST, _DIGITS)] | None = None
    text_tokenizer: Annotated[str, made(_place, "must be a path or an s3:// URI")] | None = None
    text_tokenizer_sha256: Annotated[String, _matching(_DIGEST, _DIGITS)] | None = None
    text_tokens: Annotated[int, _whole(2, 4096)] = 77


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class _Network(_Vectors):
    sha256: Annotated[String, _matching(_DIGEST, _DIGITS)]
    input_side: Annotated[int, _whole(16, 1024, " of pixels")]
    mean: Annotated[tuple[float, ...], _colour(0)]
    # Below 1 it would be one for pixels of 0..1.
    std: Annotated[tuple[float, ...], _colour(1, ", as pixels are 0..255")]
    fit: Annotated[String, one_of(*FITS)] = "stretch"


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class _Timm(_Network):
    architecture: Annotated[String, _matching(_ARCHITECTURE.pattern, "must be a name of timm's list of models")]


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class _Unknown(_Network):
    """Of a format that there is not: it may have any key."""

    architecture: Any = None


_KINDS = {"vectors": _Vectors, "timm": _Timm, "torchscript": _Network, "onnx": _Network}


def read_card(key: object, given: object) -> tuple[Model | None, list[str]]:
    """The model of a card, or None and all that is wrong with it: texts that begin where the card's key ends.

    key: name@revision. given: what YAML made of the card; conf/defaults.yaml says what it holds."""
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        return None, [" must be name@revision, of letters, digits, '.', '_' and '-'"]
    if key in MODELS:
        return None, [" is a model of imagesieve: give yours another name or revision"]
    if not isinstance(given, Mapping):
        return None, [f" must be keys and values, got {given!r}"]
    values = {name: value for name, value in given.items() if value is not None}
    format_ = given.get("format")
    kind = _KINDS.get(format_, _Unknown) if isinstance(format_, str) else _Unknown
    card, found = checked(kind, values)
    faults = [_told(kind, format_, fault) for fault in found if not (kind is _Unknown and fault.missing)]
    for together, what in ((NEAR, "numbers"), (TEXT, "keys")):
        missing = [name for name in together if name not in values]
        if 0 < len(missing) < len(together):
            faults.append(f": {', '.join(missing)} must be set too: these {what} come together or not at all")
    if faults:
        return None, faults
    more = {name: getattr(card, name) for name in names_of(kind)}
    more |= {name: (more[name] or "").lower() if name.endswith("sha256") else more[name] or "" for name in TEXT}
    more |= {"input_side": VECTORS_SIDE} if kind is _Vectors else {"sha256": more["sha256"].lower()}
    name, _, revision = key.partition("@")
    return Model(name=name, revision=revision, **more), []


def recorded(key: str, given: Mapping[str, Any]) -> Model | None:
    """The model of a card as a run has recorded it, with all fields of a Model; None where it is none."""
    kind = _KINDS.get(str(given.get("format")))
    if kind is None:
        return None
    return read_card(key, {name: given[name] for name in names_of(kind) if given.get(name) not in (None, "")})[0]


def _told(kind: type, format_: object, fault: Fault) -> str:
    if fault.unknown:
        of = f" for {format_}" if kind is not _Unknown else ""
        return f": unknown key {fault.where[0]!r}{of} ({fault.must})"
    if fault.missing:
        return f".{fault.where[0]} {fault.must}"
    return f".{fault.where[0]} {fault.must}, got {fault.value!r}"
