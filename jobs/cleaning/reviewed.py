"""Reviewed: what people have decided of images, as far as it counts for a clean set."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs import tables
from jobs.lakes import Lake

DECIDED = "decided"  # the issue for which an image goes that a person wants removed


def decided(lake: Lake) -> DataFrame:
    """(image_id, decision, decided_label, decided_by) of images of which a person has decided anything: the last that
    was not taken back. Skipped ones are among them. See the table reviews."""
    rows = lake.read("reviews")
    undone = rows.where(F.col("decision") == tables.UNDO).select(F.col("undoes").alias("batch_id")).distinct()
    counts = rows.where(F.col("decision").isin(*tables.DECISIONS)).join(undone, "batch_id", "left_anti")
    last = F.max_by(F.struct("decision", "label", "by"), F.struct("at", "review_id")).alias("last")
    return (
        counts.groupBy("image_id")
        .agg(last)
        .select(
            "image_id",
            F.col("last.decision").alias("decision"),
            F.col("last.label").alias("decided_label"),
            F.col("last.by").alias("decided_by"),
        )
    )


def kept(decisions: DataFrame) -> DataFrame:
    """(image_id) of those that stay whatever the rules say: to keep, or with another label."""
    return decisions.where(F.col("decision").isin(tables.KEEP, tables.RELABEL)).select("image_id")


def removed(decisions: DataFrame) -> DataFrame:
    """rules.REMOVAL of those that go whatever the rules say."""
    return decisions.where(F.col("decision") == tables.REMOVE).select(
        "image_id",
        F.lit(DECIDED).alias("issue"),
        F.lit(0.0).alias("score"),
        F.lit(None).cast("bigint").alias("evidence_id"),
    )


def relabelled(decisions: DataFrame) -> DataFrame:
    """The rows of rules.corrections that people have made: no figure stands behind them."""
    return decisions.where(F.col("decision") == tables.RELABEL).select(
        "image_id",
        F.col("decided_label").alias("new_label"),
        F.lit(None).cast("double").alias("label_score"),
        F.lit(None).cast("double").alias("confidence"),
    )
