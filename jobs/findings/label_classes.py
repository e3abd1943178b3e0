"""The classes of a lake's labels: how large they are, which are judged, and why others are not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.config import Labels
from jobs.engines.frames import frame_of, small
from jobs.lakes import Lake

LEAST_SAMPLE = 20  # images a class
SAMPLE_PARTS = 1_000_000
ONLY_ONE = "the only class with enough images"
SEEN_TOGETHER = "too few different images in the sample"


def class_sizes(grouped: DataFrame) -> DataFrame:
    """(label, images, different: clusters, standing: those that a model may learn from) of each label."""
    return (
        grouped.where(F.col("label").isNotNull())
        .groupBy("label")
        .agg(
            F.count("*").alias("images"),
            F.countDistinct("group_key").alias("different"),
            F.count_if("stands").alias("standing"),
        )
    )


@dataclass(frozen=True)
class Classes:
    """The classes that are judged, by name. images, standing: (C,)."""

    names: list[str]
    images: NDArray[np.int64]
    standing: NDArray[np.int64]

    @staticmethod
    def of(sizes: DataFrame, min_images: int, max_classes: int) -> Classes:
        """The largest with enough different images. sizes: of class_sizes."""
        kept = sizes.where(F.col("different") >= min_images).orderBy(F.desc("different"), "label").limit(max_classes)
        rows = sorted(kept.select("label", "images", "standing").collect())
        numbers = np.array([row[1:] for row in rows], np.int64).reshape(len(rows), 2)
        return Classes([row[0] for row in rows], numbers[:, 0], numbers[:, 1])

    def numbered(self, lake: Lake, sample_images: int) -> DataFrame:
        """(label, class, parts: of SAMPLE_PARTS, how many of its images the model is fitted to)."""
        count, total = len(self.names), int(self.standing.sum())
        wanted = max(sample_images, LEAST_SAMPLE * count)
        share = wanted / 2 / max(total, 1) + wanted / 2 / count / np.maximum(self.standing, 1)
        parts = np.ceil(np.minimum(1.0, share if total > wanted else 1.0) * np.ones(count) * SAMPLE_PARTS)
        rows = list(zip(self.names, range(count), parts.astype(int).tolist(), strict=True))
        return frame_of(lake.spark, rows, "label STRING, class INT, parts INT")


def left_out(sizes: DataFrame, told: dict[str, str | None], settings: Labels) -> DataFrame:
    """(label, why_left_out or null) of each label. sizes: of class_sizes. told: of the classes that are large enough
    and not too many, why they were not judged, or None."""
    rows = [(*row, True) for row in told.items()]
    known = frame_of(sizes.sparkSession, rows, "label STRING, why STRING, kept BOOLEAN")
    few = F.lit(f"fewer than {settings.min_images:,} different images")
    many = F.lit(f"more than {settings.max_classes:,} classes are larger")
    why = F.when(F.col("kept"), F.col("why")).when(F.col("different") < settings.min_images, few).otherwise(many)
    return sizes.join(small(known), "label", "left").select("label", why.alias("why_left_out"))
