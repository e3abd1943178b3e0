"""Catches a model that judges an image by itself, probabilities that are none, and scores that miss wrong labels."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse
from numpy.typing import NDArray

from tests.bench.label_noise import average_precision, most_alike, spoilt
from tests.vectors import unit
from udfs.labels import classifier as label_classifier
from udfs.labels import model as label_model
from udfs.labels import noise as label_noise
from udfs.labels import rows as label_rows
from udfs.labels.classifier import NOBODY, Examples, Moments, Stack

FOLDS = 4


def examples(classes: int = 5, count: int = 400, votes: int = 6, seed: int = 0, noise: float = 0.6) -> Examples:
    """Around one middle a class; the votes are right by two thirds."""
    generator = np.random.default_rng(seed)
    own = generator.integers(0, classes, count).astype(np.int32)
    vectors = unit(3 * np.eye(classes, 24)[own] + noise * generator.normal(size=(count, 24)) + 1.0)
    cast = np.where(
        generator.random((count, votes)) < 0.67, own[:, None], generator.integers(0, classes, (count, votes))
    )
    return Examples(vectors, own, generator.integers(0, FOLDS, count).astype(np.int32), cast.astype(np.int32))


def sizes_of(images: Examples) -> NDArray[np.int64]:
    return np.bincount(images.classes)


def relabelled(images: Examples, labels: NDArray[np.int64]) -> Examples:
    return Examples(images.vectors, labels.astype(np.int32), images.folds, images.votes)


def coefficients_of(images: Examples, shrinkage: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Of the given labels."""
    count = int(images.classes.max()) + 1
    shares = label_classifier.hard(images.classes, count)
    moments = [Moments.of(images, fold, shares) for fold in range(FOLDS)]
    return label_classifier.Discriminants(moments).coefficients(shrinkage)


def test_the_discriminants_are_those_of_the_formula() -> None:
    """Row by row from the vectors themselves, not from differences of sums."""
    images = examples()
    for shrinkage in (0.3, 0.9):
        found = label_classifier.discriminants(*coefficients_of(images, shrinkage), images)
        for fold in range(FOLDS):
            seen, own = images.folds != fold, images.folds == fold
            rest = images.vectors[seen].astype(np.float64)
            counts = np.bincount(images.classes[seen]) / seen.sum()
            means = np.array([rest[images.classes[seen] == c].mean(axis=0) for c in range(5)])
            within = sum(
                share * np.cov(rest[images.classes[seen] == c], rowvar=False, bias=True)
                for c, share in enumerate(counts)
            )
            shrunk = (1 - shrinkage) * within + shrinkage * np.trace(within) / 24 * np.eye(24)
            solved = np.linalg.solve(shrunk, means.T)
            expected = images.vectors[own] @ solved - 0.5 * (means.T * solved).sum(axis=0)
            assert np.allclose(found[own], expected, atol=0.02)


def test_no_image_is_judged_by_a_model_that_has_seen_its_fold() -> None:
    """Other labels in a fold change the other folds' models and not its own."""
    images = examples()
    before = coefficients_of(images, 0.3)[0]
    turned = relabelled(images, np.where(images.folds == 2, (images.classes + 1) % 5, images.classes))
    after = coefficients_of(turned, 0.3)[0]
    assert [np.allclose(before[fold], after[fold], atol=1e-3) for fold in range(FOLDS)] == [False, False, True, False]


@pytest.mark.parametrize("wrong", [0.0, 0.2])
def test_the_mixture_is_that_of_the_highest_likelihood(wrong: float) -> None:
    images = examples(noise=2.0, votes=1)
    found = label_classifier.discriminants(*coefficients_of(images, 0.3), images)
    shares = np.array([0.05, 0.1, 0.1, 0.25, 0.5])  # of images that are as many of each class here
    weights, prior = 5 * shares[images.classes], np.log(shares)
    none = scipy.sparse.csr_array((5, 5))
    one = label_noise.Noise(np.full(5, 1 - wrong), none, np.full(5, wrong / 0.8), np.full(5, 0.2))
    noise = [one] * FOLDS  # of each fold: here they are the same
    table = np.full((5, 5), wrong / 4) + (1 - 1.25 * wrong) * np.eye(5)
    loss, (scale, weight, lean) = Stack(found, images, weights, prior).fitted(noise if wrong else None)

    def loss_of(scale: float, weight: float, lean: float) -> float:
        given = label_classifier.combined(found, images.votes, (scale, weight, lean), prior) @ table
        own = given[np.arange(len(images)), images.classes]
        return float(-(weights * np.log(own)).sum() / weights.sum())

    assert loss == pytest.approx(loss_of(scale, weight, lean), abs=1e-6)
    for change in (0.9, 1.1):
        assert loss_of(scale * change, weight, lean) > loss
        assert loss_of(scale, weight * change, lean) > loss
        assert loss_of(scale, weight, lean * change) > loss
    assert weight > 0.5  # a vote that is right by two thirds tells much
    assert lean > 0.5


