"""Catches a leverage that is not the Mahalanobis distance, and a small group of strangers that it does not see."""

import numpy as np
import pytest

from tests.vectors import unit
from udfs.vectors.outliers import COMPONENTS, IMAGES_PER_COMPONENT, class_cosines, direction, learn


def lake(seed: int, count: int, dimension: int = 64) -> np.ndarray:
    """(count, dimension) float32 rows of norm 1 around one direction."""
    generator = np.random.default_rng(seed)
    return unit(generator.normal(size=dimension) + generator.normal(size=(count, dimension)))


@pytest.mark.parametrize("count", [16, 50, 300])
def test_leverage_is_the_mean_of_mahalanobis_distances(count: int) -> None:
    """Weights or scales that went astray, and another answer for fewer images than numbers than for more."""
    numbers = [number for number in COMPONENTS if number * IMAGES_PER_COMPONENT <= count]
    rows = lake(count, count)
    found = learn(rows).commonness(rows)
    if not numbers:
        assert np.isnan(found).all()
        return
    apart = rows - rows.mean(axis=0, dtype=np.float64)
    left, _, _ = np.linalg.svd(apart, full_matrices=False)
    expected = np.mean([count * np.square(left[:, :number]).sum(axis=1) / number for number in numbers], axis=0)
    np.testing.assert_allclose(found, -np.log(expected), atol=1e-6)
    assert np.exp(-found).mean() == pytest.approx(1, abs=1e-6)


def test_a_small_group_far_from_the_rest_is_odd() -> None:
    """A group whose members are near one another, which no distance to a neighbour finds."""
    group = unit(-lake(1, 3).mean(axis=0) + 0.02 * lake(2, 3))
    rows = np.concatenate([lake(1, 300), group])
    found = learn(rows).commonness(rows)
    assert set(np.argsort(found)[:3]) == {300, 301, 302}


def test_images_that_do_not_differ() -> None:
    """A division by no variance, and an empty lake."""
    equal = np.repeat(lake(3, 1), 100, axis=0)
    assert not np.isfinite(learn(equal).commonness(equal)).any() or np.ptp(learn(equal).commonness(equal)) == 0
    assert np.isnan(learn(np.empty((0, 8), np.float32)).commonness(lake(4, 2, 8))).all()


def test_directions_and_class_cosines() -> None:
    """An image held against the direction of another class, one without a class, and rows that cancel out."""
    rows = np.eye(4, dtype=np.float32)
    ways = np.stack([direction(rows[:2]), direction(np.stack([rows[2], -rows[2]]))])
    np.testing.assert_allclose(ways[0], [0.5**0.5, 0.5**0.5, 0, 0], atol=1e-6)
    assert not ways[1].any()
    found = class_cosines(rows, np.array([0, 1, 0, -1]), ways)
    np.testing.assert_allclose(found, [0.5**0.5, 0, 0, np.nan], atol=1e-6)
