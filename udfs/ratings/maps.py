"""Where in a picture a score comes from: exact shares of the cells of the built-in network, or occlusion; regions of
the map, and the picture with the map over it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from udfs.networks.feature_map import Seen
from udfs.ratings.heads import Head, HeadError
from udfs.ratings.linear import PICKED, Numbers

GRID = 7  # patches of a side that are covered one after another
COVER = 127  # grey level of a patch that covers
STANDS_OUT = 0.75  # standard deviations from the mean by which a cell belongs to a region
MOST_REGIONS = 3  # that raise, and that lower
RAISES, LOWERS = (230, 120, 0), (0, 90, 200)  # orange and blue, which all eyes tell apart
OVERLAY = 0.45  # of the colour, where the map is strongest


def shares(head: Head, seen: Seen) -> Numbers:
    """(n, h, w): what each cell adds to what the layer says of a vector; class activation mapping (Zhou et al., CVPR
    2016), here for vectors of norm 1.

        sum over cells = weights . vector = score - offset, as vector = mean over cells / norm

    Of picks they add up to the log-odds. Raises HeadError for a head of more than one layer."""
    if not head.linear:
        raise HeadError(f"{head.key} has more than one layer: its map is made by occlusion")
    weights = head.layers[0].weights[0].astype(np.float64) * (head.slope if head.kind == PICKED else 1.0)
    count = seen.cells.shape[2] * seen.cells.shape[3]
    found = np.einsum("ndhw,d->nhw", seen.cells, weights, optimize=True)
    return np.asarray(found / (np.maximum(seen.norms, 1e-12).astype(np.float64) * count)[:, None, None])


def settled(found: Numbers, totals: Numbers) -> tuple[Numbers, float]:
    """The shares so that they add up to totals (n,), the scores of the stored vectors less the offset: what was rounded
    away when these were stored is spread evenly. Returns them and the largest correction of a total."""
    missing = totals - found.sum(axis=(1, 2))
    cells = found.shape[1] * found.shape[2]
    return found + (missing / cells)[:, None, None], float(np.abs(missing).max(initial=0.0))


def occluded(pixels: NDArray[np.uint8], score: Callable[[NDArray[np.uint8]], Numbers], grid: int = GRID) -> Numbers:
    """(grid, grid): how much lower the score is where a patch is covered with grey (Zeiler and Fergus, ECCV 2014). They
    do not add up to the score. pixels: (side, side, 3) uint8. score: of (n, side, side, 3) uint8 pictures, (n,)."""
    side = pixels.shape[0]
    edges = np.linspace(0, side, grid + 1).round().astype(int)
    covered = np.repeat(pixels[None], grid * grid + 1, axis=0)
    for at in range(grid * grid):
        row, column = divmod(at, grid)
        covered[at, edges[row] : edges[row + 1], edges[column] : edges[column + 1]] = COVER
    found = score(covered)
    return np.asarray((found[-1] - found[:-1]).reshape(grid, grid))


@dataclass(frozen=True)
class Region:
    """Cells that hang together. left, top, right, bottom: in shares of the picture's sides, 0..1. adds: to the score,
    beyond as many cells of the mean."""

    left: float
    top: float
    right: float
    bottom: float
    adds: float


def regions(one: Numbers) -> list[Region]:
    """The regions that raise the score most, then those that lower it most. one: (h, w) of a map."""
    beyond = one - one.mean()
    spread = float(beyond.std())
    found = []
    for sign in (1, -1):
        mask = (sign * beyond > STANDS_OUT * spread).astype(np.uint8) if spread > 0 else np.zeros(one.shape, np.uint8)
        count, labels = cv2.connectedComponents(mask, connectivity=4)
        own = []
        for number in range(1, count):
            rows, columns = np.nonzero(labels == number)
            own.append(
                Region(
                    columns.min() / one.shape[1], rows.min() / one.shape[0], (columns.max() + 1) / one.shape[1],
                    (rows.max() + 1) / one.shape[0], float(beyond[labels == number].sum()),
                )
            )  # fmt: skip
        found += sorted(own, key=lambda region: -sign * region.adds)[:MOST_REGIONS]
    return found


def overlay(pixels: NDArray[np.uint8], one: Numbers, most: float) -> NDArray[np.uint8]:
    """The picture in grey with the map over it: orange raises the score, blue lowers it, against the mean of the map.
    pixels: (h, w, 3) uint8 RGB. most: the difference that gets the full colour, > 0."""
    height, width = pixels.shape[:2]
    beyond = np.clip((one - one.mean()) / most, -1, 1).astype(np.float32)
    large = cv2.resize(beyond, (width, height), interpolation=cv2.INTER_CUBIC)[..., None]
    grey = cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB).astype(np.float32)
    colour = np.where(large > 0, np.array(RAISES, np.float32), np.array(LOWERS, np.float32))
    strong = np.minimum(np.abs(large), 1) * OVERLAY
    base = 0.5 * pixels + 0.5 * grey
    return np.asarray(np.rint(base * (1 - strong) + colour * strong).clip(0, 255), np.uint8)
