"""A linear function of vectors by its most likely weights under a Gaussian prior, and how sure these are.

Ridge regression for numbers, logistic regression for yes or no, and Bradley and Terry's model (Biometrika, 1952) for
pairs: logistic regression on the difference of two vectors. The prior is that of ridge: weights of one size in all
directions. Rows are turned into as few numbers as there are rows first, which changes nothing and costs little."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RATING, PICKED, BETTER = "rating", "picked", "better"
KINDS = (RATING, PICKED, BETTER)
FREE = 0.05  # precision of the prior of the offset: nearly none
NEWTON_STEPS, LEAST_STEP, CONVERGED = 40, 1e-4, 1e-10

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Examples:
    """What is learnt from. rows: (n, d) float64, of a pair the difference. targets: (n,): a number; 1 or 0; 1 of a
    pair. weights: (n,) above 0, of mean 1. known: (n,) what is known of the target beforehand, added to what is learnt.
    groups: (n, 2) the groups of the two pictures of a pair, of others twice the same; no group is split between
    folds."""

    kind: str  # one of KINDS
    rows: Numbers
    targets: Numbers
    weights: Numbers
    known: Numbers
    groups: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.targets)

    def of(self, which: NDArray[np.int64] | NDArray[np.bool_]) -> Examples:
        return Examples(
            self.kind, self.rows[which], self.targets[which], self.weights[which], self.known[which], self.groups[which]
        )


@dataclass(frozen=True)
class Linear:
    """score = row @ weights + offset + known. weights: (d,).

    The variance of a score is `wide` * |row|^2 + `flat` - |(row, 1) @ known_ways|^2: what the prior says, less what was
    learnt. known_ways: (d + 1, k), the ways of which most was learnt first. noise: standard deviation of a target about
    its score; 1 where the targets are not numbers."""

    weights: Numbers
    offset: float
    noise: float
    wide: float = 0.0
    flat: float = 0.0
    known_ways: Numbers | None = None

    def scores(self, rows: Numbers) -> Numbers:
        return np.asarray(rows @ self.weights + self.offset)

    def variances(self, rows: Numbers) -> Numbers:
        """(n,) of the scores; needs a fit that was to be sure."""
        if self.known_ways is None:
            raise ValueError("fitted without its variances")
        learnt = rows @ self.known_ways[:-1] + self.known_ways[-1]
        found = self.wide * np.square(rows).sum(axis=1) + self.flat - np.square(learnt).sum(axis=1)
        return np.asarray(np.maximum(found, 0.0))


def fit(examples: Examples, strength: float, sure: bool = False) -> Linear:
    """The most likely weights. strength: precision of the prior of each weight, > 0. sure: whether variances are
    wanted. Raises ValueError where there is no example."""
    if not len(examples):
        raise ValueError("no examples")
    basis, rows = _turned(examples.rows)
    has_offset = examples.kind != BETTER
    if has_offset:
        rows = np.column_stack([rows, np.ones(len(rows))])
    prior = np.full(rows.shape[1], strength)
    if has_offset:
        prior[-1] = FREE
    if examples.kind == RATING:
        found, learnt = _ridge(rows, examples, prior)
        noise = _noise(rows, examples, found, learnt, prior)
    else:
        found, learnt = _logistic(rows, examples, prior)
        noise = 1.0
    count = rows.shape[1] - has_offset
    weights = found[:count] if basis is None else basis @ found[:count]
    offset = float(found[-1]) if has_offset else 0.0
    if not sure:
        return Linear(weights, offset, noise)
    scale = noise / np.sqrt(prior)
    values, ways = np.linalg.eigh(learnt / np.sqrt(prior) / np.sqrt(prior)[:, None])
    values, ways = np.maximum(values[::-1], 0.0), ways[:, ::-1]
    ways = ways * scale[:, None] * np.sqrt(values / (1 + values))
    whole = np.zeros((len(weights) + 1, ways.shape[1]))
    whole[:-1] = ways[:count] if basis is None else basis @ ways[:count]
    if has_offset:
        whole[-1] = ways[-1]
    flat = float(scale[-1] ** 2) if has_offset else 0.0
    return Linear(weights, offset, noise, noise**2 / strength, flat, whole)


def _turned(rows: Numbers) -> tuple[Numbers | None, Numbers]:
    """An orthonormal basis (d, k) of what the rows span and the rows in it (n, k); None and the rows as they are where
    they are more than their numbers."""
    if len(rows) >= rows.shape[1]:
        return None, rows
    basis, triangle = np.linalg.qr(rows.T)
    return basis, np.ascontiguousarray(triangle.T)


def _ridge(rows: Numbers, examples: Examples, prior: Numbers) -> tuple[Numbers, Numbers]:
    """Weights, and the precision that the rows add to the prior's, in units of the noise."""
    weighted = rows * examples.weights[:, None]
    learnt = weighted.T @ rows
    found = np.linalg.solve(learnt + np.diag(prior), weighted.T @ (examples.targets - examples.known))
    return np.asarray(found, np.float64), learnt


def _noise(rows: Numbers, examples: Examples, found: Numbers, learnt: Numbers, prior: Numbers) -> float:
    """Of the residuals, by as many degrees of freedom as the rows leave (Hastie et al., 7.6)."""
    residuals = examples.targets - examples.known - rows @ found
    used = float(np.trace(np.linalg.solve(learnt + np.diag(prior), learnt)))
    left = max(len(rows) - used, 0.1 * len(rows), 0.5)
    return float(np.sqrt(max((examples.weights * residuals**2).sum() / examples.weights.mean() / left, 1e-12)))


def _logistic(rows: Numbers, examples: Examples, prior: Numbers) -> tuple[Numbers, Numbers]:
    """By Newton's method, with halved steps where a whole one would not help."""
    found = np.zeros(rows.shape[1])
    value, odds = _loss(rows, examples, prior, found)
    for _ in range(NEWTON_STEPS):
        likely = expit(odds)
        slope = rows.T @ (examples.weights * (likely - examples.targets)) + prior * found
        learnt = _curvature(rows, examples, likely)
        step = np.linalg.solve(learnt + np.diag(prior), slope)
        size = 1.0
        while True:
            after, odds_after = _loss(rows, examples, prior, found - size * step)
            if after <= value or size < LEAST_STEP:
                break
            size /= 2
        found, odds = found - size * step, odds_after
        gained, value = value - after, after
        if gained < CONVERGED * (1 + abs(value)):
            break
    return found, _curvature(rows, examples, expit(odds))


def _curvature(rows: Numbers, examples: Examples, likely: Numbers) -> Numbers:
    curved = rows * (examples.weights * likely * (1 - likely))[:, None]
    return np.asarray(curved.T @ rows)


def _loss(rows: Numbers, examples: Examples, prior: Numbers, found: Numbers) -> tuple[float, Numbers]:
    odds = rows @ found + examples.known
    given = np.logaddexp(0, odds) - examples.targets * odds
    return float((examples.weights * given).sum() + 0.5 * (prior * found**2).sum()), odds


def expit(values: Numbers) -> Numbers:
    """1 / (1 + exp(-values)), without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * values)))
