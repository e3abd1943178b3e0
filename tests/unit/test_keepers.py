"""Catches clusters that join what does not match their keeper."""

import cv2
import numpy as np
import pytest

from tests.vectors import unit
from udfs.images.alignment import SIDE
from udfs.vectors.cosine import DECIMALS, Vectors
from udfs.vectors.keepers import SMALL, around_keepers, in_components
from udfs.vectors.near_rule import NearRule


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


@pytest.mark.parametrize(("count", "parts"), [(120, 1), (900, 1), (900, 12), (900, 300)])
@pytest.mark.parametrize("seed", range(3))
def test_keepers_invariants(seed: int, count: int, parts: int) -> None:
    """A member below the threshold, of another component, or taken by a worse one, and a keeper that a better one could
    have taken; in components of one row up to many blocks of them."""
    generator = np.random.default_rng(seed)
    vectors = unit(
        generator.normal(size=(5, 8))[generator.integers(0, 5, count)] + 0.35 * generator.normal(size=(count, 8))
    )
    backgrounds = generator.uniform(0.0, 0.8, count)
    components = generator.permutation(parts)[(parts * generator.beta(0.6, 1, count)).astype(int)]  # of many sizes
    rule = NearRule(0.75, 0.2, 0.95)
    keepers, cosines = in_components(vectors, components, backgrounds, rule)
    exact = np.round(np.clip(vectors.astype(float) @ vectors.astype(float).T, -1, 1), DECIMALS)
    background = (backgrounds[:, np.newaxis] + backgrounds) / 2
    matches = (exact >= 0.95) | ((exact >= 0.75) & (exact - background >= 0.2))
    matches &= components[:, np.newaxis] == components
    is_keeper = keepers == np.arange(count)
    assert 5 <= is_keeper.sum() < count - 20
    for row in range(count):
        before = np.flatnonzero(is_keeper[:row] & matches[row, :row])
        assert keepers[row] == (before[0] if len(before) else row)
        assert cosines[row] == (1.0 if is_keeper[row] else pytest.approx(exact[row, keepers[row]], abs=1.1e-6))
    if parts == 1:
        alone = around_keepers(vectors, backgrounds, rule)
        assert (alone[0].tolist(), alone[1].tolist()) == (keepers.tolist(), cosines.tolist())


@pytest.mark.parametrize("count", [SMALL // 4, 3 * SMALL])
def test_thumbnails_go_with_their_rows(count: int) -> None:
    """A picture that is laid over another's: only those of equal pixels may join, in small and large components."""
    generator = np.random.default_rng(1)
    pictures = generator.integers(0, 256, (2, 8, 8), np.uint8)
    thumbnails = np.stack([cv2.resize(one, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC) for one in pictures])
    picture = generator.integers(0, 2, 2 * count)
    components = np.arange(2 * count) % 2
    rule = NearRule(0.5, 0.0, 2.0, evidence=1.3)  # 1 + half the alignment, which must exceed 0.6
    keepers, _ = in_components(at_angles(*[0] * 2 * count), components, np.zeros(2 * count), rule, thumbnails[picture])
    for row in range(2 * count):
        assert keepers[row] == np.flatnonzero((picture == picture[row]) & (components == components[row]))[0]


@pytest.mark.parametrize("given", [0, 1, 3, 8])
def test_only_given_keepers_take(given: int) -> None:
    """A keeper that nobody gave, or a member that the second of two given ones took from the first."""
    generator = np.random.default_rng(2)
    vectors = unit(np.concatenate([np.eye(8)[:given], generator.normal(size=(400, 8)) ** 3]))
    keepers, cosines = around_keepers(vectors, np.zeros(len(vectors)), only(0.7), given=given)
    exact = np.round(vectors.astype(float) @ vectors[:given].T.astype(float), DECIMALS)
    for row in range(len(vectors)):
        matching = np.flatnonzero(exact[row] >= 0.7)
        assert keepers[row] == (matching[0] if len(matching) else -1)
        assert np.isnan(cosines[row]) == (not len(matching))
    assert given < 2 or 20 < (keepers == -1).sum() < 380


def test_keepers_of_nothing() -> None:
    """A crash on an empty part."""
    none = np.empty((0, 4), np.float32)
    for found in (
        around_keepers(none, np.empty(0), only(0.5)),
        in_components(none, np.empty(0, np.int64), np.empty(0), only(0.5)),
    ):
        assert [len(part) for part in found] == [0, 0]
