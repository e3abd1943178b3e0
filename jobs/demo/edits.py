"""The seven edits that turn a picture into a near duplicate of itself."""

import math
from collections.abc import Callable
from io import BytesIO

import cv2
import numpy as np
from PIL import Image

from jobs.demo.drawing import Pixels, Rng, box, letters


def recompressed(pixels: Pixels, rng: Rng) -> Pixels:
    """JPEG at quality 30 and back."""
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=30)
    return np.asarray(Image.open(buffer).convert("RGB")).copy()


def resized(pixels: Pixels, rng: Rng) -> Pixels:
    """Half the width and half the height."""
    height, width = pixels.shape[:2]
    return np.asarray(cv2.resize(pixels, (width // 2, height // 2), interpolation=cv2.INTER_AREA), np.uint8)


def cropped(pixels: Pixels, rng: Rng) -> Pixels:
    """The central 80 % of either side."""
    return _centre(pixels, 0.8)


def mirrored(pixels: Pixels, rng: Rng) -> Pixels:
    """Left and right exchanged."""
    return pixels[:, ::-1].copy()


def brightened(pixels: Pixels, rng: Rng) -> Pixels:
    """Every value times 1.25, cut off at 255."""
    return np.asarray(np.clip(pixels.astype(np.float32) * 1.25, 0, 255), np.uint8)


def overlay(pixels: Pixels, rng: Rng) -> Pixels:
    """A caption across a corner, in a box a third of the width."""
    height, width = pixels.shape[:2]
    image = pixels.copy()
    wide, tall = 0.34 * width, 0.11 * height
    left = 0.04 * width if rng.random() < 0.5 else 0.62 * width
    top = 0.05 * height if rng.random() < 0.5 else 0.84 * height
    box(image, left, top, left + wide, top + tall, (245, 245, 240))
    return letters(image, "SAMPLE", left + wide / 2, top + tall / 2, min(0.8 * tall, wide / 5), (190, 20, 30))


def rotated(pixels: Pixels, rng: Rng) -> Pixels:
    """Turned by 5 degrees to either side; the corners that this leaves are black or cut away."""
    height, width = pixels.shape[:2]
    angle = 5.0 if rng.random() < 0.5 else -5.0
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1.0)
    turned = np.asarray(cv2.warpAffine(pixels, matrix, (width, height), flags=cv2.INTER_CUBIC), np.uint8)
    if rng.random() < 0.5:
        return turned
    sine, cosine = math.sin(math.radians(5)), math.cos(math.radians(5))
    long = max(height, width) / min(height, width)
    return _centre(turned, 1 / (cosine + sine * long))


def _centre(pixels: Pixels, share: float) -> Pixels:
    """The middle of a picture, share of either side."""
    height, width = pixels.shape[:2]
    top, left = int(height * (1 - share) / 2), int(width * (1 - share) / 2)
    return pixels[top : height - top, left : width - left].copy()


EDITS: dict[str, Callable[[Pixels, Rng], Pixels]] = {
    "recompressed": recompressed,
    "resized": resized,
    "cropped": cropped,
    "mirrored": mirrored,
    "brightened": brightened,
    "overlay": overlay,
    "rotated": rotated,
}
