"""Rows of numbers that travel together: a pack is one row of Spark whose columns hold the bytes of many.

Moving a vector costs the JVM about as much as comparing it with a thousand others; by the hundred it costs next to
nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from udfs.vectors.cosine import Vectors

PLACE = "place"  # the column that says where a pack goes: its packs meet in one task
PACK_BYTES = 262_144  # of one column: a batch of packs is bounded in rows but, on Spark 3.5, not in bytes

Arrays = Mapping[str, NDArray[Any]]


def schema(*columns: str) -> pa.Schema:
    """place INT and a binary column for each array."""
    return pa.schema([pa.field(PLACE, pa.int32(), False), *[pa.field(name, pa.binary(), False) for name in columns]])


def pack(places: NDArray[Any], arrays: Arrays) -> pa.RecordBatch:
    """The rows of some arrays, those of one place together and in their order, as a batch of schema(*arrays).

    places: (n,). arrays: name -> (n,) or (n, width)."""
    order = np.argsort(places, kind="stable")
    sorted_places = places[order]
    starts = np.flatnonzero(np.append(True, sorted_places[1:] != sorted_places[:-1])[: len(order)])
    widest = max(array.itemsize * int(np.prod(array.shape[1:])) for array in arrays.values())
    most = max(1, PACK_BYTES // max(widest, 1))
    parts = [
        (at, min(at + most, end))
        for start, end in pairwise([*starts.tolist(), len(order)])
        for at in range(start, end, most)
    ]
    columns = [pa.array([int(sorted_places[start]) for start, _ in parts], pa.int32())]
    for array in arrays.values():
        rows = np.ascontiguousarray(array[order])
        columns.append(pa.array([rows[start:end].tobytes() for start, end in parts], pa.binary()))
    return pa.RecordBatch.from_arrays(columns, schema=schema(*arrays))


def place_names(count: int) -> NDArray[np.int32]:
    """(count,) an INT for each of `count` places that Spark's repartition(count, PLACE) deals one to each partition.

    Numbered 0, 1, … several would share a partition, and of few places one task would do the work of many. Spark takes
    Murmur3 (x86, 32 bits, Appleby 2011) of the number with the seed 42, modulo the number of partitions."""
    names = np.full(count, -1, np.int32)
    left, at = count, 0
    while left:
        numbers = np.arange(at, at + 16 * count, dtype=np.int32)
        partition, first = np.unique(_murmur3(numbers).astype(np.int64) % count, return_index=True)
        new = names[partition] < 0
        names[partition[new]] = numbers[first[new]]
        left, at = left - int(new.sum()), at + 16 * count
    return names


def _murmur3(numbers: NDArray[np.int32]) -> NDArray[np.int32]:
    def turned(values: NDArray[np.uint32], by: int) -> NDArray[np.uint32]:
        return (values << np.uint32(by)) | (values >> np.uint32(32 - by))

    mixed = turned(numbers.view(np.uint32) * np.uint32(0xCC9E2D51), 15) * np.uint32(0x1B873593)
    mixed = turned(np.uint32(42) ^ mixed, 13) * np.uint32(5) + np.uint32(0xE6546B64)
    mixed ^= np.uint32(4)  # bytes
    mixed = (mixed ^ (mixed >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    mixed = (mixed ^ (mixed >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return (mixed ^ (mixed >> np.uint32(16))).view(np.int32)


def by_place(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[int, dict[str, list[bytes]]]]:
    """Each place with the columns of its packs, an entry a pack. batches: ordered by place."""
    place: int | None = None
    parts: dict[str, list[bytes]] = {}
    for batch in batches:
        columns = {name: batch.column(name) for name in batch.schema.names if name != PLACE}
        for row, here in enumerate(batch.column(PLACE).to_pylist()):
            if here != place:
                if place is not None:
                    yield place, parts
                place, parts = here, {name: [] for name in columns}
            for name, column in columns.items():
                parts[name].append(column[row].as_py())
    if place is not None:
        yield place, parts


def joined(parts: list[bytes], kind: type[np.generic], width: int | None = None) -> NDArray[Any]:
    """The array that was packed: (n,), or (n, width)."""
    flat = np.frombuffer(b"".join(parts), kind)
    return flat if width is None else flat.reshape(-1, width)


def halved(vectors: Vectors) -> NDArray[Any]:
    """(n, d) as float16 where that loses nothing, which is how the embed stage rounds them, else as they are."""
    half = vectors.astype(np.float16)
    return half if np.array_equal(half.astype(np.float32), vectors) else vectors


def whole(parts: list[bytes], rows: list[int], dimension: int) -> Vectors:
    """(sum of rows, dimension) float32 of packs that `halved` gave; each may be either. rows: vectors in each pack."""
    vectors = np.empty((sum(rows), dimension), np.float32)
    at = 0
    for data, count in zip(parts, rows, strict=True):
        kind = np.float16 if len(data) == 2 * count * dimension else np.float32
        vectors[at : at + count] = np.frombuffer(data, kind).reshape(count, dimension)
        at += count
    return vectors
