"""Exact copies: images of equal pixels form a group, and one of each, its representative, goes on to the search."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from jobs.tables import Lake

# The rule by which one image is better than another, best first: more pixels, then sharper, then more bytes, then the
# URI, so that ties have an end. Times are left out: copying a folder to S3 must not change who is kept.
BEST_FIRST = ("pixels", "sharpness", "size_bytes", "uri")


def ranked_images(lake: Lake, model: str) -> DataFrame:
    """All embedded images with their group of equal pixels.

    Returns (image_id, pixel_hash, content_key BIGINT, pixels, sharpness, size_bytes, uri, split, representative_id).
    A group is ordered inside one task: it must fit its memory and disk, about 10 million copies a GB."""
    embedded = lake.require("embeddings", "embed").where(F.col("model") == model).select("image_id")
    features = lake.require("features", "embed").select(
        "image_id", "pixel_hash", (F.col("width").cast("long") * F.col("height")).alias("pixels"), "sharpness"
    )
    images = lake.require("images", "catalog").select("image_id", "uri", "size_bytes", "split")
    rows = embedded.join(features, "image_id").join(images, "image_id").withColumn("content_key", content_key())
    first = F.first("image_id").over(Window.partitionBy("pixel_hash").orderBy(*best_first()))
    return rows.withColumn("representative_id", first)


def content_key() -> Column:
    """64 bits of the pixels' hash as BIGINT: tells that the content of an id changed, and orders equally near images
    by something that does not depend on ids."""
    return F.conv(F.substring("pixel_hash", 1, 15), 16, 10).cast("long")


def best_first() -> list[Column]:
    """The order of BEST_FIRST for a window or a sort."""
    return [F.desc("pixels"), F.desc("sharpness"), F.desc_nulls_last("size_bytes"), F.asc("uri")]
