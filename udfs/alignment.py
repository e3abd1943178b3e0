"""Whether two pictures are one picture after an edit: how well the grey of one fits the other when laid over it.

The second witness of near-duplicates. An embedding sees what is shown; this sees where the edges lie."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 32  # of a thumbnail, pixels; 48 told copies from look-alikes no better
Thumbnail = NDArray[np.uint8]

_STOP = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 25, 1e-3)
_SMOOTHING = 3  # pixels of the Gaussian that both are smoothed with
_CENTRE = (SIDE - 1) / 2
_STARTS = (1.0, 0.8, 1.25)  # zoom at which the search begins: none, either one a crop of the other
_ZOOM = (0.6, 1.6)  # a fit beyond this is no edit but a coincidence
_TURN = 15.0  # degrees, likewise
_OVERLAP = 0.5  # of the picture that must lie over the other
_SURE = 0.95  # from here on no better fit is looked for


def thumbnail(pixels: NDArray[np.uint8]) -> Thumbnail:
    """pixels: (h, w, 3) uint8 RGB. Returns (SIDE, SIDE) uint8 grey of the whole picture, its aspect ratio ignored."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)


def alignment(left: Thumbnail, right: Thumbnail) -> float:
    """How well one picture fits the other after the best affine move, mirrored or not. (SIDE, SIDE) uint8 each.

    Enhanced correlation coefficient, Evangelidis & Psarakis, PAMI 2008: 1 for the same picture brightened, cropped,
    turned or mirrored. Returns 0..1, 0 where no plausible move was found; the same for (right, left)."""
    if left.tobytes() > right.tobytes():  # the search is not symmetric, the answer has to be
        left, right = right, left
    best = 0.0
    for moved in (left, np.ascontiguousarray(left[:, ::-1])):
        for zoom in _STARTS:
            best = max(best, _fit(moved, right, zoom))
        if best > _SURE:
            break
    return min(best, 1.0)


def _fit(moved: Thumbnail, fixed: Thumbnail, zoom: float) -> float:
    shift = _CENTRE * (1 - zoom)
    start = np.array([[zoom, 0, shift], [0, zoom, shift]], np.float32)
    try:
        found, move = cv2.findTransformECC(fixed, moved, start, cv2.MOTION_AFFINE, _STOP, None, _SMOOTHING)  # type: ignore[call-overload]
    except cv2.error:  # it does not converge, or one of them is flat
        return 0.0
    return float(found) if _plausible(np.asarray(move, np.float64)) else 0.0


def _plausible(move: NDArray[np.float64]) -> bool:
    """move: (2, 3). Whether it could be an edit: little zoom, shear and turn, and most of the picture stays."""
    linear = move[:, :2]
    zooms = np.linalg.svd(linear, compute_uv=False)
    if np.linalg.det(linear) <= 0 or zooms.min() < _ZOOM[0] or zooms.max() > _ZOOM[1]:
        return False
    turn = np.degrees(np.arctan2(linear[1, 0] - linear[0, 1], linear[0, 0] + linear[1, 1]))
    if abs(turn) > _TURN:
        return False
    whole = np.full((SIDE, SIDE), 255, np.uint8)
    over = cv2.warpAffine(whole, move, (SIDE, SIDE), flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP)
    return bool(np.count_nonzero(over) >= _OVERLAP * over.size)
