"""Text by PP-OCRv5: a detector marks regions, and only those count in which its reader reads something."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from udfs.detection.letterbox import Pixels, letterboxed
from udfs.detection.network import Squares
from udfs.detection.reading import Reader
from udfs.detection.regions import Corners, regions
from udfs.detection.seen import NOTHING, Seen

SIDES = (512, 640)  # pixels of the input
READ = 8  # regions that are read, the largest: each costs as much as half the detector
# Of ImageNet, in the order of the channels that PaddleOCR gives it: blue, green, red.
MEAN = np.array([0.485, 0.456, 0.406], np.float32) * 255
STD = np.array([0.229, 0.224, 0.225], np.float32) * 255


class Text:
    """The detector and its reader, open. files: of udfs.detection.detectors. Raises ModelError."""

    def __init__(self, files: tuple[Path, ...]) -> None:
        self._networks = Squares(files[0], SIDES, 1)
        self._reader = Reader(files[1])

    def __call__(self, pixels: Pixels) -> Seen:
        """The text of a picture. pixels: (h, w, 3) uint8 RGB, upright."""
        side = self._networks.side(pixels)
        square, (height, width) = letterboxed(pixels, side)
        (found,) = self._networks.of(side)(np.moveaxis((square[:, :, ::-1] - MEAN) / STD, -1, 0)[None])
        marked = regions(found[0, 0, :height, :width])
        scale = np.array([pixels.shape[1] / width, pixels.shape[0] / height], np.float32)
        confirmed = [self._reader.confirms(pixels, corners * scale) for corners in marked[:READ]]
        return told(marked, confirmed, height, width)


def told(marked: list[Corners], confirmed: list[bool], height: int, width: int) -> Seen:
    """What is said of a picture. marked: of regions.regions, the largest first. confirmed: of the first of them,
    whether they are text. Those that were not read count as those that were, by their area."""
    if not any(confirmed):
        return NOTHING
    read = marked[: len(confirmed)]
    text = [corners for corners, is_text in zip(read, confirmed, strict=True) if is_text]
    covered, looked_at = _covered(text, height, width), _covered(read, height, width)
    more = _covered(marked, height, width) & ~looked_at
    trusted = covered.sum() / max(1, looked_at.sum())
    share = (covered.sum() + trusted * more.sum()) / (height * width)
    found = len(text) + round((len(marked) - len(read)) * len(text) / len(read))
    widest = max(float(np.ptp(np.clip(corners[:, 0], 0, width))) for corners in text)
    return Seen(found, float(min(1.0, share)), min(1.0, widest / width))


def _covered(marked: list[Corners], height: int, width: int) -> NDArray[np.bool_]:
    """(height, width): whether each pixel is in one of them."""
    inside = np.zeros((height, width), np.uint8)
    for corners in marked:
        cv2.fillPoly(inside, [np.round(corners).astype(np.int32)], 1)
    return inside.astype(np.bool_)
