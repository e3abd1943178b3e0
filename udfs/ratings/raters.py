"""Heads for each of many raters in one pass: what all have in common, and what of it is otherwise for each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from udfs.ratings import crossval, linear
from udfs.ratings.fitting import Fitted, Judged
from udfs.ratings.heads import Head, Layer, Raters
from udfs.ratings.linear import RATING, Examples
from udfs.ratings.space import Space

STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0, 100.0)  # how much a rater may differ from all, from much to next to nothing
ASKED = 200  # raters by whom the strength is chosen
LEAST_TO_ASK = 4  # judgements of such a rater


@dataclass(frozen=True)
class Personal:
    """raters: what each adds. strength: that was chosen. gained: how much lower the held-out loss of judgements is
    than by the general head alone, as a share; 0 where it is not."""

    raters: Raters
    strength: float
    gained: float


def fit(judged: Judged, rater_of: NDArray[np.int64], names: list[str], general: Fitted, space: Space) -> Personal:
    """rater_of: (n,) the rater of each judgement, places of names. general: fitted to all of them.

    A rater's weights are those of all and a part of his own, that ridge holds back: a hierarchical model with one
    variance for all raters, chosen by the held-out judgements of some of them. What `general` says of a judgement is
    its held-out score, so that no rater is learnt from what he has said himself."""
    head = general.head
    rows = space.rows(judged.vectors)
    if judged.others is not None:
        rows = rows - space.rows(judged.others)
    unit = float(np.std(judged.targets)) if judged.kind == RATING else 1.0
    held = general.held
    own = head.raw(judged.vectors, judged.properties)
    if judged.others is not None:
        own = own - head.raw(judged.others, judged.other_properties)
    known = np.where(np.isnan(held), own, held)
    examples = Examples(judged.kind, rows, judged.targets / unit, judged.weights, known / unit, judged.groups)
    order = np.argsort(rater_of, kind="stable")
    starts = np.searchsorted(rater_of[order], np.arange(len(names) + 1))
    parts = [order[start:end] for start, end in pairwise(starts.tolist())]
    strength, gained = _chosen(examples, parts)
    dimension = rows.shape[1]
    weights, offsets = np.zeros((len(names), dimension), np.float32), np.zeros(len(names), np.float32)
    for place, part in enumerate(parts):
        if len(part) and np.isfinite(strength):
            found = linear.fit(examples.of(part), strength)
            weights[place] = found.weights * unit / space.scale
            offsets[place] = found.offset * unit - float(weights[place].astype(np.float64) @ space.mean)
    return Personal(Raters(tuple(names), weights, offsets), strength, gained)


def _chosen(examples: Examples, parts: list[NDArray[np.int64]]) -> tuple[float, float]:
    """The strength of the lowest held-out loss over some raters, infinite where nothing is gained; and what is."""
    able = [part for part in parts if len(part) >= LEAST_TO_ASK][:ASKED]
    if not able:
        return STRENGTHS[-2], 0.0
    losses = dict.fromkeys(STRENGTHS, 0.0)
    alone, count = 0.0, 0
    for part in able:
        one = examples.of(part)
        alone += crossval.loss(one, one.known) * len(part)
        count += len(part)
        for strength in STRENGTHS:
            losses[strength] += crossval.loss(one, crossval.held_out(one, one.rows, strength, 1).scores) * len(part)
    best = min(losses, key=lambda strength: losses[strength])
    if losses[best] >= alone:
        return float("inf"), 0.0
    return best, 1 - losses[best] / alone


def with_raters(head: Head, raters: Raters) -> Head:
    return replace(head, raters=raters)


def of_rater(head: Head, name: str) -> Head:
    """A rater's own head; the general one for a rater who is not known."""
    if head.raters is None or name not in head.raters.names:
        return head
    place = head.raters.names.index(name)
    general = head.layers[0]
    layer = Layer(general.weights + head.raters.weights[place], general.bias + head.raters.offsets[place])
    return replace(head, layers=(layer,), raters=None)
