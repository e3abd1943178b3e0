"""Columns: what a gallery keeps of each image, as arrays that are mapped from files and never read whole.

A folder of a gallery holds one file for each column, in the order of rows: NAME.npy with numbers, or with the places of
texts in a list of them; URIs as bytes and where each ends; and meta.json with the lists."""

from __future__ import annotations

import json
import mmap
from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

META = "meta.json"
# Of scores: so that 16 bits keep them, which sort ten times as fast as floats. The highest number stands for null.
STEPS = 65534
NULL = 65535
BINS = 20  # of a histogram
FEW = 50  # ids up to which each is looked up by itself

Rows = NDArray[np.int32]
Mask = NDArray[np.bool_]
Say = Callable[[float], None]  # gets the share that is done, 0..1


@dataclass(frozen=True)
class Coded:
    """A column of texts. codes: (n,) unsigned, the place of each row's value in names; names[0] is () for none. A value
    is a tuple of names: of one, or of several that hold at once."""

    codes: NDArray[Any]
    names: list[tuple[str, ...]]
    totals: list[int] | None = None  # how many rows have each value, where that is known

    def having(self, wanted: Iterable[str]) -> Mask:
        """(n,): whether a row has one of the wanted names, "" standing for none."""
        chosen = set(wanted)
        table = np.array(
            [bool(chosen.intersection(names)) if names else "" in chosen for names in self.names], np.bool_
        )
        holds: Mask = table[self.codes]
        return holds

    def counts(self, rows: Rows | None) -> dict[str, int]:
        """How many of the rows, or of all, have each name; "" for none. Names that none has are left out."""
        codes = self.codes if rows is None else self.codes[rows]
        known = self.totals if rows is None else None
        found: dict[str, int] = {}
        for place, count in enumerate(known or np.bincount(codes, minlength=len(self.names)).tolist()):
            if count:
                for name in self.names[place] or ("",):
                    found[name] = found.get(name, 0) + count
        return found

    def of(self, row: int) -> tuple[str, ...]:
        return self.names[int(self.codes[row])]

    def told(self, row: int) -> str | None:
        """The names of a row for people, or None."""
        return ", ".join(self.of(row)) or None


