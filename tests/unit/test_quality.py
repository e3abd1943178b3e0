"""udfs.images.quality: values that can be checked by hand, and numpy as the oracle."""

import io
import math
from itertools import pairwise

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from udfs.images import decode
from udfs.images.quality import BLOCK, SHARPNESS_SIDE, noise, of_file, properties
from udfs.images.rows import PROPERTIES

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


def saved(pixels: Pixels, kind: str = "JPEG", **options: object) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, kind, **options)
    return sink.getvalue()


def of_bytes(data: bytes) -> dict[str, float]:
    return of_file(data, decode.decode(data, 224, 10**8, detail=True))


def clouds(height: int, width: int) -> Pixels:
    """Soft light and shade, of which a low JPEG quality leaves blocks."""
    small = np.random.default_rng(3).integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
    return noisy(np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8), 3)


def noisy(pixels: Pixels, sigma: float, seed: int = 1) -> Pixels:
    return np.clip(pixels + np.random.default_rng(seed).normal(0, sigma, pixels.shape), 0, 255).astype(np.uint8)


def blurred(pixels: Pixels, sigma: float) -> Pixels:
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), sigma), np.uint8)


def test_keys_and_types() -> None:
    got = of_bytes(saved(scene(100, 120)))
    assert tuple(got) == PROPERTIES
    assert all(type(value) is float and math.isfinite(value) for value in got.values())
    assert set(properties(scene(100, 120))) == set(PROPERTIES) - {"jpeg_quality"}


@pytest.mark.parametrize("level", [0, 7, 128, 200, 255])
def test_flat_grey(level: int) -> None:
    # 200 and 7 once gave a variance just below 0.
    got = properties(flat(level, level, level, 375, 500))
    levels = ("brightness", "brightness_p01", "brightness_p05", "brightness_p99", "peak")
    expected = dict.fromkeys(got, 0.0) | dict.fromkeys(levels, level / 255)
    expected |= {"flat_share": 1.0, "clipped": float(level == 255)}
    assert got == pytest.approx(expected, abs=1e-12)


def test_half_black_half_white() -> None:
    pixels = flat(0, 0, 0)
    pixels[:, 30:] = 255
    got = properties(pixels)
    assert got["brightness"] == pytest.approx(0.5)
    assert (got["brightness_p05"], got["brightness_p99"]) == (0.0, 1.0)
    assert got["contrast"] == pytest.approx(0.5)
    assert got["entropy"] == pytest.approx(1.0)
    assert (got["brightness_p01"], got["clipped"]) == (0.0, 0.5)
    assert got["peak"] == pytest.approx(0.5)
    assert got["flat_share"] == pytest.approx(56 / 60)  # the edge is seen from two columns on either side
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
        "brightness_p01": np.percentile(grey, 1, method="inverted_cdf") / 255,
        "peak": pixels.max(axis=2).mean() / 255,
        "clipped": (pixels.max(axis=2) >= 250).mean(),
        "clipped_colour": ((pixels.max(axis=2) >= 250) & (pixels.min(axis=2) < 200)).mean(),
        "flat_share": 0.0,
    }
    assert {name: got[name] for name in expected} == pytest.approx(expected, rel=1e-9)


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


@pytest.mark.parametrize("sigma", [4, 8, 16, 32])
def test_noise_is_its_standard_deviation(sigma: float) -> None:
    """On a ramp, which is no noise; clipping is far away."""
    ramp = np.linspace(100, 150, 500)[None, :].repeat(375, axis=0)
    grey = np.rint(ramp + np.random.default_rng(0).normal(0, sigma, ramp.shape)).clip(0, 255).astype(np.uint8)
    assert properties(np.repeat(grey[..., None], 3, axis=2))["noise"] == pytest.approx(sigma, rel=0.15)


def test_of_few_pixels_no_noise_is_told() -> None:
    """An icon of 20 x 16 pixels, all of it detail, that is noisy; a small picture with noise that is not."""
    rng = np.random.default_rng(0)
    assert noise(rng.integers(0, 256, (16, 20)).astype(np.uint8)) == 0
    assert noise(rng.integers(0, 256, (31, 31)).astype(np.uint8)) == 0
    assert noise(rng.normal(128, 20, (32, 32)).astype(np.uint8)) > 10


