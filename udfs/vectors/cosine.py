"""The cosine of pairs of vectors, the same wherever it is computed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Ids = NDArray[np.int64]
Values = NDArray[np.float64]
BLOCK_ROWS = 1024  # of 1,280 numbers: 10 MB in float64
DECIMALS = 6  # of every cosine that is written: float32 sums differ in the seventh with the block they are taken in


def cosine_pairs(left: Vectors, right: Vectors) -> NDArray[np.float64]:
    """Row-wise cosine. left, right: (n, d) float32, rows of norm 1.

    Returns (n,) float64 in [-1, 1], rounded to DECIMALS: the same for the same two rows wherever they stand.
    Raises ValueError where the shapes differ."""
    if left.shape != right.shape:
        raise ValueError(f"shapes differ: {left.shape} and {right.shape}")
    cosines = np.empty(len(left), np.float64)
    for at in range(0, len(left), BLOCK_ROWS):
        block = slice(at, at + BLOCK_ROWS)
        products = left[block].astype(np.float64) * right[block].astype(np.float64)
        cosines[block] = np.clip(np.round(products.sum(axis=1), DECIMALS), -1.0, 1.0)
    return cosines


def cosines_of(vectors: Callable[[Ids], Vectors], left: Ids, right: Ids, at_once: int) -> Values:
    """cosine_pairs of rows. vectors: gives those of rows, (n,) int64. left, right: (m,) int64 rows. at_once: pairs that
    are compared at a time. Returns (m,) float64."""
    cosines = np.empty(len(left), np.float64)
    for at in range(0, len(left), at_once):
        part = slice(at, at + at_once)
        cosines[part] = cosine_pairs(vectors(left[part]), vectors(right[part]))
    return cosines
