"""Catches looks that grow beyond their bytes, and borders and grounds that are seen where there are none."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from udfs.images import looks
from udfs.images.looks import SIDE, Look

Pixels = NDArray[np.uint8]


def picture(seed: int, height: int = 240, width: int = 320) -> Pixels:
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 12, 3)).astype(np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (159, 161), (224, 900)])
def test_any_size_has_a_look(size: tuple[int, int]) -> None:
    """A picture that is enlarged, or one that no encoder takes."""
    pixels = picture(0, *size)
    small = looks.small(pixels)
    assert small.shape == (min(SIDE, size[0]), min(SIDE, size[1]), 3)
    assert Look(looks.look(small)).grey.shape == (SIDE, SIDE)


def test_noise_fits_too() -> None:
    """A look of more bytes than the limit, where no quality was low enough."""
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    smooth = picture(1, SIDE, SIDE)
    assert len(looks.look(smooth)) <= looks.MOST_BYTES
    assert len(looks.look(noise)) <= 2 * looks.MOST_BYTES
    half = np.asarray(smooth // 2 + noise // 4, np.uint8)
    assert len(looks.look(half)) <= looks.MOST_BYTES


def test_inside() -> None:
    """A bar, a frame or the grey end of a broken file that is taken for the picture, or a plain sky for a bar."""
    pixels = np.random.default_rng(2).integers(0, 256, (20, 20, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
    pixels = np.asarray(cv2.blur(pixels, (5, 5)), np.uint8)
    pixels[:20], pixels[-30:] = 0, 0
    top, bottom, left, right = Look(looks.look(pixels)).inside
    assert (abs(top - 20) <= 8, abs(bottom - SIDE + 30) <= 8) == (True, True)
    assert (left <= 8, right >= SIDE - 8) == (True, True)
    repeated = pixels.copy()
    repeated[100:] = repeated[99]
    assert abs(Look(looks.look(repeated)).inside[1] - 100) <= 8
    sky = picture(4, SIDE, SIDE)
    sky[:60] = np.linspace(90, 210, 60).astype(np.uint8)[:, np.newaxis, np.newaxis]
    assert Look(looks.look(sky)).inside[0] <= 8


def test_flat_has_no_inside() -> None:
    """A crash on a picture of one colour."""
    assert Look(looks.look(np.full((50, 60, 3), 7, np.uint8))).inside == (0, SIDE, 0, SIDE)
