"""The pixels' witness: high for edits of one picture, low for others, symmetric, and never an error."""

from collections.abc import Callable
from itertools import combinations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from udfs.images.alignment import alignment, common_detail, thumbnail
from udfs.images.starts import SIDE, Sketch, Thumbnail

Pixels = NDArray[np.uint8]


def aligned(one: Thumbnail, other: Thumbnail) -> float:
    return alignment(Sketch(one), Sketch(other))


def picture(seed: int, rows: int = 6) -> Pixels:
    """Shapes from a seed, `rows` over one another, (240, 320, 3) uint8."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (rows, rows * 4 // 3, 3)).astype(np.uint8)
    return np.asarray(cv2.resize(coarse, (320, 240), interpolation=cv2.INTER_CUBIC), np.uint8)


def faint(seed: int) -> Pixels:
    return np.asarray(96 + picture(seed, 15) // 4, np.uint8)


def written_over(pixels: Pixels) -> Pixels:
    """White letters on a black band over a fifth of the picture."""
    pixels = pixels.copy()
    height, width = pixels.shape[:2]
    pixels[height * 7 // 10 : height * 9 // 10] = 0
    place = (width // 20, height * 17 // 20)
    cv2.putText(pixels, "SAMPLE TEXT", place, cv2.FONT_HERSHEY_SIMPLEX, width / 240, (255, 255, 255), 4)
    return pixels


def framed(seed: int) -> Pixels:
    """A black frame on white, always the same, around a faint picture of its own."""
    page = np.full((240, 320, 3), 255, np.uint8)
    page[6:234, 6:314] = 0
    page[14:226, 14:306] = cv2.resize(faint(seed), (292, 212), interpolation=cv2.INTER_AREA)
    return page


def lit_alike(seed: int) -> Pixels:
    """Faint detail of its own under a light that is always the same, bright above and dark below."""
    light = np.linspace(60, -60, 240)[:, np.newaxis, np.newaxis]
    return np.asarray(faint(seed) + light, np.uint8)


def turned(pixels: Pixels, degrees: float) -> Pixels:
    height, width = pixels.shape[:2]
    move = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    return np.asarray(cv2.warpAffine(pixels, move, (width, height)), np.uint8)


EDITS: dict[str, Callable[[Pixels], Pixels]] = {
    "same": lambda p: p,
    "mirrored": lambda p: p[:, ::-1],
    "cropped": lambda p: p[24:216, 32:288],
    "turned": lambda p: turned(p, 5),
    "brightened": lambda p: np.clip(p.astype(float) * 1.25, 0, 255).astype(np.uint8),
    "halved": lambda p: np.asarray(cv2.resize(p, (160, 120), interpolation=cv2.INTER_AREA), np.uint8),
}


@pytest.mark.parametrize("quarters", [1, 2, 3])
@pytest.mark.parametrize("mirrored", [False, True])
def test_all_symmetries_align(quarters: int, mirrored: bool) -> None:
    """Catches a turn by a quarter that only EXIF would tell."""
    for seed in range(5):
        whole = picture(seed)
        other = np.rot90(whole[:, ::-1] if mirrored else whole, quarters)
        assert aligned(thumbnail(whole), thumbnail(np.ascontiguousarray(other))) > 0.95


def test_nothing_agrees_with_nothing() -> None:
    """Catches two blank pages that are copies, for no detail of the one is missing in the other."""
    blank = np.full((SIDE, SIDE), 200, np.uint8)
    assert aligned(blank, blank) == 0.0
    noise = np.random.default_rng(0).integers(0, 2, (SIDE, SIDE)).astype(np.uint8)
    shade = (blank - np.linspace(0, 3, SIDE, dtype=np.float32)).astype(np.uint8)
    assert aligned(shade, shade + noise) == 0.0


@pytest.mark.parametrize("edit", EDITS)
def test_edits_align(edit: str) -> None:
    """Catches an edit that the search for the best move no longer finds."""
    for seed in range(5):
        whole = picture(seed)
        edited = np.ascontiguousarray(EDITS[edit](whole))
        assert aligned(thumbnail(whole), thumbnail(edited)) > 0.75


def test_other_pictures_do_not() -> None:
    """Catches a search so free that anything fits anything."""
    found = [aligned(thumbnail(picture(a)), thumbnail(picture(b))) for a in range(8) for b in range(a)]
    assert np.median(found) < 0.3
    assert max(found) < 0.5


def pairs(draw: Callable[[int], Pixels]) -> list[tuple[Thumbnail, Thumbnail]]:
    made = [thumbnail(draw(seed)) for seed in range(6)]
    return list(combinations(made, 2))


def whole_correlations(of: list[tuple[Thumbnail, Thumbnail]]) -> list[float]:
    return [float(np.corrcoef(one.ravel(), other.ravel())[0, 1]) for one, other in of]


def test_what_is_written_over_a_picture_counts_for_its_area() -> None:
    """A witness that correlates whole pictures: a band with letters spoils it for copies, while a frame that all share
    and a light from one side make it high for pictures that are not the same."""
    copies = [(thumbnail(faint(seed)), thumbnail(written_over(faint(seed)))) for seed in range(6)]
    assert max(whole_correlations(copies)) < 0.5
    assert min(whole_correlations(pairs(framed)) + whole_correlations(pairs(lit_alike))) > 0.85
    lowest = min(aligned(*pair) for pair in copies)
    assert lowest > 0.6
    assert max(aligned(*pair) for pair in pairs(framed)) < lowest - 0.05
    assert max(aligned(*pair) for pair in pairs(lit_alike)) < 0.3


def test_an_edit_that_is_moved_and_written_over() -> None:
    """A search that stops at the picture as it lies, where a text and a move come together."""
    for seed in range(5):
        edited = np.ascontiguousarray(written_over(turned(picture(seed), 5))[:, ::-1])
        assert aligned(thumbnail(picture(seed)), thumbnail(edited)) > 0.4


def test_detail_is_compared_only_where_both_pictures_are() -> None:
    """A crop that is held against what is not in it."""
    one, other = (thumbnail(picture(seed, 15)).astype(np.float32) for seed in (1, 2))
    mixed = one.copy()
    mixed[:, SIDE // 2 :] = other[:, SIDE // 2 :]
    over = np.zeros((SIDE, SIDE), np.float32)
    over[:, : SIDE // 2] = 1
    assert common_detail(one, mixed, over) > 0.95
    assert common_detail(one, mixed, 1 - over) < 0.3


def test_symmetric() -> None:
    """Catches an answer that depends on which of two images has the lower id."""
    one, other = thumbnail(picture(1)), thumbnail(turned(picture(1), 8))
    assert aligned(one, other) == aligned(other, one)


def test_flat_and_noise() -> None:
    """Catches an error of the optimiser on pictures without structure: it has to count as no fit."""
    flat = np.full((SIDE, SIDE), 7, np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE)).astype(np.uint8)
    assert aligned(flat, noise) == pytest.approx(0.0, abs=1e-6)
    assert aligned(flat, flat) == pytest.approx(0.0, abs=1e-6), "nothing to see is no witness"
    assert 0.0 <= aligned(noise, np.ascontiguousarray(noise.T)) <= 1.0


def test_thumbnail_is_small_and_grey() -> None:
    """Catches a thumbnail that another size or aspect ratio of the same picture changes."""
    made = thumbnail(picture(3))
    assert made.shape == (SIDE, SIDE)
    assert made.dtype == np.uint8
