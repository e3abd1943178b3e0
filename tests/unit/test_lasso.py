"""Catches a point that is in a lasso and not found, or found and not in it."""

import numpy as np
import pytest
from numpy.typing import NDArray

from jobs.serve.columns import NULL, STEPS
from jobs.serve.maps import lasso
from jobs.serve.maps.lasso import Point, inside


def expected(x: NDArray[np.uint16], y: NDArray[np.uint16], polygon: tuple[Point, ...]) -> NDArray[np.bool_]:
    """By every side for every point."""
    odd = np.zeros(len(x), np.bool_)
    for (ax, ay), (bx, by) in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        if ay != by:
            odd ^= ((ay > y) != (by > y)) & (x > ax + (y - ay) * ((bx - ax) / (by - ay)))
    return odd & (x <= STEPS) & (y <= STEPS)


def points(count: int, seed: int) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    draw = np.random.default_rng(seed)
    x, y = (draw.integers(0, STEPS + 1, count).astype(np.uint16) for _ in range(2))
    x[::17] = y[::17] = NULL
    return x, y


@pytest.mark.parametrize("corners", [3, 4, 11, 64])
@pytest.mark.parametrize("seed", range(6))
def test_all_points_and_no_others(corners: int, seed: int) -> None:
    """A raster that is off by a cell; sides that cross one another."""
    x, y = points(20_000, seed)
    draw = np.random.default_rng(seed + 100)
    middle, size = draw.random(2), draw.choice([0.0005, 0.02, 0.5])
    polygon = tuple((float(a * STEPS), float(b * STEPS)) for a, b in middle + size * (draw.random((corners, 2)) - 0.5))
    # Many points where the lasso is, however small.
    near = np.clip(middle * STEPS + size * STEPS * (draw.random((5000, 2)) - 0.5), 0, STEPS).astype(np.uint16)
    x, y = np.concatenate([x, near[:, 0]]), np.concatenate([y, near[:, 1]])
    found = inside(x, y, polygon, STEPS)
    assert np.array_equal(found, expected(x, y, polygon))
    assert found[-5000:].any() or corners == 3


def test_corners_on_points_and_lines_without_area() -> None:
    """A lasso of whole numbers, whose sides go through points; one that is a line; one beyond the map."""
    x, y = (values.ravel().astype(np.uint16) for values in np.meshgrid(np.arange(20), np.arange(20)))
    for polygon in (
        ((2.0, 2.0), (9.0, 2.0), (9.0, 9.0), (2.0, 9.0)),
        ((0.0, 0.0), (10.0, 10.0), (5.0, 5.0)),
        ((3.0, 3.0), (3.0, 3.0), (3.0, 3.0)),
        ((0.0, 0.0), (float(STEPS), 0.0), (float(STEPS), float(STEPS)), (0.0, float(STEPS))),
        ((0.0, 5.0), (19.0, 5.0), (19.0, 5.0)),
    ):
        assert np.array_equal(inside(x, y, polygon, STEPS), expected(x, y, polygon)), polygon


def test_no_points() -> None:
    none = np.zeros(0, np.uint16)
    assert inside(none, none, ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0)), STEPS).shape == (0,)


def test_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block of points that is another's."""
    x, y = points(5000, 1)
    polygon = ((0.0, 0.0), (60_000.0, 10_000.0), (20_000.0, 65_000.0))
    whole = inside(x, y, polygon, STEPS)
    monkeypatch.setattr(lasso, "BLOCK", 7)
    assert np.array_equal(inside(x, y, polygon, STEPS), whole)
