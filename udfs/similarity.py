"""Exact cosine between sets of vectors: the nearest of each, and clusters around keepers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from udfs.alignment import alignment

Vectors = NDArray[np.float32]
Ids = NDArray[np.int64]
Values = NDArray[np.float64]
DECIMALS = 6  # of every cosine that is written: float32 sums differ in the seventh with the block they are taken in
SLACK = 1e-5  # below the k-th float32 similarity, all are candidates: neither rounding nor ties can cost a neighbour
# An overlay spoils the alignment of a true copy, a common layout makes that of a false one: it counts half.
ALIGNMENT_WEIGHT = 0.5
BACKGROUND_RANK = 10  # the neighbour that stands for how alike everything around an image is
BLOCK_ROWS = 1024  # queries multiplied at once: 1024 x 4096 float32 similarities are 16 MB
PAIRS_AT_ONCE = 4096  # candidates compared in float64 at once: 4096 x 1280 are 40 MB


def cosine_pairs(left: Vectors, right: Vectors) -> NDArray[np.float64]:
    """Row-wise cosine. left, right: (n, d) float32, rows of norm 1.

    Returns (n,) float64 in [-1, 1], rounded to DECIMALS: the same for the same two rows wherever they stand.
    Raises ValueError where the shapes differ."""
    if left.shape != right.shape:
        raise ValueError(f"shapes differ: {left.shape} and {right.shape}")
    products = left.astype(np.float64) * right.astype(np.float64)
    cosines: NDArray[np.float64] = np.clip(np.round(products.sum(axis=1), DECIMALS), -1.0, 1.0)
    return cosines


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


@dataclass(frozen=True)
class NearRule:
    """When two images are near-duplicates.

    The margin of a pair is its cosine above the mean of the two backgrounds, an image's background its cosine with its
    BACKGROUND_RANK-th neighbour: in a lake of one subject everything is alike, and only what stands out may be a copy.
    Two images are candidates where their cosine is at least `threshold` and their margin at least `margin`, and
    near-duplicates where cosine + margin + half the alignment (of udfs.alignment) make `evidence`. From a cosine of
    `certain` on nothing else is asked."""

    threshold: float
    margin: float
    certain: float
    evidence: float = 0.0

    def doubtful(self, cosines: Values, left: Values, right: Values) -> NDArray[np.bool_]:
        """Candidates for which the alignment is wanted. cosines of pairs, and their sides' backgrounds."""
        above = cosines - (left + right) / 2 >= self.margin
        return (cosines < self.certain) & (cosines >= self.threshold) & above

    def matches(
        self, cosines: Values, left: Values, right: Values, alignments: Values | float = 0.0
    ) -> NDArray[np.bool_]:
        """cosines and alignments of pairs, backgrounds of their sides: float64 that broadcast."""
        evidence = cosines + (cosines - (left + right) / 2) + ALIGNMENT_WEIGHT * alignments
        return (cosines >= self.certain) | (self.doubtful(cosines, left, right) & (evidence >= self.evidence))

    def looser(self, slack: float) -> NearRule:
        """The rule with cosine and margin lower by slack, so their sum by twice as much."""
        return NearRule(self.threshold - slack, self.margin - slack, self.certain, self.evidence - 2 * slack)


def around_keepers(
    vectors: Vectors, backgrounds: Values, rule: NearRule, thumbnails: NDArray[np.uint8] | None = None
) -> tuple[Ids, Values]:
    """Clusters in which each member is close to its keeper.

    vectors: (n, d) float32, rows of norm 1, the best image first. backgrounds: (n,) float64, see NearRule. thumbnails:
    (n, side, side) uint8 of udfs.alignment; without them every alignment counts as 0. The best image that has no
    cluster yet becomes a keeper and takes all that are left and match it; and so on.
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
        aligned = np.zeros(len(left))
        if thumbnails is not None:
            for position in np.flatnonzero(rule.doubtful(to_keeper, backgrounds[left], backgrounds[row])):
                aligned[position] = alignment(thumbnails[left[position]], thumbnails[row])
        taken = rule.matches(to_keeper, backgrounds[left], backgrounds[row], aligned)
        keepers[left[taken]] = row
        cosines[left[taken]] = to_keeper[taken]
    return keepers, cosines
