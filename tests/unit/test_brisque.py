"""udfs.images.brisque: the package `brisque` as the oracle, and pictures to which the model does not apply."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from udfs.images.brisque import WORST, brisque


def drawn(seed: int) -> NDArray[np.uint8]:
    """Rectangles under noise that grows with the seed."""
    random = np.random.default_rng(seed)
    canvas = np.full((224, 224), 90, np.float64)
    for _ in range(40):
        x, y = random.integers(0, 200, 2)
        width, height = random.integers(10, 90, 2)
        canvas[y : y + height, x : x + width] = random.integers(0, 256)
    canvas += random.normal(0, 2 + 3 * seed, canvas.shape)
    return np.clip(canvas, 0, 255).astype(np.uint8)


def blurred(grey: NDArray[np.uint8], sigma: float) -> NDArray[np.uint8]:
    return np.asarray(cv2.GaussianBlur(grey, (0, 0), sigma), np.uint8)


# What brisque 0.2.0 with numpy 2.2 says of these; it does not run with numpy 2.4. The package searches
# the shape of a distribution by another way, and sums in double precision.
FROM_THE_PACKAGE = (
    (drawn(0), 27.882),
    (drawn(1), 35.495),
    (drawn(2), 44.875),
)


@pytest.mark.parametrize(("grey", "expected"), FROM_THE_PACKAGE)
def test_as_the_package_says(grey: NDArray[np.uint8], expected: float) -> None:
    assert brisque(grey) == pytest.approx(expected, abs=0.15)


def test_blur_and_noise_are_worse() -> None:
    plain = drawn(0)
    assert brisque(plain) < brisque(blurred(plain, 1.5)) < brisque(blurred(plain, 4))
    assert brisque(plain) < brisque(drawn(4)) < brisque(drawn(12))


@pytest.mark.parametrize("level", [0, 1, 128, 255])
def test_a_flat_picture_is_not_judged(level: int) -> None:
    """It has no distribution to be fitted: must be no NaN."""
    assert brisque(np.full((70, 80), level, np.uint8)) == 0


@pytest.mark.parametrize("shape", [(1, 1), (63, 500), (500, 63), (64, 64), (65, 300)])
def test_any_shape(shape: tuple[int, int]) -> None:
    found = brisque(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    assert 0 <= found <= WORST
    assert (found == 0) == (min(shape) < 64)


def test_hardly_anything_but_flat() -> None:
    """One pixel that differs: fits on a few values must stay finite."""
    for at in ((0, 0), (30, 30), (69, 79)):
        grey = np.full((70, 80), 100, np.uint8)
        grey[at] = 101
        assert 0 <= brisque(grey) <= WORST
