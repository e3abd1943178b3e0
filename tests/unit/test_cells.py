"""Catches cells that lose neighbours, or that differ from run to run."""

import numpy as np
import pytest

from tests.vectors import families
from udfs.vectors import cells


@pytest.mark.parametrize("dimension", [256, 1280])
def test_layout(dimension: int) -> None:
    """Cells that outgrow the memory of a task, a number that is no power of two, or probes that do not grow with it."""
    layouts = [cells.layout(vectors, dimension, 8192, 256_000_000) for vectors in (10 ** np.arange(10)).tolist()]
    assert layouts[0] == layouts[3] == cells.Layout(1, 1)
    for vectors, layout in zip((10 ** np.arange(4, 10)).tolist(), layouts[4:], strict=True):
        assert layout.cells & (layout.cells - 1) == 0
        assert layout.probes == min(6, layout.cells.bit_length() - 1)
        held = vectors * layout.probes * dimension * 4 / layout.cells
        assert held <= 256e6
        assert layout.cells == 4 or held > 256e6 / 2.5
    assert cells.layout(8192, 256, 8192, 256_000_000).cells == 1
    assert cells.layout(8193, 256, 8192, 256_000_000) == cells.Layout(4, 2)
    assert cells.layout(10**6, 256, 8192, 256_000_000, probes=1) == cells.Layout(4, 1)


@pytest.mark.parametrize("count", [40, 700])
def test_index_is_nearly_brute_force(count: int) -> None:
    """Cells missed by the search through parents, a cell named twice, or a wrong order."""
    sample = families(5, 3000)
    vectors, centres = sample[:900], cells.train_centres(sample, count, 2)
    assert centres.shape == (count, 32)
    found, true = cells.CellIndex(centres).nearest(vectors, 8), cells.nearest_cells(vectors, centres, 8)
    assert found.shape == (900, 8)
    if count <= cells.FLAT:
        np.testing.assert_array_equal(found, true)
    assert np.mean([len(set(here) & set(there)) / 8 for here, there in zip(found, true, strict=True)]) > 0.95
    assert all(len(set(row)) == 8 for row in found.tolist())
    cosines = np.take_along_axis(vectors @ centres.T, found, axis=1)
    assert (np.diff(cosines, axis=1) <= 1e-6).all()


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
    assert [len(set(row)) for row in cells.nearest_cells(vectors[:5], equal, 3).tolist()] == [3] * 5


@pytest.mark.parametrize("seed", range(3))
def test_neighbours_meet(seed: int) -> None:
    """Neighbours lost: at least 95 % of the true ten share a cell of the default layout, with one probe fewer do."""
    vectors = families(seed, 3000)
    count = 16
    centres = cells.train_centres(vectors[:: len(vectors) // (count * 64)], count, 10)
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -2)
    neighbours = np.argpartition(-cosines, 10, axis=1)[:, :10]

    def meet(probes: int) -> float:
        found = cells.nearest_cells(vectors, centres, probes)
        shared = (found[:, np.newaxis, :, np.newaxis] == found[neighbours][:, :, np.newaxis, :]).any(axis=(2, 3))
        return float(shared.mean())

    assert meet(1) < 0.9
    assert meet(4) >= 0.95
