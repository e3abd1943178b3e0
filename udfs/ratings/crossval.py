"""How strongly weights are held back, and what held-out folds say: cross-validation that splits no group."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from udfs.ratings.linear import PICKED, RATING, Examples, Numbers, expit, fit

FOLDS, PAIR_FOLDS = 10, 3  # of pairs the held-out ones lie in one fold with both pictures, and 3 keep a third of them
REPEATS, PAIR_REPEATS = 3, 6  # dealings of few examples, of which each alone is chance
FEW = 400  # examples up to which they are dealt more than once
# For rows whose mean square over the lake is 1. A stronger prior ranks by the mean of each kind alone, and pooled folds
# then say too little of it (Airola et al., Computational Statistics and Data Analysis, 2011).
STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
USUAL, SPREAD = 0.3, 1.0  # strength that is believed without examples, and the standard deviation of its logarithm
MOST_TO_CHOOSE = 3000  # examples by which the strength is chosen


@dataclass(frozen=True)
class HeldOut:
    """Of each example what fits say that have seen neither it nor its group: (repeats, n), nan where none could."""

    scores: Numbers

    @property
    def mean(self) -> Numbers:
        """(n,), nan where none could."""
        known = ~np.isnan(self.scores)
        sums = np.where(known, self.scores, 0.0).sum(axis=0)
        return np.where(known.any(axis=0), sums / np.maximum(known.sum(axis=0), 1), np.nan)


def folds_of(examples: Examples, seed: int) -> NDArray[np.int64]:
    """(n, 2) the folds of the two groups of each example; alike in their targets.

    Groups are dealt in blocks, ordered by their mean target and, of equal ones, by chance."""
    folds = PAIR_FOLDS if is_split(examples) else FOLDS
    names, group = np.unique(examples.groups, return_inverse=True)
    group = group.reshape(examples.groups.shape)
    means = np.bincount(group[:, 0], examples.targets, len(names)) / np.maximum(
        np.bincount(group[:, 0], None, len(names)), 1
    )
    draw = np.random.default_rng(seed)
    order = np.lexsort((draw.permutation(len(names)), means))
    fold = np.empty(len(names), np.int64)
    for start in range(0, len(names), folds):
        part = order[start : start + folds]
        fold[part] = draw.permutation(folds)[: len(part)]
    return np.asarray(fold[group])


def is_split(examples: Examples) -> bool:
    """Whether there are pairs of two groups."""
    return bool((examples.groups[:, 0] != examples.groups[:, 1]).any())


def held_out(learnt: Examples, asked: Numbers, strength: float, repeats: int) -> HeldOut:
    """learnt: with the rows that are learnt from. asked: (n, d) the rows of the same examples as they are scored.

    All folds of a dealing get the mean of their offsets: that of a fold is high where the targets left out are low, and
    ranks of all folds together would else be too bad, the more so the stronger the prior."""
    learnt, asked = _shortened(learnt, asked)
    found = np.full((repeats, len(learnt)), np.nan)
    for repeat in range(repeats):
        dealt = folds_of(learnt, 17 * repeat)
        offsets = []
        for fold in range(int(dealt.max()) + 1):
            own, free = (dealt == fold).all(axis=1), (dealt != fold).all(axis=1)
            if own.any() and free.any():
                of_fold = fit(learnt.of(free), strength)
                found[repeat, own] = asked[own] @ of_fold.weights
                offsets.append(of_fold.offset)
        found[repeat] += np.mean(offsets) if offsets else 0.0
    return HeldOut(found + learnt.known)


def _shortened(learnt: Examples, asked: Numbers) -> tuple[Examples, Numbers]:
    """The same in the directions of these rows alone, where they are fewer than their numbers."""
    if 2 * len(asked) >= asked.shape[1]:
        return learnt, asked
    basis, _ = np.linalg.qr(np.vstack([learnt.rows, asked]).T)
    return replace(learnt, rows=learnt.rows @ basis), asked @ basis


def loss(examples: Examples, scores: Numbers) -> float:
    """Mean squared error of a number, mean negative log-likelihood otherwise, where there is a score. scores: (n,) or
    (repeats, n)."""
    return float(np.nanmean(_losses(examples, scores)))


def standard_error(examples: Examples, scores: Numbers) -> float:
    """Of the loss; scores: (repeats, n)."""
    each = _losses(examples, scores)
    of_each = np.nanmean(each[:, ~np.isnan(each).all(axis=0)], axis=0)
    return float(of_each.std() / np.sqrt(max(len(of_each), 1)))


def _losses(examples: Examples, scores: Numbers) -> Numbers:
    if examples.kind == RATING:
        each = (examples.targets - scores) ** 2
    else:
        each = np.logaddexp(0, np.nan_to_num(scores)) - examples.targets * scores
    return np.asarray(each * examples.weights)


def choose(rows: Numbers, asked: Numbers, examples: Examples, repeats: int) -> float:
    """The strength. rows: (n, k) that are learnt from; asked: (n, k).

    Of numbers the strength that the held-out folds like best. Of yes and no the likeliest: by what the held-out folds
    say of all examples, and by a log-normal prior, for of few answers, some of them slips, folds say little."""
    if len(examples) > MOST_TO_CHOOSE:
        some = np.random.default_rng(0).permutation(len(examples))[:MOST_TO_CHOOSE]
        rows, asked, examples = rows[some], asked[some], examples.of(some)
    learnt, asked = _shortened(replace(examples, rows=rows), asked)
    found = {}
    for strength in STRENGTHS:
        told = loss(examples, held_out(learnt, asked, strength, repeats).scores)
        if examples.kind != RATING:
            told += 0.5 * (math.log(strength / USUAL) / SPREAD) ** 2 / len(examples)
        found[strength] = told
    return min(found, key=lambda strength: (found[strength], -strength))


def repeats_for(examples: Examples) -> int:
    """How often few examples are dealt."""
    if len(examples) > FEW:
        return 1
    return PAIR_REPEATS if is_split(examples) else REPEATS


def calibrated(examples: Examples, held: HeldOut) -> tuple[float, float]:
    """Slope and offset that make a probability of held-out log-odds: p = expit(slope * score + offset), by logistic
    regression with Platt's targets (Platt, 1999), which are never quite 0 or 1. The slope is above 0."""
    if examples.kind != PICKED:
        raise ValueError("only picks are probabilities")
    scores = held.mean
    yes = float((examples.weights * examples.targets).sum())
    no = float(examples.weights.sum()) - yes
    targets = np.where(examples.targets > 0.5, (yes + 1) / (yes + 2), 1 / (no + 2))
    rows = np.column_stack([scores, np.ones(len(scores))])
    found = np.array([1.0, 0.0])
    held_at = np.array([1.0, 0.0])
    pull = np.diag([0.01, 0.01])  # next to nothing: it keeps the two numbers finite
    for _ in range(50):
        likely = expit(rows @ found)
        slope = rows.T @ (examples.weights * (likely - targets)) + pull @ (found - held_at)
        curved = (rows * (examples.weights * likely * (1 - likely))[:, None]).T @ rows + pull
        step = np.linalg.solve(curved, slope)
        found = found - step
        if np.abs(step).max() < 1e-9:
            break
    return min(max(float(found[0]), 0.05), 50.0), float(found[1])
