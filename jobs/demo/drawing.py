"""What the rendered pictures are drawn with: colours, smooth noise, gradients, shapes, letters."""

import colorsys
import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Pixels = NDArray[np.uint8]  # (h, w, 3), RGB
Floats = NDArray[np.float32]
Colour = tuple[int, int, int]  # RGB, 0..255
Rng = np.random.Generator


def colour(hue: float, saturation: float, value: float) -> Colour:
    """An RGB colour from hue (turns, any real number), saturation and value in [0, 1]."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, min(max(saturation, 0.0), 1.0), min(max(value, 0.0), 1.0))
    return round(red * 255), round(green * 255), round(blue * 255)


def palette(rng: Rng, count: int) -> list[Colour]:
    """count colours that go together: one of five schemes of hues, values spread from dark to light, shuffled."""
    base = float(rng.random())
    scheme = [(0.0, 0.06, -0.06), (0.0, 0.5, 0.04), (0.0, 0.33, 0.67), (0.0, 0.42, 0.58), (0.0, 0.25, 0.5, 0.75)]
    offsets = scheme[int(rng.integers(len(scheme)))]
    rich = float(rng.uniform(0.45, 0.95))
    values = np.linspace(0.25, 0.97, count)
    colours = [
        colour(
            base + offsets[i % len(offsets)] + float(rng.normal(0, 0.02)), rich * float(rng.uniform(0.7, 1.1)), float(v)
        )
        for i, v in enumerate(values)
    ]
    return [colours[int(i)] for i in rng.permutation(count)]


def size(rng: Rng) -> tuple[int, int]:
    """(height, width) of a picture: 250 to 520 pixels, from 3:4 upright to 16:9 lying."""
    short = int(rng.integers(250, 310))
    ratio = float(rng.choice([1.0, 1.25, 4 / 3, 1.5, 16 / 9], p=[0.2, 0.2, 0.3, 0.2, 0.1]))
    long = int(short * ratio)
    return (long, short) if ratio < 1.4 and rng.random() < 0.3 else (short, long)


def noise(rng: Rng, height: int, width: int, cells: float, octaves: int = 4) -> Floats:
    """Smooth value noise, (height, width) float32 in [0, 1]; cells: bumps across the width at the coarsest octave."""
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        across = max(2, round(cells * 2**octave))
        down = max(2, round(cells * 2**octave * height / width))
        grid = rng.random((down + 1, across + 1), dtype=np.float32)
        total += np.asarray(cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC), np.float32) * 0.55**octave
    low, high = float(total.min()), float(total.max())
    return (total - low) / max(high - low, 1e-6)


def ramp(values: Floats, stops: Sequence[Colour]) -> Floats:
    """Colours for values in [0, 1], evenly spaced between the stops: (h, w) -> (h, w, 3) float32, 0..255."""
    at = np.linspace(0, 1, len(stops))
    table = np.stack([np.interp(np.linspace(0, 1, 1024), at, [stop[c] for stop in stops]) for c in range(3)], axis=1)
    index = np.clip(values * 1023, 0, 1023).astype(np.int32)
    return table.astype(np.float32)[index]


def grid(height: int, width: int) -> tuple[Floats, Floats]:
    """Coordinates (x, y) of the pixels, float32, the longer side from -1 to 1."""
    scale = 2.0 / max(height, width)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    return (x - width / 2) * scale, (y - height / 2) * scale


def finish(rng: Rng, image: NDArray[np.generic], grain: float = 7.0) -> Pixels:
    """Adds uneven light and film grain (standard deviation in grey levels), so that no rendered area is quite flat."""
    pixels = image.astype(np.float32)
    height, width = pixels.shape[:2]
    light = 0.88 + 0.2 * noise(rng, height, width, 2, 2)
    pixels = pixels * light[..., None] + rng.normal(0, grain, (height, width, 1)).astype(np.float32)
    return np.clip(pixels, 0, 255).astype(np.uint8)


def canvas(height: int, width: int, fill: Colour) -> Pixels:
    """A picture of one colour."""
    return np.full((height, width, 3), fill, np.uint8)


def backdrop(rng: Rng, height: int, width: int, colours: Sequence[Colour]) -> Pixels:
    """One of four grounds: plain, a gradient at any angle, clouds, rings of light."""
    kind = int(rng.integers(4))
    if kind == 0:
        return canvas(height, width, colours[0])
    x, y = grid(height, width)
    if kind == 1:
        angle = float(rng.uniform(0, 2 * math.pi))
        values: Floats = np.asarray(0.5 + 0.5 * (x * math.cos(angle) + y * math.sin(angle)), np.float32)
    elif kind == 2:
        values = noise(rng, height, width, float(rng.uniform(1, 4)))
    else:
        away: Floats = np.hypot(x - rng.uniform(-0.5, 0.5), y - rng.uniform(-0.5, 0.5)).astype(np.float32)
        values = away / np.float32(1.4)
    return ramp(np.clip(values, 0, 1), list(colours[:2])).astype(np.uint8)


def polygon(image: Pixels, points: NDArray[np.generic] | Sequence[tuple[float, float]], fill: Colour) -> None:
    """Fills a polygon of (x, y) points in place, edges smoothed."""
    cv2.fillPoly(image, [np.asarray(points, np.float64).round().astype(np.int32)], fill, cv2.LINE_AA)


def disc(image: Pixels, x: float, y: float, radius: float, fill: Colour, thickness: int = -1) -> None:
    """A disc, or a ring where thickness is positive, in place."""
    cv2.circle(image, (round(x), round(y)), max(1, round(radius)), fill, thickness, cv2.LINE_AA)


def line(image: Pixels, a: tuple[float, float], b: tuple[float, float], fill: Colour, thickness: float = 1) -> None:
    """A straight line from a to b, in place."""
    cv2.line(image, (round(a[0]), round(a[1])), (round(b[0]), round(b[1])), fill, max(1, round(thickness)), cv2.LINE_AA)


def box(image: Pixels, x0: float, y0: float, x1: float, y1: float, fill: Colour, thickness: int = -1) -> None:
    """A rectangle with corners (x0, y0) and (x1, y1), in place."""
    cv2.rectangle(image, (round(x0), round(y0)), (round(x1), round(y1)), fill, thickness)


def ring_points(
    x: float, y: float, radii: Sequence[float] | NDArray[np.generic], turn: float = 0.0
) -> NDArray[np.float64]:
    """Points around (x, y), evenly in angle, each at its own radius: (n, 2)."""
    radius = np.asarray(radii, np.float64)
    angle = turn + np.arange(len(radius)) * 2 * math.pi / len(radius)
    return np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], axis=1)


def letters(image: Pixels, text: str, x: float, y: float, height: float, fill: Colour, anchor: str = "mm") -> Pixels:
    """The picture with text written at (x, y) in Pillow's own font, height in pixels. Returns a new array."""
    picture = Image.fromarray(image)
    font = ImageFont.load_default(max(8, height))
    ImageDraw.Draw(picture).text((x, y), text, fill=fill, font=font, anchor=anchor)
    return np.asarray(picture).copy()
