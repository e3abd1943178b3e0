"""Locality-sensitive hashing with data-dependent cells: the Voronoi cells of centres learnt from a sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from udfs.vectors import packs
from udfs.vectors.cell_packs import Batches, Repeated, Step, blocks
from udfs.vectors.cosine import Ids, Vectors

FLAT = 512  # centres that are searched one by one; more are searched through parents
PARENTS = 8  # of the nearest ones the centres are looked at
ROWS_AT_ONCE = 4096  # bounds the matrix of similarities: 4096 x 512 float32 is 8 MB
MOST_PROBES = 6


@dataclass(frozen=True)
class Layout:
    """How a number of vectors is dealt into cells. cells: a power of two. probes: cells that each vector is put in."""

    cells: int
    probes: int


def layout(vectors: int, dimension: int, exact: int, cell_bytes: int, probes: int | None = None) -> Layout:
    """The fewest cells, from four on, of which each holds at most cell_bytes as float32; one up to `exact` vectors.

    With c cells each vector goes into its nearest log2(c), at most MOST_PROBES, unless probes says how many: so the
    share of neighbours that meet in a cell hardly falls while the cells become more. Powers of two, so that the number
    seldom changes as a lake grows."""
    if vectors <= exact:
        return Layout(1, 1)
    cells = 4
    while True:
        each = min(probes or min(cells.bit_length() - 1, MOST_PROBES), cells)
        if vectors * each * dimension * 4 <= cells * cell_bytes or cells >= 2**20:
            return Layout(cells, each)
        cells *= 2


def train_centres(sample: Vectors, count: int, iterations: int, seed: int = 0) -> Vectors:
    """Spherical k-means (Dhillon & Modha 2001), in two levels where there are more than FLAT centres.

    sample: (n, d) float32, rows of norm 1, n >= count. Returns (count, d) float32, rows of norm 1. The same sample in
    the same order gives the same centres. Raises ValueError where the sample is smaller than count."""
    if len(sample) < count:
        raise ValueError(f"{count} centres need at least as many vectors, got {len(sample)}")
    if count == 1:
        return np.zeros((1, sample.shape[1]), np.float32)
    if count <= FLAT:
        return _lloyd(sample, count, iterations, seed)
    groups = round(count**0.5)
    nearest = nearest_cells(sample, _lloyd(sample, groups, iterations, seed), 1)[:, 0]
    order = np.argsort(nearest, kind="stable")
    sizes = np.bincount(nearest, minlength=groups)
    ends = np.cumsum(sizes)
    # Each group gets its share of the centres, to the end of the group exactly.
    wanted = np.diff(np.concatenate([[0], ends * count // len(sample)]))
    parts = [
        _lloyd(sample[order[end - size : end]], number, iterations, seed)
        for end, size, number in zip(ends.tolist(), sizes.tolist(), wanted.tolist(), strict=True)
        if number
    ]
    return np.concatenate(parts)


def _lloyd(sample: Vectors, count: int, iterations: int, seed: int) -> Vectors:
    start = np.random.default_rng(seed).choice(len(sample), count, replace=False)
    return refined(sample, sample[np.sort(start)], iterations if count > 1 else 1)


def refined(sample: Vectors, centres: Vectors, iterations: int) -> Vectors:
    """Lloyd's iterations of spherical k-means. sample: (n, d), centres: (c, d), float32, rows of norm 1.

    Returns (c, d) float32, rows of norm 1."""
    centres = centres.copy()
    count = len(centres)
    for _ in range(iterations):
        nearest = nearest_cells(sample, centres, 1)[:, 0]
        order = np.argsort(nearest, kind="stable")
        sizes = np.bincount(nearest, minlength=count)
        filled = np.flatnonzero(sizes)
        starts = (np.cumsum(sizes) - sizes)[filled]
        sums = _sums(sample, order, starts)
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        # A centre that lost all its vectors stays where it is.
        centres[filled] = np.where(norms > 0, sums / np.maximum(norms, 1e-12), centres[filled])
    return centres


def _sums(sample: Vectors, order: NDArray[np.int64], starts: NDArray[np.int64]) -> Vectors:
    """The sum of each stretch of sample[order], which begins at one of starts; never all of it in memory once more."""
    sums = np.empty((len(starts), sample.shape[1]), np.float32)
    ends = np.append(starts[1:], len(order))
    first = 0
    while first < len(starts):
        last = max(first + 1, int(np.searchsorted(ends, starts[first] + ROWS_AT_ONCE, side="right")))
        rows = order[starts[first] : ends[last - 1]]
        sums[first:last] = np.add.reduceat(sample[rows], starts[first:last] - starts[first], axis=0)
        first = last
    return sums


def nearest_cells(vectors: Vectors, centres: Vectors, probes: int) -> NDArray[np.int32]:
    """The nearest cells of each vector, by looking at every centre. vectors: (n, d), centres: (c, d), float32.

    Returns (n, min(probes, c)) int32, nearest first."""
    probes = min(probes, len(centres))
    found = np.zeros((len(vectors), probes), np.int32)
    if len(centres) == 1:
        return found
    for at in range(0, len(vectors), ROWS_AT_ONCE):
        found[at : at + ROWS_AT_ONCE] = _best(vectors[at : at + ROWS_AT_ONCE] @ centres.T, probes)
    return found


def _best(cosines: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """The columns of the `count` highest of each row, highest first."""
    if count == 1:
        highest: NDArray[np.int64] = cosines.argmax(axis=1)[:, np.newaxis]
        return highest
    columns = np.sort(np.argpartition(cosines, cosines.shape[1] - count, axis=1)[:, -count:], axis=1)
    order = np.argsort(-np.take_along_axis(cosines, columns, axis=1), axis=1, kind="stable")
    return np.take_along_axis(columns, order, axis=1)


class CellIndex:
    """The nearest of many centres, through parents: centres of the centres, of which the nearest are looked into.

    Up to FLAT centres all are looked at, and the answer is that of nearest_cells; beyond, a cell may be missed, the
    less likely the nearer it is."""

    def __init__(self, centres: Vectors) -> None:
        """centres: (c, d) float32, rows of norm 1."""
        self._centres = centres
        self._parents = centres[:0]
        if len(centres) > FLAT:
            self._parents = _lloyd(centres, round(len(centres) ** 0.5), 3, seed=0)
            parent = nearest_cells(centres, self._parents, 1)[:, 0]
            self._children = np.argsort(parent, kind="stable").astype(np.int32)
            self._starts = np.searchsorted(parent[self._children], np.arange(len(self._parents) + 1))

    def nearest(self, vectors: Vectors, probes: int) -> NDArray[np.int32]:
        """As nearest_cells: (n, probes) int32, nearest first; probes is at most the number of centres."""
        if not len(self._parents):
            return nearest_cells(vectors, self._centres, probes)
        blocks = range(0, len(vectors), ROWS_AT_ONCE)
        parts = [self._nearest_of_block(vectors[at : at + ROWS_AT_ONCE], probes) for at in blocks]
        return np.concatenate(parts) if parts else np.empty((0, probes), np.int32)

    def _nearest_of_block(self, vectors: Vectors, probes: int) -> NDArray[np.int32]:
        parents = _best(vectors @ self._parents.T, min(PARENTS, len(self._parents)))
        shape = (*parents.shape, probes)
        cosines = np.full(shape, -2, np.float32)
        cells = np.full(shape, -1, np.int32)
        flat = parents.ravel()
        order = np.argsort(flat, kind="stable")
        starts = np.searchsorted(flat[order], np.arange(len(self._parents) + 1))
        for parent in np.unique(flat).tolist():
            rows, slots = np.divmod(order[starts[parent] : starts[parent + 1]], parents.shape[1])
            children = self._children[self._starts[parent] : self._starts[parent + 1]]
            found = vectors[rows] @ self._centres[children].T
            best = _best(found, min(probes, len(children))) if len(children) else np.empty((len(rows), 0), np.int64)
            cosines[rows, slots, : best.shape[1]] = np.take_along_axis(found, best, axis=1)
            cells[rows, slots, : best.shape[1]] = children[best]
        best = _best(cosines.reshape(len(vectors), -1), probes)
        return np.take_along_axis(cells.reshape(len(vectors), -1), best, axis=1)


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
