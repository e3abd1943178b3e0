"""How many of the true neighbours a search has found, with its confidence interval, and what would find more."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Z = 1.96  # of a 95 % interval


@dataclass(frozen=True)
class Share:
    """A share found, 0..1, and its 95 % confidence interval. of: how many there were to find; 0 makes it 1 (0..1)."""

    value: float
    low: float
    high: float
    of: int

    def text(self) -> str:
        """Such as `96.3 % (95.1 to 97.2 %)`."""
        return f"{percent(self.value)} ({percent(self.low)} to {percent(self.high)})"


def percent(value: float) -> str:
    return f"{100 * value:.2f} %"


def share(found: NDArray[np.int64], total: NDArray[np.int64]) -> Share:
    """found of total, (n,) each, for n queries drawn at random.

    Wilson's interval (1927) with the number of trials that has the variance seen between queries (the effective sample
    size of a cluster sample, Korn & Graubard 1998): neighbours of one query are found or lost together."""
    asked = total > 0
    hits, trials_each = found[asked].astype(np.float64), total[asked].astype(np.float64)
    of = int(trials_each.sum())
    if of == 0:
        return Share(1.0, 0.0, 1.0, 0)
    value = float(hits.sum() / of)
    n = float(len(hits))
    trials = n  # the most cautious choice: all neighbours of a query are one
    if n > 1 and 0 < value < 1:
        residual = hits - value * trials_each
        variance = float((residual**2).sum()) * n / (n - 1) / of**2
        trials = min(float(of), value * (1 - value) / variance)
    return Share(value, *wilson(value, trials), of)


def wilson(value: float, trials: float) -> tuple[float, float]:
    """Where a share lies with 95 % confidence, of so many trials that depend on nothing but it. trials > 0. Source:
    E. Wilson, Journal of the American Statistical Association, 1927."""
    middle = (value + Z**2 / (2 * trials)) / (1 + Z**2 / trials)
    half = Z / (1 + Z**2 / trials) * math.sqrt(value * (1 - value) / trials + Z**2 / (4 * trials**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def expected(cosine: float, cells: int, probes: int, dimension: int, draws: int = 2000, seed: int = 0) -> float:
    """The chance that two vectors of that cosine share one of their `probes` nearest of `cells` centres, where the
    centres have nothing to do with the data: directions drawn uniformly, as in cross-polytope hashing (Andoni et al.
    2015). A floor: centres learnt from the data keep near vectors together far more often. By simulation."""
    generator = np.random.default_rng(seed)
    met = 0
    for _ in range(draws):
        # Centres by their coordinates along the pair's plane: all that the two cosines depend on.
        rest = generator.chisquare(dimension - 2, cells) if dimension > 2 else np.zeros(cells)
        along = generator.standard_normal((2, cells))
        norms = np.sqrt((along**2).sum(axis=0) + rest)
        left = along[0] / norms
        right = (cosine * along[0] + np.sqrt(max(0.0, 1 - cosine**2)) * along[1]) / norms
        near = [np.argpartition(-side, min(probes, cells) - 1)[:probes] for side in (left, right)]
        met += bool(np.isin(near[0], near[1]).any())
    return met / draws
