"""Variants of an image, made as they are asked for: another size, format or part of it, so that no copy for each
consumer need be stored. None is larger than its image, and none holds what the file says beside its pixels (EXIF,
places)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from udfs.images import decode
from udfs.images.scaling import resized

CODE = 1  # version of what is done here
MOST_SIDE = 4096  # pixels of a variant
TYPES = {"jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp"}  # format to its media type
LEAST = 0.001  # share of a side that a crop has
FITS = ("inside", "cover", "stretch")

Crop = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Variant:
    """width, height: pixels, 1..MOST_SIDE, None: as the other one says, or as the image has it. fit: inside, as much as
    fits into both, of the aspect ratio of the image; cover, its middle in the aspect ratio of both; stretch, all of it.
    format: of TYPES. quality: 1..100, of jpeg and webp. crop: left, top, width and height of the part that is shown, as
    shares of the upright image, 0..1. Raises ValueError, all faults in one line."""

    width: int | None = None
    height: int | None = None
    fit: str = "inside"
    format: str = "jpeg"
    quality: int = 80
    crop: Crop = (0.0, 0.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        faults = [
            f"{name}: must be 1..{most}, got {value!r}"
            for name, value, most in (
                ("width", self.width, MOST_SIDE), ("height", self.height, MOST_SIDE), ("quality", self.quality, 100)
            )
            if value is not None and not 1 <= value <= most
        ]  # fmt: skip
        faults += [] if self.fit in FITS else [f"fit: must be one of {', '.join(FITS)}"]
        faults += [] if self.format in TYPES else [f"format: must be one of {', '.join(TYPES)}"]
        left, top, width, height = self.crop
        if not (
            0 <= left < 1 and 0 <= top < 1 and LEAST <= width <= 1 - left + 1e-9 and LEAST <= height <= 1 - top + 1e-9
        ):
            faults.append(
                f"crop: must be left,top,width,height in 0..1, within the image, and not below {LEAST} wide or high"
            )
        if self.fit != "inside" and (self.width is None or self.height is None):
            faults.append(f"fit: {self.fit} needs width and height")
        if faults:
            raise ValueError("; ".join(faults))

    @classmethod
    def of_query(cls, query: Mapping[str, str]) -> Variant:
        """Of the parameters of an address, by the names of the fields; crop as four numbers. Raises ValueError."""
        known = ("width", "height", "fit", "format", "quality", "crop")
        if unknown := sorted(set(query) - set(known)):
            raise ValueError(f"{unknown[0][:40]!r}: no parameter of a variant; there are {', '.join(known)}")
        numbers = {name: _whole(name, query[name]) for name in ("width", "height", "quality") if name in query}
        texts = {name: query[name] for name in ("fit", "format") if name in query}
        return cls(**numbers, **texts, **({"crop": _crop(query["crop"])} if "crop" in query else {}))  # type: ignore[arg-type]

    @property
    def key(self) -> str:
        """16 hexadecimal digits that tell it from all others."""
        decides = (CODE, self.width, self.height, self.fit, self.format, self.quality, self.crop)
        return hashlib.sha256(repr(decides).encode()).hexdigest()[:16]


def variant(data: bytes, how: Variant, max_pixels: int) -> bytes:
    """The file of a variant of an image file. Raises ImageError."""
    wanted = (how.width or 0, how.height or 0) if how.width or how.height else (MOST_SIDE, MOST_SIDE)
    # Enough of the short side, whichever it is, for neither axis of the part to grow.
    side = math.ceil(max(length / share for length, share in zip(wanted, how.crop[2:], strict=True)))
    pixels = _cropped(decode.decode(data, side, max_pixels).pixels, how.crop)
    height, width = pixels.shape[:2]
    if how.fit == "cover" and how.width and how.height:
        scale = max(how.width / width, how.height / height)
        pixels = _middle(pixels, round(how.width / scale), round(how.height / scale))
        height, width = pixels.shape[:2]
    to_width, to_height = _size(how, width, height)
    return _encoded(resized(pixels, to_width, to_height), how)


def _size(how: Variant, width: int, height: int) -> tuple[int, int]:
    if how.fit == "stretch":
        return min(how.width or width, width), min(how.height or height, height)
    scale = min(1.0, (how.width or MOST_SIDE) / width, (how.height or MOST_SIDE) / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _cropped(pixels: NDArray[np.uint8], crop: Crop) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    left, top = min(width - 1, round(crop[0] * width)), min(height - 1, round(crop[1] * height))
    right, bottom = round((crop[0] + crop[2]) * width), round((crop[1] + crop[3]) * height)
    return np.ascontiguousarray(pixels[top : max(top + 1, bottom), left : max(left + 1, right)])


def _middle(pixels: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    width, height = (max(1, min(of, most)) for of, most in ((width, pixels.shape[1]), (height, pixels.shape[0])))
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return np.ascontiguousarray(pixels[top : top + height, left : left + width])


def _encoded(pixels: NDArray[np.uint8], how: Variant) -> bytes:
    if how.format == "jpeg":
        return bytes(simplejpeg.encode_jpeg(pixels, quality=how.quality, colorsubsampling="420"))
    settings = [cv2.IMWRITE_WEBP_QUALITY, how.quality] if how.format == "webp" else [cv2.IMWRITE_PNG_COMPRESSION, 6]
    done, data = cv2.imencode(f".{how.format}", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), settings)
    if not done:
        raise ValueError(f"{pixels.shape[1]} x {pixels.shape[0]} pixels cannot be written as {how.format}")
    return data.tobytes()


def _whole(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 6):
        raise ValueError(f"{name}: must be a whole number")
    return int(text)


def _crop(text: str) -> Crop:
    try:
        left, top, width, height = (float(part) for part in text[:100].split(","))
    except ValueError:
        raise ValueError("crop: must be four numbers, left,top,width,height") from None
    return left, top, width, height
