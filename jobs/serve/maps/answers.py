"""What the app answers of the map: where all pictures lie, what their colours mean, and which of them a view holds.

All of it is of the gallery's rows in their order, as bytes that the page can use as they are."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.serve.columns import NULL, STEPS, Coded, Columns, Rows

COLOURS = 20  # values of a facet that have a colour of their own, the most common ones
OTHERS = 255  # the code of all further ones
SHADES = 254  # of a score, from its low to its high end
AT_AN_END = 0.01  # of the pictures: so many lie beyond each end of what the shades tell apart


def positions(columns: Columns) -> bytes:
    """x and y of each row, little-endian uint16, 0 to columns.STEPS; columns.NULL where a picture has no place."""
    both = np.empty((columns.images, 2), "<u2")
    both[:, 0], both[:, 1] = columns.numbers("map_x"), columns.numbers("map_y")
    return both.tobytes()


def colours(column: Coded) -> bytes:
    """The value of each row in one facet: the length of a JSON text as a little-endian uint32, that text, then a byte
    a row: 0 for none, 1 to COLOURS the place in its `names` and one more, OTHERS.

    The text holds names: [[name, rows]], the most common first, none: rows without a value, others: rows with further
    ones. Of several values that a row has at once the first counts."""
    first = [names[0] if names else "" for names in column.names]
    counts: dict[str, int] = {}
    for name, rows in zip(first, np.bincount(column.codes, minlength=len(first)).tolist(), strict=True):
        counts[name] = counts.get(name, 0) + rows
    none = counts.pop("", 0)
    order = sorted((name for name in counts if counts[name]), key=lambda name: (-counts[name], name))
    shown = {name: place + 1 for place, name in enumerate(order[:COLOURS])}
    told: dict[str, Any] = {
        "names": [[name, counts[name]] for name in shown], "none": none,
        "others": sum(counts[name] for name in order[COLOURS:]),
    }  # fmt: skip
    table = np.array([shown.get(name, OTHERS) if name else 0 for name in first], np.uint8)
    text = json.dumps(told, ensure_ascii=False).encode("utf-8", "replace")
    codes: NDArray[np.uint8] = table[column.codes]
    return len(text).to_bytes(4, "little") + text + codes.tobytes()


def shades(values: NDArray[np.uint16]) -> bytes:
    """The score of each row: as colours(), a byte a row being 0 for none, else 1 to SHADES from low to high.

    values: of columns.STEPS, NULL where there is none. The text holds low and high, 0..1, between which all but
    AT_AN_END at each end lie, and none: rows without a score. Where so many have one score, these are the least and the
    highest of all."""
    found = np.bincount(values, minlength=NULL + 1)
    below = np.cumsum(found[:NULL])
    total = int(below[-1])
    low, high = (int(np.searchsorted(below, share * total, side="right")) for share in (AT_AN_END, 1 - AT_AN_END))
    there = np.flatnonzero(found[:NULL])
    if total and min(low, STEPS) >= min(high, STEPS):
        low, high = int(there[0]), int(there[-1])
    low, high = min(low, STEPS), min(high, STEPS)
    table = np.zeros(NULL + 1, np.uint8)
    part = np.clip((np.arange(NULL) - low) / max(1, high - low), 0, 1)
    table[:NULL] = 1 + np.round(part * (SHADES - 1))
    ends = (low, high) if total else (0, STEPS)
    told = {"low": round(ends[0] / STEPS, 5), "high": round(ends[1] / STEPS, 5), "none": int(found[NULL])}
    text = json.dumps(told).encode()
    codes: NDArray[np.uint8] = table[values]
    return len(text).to_bytes(4, "little") + text + codes.tobytes()


def holds(columns: Columns, rows: Rows | None) -> bytes:
    """A bit a row, the lowest of each byte first: whether a view holds it. rows: of the view; None for all."""
    held = np.ones(columns.images, np.bool_) if rows is None else np.zeros(columns.images, np.bool_)
    if rows is not None:
        held[rows] = True
    return np.packbits(held, bitorder="little").tobytes()
