"""The square input of a detector: the whole picture at its own aspect ratio, on black."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from udfs.images.scaling import resized

Pixels = NDArray[np.uint8]


def letterboxed(pixels: Pixels, side: int) -> tuple[Pixels, tuple[int, int]]:
    """The picture in the upper left of a black square, smaller where it has to be, never larger: what cannot be seen in
    its own pixels is not there. pixels: (h, w, 3) uint8. Returns (side, side, 3) uint8, and its height and width
    there."""
    height, width = pixels.shape[:2]
    scale = min(1.0, side / max(height, width))
    height, width = max(1, round(height * scale)), max(1, round(width * scale))
    square = np.zeros((side, side, 3), np.uint8)
    square[:height, :width] = resized(pixels, width, height)
    return square, (height, width)
