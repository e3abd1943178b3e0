"""Lasso: which of many points lie within a polygon that somebody drew around them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CELLS = 512  # of the raster that spares most points a test of every side
BLOCK = 262_144  # points that are tested at once

Point = tuple[float, float]
Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]


def inside(x: NDArray[np.uint16], y: NDArray[np.uint16], polygon: tuple[Point, ...], most: int) -> Mask:
    """(n,): whether points lie within a polygon, by the even-odd rule. x, y: (n,); those greater than `most` are
    nowhere. polygon: corners, of which the last is joined to the first, in the units of x and y.

    Points are looked up in a raster of the polygon's box; only those in cells that a side may cross are tested by every
    side (Haines 1994)."""
    corners = np.array(polygon, np.float64)
    low, high = corners.min(axis=0), corners.max(axis=0)
    first, last = np.ceil(np.clip(low, 0, most + 1)), np.floor(np.clip(high, -1, most))
    held = (x >= first[0]) & (x <= last[0]) & (y >= first[1]) & (y <= last[1]) & (x <= most)
    rows = np.flatnonzero(held)
    cell = np.maximum((high - low) / CELLS, 1e-9)
    filled, crossed = _raster((corners - low) / cell)
    for at in range(0, len(rows), BLOCK):
        some = rows[at : at + BLOCK]
        places = [
            np.minimum((values[some] - least) / size, CELLS - 1).astype(np.int32)
            for values, least, size in zip((x, y), low, cell, strict=True)
        ]
        cells = places[1] * CELLS + places[0]
        found = filled[cells]
        open_ones = np.flatnonzero(crossed[cells])
        found[open_ones] = _odd(x[some[open_ones]], y[some[open_ones]], corners)
        held[some] = found
    return np.asarray(held)


def _odd(x: NDArray[np.uint16], y: NDArray[np.uint16], corners: Floats) -> Mask:
    """Whether a ray from each point to the left crosses an odd number of sides."""
    px, py = x.astype(np.float64), y.astype(np.float64)
    odd = np.zeros(len(px), np.bool_)
    for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if ay != by:
            spans = (ay > py) != (by > py)
            odd ^= spans & (px > ax + (py - ay) * ((bx - ax) / (by - ay)))
    return odd


def _raster(corners: Floats) -> tuple[Mask, Mask]:
    """(CELLS * CELLS,): cells whose middle is inside, and cells that a side may cross. corners: (k, 2) in cells."""
    ends = np.roll(corners, -1, axis=0)
    middles = np.arange(CELLS) + 0.5
    ax, ay, bx, by = (values[:, np.newaxis] for values in (*corners.T, *ends.T))
    spans = (ay > middles) != (by > middles)
    slope = (bx - ax) / np.where(ay == by, 1.0, by - ay)
    side, line = np.nonzero(spans)
    at = ax[side, 0] + (middles[line] - ay[side, 0]) * slope[side, 0]
    crossings = np.zeros((CELLS, CELLS + 1), np.int32)
    np.add.at(crossings, (line, np.clip(np.ceil(at - 0.5), 0, CELLS).astype(np.int64)), 1)
    filled = np.cumsum(crossings[:, :CELLS], axis=1) % 2 == 1
    # Two steps a cell, and all cells around each: none that a side touches is left out.
    share = np.linspace(0, 1, 2 * CELLS + 1)
    passed = (corners[:, np.newaxis] + (ends - corners)[:, np.newaxis] * share[:, np.newaxis]).reshape(-1, 2)
    column, row = np.clip(passed, 0, CELLS - 1).astype(np.int64).T
    crossed = np.zeros((CELLS + 2, CELLS + 2), np.bool_)
    for down in range(3):
        for along in range(3):
            crossed[row + down, column + along] = True
    return filled.reshape(-1), crossed[1:-1, 1:-1].reshape(-1)
