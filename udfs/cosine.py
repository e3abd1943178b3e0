"""The cosine of pairs of vectors, the same wherever it is computed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Ids = NDArray[np.int64]
Values = NDArray[np.float64]
DECIMALS = 6  # of every cosine that is written: float32 sums differ in the seventh with the block they are taken in


def cosine_pairs(left: Vectors, right: Vectors) -> NDArray[np.float64]:
    """Row-wise cosine. left, right: (n, d) float32, rows of norm 1.

    Returns (n,) float64 in [-1, 1], rounded to DECIMALS: the same for the same two rows wherever they stand.
    Raises ValueError where the shapes differ."""
    if left.shape != right.shape:
        raise ValueError(f"shapes differ: {left.shape} and {right.shape}")
    products = left.astype(np.float64) * right.astype(np.float64)
    cosines: NDArray[np.float64] = np.clip(np.round(products.sum(axis=1), DECIMALS), -1.0, 1.0)
    return cosines
