"""Exact search for the nearest vectors, by matrix products."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from udfs.cosine import Ids, Vectors, cosine_pairs

SLACK = 1e-5  # below the k-th float32 similarity, all are candidates: neither rounding nor ties can cost a neighbour
BLOCK_ROWS = 1024  # queries multiplied at once: 1024 x 4096 float32 similarities are 16 MB
PAIRS_AT_ONCE = 4096  # candidates compared in float64 at once: 4096 x 1280 are 40 MB


def nearest(
    queries: Vectors, query_ids: Ids, base: Vectors, base_ids: Ids, base_keys: Ids, k: int
) -> tuple[Ids, Ids, NDArray[np.float64]]:
    """The k nearest of base for each query, itself left out.

    queries: (q, d), base: (n, d) float32, rows of norm 1. base_keys: (n,) int64 that orders equally near ones.
    Returns three arrays of equal length: query id, neighbour id, cosine; in order of query, then nearness."""
    found_queries, found_neighbours, found_cosines = [], [], []
    wanted = min(k + 1, len(base))  # one more, for the query itself
    for at in range(0, len(queries) if len(base) else 0, BLOCK_ROWS):
        block, ids = queries[at : at + BLOCK_ROWS], query_ids[at : at + BLOCK_ROWS]
        similarities = block @ base.T
        at_least = np.partition(similarities, len(base) - wanted, axis=1)[:, len(base) - wanted] - np.float32(SLACK)
        rows, columns = np.nonzero(similarities >= at_least[:, np.newaxis])
        others = base_ids[columns] != ids[rows]
        rows, columns = rows[others], columns[others]
        parts = [slice(start, start + PAIRS_AT_ONCE) for start in range(0, len(rows), PAIRS_AT_ONCE)]
        cosines = np.concatenate([np.empty(0), *[cosine_pairs(block[rows[p]], base[columns[p]]) for p in parts]])
        order = np.lexsort((base_keys[columns], -cosines, rows))
        rows, columns, cosines = rows[order], columns[order], cosines[order]
        first = np.searchsorted(rows, np.arange(len(block)))
        keep = np.arange(len(rows)) - first[rows] < k
        found_queries.append(ids[rows[keep]])
        found_neighbours.append(base_ids[columns[keep]])
        found_cosines.append(cosines[keep])
    if not found_queries:
        empty = np.empty(0, np.int64)
        return empty, empty, np.empty(0, np.float64)
    return np.concatenate(found_queries), np.concatenate(found_neighbours), np.concatenate(found_cosines)
