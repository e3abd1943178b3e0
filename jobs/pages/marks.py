"""Pictures of what differs between an image and what it is a copy, or a look-alike, of."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import simplejpeg
from pyspark.sql import Row

from jobs import tables
from jobs.engines.frames import frame_of, small
from jobs.lakes import Lake
from udfs.images.looks import Look
from udfs.images.marks import MARKED, marked

QUALITY = 85  # of JPEG


def marks(
    lake: Lake, rows: Sequence[Row], there: set[str], side: int
) -> tuple[dict[tuple[int, str], str], dict[str, bytes]]:
    """The mark of each (image_id, issue) that has one, as a path in the report, and the JPEG of those that are not
    there yet. rows: of `issues`, bounded by the settings of the report. there: paths. side: of thumbnails, part of the
    name."""
    wanted = [
        row
        for row in rows
        if row["issue"] in (tables.NEAR_DUPLICATE, tables.LOOK_ALIKE) and MARKED & set((row["detail"] or "").split())
    ]
    if not wanted:
        return {}, {}
    ids = sorted({row[name] for row in wanted for name in ("image_id", "evidence_id")})
    asked = frame_of(lake.spark, [(i,) for i in ids], "image_id bigint")
    columns = ("image_id", "pixel_hash", "look", "width", "height", "medium", "format")
    found = lake.read("features").join(small(asked), "image_id").select(*columns).collect()
    known = {row["image_id"]: row for row in found}
    named: dict[tuple[int, str], str] = {}
    drawn: dict[str, bytes] = {}
    for row in wanted:
        one, two = known.get(row["image_id"]), known.get(row["evidence_id"])
        if one is None or two is None:
            continue
        told = f"mark {side} {one['pixel_hash']} {two['pixel_hash']}"
        path = f"thumbs/{row['image_id']}-{hashlib.sha256(told.encode()).hexdigest()[:12]}.jpg"
        if path not in there and path not in drawn:
            picture = marked(*(Look.of(bytes(of["look"]), *of[3:]) for of in (one, two)))
            if picture is None:
                continue
            drawn[path] = simplejpeg.encode_jpeg(picture, quality=QUALITY)
        named[row["image_id"], row["issue"]] = path
    return named, drawn
