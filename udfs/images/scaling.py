"""How pictures get smaller: by the mean of what each pixel covers, in a way that a GPU can follow."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

_SLACK = 1.25  # times that an interpolation may shrink an axis: it skips a fifth of a pixel at most
_MOST = 4 * _SLACK  # times that an axis shrinks without means of whole pixels


def resized(pixels: Pixels, width: int, height: int) -> Pixels:
    """pixels: (h, w) or (h, w, channels) uint8. Returns (height, width) or (height, width, channels) uint8.

    An axis that shrinks is interpolated at two, three or four times as many pixels as are wanted, hardly fewer than
    there are, and so many are averaged: a third of the time of the mean by area, and from it by half a grey level.
    Where it shrinks further, means of whole pixels come first. An axis that grows is interpolated."""
    wanted = width, height
    length = pixels.shape[1], pixels.shape[0]
    factors = [of // (2 * to) if of > _MOST * to else 1 for of, to in zip(length, wanted, strict=True)]
    length = tuple(of // factor for of, factor in zip(length, factors, strict=True))
    times = [max(2, math.ceil(of / to / _SLACK)) if of > to else 1 for of, to in zip(length, wanted, strict=True)]
    finer = tuple(to * many for to, many in zip(wanted, times, strict=True))
    pixels = _resize(pixels, length, cv2.INTER_AREA)
    return _resize(_resize(pixels, finer, cv2.INTER_LINEAR), wanted, cv2.INTER_AREA)


def short_side(pixels: Pixels, side: int) -> Pixels:
    """The picture with a short side of at most side pixels, of the same aspect ratio. pixels: as for resized."""
    height, width = pixels.shape[:2]
    scale = side / min(height, width)
    if scale >= 1:
        return pixels
    return resized(pixels, max(1, round(width * scale)), max(1, round(height * scale)))


def _resize(pixels: Pixels, size: tuple[int, ...], how: int) -> Pixels:
    if size == (pixels.shape[1], pixels.shape[0]):
        return pixels
    return np.asarray(cv2.resize(pixels, size, interpolation=how), np.uint8)
