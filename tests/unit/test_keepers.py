"""Catches clusters that join what does not match their keeper."""

from collections import Counter

import numpy as np
import pytest

from tests.vectors import unit
from udfs.vectors.cosine import DECIMALS, Vectors
from udfs.vectors.keepers import FREE_LOOKS, NEAREST, SMALL, Seen, around_keepers, in_components


def at_angles(*degrees: float) -> Vectors:
    radians = np.radians(np.array(degrees))
    return unit(np.stack([np.cos(radians), np.sin(radians)], axis=1))


def test_a_chain_does_not_join() -> None:
    """a ~ b ~ c in one cluster though a and c do not match."""
    chain = at_angles(0, 20, 40)  # neighbours 0.94, ends 0.77
    kept = around_keepers(chain, 0.9)
    assert kept.keeper.tolist() == [0, 0, 2]
    np.testing.assert_allclose(kept.cosine, [1.0, np.cos(np.radians(20)), 1.0], atol=1e-6)


def test_the_best_image_takes_first() -> None:
    """A keeper chosen by anything but the order given: with the middle first, it takes both ends."""
    kept = around_keepers(at_angles(20, 0, 40), 0.9)
    assert kept.keeper.tolist() == [0, 0, 0]


@pytest.mark.parametrize(("count", "parts"), [(120, 1), (900, 1), (900, 12), (900, 300)])
@pytest.mark.parametrize("seed", range(3))
def test_keepers_invariants(seed: int, count: int, parts: int) -> None:
    """A member below the threshold, of another component, or taken by a worse one, and a keeper that a better one could
    have taken; in components of one row up to many blocks of them."""
    generator = np.random.default_rng(seed)
    vectors = unit(
        generator.normal(size=(5, 8))[generator.integers(0, 5, count)] + 0.35 * generator.normal(size=(count, 8))
    )
    components = generator.permutation(parts)[(parts * generator.beta(0.6, 1, count)).astype(int)]  # of many sizes
    kept = in_components(vectors, components, 0.75)
    keepers, cosines = kept.keeper, kept.cosine
    exact = np.round(np.clip(vectors.astype(float) @ vectors.astype(float).T, -1, 1), DECIMALS)
    matches = exact >= 0.75
    matches &= components[:, np.newaxis] == components
    is_keeper = keepers == np.arange(count)
    assert 5 <= is_keeper.sum() < count - 20
    for row in range(count):
        before = np.flatnonzero(is_keeper[:row] & matches[row, :row])
        assert keepers[row] == (before[0] if len(before) else row)
        assert cosines[row] == (1.0 if is_keeper[row] else pytest.approx(exact[row, keepers[row]], abs=1.1e-6))
    if parts == 1:
        alone = around_keepers(vectors, 0.75)
        assert (alone.keeper.tolist(), alone.cosine.tolist()) == (keepers.tolist(), cosines.tolist())


@pytest.mark.parametrize("count", [SMALL // 4, 3 * SMALL])
def test_only_what_looks_the_same_joins(count: int) -> None:
    """A picture that is looked at beside another's keeper, in small and large components; and of those that no keeper
    took, what they look like."""
    picture = np.random.default_rng(1).integers(0, 2, 2 * count)
    components = np.arange(2 * count) % 2

    def look(row: int, keeper: int) -> Seen:
        assert components[row] == components[keeper]
        same = bool(picture[row] == picture[keeper])
        return Seen(same, 3 if same else 4, False, 0.75 if same else 0.25)

    kept = in_components(at_angles(*[0] * 2 * count), components, 0.5, look)
    for row in range(2 * count):
        own = np.flatnonzero((picture == picture[row]) & (components == components[row]))[0]
        first = np.flatnonzero(components == components[row])[0]
        assert kept.keeper[row] == own
        assert kept.relation[row] == (0 if row == own else 3)
        assert (kept.other[row], kept.other_relation[row]) == ((-1, 0) if own == first else (first, 4))
        assert kept.agreement[row] == (1.0 if row == own else 0.75)
        assert kept.other_agreement[row] == (1.0 if own == first else 0.25)


def test_a_better_picture_takes_the_place_of_its_keeper() -> None:
    """A frame around a picture, of more pixels, that is kept in its place; and what the frame alone would have
    taken."""
    better = {1: 0}  # row 1 is what row 0 has a frame around

    def look(row: int, keeper: int) -> Seen:
        return Seen({row, keeper} != {2, 1}, 1, better.get(row) == keeper, 0.5)

    kept = around_keepers(at_angles(0, 0, 0, 0), 0.9, look)
    assert kept.keeper.tolist() == [1, 1, 2, 1]
    assert kept.cosine.tolist() == [1.0] * 4
    assert kept.relation.tolist() == [1, 0, 0, 1]


def test_looks_at_a_template_are_bounded() -> None:
    """All pairs of a component of pictures that share a template are looked at; or a copy is not looked at beside its
    original, for it was refused by others."""
    count = 400
    generator = np.random.default_rng(0)
    vectors = unit(np.eye(1, 32) + 0.1 * generator.normal(size=(count, 32)))
    vectors[-1] = unit(vectors[count // 2 : count // 2 + 1] + 0.01 * generator.normal(size=(1, 32)))[0]
    looks = []

    def look(row: int, keeper: int) -> Seen:
        looks.append(row)
        return Seen((row, keeper) == (count - 1, count // 2), 1, False, 0.5)

    kept = around_keepers(vectors, 0.0, look)
    assert kept.keeper.tolist() == [*range(count - 1), count // 2]
    assert max(Counter(looks).values()) <= FREE_LOOKS + 40, "of a few, many are among the nearest of an image"
    assert len(looks) <= count * (FREE_LOOKS + NEAREST)
    pairs = (count - 1) * (count - 2) // 2 + count // 2 + 1  # the last one is taken by the middle one
    assert kept.untried.sum() == pairs - len(looks)


@pytest.mark.parametrize("given", [0, 1, 3, 8])
def test_only_given_keepers_take(given: int) -> None:
    """A keeper that nobody gave, or a member that the second of two given ones took from the first."""
    generator = np.random.default_rng(2)
    vectors = unit(np.concatenate([np.eye(8)[:given], generator.normal(size=(400, 8)) ** 3]))
    kept = around_keepers(vectors, 0.7, given=given)
    keepers, cosines = kept.keeper, kept.cosine
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
        around_keepers(none, 0.5),
        in_components(none, np.empty(0, np.int64), 0.5),
    ):
        assert len(found.keeper) == len(found.cosine) == 0
