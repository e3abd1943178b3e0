"""The rows that a pass over images takes and gives, as Arrow schemas: nothing stands below them."""

from __future__ import annotations

import pyarrow as pa

# Raw properties of a picture, in this order; see udfs.images.quality.
PROPERTIES = (
    "brightness",
    "brightness_p01",
    "brightness_p05",
    "brightness_p99",
    "peak",
    "clipped",
    "clipped_colour",
    "contrast",
    "sharpness",
    "edge_frequency",
    "noise",
    "blockiness",
    "jpeg_quality",
    "flat_share",
    "entropy",
    "colourfulness",
    "brisque",
)

# Where an image is: the fields of udfs.stores.fetch.Reference, in their order.
REFERENCE = pa.schema(
    [("uri", pa.string()), ("shard", pa.string()), ("shard_offset", pa.int64()), ("size_bytes", pa.int64())]
)
FEATURES = pa.schema(
    [
        ("sha256", pa.string()),
        ("pixel_hash", pa.string()),
        ("perceptual_hash", pa.int64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("format", pa.string()),
        ("damage", pa.string()),
        ("medium", pa.string()),
        ("thumbnail", pa.binary()),
        ("look", pa.binary()),
        ("taken_at", pa.timestamp("us", tz="UTC")),
        *[(name, pa.float64()) for name in PROPERTIES],
    ]
)
# What the job says of an image to be read, beside where it is: handed on as it is.
HANDED_ON = pa.schema(
    [("image_id", pa.int64()), ("etag", pa.string()), ("has_features", pa.bool_()), ("attempt", pa.int32())]
)
GIVEN_VECTOR = "given_vector"  # float32 numbers where vectors are imported, else null
PENDING = pa.schema([*REFERENCE, *HANDED_ON, (GIVEN_VECTOR, pa.list_(pa.float32()))])
EMBEDDED = pa.schema(
    [
        *HANDED_ON,
        *FEATURES,
        ("vector", pa.list_(pa.float32())),
        ("norm", pa.float32()),
        ("transform", pa.string()),
        ("error", pa.string()),
        ("detail", pa.string()),
    ]
)
THUMBNAILS = pa.schema([("image_id", pa.int64()), ("jpeg", pa.binary())])
READ_SCORES = pa.schema([("image_id", pa.int64()), ("score", pa.float64())])  # null where it could not be read
# Of a rating, a place in a list of heads: the map of a picture row by row, each `columns` long; null where it could not
# be read. exact: whether it adds up to the score.
MAPPED = pa.schema(
    [
        ("image_id", pa.int64()),
        ("place", pa.int32()),
        ("shares", pa.list_(pa.float64())),
        ("columns", pa.int32()),
        ("exact", pa.bool_()),
    ]
)
# What detectors are to look at: names of udfs.detection.detectors. again: whether the table knows it already.
LOOKED_FOR = pa.schema(
    [
        *REFERENCE,
        ("image_id", pa.int64()),
        ("etag", pa.string()),
        ("again", pa.bool_()),
        ("wanted", pa.list_(pa.string())),
    ]
)
# An error of udfs.errors, or what was seen: see udfs.detection.seen; width in pixels of the original.
SEEN = pa.struct(
    [
        ("detector", pa.string()),
        ("found", pa.int32()),
        ("share", pa.float64()),
        ("width", pa.int32()),
        ("error", pa.string()),
    ]
)
DETECTED = pa.schema([("image_id", pa.int64()), ("etag", pa.string()), ("again", pa.bool_()), ("seen", pa.list_(SEEN))])
