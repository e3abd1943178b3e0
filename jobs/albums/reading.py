"""Reading: the pictures of one owner out of the table `albums`, in a few requests; no engine is needed."""

from __future__ import annotations

import bisect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from jobs.engines import delta_log
from jobs.errors import InputError, LakeError
from udfs.albums import packs
from udfs.albums.packs import FACTS, MARK_GONE, Pictures
from udfs.albums.parts import Parts, spans
from udfs.errors import ImageError
from udfs.stores import uris
from udfs.stores.s3_objects import Limits
from udfs.vectors.similarity import MAX_ROWS

TABLE = "albums"
TOLD = ["owner", "run", "model", "facts"]  # columns by which it is known what to read
HELD = ["uris", "pairs", "vectors"]  # which lie behind them
FILES_AT_ONCE = 16  # of S3
AT_ONCE = 64 << 10  # bytes of row groups that are asked for whole, before it is known whether the owner is in them


_Read = tuple[int, int, list[tuple[int, str, Pictures]]]  # requests, bytes; run, model and pictures of packs


@dataclass(frozen=True)
class Album:
    """One owner's pictures. model: of the vectors."""

    owner: str
    model: str
    pictures: Pictures


class Albums:
    """The files of the albums of a lake, as one version of the table has them. lake: a canonical URI."""

    def __init__(self, lake: str) -> None:
        """Raises LakeError where the lake has no albums."""
        self._path = uris.join(lake, TABLE)
        if delta_log.version(self._path) is None:
            raise LakeError(f"{lake} has no albums yet: run `imagesieve run` with owners: see --owner")
        table = delta_log.delta_table(self._path)
        self.version: int = table.version()
        added = table.get_add_actions(flatten=True)
        columns = {name: added.column(name) for name in added.schema.names}
        self._files = columns["path"].to_pylist()
        self._sizes = columns["size_bytes"].to_pylist()
        low, high = (_keys(columns.get(f"{end}.owner_key"), len(self._files), unknown)
                     for end, unknown in (("min", 0), ("max", 1 << packs.KEY_BITS)))  # fmt: skip
        self._low, self._high = low, high
        self.requests = self.fetched = 0  # of the last album: how many, and bytes

    def is_current(self) -> bool:
        """Whether the table still is of this version."""
        return self.version == delta_log.version(self._path)

    def album(self, owner: str) -> Album:
        """The newest of each picture of an owner. Reads of each file that may hold some the footer, and the row groups
        that do. Raises InputError for an owner without a picture, or with more than can be grouped; LakeError where
        files are gone or damaged."""
        key = packs.key_of(owner)
        parts: list[tuple[int, Pictures]] = []
        self.requests = self.fetched = 0
        model, last = "", -1
        places = np.flatnonzero((self._low <= key) & (key <= self._high)).tolist()
        for requests, fetched, found in self._read_all(places, partial(self._read, key=key, owner=owner)):
            self.requests, self.fetched = self.requests + requests, self.fetched + fetched
            for run, made_by, pictures in found:
                parts.append((run, pictures))
                if run > last:
                    model, last = made_by, run
        album = packs.newest(parts)
        if not len(album):
            raise InputError(f"no picture of the owner {owner!r} has a vector")
        if len(album) > MAX_ROWS:
            raise _too_many(owner, len(album))
        return Album(owner, model, album)

    def _read_all(self, places: list[int], read: Callable[[int], _Read]) -> list[_Read]:
        """Of several files of S3 some at once: most of the time is spent waiting."""
        if len(places) < 2 or not uris.is_s3(self._path):
            return [read(place) for place in places]
        with ThreadPoolExecutor(min(len(places), FILES_AT_ONCE)) as pool:
            return list(pool.map(read, places))

    def _read(self, place: int, key: int, owner: str) -> _Read:
        uri = uris.join(self._path, *self._files[place].split("/"))
        try:
            parts = Parts(uri, self._sizes[place], Limits())
            found = _rows(parts, key, owner)
        except (ImageError, OSError, pa.ArrowException, ValueError) as error:
            raise LakeError(f"{uri}: cannot be read ({error}): run `imagesieve albums`") from error
        return parts.requests, parts.fetched, found


def _rows(parts: Parts, key: int, owner: str) -> list[tuple[int, str, Pictures]]:
    """The packs of an owner in a file: run, model, pictures."""
    metadata = parts.metadata()
    groups = _groups(metadata, key)
    if not groups:
        return []
    start, middle, end = spans(metadata, groups, metadata.schema.names.index(HELD[0]))
    parts.fetch(start, end if end - start <= AT_ONCE else middle)
    file = pq.ParquetFile(parts, metadata=metadata)
    told = file.read_row_groups(groups, columns=TOLD, use_threads=False)
    # Not to_numpy(), which imports pandas: half a second, once.
    mine = [row for row, name in enumerate(told["owner"].to_pylist()) if name == owner]
    if not mine:
        return []
    facts = [told["facts"][row].as_py() for row in mine]
    if sum(map(len, facts)) > 4 * MAX_ROWS * FACTS.itemsize:  # no need to read them
        there = sum(int(np.count_nonzero(np.frombuffer(each, FACTS)["mark"] != MARK_GONE)) for each in facts)
        raise _too_many(owner, there)
    parts.fetch(middle, end)
    held = file.read_row_groups(groups, columns=HELD, use_threads=False)
    return [
        (
            told["run"][row].as_py(),
            told["model"][row].as_py(),
            packs.unpacked(fact, *(_bytes(held[name], row) for name in HELD)),
        )
        for row, fact in zip(mine, facts, strict=True)
    ]


def _groups(metadata: pq.FileMetaData, key: int) -> list[int]:
    """The row groups that may hold a key: they are sorted by it."""

    def least(group: int) -> int:
        return int(metadata.row_group(group).column(0).statistics.min)

    numbers = range(metadata.num_row_groups)
    first = bisect.bisect_left(numbers, key, key=least)
    if first and int(metadata.row_group(first - 1).column(0).statistics.max) >= key:
        first -= 1
    groups = []
    for group in numbers[first:]:
        if least(group) > key:
            break
        groups.append(group)
    return groups


def _bytes(column: pa.ChunkedArray, row: int) -> Any:
    """A binary value as a buffer, None for null, without the copy that a scalar is."""
    for chunk in column.chunks:
        if row < len(chunk):
            break
        row -= len(chunk)
    one = chunk.slice(row, 1)
    _, offsets, held = one.buffers()
    if one.null_count or held is None:
        return None if one.null_count else b""
    kind = np.int64 if pa.types.is_large_binary(one.type) else np.int32
    start, end = np.frombuffer(offsets, kind)[one.offset : one.offset + 2].tolist()
    return held.slice(start, end - start)


def _keys(column: Any, count: int, unknown: int) -> NDArray[np.int64]:
    if column is None:
        return np.full(count, unknown, np.int64)
    return np.array([unknown if value is None else value for value in column.to_pylist()], np.int64)


def _too_many(owner: str, count: int) -> InputError:
    return InputError(f"the owner {owner!r} has {count:,} pictures, at most {MAX_ROWS:,} can be grouped")
