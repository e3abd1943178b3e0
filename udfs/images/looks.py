"""Looks: a small picture of each image, kept so that two images can be compared again without being read again."""

from __future__ import annotations

from functools import cached_property

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from udfs.images.medium import DRAWN, most_common
from udfs.images.starts import SIDE as SMALL
from udfs.images.starts import Sketch, symmetry

SIDE = 160  # pixels each way of a look, its aspect ratio ignored
MOST_BYTES = 4000  # of a look
QUALITIES = (75, 60, 45, 30, 20, 10)  # of JPEG, the first that MOST_BYTES holds
_BORDER_STEP = 4.0  # grey levels, mean: a line that differs less from the outermost one repeats it
_LEAST_BORDER = 3  # pixels
_LEAST_INSIDE = 0.2  # of the side, that a border leaves
LOSSLESS = ("png", "bmp", "gif")  # formats that keep all pixels
_COLOUR_SIDE = 40  # pixels at which colours are compared
_MOST_ASPECT = 4.0  # of the aspect ratio at which corners are looked for
_ORB = {"nfeatures": 250, "scaleFactor": 1.2, "nlevels": 6, "edgeThreshold": 8, "patchSize": 17, "fastThreshold": 8}

Pixels = NDArray[np.uint8]
Grey = NDArray[np.float32]
Corners = tuple[NDArray[np.float32], Pixels]  # (n, 2) x and y in pixels; (n, 32) what they look like; n may be 0


def small(pixels: Pixels) -> Pixels:
    """At most SIDE x SIDE pixels of a picture, its aspect ratio ignored. pixels: (h, w, 3) uint8; a side shorter than
    SIDE stays as it is."""
    size = (min(SIDE, pixels.shape[1]), min(SIDE, pixels.shape[0]))
    return np.ascontiguousarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def look(pixels: Pixels) -> bytes:
    """A JPEG of so many pixels and, but for noise that no quality makes small, at most MOST_BYTES.

    pixels: (h, w, 3) uint8 RGB, of `small`."""
    for quality in QUALITIES:
        data: bytes = simplejpeg.encode_jpeg(pixels, quality=quality, colorsubsampling="420")
        if len(data) <= MOST_BYTES:
            break
    return data


class Look:
    """A look as pictures that can be compared. data: of `look`. width, height: of the image in full, 0 where they are
    not known. drawn: whether its medium is one of DRAWN. lossless: whether its format keeps all pixels. Raises
    ValueError where it is no JPEG."""

    def __init__(
        self, data: bytes, width: int = 0, height: int = 0, drawn: bool = False, lossless: bool = False
    ) -> None:
        self.data, self.width, self.height, self.drawn, self.lossless = data, width, height, drawn, lossless
        self._corners: dict[int, Corners] = {}
        pixels = simplejpeg.decode_jpeg(data)
        if pixels.shape[:2] != (SIDE, SIDE):
            pixels = cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
        self.pixels: Pixels = np.asarray(pixels, np.uint8)

    @classmethod
    def of(cls, data: bytes, width: int, height: int, medium: str, kind: str) -> Look:
        """The look of a row of `features`. kind: its format."""
        return cls(data, width, height, medium in DRAWN, kind in LOSSLESS)

    @cached_property
    def grey(self) -> Pixels:
        """(SIDE, SIDE) uint8."""
        return np.asarray(cv2.cvtColor(self.pixels, cv2.COLOR_RGB2GRAY), np.uint8)

    @cached_property
    def sketch(self) -> Sketch:
        """At so few pixels that a search for the move onto another look is fast."""
        return Sketch(np.asarray(cv2.resize(self.grey, (SMALL, SMALL), interpolation=cv2.INTER_AREA), np.uint8))

    @property
    def shape(self) -> tuple[int, int]:
        """Width and height of as many pixels as a look has, of the image's own aspect ratio, where that is known."""
        if not self.width or not self.height:
            return SIDE, SIDE
        ratio = min(max(self.width / self.height, 1 / _MOST_ASPECT), _MOST_ASPECT) ** 0.5
        return round(SIDE * ratio), round(SIDE / ratio)

    def corners(self, way: int) -> Corners:
        """The corners of the picture after the way of `symmetry`, found where it is not squeezed."""
        if way not in self._corners:
            stretched = cv2.resize(symmetry(self.grey, way), self.shape, interpolation=cv2.INTER_LINEAR)
            orb = cv2.ORB_create(**_ORB)  # type: ignore[attr-defined]
            points, signs = orb.detectAndCompute(stretched, None)
            self._corners[way] = np.array([point.pt for point in points], np.float32).reshape(-1, 2), signs
        return self._corners[way]

    @cached_property
    def colours(self) -> Grey:
        """(_COLOUR_SIDE, _COLOUR_SIDE, 3) float32 of CIE L*a*b*, each 0..255 as OpenCV has them in 8 bits."""
        small = cv2.resize(self.pixels, (_COLOUR_SIDE, _COLOUR_SIDE), interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2LAB), np.float32)

    @cached_property
    def ground(self) -> float:
        """See medium.most_common."""
        return most_common(self.grey)

    @cached_property
    def inside(self) -> tuple[int, int, int, int]:
        """top, bottom, left, right in pixels of what is left without a border: without lines at an edge that repeat the
        outermost one, as bars do, and what a decoder fills a broken picture with."""
        top, bottom = _within(self.grey)
        left, right = _within(self.grey[top:bottom].T)
        return top, bottom, left, right


def _within(grey: Pixels) -> tuple[int, int]:
    """The first and the end of the rows that are no border."""
    values = grey.astype(np.int16)
    ends = []
    for rows in (values, values[::-1]):
        other = np.flatnonzero(np.abs(rows - rows[0]).mean(axis=1) > _BORDER_STEP)
        first = int(other[0]) if len(other) else 0
        ends.append(first if first >= _LEAST_BORDER else 0)
    first, last = ends[0], len(grey) - ends[1]
    return (first, last) if last - first >= _LEAST_INSIDE * len(grey) else (0, len(grey))
