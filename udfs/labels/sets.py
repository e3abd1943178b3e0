"""Several labels an image: which of them hold, from its embedding.

For each class the images that have it stand against all others: a linear discriminant of two classes, whose covariance
is shrunk (Hastie, Tibshirani and Friedman, The Elements of Statistical Learning, 4.3). With the covariance T of all,
the share s of it that is a multiple of the identity, the share p of the images in the class and the difference D of the
two means, the covariance within is (1 - s) (T - p (1 - p) D D') + the rest of T, so that one factorisation serves all
classes (Sherman and Morrison 1950). It is cross-validated as in udfs/labels/classifier.py. Then

    p(class holds | image) = sigmoid(scale * discriminant + lean * logit(p) + bias)
    p(class given | image) = p(holds) (1 - dropped) + (1 - p(holds)) added p / (1 - p)

with five numbers of all classes, fitted to the likelihood of what is given: out of fold, so probabilities are honest.
The two noises are drawn to one another (RATIO), for what is given tells little of their ratio: where one of them were 0
nothing of its kind could be wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from udfs.labels.classifier import CELLS_AT_ONCE, Examples, discriminants
from udfs.labels.noise import Probabilities
from udfs.labels.share import NATS
from udfs.vectors.cosine import Vectors

if TYPE_CHECKING:
    import scipy.sparse

SHRINKAGES = (0.1, 0.3, 0.6, 0.9)  # one is chosen
FIT_CELLS = 2_000_000  # images x classes that the five numbers are fitted to
LEAST_PART = 1e-9  # share of an absent class
RATIO = float(np.log(2))  # standard deviation of the logarithm of the ratio of the two noises
LEAST_NOISE, MOST_NOISE = -9.0, float(np.log(0.5))  # logarithms
STARTS = (-3.0, -5.0)
UNSHOWN = 0.005  # noise in the scores where none can be shown: they still rank


@dataclass(frozen=True)
class Sets:
    """Images with sets of labels. vectors: (n, d) float32. given: (n, C) of ones. folds: (n,) from 0. weights: (n,)
    what each stands for. In an order that says nothing of their labels."""

    vectors: Vectors
    given: scipy.sparse.csr_array
    folds: NDArray[np.int32]
    weights: Probabilities

    def __len__(self) -> int:
        return len(self.folds)

    def rows(self, which: slice) -> Sets:
        return Sets(self.vectors[which], self.given[which], self.folds[which], self.weights[which])

    def parts(self, cells: int = CELLS_AT_ONCE) -> Iterator[Sets]:
        """In parts that have at most so many cells of images x classes."""
        step = max(1, cells // max(self.given.shape[1], 1))
        for start in range(0, len(self), step):
            yield self.rows(slice(start, start + step))


def of_lists(rows: NDArray[np.int64], classes: NDArray[np.int64], shape: tuple[int, int]) -> scipy.sparse.csr_array:
    """(n, C) of ones. rows, classes: of each label, no pair twice, rows ascending."""
    from scipy import sparse

    ends = np.searchsorted(rows, np.arange(shape[0] + 1))
    return sparse.csr_array((np.ones(len(rows), np.float32), classes.astype(np.int32), ends), shape=shape)


def lacking(given: scipy.sparse.csr_array, folds: NDArray[np.int32], count: int) -> NDArray[np.bool_]:
    """(C,) classes that some fold's model would not know: without an image, in the other folds, that has it, or none
    that has it not. count: of the folds."""
    by_fold = np.array([np.asarray(given[folds == fold].sum(axis=0)).ravel() for fold in range(count)])
    images = np.bincount(folds, minlength=count)
    has, all_others = by_fold.sum(axis=0) - by_fold, images.sum() - images
    return np.asarray(((has == 0) | (has == all_others[:, None])).any(axis=0))


@dataclass(frozen=True)
class Fitting:
    """scale, lean, bias, dropped and added: see above."""

    scale: float
    lean: float
    bias: float
    dropped: float
    added: float

    def noises(self, prior: Probabilities) -> tuple[float, Probabilities]:
        """The probabilities that a label which holds is not given, and (C,) that one is given which does not hold.
        prior: (C,) logits."""
        return self.dropped, self.added * np.exp(prior)


@dataclass(frozen=True)
class SetModel:
    """Of C classes and F folds. coefficients: (F, d, C), intercepts: (F, C) float32. prior: (C,) logits of the shares
    of the classes."""

    coefficients: NDArray[np.float32]
    intercepts: NDArray[np.float32]
    prior: Probabilities
    fitting: Fitting

    def discriminants(self, images: Sets) -> NDArray[np.float32]:
        """(n, C) of the model of each image's fold."""
        nothing = np.empty((len(images), 0), np.int32)
        rows = Examples(images.vectors, np.zeros(len(images), np.int32), images.folds, nothing)
        return discriminants(self.coefficients, self.intercepts, rows)

    def judge(self, images: Sets) -> tuple[NDArray[np.bool_], Probabilities]:
        """(n, C) what is given, and the probability that each label holds, by the image and by whether it is given."""
        given = images.given.toarray() > 0
        told = self.fitting
        holds = _sigmoid(told.scale * self.discriminants(images) + told.lean * self.prior + told.bias)
        dropped, added = told.noises(self.prior)
        there = np.where(given, 1 - dropped, dropped) * holds
        not_there = np.where(given, added, 1 - np.minimum(added, 1.0)) * (1 - holds)
        return given, there / np.maximum(there + not_there, 1e-300)


