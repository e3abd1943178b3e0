"""udfs.quality: values that can be checked by hand, and numpy as the oracle."""

import math
from itertools import pairwise

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from udfs.quality import PROPERTIES, SHARPNESS_SIDE, properties

Pixels = NDArray[np.uint8]


def flat(red: int, green: int, blue: int, height: int = 40, width: int = 60) -> Pixels:
    return np.full((height, width, 3), (red, green, blue), np.uint8)


def scene(height: int, width: int, seed: int = 0) -> Pixels:
    """Shapes with hard edges, the same at every size."""
    rng = np.random.default_rng(seed)
    canvas = np.full((1200, 1600, 3), 90, np.uint8)
    for _ in range(60):
        x, y = (int(v) for v in rng.integers(0, 1500, 2))
        colour = tuple(int(v) for v in rng.integers(0, 256, 3))
        cv2.rectangle(canvas, (x, y), (x + int(rng.integers(20, 400)), y + int(rng.integers(20, 300))), colour, -1)
    return np.asarray(cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def test_keys_and_types() -> None:
    got = properties(scene(100, 120))
    assert tuple(got) == PROPERTIES
    assert all(type(value) is float and math.isfinite(value) for value in got.values())


@pytest.mark.parametrize("level", [0, 7, 128, 200, 255])
def test_flat_grey(level: int) -> None:
    # 200 and 7 once gave a variance just below 0.
    got = properties(flat(level, level, level, 375, 500))
    expected = dict.fromkeys(PROPERTIES, 0.0) | dict.fromkeys(
        ("brightness", "brightness_p05", "brightness_p99"), level / 255
    )
    assert got == pytest.approx(expected, abs=1e-12)


def test_half_black_half_white() -> None:
    pixels = flat(0, 0, 0)
    pixels[:, 30:] = 255
    got = properties(pixels)
    assert got["brightness"] == pytest.approx(0.5)
    assert (got["brightness_p05"], got["brightness_p99"]) == (0.0, 1.0)
    assert got["contrast"] == pytest.approx(0.5)
    assert got["entropy"] == pytest.approx(1.0)
    # Two of 60 columns have a Laplacian of +255 and -255, all others 0.
    assert got["sharpness"] == pytest.approx(255**2 * 2 / 60)
    assert got["colourfulness"] == 0


def test_percentiles_reach_their_share() -> None:
    pixels = np.zeros((10, 10, 3), np.uint8)
    pixels.reshape(100, 3)[5:] = 100  # exactly 5 % are black
    pixels.reshape(100, 3)[99:] = 255  # exactly 1 % is white
    got = properties(pixels)
    assert got["brightness_p05"] == 0
    assert got["brightness_p99"] == pytest.approx(100 / 255)


def test_luma_weights() -> None:
    assert properties(flat(255, 0, 0))["brightness"] == pytest.approx(0.299, abs=0.002)
    assert properties(flat(0, 255, 0))["brightness"] == pytest.approx(0.587, abs=0.002)
    assert properties(flat(0, 0, 255))["brightness"] == pytest.approx(0.114, abs=0.002)


def test_against_numpy() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (90, 130, 3), dtype=np.uint8)
    got = properties(pixels)
    grey = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.float64)
    share = np.unique(grey, return_counts=True)[1] / grey.size
    red, green, blue = np.moveaxis(pixels.astype(np.float64), 2, 0)
    x, y = red - green, (red + green) / 2 - blue
    expected = {
        "brightness": grey.mean() / 255,
        "brightness_p05": np.percentile(grey, 5, method="inverted_cdf") / 255,
        "brightness_p99": np.percentile(grey, 99, method="inverted_cdf") / 255,
        "contrast": grey.std() / 255,
        "sharpness": np.asarray(cv2.Laplacian(grey, cv2.CV_64F, ksize=1)).var(),
        "entropy": -(share * np.log2(share)).sum(),
        "colourfulness": math.hypot(x.std(), y.std()) + 0.3 * math.hypot(x.mean(), y.mean()),
    }
    assert got == pytest.approx(expected, rel=1e-9)


def test_sharpness_falls_with_blur() -> None:
    pixels = scene(375, 500)
    values = [properties(pixels)["sharpness"]]
    for sigma in (1, 2, 4, 8):
        values.append(properties(np.asarray(cv2.GaussianBlur(pixels, (0, 0), sigma), np.uint8))["sharpness"])
    assert all(left > 1.5 * right for left, right in pairwise(values))


@pytest.mark.parametrize("side", [300, 447, 900])
def test_sharpness_is_measured_at_one_scale(side: int) -> None:
    # Otherwise a JPEG, which decoding leaves between one and two times the minimum, is blurred or not by its size.
    pixels = scene(side, side * 4 // 3)
    reduced = cv2.resize(pixels, (SHARPNESS_SIDE * 4 // 3, SHARPNESS_SIDE), interpolation=cv2.INTER_AREA)
    expected = properties(np.asarray(reduced, np.uint8))["sharpness"]
    assert properties(pixels)["sharpness"] == pytest.approx(expected, rel=0.1)


def test_grey_saved_as_jpeg_stays_near_zero_colour() -> None:
    pixels = scene(240, 320)
    grey = cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2BGR)
    stored = cv2.imdecode(cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, 50])[1], cv2.IMREAD_COLOR)
    assert properties(np.asarray(stored, np.uint8))["colourfulness"] < 1
    assert properties(pixels)["colourfulness"] > 20


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (300, 9000)])
def test_any_shape(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert all(math.isfinite(value) for value in properties(pixels).values())
