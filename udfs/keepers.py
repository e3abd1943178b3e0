"""Clusters around keepers: each member is close to the image that its cluster keeps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from udfs.alignment import alignment
from udfs.cosine import Ids, Values, Vectors, cosine_pairs
from udfs.near_rule import NearRule


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
