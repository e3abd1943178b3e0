"""Reduction: vectors on the axes along which they vary most, and which of them are near one another there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

AXES = 50  # as is usual before t-SNE (van der Maaten & Hinton 2008)
_MORE, _ROUNDS = 10, 3  # of Halko et al. 2011: axes beyond those that are wanted, and passes over the vectors
ROWS_AT_ONCE = 1024  # bounds the matrix of similarities: 1024 x 16,384 float32 is 67 MB
GROUP = 16

Single = NDArray[np.float32]


@dataclass(frozen=True)
class Reduction:
    """mean: (d,), axes: (d, a), float32."""

    mean: Single
    axes: Single

    def of(self, vectors: Single) -> Single:
        """(n, a) float32, from (n, d). Multiplied as float64: the last bits of a product depend on the processor and on
        how many threads share it, and are rounded away."""
        return np.asarray((vectors - self.mean).astype(np.float64) @ self.axes.astype(np.float64), np.float32)


def learn(vectors: Single, seed: int = 0) -> Reduction:
    """The principal axes, the first one first, by random projection (Halko, Martinsson & Tropp 2011, algorithm 4.4).

    vectors: (n, d) float32, n > 0. The same ones in the same order give the same axes."""
    mean = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    apart = vectors - mean
    count = min(AXES, vectors.shape[1])
    drawn = min(count + _MORE, vectors.shape[1])
    basis = np.random.default_rng(seed).standard_normal((vectors.shape[1], drawn), np.float32)
    for _ in range(_ROUNDS):
        basis, _ = np.linalg.qr(apart.T @ (apart @ basis))
    small = (apart @ basis).astype(np.float64)
    _, turned = np.linalg.eigh(small.T @ small)
    return Reduction(mean, (basis @ turned[:, ::-1][:, :count]).astype(np.float32))


def nearest(rows: Single, others: Single, count: int, first: int | None = None) -> NDArray[np.int64]:
    """The `count` nearest of others to each row, in no order. rows: (n, a), others: (m, a), m >= count. first: the
    rows are others[first:first + n], and none is its own neighbour.

    Returns (n, count) places in others."""
    half = (others * others).sum(axis=1) / 2
    found = np.empty((len(rows), count), np.int64)
    for at in range(0, len(rows), ROWS_AT_ONCE):
        nearness = rows[at : at + ROWS_AT_ONCE] @ others.T
        nearness -= half
        if first is not None:
            here = np.arange(len(nearness))
            nearness[here, here + at + first] = -np.inf
        found[at : at + ROWS_AT_ONCE] = _highest(nearness, count)
    return found


def _highest(values: Single, count: int) -> NDArray[np.int64]:
    """The columns of the `count` highest values of each row, in no order: they are in the `count` groups of GROUP whose
    highest are the highest, or in the rest that fills no group."""
    groups = values.shape[1] // GROUP
    if groups < 4 * count:
        return np.argpartition(values, values.shape[1] - count, axis=1)[:, values.shape[1] - count :]
    whole = values[:, : groups * GROUP].reshape(len(values), GROUP, groups)
    best = np.argpartition(whole.max(axis=1), groups - count, axis=1)[:, groups - count :]
    columns = (best[:, np.newaxis] + (np.arange(GROUP) * groups)[:, np.newaxis]).reshape(len(values), -1)
    rest = np.arange(groups * GROUP, values.shape[1])
    columns = np.concatenate([columns, np.broadcast_to(rest, (len(values), len(rest)))], axis=1)
    some = np.take_along_axis(values, columns, axis=1)
    chosen = np.argpartition(some, some.shape[1] - count, axis=1)[:, some.shape[1] - count :]
    return np.take_along_axis(columns, chosen, axis=1)
