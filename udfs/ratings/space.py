"""Where the vectors of a lake lie, what of them neighbours share, and what is usual of measured properties."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from udfs.ratings.linear import Numbers
from udfs.vectors.cosine import Vectors

PLACES = 33  # of a property's ranks that are kept
SHARED = 256  # directions of what neighbours share that are kept
LEAST_SHARED = 256  # vectors of the lake from which it is told what neighbours share
HELD_BACK = 0.1  # of the mean variance of a direction: ridge of the regression of neighbours on pictures


@dataclass(frozen=True)
class Space:
    """Where vectors lie: rows are (vector - mean) / scale, so that their mean square over the lake is 1. sample: (n, d)
    float32 vectors of the lake. places: (p, PLACES) values of properties, see heads.Measured; names: of these.

    shared: (d, k) float64 or None: rows @ shared are what of a picture can be told of its neighbours too, again of mean
    square 1. What pictures of one kind do not share is small there, and so hardly learnt from: a prior of weights that
    the whole lake has told, without a judgement (Ando and Zhang, Journal of Machine Learning Research, 2005, learn one
    from predictions alike)."""

    mean: NDArray[np.float32]
    scale: float
    sample: Vectors
    names: tuple[str, ...] = ()
    places: NDArray[np.float32] | None = None
    shared: Numbers | None = None

    @staticmethod
    def of(
        sample: Vectors, names: Sequence[str] = (), properties: Numbers | None = None, near: Vectors | None = None
    ) -> Space:
        """sample: (n, d) float32 of norm 1. properties: (n, p), nan where unknown. near: (n, d), the mean of each
        vector and its neighbours."""
        mean = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
        scale = max(float(np.sqrt(np.square(sample - mean).sum(axis=1, dtype=np.float64).mean())), 1e-6)
        shared = None
        if near is not None and len(sample) >= LEAST_SHARED:
            shared = _shared(*(np.asarray((rows.astype(np.float64) - mean) / scale) for rows in (sample, near)))
        if properties is None or not len(names):
            return Space(mean, scale, sample, shared=shared)
        told = ~np.isnan(properties).all(axis=0)
        kept = np.flatnonzero(told)
        quantiles = np.nanquantile(properties[:, kept], np.linspace(0, 1, PLACES), axis=0).T
        # Ascending, also where many are equal: np.interp takes no steps backwards.
        places = np.maximum.accumulate(quantiles, axis=1).astype(np.float32)
        return Space(mean, scale, sample, tuple(names[at] for at in kept.tolist()), places, shared)

    def rows(self, vectors: Vectors) -> Numbers:
        return np.asarray((vectors.astype(np.float64) - self.mean) / self.scale)


def _shared(rows: Numbers, near: Numbers) -> Numbers | None:
    """The ridge regression of means with neighbours on pictures, in the directions in which it varies most over the
    rows. rows, near: (n, d)."""
    dimension = rows.shape[1]
    within = rows.T @ rows
    ridge = HELD_BACK * np.trace(within) / dimension
    turn = np.linalg.solve(within + ridge * np.eye(dimension), rows.T @ near)
    told = rows @ turn
    values, ways = np.linalg.eigh(told.T @ told / len(told))
    if values[-1] <= 0:
        return None
    kept = ways[:, ::-1][:, :SHARED]
    size = float(np.sqrt(np.maximum(values[::-1][:SHARED], 0.0).sum()))
    return np.asarray(turn @ kept / size)
