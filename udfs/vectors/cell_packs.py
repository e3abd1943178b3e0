"""What the steps of the neighbour search hand on, as packs: images of a cell, lists of a cell, one list of an image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from udfs.vectors import packs
from udfs.vectors.cosine import Ids, Vectors

ROWS_AT_ONCE = 8192  # images that one step looks at: 8192 x 1280 float32 are 42 MB
NOBODY = -1  # in the place of a neighbour
IMAGES = packs.schema("ids", "keys", "cells", "asks", "vectors")
LISTS = packs.schema("ids", "keys", "cells", "others", "other_keys", "cosines")
MERGED = pa.schema(
    [
        pa.field("image_id", pa.int64(), False),
        pa.field("content_key", pa.int64(), False),
        pa.field("cell", pa.int32(), False),
        pa.field("neighbour_ids", pa.list_(pa.field("element", pa.int64(), False)), False),
        pa.field("cosines", pa.list_(pa.field("element", pa.float64(), False)), False),
    ]
)

Batches = Iterator[pa.RecordBatch]
Step = Callable[[Batches], Batches]


@dataclass(frozen=True)
class Images:
    """(n,) image ids, content keys, and whether their neighbours are wanted; (n, d) float32 vectors of norm 1."""

    ids: Ids
    keys: Ids
    asks: NDArray[np.bool_]
    vectors: Vectors


@dataclass(frozen=True)
class Repeated:
    """Images that share a vector with more than k others. vectors: (r, d), one of each kind; ids, keys: (r, k + 1) of
    the first of each kind by key, which are searched as all others are. They are the nearest of the rest."""

    vectors: Vectors
    ids: Ids
    keys: Ids

    @staticmethod
    def none(dimension: int) -> Repeated:
        nobody = np.empty((0, 1), np.int64)
        return Repeated(np.empty((0, dimension), np.float32), nobody, nobody)

    def kinds(self, images: Images) -> NDArray[np.int64]:
        """(n,) the kind of each image that is of the rest, else -1."""
        kinds = np.full(len(images.ids), -1, np.int64)
        for kind, vector in enumerate(self.vectors):
            alike = np.flatnonzero(images.vectors[:, 0] == vector[0])
            alike = alike[(images.vectors[alike] == vector).all(axis=1)]
            kinds[alike[~np.isin(images.ids[alike], self.ids[kind])]] = kind
        return kinds


def repeated_in(sample: Images, k: int) -> tuple[Repeated, NDArray[np.int64]]:
    """What is repeated more than k times among a sample that holds all images up to some key, by key; and the rows of
    the sample that hold each vector the first time."""
    _, first, kind, counts = np.unique(
        sample.vectors, axis=0, return_index=True, return_inverse=True, return_counts=True
    )
    rows = [np.flatnonzero(kind == number)[: k + 1] for number in np.flatnonzero(counts > k + 1)]
    if not rows:
        return Repeated.none(sample.vectors.shape[1]), np.sort(first)
    chosen = np.stack(rows)
    return Repeated(sample.vectors[chosen[:, 0]], sample.ids[chosen], sample.keys[chosen]), np.sort(first)


def vectors_of(column: pa.ListArray | pa.ChunkedArray) -> Vectors:
    """A column of lists of equal length as (n, d) float32."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    flat = column.flatten().to_numpy(zero_copy_only=False)
    return np.ascontiguousarray(flat.reshape(len(column), -1), dtype=np.float32)


def blocks(batches: Iterable[pa.RecordBatch]) -> Iterator[Images]:
    """(image_id, content_key, asks, vector) in blocks of about ROWS_AT_ONCE."""
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        if sum(part.num_rows for part in waiting) >= ROWS_AT_ONCE:
            yield _images(waiting)
            waiting = []
    if any(part.num_rows for part in waiting):
        yield _images(waiting)


def _images(batches: list[pa.RecordBatch]) -> Images:
    table = pa.Table.from_batches(batches)
    return Images(
        table["image_id"].to_numpy(),
        table["content_key"].to_numpy(),
        table["asks"].to_numpy() == 1,
        vectors_of(table["vector"]),
    )


def bucket_of(ids: Ids, buckets: int) -> NDArray[np.int32]:
    """The place of each image's list, one of packs.place_names(buckets): images that stand together are spread."""
    mixed = (ids.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(33)  # Fibonacci hashing, Knuth 6.4
    return np.asarray(packs.place_names(buckets)[mixed % np.uint64(buckets)], np.int32)
