"""Vectors that were made elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from udfs.errors import NO_VECTOR, ImageError

_SMALLEST = 1e-12  # a vector without a larger number has no direction


def check_vector(values: Any, dimension: int) -> NDArray[np.float32]:
    """A vector that was made elsewhere, as one of ours: (dimension,) float32 of norm 1.

    values: a sequence of numbers, or None where there is none. Raises ImageError no_vector: missing, of another
    length, not finite, or zero, which has no direction."""
    if values is None:
        raise ImageError(NO_VECTOR, "missing")
    numbers = np.asarray(values, np.float64)  # a null in it becomes nan
    if numbers.shape != (dimension,):
        raise ImageError(NO_VECTOR, f"{numbers.size} numbers instead of {dimension}")
    if not np.isfinite(numbers).all():
        raise ImageError(NO_VECTOR, "not finite")
    largest = np.abs(numbers).max(initial=0.0)
    if largest < _SMALLEST:
        raise ImageError(NO_VECTOR, "zero")
    numbers = numbers / largest  # else the squares of large numbers overflow
    return np.asarray(numbers / np.sqrt(np.square(numbers).sum()), np.float32)
