"""Concepts: what a model's own classifier sees in an image, from the vector that is stored; no network is run."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from udfs.networks.models import Model, ModelError, stem
from udfs.networks.weight_files import weights_file
from udfs.vectors.cosine import Vectors

IMAGENET = "imagenet-1k"
DECIMALS = 6  # of a confidence
# WordNet's ids of the ImageNet classes whose first name another class has too, and what they are called here.
RENAMED = {
    "n02012849": "crane (bird)",
    "n03126707": "crane (machine)",
    "n02113186": "Cardigan Welsh corgi",  # a cardigan is a garment
    "n03710721": "tank suit",  # a maillot is the other one
}


@dataclass(frozen=True)
class Classifier:
    """The last layer of a network. names: of its classes, no two alike. weights: (classes, d), bias: (classes,),
    float32."""

    names: tuple[str, ...]
    weights: Vectors
    bias: NDArray[np.float32]

    def logits(self, vectors: Vectors, norms: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the layer says of each image. vectors: (n, d) float32, rows of norm 1. norms: (n,) float32, the lengths
        that the network gave them. Returns (n, classes) float32.

        They are computed in float64: the last bits of a float32 product depend on where in a batch the image lies."""
        products = vectors.astype(np.float64) @ self.weights.T.astype(np.float64)
        return (products * norms[:, np.newaxis] + self.bias).astype(np.float32)


def likeliest(logits: NDArray[np.float32], count: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The classes of which a classifier is surest. logits: (n, classes) float32. count: 1..classes.

    Returns (n, count) classes and their confidence, the softmax over all of them, 0..1, highest first; of equal ones
    the first class."""
    rest = logits.shape[1] - count
    best = np.sort(np.argpartition(logits, rest, axis=1)[:, rest:] if rest else np.indices(logits.shape)[1], axis=1)
    chosen = np.take_along_axis(logits, best, axis=1)
    order = np.argsort(-chosen, axis=1, kind="stable")
    highest = logits.max(axis=1, keepdims=True)
    total = np.exp(logits - highest).sum(axis=1, dtype=np.float64, keepdims=True)
    confidences = np.exp(np.take_along_axis(chosen, order, axis=1) - highest) / total
    return np.take_along_axis(best, order, axis=1), np.round(confidences, DECIMALS)


def prepare(model: Model, cache: Path) -> Classifier | None:
    """The classifier of a model, on the driver; None where it has none. cache: a local folder, created where missing.

    It is taken from the weights once and kept under the model's fingerprint; later calls need no weights. Raises
    ModelError (no weights, wrong weights, a broken cache), OSError where the cache cannot be written."""
    if not model.classes:
        return None
    file = cache / f"{stem(model)}-classifier.npz"
    if not file.exists():
        from udfs.networks import formats

        weights, bias = formats.classifier(model, weights_file(model, cache))
        cache.mkdir(parents=True, exist_ok=True)
        draft = cache / f".classifier-{secrets.token_hex(8)}.npz"
        try:
            np.savez(draft, names=np.array(class_names(model)), weights=weights, bias=bias)
            draft.replace(file)  # whole, whoever else does it at the same time
        finally:
            draft.unlink(missing_ok=True)
    try:
        with np.load(file, allow_pickle=False) as kept:
            return Classifier(tuple(kept["names"].tolist()), kept["weights"], kept["bias"])
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise ModelError(f"{model.key}: {file} cannot be read ({error}), remove it") from error


def class_names(model: Model) -> list[str]:
    """The names of a model's classes in their order, no two alike even in lower case: of each class of ImageNet the
    first of WordNet's words for it, or what RENAMED says.

    imagenet_classes.txt has a line for each class: WordNet's id, a space, that word. Source: timm 1.0 (Apache-2.0),
    timm.data.ImageNetInfo. Raises ModelError where the classes are not known."""
    if model.classes != IMAGENET:
        raise ModelError(f"{model.key}: unknown classes {model.classes!r}")
    lines = resources.files("udfs.networks").joinpath("imagenet_classes.txt").read_text(encoding="utf-8").splitlines()
    return [RENAMED.get(wnid) or word for wnid, _, word in (line.partition(" ") for line in lines)]
