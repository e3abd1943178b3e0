"""Shelf: the vectors of a lake in files that are mapped and grow, so that new ones are compared with all at hand.

Vectors are kept as float16, of which they have the precision. Those that were there when the shelf was made lie cell by
cell (Voronoi cells of the lake's own centres); later ones follow as they come, and are always looked at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from udfs.vectors.cells import CellIndex, nearest_cells
from udfs.vectors.cosine import Ids, Values, Vectors, cosines_of
from udfs.vectors.similarity import widened

FEW_CELLS = 8  # up to so many all are looked at, and the search is exact
PROBED_SHARE = 0.125  # of more, this share
BLOCK_ROWS = 2048  # compared at once: 10 MB of 1,280 numbers as float32
PAIRS_AT_ONCE = 256  # whose vectors are widened: they stay in the processor's cache
UNKNOWN = np.float32(-2.0)  # below any cosine
_GROWTH = 1.25

Rows = NDArray[np.int64]


class Shelf:
    """The vectors of images. A row is where one lies.

    ids: (n,) int64 of images. keys: (n,) int64, `content_key`, by which equally near ones are ordered. least: (n,)
    float32, the cosine of an image's last neighbour, UNKNOWN where it has fewer than k. used: (n,) whether it takes
    part in the search. folder: of its own. Nothing of it is to be trusted after a crash."""

    _KINDS: ClassVar[dict[str, Any]] = {"ids": np.int64, "keys": np.int64, "least": np.float32, "used": np.bool_}

    def __init__(self, folder: Path, dimension: int, count: int, centres: Vectors, starts: Rows) -> None:
        """count: of vectors that are there. centres: (c, d). starts: (c + 1,) where each cell begins."""
        self.dimension, self.count, self.centres, self.starts = dimension, count, centres, starts
        self._folder = folder
        self._cells = CellIndex(centres)
        self._open()

    @property
    def ids(self) -> NDArray[np.int64]:
        return self._array["ids"][: self.count]

    @property
    def keys(self) -> NDArray[np.int64]:
        return self._array["keys"][: self.count]

    @property
    def least(self) -> NDArray[np.float32]:
        return self._array["least"][: self.count]

    @property
    def used(self) -> NDArray[np.bool_]:
        return self._array["used"][: self.count]

    def append(self, ids: Ids, keys: Ids, vectors: Vectors | None) -> Rows:
        """Adds images, which take no part yet. vectors: (n, d) float32, None where put() brings them. Returns their
        rows."""
        first, self.count = self.count, self.count + len(ids)
        self._open(grow=True)
        part = slice(first, self.count)
        if vectors is not None:
            self._array["vectors"][part] = vectors
        self.ids[part], self.keys[part] = ids, keys
        self.least[part], self.used[part] = UNKNOWN, False
        return np.arange(first, self.count)

    def put(self, rows: Rows, vectors: Vectors) -> None:
        """vectors: (n, d) float32."""
        self._array["vectors"][rows] = vectors

    def vectors(self, rows: Rows) -> Vectors:
        """(n, d) float32."""
        return widened(self._array["vectors"][rows])

    def cosines(self, left: Rows, right: Rows) -> Values:
        """(n,) float64, of pairs of rows."""
        return cosines_of(self.vectors, left, right, PAIRS_AT_ONCE)

    def nearest_cell(self, vectors: Vectors) -> NDArray[np.int32]:
        """(n,) the cell that the lake puts each in."""
        return self._cells.nearest(vectors, 1)[:, 0]

    def compare(self, asked: Vectors) -> Iterator[tuple[int, Rows, NDArray[np.float32]]]:
        """Products of asked vectors, (q, d) float32, with what lies near them: (first row, (p,) which of the asked, the
        products (rows, p) float32). Of rows that take no part they are UNKNOWN."""
        room = np.empty((BLOCK_ROWS, self.dimension), np.float32)
        for start, end, which in self._stretches(asked):
            for at in range(start, end, BLOCK_ROWS):
                part = slice(at, min(at + BLOCK_ROWS, end))
                used = self.used[part]
                if used.any():
                    products = widened(self._array["vectors"][part], room[: len(used)]) @ asked[which].T
                    products[~used] = UNKNOWN
                    yield at, which, products

    def _stretches(self, asked: Vectors) -> Iterator[tuple[int, int, Rows]]:
        everybody = np.arange(len(asked))
        cells, sorted_rows = len(self.centres), int(self.starts[-1])
        if cells <= FEW_CELLS:
            yield 0, self.count, everybody
            return
        probed = nearest_cells(asked, self.centres, max(FEW_CELLS, round(PROBED_SHARE * cells)))
        for cell in range(cells):
            which = np.flatnonzero((probed == cell).any(axis=1))
            if len(which):
                yield int(self.starts[cell]), int(self.starts[cell + 1]), which
        yield sorted_rows, self.count, everybody

    def flush(self) -> None:
        for array in self._array.values():
            array.flush()

    def _open(self, grow: bool = False) -> None:
        shapes: dict[str, tuple[Any, tuple[int, ...]]] = {"vectors": (np.float16, (self.dimension,))}
        shapes |= {name: (kind, ()) for name, kind in self._KINDS.items()}
        if grow and len(self._array["ids"]) >= self.count:
            return
        self._array: dict[str, np.memmap[Any, Any]] = {}
        for name, (kind, inner) in shapes.items():
            file = self._folder / f"{name}.bin"
            each = np.dtype(kind).itemsize * int(np.prod(inner, dtype=np.int64))
            rows = file.stat().st_size // each if file.exists() else 0
            if rows < max(self.count, 1):
                rows = max(1024, int(self.count * _GROWTH))
                with file.open("ab") as opened:
                    opened.truncate(rows * each)
            self._array[name] = np.memmap(file, kind, "r+", shape=(rows, *inner))
