"""Vectors of norm 1 for the tests."""

import numpy as np
import numpy.typing as npt

from udfs.vectors.cosine import Vectors


def unit(rows: npt.ArrayLike) -> Vectors:
    """rows (n, d) with norm 1, as float32."""
    exact = np.array(rows, np.float64)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    return exact.astype(np.float32)


def families(seed: int, count: int, dimension: int = 32, size: int = 40) -> Vectors:
    """count vectors in overlapping families of about size, which lie around twelve subjects."""
    generator = np.random.default_rng(seed)
    subjects = generator.normal(size=(12, dimension))
    number = max(1, count // size)
    middles = subjects[generator.integers(0, 12, number)] + generator.normal(size=(number, dimension))
    return unit(middles[generator.integers(0, number, count)] + 1.5 * generator.normal(size=(count, dimension)))
