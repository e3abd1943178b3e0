"""What a detector says of a picture."""

from __future__ import annotations

from typing import NamedTuple


class Seen(NamedTuple):
    """found: how many there are. share: of the picture, 0..1: of faces the area of the largest, of text that of all
    together. wide: by the width of the picture, 0..1: the widest."""

    found: int
    share: float
    wide: float


NOTHING = Seen(0, 0.0, 0.0)
