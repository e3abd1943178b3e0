"""The pixels' witness: high for edits of one picture, low for others, symmetric, and never an error."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from udfs.alignment import SIDE, alignment, thumbnail

Pixels = NDArray[np.uint8]


def picture(seed: int) -> Pixels:
    """Coarse shapes from a seed, (240, 320, 3) uint8."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 8, 3)).astype(np.uint8)
    return np.asarray(cv2.resize(coarse, (320, 240), interpolation=cv2.INTER_CUBIC), np.uint8)


def turned(pixels: Pixels, degrees: float) -> Pixels:
    height, width = pixels.shape[:2]
    move = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    return np.asarray(cv2.warpAffine(pixels, move, (width, height)), np.uint8)


EDITS: dict[str, Callable[[Pixels], Pixels]] = {
    "same": lambda p: p,
    "mirrored": lambda p: p[:, ::-1],
    "cropped": lambda p: p[24:216, 32:288],
    "turned": lambda p: turned(p, 5),
    "brightened": lambda p: np.clip(p.astype(float) * 1.25, 0, 255).astype(np.uint8),
    "halved": lambda p: np.asarray(cv2.resize(p, (160, 120), interpolation=cv2.INTER_AREA), np.uint8),
}


@pytest.mark.parametrize("edit", EDITS)
def test_edits_align(edit: str) -> None:
    """Catches an edit that the search for the best move no longer finds."""
    for seed in range(5):
        whole = picture(seed)
        edited = np.ascontiguousarray(EDITS[edit](whole))
        assert alignment(thumbnail(whole), thumbnail(edited)) > 0.9


def test_other_pictures_do_not() -> None:
    """Catches a search so free that anything fits anything."""
    found = [alignment(thumbnail(picture(a)), thumbnail(picture(b))) for a in range(8) for b in range(a)]
    assert np.median(found) < 0.6
    assert max(found) < 0.9


def test_symmetric() -> None:
    """Catches an answer that depends on which of two images has the lower id."""
    one, other = thumbnail(picture(1)), thumbnail(turned(picture(1), 8))
    assert alignment(one, other) == alignment(other, one)


def test_flat_and_noise() -> None:
    """Catches an error of the optimiser on pictures without structure: it has to count as no fit."""
    flat = np.full((SIDE, SIDE), 7, np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE)).astype(np.uint8)
    assert alignment(flat, noise) == 0.0
    assert alignment(flat, flat) == 0.0
    assert 0.0 <= alignment(noise, np.ascontiguousarray(noise.T)) <= 1.0


def test_thumbnail_is_small_and_grey() -> None:
    """Catches a thumbnail that another size or aspect ratio of the same picture changes."""
    made = thumbnail(picture(3))
    assert made.shape == (SIDE, SIDE)
    assert made.dtype == np.uint8
