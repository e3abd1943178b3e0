"""Label sets: of images with several labels, which of these do not hold, and which hold that are missing.

The model of udfs/labels/sets.py is fitted on the driver to a bounded sample of images, drawn by content; then all are
judged where they are. Of an image the table holds its given labels, and of all others only those that are flagged, a
few at most."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from jobs import tables
from jobs.config import Labels
from jobs.engines.frames import batch_rows, keep, map_batches, small, to_arrow
from jobs.findings.label_classes import (
    SAMPLE_PARTS,
    SEEN_TOGETHER,
    Classes,
    class_sizes,
    left_out,
)
from jobs.findings.label_flags import first_bin, flagged
from jobs.findings.rows import issue_rows
from jobs.lakes import Lake
from udfs.labels import set_rows, sets
from udfs.labels.sets import SetModel, Sets
from udfs.labels.share import Estimate

TABLE = "label_sets"
BROADCAST_IMAGES = 300_000  # up to so many, each task gets the labels of all, and no vector is shuffled
ARROW_ROWS = 2048  # images in a batch on their way to Python
TOO_MUCH, MISSING = "probably not: ", "missing: "  # in the detail of an issue
NAMED = 10  # labels in it of either kind


@dataclass(frozen=True)
class Judged:
    """images: with a set of labels. classes: judged. flagged: images. wrong: share of the given labels that does not
    hold by estimate, None where none can be shown. why: of label_classes.left_out."""

    images: int
    labels: int
    classes: int
    flagged: int
    wrong: float | None
    why: DataFrame


def judge(lake: Lake, settings: Labels, grouped: DataFrame, vectors: DataFrame) -> Judged:
    """Writes the table. grouped: of jobs.labels.grouped_images, with `labels`. vectors: (image_id, vector)."""
    asked = keep(
        grouped.where(F.col("labels").isNotNull()).select(
            "image_id", "content_key", "group_key", "stands", "labels",
            F.pmod(F.xxhash64(F.lit("fold"), "group_key"), F.lit(settings.folds)).cast("int").alias("fold"),
        )
    )  # fmt: skip
    total = asked.count()
    sizes = keep(class_sizes(asked.withColumn("label", F.explode("labels"))))
    classes = Classes.of(sizes, settings.min_images, settings.max_classes)
    reasons: dict[str, str | None] = dict.fromkeys(classes.names)
    model, wrong = None, None
    with batch_rows(lake.spark, ARROW_ROWS):
        while len(classes.names) and model is None:
            sample = drawn(lake, asked, vectors, classes, settings.sample_images)
            lacks = (
                sets.lacking(sample.given, sample.folds, settings.folds)
                if len(sample)
                else np.ones(len(classes.names), np.bool_)
            )
            if not lacks.any():
                model, wrong = sets.fit(sample, settings.folds)
                break
            reasons |= {name: SEEN_TOGETHER for name, lack in zip(classes.names, lacks, strict=True) if lack}
            left = np.flatnonzero(~lacks)
            classes = Classes([classes.names[n] for n in left], classes.images[left], classes.standing[left])
        if model is None:
            lake.empty(TABLE)
        else:
            write(lake, settings, asked, vectors, model, classes.names, total, wrong)
    images = lake.read(TABLE).where("flagged").select("image_id").distinct().count()
    why = keep(left_out(sizes, reasons, settings))
    return Judged(total, why.count(), len(classes.names) if model else 0, images, wrong, why)


def drawn(lake: Lake, asked: DataFrame, vectors: DataFrame, classes: Classes, sample_images: int) -> Sets:
    """The images that the model is fitted to, weighed by how seldom their like is drawn."""
    numbers = classes.numbered(lake, sample_images)
    total = int(asked.where("stands").count())
    least = min(SAMPLE_PARTS, -(-sample_images * SAMPLE_PARTS // max(2 * total, 1)))
    parts = F.greatest(F.coalesce(F.col("parts"), F.lit(0)), F.lit(least))
    place = F.pmod(F.xxhash64(F.lit("sample"), "content_key"), F.lit(SAMPLE_PARTS))
    chosen = (
        asked.where("stands")
        .select("image_id", "content_key", F.explode_outer("labels").alias("label"))
        .join(small(numbers), "label", "left")
        .groupBy("image_id", "content_key")
        .agg(F.max(parts).alias("parts"))
        .where(place < F.col("parts"))
        .select("image_id", "parts")
    )
    rows = asked.select("image_id", "content_key", "fold", "labels").join(small(chosen), "image_id")
    table = to_arrow(vectors.join(small(rows), "image_id"))
    order = np.lexsort((table["image_id"].to_numpy(), table["content_key"].to_numpy()))
    table = table.take(order)
    weights = SAMPLE_PARTS / np.asarray(table["parts"].to_numpy(), np.float64)
    return set_rows.sets_of(table, pa.array(classes.names, pa.string()), weights / max(float(weights.mean()), 1e-9))


def write(
    lake: Lake, settings: Labels, asked: DataFrame, vectors: DataFrame, model: SetModel, names: list[str], total: int,
    wrong: float | None,
) -> None:  # fmt: skip
    """Judges all images and writes what of it the table holds. total: of them. wrong: of Judged."""
    narrow = asked.select(*set_rows.ASKED[:-1])
    rows = vectors.join(small(narrow) if total <= BROADCAST_IMAGES else narrow, "image_id").select(*set_rows.ASKED)
    judged = keep(map_batches(rows, set_rows.judged(model, names), from_arrow_schema(set_rows.JUDGED)))
    known = Estimate(wrong or 0.0, wrong or 0.0, 1.0)
    marked = judged.withColumn("flagged", flagged(first_bin(judged, settings, known)))
    lake.overwrite(TABLE, marked.where(F.col("given") | F.col("flagged")).drop("probability_wrong"))


def wrong_set_issues(judged: DataFrame) -> DataFrame:
    """Images with a set of which a label does not hold or is missing. judged: the table. The score is the probability
    that the worst of them is right, and the detail names them: a set cannot be put right by one label."""
    wrong = (
        judged.where("flagged")
        .groupBy("image_id")
        .agg(
            F.min(F.when(F.col("given"), F.col("probability")).otherwise(1 - F.col("probability"))).alias("score"),
            F.sort_array(F.collect_list(F.when(F.col("given"), F.col("label")))).alias("much"),
            F.sort_array(F.collect_list(F.when(~F.col("given"), F.col("label")))).alias("lacks"),
        )
    )
    told = F.concat_ws("; ", *(_named(name, word) for name, word in (("much", TOO_MUCH), ("lacks", MISSING))))
    rows = wrong.select("image_id", F.lit(tables.WRONG_LABEL).alias("issue"), "score", told.alias("detail"))
    return issue_rows(rows, "review")


def _named(column: str, word: str) -> Column:
    """The first labels of a list, null where there is none."""
    more = F.when(F.size(column) > NAMED, ", …").otherwise("")
    return F.when(F.size(column) > 0, F.concat(F.lit(word), F.array_join(F.slice(column, 1, NAMED), ", "), more))
