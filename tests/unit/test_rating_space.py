"""Catches what neighbours share being taken for what they do not, a sureness of other directions, and suggestions that
teach less than others would."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from udfs.ratings import fitting, linear, measures, suggest
from udfs.ratings.fitting import Judged
from udfs.ratings.linear import PICKED, Examples
from udfs.ratings.space import Space
from udfs.vectors.cosine import Vectors

DIMENSION, KINDS, COUNT = 60, 12, 1200


def lake(seed: int) -> tuple[Vectors, Vectors, np.ndarray]:
    """Pictures of some kinds, the means of each with its ten neighbours, and the kinds. What a kind shares lies in a
    few directions; all else is as large and means nothing."""
    draw = np.random.default_rng(seed)
    kinds = draw.integers(0, KINDS, COUNT)
    centres = np.zeros((KINDS, DIMENSION))
    centres[:, :10] = draw.standard_normal((KINDS, 10))
    rows = centres[kinds] + 0.6 * draw.standard_normal((COUNT, DIMENSION)) + 1
    vectors = np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)
    alike = vectors @ vectors.T
    nearest = np.argpartition(-alike, 11, axis=1)[:, :11]
    return vectors, vectors[nearest].mean(axis=1), kinds


def test_few_picks_gain_by_what_neighbours_share() -> None:
    """A turn that loses the kinds, or keeps the noise."""
    gained = []
    for seed in range(6):
        vectors, near, kinds = lake(seed)
        space = Space.of(vectors, near=near)
        assert space.shared is not None
        turned = space.rows(vectors) @ space.shared
        assert abs(np.square(turned).sum(axis=1).mean() - 1) < 1e-6
        liked = np.isin(kinds, [0, 1, 2, 3, 4, 5]).astype(float)
        picked = np.random.default_rng(seed).permutation(COUNT)[:30]
        alone = Judged(PICKED, vectors[picked], liked[picked], np.ones(30), np.column_stack([picked, picked]))
        rest = np.setdiff1d(np.arange(COUNT), picked)
        auc = [
            measures.auc(liked[rest], fitting.fit(given, space, "a@1", "m@1").head.raw(vectors[rest]))
            for given in (replace(alone, near=near[picked]), alone)
        ]
        gained.append(auc[0] - auc[1])
    assert np.mean(gained) > 0.02, gained


def test_a_lake_too_small_to_tell_is_not_asked() -> None:
    vectors, near, _ = lake(0)
    assert Space.of(vectors[:100], near=near[:100]).shared is None


def test_sureness_in_shared_directions_is_that_of_the_posterior() -> None:
    """A variance of the directions before the turn, or one that grows with judgements."""
    vectors, near, kinds = lake(1)
    space = Space.of(vectors, near=near)
    assert space.shared is not None
    rows = space.rows(vectors) @ space.shared
    liked = (kinds < 6).astype(float)
    seen = []
    for count in (20, 200):
        examples = Examples(
            PICKED,
            rows[:count],
            liked[:count],
            np.ones(count),
            np.zeros(count),
            np.column_stack([np.arange(count)] * 2),
        )
        found = linear.fit(examples, 0.3, sure=True)
        sure = fitting._sureness(found, space, 1.0, space.shared)
        exact = np.sqrt(found.variances(rows[500:]))
        told = sure.deviations(vectors[500:])
        assert sure.adds
        assert np.allclose(told, exact, rtol=0.05)
        seen.append(told.mean())
    assert seen[1] < 0.7 * seen[0]


def test_suggestions_lower_the_variance_of_all_scores_most() -> None:
    """Gains of another formula, and a choice that is not the best of them."""
    vectors, near, _ = lake(2)
    space = Space.of(vectors, near=near)
    assert space.shared is not None
    design = suggest.Design.of(space, vectors[:15])
    rows = np.column_stack([space.rows(vectors) @ space.shared, np.ones(COUNT)])

    def mean_variance(covariance: np.ndarray) -> float:
        return float(np.einsum("nk,kl,nl->n", rows, covariance, rows).mean())

    before = mean_variance(design.covariance)
    for place in (20, 400, 900):
        after = np.linalg.inv(np.linalg.inv(design.covariance) + np.outer(rows[place], rows[place]) / suggest.NOISE)
        assert np.isclose(design.gains(vectors[[place]])[0], before - mean_variance(after))
    pool = vectors[15:]
    gains = design.gains(pool)
    chosen = design.choose(pool, 12)
    assert chosen[0] == np.argmax(gains)
    # The second is not what would be second best alone, where that teaches the same.
    first = design.choose(pool, 1)
    assert suggest.Design.of(space, np.vstack([vectors[:15], pool[first]])).choose(pool, 1)[0] == chosen[1]
    assert len(set(chosen.tolist())) == 12
