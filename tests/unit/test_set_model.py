"""Catches sets of labels judged by what has seen them, wrong probabilities, and labels that are wrong and not found."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from scipy import sparse

from tests.bench.label_noise import average_precision
from tests.bench.label_sets import spoilt
from udfs.labels import set_rows, sets
from udfs.labels.sets import Sets

CLASSES, FOLDS, DIMENSION = 8, 4, 24
Truth = NDArray[np.bool_]


def planted(count: int = 1200, noise: float = 1.2, seed: int = 0) -> tuple[NDArray[np.float32], Truth]:
    """Vectors that are the sums of the directions of their classes and noise; classes of 5 to 30 %."""
    generator = np.random.default_rng(seed)
    truth = generator.random((count, CLASSES)) < np.linspace(0.05, 0.3, CLASSES)
    directions = 2 * np.eye(CLASSES, DIMENSION)
    vectors = truth @ directions + noise * generator.normal(size=(count, DIMENSION)) / 2 + 1.0
    return vectors.astype(np.float32), truth


def sets_of(vectors: NDArray[np.float32], given: Truth, weights: NDArray[np.float64] | None = None) -> Sets:
    folds = np.random.default_rng(2).integers(0, FOLDS, len(given)).astype(np.int32)
    ones = np.ones(len(given)) if weights is None else weights
    return Sets(vectors, sparse.csr_array(given.astype(np.float32)), folds, ones)


def wrong_by(images: Sets) -> tuple[NDArray[np.float64], float | None]:
    """(n, C) probability that what is said of each label is wrong, and the share that was told."""
    model, share = sets.fit(images, FOLDS)
    given, holds = model.judge(images)
    return np.where(given, 1 - holds, holds), share


def test_dropped_and_added_labels_come_first_and_are_as_many_as_is_told() -> None:
    vectors, truth = planted()
    given = spoilt(truth, 0.05)
    probability, share = wrong_by(sets_of(vectors, given))
    wrong = given != truth
    assert average_precision(1 - probability.ravel(), wrong.ravel()) > 0.6  # by chance 0.02
    assert share == pytest.approx((wrong & given).sum() / given.sum(), abs=0.02)
    for kind in (given, ~given):
        marked = kind & (probability > 0.5)
        assert marked.sum() > 0.4 * (wrong & kind).sum()
        assert (wrong & marked).sum() > 0.7 * marked.sum()


def test_probabilities_are_honest() -> None:
    vectors, truth = planted(20_000, noise=2.0)
    given = spoilt(truth, 0.1)
    probability, _ = wrong_by(sets_of(vectors, given))
    for low in (0.0, 0.2, 0.4, 0.6, 0.8):
        inside = (probability >= low) & (probability < low + 0.2)
        assert inside.sum() > 100
        assert (given != truth)[inside].mean() == pytest.approx(probability[inside].mean(), abs=0.07)


def test_of_sets_that_are_right_none_is_shown_to_be_wrong() -> None:
    for seed in range(3):
        vectors, truth = planted(noise=2.0, seed=seed)
        probability, share = wrong_by(sets_of(vectors, truth))
        assert share is None
        assert (probability > 0.9).sum() < 0.005 * truth.sum()


def test_the_discriminants_are_those_of_two_classes_from_all_other_folds() -> None:
    """Row by row from the vectors themselves, with the covariance within each class and not of all."""
    vectors, truth = planted(400)
    images = sets_of(vectors, truth)
    model, _ = sets.fit(images, FOLDS)
    found = model.discriminants(images)
    expected = np.empty((len(sets.SHRINKAGES), *found.shape))
    for fold in range(FOLDS):
        seen, own = images.folds != fold, images.folds == fold
        rest = vectors[seen].astype(np.float64)
        for number, shrinkage in enumerate(sets.SHRINKAGES):
            ridge = shrinkage * np.trace(np.cov(rest, rowvar=False, bias=True)) / DIMENSION * np.eye(DIMENSION)
            for one in range(CLASSES):
                has = truth[seen, one]
                means = rest[has].mean(axis=0), rest[~has].mean(axis=0)
                within = sum(part.mean() * np.cov(rest[part], rowvar=False, bias=True) for part in (has, ~has))
                direction = np.linalg.solve((1 - shrinkage) * within + ridge, means[0] - means[1])
                expected[number, own, one] = (vectors[own] - (means[0] + means[1]) / 2) @ direction
    assert min(np.abs(one - found).max() for one in expected) < 0.02


def test_no_image_is_judged_by_a_model_that_has_seen_its_fold() -> None:
    vectors, truth = planted()
    images = sets_of(vectors, truth)
    turned = truth.copy()
    turned[images.folds == 1] = np.roll(truth[images.folds == 1], 1, axis=1)
    before, after = (sets._discriminants([sets._Sums.of(each, fold) for fold in range(FOLDS)], 0.3)[0]
                     for each in (images, sets_of(vectors, turned)))  # fmt: skip
    assert [np.allclose(before[fold], after[fold], atol=1e-4) for fold in range(FOLDS)] == [False, True, False, False]


def test_weights_count_as_so_many_images() -> None:
    vectors, truth = planted(600)
    once = sets_of(vectors, truth, np.where(np.arange(600) < 200, 3.0, 1.0))
    rows = np.concatenate([np.arange(600), np.arange(200), np.arange(200)])
    often = Sets(vectors[rows], once.given[rows], once.folds[rows], np.ones(len(rows)))
    for fold in range(FOLDS):
        for one, other in zip(*(vars(sets._Sums.of(each, fold)).values() for each in (once, often)), strict=True):
            assert np.allclose(one, other)


def test_classes_that_a_fold_would_not_know_are_lacking() -> None:
    folds = np.array([0, 0, 1, 1], np.int32)
    given = sparse.csr_array(np.array([[1, 0, 1, 0], [1, 0, 0, 1], [0, 0, 1, 1], [0, 1, 0, 1]], np.float32))
    # Only in one fold; only in one; in both; without an image in fold 1 that lacks it.
    assert sets.lacking(given, folds, 2).tolist() == [True, True, False, True]


def test_rows_tell_given_labels_and_few_that_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the batches; unknown labels count for nothing, and no image tells more than MISSING others."""
    vectors, truth = planted(300, noise=0.6)
    given = np.zeros_like(truth)
    given[:, 0] = truth[:, 0]
    names = [f"c{number}" for number in range(CLASSES)]
    lists = [[*(names[c] for c in np.flatnonzero(row)), "unknown"] for row in given]
    images = sets_of(vectors, truth)
    model, _ = sets.fit(images, FOLDS)
    asked = pa.record_batch(
        [pa.array(range(300)), pa.array(images.folds), pa.array(lists, pa.list_(pa.string())),
         pa.array(vectors.tolist(), pa.list_(pa.float32()))],
        names=list(set_rows.ASKED),
    )  # fmt: skip
    monkeypatch.setattr(set_rows, "MISSING", 2)
    run = set_rows.judged(model, names)
    whole = pa.Table.from_batches(run(iter([asked])), set_rows.JUDGED)
    parts = pa.Table.from_batches(run(iter([asked.slice(0, 7), asked.slice(7, 0), asked.slice(7)])), set_rows.JUDGED)
    assert whole.equals(parts)
    assert [len(part) for part in images.parts(100 * CLASSES)] == [100, 100, 100]
    rows = whole.to_pylist()
    assert {(row["image_id"], row["label"]) for row in rows if row["given"]} == {
        (int(image), "c0") for image in np.flatnonzero(given[:, 0])
    }
    others = [row for row in rows if not row["given"]]
    assert max(np.bincount([row["image_id"] for row in others])) == 2
    assert np.mean([truth[row["image_id"], int(row["label"][1:])] for row in others]) > 0.8
    for row in rows:
        told = 1 - row["probability"] if row["given"] else row["probability"]
        assert row["probability_wrong"] == pytest.approx(told, abs=2e-6)
