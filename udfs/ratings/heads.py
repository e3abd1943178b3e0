"""A head: what makes a score of a stored vector, as layers of numbers, with all that is known of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from udfs.ratings.linear import PICKED, Numbers, expit
from udfs.vectors.cosine import Vectors

ACTIVATIONS = ("none", "relu", "gelu", "tanh")
ROWS_AT_ONCE = 4096
NODES = 9  # at which the distribution of log-odds is looked at
WAYS = 64  # of which it is kept how much was learnt of them


class HeadError(ValueError):
    """A head cannot be used; the message is one line that says which and why."""


@dataclass(frozen=True)
class Layer:
    """weights: (out, in), bias: (out,) float32. activation: what is done to what comes out, of ACTIVATIONS."""

    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    activation: str = "none"


@dataclass(frozen=True)
class Measured:
    """Properties of a picture that a head takes beside its vector. names: of `features`. places: (p, k) float32, for
    each k ascending values, whose ranks stand for it; weights: (2 p,) of the ranks, in -1..1, then of their squares."""

    names: tuple[str, ...]
    places: NDArray[np.float32]
    weights: NDArray[np.float32]

    def part(self, properties: Numbers) -> Numbers:
        """What they add to scores. properties: (n, p) in the order of the names, nan where unknown. Returns (n,)."""
        return np.asarray(ranked(properties, self.places) @ self.weights.astype(np.float64))


def ranked(properties: Numbers, places: NDArray[np.float32]) -> Numbers:
    """Ranks of properties among those of a lake, -1..1, and their squares less a third, the mean of these: (n, 2 p). Of
    what is unknown 0. places: (p, k)."""
    ranks = np.linspace(-1, 1, places.shape[1])
    found = np.zeros(properties.shape)
    for place, values in enumerate(places):
        found[:, place] = np.interp(properties[:, place], values, ranks)
    squares = found**2 - 1 / 3
    unknown = np.isnan(properties)
    found[unknown], squares[unknown] = 0.0, 0.0
    return np.hstack([found, squares])


@dataclass(frozen=True)
class Sureness:
    """How sure a linear head is: the variance of a score is wide * |row|^2 + flat - |(row, 1) @ ways|^2, of the row
    (vector - mean) / scale; with `adds` the last term is added. ways: (d + 1, k) float32, mean: (d,) float32."""

    wide: float
    flat: float
    mean: NDArray[np.float32]
    scale: float
    ways: NDArray[np.float32]
    least: float = 0.0  # of a variance: what the ways that are not kept would have said
    adds: bool = False

    def deviations(self, vectors: Vectors) -> Numbers:
        """(n,) standard deviations. By products that are made anyway: of rows without their means."""
        mean = self.mean.astype(np.float64)
        lengths = np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64)
        squares = (lengths - 2 * (vectors @ self.mean).astype(np.float64) + mean @ mean) / self.scale**2
        own = self.ways[:-1] / np.float32(self.scale)
        learnt = (vectors @ own).astype(np.float64) + (self.ways[-1] - self.mean @ own)
        told = np.square(learnt).sum(axis=1)
        variances = self.wide * np.maximum(squares, 0) + self.flat + (told if self.adds else -told)
        return np.asarray(np.sqrt(np.maximum(variances, self.least)))


@dataclass(frozen=True)
class Raters:
    """What each rater adds to a linear head. names: (r,), no two alike. weights: (r, d), offsets: (r,) float32."""

    names: tuple[str, ...]
    weights: NDArray[np.float32]
    offsets: NDArray[np.float32]


@dataclass(frozen=True)
class Head:
    """A scorer of one embedding model's vectors. key: name@revision. kind: of linear.KINDS, or "foreign". model: the
    embedding's name@revision. A score is what the layers say of a vector, and of picks the probability
    expit(slope * that + shift). about: all else of the card."""

    key: str
    kind: str
    model: str
    layers: tuple[Layer, ...]
    slope: float = 1.0
    shift: float = 0.0
    measured: Measured | None = None
    sureness: Sureness | None = None
    raters: Raters | None = None
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def dimension(self) -> int:
        return int(self.layers[0].weights.shape[1])

    @property
    def linear(self) -> bool:
        return len(self.layers) == 1 and self.layers[0].activation == "none" and len(self.layers[0].bias) == 1

    def raw(self, vectors: Vectors, properties: Numbers | None = None) -> Numbers:
        """(n,) what the layers say, before it becomes a probability. vectors: (n, d) float32 of norm 1. properties: of
        `measured`. Raises HeadError for another dimension."""
        if vectors.ndim != 2 or vectors.shape[1] != self.dimension:
            raise HeadError(f"{self.key} is for vectors of {self.dimension} numbers, got {vectors.shape[-1]}")
        found = np.empty(len(vectors))
        for start in range(0, len(vectors), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            found[part] = _through(self.layers, vectors[part])
        if self.measured is not None:
            if properties is None:
                raise HeadError(f"{self.key} needs the properties {', '.join(self.measured.names)}")
            found += self.measured.part(properties)
        return found

    def scores(self, vectors: Vectors, properties: Numbers | None = None) -> tuple[Numbers, Numbers]:
        """Scores and how unsure each is, a standard deviation in the units of the score, nan where that is not known.
        See raw()."""
        raw = self.raw(vectors, properties)
        unsure = np.full(len(raw), np.nan) if self.sureness is None else self.sureness.deviations(vectors)
        if self.kind != PICKED:
            return raw, unsure
        return probabilities(self.slope * raw + self.shift, self.slope * unsure)


def probabilities(odds: Numbers, deviations: Numbers) -> tuple[Numbers, Numbers]:
    """expit(odds), and its standard deviation where the log-odds have a normal distribution of these deviations, by
    Gauss-Hermite quadrature; nan where the deviation is."""
    nodes, shares = np.polynomial.hermite_e.hermegauss(NODES)
    shares = shares / shares.sum()
    each = expit(odds[:, None] + deviations[:, None] * nodes)
    means = each @ shares
    return expit(odds), np.sqrt(np.maximum(np.square(each) @ shares - means**2, 0.0))


def _through(layers: Sequence[Layer], vectors: Vectors) -> Numbers:
    """float64 for one layer, whose products would else depend on the rows beside."""
    rows: Any = vectors
    if len(layers) == 1:
        rows = rows.astype(np.float64)
    for layer in layers:
        rows = rows @ layer.weights.T.astype(rows.dtype) + layer.bias
        if layer.activation == "relu":
            rows = np.maximum(rows, 0)
        elif layer.activation == "tanh":
            rows = np.tanh(rows)
        elif layer.activation == "gelu":
            from scipy.special import erf

            rows = rows * 0.5 * (1 + erf(rows / np.sqrt(2)))
    return mean_of_bins(rows) if rows.shape[1] > 1 else np.asarray(rows[:, 0], np.float64)


def mean_of_bins(odds: Numbers) -> Numbers:
    """The mean of a distribution over bins 1..k, of its logits (Talebi and Milanfar, NIMA, 2018). odds: (n, k)."""
    raised = np.exp(odds - odds.max(axis=1, keepdims=True), dtype=np.float64)
    return np.asarray(raised @ np.arange(1, odds.shape[1] + 1) / raised.sum(axis=1))
