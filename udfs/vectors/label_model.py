"""Which label the content of an image tells, from its embedding and from the labels of its neighbours.

The classifier is linear discriminant analysis with a shrunk covariance (Hastie, Tibshirani and Friedman, The Elements
of Statistical Learning, 4.3 and 18.3): like multinomial logistic regression a softmax of linear functions, but found
in one step from sums, for any number of classes, and where labels are wrong it tells them apart better. It is
cross-validated: an image is never judged by a model that has seen it or a duplicate of it.

    p(class | image)  in proportion to  exp(scale * discriminant(class)) * (1 + votes(class)) ** weight

votes are the neighbours with that label; scale and weight are fitted to the out-of-sample log-likelihood of the given
labels (stacking; Wolpert 1992), which also makes the probabilities honest where labels are noisy.

Thresholds, confident joint and flag are those of confident learning (Northcutt, Jiang and Chuang 2021, JAIR 70). The
score is the probability that the given label is right under the noise that the joint tells:

    score = p(given) T(given, given) / sum over classes k of p(k) T(given, k)

with T(given, true) the joint with columns of sum 1. RANDOM_SHARE of what lies off its diagonal is spread evenly over
the classes: the joint counts likely confusions, and a label may also be wrong at random."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from udfs.vectors.cosine import Ids, Vectors

if TYPE_CHECKING:
    import scipy.sparse  # costs 0.1 s to import, its linalg and optimize 0.3 s: only what fits a model does so

NOBODY = -1  # in the place of a class
SHRINKAGES = (0.1, 0.3, 0.6, 0.9)  # share of the covariance that is a multiple of the identity; one is chosen
RANDOM_SHARE = 0.6  # of the noise that the joint tells; 0 ranks noise between similar classes best, 1 random noise
MOST_DIMENSIONS = 1536  # numbers of a vector that the covariance is made of; longer ones are projected
CELLS_AT_ONCE = 8_000_000  # images x classes of one step: 64 MB as float64
LEAST_LOG = -700.0  # of a probability: exp takes eight times as long where its result is no normal number
FIT_CELLS = 20_000_000  # images x classes that scale, weight and shrinkage are fitted to: enough for three numbers
# Of T's diagonal. A class that is never confident is not certain to be wrong, and none is free of wrong labels: ten
# benchmark sets have 3 % on average (Northcutt, Athalye and Mueller 2021), and a sample may miss those of a class.
LEAST_DIAGONAL, MOST_DIAGONAL = 1e-3, 0.99

Probabilities = NDArray[np.float64]


@dataclass(frozen=True)
class Examples:
    """Images with a label. vectors: (n, d) float32. classes: (n,) in 0..C-1. folds: (n,) from 0. votes: (n, k) classes
    of the neighbours, NOBODY where there is none. In an order that says nothing of their classes."""

    vectors: Vectors
    classes: NDArray[np.int32]
    folds: NDArray[np.int32]
    votes: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.classes)

    def rows(self, which: slice) -> Examples:
        return Examples(self.vectors[which], self.classes[which], self.folds[which], self.votes[which])

    def parts(self, classes: int, cells: int = CELLS_AT_ONCE) -> Iterator[Examples]:
        """In parts that have at most so many cells of images x classes."""
        step = max(1, cells // max(classes, 1))
        for start in range(0, len(self), step):
            yield self.rows(slice(start, start + step))


@dataclass(frozen=True)
class LabelModel:
    """A fitted model of C classes and F folds for vectors of d numbers.

    coefficients: (F, d, C) and intercepts: (F, C) float32, each fold's found without its images. scale, weight: see
    above. thresholds: (C,) mean probability of a class among the images with that label. kept: (C,) diagonal of T.
    confused: (C, C) its off-diagonal, by given and true class, the even part left out. stray: (C,) what of it each
    other class gets evenly, by true class. typical: (C,) the row of the examples that is surest to be of a class."""

    coefficients: NDArray[np.float32]
    intercepts: NDArray[np.float32]
    scale: float
    weight: float
    thresholds: Probabilities
    kept: Probabilities
    confused: scipy.sparse.csr_array
    stray: Probabilities
    typical: Ids

    def probabilities(self, images: Examples) -> Probabilities:
        """(n, C), rows of sum 1, each by the model of the image's fold."""
        return combined(
            discriminants(self.coefficients, self.intercepts, images), images.votes, self.scale, self.weight
        )

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
        # T's row of each given label times the probabilities: how likely each class is to be the true one.
        true = self.confused[given].multiply(found).toarray() + found * self.stray
        true[rows, given] = confidence * self.kept[given]
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


