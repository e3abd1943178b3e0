"""Exact cosine between sets of vectors: the nearest of each, and clusters around keepers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]
DECIMALS = 6  # of every cosine that is written: float32 sums differ in the seventh with the block they are taken in
MARGIN = 8  # candidates beyond k that the float32 product proposes, so that rounding cannot cost a neighbour
BLOCK_ROWS = 1024  # queries multiplied at once: 1024 x 4096 float32 similarities are 16 MB


def cosine_pairs(left: Vectors, right: Vectors) -> npt.NDArray[np.float64]:
    """Row-wise cosine. left, right: (n, d) float32, rows of norm 1.

    Returns (n,) float64 in [-1, 1], rounded to DECIMALS: the same for the same two rows wherever they stand.
    Raises ValueError where the shapes differ."""
    if left.shape != right.shape:
        raise ValueError(f"shapes differ: {left.shape} and {right.shape}")
    products = left.astype(np.float64) * right.astype(np.float64)
    cosines: npt.NDArray[np.float64] = np.clip(np.round(products.sum(axis=1), DECIMALS), -1.0, 1.0)
    return cosines


def nearest(
    queries: Vectors, query_ids: Ids, base: Vectors, base_ids: Ids, base_keys: Ids, k: int
) -> tuple[Ids, Ids, npt.NDArray[np.float64]]:
    """The k nearest of base for each query, itself left out.

    queries: (q, d), base: (n, d) float32, rows of norm 1. base_keys: (n,) int64 that orders equally near ones.
    Returns three arrays of equal length: query id, neighbour id, cosine; in order of query, then nearness."""
    found_queries, found_neighbours, found_cosines = [], [], []
    wanted = min(k + 1 + MARGIN, len(base))  # one more, for the query itself
    for at in range(0, len(queries), BLOCK_ROWS):
        block, ids = queries[at : at + BLOCK_ROWS], query_ids[at : at + BLOCK_ROWS]
        similarities = block @ base.T
        if wanted < len(base):
            candidates = np.argpartition(-similarities, wanted - 1, axis=1)[:, :wanted]
        else:
            candidates = np.broadcast_to(np.arange(len(base)), (len(block), len(base)))
        rows = np.repeat(np.arange(len(block)), wanted)
        columns = candidates.reshape(-1)
        others = base_ids[columns] != ids[rows]
        rows, columns = rows[others], columns[others]
        cosines = cosine_pairs(block[rows], base[columns])
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


def around_keepers(vectors: Vectors, threshold: float) -> tuple[Ids, npt.NDArray[np.float64]]:
    """Clusters in which each member is close to its keeper.

    vectors: (n, d) float32, rows of norm 1, the best image first. The best one that has no cluster yet becomes a keeper
    and takes all that are left with a cosine of at least threshold to it; and so on.
    Returns (row of the keeper, cosine to it), (n,) each; a keeper is its own."""
    keepers = np.full(len(vectors), -1, np.int64)
    cosines = np.ones(len(vectors), np.float64)
    for row in range(len(vectors)):
        if keepers[row] >= 0:
            continue
        keepers[row] = row
        left = np.flatnonzero(keepers < 0)
        if not len(left):
            break
        to_keeper = cosine_pairs(vectors[left], np.broadcast_to(vectors[row], (len(left), vectors.shape[1])))
        taken = to_keeper >= threshold
        keepers[left[taken]] = row
        cosines[left[taken]] = to_keeper[taken]
    return keepers, cosines
