"""What lies around a picture in its file: chunks of a PNG that no pixel needs, empty frames before the first to see."""

import zlib
from typing import Any

from PIL import Image

ODD_CHUNKS = "chunks that no pixel needs are broken or too large"  # of a PNG
LOOKED_THROUGH = 32  # frames of an animation that begins with empty ones
ANIMATED = ("gif", "webp", "png", "avif")
_PNG_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")


def needed_chunks(png: bytes) -> bytes:
    """A PNG without what no pixel needs: text and profiles of any size, and chunks whose checksum is wrong."""
    parts, at = [png[:8]], 8
    while at + 12 <= len(png):
        end = at + 12 + int.from_bytes(png[at : at + 4], "big")
        name, whole = png[at + 4 : at + 8], png[at:end]
        sound = zlib.crc32(whole[4:-4]) == int.from_bytes(whole[-4:], "big")
        if name in _PNG_CHUNKS or (name == b"eXIf" and sound):
            parts.append(whole)
        at = end
    return b"".join((*parts, png[at:]))


def _is_empty(image: Image.Image) -> bool:
    """Whether all of a picture is of one colour, or nothing of it can be seen."""
    return all(low == high for low, high in _extrema(image))


def _extrema(image: Image.Image) -> list[tuple[float, float]]:
    found: Any = (image.convert("RGBA") if image.mode == "P" or image.has_transparency_data else image).getextrema()
    pairs = list(found) if isinstance(found[0], tuple) else [found]
    return [pairs[-1]] if len(pairs) == 4 and pairs[-1] == (0, 0) else pairs


def first_to_see(animation: Image.Image) -> Image.Image:
    """The first frame in which there is anything, of LOOKED_THROUGH; the first of all where there is none."""
    if not _is_empty(animation):
        return animation
    for number in range(1, min(getattr(animation, "n_frames", 1), LOOKED_THROUGH)):
        animation.seek(number)
        if not _is_empty(animation):
            return animation
    animation.seek(0)
    return animation
