"""How well scores rank pictures that a fit has not seen, each figure with an interval that holds for new pictures.

AUC: the interval of Newcombe (Statistics in Medicine, 2006, method 5), which stays honest near 1. Average precision: on
the scale of log-odds (Boyd, Eng and Page, ECML 2013). Spearman and Kendall: on Fisher's scale, with the variances of
Bonett and Wright (Psychometrika, 2000) and of Fieller, Hartley and Pearson (Biometrika, 1957). A share: Wilson's.
Of held-out folds the fits share most of what they have seen, and so their errors: as many pictures count there for
fewer, by the correction of Nadeau and Bengio (Machine Learning, 2003); and each interval is widened by how much the
figure differs between dealings of the folds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from udfs.ratings.crossval import FOLDS, PAIR_FOLDS, HeldOut, is_split
from udfs.ratings.linear import BETTER, RATING, Examples, Numbers
from udfs.vectors.recall import Z, wilson

SPEARMAN, KENDALL, AUC, PRECISION, RIGHT = "spearman", "kendall", "auc", "average_precision", "pairs_right"
OF_KIND = {RATING: (SPEARMAN, KENDALL), "picked": (AUC, PRECISION), BETTER: (RIGHT,)}


@dataclass(frozen=True)
class Figure:
    """A figure of held-out pictures and where it lies on new ones, with 95 % confidence. chance: what scores that know
    nothing reach."""

    name: str
    value: float
    low: float
    high: float
    chance: float


def figures(examples: Examples, held: HeldOut) -> list[Figure]:
    """The figures of the kind of examples. Those that no fold could ask are left out."""
    scores = held.mean
    there = ~np.isnan(scores)
    found = []
    for name in OF_KIND[examples.kind]:
        measure = MEASURES[name]
        value = measure(examples.targets[there], scores[there])
        each = [
            measure(examples.targets[known], row[known])
            for row in held.scores
            if (known := ~np.isnan(row)).sum() >= 2 and _varies(name, examples.targets[known])
        ]
        folds = float(np.std(each)) if len(each) > 1 else 0.0
        found.append(_figure(name, value, examples.targets[there], folds, _counts_for(examples)))
    return found


def figure_of(name: str, targets: Numbers, scores: Numbers) -> Figure:
    """A figure of scores that were not learnt from these targets."""
    return _figure(name, MEASURES[name](targets, scores), targets, 0.0, 1.0)


def _counts_for(examples: Examples) -> float:
    """The share of a picture that each held-out one counts for: 1 / k of variance becomes 1 / k + 1 / (k - 1)."""
    folds = PAIR_FOLDS if is_split(examples) else FOLDS
    return 1 / (1 + folds / (folds - 1))


def figure_at(name: str, value: float, targets: Numbers, count: int) -> tuple[float, float]:
    """The interval of a figure of `count` targets that are like these."""
    some = np.sort(targets)[np.linspace(0, len(targets) - 1, count).round().astype(int)]
    return _INTERVALS[name](value, some, 0.5)


def _varies(name: str, targets: Numbers) -> bool:
    return name == RIGHT or float(np.ptp(targets)) > 0


def _figure(name: str, value: float, targets: Numbers, folds: float, counts_for: float) -> Figure:
    low, high = _INTERVALS[name](value, targets, counts_for)
    # Two errors that do not depend on one another.
    return Figure(
        name, value, max(_LEAST.get(name, 0.0), value - math.hypot(value - low, Z * folds)),
        min(1.0, value + math.hypot(high - value, Z * folds)), chance(name, targets),
    )  # fmt: skip


def chance(name: str, targets: Numbers) -> float:
    """What the order of no knowledge reaches, on average."""
    return {AUC: 0.5, RIGHT: 0.5, PRECISION: float(np.mean(targets > 0.5))}.get(name, 0.0)


def auc(targets: Numbers, scores: Numbers) -> float:
    """The chance that a picked picture has the higher score of two; of equal scores half. 0.5 where one kind lacks."""
    from scipy.stats import rankdata

    yes = targets > 0.5
    many, few = int(yes.sum()), int((~yes).sum())
    if not many or not few:
        return 0.5
    return float((rankdata(scores)[yes].sum() - many * (many + 1) / 2) / (many * few))


def average_precision(targets: Numbers, scores: Numbers) -> float:
    """The mean precision at the rank of each picked picture; of equal scores in the order least good."""
    yes = targets > 0.5
    order = np.lexsort((yes, -scores))
    hits = yes[order]
    if not hits.any():
        return 0.0
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(precision[hits].mean())


def spearman(targets: Numbers, scores: Numbers) -> float:
    """0 where one of them is always the same."""
    from scipy.stats import rankdata

    ranks = rankdata(targets), rankdata(scores)
    if min(float(np.ptp(each)) for each in ranks) == 0:
        return 0.0
    return float(np.corrcoef(*ranks)[0, 1])


def kendall(targets: Numbers, scores: Numbers) -> float:
    """Tau-b; 0 where one of them is always the same."""
    from scipy.stats import kendalltau

    found = float(kendalltau(targets, scores).statistic)
    return 0.0 if math.isnan(found) else found


def pairs_right(_: Numbers, scores: Numbers) -> float:
    """The share of pairs in the right order; of equal scores half. scores: of the better less of the worse."""
    return float(np.mean((scores > 0) + 0.5 * (scores == 0)))


MEASURES: dict[str, Callable[[Numbers, Numbers], float]] = {
    SPEARMAN: spearman, KENDALL: kendall, AUC: auc, PRECISION: average_precision, RIGHT: pairs_right,
}  # fmt: skip


def _auc_interval(value: float, targets: Numbers, counts_for: float) -> tuple[float, float]:
    """Where |value - t| = Z * standard error that Hanley and McNeil (Radiology, 1982) give for t."""
    yes = counts_for * float((targets > 0.5).sum())
    no = counts_for * len(targets) - yes
    if not yes or not no:
        return 0.0, 1.0
    share = max((yes + no) / 2 - 1, 0.0)

    def error(t: float) -> float:
        both = 1 + share * ((1 - t) / (2 - t) + t / (1 + t))
        return math.sqrt(t * (1 - t) * both / (yes * no))

    return _crossing(value, error, 0.0), _crossing(value, error, 1.0)


def _crossing(value: float, error: Callable[[float], float], end: float) -> float:
    """The t between the value and the end of its range at which the value is Z errors away; by bisection."""
    near, far = value, end
    for _ in range(60):
        middle = (near + far) / 2
        if abs(value - middle) < Z * error(middle):
            near = middle
        else:
            far = middle
    return (near + far) / 2


def _precision_interval(value: float, targets: Numbers, counts_for: float) -> tuple[float, float]:
    yes = max(counts_for * float((targets > 0.5).sum()), 1.0)
    # One more hit and one more miss (Agresti and Coull): 1 has log-odds too.
    middle = (value * yes + 1) / (yes + 2)
    centre, half = math.log(middle / (1 - middle)), Z / math.sqrt((yes + 2) * middle * (1 - middle))
    return _odds(centre - half), _odds(centre + half)


def _odds(value: float) -> float:
    return 1 / (1 + math.exp(-value))


Interval = Callable[[float, Numbers, float], tuple[float, float]]


def _fisher(variance: Callable[[float, int], float]) -> Interval:
    def interval(value: float, targets: Numbers, counts_for: float) -> tuple[float, float]:
        centre = math.atanh(min(max(value, -0.9999), 0.9999))
        half = Z * math.sqrt(variance(value, len(targets)) / counts_for)
        return math.tanh(centre - half), math.tanh(centre + half)

    return interval


_LEAST = {SPEARMAN: -1.0, KENDALL: -1.0}
_INTERVALS: dict[str, Interval] = {
    SPEARMAN: _fisher(lambda value, n: (1 + value**2 / 2) / max(n - 3, 1)),
    KENDALL: _fisher(lambda _, n: 0.437 / max(n - 4, 1)),
    AUC: _auc_interval,
    PRECISION: _precision_interval,
    RIGHT: lambda value, targets, counts_for: wilson(value, max(counts_for * len(targets), 1.0)),
}
