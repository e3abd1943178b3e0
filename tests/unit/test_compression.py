"""udfs.images.compression: a quality that is not the one a file was written with, or a header that brings it down."""

import io

import numpy as np
import pytest
from PIL import Image

from udfs.images.compression import BEST, jpeg_quality

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))


def saved(kind: str, **options: object) -> bytes:
    sink = io.BytesIO()
    PICTURE.save(sink, kind, **options)
    return sink.getvalue()


@pytest.mark.parametrize("quality", [5, 10, 20, 30, 50, 75, 90, 95])
def test_quality_is_that_of_the_writer(quality: int) -> None:
    """libjpeg by Pillow is the oracle."""
    assert jpeg_quality(saved("JPEG", quality=quality)) == pytest.approx(quality, abs=1)


def test_the_ends_are_rounded() -> None:
    """Steps are whole numbers from 1 to 255: of the best and the worst qualities a table tells a little less."""
    assert jpeg_quality(saved("JPEG", quality=1)) < 3
    assert 96 <= jpeg_quality(saved("JPEG", quality=98)) <= jpeg_quality(saved("JPEG", quality=100))


@pytest.mark.parametrize(
    "options", [{"progressive": True}, {"optimize": True}, {"subsampling": 0}, {"exif": b"Exif\0\0"}]
)
def test_ways_of_writing_change_nothing(options: dict[str, object]) -> None:
    assert jpeg_quality(saved("JPEG", quality=40, **options)) == pytest.approx(40, abs=1)


def test_a_table_of_16_bits_and_fill_bytes() -> None:
    data = saved("JPEG", quality=40)
    at = data.index(b"\xff\xdb")
    length = int.from_bytes(data[at + 2 : at + 4], "big")
    wide = b"\x10" + b"".join(bytes((0, value)) for value in data[at + 5 : at + 69])
    table = b"\xff\xff\xdb" + (len(wide) + 2).to_bytes(2, "big") + wide
    assert jpeg_quality(data[:at] + table + data[at + 2 + length :]) == pytest.approx(40, abs=1)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "TIFF"])
def test_what_is_no_jpeg_is_not_blamed(kind: str) -> None:
    assert jpeg_quality(saved(kind)) == BEST


def test_any_cut_of_a_header_is_taken() -> None:
    """A header that ends early, or lies about its lengths, must not raise nor run for ever."""
    data = saved("JPEG", quality=40)
    for end in range(700):
        assert 1 <= jpeg_quality(data[:end]) <= BEST
    broken = bytearray(data[:700])
    random = np.random.default_rng(1)
    for _ in range(300):
        broken[int(random.integers(2, 700))] = int(random.integers(256))
        assert 1 <= jpeg_quality(bytes(broken)) <= BEST
