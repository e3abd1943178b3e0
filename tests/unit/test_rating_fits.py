"""Catches heads that learn the wrong thing, figures whose intervals do not hold, and maps that do not add up."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from udfs.networks.feature_map import FeatureMap, Seen
from udfs.networks.models import ModelError
from udfs.ratings import crossval, fitting, linear, maps, measures, raters, suggest
from udfs.ratings.fitting import Judged, TooFewError
from udfs.ratings.heads import Head, Layer, mean_of_bins, probabilities
from udfs.ratings.linear import PICKED, RATING, Examples
from udfs.ratings.space import Space
from udfs.vectors.cosine import Vectors

DIMENSION = 24


def vectors(count: int, seed: int = 0) -> Vectors:
    """Unit vectors, of which some directions vary more, as a network's do."""
    draw = np.random.default_rng(seed)
    rows = draw.standard_normal((count, DIMENSION)) * np.linspace(2, 0.3, DIMENSION) + 1
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


SPACE = Space.of(vectors(500, 9))
TRUE = np.random.default_rng(5).standard_normal(DIMENSION)


def odds(rows: Vectors) -> NDArray[np.float64]:
    return np.asarray(2.5 * (SPACE.rows(rows) @ TRUE))


def judged(kind: str, count: int, seed: int = 0, **other: Any) -> Judged:
    rows = vectors(count, seed)
    draw = np.random.default_rng(seed + 1)
    groups = np.column_stack([np.arange(count)] * 2)
    own = odds(rows)
    if kind == RATING:
        targets = 5 + own + draw.normal(0, 0.3, count)
    elif kind == PICKED:
        targets = (draw.random(count) < linear.expit(own)).astype(float)
    else:
        others = vectors(count, seed + 100)
        turn = draw.random(count) > linear.expit(own - odds(others))
        rows, others = np.where(turn[:, None], others, rows), np.where(turn[:, None], rows, others)
        groups = np.column_stack([np.arange(count), np.arange(count) + count])
        return Judged(kind, rows, np.ones(count), np.ones(count), groups, others)
    return dataclasses.replace(Judged(kind, rows, targets, np.ones(count), groups), **other)


def fitted(given: Judged, base: Head | None = None) -> fitting.Fitted:
    return fitting.fit(given, SPACE, "taste@1", "small@1", base)


@pytest.mark.parametrize("kind", linear.KINDS)
def test_each_kind_is_learnt(kind: str) -> None:
    """A kind of judgement whose head ranks new pictures by chance, or the wrong way round."""
    found = fitted(judged(kind, 300))
    new = vectors(400, 77)
    assert measures.spearman(odds(new), found.head.raw(new)) > 0.9
    for one in found.figures:
        assert one.low <= one.value <= one.high
        assert one.value > one.chance + 0.2


def test_ridge_is_that_of_the_formula() -> None:
    """Weights that depend on how rows are turned: few rows and many numbers, and the reverse, by the normal
    equations."""
    draw = np.random.default_rng(0)
    for count, width in ((6, 20), (40, 5)):
        rows, targets = draw.standard_normal((count, width)), draw.standard_normal(count)
        groups = np.column_stack([np.arange(count)] * 2)
        examples = Examples(RATING, rows, targets, np.ones(count), np.zeros(count), groups)
        found = linear.fit(examples, 0.7, sure=True)
        wide = np.column_stack([rows, np.ones(count)])
        precision = wide.T @ wide + np.diag([0.7] * width + [linear.FREE])
        assert np.allclose([*found.weights, found.offset], np.linalg.solve(precision, wide.T @ targets))
        asked = draw.standard_normal((7, width))
        wide_asked = np.column_stack([asked, np.ones(7)])
        exact = found.noise**2 * np.einsum("nd,dk,nk->n", wide_asked, np.linalg.inv(precision), wide_asked)
        assert np.allclose(found.variances(asked), exact)


def test_logistic_is_where_its_slope_is_zero() -> None:
    """Newton's steps that end somewhere else; strong and next to no prior, and classes that a plane parts."""
    draw = np.random.default_rng(3)
    rows = draw.standard_normal((30, 8))
    targets = (rows[:, 0] > 0).astype(float)
    groups = np.column_stack([np.arange(30)] * 2)
    for strength in (1e-3, 1.0, 100.0):
        found = linear.fit(Examples(PICKED, rows, targets, np.ones(30), np.zeros(30), groups), strength)
        missing = linear.expit(found.scores(rows)) - targets
        assert np.abs(rows.T @ missing + strength * found.weights).max() < 1e-4


