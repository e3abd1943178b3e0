"""Layout: points in a plane for a sample of vectors, so that alike ones lie together, by t-SNE.

Written here, for it takes a quarter of the CPU of openTSNE (docs/figures.md) and needs nothing but SciPy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from udfs.maps.reduction import Single, nearest
from udfs.maps.repulsion import repulsion

NEIGHBOURS = 15  # each with the same weight: as good as weights by perplexity (Böhm et al. 2022)
START = 1e-4  # standard deviation of the points that it begins with (Kobak & Berens 2019)
# Iterations, how often the attraction counts, and momentum: first what finds the groups, then the layout.
STAGES = ((100, 12.0, 0.5), (200, 1.0, 0.8))
LEAST_RATE = 50.0
MOST_STEP = 5.0
LEAST_GAIN = 0.01


@dataclass(frozen=True)
class Graph:
    """Who attracts whom, both ways, (e,) each: places of points, ascending by row, and weights whose sum is 1. starts:
    (n + 1,) where each row begins."""

    rows: NDArray[np.int32]
    columns: NDArray[np.int32]
    starts: NDArray[np.int32]
    weights: Single


def lay_out(rows: Single) -> Single:
    """Lays out a sample. rows: (n, a) float32, of Reduction.of, the axis that varies most first.

    Returns (n, 2) float32 in 0..1; the longer side of the map is 1 and lies along x. The same rows in the same order
    give the same map."""
    count = len(rows)
    if count < 3 or not (rows != rows[0]).any():
        line = np.full((count, 2), 0.5, np.float32)
        line[:, 0] = np.unique(rows, axis=0, return_inverse=True)[1].reshape(count) if count else 0
        return _framed(line)
    graph = graph_of(rows)
    start = np.zeros((count, 2), np.float32)
    start[:, : rows.shape[1]] = rows[:, :2]
    points = start * np.float32(START / start[:, 0].std())
    step, gain = np.zeros_like(points), np.ones_like(points)
    for iterations, exaggeration, momentum in STAGES:
        rate = max(count / exaggeration, LEAST_RATE)  # Belkina et al. 2019
        for _ in range(iterations):
            gradient = _gradient(graph, points, exaggeration)
            gain = np.where((gradient > 0) == (step > 0), gain * np.float32(0.8), gain + np.float32(0.2))
            gain = np.maximum(gain, np.float32(LEAST_GAIN))
            move = gain * gradient * np.float32(rate)
            length = np.hypot(move[:, 0], move[:, 1])[:, np.newaxis]
            move *= np.minimum(1, MOST_STEP / np.maximum(length, 1e-12))
            step = np.float32(momentum) * step - move
            points = points + step
        points -= points.mean(axis=0)
    return _framed(points)


def graph_of(rows: Single) -> Graph:
    """Each point attracts its nearest ones. rows: (n, a), n > 1."""
    count = len(rows)
    k = min(NEIGHBOURS, count - 1)
    near = nearest(rows, rows, k, first=0)
    ends = np.arange(0, count * k + 1, k, dtype=np.int32)
    half = np.full(count * k, 0.5 / (count * k), np.float32)
    one_way = csr_array((half, near.reshape(-1).astype(np.int32), ends), shape=(count, count))
    both = (one_way + one_way.T).tocsr()
    both.sort_indices()
    places = np.repeat(np.arange(count, dtype=np.int32), np.diff(both.indptr))
    return Graph(places, both.indices, both.indptr, both.data)


def _gradient(graph: Graph, points: Single, exaggeration: float) -> Single:
    """Of the Kullback-Leibler divergence (van der Maaten & Hinton 2008, equation 5), (n, 2)."""
    x, y = np.ascontiguousarray(points[:, 0]), np.ascontiguousarray(points[:, 1])
    across, along = x[graph.rows] - x[graph.columns], y[graph.rows] - y[graph.columns]
    strength = graph.weights / (1 + across * across + along * along)
    pull = np.stack(
        [np.add.reduceat(strength * across, graph.starts[:-1]), np.add.reduceat(strength * along, graph.starts[:-1])],
        axis=1,
    )
    push, total = repulsion(points)
    return np.asarray(4 * (np.float32(exaggeration) * pull - push / np.float32(total)), np.float32)


def _framed(points: Single) -> Single:
    """The same in the square 0..1, turned so that it is wider than high."""
    if not len(points):
        return points
    apart = points.astype(np.float64) - points.mean(axis=0, dtype=np.float64)
    _, axes = np.linalg.eigh(apart.T @ apart)
    turned = apart @ axes[:, ::-1]
    if np.ptp(turned[:, 1]) > np.ptp(turned[:, 0]):
        turned = turned[:, ::-1]
    low, high = turned.min(axis=0), turned.max(axis=0)
    side = (high - low).max()
    framed = (turned - (low + high) / 2) / side + 0.5 if side > 0 else np.full_like(turned, 0.5)
    return np.asarray(np.clip(framed, 0, 1), np.float32)
