"""Exact copies: images of equal pixels form a group, and one of each, its representative, goes on to the search."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.lakes import Lake
from udfs.images.compression import SQUEEZED

# The rule by which one image is better than another, best first, so that an original comes before its edits: more
# pixels; not squeezed; older, for an edit is made after its original; more bytes; the shorter name, for "a (1).jpg" and
# "a-edited.jpg" were "a.jpg"; then the URI, so that ties have an end. An unknown time or size comes last.
# Sharpness is not asked: a text over a picture has sharper edges than the picture. tests.bench.clean measures it all.
ORDER = {
    "pixels": "descending",
    "is_squeezed": "ascending",
    "modified_at": "ascending",
    "size_bytes": "descending",
    "uri_length": "ascending",
    "uri": "ascending",
}
BEST_FIRST = tuple(ORDER)


def with_order(images: DataFrame) -> DataFrame:
    """Adds what BEST_FIRST asks for and lacks. images: width, height and jpeg_quality of `features`, and uri."""
    return images.withColumns(
        {
            "pixels": F.col("width").cast("long") * F.col("height"),
            "is_squeezed": F.col("jpeg_quality") < SQUEEZED,
            "uri_length": F.length("uri"),
        }
    )


def ordered_images(lake: Lake) -> DataFrame:
    """(image_id, BEST_FIRST) of all images that have features."""
    images = lake.require("images").select("image_id", "uri", "size_bytes", "modified_at")
    features = lake.require("features").select("image_id", "width", "height", "jpeg_quality")
    return with_order(features.join(images, "image_id")).select("image_id", *BEST_FIRST)


def find_copies(lake: Lake, model: str) -> DataFrame:
    """The rows of `copies`: all embedded images, each with the best one of equal pixels.

    A group of copies may be any share of the lake: no task sees more of it than lies in its partition."""
    embedded = lake.require("embeddings").where(F.col("model") == model).select("image_id")
    features = lake.require("features").select("image_id", "pixel_hash", content_key().alias("content_key"))
    hashed = embedded.join(features, "image_id")
    shared = features.groupBy("content_key").count().where(F.col("count") > 1).select("content_key")
    representatives = best_of_equal(
        hashed.join(shared, "content_key", "left_semi").join(ordered_images(lake), "image_id")
    )
    representative = F.coalesce("representative_id", "image_id").alias("representative_id")
    found = hashed.join(representatives, "pixel_hash", "left")
    return found.select("image_id", representative, "content_key")


def best_of_equal(images: DataFrame) -> DataFrame:
    """(pixel_hash, representative_id): the best of the images of equal pixels. images: image_id, pixel_hash and
    BEST_FIRST."""
    best = images.groupBy("pixel_hash").agg(F.min(F.struct(*ascending(), "image_id")).alias("best"))
    return best.select("pixel_hash", F.col("best.image_id").alias("representative_id"))


def redundant_ids(duplicates: DataFrame) -> DataFrame:
    """(image_id) of the images whose cluster keeps another. duplicates: the table."""
    return duplicates.where(~F.col("is_keeper")).select("image_id")


def content_key() -> Column:
    """64 bits of the pixels' hash as BIGINT: tells that the content of an id changed, and orders equally near images
    by something that does not depend on ids."""
    return F.conv(F.substring("pixel_hash", 1, 15), 16, 10).cast("long")


def best_first() -> list[Column]:
    """The order of BEST_FIRST for a window or a sort."""
    return [F.desc_nulls_last(name) if how == "descending" else F.asc_nulls_last(name) for name, how in ORDER.items()]


def ascending() -> list[Column]:
    """The order of BEST_FIRST as values of which the least is the best: for an aggregate, which each task begins."""
    columns = []
    for name, how in ORDER.items():
        columns.append(F.col(name).isNull().alias(f"no_{name}"))
        columns.append((-F.col(name) if how == "descending" else F.col(name)).alias(name))
    return columns
