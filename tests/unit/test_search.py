"""Catches a wrong, missing or unstable neighbour."""

import numpy as np
import numpy.typing as npt
import pytest

from tests.vectors import unit
from udfs import cosine, search
from udfs.cosine import Ids, Vectors

Cosines = npt.NDArray[np.float64]


def random_vectors(seed: int, count: int, dimension: int = 16) -> Vectors:
    return unit(np.random.default_rng(seed).normal(size=(count, dimension)))


def brute_force(queries: Vectors, query_ids: Ids, base: Vectors, base_ids: Ids, base_keys: Ids, k: int) -> list[Ids]:
    """For each query the ids of its k nearest: by cosine in float64 rounded to six decimals, then by key."""
    found = []
    cosines = np.round(queries.astype(np.float64) @ base.astype(np.float64).T, cosine.DECIMALS)
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
    found = search.nearest(base[:70], ids[:70], base, ids, keys, k)
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
    query, neighbour, cosine = search.nearest(base[[0]], ids[[0]], base[::-1].copy(), ids[::-1].copy(), ids, 4)
    assert 50 not in neighbour
    assert (neighbour[0], cosine[0]) == (53, 1.0)
    assert query.tolist() == [50] * 4


@pytest.mark.parametrize("copies", [3, 40])
def test_ties_are_ordered_by_key(copies: int) -> None:
    """Equally near ones in the order of the rows: more of them than k, the choice would depend on the partitions."""
    base = random_vectors(1, 60)
    base[:copies] = base[0]
    ids, keys = np.arange(60), np.random.default_rng(2).permutation(60)
    found = as_lists(search.nearest(base, ids, base, ids, keys, 5), ids)
    np.testing.assert_array_equal(found, brute_force(base, ids, base, ids, keys, 5))
    order = np.random.default_rng(3).permutation(60)
    again = as_lists(search.nearest(base, ids, base[order], ids[order], keys[order], 5), ids)
    np.testing.assert_array_equal(found, again)


def test_fewer_than_k() -> None:
    """A crash or padding where there are not k others."""
    base, ids = random_vectors(4, 3), np.arange(3)
    query, neighbour, cosine = search.nearest(base, ids, base, ids, ids, 10)
    assert query.tolist() == [0, 0, 1, 1, 2, 2]
    assert sorted(zip(query.tolist(), neighbour.tolist(), strict=True)) == [
        (0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)
    ]  # fmt: skip
    assert len(cosine) == 6


@pytest.mark.parametrize(("queries", "base"), [(0, 3), (3, 0), (0, 0), (1, 1)])
def test_nothing_to_find(queries: int, base: int) -> None:
    """A crash on an empty side, or on a base that is only the query itself."""
    vectors, ids = random_vectors(5, 3), np.arange(3)
    found = search.nearest(vectors[:queries], ids[:queries], vectors[:base], ids[:base], ids[:base], 2)
    assert [len(column) for column in found] == [0, 0, 0]
    assert [column.dtype.kind for column in found] == ["i", "i", "f"]


@pytest.mark.parametrize(("rows", "pairs"), [(1, 3), (7, 64), (10_000, 10_000)])
def test_independent_of_block_size_and_row_order(monkeypatch: pytest.MonkeyPatch, rows: int, pairs: int) -> None:
    """A result that depends on how many queries or candidates are multiplied at once, or on the order of rows."""
    base, ids = random_vectors(6, 90, dimension=40), np.arange(90)
    keys = np.random.default_rng(7).permutation(90)
    expected = as_set(search.nearest(base, ids, base, ids, keys, 6))
    assert len(expected) == 90 * 6
    monkeypatch.setattr(search, "BLOCK_ROWS", rows)
    monkeypatch.setattr(search, "PAIRS_AT_ONCE", pairs)
    order, other = np.random.default_rng(8).permutation(90), np.random.default_rng(9).permutation(90)
    found = search.nearest(base[order], ids[order], base[other], ids[other], keys[other], 6)
    assert as_set(found) == expected