def test_detail_is_no_noise() -> None:
    """Edges of a picture taken for noise: the calmest cells have none."""
    assert properties(scene(375, 500))["noise"] < 1
    assert properties(noisy(scene(375, 500), 20))["noise"] > 8


@pytest.mark.parametrize("angle", [0, 30, 45, 90, 135])
def test_motion_is_seen_in_any_direction(angle: int) -> None:
    """A mean over directions, in which the edges along the motion make up for those across it."""
    kernel = np.zeros((25, 25), np.float32)
    x, y = 12 * math.cos(math.radians(angle)), 12 * math.sin(math.radians(angle))
    cv2.line(kernel, (round(12 - x), round(12 - y)), (round(12 + x), round(12 + y)), 1.0)
    moved = np.asarray(cv2.filter2D(scene(375, 500), -1, kernel / kernel.sum()), np.uint8)
    assert properties(moved)["edge_frequency"] < 0.5 * properties(scene(375, 500))["edge_frequency"]


def test_edge_frequency_falls_with_blur_and_not_with_contrast() -> None:
    pixels = scene(375, 500)
    values = [
        properties(picture)["edge_frequency"] for picture in (pixels, *(blurred(pixels, s) for s in (1, 2, 4, 8)))
    ]
    assert all(left > right for left, right in pairwise(values))
    assert values[-1] < 0.3
    pale = (100 + pixels * 0.3).astype(np.uint8)
    assert properties(pale)["edge_frequency"] == pytest.approx(values[0], rel=0.1)


def test_a_sharp_object_before_a_blurred_background_is_sharp() -> None:
    pixels = blurred(scene(375, 500), 8)
    pixels[100:280, 150:350] = scene(375, 500)[100:280, 150:350]
    assert properties(pixels)["edge_frequency"] > 0.6 * properties(scene(375, 500))["edge_frequency"]


@pytest.mark.parametrize(("top", "left"), [(0, 0), (3, 5), (7, 1)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_blocks_are_seen_after_saving_again(kind: str, top: int, left: int) -> None:
    """A grid that was cropped, or whose file says nothing of it. PNG is read whole, JPEG scaled."""
    pixels = clouds(400, 520)
    plain = of_bytes(saved(pixels[top:, left:], kind, **({"quality": 95} if kind == "JPEG" else {})))
    squeezed = np.asarray(Image.open(io.BytesIO(saved(pixels, quality=8))))[top:, left:]
    again = of_bytes(saved(squeezed, kind, **({"quality": 95} if kind == "JPEG" else {})))
    assert plain["blockiness"] < 1.1
    assert again["blockiness"] > 1.4
    assert again["jpeg_quality"] > 90


def test_blocks_of_a_scaled_picture() -> None:
    """Beyond DETAIL_PIXELS only the scaled picture is looked at, whose blocks are smaller."""
    decoded = decode.decode(saved(clouds(1040, 1300), quality=4), 500, 10**8, detail=True)
    assert decoded.detail is not None
    block = round(BLOCK * decoded.detail.shape[1] / decoded.width)
    assert 3 <= block < BLOCK
    assert of_file(b"", decoded)["blockiness"] > 1.3


def test_a_clipped_colour_is_not_a_white_background() -> None:
    pixels = flat(255, 255, 255, 100, 100)
    pixels[:50] = (255, 90, 90)
    got = properties(pixels)
    assert (got["clipped"], got["clipped_colour"]) == (1.0, 0.5)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_noise_does_not_depend_on_the_format(kind: str) -> None:
    """A JPEG is scaled when it is decoded; its noise must be that of its own pixels."""
    pixels = noisy(scene(375, 500), 20)
    plain = properties(pixels)["noise"]
    assert of_bytes(saved(pixels, kind, **({"quality": 95} if kind == "JPEG" else {})))["noise"] == pytest.approx(
        plain, rel=0.25
    )