def fit(images: Sets, folds: int) -> tuple[SetModel, float | None]:
    """The model, and the share of the given labels that does not hold: None where that all hold is as likely, by NATS.
    images: no class of them is lacking, and there is one."""
    count = images.given.shape[1]
    some = images.rows(slice(0, max(1000, FIT_CELLS // count)))
    sums = [_Sums.of(images, fold) for fold in range(folds)]
    share = np.sum([own.has for own in sums], axis=0) / np.sum([own.images for own in sums])
    prior = np.log(share / np.maximum(1 - share, LEAST_PART))
    tried = []
    for shrinkage in SHRINKAGES:
        model = SetModel(*_discriminants(sums, shrinkage), prior, Fitting(0.3, 0.3, 0.0, 0.0, 0.0))
        tried.append((*_Likelihood(model, some).without_noise(), model))
    right, clean, chosen = min(tried, key=lambda one: one[0])
    wrong, noisy = _Likelihood(chosen, some).with_noise()
    shown = right - wrong > NATS
    told = noisy if shown else replace(clean, dropped=UNSHOWN, added=UNSHOWN)
    fitted = replace(chosen, fitting=told)
    return fitted, _wrong(fitted, some) if shown else None


def _wrong(model: SetModel, images: Sets) -> float:
    """The share of the given labels that does not hold."""
    wrong = total = 0.0
    for part in images.parts():
        given, holds = model.judge(part)
        wrong += float(part.weights @ ((1 - holds) * given).sum(axis=1))
        total += float(part.weights @ given.sum(axis=1))
    return wrong / max(total, 1e-9)


def _sigmoid(values: NDArray[np.floating]) -> Probabilities:
    from scipy.special import expit

    return np.asarray(expit(values), np.float64)


@dataclass(frozen=True)
class _Sums:
    """Of the images of a fold, each counting as much as it stands for: how many there are and how many have each class
    (C,), the sums of their vectors (d,) and (C, d), and of their products (d, d)."""

    images: float
    has: Probabilities
    total: Probabilities
    sums: Probabilities
    products: Probabilities

    @staticmethod
    def of(images: Sets, fold: int) -> _Sums:
        rows = np.flatnonzero(images.folds == fold)
        weights, vectors = images.weights[rows], images.vectors[rows].astype(np.float64)
        heavy = vectors * weights[:, None]
        given = images.given[rows].astype(np.float64)
        return _Sums(
            float(weights.sum()), np.asarray(given.T @ weights), heavy.sum(axis=0), np.asarray(given.T @ heavy),
            heavy.T @ vectors,
        )  # fmt: skip


def _discriminants(sums: list[_Sums], shrinkage: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(F, d, C) and (F, C): of each fold from the images of all others."""
    from scipy.linalg import cho_factor, cho_solve

    dimension, count = len(sums[0].total), len(sums[0].has)
    coefficients = np.zeros((len(sums), dimension, count), np.float32)
    intercepts = np.zeros((len(sums), count), np.float32)
    whole = _Sums(*(sum(columns) for columns in zip(*(tuple(vars(own).values()) for own in sums), strict=True)))
    for fold, own in enumerate(sums):
        images, has = whole.images - own.images, whole.has - own.has
        mean = (whole.total - own.total) / images
        spread = (whole.products - own.products) / images - np.outer(mean, mean)
        ridge = max(shrinkage * float(np.trace(spread)) / dimension, 1e-12)
        spread *= 1 - shrinkage
        spread[np.diag_indices(dimension)] += ridge
        part = has / images
        means = (whole.sums - own.sums) / np.maximum(has, LEAST_PART)[:, None]
        apart = (means - mean) / np.maximum(1 - part, LEAST_PART)[:, None]
        solved = cho_solve(cho_factor(spread, lower=True, check_finite=False), apart.T, check_finite=False)
        inside = (1 - shrinkage) * part * (1 - part) * np.einsum("cd,dc->c", apart, solved)
        solved /= np.maximum(1 - inside, LEAST_PART)
        coefficients[fold] = solved
        intercepts[fold] = -0.5 * np.einsum("cd,dc->c", 2 * means - apart, solved)
    return coefficients, intercepts


class _Likelihood:
    """Of what is given to some images, by the five numbers."""

    def __init__(self, model: SetModel, images: Sets) -> None:
        self._prior, self._total = model.prior, float(images.weights.sum())
        self._parts = [
            (model.discriminants(part).astype(np.float64), part.given.toarray() > 0, part.weights * len(images))
            for part in images.parts()
        ]
        self._images = len(images)

    def without_noise(self) -> tuple[float, Fitting]:
        """The least negative log-likelihood, and what has it."""
        return self._least([np.array([0.3, 0.3, 0.0])])

    def with_noise(self) -> tuple[float, Fitting]:
        return self._least([np.array([0.3, 0.3, 0.0, start, start]) for start in STARTS])

    def _least(self, starts: list[Probabilities]) -> tuple[float, Fitting]:
        from scipy.optimize import minimize

        bounds = [(1e-3, 10.0), (0.0, 3.0), (-20.0, 20.0), (LEAST_NOISE, MOST_NOISE), (LEAST_NOISE, MOST_NOISE)]
        found = [
            minimize(self._loss, start, jac=True, bounds=bounds[: len(start)], method="L-BFGS-B") for start in starts
        ]
        best = min(found, key=lambda one: float(one.fun))
        numbers = [float(number) for number in best.x]
        noises = [float(np.exp(number)) for number in numbers[3:]] or [0.0, 0.0]
        return float(best.fun) * self._images, Fitting(numbers[0], numbers[1], numbers[2], noises[0], noises[1])

    def _loss(self, numbers: Probabilities) -> tuple[float, Probabilities]:
        """A mean of the images, and its slopes."""
        noisy = len(numbers) > 3
        dropped, each = (float(np.exp(numbers[3])), float(np.exp(numbers[4]))) if noisy else (0.0, 0.0)
        added = np.minimum(each * np.exp(self._prior), 1.0)
        loss, slopes = 0.0, np.zeros(len(numbers))
        for found, given, weights in self._parts:
            holds = _sigmoid(numbers[0] * found + numbers[1] * self._prior + numbers[2])
            told = np.clip(holds * (1 - dropped) + (1 - holds) * added, 1e-12, 1 - 1e-12)
            heavy = (weights / self._total)[:, None]
            loss -= float((heavy * np.log(np.where(given, told, 1 - told))).sum())
            slope = heavy * np.where(given, -1 / told, 1 / (1 - told))
            inner = slope * (1 - dropped - added) * holds * (1 - holds)
            slopes[:3] += [float((inner * found).sum()), float((inner.sum(axis=0) * self._prior).sum()), inner.sum()]
            if noisy:
                slopes[3] -= dropped * float((slope * holds).sum())
                slopes[4] += float((slope * (1 - holds) * added).sum())
        loss /= self._images
        slopes /= self._images
        if noisy:
            apart = float(numbers[3] - numbers[4])
            loss += 0.5 * (apart / RATIO) ** 2 / self._images
            slopes[3:] += np.array([apart, -apart]) / RATIO**2 / self._images
        return loss, slopes
