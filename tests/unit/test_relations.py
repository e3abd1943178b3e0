"""Catches a copy that is called another picture, another picture that is called a copy, the wrong word for what
differs, and the wrong one of two kept."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from udfs.images import looks
from udfs.images.looks import Look
from udfs.images.marks import marked
from udfs.images.medium import DRAWN, medium
from udfs.images.relation_names import (
    BRIGHTNESS,
    CROPPED,
    EDITS,
    FRAMED,
    GREY,
    MIRRORED,
    OTHER_DETAIL,
    OVERLAY,
    RECOLOURED,
    RECOMPRESSED,
    RELATIONS,
    RESIZED,
    TURNED,
    UNLIKE,
    to_bits,
)
from udfs.images.relations import Comparison, compare

Pixels = NDArray[np.uint8]
Edit = Callable[[Pixels], Pixels]


def picture(seed: int) -> Pixels:
    """Shapes of many sizes and colours, with fine texture: (300, 400, 3) uint8."""
    draw = np.random.default_rng(seed)
    base = cv2.resize(draw.integers(40, 216, (6, 8, 3)).astype(np.uint8), (400, 300), interpolation=cv2.INTER_CUBIC)
    for _ in range(40):
        middle = (int(draw.integers(0, 400)), int(draw.integers(0, 300)))
        colour = tuple(int(value) for value in draw.integers(0, 256, 3))
        axes = (int(draw.integers(6, 50)), int(draw.integers(4, 30)))
        cv2.ellipse(base, middle, axes, float(draw.integers(0, 180)), 0, 360, colour, -1, cv2.LINE_AA)
    grain = draw.normal(0, 6, base.shape)
    soft = np.asarray(cv2.GaussianBlur(np.asarray(grain, np.float32), (0, 0), 1.2), np.float32)
    return np.asarray(np.clip(base + soft, 0, 255), np.uint8)


def page(seed: int, heading: str = "ORDER") -> Pixels:
    """A form with lines of writing: (400, 300, 3) uint8."""
    draw = np.random.default_rng(seed)
    sheet = np.full((400, 300, 3), 255, np.uint8)
    cv2.putText(sheet, heading, (20, 40), cv2.FONT_HERSHEY_SIMPLEX, 1.0, (0, 0, 0), 2, cv2.LINE_AA)
    for row in range(9):
        cv2.line(sheet, (20, 70 + 34 * row), (280, 70 + 34 * row), (90, 90, 90), 1)
        word = "".join(chr(65 + int(value)) for value in draw.integers(0, 26, 9))
        cv2.putText(sheet, word, (30, 95 + 34 * row), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (0, 0, 0), 2, cv2.LINE_AA)
    return sheet


def thing(colour: tuple[int, int, int]) -> Pixels:
    """A vase on white."""
    sheet = np.full((300, 300, 3), 250, np.uint8)
    cv2.ellipse(sheet, (150, 170), (70, 90), 0, 0, 360, colour, -1, cv2.LINE_AA)
    cv2.rectangle(sheet, (125, 40), (175, 110), colour, -1)
    cv2.ellipse(sheet, (150, 170), (40, 60), 0, 200, 300, tuple(value // 2 for value in colour), 6, cv2.LINE_AA)
    return sheet


def seen(pixels: Pixels, lossless: bool = False) -> Look:
    small = looks.small(pixels)
    height, width = pixels.shape[:2]
    return Look(looks.look(small), width, height, medium(small, width, height) in DRAWN, lossless)


def between(one: Pixels, two: Pixels) -> Comparison:
    return compare(seen(one), seen(two))


def saved(pixels: Pixels, quality: int = 30) -> Pixels:
    return np.asarray(cv2.imdecode(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 1), np.uint8)


def sized(pixels: Pixels, share: float) -> Pixels:
    return np.asarray(cv2.resize(pixels, None, fx=share, fy=share, interpolation=cv2.INTER_AREA), np.uint8)


def tilted(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), 4, 1.0)
    return np.asarray(cv2.warpAffine(pixels, turn, (width, height)), np.uint8)


def lit(pixels: Pixels) -> Pixels:
    return np.asarray(np.clip(pixels.astype(np.float64) * 1.3 + 10, 0, 255), np.uint8)


def barred(pixels: Pixels) -> Pixels:
    return np.asarray(cv2.copyMakeBorder(pixels, 60, 60, 0, 0, cv2.BORDER_CONSTANT), np.uint8)


def written(pixels: Pixels) -> Pixels:
    pixels = pixels.copy()
    cv2.putText(pixels, "SAMPLE", (60, 250), cv2.FONT_HERSHEY_SIMPLEX, 2.2, (255, 255, 255), 6, cv2.LINE_AA)
    return pixels


def greyed(pixels: Pixels) -> Pixels:
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    return np.asarray(np.repeat(grey[..., np.newaxis], 3, axis=2), np.uint8)


def broken(pixels: Pixels) -> Pixels:
    pixels = pixels.copy()
    pixels[180:] = 128
    return pixels


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("edit", "word"),
    [
        (saved, RECOMPRESSED), (lambda pixels: sized(pixels, 0.5), RESIZED), (lit, BRIGHTNESS),
        (lambda pixels: pixels[30:-30, 40:-40], CROPPED), (lambda pixels: pixels[:, ::-1], MIRRORED),
        (lambda pixels: pixels[::-1, ::-1], TURNED), (np.rot90, TURNED), (tilted, TURNED),
        (barred, FRAMED), (written, OVERLAY), (greyed, GREY),
    ],
)  # fmt: skip
def test_edits_are_named(edit: Edit, word: str, seed: int) -> None:
    """An edit that is not found, has no name or a wrong one, or another in the other order."""
    original = picture(seed)
    edited = saved(np.ascontiguousarray(edit(original)), 85)
    found = between(edited, original)
    assert word in found.relations
    assert set(found.relations) <= set(EDITS)
    back = between(original, edited)
    assert back.relations == found.relations
    assert back.better == (3 - found.better if found.better else 0)


@pytest.mark.parametrize("spoilt", [barred, written, broken])
@pytest.mark.parametrize("seed", range(3))
def test_the_clean_one_is_better(spoilt: Edit, seed: int) -> None:
    """A picture with bars, a text, or a lost end that is kept in place of the picture."""
    original = picture(seed)
    assert between(saved(spoilt(original), 95), saved(original, 60)).better == 2
    thumb = sized(original, 0.3)
    if spoilt is not barred:
        assert between(spoilt(original), thumb).better == 0, "a small one stands for no large one"


def test_a_softer_copy_has_no_overlay() -> None:
    """A blurred copy that is kept in place of the sharp one."""
    original = picture(5)
    found = between(np.asarray(cv2.GaussianBlur(original, (0, 0), 2.5), np.uint8), original)
    assert set(found.relations) <= set(EDITS) - {OVERLAY}
    assert found.better == 0


@pytest.mark.parametrize("seed", range(4))
def test_other_pictures_are_unlike(seed: int) -> None:
    """Two pictures that chance lays over one another."""
    assert between(picture(seed), picture(seed + 10)).relations == (UNLIKE,)


@pytest.mark.parametrize("seed", range(4))
def test_one_form_and_other_words(seed: int) -> None:
    """Two orders on one form that are taken for one; and one order that was saved again, or is smaller, that is not."""
    assert OTHER_DETAIL in between(page(seed), page(seed + 10)).relations
    assert set(between(saved(page(seed), 60), page(seed)).relations) <= set(EDITS)
    assert set(between(sized(page(seed), 0.7), page(seed)).relations) <= set(EDITS)


def test_lossless_pages_of_one_look_are_two() -> None:
    """A page with one other digit, too small to be seen, that is removed for the other."""
    sheet = page(1)
    assert compare(seen(saved(sheet, 90)), seen(sheet)).relations == (RECOMPRESSED,)
    other = sheet.copy()
    other[395, 295] = 200
    assert compare(seen(other, lossless=True), seen(sheet, lossless=True)).relations == (OTHER_DETAIL,)


def test_another_colour_is_another_thing() -> None:
    """Goods in other colours that are taken for one; or the same in another light that is not."""
    red, blue, darker = thing((200, 40, 40)), thing((40, 60, 190)), thing((180, 36, 36))
    assert RECOLOURED in between(red, blue).relations
    assert RECOLOURED in between(red, thing((120, 120, 120))).relations
    assert set(between(red, darker).relations) <= set(EDITS)


@pytest.mark.parametrize("level", [0, 128, 255])
def test_nothing_to_compare_is_no_copy(level: int) -> None:
    """Flat pictures, of one colour or of two, that are copies by having nothing that differs."""
    flat = np.full((200, 300, 3), level, np.uint8)
    assert between(flat, flat).relations == (UNLIKE,)
    assert between(flat, 255 - flat).relations == (UNLIKE,)


def test_bits_stand_for_relations() -> None:
    assert [to_bits([name]) for name in RELATIONS] == [1 << number for number in range(len(RELATIONS))]
    assert to_bits((CROPPED, GREY)) == to_bits((GREY, CROPPED)) == to_bits([CROPPED]) + to_bits([GREY])


def test_what_differs_is_marked() -> None:
    """Marks at another place, or on a picture of which nothing differs."""
    original = picture(7)
    other = original.copy()
    other[40:110, 240:360] = picture(8)[40:110, 240:360]
    shown = marked(seen(other), seen(original))
    assert shown is not None
    assert shown.shape == (240, 320, 3)
    red = (shown[..., 0].astype(int) - shown[..., 1]) > 60
    rows, columns = np.nonzero(red)
    assert red.sum() > 500
    assert (rows.min() >= 20, rows.max() <= 100, columns.min() >= 180, columns.max() <= 300) == (True,) * 4
    assert marked(seen(saved(original)), seen(original)) is None
