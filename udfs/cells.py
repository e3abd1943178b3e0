"""Locality-sensitive hashing with data-dependent cells: the Voronoi cells of centres learnt from a sample."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
ROWS_AT_ONCE = 8192  # bounds the matrix of similarities: 8192 x 1024 float32 is 32 MB


def cell_count(vectors: int, cell_vectors: int) -> int:
    """How many cells that many vectors get: a power of two, so that it seldom changes as a lake grows. 1 is exact."""
    if vectors <= cell_vectors:
        return 1
    return int(2 ** np.ceil(np.log2(vectors / cell_vectors)))


def train_centres(sample: Vectors, count: int, iterations: int, seed: int = 0) -> Vectors:
    """Spherical k-means (Dhillon & Modha 2001). sample: (n, d) float32, rows of norm 1, n >= count.

    Returns (count, d) float32, rows of norm 1. The same sample in the same order gives the same centres.
    Raises ValueError where the sample is smaller than count."""
    if len(sample) < count:
        raise ValueError(f"{count} centres need at least as many vectors, got {len(sample)}")
    if count == 1:
        return np.zeros((1, sample.shape[1]), np.float32)
    start = np.random.default_rng(seed).choice(len(sample), count, replace=False)
    centres = sample[np.sort(start)].copy()
    for _ in range(iterations):
        nearest = nearest_cells(sample, centres, 1)[:, 0]
        sums = np.zeros_like(centres, dtype=np.float64)
        np.add.at(sums, nearest, sample)
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        # A centre that lost all its vectors stays where it is.
        centres = np.where(norms > 0, sums / np.maximum(norms, 1e-12), centres).astype(np.float32)
    return centres


def nearest_cells(vectors: Vectors, centres: Vectors, probes: int) -> npt.NDArray[np.int32]:
    """The nearest cells of each vector. vectors: (n, d), centres: (c, d), float32.

    Returns (n, min(probes, c)) int32, nearest first; of equally near centres the one with the lower number."""
    probes = min(probes, len(centres))
    if len(centres) == 1:
        return np.zeros((len(vectors), 1), np.int32)
    found = np.empty((len(vectors), probes), np.int32)
    for at in range(0, len(vectors), ROWS_AT_ONCE):
        cosines = vectors[at : at + ROWS_AT_ONCE] @ centres.T
        found[at : at + ROWS_AT_ONCE] = np.argsort(-cosines, axis=1, kind="stable")[:, :probes]
    return found
