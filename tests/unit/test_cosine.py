"""Catches a cosine that depends on where its rows stand."""

import numpy as np
import pytest

from tests.vectors import unit
from udfs.vectors.cosine import Vectors, cosine_pairs


def random_vectors(seed: int, count: int, dimension: int = 16) -> Vectors:
    return unit(np.random.default_rng(seed).normal(size=(count, dimension)))


def test_cosine_pairs() -> None:
    """Wrong rows, a value outside [-1, 1] or one that differs by side or by place, shapes that broadcast."""
    left, right = random_vectors(10, 50, 1280), random_vectors(11, 50, 1280)
    left[0], right[1] = right[0], -left[1]
    cosines = cosine_pairs(left, right)
    assert cosines.dtype == np.float64
    np.testing.assert_allclose(cosines, np.einsum("nd,nd->n", left.astype(float), right.astype(float)), atol=6e-7)
    assert (cosines[0], cosines[1]) == (1.0, -1.0)
    np.testing.assert_array_equal(cosines, cosine_pairs(right, left))
    alone = [cosine_pairs(left[[row]], right[[row]])[0] for row in range(50)]
    np.testing.assert_array_equal(cosines, alone)
    stretched = (left * np.float32(1.001)).astype(np.float32)
    assert cosine_pairs(stretched, stretched).max() == 1.0
    with pytest.raises(ValueError, match="shapes differ"):
        cosine_pairs(left, right[:1])
