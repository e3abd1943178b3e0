"""Pictures get smaller without losing light, skipping pixels, or moving; and stay where they would grow."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from udfs.images.scaling import resized, short_side


def picture(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    coarse = np.random.default_rng(seed).integers(0, 256, (12, 12, 3)).astype(np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


@pytest.mark.parametrize("size", [(375, 500), (448, 448), (449, 700), (896, 1200), (3000, 4000), (225, 8000)])
def test_near_the_mean_by_area(size: tuple[int, int]) -> None:
    """A shift by half a pixel, an axis swapped, or pixels skipped."""
    pixels = picture(*size)
    pixels = np.asarray(np.clip(pixels + np.random.default_rng(1).normal(0, 12, pixels.shape), 0, 255), np.uint8)
    found = resized(pixels, 224, 224)
    wanted = cv2.resize(pixels, (224, 224), interpolation=cv2.INTER_AREA)
    assert found.shape == (224, 224, 3)
    assert np.abs(found.astype(int) - wanted).mean() < 2
    assert abs(float(found.mean()) - float(pixels.mean())) < 0.6


def test_lines_of_one_pixel_become_grey() -> None:
    lines = np.zeros((448, 448), np.uint8)
    lines[::2] = 255
    assert 120 <= resized(lines, 224, 224).min() <= resized(lines, 224, 224).max() <= 135


@pytest.mark.parametrize("size", [(10, 10), (224, 100), (100, 224)])
def test_what_grows_is_interpolated(size: tuple[int, int]) -> None:
    pixels = picture(*size)
    found = resized(pixels, 224, 224)
    assert found.shape == (224, 224, 3)
    if 224 in size:
        assert np.array_equal(found, cv2.resize(pixels, (224, 224), interpolation=cv2.INTER_LINEAR))


def test_the_short_side() -> None:
    assert short_side(picture(375, 500), 224).shape == (224, 299, 3)
    assert short_side(picture(500, 375)[:, :, 0], 224).shape == (299, 224)
    small = picture(60, 90)
    assert short_side(small, 224) is small
    assert short_side(np.zeros((300, 9000), np.uint8), 224).shape == (224, 6720)
