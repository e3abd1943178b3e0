"""Vector index: similar pictures, and pictures of classes, among those of some segments. A search reads the cells that
are nearest to what is asked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from jobs.indexing.segments import ROWS_AT_ONCE, Segment
from jobs.indexing.space import Space, unit

READ, READ_SHARE = 50_000, 0.09  # pictures that a search reads: so many, or this share where it is more
FOUND = 1000  # pictures of a search
# What shows a class surely, so many pictures at most and not fewer, stands for it: what lies their way counts more than
# what the network says of its own 1,000 classes. On 5,000 small pictures mean average precision goes from 0.54 to 0.65.
SURE, SURE_MOST, SURE_LEAST = 0.1, 200, 20
DOUBT = 1e-4  # less is not found
SURE_COUNTS = 0.25  # what the network says, beside what lies their way, both by their spread
FINER = 250  # times that the second byte of what is asked is finer than the first
NOWHERE = -2.0  # less than any cosine: of pictures that are gone

Rows = NDArray[np.int32]
Alike = NDArray[np.float32]


class VectorIndex:
    """Segments to be searched together. rows: of each segment, (images,) int32, what is answered for a picture, all
    different, -1 for one that is gone."""

    def __init__(self, space: Space, parts: Sequence[tuple[Segment, Rows]]) -> None:
        self._space, self._parts = space, list(parts)
        self.images = sum(int(np.count_nonzero(rows >= 0)) for _, rows in parts)
        self.has_classes = bool(parts) and all(segment.classes is not None for segment, _ in parts)
        self._starts = [segment.starts for segment, _ in parts]
        self._held = np.sum([np.diff(starts) for starts in self._starts], axis=0) if parts else np.zeros(0, np.int64)
        self._total = int(self._held.sum())
        most = max((int(rows.max(initial=-1)) for _, rows in parts), default=-1)
        self._place = np.full(most + 1, -1, np.int32)  # of each row, among the pictures of all segments
        first = 0
        for segment, rows in parts:
            there = np.flatnonzero(rows >= 0)
            self._place[rows[there]] = first + there
            first += segment.images

    def like(self, vector: NDArray[np.float32], count: int = FOUND) -> tuple[Rows, Alike]:
        """The pictures most alike a vector of the network, (dimension,) float32 of norm 1: rows and cosines, the
        highest first."""
        return self._nearest(self._space.projected(vector[np.newaxis])[0], count)

    def described(self, vector: NDArray[np.float32], count: int = FOUND) -> tuple[Rows, Alike]:
        """As like(), of a text's vector. All pictures are compared: texts lie apart from images, and the cells in which
        images are dealt say little of where a text's nearest are."""
        projected = np.asarray(vector @ self._space.basis, np.float32)
        rows: list[Rows] = [np.zeros(0, np.int32)]
        alike: list[Alike] = [np.zeros(0, np.float32)]
        for segment, own in self._parts:
            found = _products(segment.bytes, projected) / segment.lengths
            alike.append(np.where(own < 0, np.float32(NOWHERE), found))
            rows.append(own)
        together = np.concatenate(alike)
        best = _highest(together, count)
        best = best[together[best] > NOWHERE]
        return np.concatenate(rows)[best], np.clip(together[best], -1, 1)

    def like_row(self, row: int, count: int = FOUND) -> tuple[Rows, Alike] | None:
        """As like(), of a picture by its row, itself first; None where it has no vector."""
        at = int(self._place[row]) if 0 <= row < len(self._place) else -1
        if at < 0:
            return None
        for segment, _ in self._parts:
            if at < segment.images:
                return self._nearest(unit(segment.bytes[at].astype(np.float32)[np.newaxis])[0], count)
            at -= segment.images
        return None

    def of_classes(self, weights: list[NDArray[np.float32]], count: int = FOUND) -> tuple[Rows, Alike]:
        """The pictures that show what all terms mean. weights: of each term, (classes,) float32 of 0..1. Returns rows
        and how sure the network is, the mean of all terms; those that lie most their way first who are sure.

        That is pseudo-relevance feedback with a linear discriminant: Rocchio, 1971; Fisher, 1936."""
        padded = [np.append(one, np.float32(0)) for one in weights]
        parts = []
        for segment, rows in self._parts:
            found = np.empty(segment.images, np.float32)
            for start in range(0, segment.images, ROWS_AT_ONCE):
                part = slice(start, start + ROWS_AT_ONCE)
                assert segment.classes is not None and segment.sure is not None  # noqa: S101, PT018 (has_classes was asked)
                classes, sure = np.asarray(segment.classes[part]), segment.sure[part].astype(np.float32)
                found[part] = np.mean([(one.take(classes, mode="clip") * sure).sum(axis=1) for one in padded], axis=0)
            found[rows < 0] = NOWHERE
            parts.append(found)
        together = np.concatenate([np.zeros(0, np.float32), *parts])
        way = self._their_way(together)
        best = _highest(together if way is None else way, count)
        best = best[together[best] > (DOUBT if way is None else NOWHERE)]
        return self._rows_at(best), together[best]

    def _their_way(self, sure: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """How much each picture is like those that are sure, (images,); None where these are too few."""
        best = _highest(sure, SURE_MOST)
        best = np.sort(best[sure[best] >= SURE])
        if len(best) < SURE_LEAST:
            return None
        held, first = [], 0
        for segment, _ in self._parts:
            here = best[(best >= first) & (best < first + segment.images)] - first
            held.append(segment.bytes[here])
            first += segment.images
        middle = unit(np.concatenate(held).astype(np.float32)).mean(axis=0)
        way = self._space.evened @ (middle - self._space.mean)
        together = np.concatenate([_products(segment.bytes, way) / segment.lengths for segment, _ in self._parts])
        there = sure > NOWHERE
        spread, sure_spread = max(float(together[there].std()), 1e-9), max(float(sure[there].std()), 1e-9)
        found = np.asarray(together / spread + SURE_COUNTS * sure / sure_spread, np.float32)
        return np.where(there, found, np.float32(-np.inf))

    def _rows_at(self, places: NDArray[np.int64]) -> Rows:
        """The rows of pictures by their places among those of all segments."""
        found, first = np.full(len(places), -1, np.int32), 0
        for segment, rows in self._parts:
            here = (places >= first) & (places < first + segment.images)
            found[here] = rows[places[here] - first]
            first += segment.images
        return found

    def _nearest(self, query: NDArray[np.float32], count: int) -> tuple[Rows, Alike]:
        order = np.argsort(-(self._space.centres @ query), kind="stable")
        wanted, cells, seen = max(READ, READ_SHARE * self._total), list[int](), 0
        for cell in order.tolist():
            cells.append(cell)
            seen += int(self._held[cell]) if len(self._held) else 0
            if seen >= wanted:
                break
        rows: list[Rows] = [np.zeros(0, np.int32)]
        alike: list[Alike] = [np.zeros(0, np.float32)]
        cells.sort()
        for segment, own in self._parts:
            for first, last in _stretches(segment.starts, cells):
                part = slice(first, last)
                found = _products(segment.bytes[part], query) / segment.lengths[part]
                alike.append(np.where(own[part] < 0, np.float32(NOWHERE), found))
                rows.append(own[part])
        together = np.concatenate(alike)
        best = _highest(together, count)
        best = best[together[best] > NOWHERE]
        return np.concatenate(rows)[best], np.clip(together[best], -1, 1)


def _stretches(starts: NDArray[np.int64], cells: list[int]) -> list[tuple[int, int]]:
    """Where the pictures of these cells, ascending, lie in a segment; cells that lie side by side are one stretch."""
    found: list[tuple[int, int]] = []
    for cell in cells:
        first, last = int(starts[cell]), int(starts[cell + 1])
        if last == first:
            continue
        if found and found[-1][1] == first:
            found[-1] = (found[-1][0], last)
        else:
            found.append((first, last))
    return found


def _products(held: NDArray[np.int8], asked: NDArray[np.float32]) -> NDArray[np.float32]:
    """The product of each row with a vector, (n,) float32. held: (n, d). asked: (d,) float32, which is taken as two
    bytes a number where the package numkong is there: four times as fast as by floats."""
    if not len(held):
        return np.empty(0, np.float32)
    try:
        import numkong
    except ImportError:
        parts = range(0, len(held), ROWS_AT_ONCE)
        return np.concatenate([held[start : start + ROWS_AT_ONCE].astype(np.float32) @ asked for start in parts])
    scale = max(float(np.abs(asked).max()), 1e-12) / 127
    coarse = np.clip(np.round(asked / scale), -127, 127)
    fine = np.round((asked / scale - coarse) * FINER)
    found = np.zeros(len(held), np.float64)
    for part, worth in ((coarse, scale), (fine, scale / FINER)):
        found += worth * np.asarray(numkong.cdist(part.astype(np.int8)[np.newaxis], held, "dot"))[0]
    return found.astype(np.float32)


def _highest(values: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """The places of the highest values, these first."""
    if count < len(values):
        best = np.argpartition(-values, count)[:count]
        return best[np.argsort(-values[best], kind="stable")]
    return np.argsort(-values, kind="stable")
