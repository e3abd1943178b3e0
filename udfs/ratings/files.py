"""Files of heads: numbers as safetensors, and beside them a card in JSON that holds their digest."""

from __future__ import annotations

import hashlib
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from udfs.ratings.heads import ACTIVATIONS, Head, HeadError, Layer, Measured, Raters, Sureness
from udfs.ratings.linear import KINDS

FORMAT = 1  # of the card
FOREIGN, NETWORK = "foreign", "network"  # another's head, and a network of its own, which reads the pictures
MOST_BYTES = 1 << 28  # of a head's numbers
MOST_CARD_BYTES = 1 << 24
MOST_LAYERS = 16
KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,60}@[A-Za-z0-9][A-Za-z0-9._-]{0,60}")  # it names files
_PICKLES = (b"\x80", b"PK\x03\x04")  # a pickle, and torch's zip of one

Tensors = dict[str, NDArray[Any]]


def written(head: Head) -> tuple[bytes, bytes]:
    """The bytes of a head's numbers and of its card."""
    from safetensors.numpy import save

    tensors: Tensors = {}
    for place, layer in enumerate(head.layers):
        tensors |= {f"layers.{place}.weight": layer.weights, f"layers.{place}.bias": layer.bias}
    if head.measured is not None:
        tensors |= {"measured.places": head.measured.places, "measured.weights": head.measured.weights}
    sure = head.sureness
    if sure is not None:
        tensors |= {"sureness.mean": sure.mean, "sureness.ways": sure.ways}
    if head.raters is not None:
        tensors |= {"raters.weights": head.raters.weights, "raters.offsets": head.raters.offsets}
    numbers: bytes = save({name: np.ascontiguousarray(value, np.float32) for name, value in tensors.items()})
    card = {
        "format": FORMAT, "key": head.key, "kind": head.kind, "model": head.model, "dimension": head.dimension,
        "activations": [layer.activation for layer in head.layers],
        "slope": head.slope, "shift": head.shift,
        "measured": list(head.measured.names) if head.measured else [],
        "sureness": None if sure is None
        else {"wide": sure.wide, "flat": sure.flat, "scale": sure.scale, "least": sure.least, "adds": sure.adds},
        "raters": list(head.raters.names) if head.raters else [],
        "sha256": hashlib.sha256(numbers).hexdigest(), "about": head.about,
    }  # fmt: skip
    return numbers, json.dumps(card, indent=1, ensure_ascii=False, allow_nan=False).encode()


def read(numbers: bytes, card: bytes, named: str) -> Head:
    """The head of two files. named: as messages call it. Raises HeadError: a card that is none, another digest, a
    pickle, tensors of other shapes, numbers that are not finite."""
    given = _card(card, named)
    tensors = tensors_of(numbers, given["sha256"], named)
    try:
        layers = tuple(
            Layer(
                _shaped(tensors, f"layers.{place}.weight", 2), _shaped(tensors, f"layers.{place}.bias", 1), activation
            )
            for place, activation in enumerate(given["activations"])
        )
        names = tuple(str(name) for name in given["measured"])
        measured = sureness = None
        if names:
            measured = Measured(names, _shaped(tensors, "measured.places", 2), _shaped(tensors, "measured.weights", 1))
            if len(measured.places) != len(names) or len(measured.weights) != 2 * len(names):
                raise HeadError(f"{named}: its properties have other numbers than its card says")
        if given["sureness"] is not None:
            of = {name: _number(given["sureness"][name]) for name in ("wide", "flat", "scale", "least")}
            sureness = Sureness(
                of["wide"], of["flat"], _shaped(tensors, "sureness.mean", 1), of["scale"],
                _shaped(tensors, "sureness.ways", 2), of["least"], given["sureness"].get("adds") is True,
            )  # fmt: skip
        raters = _raters(tensors, given["raters"])
        head = Head(
            given["key"], given["kind"], given["model"], layers, _number(given["slope"]), _number(given["shift"]),
            measured, sureness, raters, given["about"],
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, HeadError):
            raise
        raise HeadError(f"{named}: its card cannot be read ({' '.join(str(error).split())[:200]})") from error
    check(head, named)
    if head.dimension != given["dimension"]:
        raise HeadError(f"{named}: its card says {given['dimension']} numbers, its weights {head.dimension}")
    return head


def _raters(tensors: Tensors, names: list[object]) -> Raters | None:
    if not names:
        return None
    if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise HeadError("the names of its raters must be texts, no two alike")
    found = Raters(tuple(map(str, names)), _shaped(tensors, "raters.weights", 2), _shaped(tensors, "raters.offsets", 1))
    if len(found.weights) != len(names) or len(found.offsets) != len(names):
        raise HeadError(f"{len(names)} names of raters for {len(found.weights)} rows of weights")
    return found


def network_head(key: str, network: dict[str, Any], about: dict[str, Any]) -> Head:
    """A whole network as a head: its card says which, and it has no numbers of its own. network: format, weights,
    sha256, input_side, mean, std, fit, output, bins."""
    none = Layer(np.zeros((1, 1), np.float32), np.zeros(1, np.float32))
    return Head(key, NETWORK, "pictures", (none,), about={**about, "network": network})


