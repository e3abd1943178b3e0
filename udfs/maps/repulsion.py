"""Repulsion between all points of a plane, of many by a grid and a Fourier transform (Linderman et al. 2019)."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.sparse import csr_array

SPACING = 0.5  # of the grid, in units of the kernel's width: forces err by some hundredths
EXACT = 500  # points, between which all pairs cost less than the grid
MARGIN = 3  # nodes beyond the outermost points
STEP = 16  # nodes by which the grid grows, so that its kernels are seldom made
Single = NDArray[np.float32]


def repulsion(points: Single) -> tuple[Single, float]:
    """What pushes the points of t-SNE apart. points: (n, 2).

    Returns for each point i the sum over j of (y_i - y_j) / (1 + d²)², (n, 2), and the sum over all pairs i ≠ j of
    1 / (1 + d²); up to EXACT points as they are, of more with an error that does not show in the map."""
    return _by_pairs(points) if len(points) <= EXACT else _by_grid(points)


def _by_pairs(points: Single) -> tuple[Single, float]:
    across, along = (values[:, np.newaxis] - values for values in np.ascontiguousarray(points.T))
    near = 1 / (1 + across * across + along * along)
    total = float(near.sum(dtype=np.float64)) - len(points)
    near *= near
    return np.stack([(near * across).sum(axis=1), (near * along).sum(axis=1)], axis=1), total


def _by_grid(points: Single) -> tuple[Single, float]:
    count = len(points)
    low = points.min(axis=0) - MARGIN * SPACING
    extent = int(float((points.max(axis=0) - low).max()) / SPACING) + MARGIN + 1
    size = scipy.fft.next_fast_len(-(-extent // STEP) * STEP, real=True)
    weights = _weights((points - low) / np.float32(SPACING), size)
    density = (weights.T @ np.ones(count, np.float32)).reshape(size, size)
    spectrum = scipy.fft.rfft2(density, s=(2 * size, 2 * size))
    fields = [
        scipy.fft.irfft2(spectrum * kernel, s=(2 * size, 2 * size))[:size, :size].reshape(-1)
        for kernel in _kernels(size)
    ]
    found = weights @ np.stack(fields, axis=1)
    return found[:, 1:], float(found[:, 0].sum(dtype=np.float64)) - count


def _weights(places: Single, size: int) -> Any:
    """How a point is dealt to the 16 nodes around it: Lagrange polynomials of degree 3. places: (n, 2) in nodes.

    Returns (n, size²) sparse."""
    count = len(places)
    cell = places.astype(np.int32)
    t = places - cell  # 0..1 between the second and the third of four nodes
    one = np.empty((count, 2, 4), np.float32)
    one[:, :, 0] = -t * (t - 1) * (t - 2) / 6
    one[:, :, 1] = (t + 1) * (t - 1) * (t - 2) / 2
    one[:, :, 2] = -(t + 1) * t * (t - 2) / 2
    one[:, :, 3] = (t + 1) * t * (t - 1) / 6
    both = one[:, 0, :, np.newaxis] * one[:, 1, np.newaxis, :]
    steps = (np.arange(-1, 3)[:, np.newaxis] * size + np.arange(-1, 3)).astype(np.int32)
    nodes = (cell[:, 0] * size + cell[:, 1])[:, np.newaxis] + steps.reshape(-1)
    ends = np.arange(0, 16 * count + 1, 16, dtype=np.int32)
    return csr_array((both.reshape(-1), nodes.reshape(-1), ends), shape=(count, size * size))


@lru_cache(maxsize=2)
def _kernels(size: int) -> list[NDArray[np.complex64]]:
    """Transforms of 1 / (1 + d²) and of (x, y) / (1 + d²)², x and y in units of the kernel."""
    steps = np.arange(2 * size)
    way = np.where(steps < size, steps, steps - 2 * size) * SPACING
    way[size] = 0.0  # never asked for
    x, y = way[:, np.newaxis], way[np.newaxis, :]
    near = 1 / (1 + x * x + y * y)
    return [scipy.fft.rfft2(kernel.astype(np.float32)) for kernel in (near, x * near * near, y * near * near)]
