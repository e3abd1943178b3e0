"""Groups of near-duplicates among a few thousand vectors, in memory, while a person waits.

    from udfs.vectors.similarity import group
    found = group(vectors, "medium", quality=pixels)
    to_show = found.keeper == np.arange(len(vectors))

The answer is that of the pipeline's clusters for a rule of cosines alone. It needs numpy and scipy, but no Spark."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from udfs.vectors.components import label_components
from udfs.vectors.cosine import Ids, Values, Vectors, cosine_pairs
from udfs.vectors.keepers import FLOAT32_SLACK, in_components, pairs_of_rows

# Cosines for the vectors of models.DEFAULT, found by `python -m tests.bench.edits`; see group.
THRESHOLDS = {"low": 0.65, "medium": 0.75, "high": 0.85}
MAX_ROWS = 10_000  # 1 s on a core at 512 numbers each; time grows with the square
KEEPER_SLACK = 0.12  # two edits of a picture are further from one another than from it
BLOCK = 128  # rows multiplied at once
WIDE_BLOCK = 512  # likewise, where all products are wanted at once
MAX_PAIRS = 1 << 21  # that are kept to be grouped again: 42 MB
EDGES_AT_ONCE = 1 << 16  # kept before they are reduced to components; then few are new
NORM_SLACK = 1e-3  # vectors of norm 1 that were rounded to float16 are taken as they are, as the pipeline does


class Groups(NamedTuple):
    """The groups of n images.

    cluster: (n,) int64 from 0, numbered by their first rows. keeper: (n,) int64, the row that stands for its cluster.
    cosine: (n,) float64 in [-1, 1], to the keeper. An image like no other has a cluster of its own, is its own keeper,
    and its cosine is 1."""

    cluster: Ids
    keeper: Ids
    cosine: Values


def group(
    vectors: npt.ArrayLike,
    threshold: str | float = "medium",
    quality: npt.ArrayLike | None = None,
    keeper_slack: float = KEEPER_SLACK,
) -> Groups:
    """Groups the near-duplicates among a few thousand images.

    vectors: (n, d) numbers, n up to MAX_ROWS, of any length but 0. threshold: a cosine in (0, 1], or a name for the
    default model. quality: (n,), the highest is the best image, of equal ones the first row; without it the first row
    is the best. Images whose cosine reaches the threshold are linked; among linked ones the best becomes a
    keeper and takes all whose cosine with it is at most keeper_slack below the threshold, then the best of the rest,
    and so on: no chain a ~ b ~ c joins what is unlike.

    The names, for 2,100 edits of 300 photographs and 2,870,400 pairs of different photographs (and, for an album of few
    subjects, 12,497,500 pairs of small images of ten subjects, some of them true copies):

    | name | cosine | edits linked to their original | pairs of different photographs | of few subjects |
    | low | 0.65 | 99.2 % | 1.4 in a million | 19,000 in a million |
    | medium | 0.75 | 96.0 % | none | 780 in a million |
    | high | 0.85 | 86.1 % | none | 6 in a million |

    With their original in one cluster: 99.3, 97.2 and 88.3 % of the edits, and no two different photographs
    (`python -m tests.bench.clusters`, group_levels). For another model, give a cosine: no two mean the same by one.
    Raises ValueError for vectors that are not (n, d) numbers, are too many, zero or not finite, and for a threshold,
    quality or slack out of range."""
    at_least = cosine_of(threshold)
    if not 0 <= keeper_slack <= 1:
        raise ValueError(f"keeper_slack must be 0..1, got {keeper_slack}")
    rows = _unit(vectors)
    order = best_first(quality, len(rows))
    return around_best(rows.__getitem__, _components(rows, at_least), order, at_least - keeper_slack)


class Pairs(NamedTuple):
    """Pairs of n rows, left < right, each (p,) int64, and their float32 products, (p,): all whose cosine reaches
    `least`, and perhaps a few that hardly miss it."""

    left: Ids
    right: Ids
    product: npt.NDArray[np.float32]
    least: float


class Compared:
    """Some thousands of vectors that are compared once and grouped often: by other thresholds, by another quality.
    The answers are those of group()."""

    def __init__(self, vectors: npt.ArrayLike, pairs: Pairs | None = None) -> None:
        """vectors: as group() takes them. pairs: of them, where they are known; else they are found when they are
        asked for. Raises ValueError."""
        self._all = _unit(vectors)
        self._pairs = pairs

    def group(self, threshold: str | float = "medium", quality: npt.ArrayLike | None = None) -> Groups:
        """See group()."""
        at_least = cosine_of(threshold)
        order = best_first(quality, len(self._all))
        return around_best(self._all.__getitem__, self._linked(at_least), order, at_least - KEEPER_SLACK)

    def _linked(self, at_least: float) -> Ids:
        """The component of each row."""
        if self._pairs is None or at_least < self._pairs.least:
            self._pairs = near_pairs(self._all, min(at_least, *THRESHOLDS.values()))
        if self._pairs is None:  # more than are kept
            return _components(self._all, at_least)
        left, right, products, _ = self._pairs
        keep = products >= np.float32(at_least + FLOAT32_SLACK)
        is_open = np.flatnonzero((products >= np.float32(at_least - FLOAT32_SLACK)) & ~keep)
        if len(is_open):
            keep[is_open] = cosine_pairs(self._all[left[is_open]], self._all[right[is_open]]) >= at_least
        component = np.arange(len(self._all))
        nodes, joined = label_components(left[keep], right[keep])
        component[nodes] = joined
        return component


def around_best(rows: Callable[[Ids], Vectors], component: Ids, order: Ids, least: float) -> Groups:
    """Clusters around the best of each component. rows: of norm 1, by their numbers. component: (n,). order: (n,) the
    rows, the best first. least: the cosine to a keeper. What is alone in its component is not looked at."""
    _, place, sizes = np.unique(component, return_inverse=True, return_counts=True)
    linked = order[sizes[place[order]] > 1]
    kept = in_components(rows(linked), component[linked], least)
    keeper, cosine = np.arange(len(order)), np.ones(len(order))
    keeper[linked], cosine[linked] = linked[kept.keeper], kept.cosine
    _, first, cluster = np.unique(keeper, return_index=True, return_inverse=True)
    return Groups(np.argsort(np.argsort(first))[cluster], keeper, cosine)


def cosine_of(threshold: str | float) -> float:
    """The cosine that a threshold stands for. Raises ValueError."""
    if isinstance(threshold, str):
        if threshold not in THRESHOLDS:
            raise ValueError(f"threshold must be a cosine or one of {', '.join(THRESHOLDS)}, got {threshold!r}")
        return THRESHOLDS[threshold]
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be over 0 and at most 1, got {threshold}")
    return float(threshold)


def _unit(vectors: npt.ArrayLike) -> Vectors:
    """(n, d) float32, rows of norm 1."""
    given = np.asarray(vectors)
    if given.ndim == 1 and not given.size:
        given = given.reshape(0, 0)
    if given.ndim != 2 or given.dtype.kind not in "fiu":
        raise ValueError(f"vectors must be (n, d) numbers, got shape {given.shape} of {given.dtype}")
    if len(given) > MAX_ROWS:
        raise ValueError(f"vectors must be at most {MAX_ROWS}, got {len(given)}: use the pipeline")
    # What is nearly of norm 1 is taken as it is: a float32 sum tells that, and no number need be widened.
    with np.errstate(over="ignore", invalid="ignore"):
        rows = widened(given) if given.dtype == np.float16 else given.astype(np.float32)
        near = np.abs(np.sqrt(np.einsum("nd,nd->n", rows, rows)) - 1) < NORM_SLACK / 2
    if near.all():
        return rows
    exact = given.astype(np.float64)
    norms = np.sqrt(np.einsum("nd,nd->n", exact, exact))
    bad = np.flatnonzero(~np.isfinite(norms) | (norms == 0))
    if len(bad):
        raise ValueError(f"vectors must be finite and not zero, row {bad[0]} is not ({len(bad)} such rows)")
    scale = np.where(np.abs(norms - 1) > NORM_SLACK, 1 / norms, 1.0)
    return np.asarray(exact * scale[:, np.newaxis], np.float32)


def widened(halves: npt.NDArray[np.float16], room: Vectors | None = None) -> Vectors:
    """float16 as float32, in less than half the time of astype(): sign, exponent and fraction are shifted to where
    float32 has them, and a factor puts the bias of the exponent right. What is not finite becomes 65,536 or more.
    room: of the same shape, where it is put; fresh memory costs as much time as the work."""
    found = np.empty(halves.shape, np.float32) if room is None else room
    bits = found.view(np.int32)
    bits[...] = np.ascontiguousarray(halves).view(np.int16)
    bits <<= 13
    bits &= ~(7 << 28)  # copies of the sign
    found *= np.float32(2.0**112)
    return found


def best_first(quality: npt.ArrayLike | None, count: int) -> Ids:
    """The rows, the best first."""
    if quality is None:
        return np.arange(count)
    values = np.asarray(quality)
    if values.shape != (count,) or values.dtype.kind not in "fiub" or np.isnan(values).any():
        raise ValueError(f"quality must be {count} numbers, none of them NaN, got shape {values.shape}")
    return count - 1 - np.argsort(values[::-1], kind="stable")[::-1]


def near_pairs(rows: Vectors, least: float, others: Vectors | None = None, most: int = MAX_PAIRS) -> Pairs | None:
    """The pairs of rows, (n, d) of norm 1, whose cosine reaches `least`; with others, (m, d), those of a row and one of
    them. None where they are more than `most`."""
    lowest = np.float32(least - FLOAT32_SLACK)
    found: list[tuple[Ids, Ids, npt.NDArray[np.float32]]] = []
    count = 0
    for at in range(0, len(rows), WIDE_BLOCK):
        products = rows[at : at + WIDE_BLOCK] @ (rows[at:] if others is None else others).T
        near = np.flatnonzero(products >= lowest)
        left, right = np.divmod(near, products.shape[1])
        values = products.ravel()[near]
        if others is None:
            half = left < right
            left, right, values = left[half], right[half] + at, values[half]
        found.append((left + at, right, values))
        count += len(left)
        if count > most:
            return None
    nothing = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
    left, right, values = (np.concatenate(parts) for parts in zip(nothing, *found, strict=True))
    return Pairs(left, right, values, least)


def _components(rows: Vectors, threshold: float) -> Ids:
    """The component of each row, its lowest row, in the graph of pairs whose cosine reaches the threshold.

    Only where a float32 product leaves it open is a cosine computed."""
    lowest, highest = np.float32(threshold - FLOAT32_SLACK), np.float32(threshold + FLOAT32_SLACK)
    component = np.arange(len(rows))
    sources: list[Ids] = []
    targets: list[Ids] = []
    waiting = 0
    for at in range(0, len(rows), BLOCK):
        products = rows[at : at + BLOCK] @ rows[at:].T  # one half of all pairs, and a little of the other
        found = np.flatnonzero(products >= lowest)
        left, right = np.divmod(found, products.shape[1])
        new = (left < right) & (component[left + at] != component[right + at])
        is_open = products.ravel()[found[new]] < highest
        left, right = left[new] + at, right[new] + at
        keep = ~is_open
        keep[is_open] = pairs_of_rows(rows, left[is_open], right[is_open]) >= threshold
        sources.append(left[keep])
        targets.append(right[keep])
        waiting += int(keep.sum())
        if waiting > EDGES_AT_ONCE or at + BLOCK >= len(rows):
            known = np.flatnonzero(component < np.arange(len(rows)))
            nodes, joined = label_components(
                np.concatenate([*sources, known]), np.concatenate([*targets, component[known]])
            )
            component[nodes] = joined
            sources, targets, waiting = [], [], 0
    return component
