"""The closed list of relations between two pictures, and how they are kept as a number."""

from __future__ import annotations

from collections.abc import Iterable

SAME_PIXELS = "same_pixels"
RECOMPRESSED = "recompressed"
RESIZED = "resized"
BRIGHTNESS = "brightness"
CROPPED = "cropped"
MIRRORED = "mirrored"
TURNED = "turned"
FRAMED = "framed"
OVERLAY = "overlay"
GREY = "grey"
RECOLOURED = "recoloured"
OTHER_DETAIL = "other_detail"
UNLIKE = "unlike"
# In the order in which they are told.
RELATIONS = (
    SAME_PIXELS,
    RECOMPRESSED,
    RESIZED,
    BRIGHTNESS,
    CROPPED,
    MIRRORED,
    TURNED,
    FRAMED,
    OVERLAY,
    GREY,
    RECOLOURED,
    OTHER_DETAIL,
    UNLIKE,
)
EDITS = RELATIONS[: RELATIONS.index(RECOLOURED)]  # after which the content is the same

_INDEX = {name: number for number, name in enumerate(RELATIONS)}


def to_bits(relations: Iterable[str]) -> int:
    """Relations as a number: bit n stands for RELATIONS[n]."""
    return sum(1 << _INDEX[name] for name in relations)
