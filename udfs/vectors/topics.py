"""Topics: clusters of what images show, by spherical k-means."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from udfs.vectors.cells import refined
from udfs.vectors.cosine import DECIMALS, Values

MOST = 100  # that a person looks over on one page
ITERATIONS = 20
DRAWS = 8  # of which the best becomes a centre to begin with
_SAME = 1e-4  # of the length of the mean: a row that is nearer to it than that has no direction from there


def usual_count(images: int) -> int:
    """How many topics suit a number of images: the square root of its half (Mardia et al. 1979), 1 to MOST."""
    return int(min(max(round((images / 2) ** 0.5), 1), MOST))


@dataclass(frozen=True)
class Topics:
    """What tells topics apart. mean: (d,), of all rows, from which directions are taken: what all images have in common
    would else decide. centres: (c, d), rows of norm 1. Both float64."""

    mean: Values
    centres: Values

    def nearest(self, rows: NDArray[np.float32]) -> tuple[NDArray[np.int32], Values]:
        """The topic of each image. rows: (n, d) float32, as those of `train`.

        Returns (n,) int32 places in centres, and (n,) float64 one minus the cosine to that centre, 0..2."""
        cosines = _directions(rows, self.mean) @ self.centres.T
        found = cosines.argmax(axis=1)
        highest = np.take_along_axis(cosines, found[:, np.newaxis], axis=1)[:, 0]
        return found.astype(np.int32), 1 - np.clip(np.round(highest, DECIMALS), -1.0, 1.0)


def train(sample: NDArray[np.float32], count: int, seed: int = 0) -> Topics:
    """Finds topics. sample: (n, d) float32, n > 0; vectors, or what a classifier says of them.

    Begins with k-means++ (Arthur & Vassilvitskii 2007), so that a small group far from the others gets a centre too.
    Returns `count` topics, or as many as there are different rows, if these are fewer. The same sample in the same
    order gives the same ones."""
    mean = sample.mean(axis=0, dtype=np.float64) if count > 1 else np.zeros(sample.shape[1])
    directions = _directions(sample, mean).astype(np.float32)
    start = directions[_spread(directions, count, np.random.default_rng(seed))]
    return Topics(mean, refined(directions, start, ITERATIONS).astype(np.float64))


def _directions(rows: NDArray[np.float32], mean: Values) -> Values:
    """Where the rows lie from the mean, with norm 1; 0 for those that are the mean."""
    apart = rows.astype(np.float64) - mean
    lengths = np.sqrt(np.square(apart).sum(axis=1, keepdims=True))
    known = lengths > _SAME * np.sqrt(np.square(mean).sum())
    return np.where(known, apart / np.where(known, lengths, 1.0), 0.0)


def _spread(directions: NDArray[np.float32], count: int, generator: np.random.Generator) -> list[int]:
    """Places of rows to begin with. Each is drawn with a chance that grows with its distance from those before it; of
    some draws the one is taken that leaves the least distance in all, as scikit-learn does."""
    chosen = [int(generator.integers(len(directions)))]
    # For rows of norm 1 half their squared Euclidean distance, which is what the chance is taken by.
    distances = _distances(directions, chosen)[0]
    while len(chosen) < count:
        reached = np.cumsum(distances)
        if reached[-1] == 0:
            break
        drawn = np.searchsorted(reached, generator.random(DRAWS) * reached[-1], side="right")
        left = np.minimum(distances, _distances(directions, drawn.tolist()))
        best = int(left.sum(axis=1).argmin())
        chosen.append(int(drawn[best]))
        distances = left[best]
    return chosen


def _distances(directions: NDArray[np.float32], of: list[int]) -> Values:
    """(len(of), n) one minus the cosine to each of these rows; 0 for the same one, but for rounding."""
    found = (1 - directions @ directions[of].T).T.astype(np.float64)
    return np.where(found < 10.0**-DECIMALS, 0.0, found)
