"""Regions of text in the map of a detector that tells of each pixel how surely it is of text.

Source: Liao et al., Real-time Scene Text Detection with Differentiable Binarization, arXiv:1911.08947; numbers of
PaddleOCR's DBPostProcess. Where that offsets polygons, the smallest rectangle around each is offset here."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

PIXEL = 0.3  # of the map: from here a pixel is of text
REGION = 0.6  # mean of the map in the rectangle of a region, at least
GROWTH = 1.5  # the map holds shrunken regions: each side moves out by area x this / perimeter
THIN = 3.0  # pixels: a thinner rectangle is no text
MOST = 1000  # regions that are looked at

Corners = NDArray[np.float32]


def regions(probability: NDArray[np.float32]) -> list[Corners]:
    """Rectangles of text, the largest first, each (4, 2) float32 of x and y: upper left, upper right, lower right,
    lower left, as they are read. probability: (h, w) float32 in 0..1."""
    mask = (probability > PIXEL).astype(np.uint8)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    found: list[tuple[float, Corners]] = []
    for contour in contours[:MOST]:
        middle, (wide, high), angle = cv2.minAreaRect(contour)
        if min(wide, high) < THIN or _mean(probability, _corners(middle, wide, high, angle)) < REGION:
            continue
        out = wide * high * GROWTH / (2 * (wide + high))
        wide, high = wide + 2 * out, high + 2 * out
        found.append((wide * high, _in_order(_corners(middle, wide, high, angle))))
    found.sort(key=lambda one: -one[0])
    return [corners for _, corners in found]


def _corners(middle: Sequence[float], wide: float, high: float, angle: float) -> Corners:
    return np.asarray(cv2.boxPoints((middle, (wide, high), angle)), np.float32)


def _mean(probability: NDArray[np.float32], corners: NDArray[np.float32]) -> float:
    """Of the map inside a rectangle."""
    height, width = probability.shape
    left, top = (max(0, int(np.floor(corners[:, axis].min()))) for axis in (0, 1))
    right = min(width, int(np.ceil(corners[:, 0].max())) + 1)
    bottom = min(height, int(np.ceil(corners[:, 1].max())) + 1)
    if right <= left or bottom <= top:
        return 0.0
    inside = np.zeros((bottom - top, right - left), np.uint8)
    cv2.fillPoly(inside, [np.round(corners - (left, top)).astype(np.int32)], 1)
    return float(cv2.mean(probability[top:bottom, left:right], inside)[0])


def _in_order(corners: NDArray[np.float32]) -> Corners:
    """From the upper left on, clockwise: of the two that are furthest left the upper one begins."""
    by_x = corners[np.argsort(corners[:, 0], kind="stable")]
    left, right = (pair[np.argsort(pair[:, 1], kind="stable")] for pair in (by_x[:2], by_x[2:]))
    return np.array([left[0], right[0], right[1], left[1]], np.float32)
