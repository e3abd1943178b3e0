"""Issues of labels: those that are likely wrong, and those on which the copies of an image do not agree."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs import tables
from jobs.findings.rows import issue_rows, unlike


def has_label() -> Column:
    """Whether the column label says something: a manifest may hold empty texts."""
    return F.trim("label") != ""


def wrong_label_issues(labels: DataFrame) -> DataFrame:
    """The flagged images, with the label that they should have. labels: the table. The evidence is the nearest
    neighbour with that label, else an image that is typical of it."""
    rows = labels.where("flagged").select(
        "image_id", F.lit(tables.WRONG_LABEL).alias("issue"), "score", "evidence_id", "suggested_label"
    )
    return issue_rows(rows, "relabel")


def conflict_issues(duplicates: DataFrame, images: DataFrame) -> DataFrame:
    """An image with a duplicate that has another label, or others of several; the evidence is the best of those, the
    keeper where it can be.

    Skew: of a cluster only its two best labels count, however many it has. The score is one minus the cosine of the
    image and the evidence through their keeper (the lower of the two); the detail is its relation to that keeper."""
    several = F.col("labels").isNotNull()
    label = F.when(several, F.array_join("labels", "\n")).otherwise(F.col("label"))
    labelled = images.where(has_label() | several).select("image_id", label.alias("label"), "uri")
    members = duplicates.join(labelled, "image_id")
    order = F.struct(
        ~F.col("is_keeper"), 1 - F.col("cosine_to_keeper"), "uri", "image_id", "cosine_to_keeper", "label"
    ).alias("best")
    by_label = members.groupBy("cluster_id", "label").agg(F.min(order).alias("best"))
    # The two least of the labels' best: the second is for those whose label is that of the first.
    first = by_label.groupBy("cluster_id").agg(F.min("best").alias("first"), F.count("*").alias("labels"))
    first = first.where(F.col("labels") > 1)
    others = by_label.join(first, "cluster_id").where(F.col("label") != F.col("first.label"))
    second = others.groupBy("cluster_id").agg(F.first("first").alias("first"), F.min("best").alias("second"))
    chosen = members.join(second, "cluster_id").withColumn(
        "there", F.when(F.col("label") == F.col("first.label"), F.col("second")).otherwise(F.col("first"))
    )
    cosine = F.least("cosine_to_keeper", "there.cosine_to_keeper")
    rows = chosen.select(
        "image_id",
        F.lit(tables.LABEL_CONFLICT).alias("issue"),
        unlike(cosine).alias("score"),
        F.col("there.image_id").alias("evidence_id"),
        F.when(~F.col("is_keeper"), F.col("relation")).alias("detail"),
    )
    return issue_rows(rows, "review")
