"""Which label the content of an image tells, from its embedding and from the labels of its neighbours.

The classifier (udfs/labels/classifier.py) learns from labels some of which are wrong, so it and the noise are
learnt together, by expectation and maximisation (Dempster, Laird and Rubin 1977; for noisy labels Dawid and Skene 1979,
Bekker and Goldberger 2016). It begins with the classifier of the given labels, and with the noise that confident
learning's joint tells (Northcutt, Jiang and Chuang 2021, JAIR 70). ROUNDS times then

- the probability of each class k to be the true one of an image, p(k) T(k, given) / sum over j of p(j) T(j, given),
- from these the classifier, each image counting for each class so much, with intercepts by which each class is told as
  often as these probabilities say,
- and T(true, given) from the sums of these by given and true class, with the mixture that wins under it. How far the
  labels of a class are drawn to what is usual of all (noise at random, or of some pairs of classes) is what gives the
  images of each fold the highest likelihood when T is that of the other folds; noise at random unless pairs are
  clearly likelier.

Few wrong labels are soon overfitted: a round is kept only where the images of each fold are likelier by it than by the
round that was kept, by more than the standard error of the difference (early stopping by the one-standard-error rule;
Breiman, Friedman, Olshen and Stone, Classification and Regression Trees, 1984, 3.4.3). At last T is made so many times
as strong as the likelihood tells (udfs/labels/share.py). The score is that probability of the given label. Thresholds
are those of confident learning."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from udfs.labels import noise as label_noise
from udfs.labels import share as label_share
from udfs.labels.classifier import (
    NOBODY,
    Discriminants,
    Examples,
    Mixture,
    Moments,
    Stack,
    combined,
    discriminants,
    hard,
)
from udfs.labels.noise import Noise, Probabilities
from udfs.labels.share import Estimate
from udfs.vectors.cosine import Ids

if TYPE_CHECKING:
    import scipy.sparse

SHRINKAGES = (0.1, 0.3, 0.6, 0.9)  # of Discriminants; one is chosen
MOST_DIMENSIONS = 1536  # numbers of a vector that the covariance is made of; longer ones are projected
FIT_CELLS = 20_000_000  # images x classes that scale, weight and shrinkage are fitted to: enough for three numbers
# Images by which the wrong labels of a class are drawn to those of all; what is likeliest on held-out folds is taken.
SPREADS = (1.0, 5.0, 25.0, 125.0, 3125.0)
PAIRS_ERRORS = 2.0  # standard errors by which pairs of classes must be likelier than noise at random
LEAST_PRIOR = 1e-12
ROUNDS = 3  # at most: the ranking gains nothing from a fourth
LEAST_SHARE = 1e-3  # of an image in a class; less is none
PROFILE_CELLS = 5_000_000  # images x classes that the strength of the noise is fitted to, some ten times
LEAST_TIMES = 0.25  # of the noise in the scores: where none can be shown they still rank


@dataclass(frozen=True)
class LabelModel:
    """A fitted model of C classes and F folds for vectors of d numbers.

    coefficients: (F, d, C) and intercepts: (F, C) float32, each fold's found without its images. scale, weight: of
    the classifier. noise: how labels become wrong. thresholds: (C,) mean probability of a class among the images with
    that label. typical: (C,) the row of the examples that is surest to be of a class."""

    coefficients: NDArray[np.float32]
    intercepts: NDArray[np.float32]
    scale: float
    weight: float
    noise: Noise
    thresholds: Probabilities
    typical: Ids

    def probabilities(self, images: Examples) -> Probabilities:
        """(n, C), rows of sum 1, each by the model of the image's fold."""
        found = discriminants(self.coefficients, self.intercepts, images)
        return combined(found, images.votes, (self.scale, self.weight, 0.0), np.zeros(found.shape[1]))

    def judge(self, images: Examples) -> Judged:
        """What the model says of the labels of any number of images."""
        parts = [self._judge(part) for part in images.parts(len(self.thresholds))] or [self._judge(images)]
        columns = zip(*(part.columns() for part in parts), strict=True)
        return Judged(*(np.concatenate(column) for column in columns))

    def _judge(self, images: Examples) -> Judged:
        rows, given = np.arange(len(images)), images.classes
        found = self.probabilities(images)
        confident = confident_classes(found, self.thresholds)
        confidence = found[rows, given]
        true = found * self.noise.likelihoods(given)
        true /= np.maximum(true.sum(axis=1, keepdims=True), 1e-300)
        score = true[rows, given]
        true[rows, given] = -1.0
        likely = true.argmax(axis=1)
        return Judged(
            confidence, score, likely.astype(np.int32), true[rows, likely], confident.astype(np.int32),
            (images.votes == given[:, None]).sum(axis=1),
            (images.votes != NOBODY).sum(axis=1),
        )  # fmt: skip


