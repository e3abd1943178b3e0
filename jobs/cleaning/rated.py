"""Rated: of each cluster, topic or label only the best by a rating stay. Plans only; nothing is written."""

from __future__ import annotations

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from jobs import config
from jobs.errors import ConfigError
from jobs.lakes import Lake

LOW_RATING = "low_rating"  # the issue for which an image goes of which others of its group are rated higher
BY = {"cluster": ("duplicates", "cluster_id"), "topic": ("topics", "topic_id"), "label": ("images", "label")}


def check(lake: Lake, rules: config.Clean) -> None:
    """Raises ConfigError for a rating that no image has: nothing would go, and nobody would know."""
    if rules.rating is not None and lake.read("ratings").where(F.col("rating") == F.lit(rules.rating)).isEmpty():
        raise ConfigError(f"clean.rating: no image has a score of {rules.rating!r}: run `imagesieve rate` first")


def lower_rated(lake: Lake, rules: config.Clean, free: DataFrame) -> DataFrame:
    """REMOVAL of images that are not among the best of their group by clean.rating. free: (image_id) of those that may
    go and do not go anyway; those that stay in any case count for nobody. Images without a score or a group stay.

    score: the percentile of the image; the evidence is the best of the group. From one row on a group keeps one."""
    table, column = BY[rules.rating_by]
    groups = lake.read(table).select("image_id", F.col(column).alias("group")).where(F.col("group").isNotNull())
    rated = lake.read("ratings").where(F.col("rating") == F.lit(rules.rating)).select("image_id", "score", "percentile")
    rows = free.join(rated, "image_id").join(groups, "image_id")
    order = Window.partitionBy("group").orderBy(F.desc("score"), F.asc("image_id"))
    numbered = rows.withColumn("place", F.row_number().over(order))
    best = numbered.where("place = 1").select("group", F.col("image_id").alias("evidence_id"))
    sizes = rows.groupBy("group").agg(F.count("*").alias("images"))
    keep = rules.rating_keep
    most = F.lit(int(keep)) if keep >= 1 else F.greatest(F.lit(1), F.ceil(F.col("images") * keep).cast("int"))
    gone = numbered.join(sizes, "group").where(F.col("place") > most).join(best, "group")
    return gone.select("image_id", F.lit(LOW_RATING).alias("issue"), F.col("percentile").alias("score"), "evidence_id")