def test_a_round_is_kept_where_it_is_likelier_by_more_than_a_standard_error() -> None:
    images = examples(noise=2.0, votes=1)
    count, prior = 5, np.log(np.full(5, 0.2))
    chosen = label_model.Classifier(*coefficients_of(images, 0.3), prior)
    stack = chosen.stack(images, np.ones(len(images)))
    noise = label_noise.of_counts(scipy.sparse.csr_array(np.full((count, count), 1.0)), 1.0, sizes_of(images))
    loss, mixture = stack.fitted([noise] * FOLDS)
    losses = stack.losses([noise] * FOLDS, mixture)
    assert losses.sum() == pytest.approx(loss * stack.total, abs=1e-2)  # fitted to float32

    def learnt(change: NDArray[np.float64]) -> label_model.Learnt:
        return label_model.Learnt(chosen, stack, noise, [noise] * FOLDS, mixture, losses + change)

    spread = np.random.default_rng(0).normal(size=len(images))
    spread = (spread - spread.mean()) / spread.std() * 0.5
    error = 0.5 / np.sqrt(len(images))  # of the mean difference
    assert learnt(spread - 1.1 * error).likelier(learnt(0 * spread))
    assert not learnt(spread - 0.9 * error).likelier(learnt(0 * spread))
    assert not learnt(0 * spread).likelier(learnt(0 * spread))


def test_votes_count_by_their_number_and_nobody_not() -> None:
    flat = np.zeros((2, 3), np.float32)
    votes = np.array([[0, 0, 0, 1], [NOBODY] * 4], np.int32)
    found = label_classifier.combined(flat, votes, (1.0, 1.0, 0.0), np.zeros(3))
    assert np.allclose(found, [[4 / 7, 2 / 7, 1 / 7], [1 / 3] * 3])
    shares = np.log([0.2, 0.3, 0.5])
    found = label_classifier.combined(flat, votes, (1.0, 0.0, 2.0), shares)
    assert np.allclose(found, np.array([0.04, 0.09, 0.25]) / 0.38)


def test_the_noise_is_what_can_be_computed_by_hand() -> None:
    joint = scipy.sparse.csr_array(np.array([[8.0, 2.0, 0.0], [0.0, 10.0, 0.0], [0.0, 0.0, 5.0]]))
    whole = label_noise.calibrated(joint, np.array([20, 10, 5]))
    assert np.allclose(whole.toarray(), [[16, 4, 0], [0, 10, 0], [0, 0, 5]])
    counts = scipy.sparse.csr_array(np.array([[89.0, 10, 0], [0, 80, 0], [1, 0, 20]]))
    noise = label_noise.of_counts(counts, 20.0, np.array([99, 80, 21]))
    # 11 of 200 are wrong, and so are those that STRENGTH adds to each class.
    assert (label_noise.STRENGTH, label_noise.BY_SIZE) == (10, 5)
    lost = np.array([1.55, 10.55, 0.55]) / [100, 100, 30]
    assert np.allclose(noise.kept, 1 - lost)
    # Of the ten that are truly 1 and called 0, a third; of the one that is truly 0 and called 2, 1 of 21.
    assert np.allclose(noise.confused.toarray(), [[0, lost[1] / 3, 0], [0, 0, 0], [lost[0] / 21, 0, 0]])
    into = np.array([10 + 5 * 99 / 200, 5 * 80 / 200, 1 + 5 * 21 / 200]) / 16  # what wrong labels of all are
    assert np.allclose(noise.into, into)
    assert np.allclose(noise.stray * (1 - into), [lost[0] * 20 / 21, lost[1] * 2 / 3, lost[2]])
    clean = label_noise.of_counts(scipy.sparse.csr_array(np.diag([5.0, 3.0, 1.0])), 5.0, np.array([5, 3, 1]))
    assert np.allclose(clean.kept, 0.999)  # no class is free of wrong labels
    for one in (noise, clean, noise.times(3.0), noise.times(1e6)):
        assert np.allclose(one.kept + one.confused.sum(axis=0) + one.stray * (1 - one.into), 1)  # of each true class
        assert (one.kept >= 0).all()
        table = one.likelihoods(np.arange(3, dtype=np.int32))
        assert np.allclose(table.sum(axis=0), 1)
        assert np.allclose(np.diag(table), one.kept)
    assert np.allclose(1 - noise.times(3.0).kept, 3 * (1 - noise.kept))