@dataclass(frozen=True)
class Judged:
    """Of (n,) images: the probability that the content tells of the given label; the score in [0, 1] (low is bad); of
    the other classes the one that is likeliest to be the true one where this label was given, and how likely, on the
    scale of the score; the class that the image is confidently of or NOBODY; the neighbours that have the given label,
    and all that have one."""

    confidence: Probabilities
    score: Probabilities
    likely: NDArray[np.int32]
    likely_confidence: Probabilities
    confident: NDArray[np.int32]
    agreeing: NDArray[np.int64]
    voting: NDArray[np.int64]

    def columns(self) -> tuple[NDArray[np.generic], ...]:
        return (
            self.confidence, self.score, self.likely, self.likely_confidence, self.confident, self.agreeing, self.voting
        )  # fmt: skip


def in_two_folds(classes: NDArray[np.int32], folds: NDArray[np.int32], count: int) -> NDArray[np.bool_]:
    """(count,) whether a class has images in two folds or more: without them no model can know of it that has not
    seen the images that it is to judge."""
    first = np.full(count, np.iinfo(np.int32).max, np.int32)
    last = np.full(count, -1, np.int32)
    np.minimum.at(first, classes, folds)
    np.maximum.at(last, classes, folds)
    return first < last


def projection(dimension: int, seed: int = 0) -> NDArray[np.float32] | None:
    """(dimension, MOST_DIMENSIONS) that keeps the distances of longer vectors (Johnson and Lindenstrauss), or None."""
    if dimension <= MOST_DIMENSIONS:
        return None
    drawn = np.random.default_rng(seed).standard_normal((dimension, MOST_DIMENSIONS), np.float32)
    return drawn / np.float32(np.sqrt(MOST_DIMENSIONS))


@dataclass(frozen=True)
class Fitted:
    """model, made with shrinkage, and of the examples that it was fitted to judged: what it says of them; lake: the
    share of labels that are wrong, each class weighed by its size; of_class: (C,) shares of each class, and the ends of
    their intervals."""

    model: LabelModel
    shrinkage: float
    judged: Judged
    lake: Estimate
    of_class: tuple[Probabilities, Probabilities, Probabilities]


