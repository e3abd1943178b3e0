"""Clusters around keepers: each member is close to the image that its cluster keeps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from udfs.images.alignment import alignment
from udfs.vectors.cosine import Ids, Values, Vectors, cosine_pairs
from udfs.vectors.near_rule import NearRule

FLOAT32_SLACK = 1e-5  # by which a float32 product of two rows of norm 1 may differ from their cosine, and more
MAX_BLOCK = 256  # rows multiplied at once with all that are left: 256 x 8192 float32 are 8 MB
NUMBERS_AT_ONCE = 1 << 18  # of vectors compared in float64 at once: they stay in the processor's cache
SMALL = 32  # images of a component up to which it is compared together with other such ones


def around_keepers(
    vectors: Vectors,
    backgrounds: Values,
    rule: NearRule,
    thumbnails: NDArray[np.uint8] | None = None,
    given: int | None = None,
) -> tuple[Ids, Values]:
    """Clusters in which each member is close to its keeper.

    vectors: (n, d) float32, rows of norm 1, the best image first. backgrounds: (n,) float64, see NearRule. thumbnails:
    (n, side, side) uint8 of udfs.images.alignment; without them every alignment counts as 0. The best image that has no
    cluster yet becomes a keeper and takes all that are left and match it; and so on. given: only so many of the first
    rows may be keepers; what they do not take has -1 and no cosine.
    Returns (row of the keeper, cosine to it), (n,) each; a keeper is its own."""
    keepers, cosines = np.arange(len(vectors)), np.ones(len(vectors), np.float64)
    may_keep = len(vectors) if given is None else given
    at_least = np.float32(min(rule.threshold, rule.certain) - FLOAT32_SLACK)
    left, block = np.arange(len(vectors)), 1
    while len(best := left[: min(block, int(np.searchsorted(left, may_keep)))]):
        products = vectors[best] @ vectors[left].T
        free = np.ones(len(left), np.bool_)
        for position, row in enumerate(best):
            if not free[position]:
                continue
            free[position] = False
            candidates = np.flatnonzero(free & (products[position] >= at_least))
            rows = left[candidates]
            taken, to_keeper = _taken(vectors, backgrounds, rule, thumbnails, rows, np.full_like(rows, row))
            keepers[rows[taken]], cosines[rows[taken]] = row, to_keeper[taken]
            free[candidates[taken]] = False
        left = left[free]
        block = min(2 * block, MAX_BLOCK)  # where the first one takes all, no others are multiplied
    keepers[left], cosines[left] = -1, np.nan
    return keepers, cosines


def in_components(
    vectors: Vectors,
    components: Ids,
    backgrounds: Values,
    rule: NearRule,
    thumbnails: NDArray[np.uint8] | None = None,
) -> tuple[Ids, Values]:
    """As around_keepers, with clusters inside components. components: (n,) int64, the component of each row."""
    keepers, cosines = np.arange(len(vectors)), np.ones(len(vectors), np.float64)
    left = np.argsort(components, kind="stable")
    of = components[left]
    starts = np.flatnonzero(np.append(True, of[1:] != of[:-1])) if len(of) else left
    sizes = np.diff(np.append(starts, len(of)))
    for at, size in zip(starts[sizes > SMALL], sizes[sizes > SMALL], strict=True):
        rows = left[at : at + size]
        of_rows = None if thumbnails is None else thumbnails[rows]
        own, cosines[rows] = around_keepers(vectors[rows], backgrounds[rows], rule, of_rows)
        keepers[rows] = rows[own]
    left = left[np.repeat(sizes <= SMALL, sizes)]
    while len(left):  # in each round, the best that is left of each component
        of = components[left]
        is_first = np.append(True, of[1:] != of[:-1])
        to = left[is_first][np.cumsum(is_first) - 1][~is_first]
        rows = left[~is_first]
        taken, to_keeper = _taken(vectors, backgrounds, rule, thumbnails, rows, to)
        keepers[rows[taken]], cosines[rows[taken]] = to[taken], to_keeper[taken]
        left = rows[~taken]
    return keepers, cosines


def _taken(
    vectors: Vectors,
    backgrounds: Values,
    rule: NearRule,
    thumbnails: NDArray[np.uint8] | None,
    rows: Ids,
    to: Ids,
) -> tuple[NDArray[np.bool_], Values]:
    """rows, to: (m,) int64, images and their would-be keepers. Returns (whether the rule joins them, cosine)."""
    cosines = pairs_of_rows(vectors, rows, to)
    aligned = np.zeros(len(rows))
    if thumbnails is not None:
        for position in np.flatnonzero(rule.candidates(cosines, backgrounds[rows], backgrounds[to])):
            sides = thumbnails[rows[position]], thumbnails[to[position]]
            aligned[position] = alignment(*sides, rule.enough(cosines[position]))
    return rule.matches(cosines, backgrounds[rows], backgrounds[to], aligned), cosines


def pairs_of_rows(vectors: Vectors, left: Ids, right: Ids) -> Values:
    """cosine_pairs of rows of vectors. left, right: (m,) int64 rows. Returns (m,) float64."""
    cosines = np.empty(len(left), np.float64)
    step = max(1, NUMBERS_AT_ONCE // max(1, vectors.shape[1]))
    for at in range(0, len(left), step):
        part = slice(at, at + step)
        cosines[part] = cosine_pairs(vectors[left[part]], vectors[right[part]])
    return cosines
