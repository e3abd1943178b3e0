"""Clusters around keepers: each member is close to the image that its cluster keeps, and what it shows is the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from udfs.vectors.cosine import Ids, Values, Vectors, cosines_of

FLOAT32_SLACK = 1e-5  # by which a float32 product of two rows of norm 1 may differ from their cosine, and more
MAX_BLOCK = 256  # rows multiplied at once with all that are left: 256 x 8192 float32 are 8 MB
NUMBERS_AT_ONCE = 1 << 16  # of vectors compared in float64 at once: they stay in the processor's cache
SMALL = 32  # images of a component up to which it is compared together with other such ones
# How often an image is looked at beside would-be keepers that it does not match, before only those are tried that are
# among its nearest: in a component of thousands that share a template, else all pairs would be looked at.
FREE_LOOKS = 3
NEAREST = 4


class Seen(NamedTuple):
    """What a second look at an image and a would-be keeper tells. same: whether they show the same. relation: bits of
    udfs.images.relations. better: whether the image is to be kept in place of the keeper. agreement: -1..1, how well
    their detail agrees, place by place."""

    same: bool
    relation: int
    better: bool
    agreement: float


Look = Callable[[int, int], Seen]  # of the rows of an image and of a keeper


@dataclass
class Kept:
    """Clusters of n rows. keeper: (n,) int64, the row of each one's keeper, its own of a keeper; -1: none took it.
    cosine: (n,) float64 to it, NaN where there is none. relation: (n,) int64 bits to it, 0 of a keeper and where nobody
    looked. agreement: (n,) float64 with it, of Seen, 1 of a keeper and where nobody looked.

    other: (n,) int64, the nearest would-be keeper that shows something else, -1 where there is none; other_cosine,
    other_relation, other_agreement: likewise. untried: (n,) int64, would-be keepers that were not looked at for
    FREE_LOOKS."""

    keeper: Ids
    cosine: Values
    relation: Ids
    agreement: Values
    other: Ids
    other_cosine: Values
    other_relation: Ids
    other_agreement: Values
    untried: Ids

    @classmethod
    def of(cls, count: int) -> Kept:
        none = np.zeros(count, np.int64)
        ones, far = np.ones(count, np.float64), np.full(count, -2.0)
        return cls(
            np.arange(count), ones, none, ones.copy(), none - 1, far, none.copy(), ones.copy(), none.copy()
        )  # fmt: skip

    def put(self, rows: Ids, found: Kept) -> None:
        """Writes what was found among some of the rows in their places."""
        for field in fields(self):
            values = getattr(found, field.name)
            if field.name in ("keeper", "other"):
                values = np.where(values >= 0, rows[values], -1)
            getattr(self, field.name)[rows] = values


def around_keepers(vectors: Vectors, least: float, look: Look | None = None, given: int | None = None) -> Kept:
    """Clusters in which each member is close to its keeper.

    vectors: (n, d) float32, rows of norm 1, the best image first. least: the cosine to a keeper. The best image that
    has no cluster yet becomes a keeper and takes all that are left, near enough, and show the same by a second look;
    and so on. look: without it the cosine decides alone. An image that is better than its keeper takes its place.
    given: only so many of the first rows may be keepers; what they do not take has -1 and no cosine."""
    kept = Kept.of(len(vectors))
    may_keep = len(vectors) if given is None else given
    at_least = np.float32(least - FLOAT32_SLACK)
    free = np.ones(len(vectors), np.bool_)
    rounds = _Round(vectors, least, look, kept)
    left, block = np.arange(len(vectors)), 1
    while len(best := left[: min(block, int(np.searchsorted(left, may_keep)))]):
        products = vectors[best] @ vectors[left].T
        for position, row in enumerate(best):
            if not free[row]:
                continue
            near = left[products[position] >= at_least]
            keeper, taken = rounds.taken(int(row), near[free[near] & (near != row)])
            if keeper != row and given is None:
                others = left[free[left] & (left != keeper)]
                again = others[vectors[others] @ vectors[keeper] >= at_least]
                keeper, taken = rounds.taken(keeper, again, is_last=True)
            kept.keeper[taken], free[taken], free[keeper] = keeper, False, False
            # It may have been looked at as a member.
            kept.cosine[keeper] = kept.agreement[keeper] = 1.0
            kept.relation[keeper] = 0
        left = left[free[left]]
        block = min(2 * block, MAX_BLOCK)  # where the first one takes all, no others are multiplied
    kept.keeper[left], kept.cosine[left] = -1, np.nan
    return kept


def in_components(vectors: Vectors, components: Ids, least: float, look: Look | None = None) -> Kept:
    """As around_keepers, with clusters inside components. components: (n,) int64, the component of each row."""
    kept = Kept.of(len(vectors))
    left = np.argsort(components, kind="stable")
    of = components[left]
    starts = np.flatnonzero(np.append(True, of[1:] != of[:-1])) if len(of) else left
    sizes = np.diff(np.append(starts, len(of)))
    alone = sizes > (SMALL if look is None else 1)
    for at, size in zip(starts[alone], sizes[alone], strict=True):
        rows = left[at : at + size]
        kept.put(rows, around_keepers(vectors[rows], least, _of_rows(look, rows)))
    left = left[np.repeat(~alone, sizes)]
    while len(left):  # in each round, the best that is left of each component
        of = components[left]
        is_first = np.append(True, of[1:] != of[:-1])
        to = left[is_first][np.cumsum(is_first) - 1][~is_first]
        rows = left[~is_first]
        cosines = pairs_of_rows(vectors, rows, to)
        taken = cosines >= least
        kept.keeper[rows[taken]], kept.cosine[rows[taken]] = to[taken], cosines[taken]
        left = rows[~taken]
    return kept


def _of_rows(look: Look | None, rows: Ids) -> Look | None:
    return None if look is None else lambda row, to: look(int(rows[row]), int(rows[to]))


class _Round:
    """Chooses which images a would-be keeper takes."""

    def __init__(self, vectors: Vectors, least: float, look: Look | None, kept: Kept) -> None:
        self.vectors, self.least, self.look, self.kept = vectors, least, look, kept
        self.refused = np.zeros(len(vectors), np.int64)
        self.nearest: Values | None = None

    def taken(self, keeper: int, rows: Ids, is_last: bool = False) -> tuple[int, Ids]:
        """Which of the rows the keeper takes, with what is known of them in `kept`. Returns the keeper, or in its place
        a row that is better, unless is_last; and the rows that it takes."""
        to = np.full_like(rows, keeper)
        cosines = pairs_of_rows(self.vectors, rows, to)
        near = cosines >= self.least
        rows, cosines = rows[near], cosines[near]
        if self.look is None:
            self.kept.cosine[rows] = cosines
            return keeper, rows
        taken = []
        for row, cosine in zip(rows.tolist(), cosines.tolist(), strict=True):
            if self.refused[row] >= FREE_LOOKS and cosine < self._nearest()[row]:
                self.kept.untried[row] += 1
                continue
            seen = self.look(row, keeper)
            if not seen.same:
                self.refused[row] += 1
                if cosine > self.kept.other_cosine[row]:
                    self.kept.other[row], self.kept.other_cosine[row] = keeper, cosine
                    self.kept.other_relation[row], self.kept.other_agreement[row] = seen.relation, seen.agreement
                continue
            if seen.better and not is_last:
                return row, np.empty(0, np.int64)
            self.kept.cosine[row], self.kept.relation[row] = cosine, seen.relation
            self.kept.agreement[row] = seen.agreement
            taken.append(row)
        return keeper, np.array(taken, np.int64)

    def _nearest(self) -> Values:
        """(n,) float64: the cosine of each row with the last of its NEAREST neighbours."""
        if self.nearest is None:
            count = len(self.vectors)
            last = max(0, count - 1 - NEAREST)  # each is its own nearest
            self.nearest = np.empty(count)
            for at in range(0, count, MAX_BLOCK):
                products = self.vectors[at : at + MAX_BLOCK] @ self.vectors.T
                self.nearest[at : at + MAX_BLOCK] = np.partition(products, last, axis=1)[:, last] - FLOAT32_SLACK
        return self.nearest


def pairs_of_rows(vectors: Vectors, left: Ids, right: Ids) -> Values:
    """cosine_pairs of rows of vectors. left, right: (m,) int64 rows. Returns (m,) float64."""
    at_once = max(1, NUMBERS_AT_ONCE // max(1, vectors.shape[1]))
    return cosines_of(lambda rows: vectors[rows], left, right, at_once)
