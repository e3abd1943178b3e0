"""Placing: further images on a map that is there, by the nearest ones of the sample that was laid out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from udfs.maps.reduction import Reduction, Single, nearest
from udfs.vectors.cell_packs import vectors_of
from udfs.vectors.cosine import Values

NEIGHBOURS = 15
ROUNDS = 10  # of Weiszfeld's algorithm
BLOCK = 256  # rows that are multiplied together, always: the bits of a product depend on how many rows it has
PLACED = pa.schema([("image_id", pa.int64()), ("x", pa.float32()), ("y", pa.float32())])

Batches = Iterator[pa.RecordBatch]


@dataclass(frozen=True)
class Anchors:
    """A sample that lies on a map. rows: (n, a) of the reduction, points: (n, 2) in 0..1; float32, n > 0."""

    reduction: Reduction
    rows: Single
    points: Single

    def place(self, vectors: Single) -> Single:
        """(n, 2) float32 in 0..1, from (n, d): the point that is nearest to those of the nearest anchors, their
        geometric median, the nearer ones counting more. A mean would lie between two groups, where there is nothing.
        An image whose vector an anchor has lies where that does."""
        rows = self.reduction.of(vectors)
        near = np.sort(nearest(rows, self.rows, min(NEIGHBOURS, len(self.rows))), axis=1)  # sums go by their order
        apart = rows[:, np.newaxis] - self.rows[near]
        distances = np.einsum("nka,nka->nk", apart, apart)
        least = distances.min(axis=1, keepdims=True)
        spread = np.maximum(distances.mean(axis=1, keepdims=True) - least, 1e-12)
        weights = np.exp((least - distances) / spread)
        points = self.points[near].astype(np.float64)
        weights = weights.astype(np.float64)
        found = _mean(points, weights)
        for _ in range(ROUNDS):  # Weiszfeld 1937
            away = np.sqrt(((points - found[:, np.newaxis]) ** 2).sum(axis=2))
            found = _mean(points, weights / np.maximum(away, 1e-6))
        same = least[:, 0] <= 1e-10
        first = np.take_along_axis(near, distances.argmin(axis=1)[:, np.newaxis], axis=1)[:, 0]
        found = np.where(same[:, np.newaxis], self.points[first], found)
        return np.clip(found, 0, 1).astype(np.float32)


def _mean(points: Values, weights: Values) -> Values:
    """(n, 2), from (n, k, 2) and (n, k)."""
    weighted: Values = (points * weights[:, :, np.newaxis]).sum(axis=1)
    return np.asarray(weighted / weights.sum(axis=1)[:, np.newaxis])


def place(anchors: Anchors) -> Callable[[Batches], Batches]:
    """Maps batches of (image_id, vector) to PLACED."""

    def run(batches: Batches) -> Batches:
        for batch in batches:
            if not batch.num_rows:
                continue
            vectors = vectors_of(batch.column("vector"))
            found = np.empty((len(vectors), 2), np.float32)
            for at in range(0, len(vectors), BLOCK):
                some = vectors[at : at + BLOCK]
                filled = np.zeros((BLOCK, vectors.shape[1]), np.float32)
                filled[: len(some)] = some
                found[at : at + BLOCK] = anchors.place(filled)[: len(some)]
            x, y = np.ascontiguousarray(found.T)
            yield pa.RecordBatch.from_arrays([batch.column("image_id"), pa.array(x), pa.array(y)], schema=PLACED)

    return run
