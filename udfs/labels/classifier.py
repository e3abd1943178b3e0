"""The classifier that tells what label an image has: linear discriminants and the votes of the neighbours.

The discriminants are those of linear discriminant analysis with a shrunk covariance (Hastie, Tibshirani and Friedman,
The Elements of Statistical Learning, 4.3 and 18.3): like multinomial logistic regression a softmax of linear functions,
but found in one step from sums, for any number of classes. It is cross-validated: an image is never judged by a model
that has seen it or a duplicate of it.

    p(class | image)  in proportion to
        exp(scale * discriminant(class)) * (1 + votes(class)) ** weight * share(class) ** lean

votes are the neighbours with that label, share is that of all images. scale, weight and lean are fitted to the
out-of-sample log-likelihood of the given labels (stacking; Wolpert 1992), which also makes the probabilities honest;
lean says nothing of classes of equal size, and makes up for means of few images, which lie far off. Where labels are
known to be wrong at some rate, the likelihood of a given label is that of being given it whatever is true: the sum over
k of p(k) T(k, given) (forward correction; Patrini and others, CVPR 2017)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from udfs.labels.noise import Noise, Probabilities
from udfs.vectors.cosine import Vectors

if TYPE_CHECKING:
    import scipy.sparse  # costs 0.1 s to import, its linalg and optimize 0.3 s: only what fits a model does so

NOBODY = -1  # in the place of a class
EXACT_CLASSES = 1000  # up to which products are exact: for more they would cost too much
CELLS_AT_ONCE = 8_000_000  # images x classes of one step: 64 MB as float64
# Of a probability, as float64 and float32: exp takes eight times as long where its result is no normal number.
LEAST_LOG, LEAST_LOG_32 = -700.0, -80.0
LEAST = np.float32(1e-37)  # likelihood of a label
ROUNDING = 1e-6  # of a sum of float32 products
LEVEL_ROUNDS = 3  # of shifting the discriminants; the last moves them by next to nothing
LEVEL_IMAGES = 10.0  # of each class that are taken to be told rightly, beside those that are there
LEAST_IMAGES = 0.5  # that a fold's model must have of a class to know it

Noises = Noise | list[Noise]  # of all images, or of those of each fold
Mixture = tuple[float, float, float]  # scale, weight and lean
Table = tuple[NDArray[np.int64], NDArray[np.int64], Probabilities]


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


def hard(classes: NDArray[np.int32], count: int) -> scipy.sparse.csr_array:
    """(n, C) shares of each image in the classes, where each is of one."""
    from scipy import sparse

    rows = np.arange(len(classes) + 1)
    return sparse.csr_array((np.ones(len(classes), np.float32), classes, rows), shape=(len(classes), count))


@dataclass(frozen=True)
class Moments:
    """Of the examples of a fold: images (C,) and sums of vectors (C, d) by class, products (d, d) of all."""

    images: NDArray[np.float64]
    sums: NDArray[np.float32]
    products: NDArray[np.float64]

    @staticmethod
    def of(
        examples: Examples, fold: int, shares: scipy.sparse.csr_array, products: NDArray[np.float64] | None = None
    ) -> Moments:
        """shares: (n, C) of each example in the classes, rows of sum 1. products: where they are known."""
        rows = np.flatnonzero(examples.folds == fold)
        vectors, own = examples.vectors[rows], shares[rows]
        if products is None:
            products = (vectors.T @ vectors).astype(np.float64)
        images = np.asarray(own.sum(axis=0), np.float64).ravel()
        return Moments(images, np.asarray(own.T @ vectors, np.float32), products)


class Discriminants:
    """The discriminants of each fold, from the images of all others; for any shrinkage: the share of the covariance
    that is a multiple of the identity."""

    def __init__(self, moments: list[Moments]) -> None:
        self._moments = moments
        self._images = np.sum([m.images for m in moments], axis=0)
        self._total = sum(m.sums for m in moments)
        products = sum(m.products for m in moments)
        # As far as float32 products are exact, by fold, so much is added at least: of few images there is no spread.
        self._within, self._least = [], []
        for fold in range(len(moments)):
            means, number, _ = self._means(fold)
            known, total = products - moments[fold].products, max(float(number.sum()), LEAST_IMAGES)
            self._within.append(np.asarray((known - (means.T * number) @ means) / total))
            self._least.append(max(ROUNDING * float(np.trace(products)) / total, 1e-12))

    def _means(self, fold: int) -> tuple[NDArray[np.float64], Probabilities, NDArray[np.bool_]]:
        own = self._moments[fold]
        rest = self._images - own.images
        known = rest >= LEAST_IMAGES
        # Of float32 sums too: the difference of two of them is as exact as the vectors.
        means = np.asarray(self._total - own.sums, np.float64)[known] / rest[known][:, None]
        return means, rest[known], known

    def coefficients(self, shrinkage: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(F, d, C) and (F, C) intercepts, -inf where a fold knows no image of the class."""
        from scipy.linalg import cho_factor, cho_solve

        dimension, count = self._within[0].shape[0], len(self._images)
        coefficients = np.zeros((len(self._within), dimension, count), np.float32)
        intercepts = np.full((len(self._within), count), -np.inf, np.float32)
        for fold, spread in enumerate(self._within):
            means, _, known = self._means(fold)
            if not known.any():
                continue
            within = spread * (1 - shrinkage)
            ridge = max(shrinkage * np.trace(spread) / dimension, self._least[fold])
            within[np.diag_indices(dimension)] += ridge
            factor = cho_factor(within, lower=True, check_finite=False)
            solved = cho_solve(factor, means.T, check_finite=False)
            coefficients[fold][:, known] = solved
            intercepts[fold][known] = -0.5 * np.einsum("cd,dc->c", means, solved)
        return coefficients, intercepts


