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


def test_suggestions_tell_most_of_the_weights() -> None:
    """A gain of another formula, a choice that is not the best of them, and one that asks what is known already."""
    vectors, near, kinds = lake(2)
    space = Space.of(vectors, near=near)
    assert space.shared is not None
    liked = (kinds < 6).astype(float)
    some = np.arange(40)
    given = Judged(PICKED, vectors[:40], liked[:40], np.ones(40), np.column_stack([some, some]), near=near[:40])
    head = fitting.fit(given, space, "a@1", "m@1").head
    design = suggest.Design.of(space, head, vectors[:40])
    rows = np.column_stack([space.rows(vectors) @ space.shared, np.ones(COUNT)])
    known = np.linalg.inv(design.covariance)
    for place in (50, 400, 900):
        row = rows[place]
        likely = linear.expit(head.raw(vectors[[place]]) / np.sqrt(1 + np.pi * (row @ design.covariance @ row) / 8))[0]
        after = known + likely * (1 - likely) * np.outer(row, row)
        told = (np.linalg.slogdet(after)[1] - np.linalg.slogdet(known)[1]) / 2
        assert np.isclose(design.gains(vectors[[place]])[0], told)
    pool = vectors[40:]
    chosen = design.choose(pool, 12)
    assert chosen[0] == np.argmax(design.gains(pool))
    assert len(set(chosen.tolist())) == 12
    # Those that are all but certain, and those like what was judged, teach less than what is chosen.
    certain = np.argsort(-np.abs(head.raw(pool)))[:50]
    assert design.gains(pool[chosen]).min() > np.median(design.gains(pool[certain]))
    assert design.gains(pool[chosen]).min() > design.gains(vectors[:40]).mean()
