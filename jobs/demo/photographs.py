"""Scenes cut from the photographs that scikit-image and scikit-learn carry in their packages: no download."""

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from jobs.demo.drawing import Colour, Pixels, colour, ramp


class Crop(NamedTuple):
    """A part of a photograph: file name, corners in its pixels, scale, and for a gray one the hue it is tinted with."""

    file: str
    left: int
    top: int
    right: int
    bottom: int
    scale: float = 1.0
    hue: float | None = None


CROPS: dict[str, Crop] = {
    "astronaut": Crop("astronaut.png", 130, 0, 330, 235, 1.4),
    "suit": Crop("astronaut.png", 60, 240, 335, 512, 1.2),
    "brick": Crop("brick.png", 40, 60, 440, 360, 1.0, 0.03),
    "cameraman": Crop("camera.png", 60, 20, 350, 400, 1.0, 0.58),
    "skyline": Crop("camera.png", 352, 120, 512, 260, 1.7, 0.08),
    "cell": Crop("cell.png", 150, 200, 550, 500, 1.0, 0.45),
    "cat": Crop("chelsea.png", 0, 0, 451, 300),
    "coffee": Crop("coffee.png", 130, 0, 500, 300),
    "coins": Crop("coins.png", 0, 0, 384, 303, 1.0, 0.11),
    "grass": Crop("grass.png", 0, 0, 420, 320, 1.0, 0.28),
    "gravel": Crop("gravel.png", 50, 50, 450, 400, 1.0, 0.07),
    "galaxies": Crop("hubble_deep_field.jpg", 0, 0, 500, 420),
    "gland": Crop("ihc.png", 0, 0, 290, 260, 1.2),
    "stroma": Crop("ihc.png", 220, 270, 512, 512, 1.2),
    "craters": Crop("moon.png", 100, 0, 460, 250, 1.1, 0.08),
    "engine": Crop("motorcycle_left.png", 120, 100, 440, 440),
    "page": Crop("page.png", 0, 0, 384, 191, 1.3, 0.1),
    "nerve": Crop("retina.jpg", 60, 420, 560, 920, 0.7),
    "rocket": Crop("rocket.jpg", 230, 60, 430, 427, 1.2),
    "mast": Crop("rocket.jpg", 0, 110, 200, 427, 1.3),
    "text": Crop("text.png", 0, 0, 290, 172, 1.5, 0.75),
    "pagoda": Crop("china.jpg", 30, 20, 300, 330),
    "trees": Crop("china.jpg", 300, 295, 500, 427, 1.8),
    "dahlia": Crop("flower.jpg", 140, 40, 400, 330),
}  # fmt: skip


def photograph(name: str) -> Pixels:
    """The scene of that name, (h, w, 3) uint8, in colour. Raises KeyError for an unknown name."""
    crop = CROPS[name]
    whole = _read(crop.file)
    part = whole[crop.top : crop.bottom, crop.left : crop.right]
    if crop.scale != 1.0:
        how = cv2.INTER_AREA if crop.scale < 1 else cv2.INTER_CUBIC
        part = np.asarray(cv2.resize(part, None, fx=crop.scale, fy=crop.scale, interpolation=how), np.uint8)
    if crop.hue is not None:
        part = duotone(part, crop.hue)
    grain = np.random.default_rng([ord(letter) for letter in name]).normal(0, 3, (*part.shape[:2], 1))
    return np.clip(part + grain, 0, 255).astype(np.uint8)  # scaled-up parts would count as blurry without grain


def duotone(pixels: Pixels, hue: float) -> Pixels:
    """A gray picture printed in two inks, a dark one of the hue and a light one of the opposite hue."""
    values = pixels[..., 1].astype(np.float32) / 255
    low, high = float(np.percentile(values, 1)), float(np.percentile(values, 99))
    stops: list[Colour] = [colour(hue, 0.9, 0.16), colour(hue, 0.75, 0.6), colour(hue + 0.45, 0.45, 0.97)]
    return ramp(np.clip((values - low) / max(high - low, 1e-6), 0, 1), stops).astype(np.uint8)


@lru_cache(maxsize=4)
def _read(name: str) -> Pixels:
    """A photograph of the packages, RGB; see-through parts on white. Raises FileNotFoundError where neither has it."""
    import skimage.data
    import sklearn.datasets

    folders = (Path(skimage.data.__file__).parent, Path(sklearn.datasets.__file__).parent / "images")
    for folder in folders:
        if (folder / name).is_file():
            picture = Image.open(folder / name).convert("RGBA")
            ground = Image.new("RGBA", picture.size, (235, 235, 225, 255))
            return np.asarray(Image.alpha_composite(ground, picture).convert("RGB"))
    raise FileNotFoundError(f"{name} in {[str(folder) for folder in folders]}")
