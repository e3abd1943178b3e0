"""Where a search begins: near the move that was made, for every symmetry, and alike for both orders."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from udfs.images.starts import SIDE, Sketch, likeness, sketch, starts, symmetry


def picture(seed: int, side: int = 64) -> NDArray[np.uint8]:
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 9)).astype(np.uint8)
    return np.asarray(cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC), np.uint8)


def small(pixels: NDArray[np.uint8]) -> Sketch:
    return Sketch(np.asarray(cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8))


@pytest.mark.parametrize("way", range(8))
def test_every_symmetry_is_found(way: int) -> None:
    whole = picture(way)
    found, move = next(starts(small(whole), small(symmetry(whole, way))))
    assert found == way
    assert np.abs(move - np.eye(2, 3)).max() < 0.01


@pytest.mark.parametrize(("top", "left"), [(0, 0), (6, 6), (13, 13), (0, 13)])
def test_a_crop_is_found_where_it_was(top: int, left: int) -> None:
    """A zoom turned upside down, x and y swapped, or a shift of the wrong sign."""
    whole = picture(1)
    cropped = np.ascontiguousarray(whole[top : top + 51, left : left + 51])
    way, move = next(starts(small(whole), small(cropped)))
    middle = move @ np.array([(SIDE - 1) / 2, (SIDE - 1) / 2, 1])
    assert way == 0
    assert move[0, 0] == pytest.approx(0.8)
    true = np.array([left + 25.5, top + 25.5]) / 64 * SIDE - 0.5
    assert np.abs(middle - true).max() < 1.5, "pixels"
    back, reverse = next(starts(small(cropped), small(whole)))
    assert back == 0
    assert reverse[0, 0] == pytest.approx(1.25)


def test_likeness_tells_edits_from_others() -> None:
    pictures = [picture(seed) for seed in range(12)]
    edits = [np.asarray(np.clip(p[5:59, 5:59].astype(float) * 0.7 + 40, 0, 255), np.uint8)[:, ::-1] for p in pictures]
    of_edits = [likeness(small(p), small(np.ascontiguousarray(e))) for p, e in zip(pictures, edits, strict=True)]
    of_others = [likeness(small(pictures[n]), small(pictures[n - 1])) for n in range(12)]
    assert min(of_edits) > 0.7
    assert max(of_others) < min(of_edits) - 0.1


def test_likeness_is_symmetric_and_of_flat_pictures_none() -> None:
    one, two = small(picture(1)), small(picture(2))
    assert likeness(one, two) == likeness(two, one)
    flat = small(np.full((64, 64), 128, np.uint8))
    assert likeness(flat, one) == 0.0
    assert likeness(flat, flat) == 0.0


def test_a_sketch_of_stored_bytes() -> None:
    grey = picture(3, SIDE)
    assert np.array_equal(sketch(grey.tobytes()).grey, grey)
    with pytest.raises(ValueError, match="reshape"):
        sketch(b"123")
