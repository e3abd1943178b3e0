"""Catches a wrong, missing or unstable neighbour, and clusters that join what does not match their keeper."""

import numpy as np
import numpy.typing as npt
import pytest

from tests.vectors import unit
from udfs import similarity
from udfs.similarity import Ids, NearRule, Vectors

Cosines = npt.NDArray[np.float64]


def random_vectors(seed: int, count: int, dimension: int = 16) -> Vectors:
    return unit(np.random.default_rng(seed).normal(size=(count, dimension)))


def brute_force(queries: Vectors, query_ids: Ids, base: Vectors, base_ids: Ids, base_keys: Ids, k: int) -> list[Ids]:
    """For each query the ids of its k nearest: by cosine in float64 rounded to six decimals, then by key."""
    found = []
    cosines = np.round(queries.astype(np.float64) @ base.astype(np.float64).T, similarity.DECIMALS)
    for row, query_id in enumerate(query_ids):
        order = np.lexsort((base_keys, -cosines[row]))
        found.append(base_ids[order][base_ids[order] != query_id][:k])
    return found


def as_lists(found: tuple[Ids, Ids, Cosines], query_ids: Ids) -> list[Ids]:
    return [found[1][found[0] == query_id] for query_id in query_ids]


def as_set(found: tuple[Ids, Ids, Cosines]) -> set[tuple[int, int, float]]:
    return set(zip(*(column.tolist() for column in found), strict=True))


@pytest.mark.parametrize("k", [1, 5, 10])
@pytest.mark.parametrize("seed", range(3))
def test_nearest_is_brute_force(seed: int, k: int) -> None:
    """A neighbour lost to the float32 product, a wrong order, or a query that finds itself."""
    base = random_vectors(seed, 300)
    ids = np.random.default_rng(seed).permutation(1000)[:300]
    keys = np.random.default_rng(seed + 1).permutation(300)
    found = similarity.nearest(base[:70], ids[:70], base, ids, keys, k)
    expected = brute_force(base[:70], ids[:70], base, ids, keys, k)
    np.testing.assert_array_equal(as_lists(found, ids[:70]), expected)
    at = {image_id: row for row, image_id in enumerate(ids.tolist())}
    exact = [float(base[at[q]].astype(float) @ base[at[n]].astype(float)) for q, n in zip(*found[:2], strict=True)]
    np.testing.assert_allclose(found[2], exact, atol=6e-7)


def test_the_query_is_left_out_by_id_and_not_by_place() -> None:
    """A query dropped by its row number, or a true copy of it dropped with it."""
    base = random_vectors(0, 5)
    base[3] = base[0]
    ids = np.array([50, 51, 52, 53, 54])
    query, neighbour, cosine = similarity.nearest(base[[0]], ids[[0]], base[::-1].copy(), ids[::-1].copy(), ids, 4)
    assert 50 not in neighbour
    assert (neighbour[0], cosine[0]) == (53, 1.0)
    assert query.tolist() == [50] * 4


@pytest.mark.parametrize("copies", [3, 40])
def test_ties_are_ordered_by_key(copies: int) -> None:
    """Equally near ones in the order of the rows: more of them than k, the choice would depend on the partitions."""
    base = random_vectors(1, 60)
    base[:copies] = base[0]
    ids, keys = np.arange(60), np.random.default_rng(2).permutation(60)
    found = as_lists(similarity.nearest(base, ids, base, ids, keys, 5), ids)
    np.testing.assert_array_equal(found, brute_force(base, ids, base, ids, keys, 5))
    order = np.random.default_rng(3).permutation(60)
    again = as_lists(similarity.nearest(base, ids, base[order], ids[order], keys[order], 5), ids)
    np.testing.assert_array_equal(found, again)


def test_fewer_than_k() -> None:
    """A crash or padding where there are not k others."""
    base, ids = random_vectors(4, 3), np.arange(3)
    query, neighbour, cosine = similarity.nearest(base, ids, base, ids, ids, 10)
    assert query.tolist() == [0, 0, 1, 1, 2, 2]
    assert sorted(zip(query.tolist(), neighbour.tolist(), strict=True)) == [
        (0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)
    ]  # fmt: skip
    assert len(cosine) == 6


@pytest.mark.parametrize(("queries", "base"), [(0, 3), (3, 0), (0, 0), (1, 1)])
def test_nothing_to_find(queries: int, base: int) -> None:
    """A crash on an empty side, or on a base that is only the query itself."""
    vectors, ids = random_vectors(5, 3), np.arange(3)
    found = similarity.nearest(vectors[:queries], ids[:queries], vectors[:base], ids[:base], ids[:base], 2)
    assert [len(column) for column in found] == [0, 0, 0]
    assert [column.dtype.kind for column in found] == ["i", "i", "f"]


