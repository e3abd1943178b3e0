"""Catches a nearest image that a shelf does not find, and one that it finds though it takes no part any more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jobs.live import shelf as shelves
from jobs.live.nearest import candidates, with_cosines
from jobs.live.shelf import Shelf
from udfs.vectors.cells import nearest_cells, train_centres
from udfs.vectors.cosine import Vectors, cosine_pairs

K = 10


def vectors(count: int, seed: int = 0, kinds: int = 40) -> Vectors:
    """Unit vectors around some directions, of the precision of float16."""
    rng = np.random.default_rng(seed)
    middles = rng.standard_normal((kinds, 48))
    rows = middles[rng.integers(0, kinds, count)] + 0.5 * rng.standard_normal((count, 48))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows.astype(np.float16), np.float32)


def filled(folder: Path, held: Vectors, cells: int = 1) -> Shelf:
    """A shelf of vectors whose ids are their rows times three, all taking part."""
    centres = train_centres(held, cells, 5)
    cell = nearest_cells(held, centres, 1)[:, 0] if cells > 1 else np.zeros(len(held), np.int32)
    order = np.argsort(cell, kind="stable")
    starts = np.searchsorted(cell[order], np.arange(cells + 1)).astype(np.int64)
    made = Shelf(folder, held.shape[1], 0, centres, starts)
    made.append(order * 3, order.astype(np.int64), held[order])
    made.used[:] = True
    return made


def lists(made: Shelf, asking: np.ndarray, fresh: bool) -> dict[int, list[int]]:
    """The k nearest of each id that asks, by what was found."""
    pairs = with_cosines(made, candidates(made, asking, np.full(len(asking), fresh), K))
    found: dict[int, list[tuple[float, int, int]]] = {}
    for one, other, key, cosine in zip(
        *map(np.ndarray.tolist, (pairs.rows, pairs.others, pairs.other_keys, pairs.cosines)), strict=True
    ):
        found.setdefault(one, []).append((-cosine, key, other))
    return {one: [other for _, _, other in sorted(own)[:K]] for one, own in found.items()}


def truth(made: Shelf, row: int) -> list[int]:
    held = made.vectors(np.arange(made.count))
    cosines = cosine_pairs(np.repeat(held[row : row + 1], made.count, axis=0), held)
    order = np.lexsort((made.ids, made.keys, -cosines))
    return [int(made.ids[one]) for one in order if one != row and made.used[one]][:K]


@pytest.mark.parametrize("cells", [1, 4, 8])
def test_with_few_cells_the_nearest_are_the_nearest(tmp_path: Path, cells: int) -> None:
    """A block, a cell or a row at the border of one that is left out."""
    made = filled(tmp_path, vectors(3000), cells)
    made.used[::7] = False
    asking = np.flatnonzero(made.used)[::100]
    found = lists(made, asking, fresh=False)
    assert found == {int(made.ids[row]): truth(made, row) for row in asking.tolist()}


def test_with_many_cells_nearly_all_are_found(tmp_path: Path) -> None:
    """Cells that are looked at in another order than they lie."""
    made = filled(tmp_path, vectors(6000, kinds=400), 64)
    asking = np.arange(0, 6000, 60)
    found = lists(made, asking, fresh=False)
    hits = [len(set(found[int(made.ids[row])]) & set(truth(made, row))) / K for row in asking.tolist()]
    assert np.mean(hits) > 0.9


def test_what_comes_later_is_found_and_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shelf that forgets what it was given since it was made, or does not tell who gets a nearer neighbour."""
    monkeypatch.setattr(shelves, "BLOCK_ROWS", 500)
    made = filled(tmp_path, vectors(2000), 4)
    for row in range(made.count):
        made.least[row] = np.float32(0.9)
    near = vectors(1, seed=5)
    rows = made.append(np.array([9999]), np.array([7]), near)
    made.used[rows] = True
    made.flush()
    again = Shelf(tmp_path, made.dimension, made.count, made.centres, made.starts)
    found = candidates(again, rows, np.array([True]), K)
    pairs = with_cosines(again, found)
    assert lists(again, rows, fresh=False)[9999] == truth(again, int(rows[0]))
    cosines = again.vectors(np.arange(2000)) @ near[0]
    assert set(pairs.rows[pairs.rows != 9999].tolist()) == set(again.ids[np.flatnonzero(cosines >= 0.9)].tolist())