class Columns:
    """A gallery's folder that is open. Raises OSError, ValueError or KeyError where it is not whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        meta = json.loads((folder / META).read_text(encoding="utf-8"))
        self.images: int = meta["images"]
        self.readable: int = meta["readable"]
        self.mapped: int = meta["mapped"]  # images that have a place on the map
        self._names: dict[str, list[list[str]]] = meta["names"]
        self._totals: dict[str, list[int]] = meta["totals"]
        self.bins: dict[str, list[int]] = meta["bins"]  # of each score, of BINS equal bins of 0..1
        self._open: dict[str, NDArray[Any]] = {}
        self._coded: dict[str, Coded] = {}
        self.id = self.numbers("id")

    def numbers(self, name: str) -> NDArray[Any]:
        """(images,): a column of numbers."""
        if name not in self._open:
            # An array of no rows cannot be mapped.
            mode: Any = "r" if self.images else None
            self._open[name] = np.load(self.folder / f"{name}.npy", mmap_mode=mode, allow_pickle=False)
        return self._open[name]

    def coded(self, name: str) -> Coded:
        if name not in self._coded:
            self._coded[name] = Coded(
                self.numbers(name), [tuple(names) for names in self._names[name]], self._totals[name]
            )
        return self._coded[name]

    def add(self, name: str, column: Coded) -> None:
        """A column that is not kept in the folder. column: of all rows."""
        self._coded[name] = column

    def score(self, name: str, row: int) -> float | None:
        """0..1, of a row."""
        value = int(self.numbers(name)[row])
        return None if value == NULL else round(value / STEPS, 5)

    def uri(self, row: int) -> str:
        return self.uri_bytes(row).decode("utf-8", "surrogateescape")

    def uri_bytes(self, row: int) -> bytes:
        ends = self.numbers("uri_ends")
        first = int(ends[row - 1]) if row else 0
        return self._bytes("uri")[first : int(ends[row])].tobytes()

    def reference(self, row: int) -> tuple[str, str | None, int | None, int | None]:
        """The fields of udfs.stores.fetch.Reference."""
        shard = "".join(self.coded("shard").of(row)) or None
        offset, size = (int(self.numbers(name)[row]) for name in ("shard_offset", "size_bytes"))
        return self.uri(row), shard, offset if offset >= 0 else None, size if size >= 0 else None

    def containing(self, text: str) -> Mask:
        """(images,): whether the URI holds a text, in any case of letters."""
        if not self.images:
            return np.zeros(0, np.bool_)
        offsets = pa.py_buffer(np.concatenate([[0], self.numbers("lower_ends")]).astype(np.int64))
        held = pa.LargeBinaryArray.from_buffers(
            pa.large_binary(), self.images, [None, offsets, pa.py_buffer(self._bytes("lower"))]
        )
        found = pc.match_substring(held, text.lower().encode("utf-8", "surrogateescape"))
        self._let_go("lower")
        return np.asarray(found.to_numpy(zero_copy_only=False), np.bool_)

    def _let_go(self, name: str) -> None:
        """Gives the pages of a whole column of bytes back; the system still has them, unless it needs the room."""
        mapped = getattr(self._bytes(name), "_mmap", None)
        if mapped is not None:
            mapped.madvise(mmap.MADV_DONTNEED)

    def rows_of(self, ids: Iterable[int]) -> dict[int, int]:
        """The row of each id that is there."""
        wanted = [i for i in ids if -(1 << 63) <= i < 1 << 63]
        rows = self.rows_of_ids(np.array(wanted, np.int64)).tolist()
        return {i: row for i, row in zip(wanted, rows, strict=True) if row >= 0}

    def rows_of_ids(self, ids: NDArray[np.int64]) -> Rows:
        """The row of each id, (n,), -1 where it is not there."""
        if not len(ids) or not self.images:
            return np.full(len(ids), -1, np.int32)
        order = self.by_id
        if order is not None and len(ids) <= FEW:  # numpy would first make the order wider
            places = np.array([bisect_left(order, i, key=self.id.__getitem__) for i in ids])
        else:
            places = np.searchsorted(self.id, ids, sorter=order)
        found = np.minimum(places, self.images - 1)
        rows = found if order is None else order[found]
        return np.where(self.id[rows] == ids, rows, -1).astype(np.int32)

    @cached_property
    def by_id(self) -> Rows | None:
        """The rows in the order of their ids, None where they lie so."""
        if bool((self.id[1:] > self.id[:-1]).all()):
            return None
        return np.argsort(self.id, kind="stable").astype(np.int32)

    @cached_property
    def _of_clusters(self) -> tuple[NDArray[np.int64], Rows]:
        """The clusters of all rows that are in one, ascending, and these rows."""
        clusters = self.numbers("cluster")
        rows = np.flatnonzero(clusters >= 0).astype(np.int32)
        order = np.argsort(clusters[rows], kind="stable")
        return clusters[rows][order], rows[order]

    def members(self, cluster: int) -> Rows:
        """The rows of a cluster, the keeper first."""
        clusters, rows = self._of_clusters
        first, end = np.searchsorted(clusters, [cluster, cluster + 1])
        found = rows[first:end]
        return found[np.argsort(~self.numbers("is_keeper")[found], kind="stable")]

    def _bytes(self, name: str) -> NDArray[np.uint8]:
        if name not in self._open:
            file = self.folder / f"{name}.bin"
            empty = file.stat().st_size == 0
            self._open[name] = np.zeros(0, np.uint8) if empty else np.memmap(file, np.uint8, "r")
        return self._open[name]
