"""Pictures that are no photographs of things: textures, screenshots and pages of text, drawn by a seed.

They are planted among photographs by tests.bench.outliers. Fonts are Pillow's own, so that they look alike everywhere.
"""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import skimage
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Pixels = NDArray[np.uint8]
Rng = np.random.Generator
Colour = tuple[int, int, int]

SURFACES = ("brick.png", "grass.png", "gravel.png")
SYLLABLES = ("ta", "ren", "mo", "li", "sha", "ver", "con", "in", "per", "to", "na", "est", "qui", "ble", "ro", "dum")


def _word(rng: Rng) -> str:
    return "".join(rng.choice(SYLLABLES, int(rng.integers(1, 5))))


def _words(rng: Rng, count: int) -> str:
    return " ".join(_word(rng) for _ in range(count))


def _colour(rng: Rng, low: int, high: int) -> Colour:
    red, green, blue = (int(value) for value in rng.integers(low, high + 1, 3))
    return red, green, blue


def _surface(rng: Rng) -> Pixels:
    """A part of a photograph of bricks, grass or gravel, seen from close by, in a colour."""
    grey = np.asarray(Image.open(Path(skimage.__file__).parent / "data" / str(rng.choice(SURFACES))).convert("L"))
    side = int(rng.integers(180, 500))
    top, left = (int(rng.integers(0, length - side)) for length in grey.shape)
    part = cv2.resize(grey[top : top + side, left : left + side], (480, 360), interpolation=cv2.INTER_LINEAR)
    tint = rng.uniform(0.55, 1.0, 3)
    return np.asarray(part[..., None] * tint / tint.max(), np.uint8)


def _grain(rng: Rng) -> Pixels:
    """Random values, smoothed in one direction or both: paper, plaster, wood, brushed metal."""
    noise = rng.normal(0, 1, (360, 480)).astype(np.float32)
    across, along = (float(s) for s in np.exp(rng.uniform(-0.5, 3, 2)))
    values = cv2.GaussianBlur(noise, (0, 0), sigmaX=across, sigmaY=along)
    values = (values - values.min()) / (values.max() - values.min())
    low, high = (np.array(_colour(rng, *span)) for span in ((20, 150), (100, 250)))
    return np.asarray(low + values[..., None] * (high - low), np.uint8)


def _weave(rng: Rng) -> Pixels:
    """Threads crossing: cloth, checks, corrugated sheet."""
    y, x = np.indices((360, 480)).astype(np.float32)
    turn, period = rng.uniform(0, np.pi), rng.uniform(5, 40)
    first = np.sin((x * np.cos(turn) + y * np.sin(turn)) * 2 * np.pi / period)
    second = np.sin((y * np.cos(turn) - x * np.sin(turn)) * 2 * np.pi / period * rng.choice([0.5, 1.0, 2.0]))
    values = (first + second * rng.choice([0.0, 1.0])) / 4 + 0.5 + rng.normal(0, 0.06, x.shape)
    low, high = (np.array(_colour(rng, *span)) for span in ((10, 150), (100, 250)))
    return np.asarray(np.clip(low + np.clip(values, 0, 1)[..., None] * (high - low), 0, 255), np.uint8)


def texture(rng: Rng) -> Pixels:
    """A surface that fills the picture. Half of them photographed, half made up."""
    return (_surface, _surface, _grain, _weave)[int(rng.integers(4))](rng)


def page(rng: Rng) -> Pixels:
    """A printed page: a title, paragraphs in one or two columns, perhaps a scan's grey and slant."""
    width, height = 620, int(rng.choice([440, 800, 877]))
    paper, ink = _colour(rng, 225, 255), _colour(rng, 0, 70)
    image = Image.new("RGB", (width, height), paper)
    pen = ImageDraw.Draw(image)
    size, columns = int(rng.integers(9, 17)), int(rng.integers(1, 3))
    font, gap = ImageFont.load_default(size), 24
    top = 40
    if rng.random() < 0.6:
        pen.text((40, top), _words(rng, 4), ink, ImageFont.load_default(size * 2))
        top += size * 3
    column = (width - 80 - gap * (columns - 1)) // columns
    for number in range(columns):
        left, y = 40 + number * (column + gap), top
        while y < height - 50:
            for _ in range(int(rng.integers(3, 9))):
                line = _words(rng, 30)
                while pen.textlength(line, font) > column:
                    line = line[: line.rindex(" ")]
                if y < height - 50:
                    pen.text((left, y), line, ink, font)
                y += round(size * 1.35)
            y += size
    pixels = np.asarray(image)
    if rng.random() < 0.4:
        turned = image.rotate(float(rng.uniform(-2, 2)), Image.Resampling.BICUBIC, fillcolor=paper)
        pixels = np.clip(np.asarray(turned) + rng.normal(0, 6, (height, width, 1)), 0, 255).astype(np.uint8)
    return pixels


