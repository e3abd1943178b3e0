"""Reading a region, to know whether there is text in it at all. What is read is not kept.

Source: Shi et al., An End-to-End Trainable Neural Network for Image-based Sequence Recognition, arXiv:1507.05717;
decoding by the best path, Graves et al., Connectionist Temporal Classification, ICML 2006."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from udfs.detection.letterbox import Pixels
from udfs.detection.network import Network
from udfs.detection.regions import Corners

HIGH, LONG = 48, 320  # pixels of the input: a line is read up to here, which is enough to know that it is one
UPRIGHT = 1.5  # times as high as wide: the line runs from top to bottom
CHARACTERS = 2  # at least
CONFIDENCE = 0.7  # mean of the characters, at least
BLANK = 0  # the class of no character; the last one is the space


class Reader:
    """The network that reads, open. Raises ModelError."""

    def __init__(self, file: Path) -> None:
        self._network = Network(file, (1, 3, HIGH, LONG), 1)

    def confirms(self, pixels: Pixels, corners: Corners) -> bool:
        """Whether there is text in a rectangle of a picture. pixels: (h, w, 3) uint8 RGB. corners: of
        regions.regions, in these pixels."""
        (found,) = self._network(line(pixels, corners))
        characters, confidence = best_path(found[0])
        return characters >= CHARACTERS and confidence > CONFIDENCE


def line(pixels: Pixels, corners: Corners) -> NDArray[np.float32]:
    """(1, 3, HIGH, LONG) float32 in -1..1, BGR: the line turned level, on grey, cut off where it is longer."""
    wide = float(np.linalg.norm(corners[1] - corners[0]))
    high = float(np.linalg.norm(corners[3] - corners[0]))
    if high >= UPRIGHT * wide:  # turned to the left, as the network was trained
        corners, wide, high = np.roll(corners, -1, axis=0), high, wide
    long = max(1, min(LONG, round(HIGH * wide / max(high, 1e-6))))
    whole = max(1.0, HIGH * wide / max(high, 1e-6))
    to = np.array([[0, 0], [whole, 0], [whole, HIGH], [0, HIGH]], np.float32)
    move = cv2.getPerspectiveTransform(corners.astype(np.float32), to)
    level = cv2.warpPerspective(pixels, move, (long, HIGH), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    given = np.zeros((1, 3, HIGH, LONG), np.float32)
    given[0, :, :, :long] = np.moveaxis(level[:, :, ::-1], -1, 0).astype(np.float32) / 127.5 - 1
    return given


def best_path(steps: NDArray[np.float32]) -> tuple[int, float]:
    """How many characters are read, spaces not counted, and the mean of their confidences, 0 without any. steps: (t,
    classes) float32 in 0..1. Of steps of one class in a row the first counts."""
    classes = steps.argmax(axis=1)
    begins = np.concatenate([[True], classes[1:] != classes[:-1]])
    read = begins & (classes != BLANK) & (classes != steps.shape[1] - 1)
    if not read.any():
        return 0, 0.0
    return int(read.sum()), float(steps[read, classes[read]].mean())
