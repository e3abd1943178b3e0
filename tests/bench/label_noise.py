"""Wrong labels that are planted, and sets that are harder than ten equal classes: few images, unequal and many classes.

These are measured by the model alone, with the ten nearest of all as neighbours; the figures are those of
tests.bench.labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.bench.many_vectors import Vectors, unit
from udfs.labels import model as label_model
from udfs.labels.classifier import Examples

KINDS = ("symmetric", "similar")
FOLDS, NEIGHBOURS = 5, 10
UNEQUAL = (500, 500, 400, 300, 200, 100, 50, 30, 20, 10)
MADE_DIMENSION, MADE_NOISE = 64, 1.6


Labels = NDArray[np.int64]


def most_alike(vectors: Vectors, labels: Labels) -> Labels:
    """(C,) for each class the other that looks most like it."""
    count = int(labels.max()) + 1
    means = np.array([vectors[labels == number].mean(axis=0) for number in range(count)])
    cosines = unit(means - means.mean(axis=0))
    alike = np.asarray(cosines @ cosines.T)
    np.fill_diagonal(alike, -2)
    return np.asarray(alike.argmax(axis=1))


def spoilt(labels: Labels, kind: str, share: float, alike: Labels, seed: int) -> Labels:
    """The labels with a share of them made wrong. kind: of KINDS. alike: of most_alike."""
    generator = np.random.default_rng(seed)
    rows = generator.permutation(len(labels))[: round(share * len(labels))]
    found = labels.copy()
    others = (labels[rows] + generator.integers(1, len(alike), len(rows))) % len(alike)
    found[rows] = others if kind == "symmetric" else alike[labels[rows]]
    return found


def average_precision(scores: NDArray[np.floating[Any]], wrong: NDArray[np.bool_]) -> float:
    """Of the ranking by score, lowest first; of equal scores all count as found together."""
    order = np.argsort(scores, kind="stable")
    hits, ordered = np.cumsum(wrong[order]), scores[order]
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    new = np.diff(hits[ends], prepend=0)
    return float((new * hits[ends] / (ends + 1)).sum() / wrong.sum())


def subset(vectors: Vectors, truth: Labels, sizes: tuple[int, ...]) -> tuple[Vectors, Labels]:
    generator = np.random.default_rng(5)
    rows = [generator.permutation(np.flatnonzero(truth == number))[:size] for number, size in enumerate(sizes)]
    chosen = generator.permutation(np.concatenate(rows))
    return vectors[chosen], truth[chosen]


def made(sizes: list[int]) -> tuple[Vectors, Labels]:
    """Normal around one middle a class."""
    generator = np.random.default_rng(0)
    middles = generator.normal(size=(len(sizes), MADE_DIMENSION))
    truth = generator.permutation(np.repeat(np.arange(len(sizes)), sizes))
    return (middles[truth] + MADE_NOISE * generator.normal(size=(len(truth), MADE_DIMENSION))).astype(np.float32), truth


def of_set(vectors: Vectors, truth: Labels, kind: str | None, share: float) -> dict[str, float]:
    given = truth if kind is None else spoilt(truth, kind, share, most_alike(vectors, truth), seed=11)
    directions = unit(vectors - vectors.mean(axis=0))
    cosines = directions @ directions.T
    np.fill_diagonal(cosines, -2)
    near = np.argpartition(-cosines, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
    folds = np.random.default_rng(0).integers(0, FOLDS, len(truth)).astype(np.int32)
    images = Examples(vectors, given.astype(np.int32), folds, given[near].astype(np.int32))
    fitted = label_model.fit(images, np.bincount(given), FOLDS)
    found = {"planted": share if kind else 0.0, "estimate": fitted.lake.share, "low": fitted.lake.low,
             "high": fitted.lake.high}  # fmt: skip
    if kind is not None:
        found["label_ap"] = average_precision(fitted.judged.score, given != truth)
    return {name: round(float(value), 4) for name, value in found.items()}


def measure(vectors: Vectors, truth: Labels) -> dict[str, Any]:
    """vectors, truth: of real images of ten classes."""
    sets = {
        "10 a class": subset(vectors, truth, (10,) * 10),
        "30 a class": subset(vectors, truth, (30,) * 10),
        "unequal": subset(vectors, truth, UNEQUAL),
        "made, 500 to 1": made([5000, 1000, 1000, *[100] * 5, *[10] * 8]),
        "made, 200 classes": made([25] * 200),
    }
    noises = ((None, 0.0), ("symmetric", 0.05), ("similar", 0.05), ("symmetric", 0.2))
    return {
        name: {f"{kind} {share:.2f}" if kind else "clean": of_set(*both, kind, share) for kind, share in noises}
        for name, both in sets.items()
    }
