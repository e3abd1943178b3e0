"""What wrong labels cost: how well a classifier tells each class with them, with them corrected, and without them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from udfs.labels.classifier import NOBODY, Discriminants, Examples, Moments, discriminants, hard
from udfs.labels.noise import Probabilities

TESTED_CELLS = 20_000_000  # images x classes that the classifiers are tested on
TRUSTED = 0.5  # probability that a label is right, from which its image tests


def accuracies(
    examples: Examples, count: int, folds: int, shrinkage: float,
    scores: Probabilities, flagged: NDArray[np.bool_], better: NDArray[np.int32],
) -> Probabilities:  # fmt: skip
    """(C, 3) share of the images of each class that a linear classifier tells rightly which was fitted to the other
    folds: to the given labels, with the flagged ones corrected, and without them. NaN where no image tests the class.

    It is tested on images that are not flagged, with a label that is probably right. scores: (n,) how probably.
    flagged: (n,). better: (n,) the classes that the flagged should have."""
    given = examples.classes
    without = hard(given, count)
    without.data[flagged] = 0.0
    tests = np.flatnonzero(~flagged & (scores >= TRUSTED))[: max(1000, TESTED_CELLS // count)]
    tested = Examples(examples.vectors[tests], given[tests], examples.folds[tests], examples.votes[tests])
    number = np.bincount(tested.classes, minlength=count)
    whole = [_products(examples, examples.folds == fold) for fold in range(folds)]
    # From the images themselves: a difference of sums of many is not exact where few are left.
    less = [_products(examples, (examples.folds == fold) & ~flagged) for fold in range(folds)]
    corrected = hard(np.where(flagged, better, given).astype(np.int32), count)
    found = np.full((count, 3), np.nan)
    for way, (shares, products) in enumerate(((hard(given, count), whole), (corrected, whole), (without, less))):
        moments = [Moments.of(examples, fold, shares, products[fold]) for fold in range(folds)]
        model = Discriminants(moments).coefficients(shrinkage)
        right = np.zeros(count)
        for part in tested.parts(count):
            by_class = discriminants(*model, part)
            told = np.where(np.isfinite(by_class.max(axis=1)), by_class.argmax(axis=1), NOBODY)
            right += np.bincount(part.classes[told == part.classes], minlength=count)
        found[number > 0, way] = right[number > 0] / number[number > 0]
        if not flagged.any():
            found[:, 1:] = found[:, :1]
            break
    return found


def _products(examples: Examples, which: NDArray[np.bool_]) -> NDArray[np.float64]:
    vectors = examples.vectors[which]
    return np.asarray((vectors.T @ vectors).astype(np.float64))