def fit(examples: Examples, sizes: NDArray[np.int64], folds: int) -> LabelModel:
    """Fits a model to examples of all classes, each in two folds at least. sizes: (C,) images of each class in all.

    Raises ValueError for fewer than two classes, or a class that is in one fold only."""
    count = len(sizes)
    if count < 2 or not in_two_folds(examples.classes, examples.folds, count).all():
        raise ValueError("a model needs two classes, each with images in two folds")
    sums = [_Sums.of(examples, fold, count) for fold in range(folds)]
    some = examples.rows(slice(0, max(1000, FIT_CELLS // count)))
    best: tuple[float, tuple[float, float], float] | None = None
    for shrinkage in SHRINKAGES:
        coefficients, intercepts = _coefficients(sums, sizes, shrinkage)
        loss, mixture = stacked(discriminants(coefficients, intercepts, some), some)
        if best is None or loss < best[0]:
            best = loss, mixture, shrinkage
            chosen = coefficients, intercepts
    (scale, weight) = best[1] if best else (1.0, 0.0)

    def found() -> Iterator[tuple[Examples, Probabilities]]:
        for part in examples.parts(count):
            yield part, combined(discriminants(*chosen, part), part.votes, scale, weight)

    from scipy import sparse

    members = np.bincount(examples.classes, minlength=count)
    thresholds, typical = np.zeros(count), np.full(count, -1, np.int64)
    surest, start = np.full(count, -1.0), 0
    for part, probabilities in found():
        own = probabilities[np.arange(len(part)), part.classes]
        np.add.at(thresholds, part.classes, own)
        order = np.lexsort((-np.arange(len(part)), own))  # the surest last, and of equals the first
        typical_here = np.full(count, -1, np.int64)
        typical_here[part.classes[order]] = order
        better = (typical_here >= 0) & (np.where(typical_here >= 0, own[typical_here], -1) > surest)
        typical[better] = typical_here[better] + start
        surest[better] = own[typical_here[better]]
        start += len(part)
    thresholds /= members
    joint = sparse.csr_array((count, count))
    for part, probabilities in found():
        confident = confident_classes(probabilities, thresholds)
        known = confident != NOBODY
        ones = np.ones(int(known.sum()))
        joint = joint + sparse.csr_array((ones, (part.classes[known], confident[known])), shape=(count, count))
    return LabelModel(*chosen, scale, weight, thresholds, *noise(joint, sizes), typical)


@dataclass(frozen=True)
class _Sums:
    """Of the examples of a fold: images (C,) and sums (C, d) by class, products (d, d) of all."""

    images: NDArray[np.int64]
    sums: NDArray[np.float32]
    products: NDArray[np.float64]

    @staticmethod
    def of(examples: Examples, fold: int, count: int) -> _Sums:
        from scipy import sparse

        rows = np.flatnonzero(examples.folds == fold)
        vectors, classes = examples.vectors[rows], examples.classes[rows]
        ones = np.ones(len(rows), np.float32)
        member = sparse.csr_array((ones, (classes, np.arange(len(rows)))), shape=(count, len(rows)))
        images = np.bincount(classes, minlength=count)
        return _Sums(images, np.asarray(member @ vectors, np.float32), (vectors.T @ vectors).astype(np.float64))


def _coefficients(
    sums: list[_Sums], sizes: NDArray[np.int64], shrinkage: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(F, d, C) and (F, C): the discriminants of each fold, from the images of all others."""
    from scipy.linalg import solve

    dimension, count = sums[0].products.shape[0], len(sizes)
    coefficients = np.zeros((len(sums), dimension, count), np.float32)
    intercepts = np.full((len(sums), count), -np.inf, np.float32)
    prior = np.log(sizes / sizes.sum())
    images, total, products = sum(s.images for s in sums), sum(s.sums for s in sums), sum(s.products for s in sums)
    for fold, own in enumerate(sums):
        rest = np.asarray(images - own.images)
        known = rest > 0
        number = rest[known]
        # Of float32 sums too: the difference of two of them is as exact as the vectors.
        means = np.asarray(total - own.sums, np.float64)[known] / number[:, None]
        within = (products - own.products - (means.T * number) @ means) / number.sum()
        within *= 1 - shrinkage
        within[np.diag_indices(dimension)] += max(shrinkage * np.trace(within) / (1 - shrinkage) / dimension, 1e-12)
        solved = solve(within, means.T, assume_a="pos")
        coefficients[fold][:, known] = solved
        intercepts[fold][known] = prior[known] - 0.5 * np.einsum("cd,dc->c", means, solved)
    return coefficients, intercepts


def discriminants(
    coefficients: NDArray[np.float32], intercepts: NDArray[np.float32], images: Examples
) -> NDArray[np.float32]:
    """(n, C) of the model of each image's fold; -inf where it knows no image of the class."""
    found = np.empty((len(images), coefficients.shape[2]), np.float32)
    for fold in range(len(coefficients)):
        rows = np.flatnonzero(images.folds == fold)
        if len(rows):
            found[rows] = images.vectors[rows] @ coefficients[fold] + intercepts[fold]
    return found


def vote_counts(votes: NDArray[np.int32], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64], Probabilities]:
    """Rows, classes and numbers of the votes, where there are any. votes: (n, k)."""
    rows = np.repeat(np.arange(len(votes)), votes.shape[1])
    cast = votes.ravel() != NOBODY
    places, numbers = np.unique(rows[cast] * count + votes.ravel()[cast], return_counts=True)
    return places // count, places % count, numbers.astype(np.float64)


def combined(
    discriminants: NDArray[np.float32], votes: NDArray[np.int32], scale: float, weight: float
) -> Probabilities:
    """(n, C) probabilities, rows of sum 1."""
    found = np.multiply(discriminants, scale, dtype=np.float64)
    rows, classes, numbers = vote_counts(votes, found.shape[1])
    found[rows, classes] += weight * np.log1p(numbers)
    found -= found.max(axis=1, keepdims=True)
    np.maximum(found, LEAST_LOG, out=found)
    np.exp(found, out=found)
    found /= found.sum(axis=1, keepdims=True)
    return found


def stacked(discriminants: NDArray[np.float32], images: Examples) -> tuple[float, tuple[float, float]]:
    """The least mean negative log-likelihood of the given labels, and the scale and weight that have it."""
    from scipy.optimize import minimize

    # A class that a fold does not know is as unlikely as the unlikeliest that it knows.
    lowest = np.where(np.isfinite(discriminants), discriminants, np.inf).min(axis=1, keepdims=True)
    known = np.maximum(discriminants, lowest).astype(np.float64)
    rows, classes, numbers = vote_counts(images.votes, known.shape[1])
    logs, every = np.log1p(numbers), np.arange(len(images))
    lowered, own_known = known.astype(np.float32), known[every, images.classes].sum()
    is_given = classes == images.classes[rows]

    def loss(mixture: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        found = combined(lowered, images.votes, *mixture)
        own = np.maximum(found[every, images.classes], 1e-300)
        by_scale = np.vdot(found, known) - own_known
        by_weight = (found[rows, classes] * logs).sum() - logs[is_given].sum()
        return float(-np.log(own).mean()), np.array([by_scale, by_weight]) / len(images)

    fitted = minimize(
        loss, [0.3, 0.5], jac=True, bounds=[(0.001, 10.0), (0.0, 10.0)], method="L-BFGS-B", options={"maxiter": 30}
    )
    return float(fitted.fun), (float(fitted.x[0]), float(fitted.x[1]))


def confident_classes(probabilities: Probabilities, thresholds: Probabilities) -> NDArray[np.int64]:
    """(n,) the likeliest of the classes whose threshold an image reaches, NOBODY where it reaches none."""
    reached = np.where(probabilities >= thresholds, probabilities, -1.0)
    best = reached.argmax(axis=1)
    return np.where(reached[np.arange(len(best)), best] >= 0, best, NOBODY)


def noise(
    joint: scipy.sparse.csr_array, sizes: NDArray[np.int64]
) -> tuple[Probabilities, scipy.sparse.csr_array, Probabilities]:
    """kept, confused and stray of LabelModel from the confident joint, counts by given and confident class."""
    from scipy import sparse

    count = len(sizes)
    given = np.maximum(np.asarray(joint.sum(axis=1)).ravel(), 1e-9)
    calibrated = sparse.diags_array(sizes / given) @ joint  # rows of the sizes that the classes have
    true = np.maximum(np.asarray(calibrated.sum(axis=0)).ravel(), 1e-9)
    columns = sparse.csr_array(calibrated @ sparse.diags_array(1 / true))
    diagonal = columns.diagonal()
    kept = np.clip(diagonal, LEAST_DIAGONAL, MOST_DIAGONAL)
    confused = sparse.csr_array(columns - sparse.diags_array(diagonal))
    confused.eliminate_zeros()
    confusions = (1 - RANDOM_SHARE) * (1 - diagonal)
    return kept, (1 - RANDOM_SHARE) * confused, (1 - kept - confusions) / (count - 1)
