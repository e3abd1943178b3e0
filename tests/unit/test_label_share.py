"""Catches an estimate of how many labels are wrong without its doubt, flags other than wished, gains not measured."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
from numpy.typing import NDArray

from tests.bench.label_noise import average_precision, most_alike, spoilt
from tests.unit.test_label_model import FOLDS, coefficients_of, examples, relabelled, sizes_of
from tests.vectors import unit
from udfs.labels import effect as label_effect
from udfs.labels import model as label_model
from udfs.labels import noise as label_noise
from udfs.labels import share as label_share
from udfs.labels.classifier import Examples
from udfs.labels.share import BINS, Estimate

SOME = Estimate(0.1, 0.05, 0.2)


def binned(probabilities: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    bins = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    counts = np.bincount(bins, minlength=BINS).astype(np.int64)
    return counts, np.bincount(bins, probabilities, minlength=BINS).astype(np.float64)


def test_the_threshold_is_that_of_the_wish() -> None:
    generator = np.random.default_rng(0)
    probabilities = np.concatenate([generator.beta(0.3, 8, 9000), generator.beta(6, 1.5, 1000)])
    table = binned(probabilities)
    order, everything = np.sort(probabilities)[::-1], probabilities.sum()
    sums, ranks = np.cumsum(order), np.arange(1, len(order) + 1)

    def flagged(wish: str | float) -> NDArray[np.float64]:
        first = label_share.threshold(*table, wish, SOME)
        chosen: NDArray[np.float64] = probabilities[np.floor(probabilities * BINS) >= first]
        return chosen

    balanced = flagged("balanced")
    assert 2 * balanced.sum() / (len(balanced) + everything) == pytest.approx(
        (2 * sums / (ranks + everything)).max(), abs=1e-3
    )
    assert flagged("thorough").sum() / everything == pytest.approx(0.9, abs=5e-3)
    assert flagged("precise").mean() == pytest.approx(0.9, abs=5e-3)
    assert flagged(0.6).mean() == pytest.approx(0.6, abs=5e-3)
    assert flagged(0.6).mean() >= 0.6
    assert len(flagged(0.6)) > len(flagged("precise"))
    with pytest.raises(ValueError, match="could not convert"):
        flagged("often")


def test_flags_that_promise_to_be_right_follow_lower_odds() -> None:
    generator = np.random.default_rng(0)
    probabilities = np.concatenate([generator.beta(0.3, 8, 9000), generator.beta(6, 1.5, 1000)])
    table, cautious = binned(probabilities), Estimate(0.1, 0.05, 0.2, 0.5)
    lower = 0.5 * probabilities / (1 - 0.5 * probabilities)

    def flagged(wish: str | float) -> NDArray[np.bool_]:
        return np.asarray(np.floor(probabilities * BINS) >= label_share.threshold(*table, wish, cautious))

    assert lower[flagged(0.8)].mean() == pytest.approx(0.8, abs=5e-3)
    order = np.sort(lower)[::-1]
    best = (2 * np.cumsum(order) / (np.arange(1, len(order) + 1) + order.sum())).max()
    chosen = flagged("balanced")
    assert 2 * lower[chosen].sum() / (chosen.sum() + lower.sum()) == pytest.approx(best, abs=1e-3)
    assert probabilities[flagged("thorough")].sum() / probabilities.sum() == pytest.approx(0.9, abs=5e-3)


def test_where_none_can_be_shown_few_are_flagged_beside_what_is_surely_wrong() -> None:
    none, unsure = Estimate(0.01, 0.0, 0.03), Estimate(0.1, 0.0, 0.3)
    probabilities = np.concatenate([np.full(960, 0.01), np.full(35, 0.55), np.full(5, 0.8)])
    table = binned(probabilities)
    counts = {
        known: int(table[0][label_share.threshold(*table, "thorough", known) :].sum()) for known in (SOME, none, unsure)
    }
    assert counts == {SOME: 1000, none: 5, unsure: 1000}
    sure = binned(np.concatenate([np.zeros(90), np.full(10, 0.99)]))
    assert label_share.threshold(*sure, "balanced", none) <= 990
    assert label_share.threshold(*binned(np.zeros(10)), "balanced", none) == BINS
    assert label_share.threshold(np.zeros(BINS, np.int64), np.zeros(BINS), "balanced", SOME) == BINS


@pytest.mark.parametrize("kind", ["symmetric", "similar"])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.3])
def test_the_estimate_holds_what_was_planted(kind: str, share: float) -> None:
    """In sets of any kind, and of each class."""
    inside = 0
    for seed in range(4):
        images = examples(6, 1500, seed=seed, noise=1.2)
        truth = images.classes.astype(np.int64)
        given = spoilt(truth, kind, share, most_alike(images.vectors, truth), seed=seed)
        images = relabelled(images, given)
        fitted = label_model.fit(images, sizes_of(images), FOLDS)
        known = fitted.lake
        assert known.low <= known.share <= known.high
        assert known.share == pytest.approx(share, abs=0.25 * share + 0.01)
        inside += known.low <= share <= known.high
        shares, low, high = fitted.of_class
        wrong = np.array([(given != truth)[given == number].mean() for number in range(6)])
        assert ((low <= wrong + 1e-9) & (wrong <= high)).mean() >= 0.5
        assert np.abs(shares - wrong).max() < 0.1
        if share == 0:
            assert known.low == 0
            assert known.high < 0.05
    assert inside >= 3


def test_the_strength_of_the_noise_is_the_likeliest_and_flags_are_told_two_standard_errors_less() -> None:
    """Of a noise that is said to be half as strong as it is."""
    images = examples(5, 1500, seed=5, noise=1.0)
    truth = images.classes.astype(np.int64)
    given = spoilt(truth, "symmetric", 0.2, most_alike(images.vectors, truth), seed=2)
    images = relabelled(images, given)
    chosen = label_model.Classifier(*coefficients_of(images, 0.3), np.log(np.full(5, 0.2)))
    counts = np.full((5, 5), 10.0)
    np.fill_diagonal(counts, 360)
    noise = label_noise.of_counts(scipy.sparse.csr_array(counts), 1.0, sizes_of(images))
    stack = chosen.stack(images, np.ones(len(images)))
    null, mixture = stack.fitted()
    found = label_share.profile(stack, noise, mixture, images.folds, null * stack.total)
    assert found.times == pytest.approx(2, abs=0.3)
    assert found.share == pytest.approx(0.2, abs=0.02)
    assert found.shown
    assert 0 < found.low < found.cautious < found.times < found.high

    def loss(times: float) -> float:
        return stack.fitted(noise.times(times), found.mixture)[0] * stack.total

    fallen = loss(found.low) - loss(found.times)
    assert (loss(found.cautious) - loss(found.times)) / fallen == pytest.approx(2 / 4, abs=0.1)
    assert found.mixture == pytest.approx(stack.fitted(noise.times(found.times))[1], rel=0.05)


def test_few_images_leave_much_open() -> None:
    """The same noise in ten images a class and in a hundred."""
    widths = []
    for count in (50, 1500):
        images = examples(5, count, seed=3, noise=0.8)
        truth = images.classes.astype(np.int64)
        images = relabelled(images, spoilt(truth, "symmetric", 0.1, most_alike(images.vectors, truth), seed=1))
        known = label_model.fit(images, sizes_of(images), FOLDS).lake
        assert known.low <= 0.1 <= known.high
        widths.append(known.high - known.low)
    assert widths[0] > 3 * widths[1]


def test_a_class_of_few_images_beside_large_ones() -> None:
    """500 to 1: what is right in the small class is not called wrong, and what is wrong is found."""
    generator = np.random.default_rng(0)
    sizes = [3000, 300, 12, 6]
    own = generator.permutation(np.repeat(np.arange(4), sizes)).astype(np.int32)
    vectors = (3 * np.eye(4, 24)[own] + 0.6 * generator.normal(size=(len(own), 24)) + 1).astype(np.float32)
    given = own.copy()
    wrong = np.concatenate([np.flatnonzero(own == 0)[:30], np.flatnonzero(own == 2)[:1]])
    given[wrong[:3]], given[wrong[3:30]], given[wrong[30]] = 2, 1, 0
    folds = generator.integers(0, FOLDS, len(own)).astype(np.int32)
    images = Examples(vectors, given, folds, np.repeat(own[:, None], 3, axis=1))
    found = label_model.fit(images, sizes_of(images), FOLDS)
    low = found.judged.score < 0.5
    assert low[wrong].mean() > 0.9
    assert not low[(own == given) & (own >= 2)].any()
    assert found.lake.low <= 31 / len(own) <= found.lake.high


def test_what_wrong_labels_cost_is_measured() -> None:
    """On images that are right, by classifiers that have not seen them: corrected labels teach better."""
    images = examples(6, 600, seed=1, noise=1.5)
    truth = images.classes.astype(np.int64)
    alike = most_alike(images.vectors, truth)
    given = np.where((truth == 2) & (np.arange(600) % 5 < 2), alike[2], truth)  # two of five of one class
    images = relabelled(images, given)
    wrong = given != truth
    scores = np.where(wrong, 0.0, 1.0)
    found = label_effect.accuracies(images, 6, FOLDS, 0.3, scores, wrong, truth.astype(np.int32))
    clean = relabelled(images, truth)
    best = label_effect.accuracies(clean, 6, FOLDS, 0.3, scores, np.zeros(600, bool), truth.astype(np.int32))
    assert found[2, 1] > found[2, 0] + 0.03
    assert found[2, 2] > found[2, 0] + 0.03
    assert np.allclose(best[:, 0], best[:, 1])
    assert np.allclose(found[[0, 1, 3, 4, 5], 1], best[[0, 1, 3, 4, 5], 0], atol=0.1)
    none = label_effect.accuracies(images, 6, FOLDS, 0.3, np.zeros(600), wrong, truth.astype(np.int32))
    assert np.isnan(none).all()


@pytest.mark.parametrize("count", [36, 600])
@pytest.mark.parametrize("left", [1, 2, 3, 12])
def test_what_is_left_of_few_images_is_measured_too(count: int, left: int) -> None:
    """Hardly any image is left that is not flagged: of these there is no spread, but the rounding of sums."""
    generator = np.random.default_rng(0)
    vectors = unit(generator.normal(size=(count, 64)) + 1.0)
    labels, folds = generator.integers(0, 2, count).astype(np.int32), np.arange(count, dtype=np.int32) % FOLDS
    flagged = np.arange(count) >= left
    images = Examples(vectors, labels, folds, labels[:, None])
    found = label_effect.accuracies(images, 2, FOLDS, 0.3, np.ones(count), flagged, 1 - labels)
    tested = np.unique(labels[:left])
    assert np.isfinite(found[tested]).all()
    assert ((found[tested] >= 0) & (found[tested] <= 1)).all()
    if left == 1:
        assert found[labels[0], 2] == 0  # none has taught the class


@pytest.mark.parametrize("sizes", [[100] * 20, [1500, 700, 300, *[60] * 4, *[9] * 5]])
def test_noise_between_pairs_of_classes_is_no_doubt_of_the_classifier(sizes: list[int]) -> None:
    """Many classes, or very unequal ones, of which each is taken for one other: noise that is thought to be random
    is not told from classes that cannot be told apart."""
    generator = np.random.default_rng(17)
    middles = generator.normal(size=(len(sizes), 48))
    middles[1::2] = middles[::2] + 0.9 * generator.normal(size=middles[::2].shape)
    truth = generator.permutation(np.repeat(np.arange(len(sizes)), sizes))
    vectors = (middles[truth] + 1.2 * generator.normal(size=(len(truth), 48)) + 1).astype(np.float32)
    alike = np.arange(len(sizes)) ^ 1
    given = spoilt(truth, "similar", 0.2, alike, seed=19)
    directions = unit(vectors - vectors.mean(axis=0))
    near = np.argsort(-(directions @ directions.T), axis=1)[:, 1:11]
    folds = generator.integers(0, FOLDS, len(truth)).astype(np.int32)
    images = Examples(vectors, given.astype(np.int32), folds, given[near].astype(np.int32))
    fitted = label_model.fit(images, np.bincount(given, minlength=len(sizes)), FOLDS)
    assert fitted.lake.share == pytest.approx(0.2, abs=0.03)
    assert fitted.lake.low <= 0.2 <= fitted.lake.high
    assert average_precision(fitted.judged.score, given != truth) > 0.95