def test_the_score_is_the_probability_that_the_label_is_right_and_follows_confident_learning() -> None:
    images = examples(noise=1.5)
    fitted = label_model.fit(images, sizes_of(images), FOLDS)
    model = fitted.model
    found, rows = model.judge(images), np.arange(len(images))
    assert np.array_equal(found.score, fitted.judged.score)
    probabilities = model.probabilities(images)
    assert np.allclose(probabilities.sum(axis=1), 1)
    own = probabilities[rows, images.classes]
    thresholds = [own[images.classes == number].mean() for number in range(5)]
    assert np.allclose(model.thresholds, thresholds)
    table = model.noise.confused.toarray() + np.outer(model.noise.into, model.noise.stray)
    np.fill_diagonal(table, model.noise.kept)
    posterior = probabilities * table[images.classes]
    assert np.allclose(found.score, posterior[rows, images.classes] / posterior.sum(axis=1))
    over = np.where(probabilities >= thresholds, probabilities, -1)
    assert np.array_equal(found.confident, np.where(over.max(axis=1) < 0, NOBODY, over.argmax(axis=1)))
    assert (found.likely != images.classes).all()
    off = (found.confident != NOBODY) & (found.confident != images.classes)
    assert off.any()
    others = table[images.classes] * probabilities
    others /= others.sum(axis=1, keepdims=True)
    others[rows, images.classes] = -1
    assert np.array_equal(found.likely, others.argmax(axis=1))
    assert np.allclose(found.likely_confidence, others.max(axis=1))
    typical = model.typical
    assert np.array_equal(images.classes[typical], np.arange(5))
    assert np.allclose(own[typical], [own[images.classes == number].max() for number in range(5)])


@pytest.mark.parametrize("kind", ["symmetric", "similar"])
@pytest.mark.parametrize("classes", [2, 3, 12])
def test_wrong_labels_are_at_the_bottom(kind: str, classes: int) -> None:
    images = examples(classes, 1200, noise=1.0)
    truth = images.classes.astype(np.int64)
    given = spoilt(truth, kind, 0.1, most_alike(images.vectors, truth), seed=3)
    wrong = given != truth
    assert wrong.sum() == 120
    images = relabelled(images, given)
    fitted = label_model.fit(images, sizes_of(images), FOLDS)
    found = fitted.judged
    assert average_precision(found.score, wrong) > 0.9
    assert fitted.lake.share == pytest.approx(0.1, abs=0.02)
    assert fitted.lake.low <= 0.1 <= fitted.lake.high
    flagged = found.score < 0.5
    assert wrong[flagged].mean() > 0.9
    assert (found.likely[flagged & wrong] == truth[flagged & wrong]).mean() > 0.9