@pytest.mark.parametrize(("rows", "pairs"), [(1, 3), (7, 64), (10_000, 10_000)])
def test_independent_of_block_size_and_row_order(monkeypatch: pytest.MonkeyPatch, rows: int, pairs: int) -> None:
    """A result that depends on how many queries or candidates are multiplied at once, or on the order of rows."""
    base, ids = random_vectors(6, 90, dimension=40), np.arange(90)
    keys = np.random.default_rng(7).permutation(90)
    expected = as_set(similarity.nearest(base, ids, base, ids, keys, 6))
    assert len(expected) == 90 * 6
    monkeypatch.setattr(similarity, "BLOCK_ROWS", rows)
    monkeypatch.setattr(similarity, "PAIRS_AT_ONCE", pairs)
    order, other = np.random.default_rng(8).permutation(90), np.random.default_rng(9).permutation(90)
    found = similarity.nearest(base[order], ids[order], base[other], ids[other], keys[other], 6)
    assert as_set(found) == expected


def test_cosine_pairs() -> None:
    """Wrong rows, a value outside [-1, 1] or one that differs by side or by place, shapes that broadcast."""
    left, right = random_vectors(10, 50, 1280), random_vectors(11, 50, 1280)
    left[0], right[1] = right[0], -left[1]
    cosines = similarity.cosine_pairs(left, right)
    assert cosines.dtype == np.float64
    np.testing.assert_allclose(cosines, np.einsum("nd,nd->n", left.astype(float), right.astype(float)), atol=6e-7)
    assert (cosines[0], cosines[1]) == (1.0, -1.0)
    np.testing.assert_array_equal(cosines, similarity.cosine_pairs(right, left))
    alone = [similarity.cosine_pairs(left[[row]], right[[row]])[0] for row in range(50)]
    np.testing.assert_array_equal(cosines, alone)
    stretched = (left * np.float32(1.001)).astype(np.float32)
    assert similarity.cosine_pairs(stretched, stretched).max() == 1.0
    with pytest.raises(ValueError, match="shapes differ"):
        similarity.cosine_pairs(left, right[:1])


def at_angles(*degrees: float) -> Vectors:
    radians = np.radians(np.array(degrees))
    return unit(np.stack([np.cos(radians), np.sin(radians)], axis=1))


def only(threshold: float) -> NearRule:
    """The rule that knows no background."""
    return NearRule(threshold, 0.0, threshold)


def test_a_chain_does_not_join() -> None:
    """a ~ b ~ c in one cluster though a and c do not match."""
    chain = at_angles(0, 20, 40)  # neighbours 0.94, ends 0.77
    keepers, cosines = similarity.around_keepers(chain, np.zeros(3), only(0.9))
    assert keepers.tolist() == [0, 0, 2]
    np.testing.assert_allclose(cosines, [1.0, np.cos(np.radians(20)), 1.0], atol=1e-6)


def test_the_best_image_takes_first() -> None:
    """A keeper chosen by anything but the order given: with the middle first, it takes both ends."""
    keepers, _ = similarity.around_keepers(at_angles(20, 0, 40), np.zeros(3), only(0.9))
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
    keepers, cosines = similarity.around_keepers(vectors, backgrounds, rule)
    exact = np.round(np.clip(vectors.astype(float) @ vectors.astype(float).T, -1, 1), similarity.DECIMALS)
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
    keepers, cosines = similarity.around_keepers(np.empty((0, 4), np.float32), np.empty(0), only(0.5))
    assert len(keepers) == len(cosines) == 0


@pytest.mark.parametrize(
    ("cosine", "left", "right", "near"),
    [
        (0.70, 0.40, 0.60, True),  # above threshold and exactly margin above the mean background
        (0.70, 0.41, 0.60, False),
        (0.64, 0.00, 0.00, False),  # below the threshold, whatever the background
        (0.90, 0.90, 0.90, True),  # certain
        (0.89, 0.90, 0.90, False),
    ],
)
def test_near_rule(cosine: float, left: float, right: float, near: bool) -> None:
    """A pair called near on its cosine alone in a lake of one subject, or a certain one missed there."""
    rule = NearRule(threshold=0.65, margin=0.1999, certain=0.9)
    assert rule.matches(np.array([cosine]), np.array([left]), np.array([right])).tolist() == [near]


def test_looser() -> None:
    """Slack that tightens the rule."""
    rule = NearRule(0.65, 0.2, 0.9)
    cosines, none = np.linspace(0, 1, 201), np.full(201, 0.45)
    strict, loose = rule.matches(cosines, none, none), rule.looser(0.05).matches(cosines, none, none)
    assert strict.sum() < loose.sum()
    assert not (strict & ~loose).any()