def discriminants(
    coefficients: NDArray[np.float32], intercepts: NDArray[np.float32], images: Examples
) -> NDArray[np.float32]:
    """(n, C) of the model of each image's fold; -inf where it knows no image of the class.

    Up to EXACT_CLASSES they are computed in float64: the last bits of a float32 product depend on which other images
    stand beside one, and probabilities make much of them."""
    number = np.float64 if coefficients.shape[2] <= EXACT_CLASSES else np.float32
    found = np.empty((len(images), coefficients.shape[2]), np.float32)
    for fold in range(len(coefficients)):
        rows = np.flatnonzero(images.folds == fold)
        if len(rows):
            products = images.vectors[rows].astype(number, copy=False) @ coefficients[fold].astype(number, copy=False)
            found[rows] = products + intercepts[fold]
    return found


def vote_counts(votes: NDArray[np.int32], count: int) -> Table:
    """Rows, classes and numbers of the votes, where there are any. votes: (n, k)."""
    rows = np.repeat(np.arange(len(votes)), votes.shape[1])
    cast = votes.ravel() != NOBODY
    places, numbers = np.unique(rows[cast] * count + votes.ravel()[cast], return_counts=True)
    return places // count, places % count, numbers.astype(np.float64)


def combined(
    discriminants: NDArray[np.float32],
    votes: NDArray[np.int32] | Table,
    mixture: Mixture,
    prior: Probabilities,
    dtype: Any = np.float64,
) -> NDArray[Any]:
    """(n, C) probabilities, rows of sum 1. votes: (n, k), or what vote_counts tells of them. mixture: scale, weight and
    lean. prior: (C,) logarithms of the shares of the classes."""
    scale, weight, lean = mixture
    found: NDArray[Any] = np.multiply(discriminants, dtype(scale), dtype=dtype)
    if lean:
        found += (lean * prior).astype(dtype)
    rows, classes, numbers = votes if isinstance(votes, tuple) else vote_counts(votes, found.shape[1])
    found[rows, classes] += weight * np.log1p(numbers)
    found -= found.max(axis=1, keepdims=True)
    np.maximum(found, LEAST_LOG if dtype is np.float64 else LEAST_LOG_32, out=found)
    np.exp(found, out=found)
    found /= found.sum(axis=1, keepdims=True)
    return found