def check(head: Head, named: str) -> None:
    """Raises HeadError for layers that do not fit one another."""
    if not 1 <= len(head.layers) <= MOST_LAYERS:
        raise HeadError(f"{named}: {len(head.layers)} layers, must be 1 to {MOST_LAYERS}")
    width = head.dimension
    for place, layer in enumerate(head.layers):
        if layer.weights.shape[1] != width or len(layer.bias) != len(layer.weights):
            raise HeadError(f"{named}: layer {place} has {layer.weights.shape} weights and {len(layer.bias)} biases")
        if layer.activation not in ACTIVATIONS:
            raise HeadError(f"{named}: activation must be one of {', '.join(ACTIVATIONS)}, got {layer.activation!r}")
        width = len(layer.bias)
    sure = head.sureness
    if sure is not None and (sure.mean.shape != (head.dimension,) or len(sure.ways) != head.dimension + 1):
        raise HeadError(f"{named}: what it knows of its sureness has other dimensions than its weights")
    if head.raters is not None and (not head.linear or head.raters.weights.shape[1] != head.dimension):
        raise HeadError(f"{named}: its raters have other dimensions than its weights")


def tensors_of(numbers: bytes, sha256: str, named: str) -> Tensors:
    """Tensors by name of a safetensors file, whose digest is asked before anything parses it. Raises HeadError."""
    if numbers[:1] in _PICKLES or numbers[:4] in _PICKLES:
        raise HeadError(f"{named}: is a pickle, which can run code: save its tensors as safetensors")
    digest = hashlib.sha256(numbers).hexdigest()
    if digest != sha256:
        raise HeadError(f"{named}: has SHA-256 {digest}, expected {sha256}")
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load

        found: Tensors = load(numbers)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise HeadError(f"{named}: is no safetensors ({' '.join(str(error).split())[:200]})") from error
    return found


def _shaped(tensors: Tensors, name: str, axes: int) -> NDArray[np.float32]:
    if name not in tensors:
        raise HeadError(f"no tensor {name!r} (there are: {', '.join(sorted(tensors)[:20])})")
    value = tensors[name]
    if value.ndim != axes or value.dtype.kind != "f" or not value.size:
        raise HeadError(f"{name} must be floats of {axes} axes, is {value.dtype} {value.shape}")
    numbers = np.asarray(value, np.float32)
    if not np.isfinite(numbers).all():
        raise HeadError(f"{name} holds numbers that are not finite")
    return numbers


def layer_of(tensors: Tensors, stem: str, activation: str) -> Layer:
    """A layer of another's file: STEM.weight and, where there is one, STEM.bias. Raises HeadError."""
    weights = _shaped(tensors, f"{stem}.weight", 2)
    bias = _shaped(tensors, f"{stem}.bias", 1) if f"{stem}.bias" in tensors else np.zeros(len(weights), np.float32)
    return Layer(weights, bias, activation)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise HeadError(f"must be a number, got {value!r}")
    return float(value)


def _card(card: bytes, named: str) -> dict[str, Any]:
    if len(card) > MOST_CARD_BYTES:
        raise HeadError(f"{named}: its card has more than {MOST_CARD_BYTES} bytes")
    try:
        given = json.loads(card)
    except (ValueError, RecursionError) as error:
        raise HeadError(f"{named}: its card is no JSON ({' '.join(str(error).split())[:200]})") from error
    if not isinstance(given, dict) or given.get("format") != FORMAT:
        raise HeadError(f"{named}: its card must have format {FORMAT}")
    key, kind = given.get("key"), given.get("kind")
    if not isinstance(key, str) or not KEY.fullmatch(key):
        raise HeadError(f"{named}: its key must be name@revision, of letters, digits, '.', '_' and '-', got {key!r}")
    if kind not in (*KINDS, FOREIGN, NETWORK):
        raise HeadError(f"{named}: its kind must be one of {', '.join((*KINDS, FOREIGN, NETWORK))}, got {kind!r}")
    for name, of in (
        ("model", str),
        ("sha256", str),
        ("activations", list),
        ("measured", list),
        ("raters", list),
        ("about", dict),
    ):
        if not isinstance(given.get(name), of):
            raise HeadError(f"{named}: its card has no {name}")
    return given


def digest(head: Head) -> str:
    """Of all that decides a score."""
    numbers, card = written(head)
    given = json.loads(card)
    about = given.pop("about")
    given["network"] = about.get("network")
    return hashlib.sha256(numbers + json.dumps(given, sort_keys=True).encode()).hexdigest()


def loaded(path: Path) -> Head:
    """The head NAME@REVISION.safetensors and the card NAME@REVISION.json beside it. Raises HeadError, OSError."""
    if path.stat().st_size > MOST_BYTES:
        raise HeadError(f"{path}: more than {MOST_BYTES} bytes")
    return read(path.read_bytes(), path.with_suffix(".json").read_bytes(), str(path))
