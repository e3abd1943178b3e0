"""Marks: one picture of a pair, faded, with what differs from the other in colour."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from udfs.images.looks import SIDE, Look
from udfs.images.registration import laid_over
from udfs.images.relation_names import CROPPED, FRAMED, OTHER_DETAIL, OVERLAY, RECOLOURED
from udfs.images.relations import Comparison, compare_in_order

LONGER = 320  # pixels of the longer side of a mark
MARKED = frozenset(
    {CROPPED, FRAMED, OTHER_DETAIL, OVERLAY, RECOLOURED}
)  # relations of which there is something to mark
_DIFFERS = (214, 31, 105)  # RGB: strong on white and on black
_BEYOND = (43, 125, 233)
_FADED = 0.55  # of the grey picture, the rest is white
_COLOUR = 30.0  # units of a*, b* in 8 bits, that count as another colour
_STRENGTH = 0.65


def marked(one: Look, two: Look) -> NDArray[np.uint8] | None:
    """The second picture in pale grey; red where the first shows something else or another colour, blue what the first
    does not have. (h, w, 3) uint8 RGB, of the second's aspect ratio; None where nothing can be marked."""
    found = compare_in_order(one, two)
    if not MARKED & set(found.relations):
        return None
    grey = 255 - (255 - two.grey.astype(np.float32)) * _FADED
    picture = np.repeat(grey[..., np.newaxis], 3, axis=2)
    for places, colour in ((_beyond(found), _BEYOND), (_differing(found, one, two), _DIFFERS)):
        share = (places * _STRENGTH)[..., np.newaxis]
        picture = picture * (1 - share) + np.array(colour, np.float32) * share
    ratio = two.width / two.height if two.width and two.height else 1.0
    size = (LONGER, max(1, round(LONGER / ratio))) if ratio >= 1 else (max(1, round(LONGER * ratio)), LONGER)
    return np.asarray(cv2.resize(np.asarray(picture.round(), np.uint8), size, interpolation=cv2.INTER_CUBIC), np.uint8)


def _beyond(found: Comparison) -> NDArray[np.float32]:
    """(SIDE, SIDE), 1 where the first picture has nothing."""
    whole = laid_over(np.full((SIDE, SIDE), 255, np.uint8), found.laid.way, found.laid.move, beyond=0)
    return np.asarray(1 - whole / 255, np.float32)


def _differing(found: Comparison, one: Look, two: Look) -> NDArray[np.float32]:
    """(SIDE, SIDE), up to 1 where detail or colour differs."""
    places = cv2.dilate(found.differs.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(np.float32)
    if RECOLOURED in found.relations:
        laid = laid_over(one.pixels, found.laid.way, found.laid.move)
        here, there = (cv2.cvtColor(side, cv2.COLOR_RGB2LAB).astype(np.float32)[..., 1:] for side in (laid, two.pixels))
        other = (np.abs(here - there).sum(axis=2) > _COLOUR) & (found.laid.over > 0)
        places = np.maximum(places, other.astype(np.float32))
    return np.asarray(cv2.blur(places, (3, 3)), np.float32)
