"""The nearest vectors of each of a set: by all matrix products where they are few, else inside fine cells."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from udfs.vectors import packs
from udfs.vectors.cell_packs import Batches, Images, Repeated, Step, blocks, bucket_of
from udfs.vectors.cells import CellIndex, train_centres
from udfs.vectors.cosine import DECIMALS, Vectors, cosine_pairs, cosines_of
from udfs.vectors.merge import Pairs, as_lists, merged

SLACK = 1e-5  # below the k-th float32 similarity, all are candidates: neither rounding nor ties can cost a neighbour
BLOCK_ROWS = 1024  # queries multiplied at once: 1024 x 8192 float32 similarities are 32 MB
CELL_ROWS = 480  # vectors in a fine cell on average, those of all probes counted
NEAR = 4  # a pair is compared in a cell that is among the NEAR nearest of one of them and among the probes of the other
CROWD = 8 * CELL_ROWS  # members from which a fine cell is divided once more
DIVIDED_PROBES = 4
SAMPLE_PER_CENTRE = 8
ITERATIONS = 3
WIDER = 4  # candidates kept beyond k: for those that float32 cannot tell apart
SURVIVORS = 1_000_000  # candidates that wait to be merged into the lists: 16 MB
UNKNOWN = -2.0  # below any cosine

Rows = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Found:
    """The neighbours of the rows of a set, one after another.

    counts: (n,) neighbours of each row. others: (sum,) int64 rows, each row's nearest first. cosines: (sum,) float64,
    rounded to DECIMALS."""

    counts: Rows
    others: Rows
    cosines: NDArray[np.float64]


def nearest_among(vectors: Vectors, queries: Flags, k: int, exact: int, probes: int, seed: int = 0) -> Found:
    """The k nearest of each vector among the others, of equally near ones those that stand first.

    vectors: (n, d) float32, rows of norm 1. queries: (n,) a pair counts only where at least one of the two is a query,
    so the neighbours of one that is none are queries. exact: up to so many different vectors all pairs are compared;
    of more, those that meet in one of their `probes` nearest fine cells. Those are trained here, on every so-many-th
    vector, so that as many meet in each whatever n is, and the cost of a vector does not grow.

    Of equal vectors only the first k + 1 are searched: they are the neighbours of the rest."""
    first, equal = _equal(vectors, k)
    taking_part = np.flatnonzero(first < 0)
    everybody = len(taking_part) == len(vectors)
    chosen, asking = (vectors, queries) if everybody else (vectors[taking_part], queries[taking_part])
    if len(taking_part) <= exact:
        lists = _all_pairs(chosen, asking, k)
    else:
        lists = _inside_cells(chosen, asking, k, min(probes, len(taking_part)), seed)
    found = _exactly(chosen, lists, k)
    if everybody:
        return found
    return _with_equal(found, taking_part, first, equal, vectors, queries, k)


def _equal(vectors: Vectors, k: int) -> tuple[Rows, dict[int, Rows]]:
    """first: (n,) for a vector that more than k before it are equal to, the row of the first of them, else -1;
    and for each such first row the first k + 1 rows of its kind."""
    first = np.full(len(vectors), -1, np.int64)
    groups: dict[int, Rows] = {}
    words = np.ascontiguousarray(vectors).view(np.uint32)
    factors = np.random.default_rng(0).integers(0, 2**63, vectors.shape[1], dtype=np.uint64) | np.uint64(1)
    hashes = np.zeros(len(vectors), np.uint64)
    for at in range(0, len(vectors), BLOCK_ROWS):
        hashes[at : at + BLOCK_ROWS] = (words[at : at + BLOCK_ROWS] * factors).sum(axis=1)
    order = np.argsort(hashes, kind="stable")
    starts = np.flatnonzero(np.concatenate([[True], np.diff(hashes[order]) != 0])) if len(order) else np.empty(0, int)
    for start, end in zip(starts, np.append(starts[1:], len(order)), strict=True):
        if end - start <= k + 1:
            continue
        rows = order[start:end]
        same = rows[(vectors[rows] == vectors[rows[0]]).all(axis=1)]  # two vectors of one hash may differ
        if len(same) > k + 1:
            first[same[k + 1 :]] = same[0]
            groups[int(same[0])] = same[: k + 1]
    return first, groups


def _with_equal(
    found: Found, taking_part: Rows, first: Rows, equal: dict[int, Rows], vectors: Vectors, queries: Flags, k: int
) -> Found:
    """Found of those that took part, as rows of the whole set, with the lists of the others."""
    counts = np.zeros(len(vectors), np.int64)
    counts[taking_part] = found.counts
    lists = {}
    for row in np.flatnonzero(first >= 0).tolist():
        group = equal[int(first[row])]
        key = (int(first[row]), bool(queries[row]))
        if key not in lists:
            near = group[:k] if queries[row] else group[queries[group]][:k]
            cosine = np.round(float(vectors[row].astype(np.float64) @ vectors[row].astype(np.float64)), DECIMALS)
            lists[key] = near, np.full(len(near), min(cosine, 1.0))
        counts[row] = len(lists[key][0])
    ends = np.cumsum(counts)
    others, cosines = np.empty(int(ends[-1]), np.int64), np.empty(int(ends[-1]), np.float64)
    own = np.repeat(first < 0, counts)
    others[own], cosines[own] = taking_part[found.others], found.cosines
    for row in np.flatnonzero(first >= 0).tolist():
        near, values = lists[int(first[row]), bool(queries[row])]
        others[ends[row] - len(near) : ends[row]] = near
        cosines[ends[row] - len(near) : ends[row]] = values
    return Found(counts, others, cosines)


def _all_pairs(vectors: Vectors, queries: Flags, k: int) -> tuple[Rows, Rows]:
    """All candidates as pairs of rows (left ascending): those within SLACK of the k-th."""
    lefts, rights = [], []
    for asked, base in ((True, np.ones(len(vectors), bool)), (False, queries)):
        rows, columns = np.flatnonzero(queries == asked), np.flatnonzero(base)
        wanted = min(k + 1, len(columns))  # one more, for the query itself
        for at in range(0, len(rows) if wanted else 0, BLOCK_ROWS):
            block = rows[at : at + BLOCK_ROWS]
            cosines = vectors[block] @ vectors[columns].T
            lowest = np.partition(cosines, len(columns) - wanted, axis=1)[:, len(columns) - wanted]
            left, right = np.nonzero(cosines >= (lowest - np.float32(SLACK))[:, np.newaxis])
            other = block[left] != columns[right]
            lefts.append(block[left[other]])
            rights.append(columns[right[other]])
    if not lefts:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    left, right = np.concatenate(lefts), np.concatenate(rights)
    order = np.argsort(left, kind="stable")
    return left[order], right[order]


def _inside_cells(vectors: Vectors, queries: Flags, k: int, probes: int, seed: int) -> tuple[Rows, Rows]:
    """Candidates as pairs of rows (left ascending): the best k + WIDER of those that share a fine cell."""
    count = max(2, probes * len(vectors) // CELL_ROWS)
    step = max(1, len(vectors) // (SAMPLE_PER_CENTRE * count))
    centres = train_centres(vectors[::step], count, ITERATIONS, seed)
    cells = CellIndex(centres).nearest(vectors, min(probes, count))
    # Rows of one cell side by side: what is compared is then read from one place, not from all over the memory.
    moved = np.argsort(cells[:, 0], kind="stable")
    vectors, queries = vectors[moved], queries[moved]
    lists = _Lists(vectors, queries, k)
    places = [
        part
        for place in _places(cells[moved], count)
        for part in ([place] if len(place.members) <= CROWD else _divided(vectors, place))
    ]
    for place in places:
        lists.begin(place.homes, place.members)
    for place in places:
        lists.improve(place.near, place.members)
    lists.merge()
    back = np.argsort(moved)
    others = lists.others[back]
    left, slot = np.nonzero(others >= 0)
    return left, moved[others[left, slot]]


@dataclass(frozen=True)
class _Place:
    """Where rows meet: members, ascending; near, those that are compared with all members; homes, those of them whose
    lists begin here."""

    members: Rows
    near: Rows
    homes: Rows


def _places(cells: NDArray[np.int32], count: int) -> Iterator[_Place]:
    """The members of each cell. cells: (n, probes), nearest first, -1 for none; 0 to count - 1."""
    flat, probes = cells.ravel(), cells.shape[1]
    order = np.argsort(flat, kind="stable")
    starts = np.searchsorted(flat[order], np.arange(count + 1))
    members, ranks = order // probes, order % probes
    for start, end in pairwise(starts.tolist()):
        here, rank = members[start:end], ranks[start:end]
        yield _Place(here, here[rank < NEAR], here[rank == 0])


def _divided(vectors: Vectors, place: _Place) -> list[_Place]:
    """A crowded place once more in cells, by the directions in which its members lie from their mean: where all are
    nearly the same, the centre nearest to the mean is the nearest one of all."""
    away = vectors[place.members] - vectors[place.members].mean(axis=0)
    away /= np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-12)
    count = DIVIDED_PROBES * len(away) // CELL_ROWS
    centres = away[np.linspace(0, len(away) - 1, count).astype(np.int64)]
    begins = np.isin(place.members, place.homes, assume_unique=True)
    return [
        _Place(place.members[part.members], place.members[part.homes], place.members[part.homes[begins[part.homes]]])
        for part in _places(CellIndex(centres).nearest(away, DIVIDED_PROBES), count)
    ]


class _Lists:
    """The best candidates of each row while a search goes on."""

    def __init__(self, vectors: Vectors, queries: Flags, k: int) -> None:
        self._vectors, self._queries, self._k = vectors, queries, k
        self._all_ask = bool(queries.all())
        shape = (len(vectors), k + WIDER)
        self.others = np.full(shape, -1, np.int32)
        self._cosines = np.full(shape, UNKNOWN, np.float32)
        self._lowest = np.full(len(vectors), UNKNOWN, np.float32)  # the k-th cosine, less SLACK
        self._waiting: list[tuple[Rows, Rows, NDArray[np.float32]]] = []
        self._waits = 0

    def begin(self, rows: Rows, members: Rows) -> None:
        """The first lists of rows: of the members, of which they are some. Each row begins once."""
        for asked, base in self._sides(rows, members):
            cosines = self._compared(asked, base)
            width = min(self.others.shape[1], len(base))
            best = np.argpartition(cosines, len(base) - width, axis=1)[:, len(base) - width :]
            values = np.take_along_axis(cosines, best, axis=1)
            self._cosines[asked, :width] = values
            self.others[asked, :width] = np.where(values > UNKNOWN, base[best], -1)
            if width >= self._k:
                self._lowest[asked] = np.partition(values, width - self._k, axis=1)[:, width - self._k] - SLACK

    def improve(self, rows: Rows, members: Rows) -> None:
        """Puts members into the lists of rows, and rows into those of members, where they are near enough."""
        for asked, base in self._sides(rows, members):
            cosines = self._compared(asked, base)
            here, there = self._lowest[asked], self._lowest[base]
            left, right = np.divmod(np.flatnonzero(cosines >= np.minimum(here[:, np.newaxis], there)), len(base))
            values = cosines[left, right]
            for mine, own, yours, other in ((here, left, asked, base), (there, right, base, asked)):
                better = values >= mine[own]
                against = right if own is left else left
                self._waiting.append((yours[own[better]], other[against[better]], values[better]))
                self._waits += int(np.count_nonzero(better))
        if self._waits > SURVIVORS:
            self.merge()

    def merge(self) -> None:
        """Brings the lists up to date with what waits."""
        if not self._waits:
            return
        rows, others, cosines = (np.concatenate(part) for part in zip(*self._waiting, strict=True))
        self._waiting, self._waits = [], 0
        is_touched = np.zeros(len(self._vectors), bool)
        is_touched[rows] = True
        touched = np.flatnonzero(is_touched)
        width = self.others.shape[1]
        rows = np.concatenate([rows, np.repeat(touched, width)])
        others = np.concatenate([others, self.others[touched].ravel().astype(np.int64)])
        cosines = np.concatenate([cosines, self._cosines[touched].ravel()])
        # A pair that met in several cells counts once. Each sort is by one number, which numpy sorts fastest.
        pairs = rows * len(self._vectors) + others
        pairs[(others < 0) | (cosines <= UNKNOWN)] = -1
        first = np.argsort(pairs)
        pairs = pairs[first]
        first = first[(pairs >= 0) & np.append(True, pairs[1:] != pairs[:-1])]
        rows, others, cosines = rows[first], others[first], cosines[first]
        order = np.argsort((rows << 32) + ((1.0 - cosines.astype(np.float64)) * 2**30).astype(np.int64))
        rows, others, cosines = rows[order], others[order], cosines[order]
        place = np.arange(len(rows)) - np.searchsorted(rows, rows)
        kept = place < width
        rows, place = rows[kept], place[kept]
        self.others[touched], self._cosines[touched] = -1, UNKNOWN
        self.others[rows, place], self._cosines[rows, place] = others[kept], cosines[kept]
        self._lowest[touched] = self._cosines[touched, self._k - 1] - SLACK

    def _sides(self, rows: Rows, members: Rows) -> list[tuple[Rows, Rows]]:
        """Which rows are compared with which members: a query with all, another row with the queries."""
        if self._all_ask:
            sides = [(rows, members)]
        else:
            asking = self._queries[rows]
            sides = [(rows[asking], members), (rows[~asking], members[self._queries[members]])]
        return [
            (left[at : at + BLOCK_ROWS], right)
            for left, right in sides
            for at in range(0, len(left) if len(right) else 0, BLOCK_ROWS)
        ]

    def _compared(self, rows: Rows, members: Rows) -> NDArray[np.float32]:
        """Cosines of rows and members, both ascending, UNKNOWN for a row with itself."""
        cosines = self._vectors[rows] @ self._vectors[members].T
        at = np.minimum(np.searchsorted(members, rows), len(members) - 1)
        same = np.flatnonzero(members[at] == rows)
        cosines[same, at[same]] = UNKNOWN
        return np.asarray(cosines, np.float32)


def _exactly(vectors: Vectors, pairs: tuple[Rows, Rows], k: int) -> Found:
    """The k best of each row's candidates, compared once more in float64. pairs: (left ascending, right)."""
    left, right = pairs
    cosines = cosines_of(lambda rows: vectors[rows], left, right, BLOCK_ROWS)
    # By row, then nearness in steps of the last decimal, then place: 21 bits for the 2 million steps.
    steps = np.round((1.0 - cosines) * 10**DECIMALS).astype(np.int64)
    order = np.lexsort((right, (left << 21) + steps))
    left, right, cosines = left[order], right[order], cosines[order]
    kept = np.arange(len(left)) - np.searchsorted(left, left) < k
    return Found(np.bincount(left[kept], minlength=len(vectors)), right[kept], cosines[kept])


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
