"""Measuring: the recall of an index, against the exact nearest of some pictures, found while all vectors go by."""

from __future__ import annotations

import numpy as np

from jobs.indexing.reading import Ids
from jobs.indexing.vector_index import VectorIndex
from udfs.vectors.cosine import Vectors

QUERIES = 100
AT = 10
KEPT = 64  # of each query: those that are as near as the one at AT count too
SAME = 1e-6  # of cosines


class Truth:
    """The KEPT nearest of each of some vectors. queries: (q, d) float32 of norm 1."""

    def __init__(self, queries: Vectors) -> None:
        self.queries = queries
        self.ids: Ids = np.full((len(queries), KEPT), -1, np.int64)
        self._cosines = np.full((len(queries), KEPT), -2, np.float32)

    def saw(self, ids: Ids, vectors: Vectors) -> None:
        """ids: (n,), vectors: (n, d), that go by."""
        cosines = np.concatenate([self._cosines, self.queries @ vectors.T], axis=1)
        own = np.concatenate([self.ids, np.broadcast_to(ids, (len(self.queries), len(ids)))], axis=1)
        best = np.argpartition(-cosines, KEPT - 1, axis=1)[:, :KEPT]
        self._cosines = np.take_along_axis(cosines, best, axis=1)
        self.ids = np.take_along_axis(own, best, axis=1)

    def found_by(self, index: VectorIndex, ids: Ids) -> tuple[int, int]:
        """How many of the AT nearest an index finds, and of how many; of those that are equally near any will do. ids:
        of its rows."""
        hits = of = 0
        for query, near, cosines in zip(self.queries, self.ids, self._cosines, strict=True):
            wanted = min(AT, int(np.count_nonzero(near >= 0)))
            if wanted:
                good = near[(cosines >= np.sort(cosines)[-wanted] - SAME) & (near >= 0)]
                rows, _ = index.like(query, AT)
                hits += min(wanted, int(np.isin(ids[rows], good).sum()))
                of += wanted
        return hits, of
