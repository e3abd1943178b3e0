"""Catches variants of a wrong size, part or place, ones that tell where a photograph was taken, and a store of them
that grows without end or outlives its time."""

import io
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jobs.serve.variants.kept import Kept
from tests.e2e import images
from tests.s3_server import S3Server
from udfs.errors import ImageError
from udfs.images import decode
from udfs.transforms.variants import MOST_SIDE, Variant, variant

MOST = 10**8
REFERENCE = ("/a.jpg", None, None, None)


def quarters(width: int, height: int) -> bytes:
    """Red, green, blue and white, from left to right and from top to bottom."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = (255, 0, 0)
    pixels[: height // 2, width // 2 :] = (0, 255, 0)
    pixels[height // 2 :, : width // 2] = (0, 0, 255)
    pixels[height // 2 :, width // 2 :] = 255
    return images.png(pixels)


def opened(data: bytes, how: Variant) -> Image.Image:
    found = Image.open(io.BytesIO(variant(data, how, MOST)))
    assert found.format is not None
    assert found.format.lower() == how.format
    return found.convert("RGB")


@pytest.mark.parametrize(
    ("query", "size"),
    [
        ({}, (800, 400)),
        ({"width": "200"}, (200, 100)),
        ({"height": "100"}, (200, 100)),
        ({"width": "100", "height": "100"}, (100, 50)),
        ({"width": "100", "height": "100", "fit": "cover"}, (100, 100)),
        ({"width": "300", "height": "50", "fit": "cover"}, (300, 50)),
        ({"width": "100", "height": "100", "fit": "stretch"}, (100, 100)),
        ({"width": "4000"}, (800, 400)),  # never larger
        ({"width": "4000", "height": "4000", "fit": "cover"}, (400, 400)),
        ({"crop": "0.5,0,0.5,0.5"}, (400, 200)),
        ({"crop": "0.5,0,0.5,0.5", "width": "40"}, (40, 20)),
        ({"crop": "0,0,0.01,1", "height": "400"}, (8, 400)),
    ],
)
@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
def test_sizes(query: dict[str, str], size: tuple[int, int], kind: str) -> None:
    for data in (quarters(800, 400), images.jpeg(images.picture(1, 800, 400))):
        assert opened(data, Variant.of_query({**query, "format": kind})).size == size


def test_the_part_is_the_one_that_was_asked_for() -> None:
    """Axes that are swapped, and a middle that is a corner."""
    data = quarters(800, 400)
    for crop, colour in (("0.5,0,0.5,0.5", (0, 255, 0)), ("0,0.5,0.5,0.5", (0, 0, 255)), ("0,0,0.4,0.4", (255, 0, 0))):
        image = opened(data, Variant.of_query({"crop": crop, "format": "png", "width": "20"}))
        assert {image.getpixel((x, y)) for x in range(image.width) for y in range(image.height)} == {colour}
    cover = opened(data, Variant(100, 100, "cover", "png"))
    corners = [cover.getpixel(at) for at in ((0, 0), (99, 0), (0, 99), (99, 99))]
    assert corners == [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)]


def test_it_is_upright_and_says_nothing_else() -> None:
    """EXIF that goes on to who asks: the place, the camera's number; and an orientation that is lost with it."""
    data = images.rotated_by_exif(images.picture(2, 60, 90))
    assert b"Exif" in data
    for kind in ("jpeg", "webp", "png"):
        made = variant(data, Variant(format=kind), MOST)
        assert Image.open(io.BytesIO(made)).size == (60, 90)
        assert b"Exif" not in made
        assert b"EXIF" not in made


def test_a_large_photograph_is_not_decoded_whole_for_a_small_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variant of a twelfth of the size that costs all pixels; and one of a part that is made of too few."""
    data = images.jpeg(images.picture(3, 3200, 1600))
    seen = []
    whole = decode.decode

    def watched(*given: Any) -> decode.Decoded:
        found = whole(*given)
        seen.append(found.pixels.shape[:2])
        return found

    monkeypatch.setattr(decode, "decode", watched)
    variant(data, Variant(width=400), MOST)
    variant(data, Variant(width=400, crop=(0.5, 0.5, 0.25, 0.25)), MOST)
    assert seen == [(400, 800), (1600, 3200)]


@pytest.mark.parametrize(
    "query",
    [
        {"width": "0"}, {"width": str(MOST_SIDE + 1)}, {"width": "-1"}, {"width": "1e3"}, {"height": "x" * 10_000},
        {"quality": "101"}, {"fit": "zoom"}, {"format": "exe"}, {"crop": "0,0,2,1"}, {"crop": "0,0,nan,1"},
        {"crop": "1"}, {"crop": "0,0,0,1"}, {"crop": "-0.1,0,1,1"}, {"crop": "0,0,1e-9,1"}, {"fit": "cover"}, {"url": "http://x"},
    ],
)  # fmt: skip
def test_bad_queries_are_one_line(query: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]{5,200}$"):
        Variant.of_query(query)


def test_bad_images() -> None:
    with pytest.raises(ImageError, match="too_many_pixels"):
        variant(images.bomb(), Variant(), MOST)
    with pytest.raises(ImageError, match="not_an_image"):
        variant(b"text", Variant(), MOST)


def test_kept_for_a_lifetime_and_within_a_bound(tmp_path: Path) -> None:
    """One that is made again while it is kept, kept when its time is over, or kept for another picture or size; a
    folder that grows beyond its bound."""
    made = []

    def make() -> bytes:
        made.append(1)
        return bytes(1000)

    kept = Kept(str(tmp_path), 1000.0, 20_000)
    again = Kept(str(tmp_path), 1000.0, 20_000)
    how = Variant(width=10)
    assert kept.get(7, REFERENCE, how, make) == kept.get(7, REFERENCE, how, make) == again.get(7, REFERENCE, how, make)
    assert len(made) == 1
    kept.get(7, REFERENCE, Variant(width=11), make)
    kept.get(8, REFERENCE, how, make)
    kept.get(7, ("/a.jpg", None, None, 5), how, make)
    assert len(made) == 4
    assert len(list((tmp_path / "7").iterdir())) == 3, "all of one image lie under its number"
    for path in tmp_path.glob("*/*"):
        os.utime(path, (time.time() - 1001,) * 2)
    Kept(str(tmp_path), 1000.0, 20_000).get(7, REFERENCE, how, make)
    assert len(made) == 5
    for number in range(100):
        kept.get(number, REFERENCE, Variant(width=12), make)
        assert sum(path.stat().st_size for path in tmp_path.glob("*/*")) <= 21_000 + 4_000
    assert kept.get(7, REFERENCE, Variant(height=3), lambda: None) is None


def test_a_store_that_fails_does_not_keep_the_picture_back(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    said: list[str] = []
    assert Kept(str(tmp_path / "file"), says=said.append).get(1, REFERENCE, Variant(), lambda: b"made") == b"made"
    assert said


def test_kept_on_s3(s3: S3Server) -> None:
    place = f"s3://{s3.bucket}/variants"
    assert Kept(place).get(3, REFERENCE, Variant(), lambda: b"made") == b"made"
    assert Kept(place).get(3, REFERENCE, Variant(), lambda: b"anew") == b"made"
