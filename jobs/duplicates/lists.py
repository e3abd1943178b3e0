"""Lists of neighbours: as rows of the table, and what of them holds after a change."""

from __future__ import annotations

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.types import DoubleType, LongType, StructField, StructType

from jobs.tables import TABLES

FOUND = StructType(
    [
        StructField("image_id", LongType(), False),
        StructField("neighbour_id", LongType(), False),
        StructField("cosine", DoubleType(), False),
    ]
)


def pairs_of(lists: DataFrame) -> DataFrame:
    """MERGED as the rows of `neighbours`."""
    one_by_one = lists.select("image_id", "cosines", F.posexplode("neighbour_ids").alias("place", "neighbour_id"))
    rank, cosine = (F.col("place") + 1).cast("int"), F.get("cosines", "place")
    return one_by_one.select("image_id", rank.alias("rank"), "neighbour_id", cosine.alias("cosine"))


def still_valid(old: DataFrame, fresh: DataFrame, gone: DataFrame) -> tuple[DataFrame, DataFrame]:
    """What of the old lists can be kept.

    old: `neighbours`. fresh, gone: (image_id), images that are new (or changed) and that are there no more.
    Returns (FOUND, pairs of images that are neither; (image_id), images to search again: they lost a neighbour)."""
    as_neighbour = F.col("image_id").alias("neighbour_id")
    orphans = (
        old.join(gone.select(as_neighbour), "neighbour_id", "left_semi")
        .select("image_id")
        .distinct()
        .join(gone.select("image_id"), "image_id", "left_anti")
    )
    kept = old
    for left_out in (orphans, gone, fresh):
        kept = kept.join(left_out.select("image_id"), "image_id", "left_anti")
    return kept.join(fresh.select(as_neighbour), "neighbour_id", "left_anti").select(*FOUND.names), orphans


def merged_pairs(found: DataFrame, kept: DataFrame, images: DataFrame, k: int) -> DataFrame:
    """The k nearest of each image of both. found, kept: FOUND. images: (image_id, content_key).

    Returns the columns of `neighbours`."""
    pairs = found.unionByName(kept).dropDuplicates(["image_id", "neighbour_id"])
    keys = images.select(F.col("image_id").alias("neighbour_id"), "content_key")
    order = Window.partitionBy("image_id").orderBy(F.desc("cosine"), "content_key", "neighbour_id")
    return (
        pairs.join(keys, "neighbour_id")
        .withColumn("rank", F.row_number().over(order).cast("int"))
        .where(F.col("rank") <= k)
        .select(*TABLES["neighbours"].schema.names)
    )