def screenshot(rng: Rng) -> Pixels:
    """A screen: a window of an editor, a form, a sheet of numbers, a page of cards, or a chart on a dashboard."""
    width, height = 800, int(rng.choice([500, 600]))
    dark = rng.random() < 0.4
    ground, ink = (_colour(rng, 15, 50), _colour(rng, 190, 240)) if dark else (_colour(rng, 235, 255), (35, 35, 40))
    accent = _colour(rng, 30, 220)
    image = Image.new("RGB", (width, height), ground)
    pen = ImageDraw.Draw(image)
    font = ImageFont.load_default(int(rng.integers(11, 15)))
    pen.rectangle((0, 0, width, 32), fill=accent)
    pen.text((12, 8), _words(rng, 3), (255, 255, 255), font)
    for x in (width - 24, width - 48, width - 72):
        pen.ellipse((x, 10, x + 12, 22), fill=_colour(rng, 80, 250))
    side = int(rng.choice([0, 160, 200]))
    pen.rectangle((0, 32, side, height), fill=tuple((g * 2 + a) // 3 for g, a in zip(ground, accent, strict=True)))
    for y in range(48, height - 20, 26) if side else ():
        pen.text((14, y), _word(rng), ink, font)
    SCREENS[int(rng.integers(len(SCREENS)))](rng, pen, (side + 20, 48, width - 20, height - 20), ink, font)
    return np.asarray(image)


Area = tuple[int, int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def _code(rng: Rng, pen: ImageDraw.ImageDraw, area: Area, ink: Colour, font: Font) -> None:
    for y in range(area[1], area[3], 18):
        x = area[0] + 22 * int(rng.integers(0, 4))
        for _ in range(int(rng.integers(0, 6))):
            word = _word(rng) + str(rng.choice(["", "(", ")", " =", ":"]))
            pen.text((x, y), word, ink if rng.random() < 0.6 else _colour(rng, 90, 230), font)
            x += int(pen.textlength(word + " ", font))


def _form(rng: Rng, pen: ImageDraw.ImageDraw, area: Area, ink: Colour, font: Font) -> None:
    for y in range(area[1], area[3] - 40, 56):
        pen.text((area[0], y), _words(rng, 2), ink, font)
        pen.rectangle((area[0], y + 18, area[0] + int(rng.integers(120, 400)), y + 42), outline=ink)
        if rng.random() < 0.3:
            pen.rectangle((area[0] + 420, y + 18, area[0] + 500, y + 42), fill=_colour(rng, 40, 200))


def _sheet(rng: Rng, pen: ImageDraw.ImageDraw, area: Area, ink: Colour, font: Font) -> None:
    for x in range(area[0], area[2], 80):
        pen.line((x, area[1], x, area[3]), fill=(150, 150, 150))
        for y in range(area[1], area[3], 22):
            pen.line((area[0], y, area[2], y), fill=(150, 150, 150))
            if rng.random() < 0.8:
                pen.text((x + 6, y + 4), f"{rng.normal(0, 500):.2f}", ink, font)


def _cards(rng: Rng, pen: ImageDraw.ImageDraw, area: Area, ink: Colour, font: Font) -> None:
    for x in range(area[0], area[2] - 120, 190):
        for y in range(area[1], area[3] - 100, 150):
            pen.rectangle((x, y, x + 170, y + 80), fill=_colour(rng, 60, 230))
            pen.text((x, y + 88), _words(rng, 3), ink, font)
            pen.text((x, y + 106), _words(rng, 4), ink, font)


def _dashboard(rng: Rng, pen: ImageDraw.ImageDraw, area: Area, ink: Colour, font: Font) -> None:
    values = np.cumsum(rng.normal(0, 18, 40)) + area[3] / 2
    step = (area[2] - area[0]) / len(values)
    points = [(area[0] + i * step, float(np.clip(v, area[1] + 30, area[3]))) for i, v in enumerate(values)]
    pen.text((area[0], area[1]), _words(rng, 4), ink, font)
    colour = _colour(rng, 40, 220)
    if rng.random() < 0.5:
        pen.line(points, fill=colour, width=3)
    else:
        for x, y in points:
            pen.rectangle((x, y, x + step * 0.7, area[3]), fill=colour)


SCREENS = (_code, _form, _sheet, _cards, _dashboard)
KINDS: dict[str, Callable[[Rng], Pixels]] = {"texture": texture, "screenshot": screenshot, "page": page}


def pictures(kind: str, count: int, seed: int = 0) -> list[Pixels]:
    """So many of one of KINDS, (h, w, 3) uint8 each; the first ones are the same for any count."""
    number = list(KINDS).index(kind)
    return [KINDS[kind](np.random.default_rng([seed, number, i])) for i in range(count)]
