"""What the search does with packs on the executors: images go to their cells, lists come back, lists become one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from udfs.vectors import packs
from udfs.vectors.cells import CellIndex
from udfs.vectors.cosine import Ids, Vectors, cosine_pairs
from udfs.vectors.merge import Pairs, merged
from udfs.vectors.search import SLACK, UNKNOWN, nearest_among

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


def to_cells(centres: Vectors, probes: int, repeated: Repeated, wanted: Ids | None) -> Step:
    """Maps images to IMAGES, each to its `probes` nearest cells, of which only the wanted ones if they are given.

    Those of a repeated kind that are not the first go nowhere."""

    def run(batches: Batches) -> Batches:
        index = CellIndex(centres)
        names = packs.place_names(len(centres))
        for images in blocks(batches):
            cells = index.nearest(images.vectors, probes)
            goes = np.repeat((repeated.kinds(images) < 0)[:, np.newaxis], cells.shape[1], axis=1) & (cells >= 0)
            if wanted is not None:
                goes &= np.isin(cells, wanted)
            rows, slots = np.nonzero(goes)
            if len(rows):
                yield packs.pack(names[cells[rows, slots]], {
                    "ids": images.ids[rows], "keys": images.keys[rows], "cells": cells[rows, 0],
                    "asks": images.asks[rows], "vectors": packs.halved(images.vectors)[rows],
                })  # fmt: skip

    return run


def search_cells(k: int, dimension: int, exact: int, fine_probes: int, buckets: int) -> Step:
    """Maps IMAGES, ordered by place, to LISTS in buckets: the neighbours of each image among those of its cell."""

    def run(batches: Batches) -> Batches:
        for _, parts in packs.by_place(batches):
            sizes = [len(part) // 8 for part in parts["ids"]]
            ids, keys = packs.joined(parts["ids"], np.int64), packs.joined(parts["keys"], np.int64)
            asks, cells = packs.joined(parts["asks"], np.bool_), packs.joined(parts["cells"], np.int32)
            vectors = packs.whole(parts["vectors"], sizes, dimension)
            parts.clear()
            order = np.lexsort((ids, keys))  # so that nothing depends on the order in which packs arrive
            ids, keys, cells = ids[order], keys[order], cells[order]
            asks, vectors = asks[order], vectors[order]
            found = nearest_among(vectors, asks, k, exact, fine_probes)
            rows = np.repeat(np.arange(len(ids)), found.counts)
            lists = as_lists(len(ids), k, Pairs(rows, ids[found.others], keys[found.others], found.cosines))
            yield packs.pack(bucket_of(ids, buckets), {"ids": ids, "keys": keys, "cells": cells, **lists})

    return run


def repeated_lists(centres: Vectors, repeated: Repeated, buckets: int) -> Step:
    """Maps images to LISTS: of each that is of a repeated kind and not the first, the first k of its kind."""

    def run(batches: Batches) -> Batches:
        index = CellIndex(centres)
        k = repeated.ids.shape[1] - 1
        norms = cosine_pairs(repeated.vectors, repeated.vectors)
        for images in blocks(batches):
            kinds = repeated.kinds(images)
            rows = np.flatnonzero((kinds >= 0) & images.asks)
            if len(rows):
                kind = kinds[rows]
                yield packs.pack(bucket_of(images.ids[rows], buckets), {
                    "ids": images.ids[rows], "keys": images.keys[rows],
                    "cells": index.nearest(images.vectors[rows], 1)[:, 0],
                    "others": repeated.ids[kind, :k], "other_keys": repeated.keys[kind, :k],
                    "cosines": np.repeat(norms[kind][:, np.newaxis], k, axis=1),
                })  # fmt: skip

    return run


def exact_lists(queries: Images, k: int, buckets: int) -> Step:
    """Maps images to LISTS: the k nearest of each query among all images of the task."""

    def run(batches: Batches) -> Batches:
        count = len(queries.ids)
        best = Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
        lowest = np.full(count, UNKNOWN)
        for images in blocks(batches):
            cosines = queries.vectors @ images.vectors.T
            at_least = lowest
            if lowest.min() == UNKNOWN:  # some have no k yet
                wanted = min(k + 1, len(images.ids))  # one more, for the query itself
                here = np.partition(cosines, len(images.ids) - wanted, axis=1)[:, len(images.ids) - wanted]
                at_least = np.maximum(lowest, here)
            rows, columns = np.nonzero(cosines >= (at_least - SLACK).astype(np.float32)[:, np.newaxis])
            other = images.ids[columns] != queries.ids[rows]
            rows, columns = rows[other], columns[other]
            exactly = cosine_pairs(queries.vectors[rows], images.vectors[columns])
            best = merged(
                Pairs(
                    np.concatenate([best.rows, rows]),
                    np.concatenate([best.others, images.ids[columns]]),
                    np.concatenate([best.other_keys, images.keys[columns]]),
                    np.concatenate([best.cosines, exactly]),
                ),
                k,
            )
            full = np.flatnonzero(np.bincount(best.rows, minlength=count) == k)
            lowest[full] = best.cosines[np.searchsorted(best.rows, full, side="right") - 1]
        lists = as_lists(count, k, best)
        nowhere = np.full(count, -1, np.int32)
        yield packs.pack(
            bucket_of(queries.ids, buckets), {"ids": queries.ids, "keys": queries.keys, "cells": nowhere, **lists}
        )

    return run


def merge_lists(k: int) -> Step:
    """Maps LISTS, ordered by place, to MERGED: one row for each image, its k nearest of all lists, nearest first."""

    def run(batches: Batches) -> Batches:
        for _, parts in packs.by_place(batches):
            ids, first, rows = np.unique(packs.joined(parts["ids"], np.int64), return_index=True, return_inverse=True)
            keys = packs.joined(parts["keys"], np.int64)[first]
            cells = packs.joined(parts["cells"], np.int32)[first]
            others = packs.joined(parts["others"], np.int64, k)
            row, slot = np.nonzero(others != NOBODY)
            pairs = Pairs(
                rows[row],
                others[row, slot],
                packs.joined(parts["other_keys"], np.int64, k)[row, slot],
                packs.joined(parts["cosines"], np.float64, k)[row, slot],
            )
            parts.clear()
            best = merged(pairs, k)
            ends = np.concatenate([[0], np.cumsum(np.bincount(best.rows, minlength=len(ids)))]).astype(np.int32)
            lists = [
                pa.ListArray.from_arrays(pa.array(ends), pa.array(values), type=MERGED.field(name).type)
                for name, values in (("neighbour_ids", best.others), ("cosines", best.cosines))
            ]
            table = pa.Table.from_arrays([pa.array(ids), pa.array(keys), pa.array(cells), *lists], schema=MERGED)
            yield from table.to_batches(max_chunksize=ROWS_AT_ONCE)

    return run


def as_lists(count: int, k: int, pairs: Pairs) -> dict[str, NDArray[Any]]:
    """(count, k) others, other_keys and cosines; NOBODY where there are fewer. pairs: by row, nearest first."""
    others, keys = np.full((count, k), NOBODY, np.int64), np.zeros((count, k), np.int64)
    cosines = np.zeros((count, k), np.float64)
    slots = np.arange(len(pairs.rows)) - np.searchsorted(pairs.rows, pairs.rows)
    others[pairs.rows, slots], keys[pairs.rows, slots] = pairs.others, pairs.other_keys
    cosines[pairs.rows, slots] = pairs.cosines
    return {"others": others, "other_keys": keys, "cosines": cosines}


def bucket_of(ids: Ids, buckets: int) -> NDArray[np.int32]:
    """The place of each image's list, one of packs.place_names(buckets): images that stand together are spread."""
    mixed = (ids.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(33)  # Fibonacci hashing, Knuth 6.4
    return np.asarray(packs.place_names(buckets)[mixed % np.uint64(buckets)], np.int32)