def test_no_group_is_split_between_folds() -> None:
    """A copy of a picture in the folds that its fit has seen: then any figure is too good."""
    given = judged(PICKED, 120)
    groups = np.column_stack([np.arange(120) // 3] * 2)
    examples = Examples(PICKED, SPACE.rows(given.vectors), given.targets, np.ones(120), np.zeros(120), groups)
    for seed in range(5):
        folds = crossval.folds_of(examples, seed)
        assert all(len(set(folds[groups[:, 0] == group, 0].tolist())) == 1 for group in range(40))
        assert len(set(folds[:, 0].tolist())) == crossval.FOLDS
    # Random answers that copies share: with copies in other folds they would be known.
    answers = np.random.default_rng(0).integers(0, 2, 40).repeat(3).astype(float)
    copied = dataclasses.replace(given, vectors=given.vectors[::3].repeat(3, axis=0), targets=answers, groups=groups)
    assert fitted(copied).figures[0].value < 0.75


def test_intervals_hold_the_figure() -> None:
    """An interval that is too narrow: of 20 fits to 50 judgements at most 3 may miss the figure of new pictures."""
    held = 0
    for seed in range(20):
        kind = (RATING, PICKED)[seed % 2]
        found = fitted(judged(kind, 50, 1000 + seed))
        new = judged(kind, 2000, 5000 + seed)
        value = measures.MEASURES[found.figures[0].name](new.targets, found.head.raw(new.vectors))
        held += found.figures[0].low <= value <= found.figures[0].high
    assert held >= 17


def test_probabilities_are_calibrated() -> None:
    """A rating called a probability that is none: of those told 0.7 seven in ten must be picked."""
    found = fitted(judged(PICKED, 400))
    new = judged(PICKED, 4000, 31)
    scores, unsure = found.head.scores(new.vectors)
    assert ((scores >= 0) & (scores <= 1)).all()
    assert ((unsure > 0) & (unsure <= 0.5)).all()
    for low in (0.0, 0.2, 0.4, 0.6, 0.8):
        own = (scores >= low) & (scores < low + 0.2)
        assert abs(new.targets[own].mean() - scores[own].mean()) < 0.1


def test_the_unsure_are_those_that_it_knows_nothing_of() -> None:
    """A deviation that says nothing: it must hold the error of a score, and grow away from what was judged."""
    found = fitted(judged(RATING, 15))
    new = vectors(3000, 12)
    scores, unsure = found.head.scores(new)
    error = np.abs(scores - 5 - odds(new))
    assert (error < 2 * unsure).mean() > 0.5
    sure = fitted(judged(RATING, 400))
    assert sure.head.scores(new)[1].mean() < 0.5 * unsure.mean()


def test_few_picks_gain_by_a_base() -> None:
    """A base that is not used, or that ten picks cannot move away from."""
    general = fitted(judged(PICKED, 400)).head
    gains = []
    for seed in range(6):
        given = judged(PICKED, 12, 600 + seed)
        if not 3 <= given.targets.sum() <= 9:
            continue
        new = vectors(800, 7)
        truth = (odds(new) > 0).astype(float)
        alone, held = (measures.auc(truth, fitted(given, base).head.raw(new)) for base in (None, general))
        gains.append(held - alone)
    assert len(gains) > 2
    assert min(gains) > 0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"targets": np.ones(40)}, "0 pictures are not picked: at least 3 of each kind"),
        ({"targets": np.zeros(40)}, "0 pictures are picked"),
        ({"groups": np.zeros((40, 2), np.int64)}, "copies of one another"),
    ],
)
def test_what_nothing_can_be_learnt_from_is_told(change: dict[str, Any], told: str) -> None:
    """A head of one class, that calls everything the same."""
    with pytest.raises(TooFewError, match=told):
        fitted(judged(PICKED, 40, **change))
    with pytest.raises(TooFewError, match="all ratings are 3: pictures of other ratings"):
        fitted(judged(RATING, 40, targets=np.full(40, 3.0)))
    with pytest.raises(TooFewError, match="5 judgements: at least 8"):
        fitted(judged(PICKED, 5))


def test_thousand_raters_in_one_pass() -> None:
    """Raters who all get the same head, or none of what all have in common."""
    count, each = 120, 20
    draw = np.random.default_rng(0)
    rows = vectors(count * each, 2)
    own = draw.standard_normal((count, DIMENSION))
    rater = np.repeat(np.arange(count), each)
    said = (odds(rows) + 2.5 * np.einsum("nd,nd->n", SPACE.rows(rows), own[rater]) > 0).astype(float)
    given = Judged(PICKED, rows, said, np.ones(len(rows)), np.column_stack([np.arange(len(rows))] * 2))
    general = fitted(given)
    found = raters.fit(given, rater, [f"r{n}" for n in range(count)], general, SPACE)
    head = raters.with_raters(general.head, found.raters)
    assert found.gained > 0.02
    new = vectors(500, 3)
    gains = []
    for number in range(0, count, 5):
        truth = (odds(new) + 2.5 * (SPACE.rows(new) @ own[number]) > 0).astype(float)
        personal = raters.of_rater(head, f"r{number}")
        gains.append(measures.auc(truth, personal.raw(new)) - measures.auc(truth, head.raw(new)))
    assert np.mean(gains) > 0.03
    assert raters.of_rater(head, "nobody") is head