def fit(examples: Examples, sizes: NDArray[np.int64], folds: int) -> Fitted:
    """Fits a model to examples of all classes, each in two folds at least. sizes: (C,) images of each class in all.

    Raises ValueError for fewer than two classes, or a class that is in one fold only."""
    count = len(sizes)
    if count < 2 or not in_two_folds(examples.classes, examples.folds, count).all():
        raise ValueError("a model needs two classes, each with images in two folds")
    weights = (sizes / np.bincount(examples.classes, minlength=count))[examples.classes]
    weights *= len(examples) / weights.sum()  # of what each example stands for
    some = examples.rows(slice(0, max(1000, FIT_CELLS // count)))
    few = examples.rows(slice(0, max(1000, PROFILE_CELLS // count)))
    moments = [Moments.of(examples, fold, hard(examples.classes, count)) for fold in range(folds)]
    chosen, mixture, shrinkage = _of_given(moments, _logarithms(sizes / sizes.sum()), some, weights)
    stack = chosen.stack(few, weights)
    chosen = chosen.shifted(stack.levelled(None, mixture))
    loss, mixture = stack.fitted(None, mixture)
    right = loss * stack.total
    joint = label_noise.calibrated(_confident_joint(some, chosen, mixture), sizes)
    noise, told, mixture = _likeliest(stack, joint, [joint] * folds, sizes, mixture)
    rounds: list[Learnt] = []
    for _ in range(ROUNDS):
        shares, prior = _expected(examples, chosen, mixture, noise, weights)
        again = [Moments.of(examples, fold, shares, known.products) for fold, known in enumerate(moments)]
        chosen = Classifier(*Discriminants(again).coefficients(shrinkage), _logarithms(prior))
        stack = chosen.stack(few, weights)
        chosen = chosen.shifted(stack.levelled(told, mixture))
        counts = _by_fold(examples, shares, weights, folds)
        whole = sum(counts[1:], counts[0])
        noise, told, mixture = _likeliest(stack, whole, [whole - own for own in counts], sizes, mixture)
        learnt = Learnt(chosen, stack, noise, told, mixture, stack.losses(told, mixture))
        if not rounds or learnt.likelier(rounds[0]):
            rounds = [learnt]
    kept = rounds[0]
    chosen, noise = kept.classifier, kept.noise
    likely = label_share.profile(kept.stack, kept.told, kept.mixture, few.folds, right)
    judging = max(likely.times if likely.shown else likely.cautious, LEAST_TIMES)
    noise = noise.times(judging)
    told_at_last = (chosen.told(part, likely.mixture) for part in examples.parts(count))
    thresholds, typical = _surest(examples, told_at_last, count)
    model = LabelModel(*chosen.leaning(likely.mixture), *likely.mixture[:2], noise, thresholds, typical)
    judged = model.judge(examples)
    shares, low, high = label_share.of_classes(examples.classes, judged.score, count, likely.nats)
    times = likely.times if likely.shown else 0.0
    shares = np.clip(shares * min(1.0, times / judging), low, high)
    per = likely.share / likely.times
    # Were none of these wrong, so many of all still could be.
    unseen = label_share.NATS / len(few)
    caution = min(1.0, likely.cautious / judging)
    lake = Estimate(per * times, per * likely.low, min(1.0, max(per * likely.high, unseen)), caution)
    return Fitted(model, shrinkage, judged, lake, (shares, low, high))


@dataclass(frozen=True)
class Classifier:
    """coefficients: (F, d, C) and intercepts: (F, C) of Discriminants. prior: (C,) logarithms of the shares of the
    classes."""

    coefficients: NDArray[np.float32]
    intercepts: NDArray[np.float32]
    prior: Probabilities

    def shifted(self, by: Probabilities) -> Classifier:
        """by: (C,), of Stack.levelled."""
        return Classifier(self.coefficients, (self.intercepts + by).astype(np.float32), self.prior)

    def stack(self, images: Examples, weights: Probabilities) -> Stack:
        return Stack(discriminants(self.coefficients, self.intercepts, images), images, weights, self.prior)

    def told(self, images: Examples, mixture: Mixture) -> Probabilities:
        """(n, C), rows of sum 1."""
        found = discriminants(self.coefficients, self.intercepts, images)
        return combined(found, images.votes, mixture, self.prior)

    def leaning(self, mixture: Mixture) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Coefficients, and intercepts in which the prior is contained as the mixture has it."""
        return self.coefficients, (self.intercepts + mixture[2] / mixture[0] * self.prior).astype(np.float32)


@dataclass(frozen=True)
class Learnt:
    """Of a round. stack: of some images. noise: that of all images; told: of each fold that of the others. losses:
    (n,) of the images of the stack."""

    classifier: Classifier
    stack: Stack
    noise: Noise
    told: list[Noise]
    mixture: Mixture
    losses: Probabilities

    def likelier(self, than: Learnt) -> bool:
        """By more than the standard error of the sum of the differences."""
        gains = than.losses - self.losses
        return bool(gains.sum() > np.sqrt(len(gains)) * gains.std())


def _of_given(
    moments: list[Moments], prior: Probabilities, images: Examples, weights: Probabilities
) -> tuple[Classifier, Mixture, float]:
    """The classifier of the labels as they are, its mixture, and the shrinkage: of SHRINKAGES the likeliest."""
    given = Discriminants(moments)
    tried = []
    for shrinkage in SHRINKAGES:
        classifier = Classifier(*given.coefficients(shrinkage), prior)
        loss, mixture = classifier.stack(images, weights).fitted()
        tried.append((loss, classifier, mixture, shrinkage))
    return min(tried, key=lambda one: one[0])[1:]


def _logarithms(shares: Probabilities) -> Probabilities:
    return np.asarray(np.log(np.maximum(shares, LEAST_PRIOR)))


def _expected(
    examples: Examples, chosen: Classifier, mixture: Mixture, noise: Noise, weights: Probabilities
) -> tuple[scipy.sparse.csr_array, Probabilities]:
    """(n, C) probability of each class to be the true one of an example, what is less than LEAST_SHARE left out, and
    (C,) share of the classes."""
    from scipy import sparse

    count = len(noise.kept)
    parts, prior, start = [], np.zeros(count), 0
    for part in examples.parts(count):
        true = chosen.told(part, mixture) * noise.likelihoods(part.classes)
        true /= np.maximum(true.sum(axis=1, keepdims=True), 1e-300)
        prior += weights[start : start + len(part)] @ true
        start += len(part)
        every = np.arange(len(part))
        true[every, part.classes] = np.maximum(true[every, part.classes], LEAST_SHARE)
        true[true < LEAST_SHARE] = 0.0
        true /= true.sum(axis=1, keepdims=True)
        parts.append(sparse.csr_array(true.astype(np.float32)))
    return sparse.csr_array(sparse.vstack(parts)), prior / prior.sum()


def _by_fold(
    examples: Examples, shares: scipy.sparse.csr_array, weights: Probabilities, folds: int
) -> list[scipy.sparse.csr_array]:
    """Of each fold (C, C) sums of the weights by given and true class."""
    from scipy import sparse

    given = hard(examples.classes, shares.shape[1]).astype(np.float64)
    found = []
    for fold in range(folds):
        rows = np.flatnonzero(examples.folds == fold)
        found.append(sparse.csr_array(given[rows].T @ sparse.diags_array(weights[rows]) @ shares[rows]))
    return found


def _likeliest(
    stack: Stack, whole: scipy.sparse.csr_array, others: list[scipy.sparse.csr_array], sizes: NDArray[np.int64],
    mixture: Mixture,
) -> tuple[Noise, list[Noise], Mixture]:  # fmt: skip
    """The noise by its counts, that of each fold by the others' counts, and the mixture: by the largest of SPREADS that
    is not less likely than the likeliest by more than PAIRS_ERRORS.

    whole: (C, C) by given and true class. others: of each fold, without its images. mixture: where it is looked for."""
    tried = []
    for spread in SPREADS:
        told = [label_noise.of_counts(own, spread, sizes) for own in others]
        _, found = stack.fitted(told, mixture)
        tried.append((spread, told, found, stack.losses(told, found)))
    least = min((losses for *_, losses in tried), key=np.sum)
    # Classes that are hard to tell apart look like labels that are confused.
    spread, told, found, _ = next(one for one in reversed(tried) if _is_as_likely(one[-1], least))
    return label_noise.of_counts(whole, spread, sizes), told, found


def _is_as_likely(losses: Probabilities, least: Probabilities) -> bool:
    gaps = losses - least
    return bool(gaps.sum() <= PAIRS_ERRORS * np.sqrt(len(gaps)) * gaps.std())


def _confident_joint(examples: Examples, chosen: Classifier, mixture: Mixture) -> scipy.sparse.csr_array:
    """(C, C) counts by given and confident class."""
    from scipy import sparse

    count = len(chosen.prior)
    found = [chosen.told(part, mixture) for part in examples.parts(count)]
    thresholds, _ = _surest(examples, found, count)
    joint = sparse.csr_array((count, count))
    for part, probabilities in zip(examples.parts(count), found, strict=True):
        confident = confident_classes(probabilities, thresholds)
        known = confident != NOBODY
        ones = np.ones(int(known.sum()))
        joint = joint + sparse.csr_array((ones, (part.classes[known], confident[known])), shape=(count, count))
    return joint


def _surest(examples: Examples, told: Iterable[Probabilities], count: int) -> tuple[Probabilities, Ids]:
    """thresholds and typical of LabelModel; 1 and -1 of a class that has no example. told: of the parts."""
    sums, typical = np.zeros(count), np.full(count, -1, np.int64)
    surest, start = np.full(count, -1.0), 0
    for part, probabilities in zip(examples.parts(count), told, strict=True):
        own = probabilities[np.arange(len(part)), part.classes]
        np.add.at(sums, part.classes, own)
        order = np.lexsort((-np.arange(len(part)), own))  # the surest last, and of equals the first
        typical_here = np.full(count, -1, np.int64)
        typical_here[part.classes[order]] = order
        better = (typical_here >= 0) & (np.where(typical_here >= 0, own[typical_here], -1) > surest)
        typical[better] = typical_here[better] + start
        surest[better] = own[typical_here[better]]
        start += len(part)
    members = np.bincount(examples.classes, minlength=count)
    return np.where(members > 0, sums / np.maximum(members, 1), 1.0), typical


def confident_classes(probabilities: Probabilities, thresholds: Probabilities) -> NDArray[np.int64]:
    """(n,) the likeliest of the classes whose threshold an image reaches, NOBODY where it reaches none."""
    reached = np.where(probabilities >= thresholds, probabilities, -1.0)
    best = reached.argmax(axis=1)
    return np.where(reached[np.arange(len(best)), best] >= 0, best, NOBODY)