def test_parts_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the images at once, nor those judged together."""
    images = examples(noise=1.5)
    model = label_model.fit(images, sizes_of(images), FOLDS).model
    whole = model.judge(images)
    monkeypatch.setattr(Examples.parts, "__defaults__", (35,))
    again = label_model.fit(images, sizes_of(images), FOLDS).model
    for one, other in zip(whole.columns(), again.judge(images.rows(slice(0, None))).columns(), strict=True):
        # The mixture is fitted to float32 sums; of two classes that are as likely either may come first.
        assert np.isclose(one, other, atol=5e-3).mean() > 0.99
    assert np.array_equal(model.typical, again.typical)
    few = model.judge(images.rows(slice(7, 9)))
    assert np.allclose(few.score, whole.score[7:9])


def test_one_class_and_a_class_in_one_fold_are_refused() -> None:
    images = examples(2)
    with pytest.raises(ValueError, match="two classes"):
        label_model.fit(relabelled(images, np.zeros(len(images), np.int64)), np.array([400]), FOLDS)
    folds = np.where(images.classes == 1, 0, images.folds).astype(np.int32)
    assert label_model.in_two_folds(images.classes, folds, 3).tolist() == [True, False, False]
    with pytest.raises(ValueError, match="two folds"):
        label_model.fit(Examples(images.vectors, images.classes, folds, images.votes), sizes_of(images), FOLDS)


def test_a_fold_without_a_class_knows_nothing_of_it() -> None:
    images = examples()
    few = np.flatnonzero((images.classes != 4) | (images.folds < 2))
    part = Examples(images.vectors[few], images.classes[few], images.folds[few], images.votes[few])
    model = label_model.fit(part, sizes_of(part), FOLDS).model
    assert np.isfinite(model.probabilities(images)).all()
    only = np.flatnonzero((images.classes != 4) | (images.folds == 1))
    part = Examples(images.vectors[only], images.classes[only], images.folds[only], images.votes[only])
    found = label_classifier.discriminants(*coefficients_of(part, 0.3), images)
    assert np.isneginf(found[images.folds == 1, 4]).all()
    assert np.isfinite(found[images.folds != 1]).all()


def test_ten_thousand_classes() -> None:
    generator = np.random.default_rng(0)
    own = np.repeat(np.arange(10_000, dtype=np.int32), 3)
    middles = generator.normal(size=(10_000, 12))
    vectors = unit(middles[own] + 0.1 * generator.normal(size=(len(own), 12)))
    images = Examples(vectors, own, np.tile(np.arange(3, dtype=np.int32), 10_000), own[:, None])
    found = label_model.fit(images, sizes_of(images), 3).model.judge(images.rows(slice(0, 3000)))
    assert np.isfinite(found.score).all()
    assert (found.confidence > found.likely_confidence).mean() > 0.95


def test_long_vectors_are_projected_and_keep_their_distances() -> None:
    assert label_model.projection(label_model.MOST_DIMENSIONS) is None
    matrix = label_model.projection(4096)
    assert matrix is not None
    vectors = unit(np.random.default_rng(0).normal(size=(20, 4096)))
    assert np.allclose(np.linalg.norm(vectors @ matrix, axis=1), 1, atol=0.1)
    batch = pa.RecordBatch.from_pydict({"image_id": [7, 8], "vector": vectors[:2].tolist()})
    batch = batch.set_column(1, "vector", batch["vector"].cast(pa.list_(pa.float32())))
    short = next(label_rows.projected(matrix)(iter([batch])))
    assert np.allclose(short["vector"].to_pylist(), vectors[:2] @ matrix, atol=1e-5)


def test_lists_are_padded() -> None:
    lists = pa.array([[1, 2], None, [], [3]], pa.list_(pa.int32()))
    assert label_rows.padded(lists, -1).tolist() == [[1, 2], [-1, -1], [-1, -1], [3, -1]]
    assert label_rows.padded(lists.slice(1, 2), -1).shape == (2, 0)


def test_the_evidence_is_the_nearest_neighbour_with_the_suggested_label_else_a_typical_image() -> None:
    images = examples(3, 300, noise=0.4)
    model = label_model.fit(images, sizes_of(images), FOLDS).model
    is_zero = np.flatnonzero(images.classes == 0)[:2]
    asked = pa.table(
        {
            "image_id": [70, 71], "class": [1, 1], "fold": images.folds[is_zero].tolist(),
            "near_ids": [[5, 6, 7, 8], None], "near_classes": [[1, 0, 0, 2], None], "near_votes": [[1, 0, 1, 0], None],
            "vector": pa.array(images.vectors[is_zero].tolist(), pa.list_(pa.float32())),
        }
    )  # fmt: skip
    batches = asked.to_batches()
    rows = next(label_rows.judged(model, ["a", "b", "c"], np.array([90, 91, 92]))(iter(batches))).to_pylist()
    assert [(row["label"], row["suggested_label"]) for row in rows] == [("b", "a")] * 2
    assert rows[0]["confident_label"] == "a"
    assert [row["evidence_id"] for row in rows] == [6, 90]  # 6 is no vote, being a duplicate, but evidence
    assert [row["neighbour_share"] for row in rows] == [0.5, None]
    assert all(0 <= row["score"] < 0.5 for row in rows)
    assert all(row["probability_wrong"] == pytest.approx(1 - row["score"], abs=1e-9) for row in rows)


def test_average_precision_by_hand() -> None:
    wrong = np.array([True, False, True, False])
    assert average_precision(np.array([0.1, 0.2, 0.3, 0.4]), wrong) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(np.array([0.5, 0.5, 0.5, 0.5]), wrong) == pytest.approx(0.5)
