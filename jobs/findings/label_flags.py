"""Flags: from which probability that a label is wrong on an image is flagged."""

from __future__ import annotations

import numpy as np
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.config import Labels
from udfs.labels import share as label_share
from udfs.labels.share import Estimate


def first_bin(judged: DataFrame, settings: Labels, known: Estimate) -> int:
    """From which bin of the probability that a label is wrong on an image is flagged. judged: label_rows.JUDGED."""
    rows = (
        judged.groupBy(_bin().alias("bin"))
        .agg(F.count("*").alias("images"), F.sum("probability_wrong").alias("wrong")).collect()
    )  # fmt: skip
    images, wrong = np.zeros(label_share.BINS, np.int64), np.zeros(label_share.BINS)
    for row in rows:
        images[row["bin"]], wrong[row["bin"]] = row["images"], row["wrong"]
    wish = settings.flag if settings.precision is None else settings.precision
    return label_share.threshold(images, wrong, wish, known)


def _bin() -> Column:
    return F.least(
        F.floor(F.col("probability_wrong") * label_share.BINS), F.lit(label_share.BINS - 1)
    ).cast("int")  # fmt: skip


def flagged(first: int) -> Column:
    return _bin() >= F.lit(first)
