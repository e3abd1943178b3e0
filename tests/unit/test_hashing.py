"""udfs.images.hashing: known digests, what must and what must not change a hash."""

import cv2
import numpy as np
import pytest
from blake3 import blake3
from numpy.typing import NDArray

from udfs.images import hashing
from udfs.images.alignment import thumbnail
from udfs.images.hashing import pixel_hash, sha256

Pixels = NDArray[np.uint8]


def picture(seed: int, height: int = 240, width: int = 320) -> Pixels:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def perceptual_hash(pixels: Pixels) -> int:
    return hashing.perceptual_hash(thumbnail(pixels))


def distance(left: int, right: int) -> int:
    return ((left ^ right) & (2**64 - 1)).bit_count()


def test_sha256_of_known_bytes() -> None:
    assert sha256(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_pixel_hash_is_of_content_alone() -> None:
    pixels = picture(0)
    value = pixel_hash(pixels, 640, 480)
    assert len(value) == 32
    assert set(value) <= set("0123456789abcdef")
    assert pixel_hash(np.asfortranarray(pixels), 640, 480) == value
    wider = np.concatenate([pixels, pixels], axis=1)
    assert pixel_hash(wider[:, :320], 640, 480) == value  # a view with strides


def test_pixel_hash_sees_every_pixel_and_the_size() -> None:
    pixels = picture(0)
    value = pixel_hash(pixels, 640, 480)
    changed = pixels.copy()
    changed[100, 200, 2] ^= 1
    assert pixel_hash(changed, 640, 480) != value
    assert pixel_hash(pixels, 641, 480) != value
    # The same bytes as another shape.
    assert pixel_hash(pixels.reshape(320, 240, 3), 640, 480) != value


def test_pixel_hash_is_the_documented_digest() -> None:
    # Stored hashes must stay comparable between versions.
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    head = b"".join(n.to_bytes(8, "little") for n in (4, 5, 2, 2))
    assert pixel_hash(pixels, 4, 5) == blake3(head + bytes(range(12))).hexdigest()[:32]


def test_pixel_hash_refuses_other_arrays() -> None:
    for wrong in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)):
        with pytest.raises(ValueError, match="must be"):
            pixel_hash(wrong, 4, 4)  # type: ignore[arg-type]


def test_perceptual_hash_against_the_full_transform() -> None:
    # Oracle: the whole 32 x 32 transform of OpenCV, which scales the constant row and column otherwise.
    pixels = picture(3)
    grey = cv2.resize(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), (32, 32), interpolation=cv2.INTER_AREA)
    low = np.asarray(cv2.dct(grey.astype(np.float64)))[:8, :8]
    scale = np.where(np.arange(8) == 0, np.sqrt(2), 1.0)
    low = low * scale[:, None] * scale[None, :]
    bits = "".join("1" if value > np.median(low) else "0" for value in low.ravel())
    assert perceptual_hash(pixels) & (2**64 - 1) == int(bits, 2)


def test_perceptual_hash_is_a_signed_64_bit_number() -> None:
    values = [perceptual_hash(picture(seed)) for seed in range(20)]
    assert all(-(2**63) <= value < 2**63 for value in values)
    assert all(type(value) is int for value in values)
    assert all(value < 0 for value in values)  # the constant term leads, and is above the median of a lit picture


def test_perceptual_hash_keeps_copies_near_and_others_far() -> None:
    for seed in range(20):
        pixels = picture(seed)
        value = perceptual_hash(pixels)
        half = cv2.resize(pixels, (160, 120), interpolation=cv2.INTER_AREA)
        jpeg = cv2.imdecode(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 30])[1], cv2.IMREAD_COLOR)
        brighter = np.clip(pixels.astype(np.int16) * 0.8 + 20, 0, 255).astype(np.uint8)
        for copy in (half, jpeg, brighter):
            assert distance(value, perceptual_hash(np.asarray(copy, np.uint8))) <= 8
        assert distance(value, perceptual_hash(picture(seed + 100))) >= 16


def test_perceptual_hash_of_flat_pictures_has_no_noise() -> None:
    values = {perceptual_hash(np.full((50, 70, 3), level, np.uint8)) for level in (1, 77, 128, 255)}
    assert values == {-(2**63)}  # the constant term only
    assert perceptual_hash(np.zeros((1, 1, 3), np.uint8)) == 0


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (31, 33)])
def test_any_shape(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert perceptual_hash(pixels) == perceptual_hash(pixels.copy())
    assert len(pixel_hash(pixels, *shape)) == 32
