"""Catches masks that are black all over, ink that does not show, and copies that are none but for what 8 bits hold."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from udfs.images.decode import Decoded, decode
from udfs.images.hashing import pixel_hash

LIMIT = 1 << 24


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind)
    return sink.getvalue()


def read(data: bytes) -> Decoded:
    return decode(data, 224, LIMIT)


def key(data: bytes) -> str:
    found = read(data)
    return pixel_hash(found.pixels, found.width, found.height, found.more)


def mask(seed: int, most: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, most + 1, (40, 50)).astype(np.uint16))


@pytest.mark.parametrize("most", [1, 5, 255, 4095, 10_000])
def test_a_mask_can_be_seen(most: int) -> None:
    pixels = read(encoded(mask(0, most))).pixels
    assert pixels.max() > 100
    assert pixels.min() < 10


def test_the_hash_sees_all_bits() -> None:
    """Two depth maps of one look; and the same samples in two formats, which are one picture."""
    samples = np.asarray(mask(1, 60_000)) | 1 << 15
    other = samples ^ 1
    assert (
        read(encoded(Image.fromarray(samples))).pixels.tolist() == read(encoded(Image.fromarray(other))).pixels.tolist()
    )
    assert key(encoded(Image.fromarray(samples))) != key(encoded(Image.fromarray(other)))
    assert key(encoded(Image.fromarray(samples))) == key(encoded(Image.fromarray(samples), "TIFF"))


def test_eight_bits_written_twice_are_eight_bits() -> None:
    grey = np.random.default_rng(2).integers(0, 256, (30, 30)).astype(np.uint8)
    assert key(encoded(Image.fromarray(grey.astype(np.uint16) * 257))) == key(encoded(Image.fromarray(grey)))


@pytest.mark.parametrize("channels", [3, 4])
def test_deep_colours(channels: int) -> None:
    """12 bits in 16 that are black, and a hash of the upper half alone."""
    samples = np.random.default_rng(3).integers(0, 4096, (30, 30, channels)).astype(np.uint16)
    if channels == 4:
        samples[..., 3] = 65_535
    one, two = (bytes(cv2.imencode(".png", each)[1]) for each in (samples, samples ^ np.uint16(1)))
    assert read(one).pixels.max() > 240
    assert read(one).pixels[0, 0].tolist() == [int(value) >> 4 for value in samples[0, 0, 2::-1]]
    assert key(one) != key(two)


def logo(seed: int, light: int) -> Image.Image:
    image = np.zeros((60, 60, 4), np.uint8)
    image[..., :3] = light
    image[10 + seed : 40, 10:40, 3] = 255
    return Image.fromarray(image)


@pytest.mark.parametrize("light", [0, 255, 128])
def test_ink_shows(light: int) -> None:
    pixels = read(encoded(logo(0, light))).pixels
    assert np.ptp(pixels) > 100
    assert key(encoded(logo(0, light))) != key(encoded(logo(5, light)))


def test_alpha_counts_and_what_lies_under_nothing_does_not() -> None:
    whole = np.full((20, 20, 4), 255, np.uint8)
    half, under = whole.copy(), whole.copy()
    half[:10, :, 3] = 254
    under[:10] = (1, 2, 3, 0)
    hidden = under.copy()
    hidden[:10, :, :3] = 77
    keys = [key(encoded(Image.fromarray(each))) for each in (whole, half, under, hidden)]
    assert len(set(keys[:3])) == 3
    assert keys[2] == keys[3]
    assert keys[0] == key(encoded(Image.fromarray(whole[..., :3])))


def test_a_png_with_chunks_that_no_pixel_needs() -> None:
    """An image generator's workflow of megabytes, and a checksum that is wrong where it does not matter."""
    plain = encoded(Image.fromarray(np.random.default_rng(4).integers(0, 256, (30, 30, 3)).astype(np.uint8)))
    text = b"workflow\0\0" + zlib.compress(b"x" * (3 << 20))
    for name, data, checksum in ((b"zTXt", text, None), (b"tEXt", b"a\0b", 7)):
        crc = zlib.crc32(name + data) if checksum is None else checksum
        chunk = struct.pack(">I", len(data)) + name + data + struct.pack(">I", crc)
        assert key(plain[:33] + chunk + plain[33:]) == key(plain)


def test_a_jpeg_without_its_end() -> None:
    """A file that every viewer shows; but not one of which pixels are missing."""
    whole = encoded(Image.fromarray(np.random.default_rng(5).integers(0, 256, (60, 60, 3)).astype(np.uint8)), "JPEG")
    assert key(whole[:-2]) == key(whole)
    with pytest.raises(Exception, match="truncated"):
        read(whole[: len(whole) // 2])
