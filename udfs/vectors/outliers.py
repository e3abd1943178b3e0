"""What sets an image apart from its lake and from its label, by its vector alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from udfs.vectors.cosine import Values, Vectors

COMPONENTS = (4, 8, 16)  # principal components asked for; one number alone suits one lake better and the next worse
IMAGES_PER_COMPONENT = 16  # with fewer, each image makes a component of its own
LEAST_VARIANCE = 1e-4  # of the first component's, under which another one is noise
LEAST_LEVERAGE = 1e-6


@dataclass(frozen=True)
class Spread:
    """How the images of a lake vary. mean: (d,) float64. axes: (m, d) float64, principal components by their standard
    deviation and the weight that they have; m = 0 where nothing could be learnt."""

    mean: Values
    axes: Values

    def commonness(self, rows: Vectors) -> Values:
        """Minus the logarithm of the leverage of each image. rows: (n, d) float32. Returns (n,) float64, NaN if m = 0.

        The leverage is the squared Mahalanobis distance within the principal components, by their number, so it is
        about 1 on the average; that within the first few, a few more, and all of them, averaged. An image far from all
        others has a large one; so has each of a few images that are near one another and far from the rest, which no
        distance to neighbours finds, for the few that there are make up a component."""
        if not len(self.axes):
            return np.full(len(rows), np.nan)
        leverage = np.square((rows.astype(np.float64) - self.mean) @ self.axes.T).sum(axis=1)
        return np.asarray(-np.log(np.maximum(leverage, LEAST_LEVERAGE)), np.float64)


def learn(sample: Vectors) -> Spread:
    """sample: (n, d) float32, images that are no duplicates of one another."""
    count, dimension = sample.shape
    mean = sample.mean(axis=0, dtype=np.float64) if count else np.zeros(dimension)
    numbers = [number for number in COMPONENTS if number * IMAGES_PER_COMPONENT <= count and number <= dimension]
    if not numbers:
        return Spread(mean, np.empty((0, dimension)))
    apart = sample.astype(np.float64) - mean
    # The smaller of the two products has the same eigenvalues, and the directions follow from its vectors.
    few = count < dimension
    values, vectors = np.linalg.eigh((apart @ apart.T if few else apart.T @ apart) / count)
    variances, vectors = values[::-1][: numbers[-1]], vectors[:, ::-1][:, : numbers[-1]]
    known = variances > max(LEAST_VARIANCE * variances[0], np.finfo(np.float64).tiny)
    variances, vectors = variances[known], vectors[:, known]
    directions = (apart.T @ vectors / np.sqrt(variances * count)).T if few else vectors.T
    places = np.arange(len(variances))
    weights = np.mean([(places < number) / number for number in numbers], axis=0)
    return Spread(mean, directions * np.sqrt(weights / variances)[:, np.newaxis])


def direction(rows: Vectors) -> Vectors:
    """The mean of rows (n, d), n > 0, with norm 1; 0 where they cancel out. Returns (d,) float32."""
    total = rows.sum(axis=0, dtype=np.float64)
    length = float(np.sqrt(np.square(total).sum()))
    return np.asarray(total / length if length > 0 else total, np.float32)


def class_cosines(rows: Vectors, places: NDArray[np.int64], directions: Vectors) -> Values:
    """How near each image is to what is usual for its label. places: (n,) the row of `directions` (c, d) of its label,
    -1 where it has none. Returns (n,) float64 cosines, NaN where there is no label."""
    found = np.full(len(rows), np.nan)
    labelled = np.flatnonzero(places >= 0)
    found[labelled] = np.einsum("nd,nd->n", rows[labelled], directions[places[labelled]], dtype=np.float64)
    return found
