"""Catches clusters that join what does not match their keeper."""

import numpy as np
import pytest

from tests.vectors import unit
from udfs.cosine import DECIMALS, Vectors
from udfs.keepers import around_keepers
from udfs.near_rule import NearRule


def at_angles(*degrees: float) -> Vectors:
    radians = np.radians(np.array(degrees))
    return unit(np.stack([np.cos(radians), np.sin(radians)], axis=1))


def only(threshold: float) -> NearRule:
    """The rule that knows no background."""
    return NearRule(threshold, 0.0, threshold)


def test_a_chain_does_not_join() -> None:
    """a ~ b ~ c in one cluster though a and c do not match."""
    chain = at_angles(0, 20, 40)  # neighbours 0.94, ends 0.77
    keepers, cosines = around_keepers(chain, np.zeros(3), only(0.9))
    assert keepers.tolist() == [0, 0, 2]
    np.testing.assert_allclose(cosines, [1.0, np.cos(np.radians(20)), 1.0], atol=1e-6)


def test_the_best_image_takes_first() -> None:
    """A keeper chosen by anything but the order given: with the middle first, it takes both ends."""
    keepers, _ = around_keepers(at_angles(20, 0, 40), np.zeros(3), only(0.9))
    assert keepers.tolist() == [0, 0, 0]


@pytest.mark.parametrize("seed", range(5))
def test_keepers_invariants(seed: int) -> None:
    """A member below the threshold, a keeper that a better one could have taken, or a member that a worse one took."""
    generator = np.random.default_rng(seed)
    vectors = unit(
        generator.normal(size=(5, 8))[generator.integers(0, 5, 120)] + 0.35 * generator.normal(size=(120, 8))
    )
    backgrounds = generator.uniform(0.0, 0.8, 120)
    rule = NearRule(0.75, 0.2, 0.95)
    keepers, cosines = around_keepers(vectors, backgrounds, rule)
    exact = np.round(np.clip(vectors.astype(float) @ vectors.astype(float).T, -1, 1), DECIMALS)
    background = (backgrounds[:, np.newaxis] + backgrounds) / 2
    matches = (exact >= 0.95) | ((exact >= 0.75) & (exact - background >= 0.2))
    is_keeper = keepers == np.arange(120)
    assert 5 <= is_keeper.sum() < 100
    for row in range(120):
        before = np.flatnonzero(is_keeper[:row] & matches[row, :row])
        assert keepers[row] == (before[0] if len(before) else row)
        assert cosines[row] == (1.0 if is_keeper[row] else pytest.approx(exact[row, keepers[row]], abs=1.1e-6))


def test_keepers_of_nothing() -> None:
    """A crash on an empty part."""
    keepers, cosines = around_keepers(np.empty((0, 4), np.float32), np.empty(0), only(0.5))
    assert len(keepers) == len(cosines) == 0
