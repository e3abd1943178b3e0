"""When a picture was taken, by its EXIF block."""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime, timedelta, timezone

from PIL import Image

from udfs.images.decode import jpeg_exif

_EXIF_FOLDER = 0x8769
# Of the EXIF folder: when it was taken, and when it was made digital; each with its fraction and its zone.
_TAGS = ((0x9003, 0x9291, 0x9011), (0x9004, 0x9292, 0x9012))
_TIME = re.compile(r"(\d{4})[:-](\d\d)[:-](\d\d)[ T](\d\d):(\d\d):(\d\d)", re.ASCII)
_ZONE = re.compile(r"([+-])(\d\d):(\d\d)", re.ASCII)
YEARS = range(1900, 2200)
_FAULTS = (OSError, ValueError, SyntaxError, KeyError, TypeError, IndexError, OverflowError, ArithmeticError,
           AttributeError, RuntimeError)  # fmt: skip


def taken_at(data: bytes, kind: str) -> datetime | None:
    """When the picture was taken, to the fraction of a second that the camera wrote, UTC; where it wrote no zone, what
    its clock showed counts as UTC. None where it is not told, or is no time. kind: of decode.FORMATS."""
    try:
        folder = _exif(data, kind).get_ifd(_EXIF_FOLDER)
    except _FAULTS:
        return None
    for tags in _TAGS:
        found = _time(*(folder.get(tag) for tag in tags))
        if found is not None:
            return found
    return None


def _exif(data: bytes, kind: str) -> Image.Exif:
    exif = Image.Exif()
    if kind == "jpeg":
        exif.load(jpeg_exif(data))
    elif kind in ("png", "webp", "tiff"):
        with Image.open(io.BytesIO(data), formats=[kind.upper()]) as image:
            exif = image.getexif()
    elif kind in ("heif", "avif"):
        import pi_heif  # as decode does

        exif.load(pi_heif.open_heif(data).info.get("exif") or b"")
    return exif


def _time(told: object, fraction: object, zone: object) -> datetime | None:
    found = _TIME.match(told.strip()) if isinstance(told, str) else None
    if found is None:
        return None
    try:
        at = datetime(*map(int, found.groups()), tzinfo=_zone(zone))  # type: ignore[misc,arg-type]
        digits = fraction.strip() if isinstance(fraction, str) else ""
        if digits.isascii() and digits.isdigit():
            at += timedelta(microseconds=int(digits[:6].ljust(6, "0")))
        at = at.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return at if at.year in YEARS else None


def _zone(told: object) -> timezone:
    found = _ZONE.match(told.strip()) if isinstance(told, str) else None
    if found is None:
        return UTC
    minutes = 60 * int(found[2]) + int(found[3])
    return timezone((-1 if found[1] == "-" else 1) * timedelta(minutes=minutes))
