"""Catches a photograph that is taken for a page, and a page whose white is called a fault."""

import numpy as np
import pytest

from tests.unit.test_relations import page, picture, thing
from udfs.images import looks
from udfs.images.medium import BLANK, DOCUMENT, DRAWING, DRAWN, ICON, PHOTOGRAPH, medium


def told(pixels: np.ndarray, width: int | None = None, height: int | None = None) -> str:
    return medium(looks.small(pixels), width or pixels.shape[1], height or pixels.shape[0])


@pytest.mark.parametrize("light", [0.15, 0.4, 1.0, 1.6])
@pytest.mark.parametrize("seed", range(4))
def test_photographs_in_any_light(seed: int, light: float) -> None:
    assert told(np.clip(picture(seed) * light, 0, 255).astype(np.uint8)) == PHOTOGRAPH


def test_a_thing_on_white_with_soft_shades_is_a_photograph() -> None:
    sheet = np.full((300, 300, 3), 252, np.uint8)
    rows, columns = np.mgrid[:300, :300]
    inside = np.hypot(rows - 150, columns - 150) < 100
    shade = (120 + 70 * np.cos(columns / 40) + 20 * np.sin(rows / 9)).clip(0, 255)
    sheet[inside] = (shade[..., np.newaxis] * (1.0, 0.8, 0.6)).astype(np.uint8)[inside]
    assert told(sheet) == PHOTOGRAPH


def test_pages_drawings_and_icons() -> None:
    assert told(page(0)) in (DOCUMENT, DRAWING)
    assert told(255 - page(0)) in DRAWN
    assert told(thing((200, 40, 40))) == DRAWING
    assert told(thing((200, 40, 40))[::8, ::8], 38, 38) == ICON


@pytest.mark.parametrize("level", [0, 90, 255])
def test_blank(level: int) -> None:
    sheet = np.full((200, 300, 3), level, np.uint8)
    assert told(sheet) == BLANK
    sheet[10:30, 10:200] = 255 - level if level != 90 else 200
    assert told(sheet) != BLANK