class Stack:
    """The likelihood of the given labels of some images, by the mixture."""

    def __init__(
        self, discriminants: NDArray[np.float32], images: Examples, weights: Probabilities, prior: Probabilities
    ) -> None:
        """discriminants: (n, C), of the images. weights: what each image counts, in their order. prior: (C,) logarithms
        of the shares of the classes."""
        # A class that a fold does not know is as unlikely as the unlikeliest that it knows.
        lowest = np.where(np.isfinite(discriminants), discriminants, np.inf).min(axis=1, keepdims=True)
        known = np.maximum(discriminants, lowest)
        self._prior = prior
        self._parts, start, count = [], 0, discriminants.shape[1]
        weights = weights[: len(images)]
        for part in images.parts(count):
            end = start + len(part)
            table = vote_counts(part.votes, count)
            self._parts.append((known[start:end], table, part, weights[start:end]))
            start = end
        self.total = float(weights.sum())

    def fitted(self, noise: Noises | None = None, start: Mixture = (0.3, 0.5, 0.3)) -> tuple[float, Mixture]:
        """The least mean negative log-likelihood of the given labels, and the mixture that has it. noise: how
        labels become wrong; None: never."""
        from scipy.optimize import minimize

        given = [None if noise is None else _likelihoods(noise, part[2], np.float32) for part in self._parts]

        def loss(mixture: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            told, slopes = 0.0, np.zeros(3)
            for (known, table, part, weights), wrong in zip(self._parts, given, strict=True):
                # float32 takes a third of the time, and three digits are enough of what is fitted.
                found = combined(known, table, _mixture(mixture), self._prior, np.float32)
                every = np.arange(len(known))
                if wrong is None:
                    own = found[every, part.classes]
                    found[every, part.classes] -= 1.0
                else:
                    true = found * wrong
                    own = true.sum(axis=1)
                    true /= np.maximum(own, LEAST)[:, None]
                    found -= true
                told -= float(np.dot(np.log(np.maximum(own, LEAST), dtype=np.float64), weights))
                found *= weights[:, None].astype(np.float32)
                rows, voted, numbers = table
                slopes[0] += np.vdot(found, known)
                slopes[2] += np.dot(found.sum(axis=0, dtype=np.float64), self._prior)
                slopes[1] += np.dot(found[rows, voted], np.log1p(numbers))
            return told / self.total, slopes / self.total

        bounds = [(0.001, 10.0), (0.0, 10.0), (0.0, 10.0)]
        fitted = minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B", options={"maxiter": 30})
        return float(fitted.fun), _mixture(fitted.x)

    def losses(self, noise: Noises, mixture: Mixture) -> Probabilities:
        """(n,) negative log-likelihood of each given label, times what the image counts."""
        found = []
        for known, table, part, weights in self._parts:
            true = combined(known, table, mixture, self._prior) * _likelihoods(noise, part)
            found.append(-weights * np.log(np.maximum(true.sum(axis=1), 1e-300)))
        return np.concatenate(found)

    def levelled(self, noise: Noises | None, mixture: Mixture) -> Probabilities:
        """Shifts the discriminants so that each class is told as often as the given labels let one expect, as the
        likeliest intercepts of a logistic regression do. Returns by how much: (C,). noise: see fitted()."""
        shift = np.zeros(len(self._prior))
        for _ in range(LEVEL_ROUNDS):
            told, expected = np.zeros(len(shift)), np.zeros(len(shift))
            for known, table, part, weights in self._parts:
                found = combined(known, table, mixture, self._prior)
                told += weights @ found
                if noise is None:
                    expected += np.bincount(part.classes, weights, minlength=len(shift))
                    continue
                found *= _likelihoods(noise, part)
                found /= np.maximum(found.sum(axis=1, keepdims=True), 1e-300)
                expected += weights @ found
            step = np.log((expected + LEVEL_IMAGES) / (told + LEVEL_IMAGES)) / mixture[0]
            shift += step
            for known, *_ in self._parts:
                np.add(known, step.astype(np.float32), out=known)
        return shift

    def scores(self, noise: Noises, mixture: Mixture) -> tuple[Probabilities, Probabilities, Probabilities]:
        """(n,) probability that the given label is right, T's diagonal there, and what each image counts."""
        found = []
        for known, table, part, weights in self._parts:
            every, likely = np.arange(len(known)), _likelihoods(noise, part)
            true = combined(known, table, mixture, self._prior) * likely
            own = true[every, part.classes] / np.maximum(true.sum(axis=1), 1e-300)
            found.append((own, likely[every, part.classes], weights))
        scores, kept, counted = (np.concatenate(column) for column in zip(*found, strict=True))
        return scores, kept, counted


def _mixture(numbers: NDArray[np.float64]) -> Mixture:
    return float(numbers[0]), float(numbers[1]), float(numbers[2])


def stronger(noise: Noises, by: float) -> Noises:
    """With so many times the wrong labels."""
    return noise.times(by) if isinstance(noise, Noise) else [own.times(by) for own in noise]


def _likelihoods(noise: Noises, images: Examples, dtype: Any = np.float64) -> NDArray[Any]:
    if isinstance(noise, Noise):
        return noise.likelihoods(images.classes, dtype)
    found = np.empty((len(images), len(noise[0].kept)), dtype)
    for fold, own in enumerate(noise):
        rows = np.flatnonzero(images.folds == fold)
        found[rows] = own.likelihoods(images.classes[rows], dtype)
    return found
