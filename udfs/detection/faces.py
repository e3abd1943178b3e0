"""Faces by CenterFace: the cells where a face has its middle, and how wide and high it is there.

Source: Xu et al., CenterFace: Joint Face Detection and Alignment Using Face as Point, arXiv:1911.03599."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from udfs.detection.letterbox import Pixels, letterboxed
from udfs.detection.network import Squares
from udfs.detection.seen import NOTHING, Seen

SIDES = (512, 736, 960)  # pixels of the input
STRIDE = 4  # pixels of the input that a cell of the output covers
THRESHOLD = 0.5  # of a cell's confidence
OVERLAP = 0.3  # intersection by union from which two boxes are of one face
MOST = 1000  # boxes that are compared, the surest
_OUTPUTS = 3  # confidence, logarithm of the size, offset; the landmarks are not used

Boxes = NDArray[np.float64]


class Faces:
    """The detector, open. files: of udfs.detection.detectors. Raises ModelError."""

    def __init__(self, files: tuple[Path, ...]) -> None:
        self._networks = Squares(files[0], SIDES, _OUTPUTS)

    def __call__(self, pixels: Pixels) -> Seen:
        """The faces of a picture. pixels: (h, w, 3) uint8 RGB, upright."""
        side = self._networks.side(pixels)
        square, (height, width) = letterboxed(pixels, side)
        heat, size, offset = self._networks.of(side)(np.moveaxis(square, -1, 0)[None].astype(np.float32))
        found = boxes(heat[0, 0], size[0], offset[0], height, width)
        if not len(found):
            return NOTHING
        areas = found[:, 2] * found[:, 3]
        return Seen(len(found), float(areas.max()) / (height * width), float(found[:, 2].max()) / width)


def boxes(
    heat: NDArray[np.float32], size: NDArray[np.float32], offset: NDArray[np.float32], height: int, width: int
) -> Boxes:
    """(n, 4) x, y, width, height in pixels of the input, one box a face, none larger than the picture.

    heat: (r, c) confidence in 0..1 of each cell. size: (2, r, c) logarithm of height and width, in cells. offset: (2,
    r, c) of the middle in y and x, in cells. height, width: of the picture in the input."""
    rows, columns = np.nonzero(heat > THRESHOLD)
    if len(rows) > MOST:
        best = np.argsort(-heat[rows, columns], kind="stable")[:MOST]
        rows, columns = rows[best], columns[best]
    high, wide = np.exp(np.minimum(size[:, rows, columns].astype(np.float64), np.log(SIDES[-1] / STRIDE))) * STRIDE
    y = (rows + offset[0, rows, columns] + 0.5) * STRIDE
    x = (columns + offset[1, rows, columns] + 0.5) * STRIDE
    left, right = (np.clip(x + half, 0, width) for half in (-wide / 2, wide / 2))
    top, bottom = (np.clip(y + half, 0, height) for half in (-high / 2, high / 2))
    found = np.stack([left, top, right - left, bottom - top], axis=1)
    sound = np.isfinite(found).all(axis=1) & (found[:, 2:] > 0).all(axis=1)
    found, sure = found[sound], heat[rows, columns][sound].astype(np.float64)
    if not len(found):
        return np.empty((0, 4))
    kept = cv2.dnn.NMSBoxes(found.tolist(), sure.tolist(), THRESHOLD, OVERLAP)
    return np.asarray(found[np.asarray(kept, np.int64).reshape(-1)], np.float64)
