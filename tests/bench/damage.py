"""Photographs spoilt in graded steps, from a seed: what the measures of quality are judged by.

Each kind goes from a damage that one has to look for to one that nobody would overlook. From `Kind.strong` on, a
picture is useless for most purposes; these steps must be found."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
Rng = np.random.Generator
Spoil = Callable[[Pixels, float, Rng], Pixels]

SAVED_JPEG_QUALITY = 95


@dataclass(frozen=True)
class Kind:
    """A kind of damage. spoil: (pixels (h, w, 3) uint8 RGB, step, generator) -> pixels. steps: from weak to strong.
    strong: the first of the steps that counts as strong. issues: those one of which a strongly spoilt picture must get.
    score: the column of `scores` that must fall as the steps rise. saved: "" for PNG or JPEG by turns, else how."""

    name: str
    spoil: Spoil
    steps: tuple[float, ...]
    strong: float
    issues: tuple[str, ...]
    score: str
    saved: str = ""


def _exposed(pixels: Pixels, stops: float, _: Rng) -> Pixels:
    """Light times 2^stops, as a camera does it: in linear light (IEC 61966-2-1), clipped."""
    level = np.arange(256) / 255
    linear = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4) * 2.0**stops
    coded = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055)
    table = np.rint(np.clip(coded, 0, 1) * 255).astype(np.uint8)
    return np.asarray(table[pixels])


def _darker(pixels: Pixels, stops: float, rng: Rng) -> Pixels:
    return _exposed(pixels, -stops, rng)


def _gaussian(pixels: Pixels, sigma: float, _: Rng) -> Pixels:
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), sigma), np.uint8)


def _motion(pixels: Pixels, length: float, rng: Rng) -> Pixels:
    """The camera moves in a straight line, by so many pixels, at any angle."""
    angle = rng.uniform(0, np.pi)
    side = int(length) + 4 + int(length) % 2 + 1
    kernel = np.zeros((side, side), np.float32)
    along = np.linspace(-(length - 1) / 2, (length - 1) / 2, int(length) * 8)
    for x, y in zip(side // 2 + along * np.cos(angle), side // 2 + along * np.sin(angle), strict=True):
        left, top = int(x), int(y)
        for dx, dy in ((0, 0), (0, 1), (1, 0), (1, 1)):
            kernel[top + dy, left + dx] += (1 - abs(x - left - dx)) * (1 - abs(y - top - dy))
    return np.asarray(cv2.filter2D(pixels, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT), np.uint8)


def _noise(pixels: Pixels, sigma: float, rng: Rng) -> Pixels:
    """Gaussian, of its own in each pixel and channel. sigma: in levels of 255."""
    return np.clip(np.rint(pixels + rng.normal(0, sigma, pixels.shape)), 0, 255).astype(np.uint8)


def _jpeg(pixels: Pixels, quality: float, _: Rng) -> Pixels:
    """Compressed and decoded again: for a file whose header knows nothing of it."""
    return np.asarray(Image.open(BytesIO(jpeg(pixels, int(quality)))).convert("RGB"), np.uint8)


def _nothing(pixels: Pixels, _step: float, _: Rng) -> Pixels:
    return pixels


def _smaller(pixels: Pixels, factor: float, _: Rng) -> Pixels:
    height, width = pixels.shape[:2]
    size = (max(1, round(width / factor)), max(1, round(height / factor)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def _blown_up(pixels: Pixels, factor: float, rng: Rng) -> Pixels:
    height, width = pixels.shape[:2]
    return np.asarray(
        cv2.resize(_smaller(pixels, factor, rng), (width, height), interpolation=cv2.INTER_CUBIC), np.uint8
    )


def _faded(pixels: Pixels, share: float, _: Rng) -> Pixels:
    """That share of the way to the mean colour."""
    mean = pixels.reshape(-1, 3).mean(axis=0)
    return np.asarray(np.rint(mean + (pixels - mean) * (1 - share)), np.uint8)


def _covered(pixels: Pixels, share: float, rng: Rng) -> Pixels:
    """That share of the picture under one colour, from one of its sides."""
    out, turns = np.rot90(pixels, int(rng.integers(4))).copy(), rng.integers(0, 256, 3)
    out[: round(share * len(out))] = turns
    return out


def _grey(pixels: Pixels, share: float, _: Rng) -> Pixels:
    """That share of the way to grey."""
    grey = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.float64)[..., None]
    return np.rint(pixels + (grey - pixels) * share).astype(np.uint8)


def _strip(pixels: Pixels, ratio: float, rng: Rng) -> Pixels:
    """A strip that is so many times as long as wide, lying or standing."""
    upright = bool(rng.integers(2))
    turned = pixels.transpose(1, 0, 2) if upright else pixels
    height = max(1, round(turned.shape[1] / ratio))
    start = max(0, (turned.shape[0] - height) // 2)
    strip = turned[start : start + height]
    return np.ascontiguousarray(strip.transpose(1, 0, 2) if upright else strip)


KINDS = {
    kind.name: kind
    for kind in (
        Kind("darker", _darker, (1, 2, 3, 4, 5), 4, ("dark",), "dark_score"),  # stops
        Kind("brighter", _exposed, (1, 2, 3, 4, 5), 4, ("bright",), "bright_score"),  # stops
        Kind("gaussian_blur", _gaussian, (1, 2, 3, 4, 6), 4, ("blurry",), "blur_score"),  # pixels
        Kind("motion_blur", _motion, (5, 9, 15, 21, 31), 21, ("blurry",), "blur_score"),  # pixels
        Kind("noise", _noise, (5, 10, 20, 35, 50), 35, ("noisy",), "noise_score"),  # levels of 255
        Kind("jpeg", _nothing, (60, 40, 20, 10, 5), 10, ("blocky",), "blockiness_score", "quality"),  # quality
        Kind("jpeg_resaved", _jpeg, (60, 40, 20, 10, 5), 10, ("blocky",), "blockiness_score"),  # quality
        Kind("blown_up", _blown_up, (1.5, 2, 4, 6, 8), 6, ("blurry",), "blur_score"),  # times smaller, and back
        Kind("smaller", _smaller, (1.5, 2, 4, 6, 8), 6, ("odd_size",), "size_score"),  # times
        Kind("faded", _faded, (0.3, 0.5, 0.7, 0.85, 0.93), 0.85, ("low_contrast", "flat"), "contrast_score"),
        Kind("covered", _covered, (0.25, 0.5, 0.75, 0.97, 1), 0.97, ("flat",), "flat_score"),  # share of the picture
        Kind("grey", _grey, (0.3, 0.5, 0.7, 0.9, 1), 1, ("grayscale",), "colour_score"),  # share
        Kind("strip", _strip, (2, 3, 5, 7, 10), 5, ("odd_aspect_ratio",), "aspect_ratio_score"),  # ratio
    )
}


def spoilt(pixels: Pixels, kind: Kind, step: float, photo: str, seed: int = 0) -> tuple[bytes, str]:
    """A file of the spoilt photograph, and its ending. pixels: (h, w, 3) uint8 RGB. photo: its name, which with the
    seed decides what is left to chance, the same at each step: angle, side, colour, and whether PNG or JPEG is
    written."""
    digest = hashlib.sha256(f"{seed} {kind.name} {photo}".encode()).digest()
    out = kind.spoil(pixels, step, np.random.default_rng(int.from_bytes(digest[:8], "big")))
    if kind.saved == "quality":
        return jpeg(out, int(step)), ".jpg"
    return (png(out), ".png") if digest[8] % 2 else (jpeg(out, SAVED_JPEG_QUALITY), ".jpg")


def photographs(folder: Path) -> dict[str, bytes]:
    """Name -> bytes of the JPEG files of a folder, in the order of their names.

    Raises ValueError where there is none."""
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in (".jpg", ".jpeg"))
    if not files:
        raise ValueError(f"{folder} has no JPEG files")
    return {file.name: file.read_bytes() for file in files}


def jpeg(pixels: Pixels, quality: int) -> bytes:
    sink = BytesIO()
    Image.fromarray(pixels).save(sink, "JPEG", quality=quality)
    return sink.getvalue()


def png(pixels: Pixels) -> bytes:
    sink = BytesIO()
    Image.fromarray(pixels).save(sink, "PNG", compress_level=1)
    return sink.getvalue()
