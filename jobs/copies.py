"""Exact copies: images of equal pixels form a group, and one of each, its representative, goes on to the search."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.tables import Lake

# The rule by which one image is better than another, best first: more pixels, then sharper, then more bytes, then older
# (an unknown size or time last), then the URI, so that ties have an end.
BEST_FIRST = ("pixels", "sharpness", "size_bytes", "modified_at", "uri")


def ranked_images(lake: Lake, model: str) -> DataFrame:
    """All embedded images with their group of equal pixels.

    Returns (image_id, pixel_hash, content_key BIGINT, pixels, sharpness, size_bytes, modified_at, uri, split,
    representative_id). A group may be any share of the lake: no task sees more of it than lies in its partition."""
    embedded = lake.require("embeddings", "embed").where(F.col("model") == model).select("image_id")
    features = lake.require("features", "embed").withColumn("content_key", content_key())
    images = lake.require("images", "catalog").select("image_id", "uri", "size_bytes", "modified_at", "split")

    def rows(of: DataFrame) -> DataFrame:
        pixels = (F.col("width").cast("long") * F.col("height")).alias("pixels")
        narrow = of.select("image_id", "pixel_hash", "content_key", pixels, "sharpness")
        return embedded.join(narrow, "image_id").join(images, "image_id")

    shared = features.groupBy("content_key").count().where(F.col("count") > 1).select("content_key")
    representatives = (
        rows(features.join(shared, "content_key", "left_semi"))
        .groupBy("pixel_hash")
        .agg(F.min(F.struct(*ascending(), "image_id")).alias("best"))
        .select("pixel_hash", F.col("best.image_id").alias("representative_id"))
    )
    representative = F.coalesce("representative_id", "image_id")
    return rows(features).join(representatives, "pixel_hash", "left").withColumn("representative_id", representative)


def content_key() -> Column:
    """64 bits of the pixels' hash as BIGINT: tells that the content of an id changed, and orders equally near images
    by something that does not depend on ids."""
    return F.conv(F.substring("pixel_hash", 1, 15), 16, 10).cast("long")


def best_first() -> list[Column]:
    """The order of BEST_FIRST for a window or a sort."""
    return [
        F.desc("pixels"),
        F.desc("sharpness"),
        F.desc_nulls_last("size_bytes"),
        F.asc_nulls_last("modified_at"),
        F.asc("uri"),
    ]


def ascending() -> list[Column]:
    """The order of BEST_FIRST as values of which the least is the best: for an aggregate, which each task begins."""
    known = [F.col(name).isNull().alias(f"no_{name}") for name in ("size_bytes", "modified_at")]
    return [
        (-F.col("pixels")).alias("pixels"),
        (-F.col("sharpness")).alias("sharpness"),
        known[0],
        (-F.col("size_bytes")).alias("size_bytes"),
        known[1],
        F.col("modified_at"),
        F.col("uri"),
    ]
