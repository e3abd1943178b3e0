"""Catches cells that lose neighbours, or that differ from run to run."""

import numpy as np
import pytest

from tests.vectors import families
from udfs import cells
from udfs.search import nearest


@pytest.mark.parametrize("cell_vectors", [2, 100, 16_384])
def test_cell_count(cell_vectors: int) -> None:
    """A count that is no power of two, more than one cell where one holds all, or cells larger than wanted."""
    counts = [cells.cell_count(vectors, cell_vectors) for vectors in range(0, 40 * cell_vectors, max(1, cell_vectors))]
    assert all(count & (count - 1) == 0 for count in counts)
    assert counts == sorted(counts)
    assert cells.cell_count(cell_vectors, cell_vectors) == 1
    assert cells.cell_count(cell_vectors + 1, cell_vectors) == 2
    assert cells.cell_count(8 * cell_vectors, cell_vectors) == 8
    assert cells.cell_count(8 * cell_vectors + 1, cell_vectors) == 16
    assert cells.cell_count(0, cell_vectors) == 1


def test_training_is_deterministic_and_of_norm_one() -> None:
    """Centres that differ from run to run, or that are not directions: their cosines would not compare."""
    sample = families(0, 600)
    first, again = cells.train_centres(sample, 8, 10), cells.train_centres(sample, 8, 10)
    np.testing.assert_array_equal(first, again)
    assert first.shape == (8, 32)
    assert first.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(first, axis=1), 1.0, atol=1e-5)
    assert not np.array_equal(first, cells.train_centres(sample, 8, 10, seed=1))


def test_training_improves() -> None:
    """An update that leads away: the mean cosine of a vector and its centre must not fall."""
    sample = families(1, 600)

    def fit(iterations: int) -> float:
        centres = cells.train_centres(sample, 8, iterations)
        return float((sample @ centres.T).max(axis=1).mean())

    assert fit(0) < fit(1) <= fit(10) + 1e-6


def test_training_of_equal_vectors() -> None:
    """NaN from a centre without vectors."""
    sample = np.repeat(families(2, 40)[:1], 20, axis=0)
    centres = cells.train_centres(sample, 4, 5)
    assert np.isfinite(centres).all()


def test_training_with_too_small_a_sample() -> None:
    """Fewer centres than asked for, in silence."""
    with pytest.raises(ValueError, match="at least as many"):
        cells.train_centres(families(3, 40)[:3], 4, 1)
    assert cells.train_centres(families(3, 40)[:4], 4, 1).shape == (4, 32)


@pytest.mark.parametrize("rows_at_once", [1, 7, 8192])
def test_nearest_cells_is_brute_force(monkeypatch: pytest.MonkeyPatch, rows_at_once: int) -> None:
    """A cell that is not among the nearest, a wrong order, or one that depends on how many are done at once."""
    vectors, centres = families(4, 200), families(5, 80)[:9]
    monkeypatch.setattr(cells, "ROWS_AT_ONCE", rows_at_once)
    cosines = vectors.astype(float) @ centres.astype(float).T
    found = cells.nearest_cells(vectors, centres, 3)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, np.argsort(-cosines, axis=1, kind="stable")[:, :3])


def test_nearest_cells_at_the_edges() -> None:
    """More probes than cells, one cell, equally near cells, and no vector."""
    vectors, centres = families(6, 80), families(7, 80)
    assert cells.nearest_cells(vectors, centres[:2], 5).shape == (80, 2)
    assert cells.nearest_cells(vectors, centres[:1], 3).tolist() == [[0]] * 80
    assert cells.nearest_cells(vectors[:0], centres[:4], 3).shape == (0, 3)
    equal = np.repeat(centres[:1], 4, axis=0)
    assert cells.nearest_cells(vectors[:5], equal, 3).tolist() == [[0, 1, 2]] * 5


@pytest.mark.parametrize("seed", range(3))
def test_recall(seed: int) -> None:
    """Neighbours lost: at least 95 % of the true ten share one of three cells with the query, though not of one."""
    vectors, k = families(seed, 3000), 10
    ids = np.arange(len(vectors))
    count = cells.cell_count(len(vectors), 200)
    assert count == 16
    centres = cells.train_centres(vectors[:: len(vectors) // (count * 64)], count, 10)
    queries, neighbours, _ = nearest(vectors, ids, vectors, ids, ids, k)

    def recall(probes: int) -> float:
        found = cells.nearest_cells(vectors, centres, probes)
        shared = (found[queries][:, :, np.newaxis] == found[neighbours][:, np.newaxis, :]).any(axis=(1, 2))
        return float(shared.mean())

    assert recall(1) < 0.9
    assert recall(3) >= 0.95
