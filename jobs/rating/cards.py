"""Other people's scorers: YAML cards under name@revision, checked; heads are kept in the lake as ours are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic.dataclasses import dataclass

from jobs.errors import ConfigError, InputError
from udfs.networks import preparation
from udfs.networks.models import FITS, Model, ModelError
from udfs.ratings import files
from udfs.ratings.heads import ACTIVATIONS, Head, HeadError
from udfs.ratings.networks import OUTPUTS
from udfs.stores import objects, uris
from udfs.stores.cache import user_cache
from udfs.stores.s3 import StoreError
from udfs.typed import CLOSED, String, Text, Texts, checked, made, names_of, one_of, rule

FORMATS = ("head", "onnx", "torchscript")
MOST_CARD_BYTES = 1 << 20
_SHA256 = rule(
    lambda value: len(value) == 64 and set(value.lower()) <= set("0123456789abcdef"),
    "must be 64 hexadecimal digits, in quotes",
)


def _place(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return uris.canonical(value, base=os.getcwd())  # noqa: PTH109 (a text)


def _colour(value: Any) -> tuple[float, ...]:
    numbers = value if isinstance(value, list) and len(value) == 3 else [value] * 3
    if not all(
        isinstance(number, int | float) and not isinstance(number, bool) and 0 <= number <= 255 for number in numbers
    ):
        raise ValueError
    return tuple(float(number) for number in numbers)


def _whole(low: int, high: int) -> Any:
    def make(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError
        return value

    return made(make, f"must be a whole number, {low}..{high}")


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class _Card:
    format: Annotated[String, one_of(*FORMATS)]
    weights: Annotated[str, made(_place, "must be a path or an s3:// URI")]
    sha256: Annotated[String, _SHA256]
    licence: Text
    source: Text


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class _Head(_Card):
    model: Annotated[String, rule(lambda value: "@" in value, "must be name@revision of an embedding model")]
    layers: Annotated[Texts, rule(len, "must name the layers of the file, such as [layers.0, layers.2]")]
    activation: Annotated[String, one_of(*ACTIVATIONS)] = "none"


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class _Network(_Card):
    input_side: Annotated[int, _whole(16, 1024)]
    mean: Annotated[tuple[float, ...], made(_colour, "must be one number or three, 0..255")]
    std: Annotated[tuple[float, ...], made(_colour, "must be one number or three, 0..255")]
    fit: Annotated[String, one_of(*FITS)] = "stretch"
    output: Annotated[String, one_of(*OUTPUTS)] = "score"
    bins: Annotated[int, _whole(1, 1000)] = 1


def read(file: Path, lake: str) -> list[Head]:
    """The scorers of a YAML file, made heads to be kept. lake: of which the messages speak. Raises ConfigError with all
    faults of all cards, InputError for weights that cannot be used."""
    try:
        if file.stat().st_size > MOST_CARD_BYTES:
            raise ConfigError(f"{file}: more than {MOST_CARD_BYTES} bytes")
        given = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{file}: is not YAML ({' '.join(str(error).split())[:200]})") from error
    if not isinstance(given, Mapping) or not given:
        raise ConfigError(f"{file}: must be cards under name@revision")
    faults: list[str] = []
    cards: dict[str, Any] = {}
    for key, values in given.items():
        if not isinstance(key, str) or not files.KEY.fullmatch(key):
            faults.append(f"{file}: {key!r} must be name@revision, of letters, digits, '.', '_' and '-'")
            continue
        if not isinstance(values, Mapping):
            faults.append(f"{file}: {key} must be keys and values, got {values!r}")
            continue
        kind = _Head if values.get("format") == "head" else _Network if values.get("format") in FORMATS else _Card
        card, found = checked(kind, values)
        faults += [f"{file}: {key}.{fault.told()}" for fault in found if not (kind is _Card and fault.unknown)]
        cards[key] = card
    if faults:
        raise ConfigError("; ".join(faults))
    return [_made(key, card) for key, card in cards.items()]


def _made(key: str, card: Any) -> Head:
    about = {"licence": card.licence, "source": card.source, "weights": card.weights, "units": "as its maker has them"}
    if isinstance(card, _Network):
        network = {name: getattr(card, name) for name in names_of(_Network) if name not in ("licence", "source")}
        return files.network_head(key, {**network, "sha256": card.sha256.lower()}, about)
    try:
        numbers = objects.read_small(card.weights, files.MOST_BYTES)
        tensors = files.tensors_of(numbers, card.sha256.lower(), card.weights)
        last = len(card.layers) - 1
        layers = tuple(
            files.layer_of(tensors, stem, "none" if place == last else card.activation)
            for place, stem in enumerate(card.layers)
        )
        head = Head(key, files.FOREIGN, card.model, layers, about=about)
        files.check(head, card.weights)
    except FileNotFoundError as error:
        raise InputError(f"{card.weights}: does not exist") from error
    except (HeadError, StoreError) as error:
        told = str(error)
        raise InputError(told if card.weights in told else f"{card.weights}: {told}") from error
    return head


def check_networks(heads: list[Head]) -> None:
    """Fetches the weights of those that are networks, and runs each once. Raises ModelError."""
    for head in heads:
        if head.kind == files.NETWORK:
            preparation.prepare(network_of(head)[0], user_cache(), "openvino-fp32")


def network_of(head: Head) -> tuple[Model, str]:
    """The network of a head that is one, as a model, and what its output is. Raises ModelError."""
    given = head.about.get("network")
    if not isinstance(given, dict):
        raise ModelError(f"{head.key}: is no network")
    name, _, revision = head.key.partition("@")
    try:
        model = Model(
            name=name, revision=revision, format=str(given["format"]), input_side=int(given["input_side"]),
            dimension=int(given["bins"]), licence=str(head.about["licence"]), source=str(head.about["source"]),
            weights=str(given["weights"]), sha256=str(given["sha256"]), mean=tuple(given["mean"]),
            std=tuple(given["std"]),
            fit=str(given["fit"]),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{head.key}: its card lacks {error}") from error
    return model, str(given["output"])
