"""Any number of vectors with the structure of real embeddings, by a seeded recipe, where real ones are too few.

    source = many_vectors.fit(real)              # once: (m, 1280) embeddings of images, no two alike
    vectors = many_vectors.make(source, 500_000) # (n, 256) float32, rows of norm 1
    crowded = many_vectors.skewed(vectors)

The recipe. `fit` brings the real vectors to 256 numbers by a PCA that is not centred (the strongest right singular
vectors): cosines stay what they were, where a centred one makes others of them. A vector is then made anywhere between
a real one and one of the ten nearest to it, and noise is added with the covariance of the differences between near
vectors, as strong as that real vector's neighbours are far, NOISE times NOISE_RANGE. Noise lowers the cosines of all
pairs; a part of the mean vector is put back so that those of random pairs stay. The numbers in capitals were chosen so
that what is made is like the real vectors in `structure` (cosines of first and tenth neighbours and of random pairs,
local intrinsic dimension) and in how many of ten neighbours lie in the nearest k-means cells of 250 vectors each: of
the real ones (5,300) 0.62, 0.81, 0.93 in the nearest one, two, four cells; of 50,000 made ones 0.69, 0.83, 0.90; of
5,300 drawn from 500,000 made ones 0.49, 0.69, 0.86. With noise alike in all directions (of norm 0.5, and mixed at up to
half the way) it was 0.98, 1.00, 1.00: such vectors are far easier to search than real ones.

PER_REAL vectors are made from each real one however many there are: with fewer, fewer of the real ones are used, in
whole neighbourhoods. So a vector has about as many neighbours, as near, among 50,000 as among 500,000.

COPIES of the vectors are near-copies of others, one to four of an original, at cosines of COPY_COSINES.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]

DIMENSION = 256
NEAR = 10  # neighbours of a real vector that it is mixed with
PER_REAL = 94  # 500,000 from the 5,300 that we have
NOISE = 0.8  # its norm at a real vector whose neighbours are as far as the median; the real vector has norm 1
NOISE_RANGE = (0.6, 1.4)
COPIES = 0.05
COPY_COSINES = (0.88, 0.99)
COPIES_OF_ONE = 4  # at most: they all fit in a list of ten
BLOCK = 10_000  # vectors made at once, each block with random numbers of its own


@dataclass(frozen=True)
class Source:
    """What the recipe knows of the real vectors.

    real: (m, d) rows of norm 1. near: (m, NEAR) rows of the nearest. spread: (m,) how far they are, 1 at the median.
    noise: (d, d), standard normal numbers times it have a mean square norm of 1. mean: (d,) of all."""

    real: Vectors
    near: NDArray[np.int64]
    spread: Vectors
    noise: Vectors
    mean: Vectors


def unit(rows: NDArray[np.floating[Any]]) -> Vectors:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def fit(embeddings: NDArray[np.floating[Any]], dimension: int = DIMENSION) -> Source:
    """embeddings: (m, D), D >= dimension, m > NEAR. Deterministic."""
    rows = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True).astype(np.float64)
    axes = np.linalg.eigh(rows.T @ rows)[1][:, ::-1][:, :dimension]
    real = unit((rows @ axes).astype(np.float32))
    cosines = real @ real.T
    np.fill_diagonal(cosines, -2)
    near = np.argsort(-cosines, axis=1, kind="stable")[:, :NEAR]
    farthest = np.sqrt(2 - 2 * np.take_along_axis(cosines, near[:, -1:], axis=1)[:, 0])
    spread = np.clip(farthest / np.median(farthest), 0.85, 1.5)
    differences = (real[near] - real[:, np.newaxis]).reshape(-1, dimension).astype(np.float64)
    values, directions = np.linalg.eigh(differences.T @ differences)
    noise = np.sqrt(np.maximum(values, 0) / values.sum())[:, np.newaxis] * directions.T
    return Source(real, near, spread, noise.astype(np.float32), real.mean(axis=0))


def make(source: Source, count: int, seed: int = 0) -> Vectors:
    """(count, d) float32, rows of norm 1, in an order that tells nothing. The same for the same source, count, seed."""
    rng = np.random.default_rng(seed)
    # Whole neighbourhoods of them: where they are fewer, they are as dense.
    order = rng.permutation(len(source.real))
    together = np.column_stack([order, source.near[order]]).ravel()
    first = np.unique(together, return_index=True)[1]
    used = together[np.sort(first)][: max(1, -(-count // PER_REAL))]
    place = rng.permutation(count)
    made = np.empty((count, source.real.shape[1]), np.float32)
    for number, at in enumerate(range(0, count, BLOCK)):
        rows = place[at : at + BLOCK]
        made[rows] = _block(source, used, len(rows), np.random.default_rng([seed, count, number]))
    return made


def _block(source: Source, used: NDArray[np.int64], count: int, rng: np.random.Generator) -> Vectors:
    copies = round(COPIES * count)
    originals = count - copies
    chosen = rng.choice(used, originals)
    partners = source.near[chosen, rng.integers(0, source.near.shape[1], originals)]
    way = rng.uniform(0, 1, (originals, 1)).astype(np.float32)
    strength = NOISE * source.spread[chosen, np.newaxis] * rng.uniform(*NOISE_RANGE, (originals, 1)).astype(np.float32)
    normal = rng.standard_normal((originals, source.real.shape[1]), dtype=np.float32)
    mixed = source.real[chosen] * (1 - way) + source.real[partners] * way + strength * (normal @ source.noise)
    # With it, the share of the mean in the squared norm is what it is without noise.
    back = np.sqrt(1 + strength**2 / (1 - float(source.mean @ source.mean))) - 1
    made = unit(mixed + back * source.mean)
    sizes = rng.integers(1, COPIES_OF_ONE + 1, copies)
    copied = made[np.repeat(np.arange(copies), sizes)[:copies]] if copies else made[:0]
    return np.concatenate([made, near_copies(copied, rng)])


def near_copies(originals: Vectors, rng: np.random.Generator) -> Vectors:
    """A vector at a cosine of COPY_COSINES from each."""
    away = rng.standard_normal(originals.shape, dtype=np.float32)
    away -= (away * originals).sum(axis=1, keepdims=True) * originals
    cosines = rng.uniform(*COPY_COSINES, (len(originals), 1)).astype(np.float32)
    return unit(cosines * originals + np.sqrt(1 - cosines**2, dtype=np.float32) * unit(away))


def skewed(vectors: Vectors, share: float = 0.2, seed: int = 0) -> tuple[Vectors, NDArray[np.int64]]:
    """The vectors, a share of them replaced by one and the same and another share by nearly the same.

    The latter have cosines of 0.99 to 0.999 with one another. Returns them and (n,) 0 for a vector that was left, 1 for
    the identical ones, 2 for the nearly identical."""
    rng = np.random.default_rng([seed, 1])
    each = int(len(vectors) * share)
    order = rng.permutation(len(vectors))
    same, alike = order[:each], order[each : 2 * each]
    crowded, kind = vectors.copy(), np.zeros(len(vectors), np.int64)
    crowded[same], kind[same] = vectors[same[0]], 1
    for at in range(0, each, BLOCK):
        rows = alike[at : at + BLOCK]
        # Two that lie at noise of norms a, b have a cosine of about 1 / sqrt((1 + a²)(1 + b²)).
        squared = rng.uniform(0.001, 0.01, (len(rows), 1)).astype(np.float32)
        normal = rng.standard_normal((len(rows), vectors.shape[1]), dtype=np.float32)
        crowded[rows] = unit(vectors[alike[0]] + np.sqrt(squared / vectors.shape[1]) * normal)
    kind[alike] = 2
    return crowded, kind


def structure(vectors: Vectors, samples: int = 1000, seed: int = 0) -> dict[str, float | list[float]]:
    """What makes vectors hard or easy to search. Quantiles are those at 5, 25, 50, 75, 95 %.

    intrinsic_dimension: the maximum-likelihood estimate from the ten nearest (Levina & Bickel 2004), averaged over the
    samples by its inverse (MacKay & Ghahramani 2005)."""
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(vectors), min(samples, len(vectors)), replace=False)
    nearest = np.empty((len(chosen), NEAR), np.float32)
    for at in range(0, len(chosen), 128):
        rows = chosen[at : at + 128]
        cosines = vectors[rows] @ vectors.T
        cosines[np.arange(len(rows)), rows] = -2
        nearest[at : at + 128] = -np.sort(-np.partition(cosines, -NEAR, axis=1)[:, -NEAR:], axis=1)
    left, right = rng.integers(0, len(vectors), (2, 20_000))
    pairs = np.einsum("nd,nd->n", vectors[left], vectors[right])[left != right]
    distances = np.sqrt(np.maximum(2 - 2 * nearest.astype(np.float64), 1e-9))
    inverse = np.log(distances[:, -1:] / distances[:, :-1]).mean(axis=1)

    def quantiles(values: Vectors) -> list[float]:
        return [round(float(value), 3) for value in np.quantile(values, (0.05, 0.25, 0.5, 0.75, 0.95))]

    return {
        "cosine_1st": quantiles(nearest[:, 0]),
        "cosine_10th": quantiles(nearest[:, -1]),
        "cosine_random": quantiles(pairs),
        "intrinsic_dimension": round(float(1 / inverse.mean()), 1),
    }
