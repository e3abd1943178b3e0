"""Medium: what kind of picture it is, by cheap means, for what is a fault of a photograph is none of a page."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

PHOTOGRAPH = "photograph"
DOCUMENT = "document"  # pages, forms, codes, screens: many small strokes
DRAWING = "drawing"  # drawings, diagrams, things cut out and flat
MASK = "mask"  # few flat values
ICON = "icon"
BLANK = "blank"  # nothing to be seen
MEDIA = (PHOTOGRAPH, DOCUMENT, DRAWING, MASK, ICON, BLANK)
DRAWN = (DOCUMENT, DRAWING, MASK, ICON)

Pixels = NDArray[np.uint8]

_SIDE = 160  # pixels each way, at which a picture is looked at
_ICON_SIDE = 128  # pixels of the longer side of what is drawn
_ENDS = (0.5, 99.5)  # percentiles of grey that are stretched to black and white: a dark photograph is a photograph
_LEAST_RANGE = 24.0  # grey levels, that are stretched at most so far
_GROUND = 0.3  # share of one grey, without which no picture is drawn
_NEAR = 4  # grey levels to either side that count as the ground, and
_INK = 12  # beyond which ink begins
_SHADES = (6, 64)  # grey levels within 3 x 3 pixels: not flat, and no edge
_SHADED = 0.1  # of the ink: less has no photograph
_FLATTER = 1.5  # times as much of the ink may be flat
_RESTLESS = 2  # grey levels within 3 x 3 pixels, and
_GRAINY = 0.6  # the share of the ground away from all ink that has so many: paper is calm, even where it was scanned
_COLOURS = (40, 0.35)  # levels between the channels, and the share of ink that has so many: overexposed photographs
_INSIDE = 0.15  # of the ink, that lies inside of it: strokes have none
_FLAT_INK = 0.1  # of the ink
_STROKES = 40  # pieces of ink: drawings have fewer
_STROKE = 0.01  # of the area, that one of them has at most
_MASK_FLAT = 0.7  # share of the area that does not vary
_MASK_GREYS = 1.9  # bits, of 64 greys
_WHITE = 240  # grey levels, of a ground that is paper
_SEEN = 4  # pixels of ink: fewer are a blank picture with a speck on it


def medium(pixels: Pixels, width: int, height: int) -> str:
    """One of MEDIA. pixels: (h, w, 3) uint8 RGB, of looks.small. width, height: of the image in full."""
    grey = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8)
    counts = _counts(grey)
    middle = int(np.searchsorted(counts.cumsum(), counts.sum() / 2))
    if counts.sum() - counts[max(0, middle - _INK) : middle + _INK + 1].sum() < _SEEN:
        return BLANK
    if not is_drawn(pixels):
        return PHOTOGRAPH
    if max(width, height) <= _ICON_SIDE:
        return ICON
    ground, _ = _ground(grey)
    flat = float((_range(grey, 5) <= _INK).mean())
    if flat >= _MASK_FLAT and ground < _WHITE and _entropy(grey) <= _MASK_GREYS:
        return MASK
    ink = (np.abs(grey.astype(np.int16) - ground) > _INK).astype(np.uint8)
    count, _, numbers, _ = cv2.connectedComponentsWithStats(ink)
    small = int((numbers[1:count, cv2.CC_STAT_AREA] <= _STROKE * grey.size).sum())
    return DOCUMENT if small >= _STROKES else DRAWING


def is_drawn(pixels: Pixels) -> bool:
    """Whether a picture is drawn, written, or cut out and flat, so that small strokes are what counts: before a ground
    of one grey, and what is not the ground, its ink, has no soft shades. pixels: (h, w, 3) uint8 RGB."""
    if min(pixels.shape[:2]) < _SIDE:
        pixels = np.asarray(cv2.resize(pixels, (_SIDE, _SIDE), interpolation=cv2.INTER_LINEAR), np.uint8)
    grey = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8)
    counts = _counts(grey)
    shares = counts.cumsum() / counts.sum() * 100
    low, high = (int(np.searchsorted(shares, end)) for end in _ENDS)
    stretch = np.clip((np.arange(256) - low) * (255 / max(high - low, _LEAST_RANGE)), 0, 255).astype(np.uint8)
    ground, share = _most(np.bincount(stretch, counts, 256).astype(np.float64))
    if share < _GROUND:
        return False
    restless = _range(grey, 3) >= _RESTLESS
    grey = stretch[grey]
    ink = np.abs(grey.astype(np.int16) - ground) > _INK
    total = max(1, int(np.count_nonzero(ink)))
    inside = np.asarray(cv2.erode(ink.astype(np.uint8), np.ones((5, 5), np.uint8))) > 0
    steps = _range(grey, 3)
    shaded = np.count_nonzero(inside & (steps >= _SHADES[0]) & (steps < _SHADES[1])) / total
    flat = np.count_nonzero(inside & (steps < _SHADES[0])) / total
    if shaded >= _SHADED and flat <= _FLATTER * shaded:
        return False
    paper = np.asarray(cv2.erode((~ink).astype(np.uint8), np.ones((7, 7), np.uint8))) > 0
    if np.count_nonzero(restless & paper) > _GRAINY * np.count_nonzero(paper):
        return False
    if np.count_nonzero(inside) < _INSIDE * total or flat >= _FLAT_INK or shaded < _SHADED / 2:
        return True
    coloured = pixels.max(axis=-1) - pixels.min(axis=-1) > _COLOURS[0]
    return bool(np.count_nonzero(coloured & ink) < _COLOURS[1] * total)


def most_common(grey: NDArray[np.uint8]) -> float:
    """The share of the most common grey and its like: of photographs about a tenth, of pages and drawings most. grey:
    (h, w) uint8."""
    return _ground(grey)[1]


def _ground(grey: Pixels) -> tuple[int, float]:
    """The most common grey, and the share of it and its like."""
    return _most(_counts(grey))


def _counts(grey: Pixels) -> NDArray[np.float64]:
    """(256,), pixels of each grey."""
    found = cv2.calcHist([np.ascontiguousarray(grey)], [0], None, [256], [0, 256])
    return np.asarray(found, np.float64).ravel()


def _most(counts: NDArray[np.float64]) -> tuple[int, float]:
    near = np.convolve(counts, np.ones(2 * _NEAR + 1), "same")
    return int(near.argmax()), float(near.max()) / max(float(counts.sum()), 1.0)


def _entropy(grey: NDArray[np.uint8]) -> float:
    """Bits of the histogram of 64 greys."""
    shares = np.bincount(grey.ravel() >> 2, minlength=64) / grey.size
    shares = shares[shares > 0]
    return -float((shares * np.log2(shares)).sum())


def _range(grey: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """The highest less the lowest grey of the square around each pixel."""
    window = np.ones((side, side), np.uint8)
    return np.asarray(cv2.subtract(cv2.dilate(grey, window), cv2.erode(grey, window)), np.uint8)
