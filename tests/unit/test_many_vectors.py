"""The recipe of the many vectors that the neighbours benchmark is made of, and what it makes of the lists it gets."""

import numpy as np
import pytest

from tests.bench import faiss_ivf, many_vectors, neighbours
from tests.bench.many_vectors import Source, Vectors

DIMENSION = 32


@pytest.fixture(scope="module")
def source() -> Source:
    """Of 400 vectors in twenty heaps off the origin, as real embeddings lie."""
    rng = np.random.default_rng(3)
    heaps = 1 + rng.normal(size=(20, 64))
    return many_vectors.fit(heaps.repeat(20, axis=0) + 0.7 * rng.normal(size=(400, 64)), DIMENSION)


@pytest.fixture(scope="module")
def made(source: Source) -> Vectors:
    return many_vectors.make(source, 12_000, seed=1)


def test_the_projection_keeps_cosines() -> None:
    """Would catch a centred projection, or one onto the weakest directions: both make other neighbours of them."""
    rng = np.random.default_rng(0)
    rows = (2 + rng.normal(size=(200, DIMENSION))) @ rng.normal(size=(DIMENSION, 64))
    given = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    kept = many_vectors.fit(rows, DIMENSION).real
    assert np.allclose(kept @ kept.T, given @ given.T, atol=1e-5)


def test_vectors_are_the_same_for_the_same_seed(source: Source, made: Vectors) -> None:
    """Would catch figures that cannot be repeated, a seed without effect, and vectors that are not of norm 1."""
    assert made.shape == (12_000, DIMENSION)
    assert made.dtype == np.float32
    assert np.array_equal(made, many_vectors.make(source, 12_000, seed=1))
    assert not np.array_equal(made, many_vectors.make(source, 12_000, seed=2))
    assert np.allclose(np.linalg.norm(made, axis=1), 1, atol=1e-5)


def test_a_vector_has_as_many_neighbours_in_a_small_set(source: Source, made: Vectors) -> None:
    """Would catch a small set that is a thinned large one: its neighbours are farther, and growth means nothing."""
    small = many_vectors.structure(many_vectors.make(source, 3000))
    large = many_vectors.structure(made)
    middle = [structure["cosine_10th"][2] for structure in (small, large)]  # type: ignore[index]
    thinned = many_vectors.structure(made[:3000])["cosine_10th"][2]  # type: ignore[index]
    assert abs(middle[0] - middle[1]) < abs(middle[1] - thinned) / 2


def test_near_copies_lie_where_they_should(made: Vectors) -> None:
    """Would catch copies that are no duplicates, or that are the original itself."""
    copies = many_vectors.near_copies(made, np.random.default_rng(0))
    cosines = (copies * made).sum(axis=1)
    low, high = many_vectors.COPY_COSINES
    assert low - 1e-5 <= cosines.min() < low + 0.01
    assert high - 0.01 < cosines.max() <= high + 1e-5


def test_skew_replaces_what_it_says(made: Vectors) -> None:
    """Would catch a crowd that is not one: then the skewed lake would be as easy as the other."""
    crowded, kind = many_vectors.skewed(made)
    assert np.bincount(kind).tolist() == [7200, 2400, 2400]
    assert len(np.unique(crowded[kind == 1], axis=0)) == 1
    alike = crowded[kind == 2][:500]
    cosines = (alike @ alike.T)[np.triu_indices(500, 1)]
    assert cosines.min() > 0.97
    assert 0.99 < np.median(cosines) < 0.999
    assert np.array_equal(crowded[kind == 0], made[kind == 0])


def test_intrinsic_dimension_is_estimated() -> None:
    """Would catch a wrong sign or root in the estimate: points of a five-dimensional ball have about five."""
    rng = np.random.default_rng(0)
    flat = np.zeros((20_000, 12), np.float32)
    flat[:, :5] = 0.1 * rng.uniform(-1, 1, (20_000, 5))
    flat[:, 11] = 1
    found = many_vectors.structure(many_vectors.unit(flat))["intrinsic_dimension"]
    assert isinstance(found, float)
    assert 4 < found < 6.5


def test_recall_and_pairs_are_counted(made: Vectors) -> None:
    """Would catch hits counted in the wrong rows, and a pair that only the other's list holds counted as missing."""
    vectors = made[:2000]
    true = neighbours.truth(vectors, count=200)
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -2)
    order = np.argsort(-cosines, axis=1)[:, :10]
    images, others = np.arange(2000).repeat(10), order.ravel()
    values = np.take_along_axis(cosines, order, axis=1).ravel().astype(np.float64)
    assert neighbours.hits(true, images, others, values).mean() == 1
    kept = np.tile(np.arange(10) < 7, 2000)
    assert np.allclose(neighbours.hits(true, images[kept], others[kept], values[kept]), 0.7)
    assert np.allclose(neighbours.hits(true, images[kept], others[kept], values[kept], tie=1e-6), 0.7)
    pair = np.array([[true.queries[0], true.nearest[0, 0]]])
    one = neighbours.Truth(true.queries, true.nearest, true.cosines, {0.5: np.concatenate([pair, pair])})
    assert neighbours.pair_shares(one, pair[:, 1], pair[:, 0], 2000) == {"0.5": 1.0}
    assert neighbours.pair_shares(one, pair[:, 1], pair[:, 0] * 0 + 1999, 2000) == {"0.5": 0.0}


def test_recall_of_faiss_leaves_the_query_out() -> None:
    """Would catch a query counted as its own neighbour, which flatters, and one that is not found, which does not."""
    found = np.array([[7, 1, 2], [3, 4, 5]])
    assert faiss_ivf.recall(found, np.array([7, 9]), np.array([[1, 2], [3, 5]])) == 0.75