def test_measures_by_hand() -> None:
    """A measure that is another: values that can be checked by hand."""
    targets, scores = np.array([1.0, 0, 1, 0]), np.array([0.9, 0.8, 0.7, 0.1])
    assert measures.auc(targets, scores) == 0.75
    assert measures.average_precision(targets, scores) == pytest.approx((1 + 2 / 3) / 2)
    assert measures.average_precision(targets, np.zeros(4)) == pytest.approx((1 / 3 + 2 / 4) / 2)
    assert measures.spearman(np.array([1.0, 2, 3]), np.array([10.0, 30, 20])) == pytest.approx(0.5)
    assert measures.kendall(np.array([1.0, 2, 3]), np.array([10.0, 30, 20])) == pytest.approx(1 / 3)
    assert measures.pairs_right(np.ones(4), np.array([1.0, 0, -1, 2])) == 0.625
    perfect = measures.figure_of(measures.AUC, np.array([1.0] * 10 + [0] * 10), np.arange(20.0)[::-1])
    assert (perfect.value, perfect.high) == (1.0, 1.0)
    assert 0.7 < perfect.low < 0.95


def test_a_distribution_has_a_mean() -> None:
    assert mean_of_bins(np.array([[0.0, 0, 0]]))[0] == pytest.approx(2)
    assert mean_of_bins(np.array([[0.0, 50, 0]]))[0] == pytest.approx(2)
    assert mean_of_bins(np.log(np.array([[0.2, 0.3, 0.5]])))[0] == pytest.approx(2.3)
    means, deviations = probabilities(np.array([0.0, 10.0]), np.array([100.0, 0.0]))
    assert means[0] == 0.5
    assert 0.3 < deviations[0] <= 0.5
    assert deviations[1] == 0


def seen(count: int = 3) -> Seen:
    cells = np.random.default_rng(1).random((count, DIMENSION, 7, 7)).astype(np.float32)
    rows = cells.mean(axis=(2, 3), dtype=np.float64)
    norms = np.linalg.norm(rows, axis=1)
    return Seen((rows / norms[:, None]).astype(np.float32), norms.astype(np.float32), cells)


def test_shares_add_up_to_the_score() -> None:
    """A map whose cells are those of a vector that was not made one of length 1."""
    layer = Layer(TRUE[None].astype(np.float32), np.array([0.7], np.float32))
    for kind, slope in ((RATING, 1.0), (PICKED, 1.7)):
        head = Head("a@1", kind, "small@1", (layer,), slope=slope, shift=0.2)
        of = seen()
        found = maps.shares(head, of)
        total = slope * (head.raw(of.vectors) - 0.7)
        assert np.allclose(found.sum(axis=(1, 2)), total, atol=1e-5)
        settled, most = maps.settled(found, total)
        assert np.allclose(settled.sum(axis=(1, 2)), total, atol=1e-12)
        assert most < 1e-5


def test_regions_and_overlay() -> None:
    """A region in the wrong corner, and a picture that keeps nothing of itself."""
    one = np.zeros((4, 4))
    one[0, :2], one[3, 3] = 5, -7
    raising, lowering = maps.regions(one)
    assert (raising.left, raising.top, raising.right, raising.bottom) == (0, 0, 0.5, 0.25)
    assert (lowering.left, lowering.top) == (0.75, 0.75)
    assert raising.adds > 0 > lowering.adds
    assert maps.regions(np.ones((3, 3))) == []
    picture = np.full((40, 60, 3), 128, np.uint8)
    drawn = maps.overlay(picture, one, 5.0)
    assert drawn.shape == picture.shape
    assert drawn[2, 10, 0] > drawn[2, 10, 2]  # orange where it raises
    assert drawn[37, 57, 2] > drawn[37, 57, 0]


def test_occlusion_finds_the_patch() -> None:
    """A patch that the network needs, in another place of the map."""
    picture = np.zeros((28, 28, 3), np.uint8)
    picture[4:8, 20:24] = 255
    found = maps.occluded(picture, lambda many: many[:, 4:8, 20:24].mean(axis=(1, 2, 3)))
    assert int(found.argmax()) == 1 * 7 + 5
    assert np.count_nonzero(found) == 1


def test_suggestions_are_unlike_one_another_and_what_was_judged() -> None:
    """Twelve suggestions of one picture: the second teaches nothing."""
    pool = np.repeat(vectors(12, 4), 5, axis=0)
    head = fitted(judged(RATING, 40)).head  # whose answers are open everywhere
    chosen = suggest.Design.of(SPACE, head, vectors(0)).choose(pool, 10)
    assert len({int(row) // 5 for row in chosen}) == 10
    after = suggest.Design.of(SPACE, head, pool[:30]).choose(pool, 3)
    assert all(row >= 30 for row in after)


def test_other_networks_have_no_cells(tmp_path: Any) -> None:
    from tests import networks

    with pytest.raises(ModelError, match="no mean over cells"):
        FeatureMap(networks.onnx_model(tmp_path), ())
