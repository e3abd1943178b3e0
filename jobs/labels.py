"""Labels: says which labels are likely wrong, from a classifier on the embeddings and from the neighbours.

The model is fitted on the driver to a bounded sample of images, drawn by content; then all images are judged where they
are. What it computes stands in udfs/labels/model.py. Duplicates are in one fold of the cross-validation,
whatever their splits, and do not vote for one another."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, FloatType, LongType, StructField, StructType

from jobs.engines.frames import batch_rows, frame_of, keep, map_batches, small, to_arrow
from jobs.findings import label_notes, label_sets
from jobs.findings.label_classes import ONLY_ONE, SAMPLE_PARTS, SEEN_TOGETHER, Classes, class_sizes, left_out
from jobs.findings.label_flags import first_bin, flagged
from jobs.findings.label_issues import has_label
from jobs.lakes import Lake, each_label
from jobs.neighbours import step
from jobs.stage import Context, Counts, Stage, submitted
from jobs.tables import TABLES
from udfs.labels import model as label_model
from udfs.labels import rows as label_rows
from udfs.labels import share as label_share
from udfs.labels.classifier import Examples
from udfs.labels.effect import accuracies
from udfs.labels.model import Fitted, LabelModel

JOB = "labels"
WRITTEN = ("labels", "confusions", "classes", label_sets.TABLE)
BROADCAST_IMAGES = (
    300_000  # up to so many, each task gets what is asked of all (about 60 MB), and no vector is shuffled
)
ARROW_ROWS = 2048  # images in a batch on their way to Python: 10 MB of 1,280 numbers each
# Of a class, in all splits together: the share of its labels that is wrong, with its interval, and the accuracies of
# udfs.labels.effect.
TOLD = ("noise", "noise_low", "noise_high", "accuracy", "accuracy_corrected", "accuracy_without")
TOLD_SCHEMA = "label STRING, " + ", ".join(f"{name} DOUBLE" for name in TOLD)


def grouped_images(copies: DataFrame, images: DataFrame, duplicates: DataFrame) -> DataFrame:
    """All embedded images with what makes them belong together.

    copies, images, duplicates: the tables. Returns (image_id, representative_id, content_key, split, label or null,
    group_key: equal for the images of a cluster, by their content, and stands: the one that a model learns from, so
    that an image counts once however often it is there)."""
    members = duplicates.select("image_id", "cluster_id", "is_keeper").join(
        copies.select("image_id", "content_key"), "image_id"
    )
    keys = members.groupBy("cluster_id").agg(F.min("content_key").alias("cluster_key"))
    in_cluster = members.join(keys, "cluster_id").select("image_id", "cluster_key", "is_keeper")
    labels = images.select("image_id", "split", F.when(has_label(), F.col("label")).alias("label"), "labels")
    return (
        copies.join(labels, "image_id")
        .join(in_cluster, "image_id", "left")
        .withColumn("group_key", F.coalesce("cluster_key", "content_key"))
        .withColumn("stands", F.coalesce("is_keeper", F.lit(True)))
        .drop("cluster_key", "is_keeper")
    )


def asked_images(grouped: DataFrame, numbers: DataFrame, neighbours: DataFrame, folds: int) -> DataFrame:
    """What is asked of each image of a class that is judged.

    Returns (image_id, content_key, class, fold, in_sample, and the near_* lists of label_rows.ASKED). Copies have the
    neighbours of their representative. A cluster has one vote, its keeper's, and none for
    its own images; any neighbour may be evidence."""
    mine = grouped.join(small(numbers), "label").withColumns(
        {
            "fold": F.pmod(F.xxhash64(F.lit("fold"), "group_key"), F.lit(folds)).cast("int"),
            "in_sample": F.col("stands")
            & (F.pmod(F.xxhash64(F.lit("sample"), "content_key"), F.lit(SAMPLE_PARTS)) < F.col("parts")),
        }
    )
    here = grouped.select(F.col("image_id").alias("representative_id"), F.col("group_key").alias("here"))
    there = mine.select(F.col("image_id").alias("neighbour_id"), F.col("group_key").alias("there"), "class", "stands")
    votes = F.col("stands") & (F.col("here") != F.col("there"))
    one = F.struct("rank", F.col("neighbour_id").alias("id"), "class", votes.cast("int").alias("votes"))
    near = (
        neighbours.select(F.col("image_id").alias("representative_id"), "rank", "neighbour_id")
        .join(there, "neighbour_id")
        .join(here, "representative_id")
        .groupBy("representative_id")
        .agg(F.sort_array(F.collect_list(one)).alias("near"))
    )
    return mine.join(near, "representative_id", "left").select(
        "image_id", "content_key", "class", "fold", "in_sample",
        F.col("near.id").alias("near_ids"), F.col("near.class").alias("near_classes"),
        F.col("near.votes").alias("near_votes"),
    )  # fmt: skip


@dataclass(frozen=True)
class Sample:
    """The images that the model is fitted to. ids: (n,), examples: in their order."""

    ids: NDArray[np.int64]
    examples: Examples
    lacking: NDArray[np.bool_]  # (C,) classes that no model can be fitted to: with any of these there is none

    def fitted(self, classes: Classes, folds: int) -> Fitted | None:
        if not len(self.ids) or self.lacking.any() or len(classes.names) < 2:
            return None
        return label_model.fit(self.examples, classes.standing, folds)


def drawn(asked: DataFrame, vectors: DataFrame, classes: Classes) -> Sample:
    """asked: of asked_images. vectors: (image_id, vector)."""
    chosen = asked.where("in_sample").select("content_key", *label_rows.ASKED[:-1])
    table = to_arrow(vectors.join(small(chosen), "image_id"))
    ids, keys = table["image_id"].to_numpy(), table["content_key"].to_numpy()
    order = np.lexsort((ids, keys))
    examples = label_rows.examples_of(table.take(order))
    lacking = ~label_model.in_two_folds(examples.classes, examples.folds, len(classes.names))
    return Sample(ids[order], examples, lacking)


def judged_images(
    asked: DataFrame, vectors: DataFrame, model: LabelModel, classes: Classes, typical: NDArray[np.int64], total: int
) -> DataFrame:
    """label_rows.JUDGED of all that is asked; total: so many images."""
    narrow = asked.select(*label_rows.ASKED[:-1])
    rows = vectors.join(small(narrow) if total <= BROADCAST_IMAGES else narrow, "image_id")
    return step(rows.select(*label_rows.ASKED), label_rows.judged(model, classes.names, typical), label_rows.JUDGED)


def told_of_classes(lake: Lake, sample: Sample, classes: Classes, found: Fitted, first: int, folds: int) -> DataFrame:
    """(label and the columns of TOLD) of each class that was judged. first: of first_bin."""
    scores = np.round(found.judged.score, label_rows.DIGITS)
    probability = np.round(1 - scores, label_rows.DIGITS)
    marked = np.minimum(np.floor(probability * label_share.BINS), label_share.BINS - 1) >= first
    right = accuracies(
        sample.examples, len(classes.names), folds, found.shrinkage, scores, marked, found.judged.likely
    )  # fmt: skip
    numbers = np.round(np.column_stack([*found.of_class, right]), label_rows.DIGITS)
    rows = [
        (name, *(None if np.isnan(value) else float(value) for value in row))
        for name, row in zip(classes.names, numbers, strict=True)
    ]
    return frame_of(lake.spark, rows, TOLD_SCHEMA)


def confusion_counts(judged: DataFrame) -> DataFrame:
    """The rows of `confusions`: the confident joint off its diagonal. judged: label_rows.JUDGED."""
    joint = judged.where(F.col("confident_label") != F.col("label"))
    sizes = judged.groupBy("label").agg(F.count("*").alias("of"))
    pairs = joint.groupBy("label", F.col("confident_label").alias("other_label")).agg(F.count("*").alias("images"))
    return pairs.join(sizes, "label").select(
        "label", "other_label", "images", F.round(F.col("images") / F.col("of"), label_rows.DIGITS).alias("share")
    )


def class_counts(
    grouped: DataFrame, flags: DataFrame, reasons: DataFrame, told: DataFrame, has_sets: bool
) -> DataFrame:
    """The rows of `classes`. flags: (image_id, label) of flagged labels. reasons: (label, why_left_out). told: of
    told_of_classes. has_sets: whether images have several labels; these count for each of them."""
    if has_sets:
        grouped = grouped.select("image_id", "split", each_label().alias("label"))
    marked = grouped.join(flags.withColumn("is_flagged", F.lit(1)), ["image_id", "label"], "left")
    counted = marked.groupBy("label", "split").agg(
        F.count("*").alias("images"), F.coalesce(F.sum("is_flagged"), F.lit(0)).cast("long").alias("flagged")
    )
    whole = counted.join(reasons, "label", "left").join(small(told), "label", "left")
    return whole.select(*TABLES["classes"].schema.names)


def labels(context: Context) -> Counts:
    """Writes `labels`, `confusions`, `classes` and `label_sets` anew from the other tables."""
    lake, model = context.lake, context.config.embed.model
    images = lake.require("images")
    embedded = lake.require("embeddings").where(F.col("model") == model)
    neighbours, duplicates = lake.require("neighbours"), lake.require("duplicates")
    about = images.agg(
        F.count("*").alias("images"), F.count_if(has_label()).alias("labelled"), F.count("labels").alias("sets")
    ).first()
    notes = [] if about is None else label_notes.first(about.asDict())
    try:
        if about is None or not about["labelled"] + about["sets"]:
            total = embedded.count()
            for name in WRITTEN:
                lake.empty(name)
            return {"in": total, "out": total, "failed": 0, "notes": notes}
        grouped = keep(grouped_images(lake.require("copies"), images, duplicates))
        total, vectors = grouped.count(), _vectors(context)
        found = _judge(context, grouped, total, neighbours, vectors) if about["labelled"] else _unjudged(lake)
        flags = lake.read("labels").where("flagged").select("image_id", "label")
        counts, reasons = found.counts, found.why
        notes += found.notes
        if about["sets"]:
            of_sets = label_sets.judge(lake, context.config.labels, grouped, vectors)
            given = lake.read(label_sets.TABLE).where("flagged AND given").select("image_id", "label")
            flags = flags.unionByName(given)
            reasons = _either(reasons, of_sets.why)
            notes += label_notes.of_sets(of_sets.images, of_sets.labels, of_sets.classes, of_sets.wrong, of_sets.why)
            counts |= label_notes.numbers_of_sets(of_sets.images, of_sets.classes, of_sets.flagged, of_sets.wrong)
        else:
            lake.empty(label_sets.TABLE)
        lake.overwrite("classes", class_counts(grouped, flags, reasons, found.told, bool(about["sets"])))
        number = lake.read("classes").agg(F.sum("flagged")).first()
        flags_of_all = int(number[0] or 0) if number else 0
        return {"in": total, "out": total, "failed": 0, **counts, "flagged": flags_of_all, "notes": notes}
    finally:
        lake.engine.forget_all()


@dataclass(frozen=True)
class _Found:
    """Of images with one label. counts: of the stage. why: of left_out. told: of told_of_classes."""

    counts: Counts
    notes: list[str]
    why: DataFrame
    told: DataFrame


def _unjudged(lake: Lake) -> _Found:
    """Where no image has one."""
    for name in ("labels", "confusions"):
        lake.empty(name)
    nothing = frame_of(lake.spark, [], "label STRING, why_left_out STRING")
    return _Found({}, [], nothing, frame_of(lake.spark, [], TOLD_SCHEMA))


def _either(one: DataFrame, other: DataFrame) -> DataFrame:
    """(label, why_left_out) of classes that images have as one label or among several: null where either was judged."""
    both = one.unionByName(other).groupBy("label")
    judged, why = F.count_if(F.col("why_left_out").isNull()), F.min("why_left_out")
    return both.agg(F.when(judged == 0, why).alias("why_left_out"))


def _judge(context: Context, grouped: DataFrame, total: int, neighbours: DataFrame, vectors: DataFrame) -> _Found:
    lake, settings = context.lake, context.config.labels
    sizes = keep(class_sizes(grouped))
    found = sizes.agg(
        F.count("*").alias("labels"), F.sum("images").alias("images"), F.max("images").alias("largest"),
        F.min("images").alias("smallest"),
    ).first()  # fmt: skip
    known = {} if found is None else {name: int(value or 0) for name, value in found.asDict().items()}
    classes = Classes.of(sizes, settings.min_images, settings.max_classes)
    reasons: dict[str, str | None] = dict.fromkeys(classes.names)
    judged: DataFrame | None = None
    told, wrong = frame_of(lake.spark, [], TOLD_SCHEMA), None
    while len(classes.names) >= 2:
        asked = asked_images(grouped, classes.numbered(lake, settings.sample_images), neighbours, settings.folds)
        asked = keep(asked)
        with batch_rows(lake.spark, ARROW_ROWS):
            sample = drawn(asked, vectors, classes)
            fitted = sample.fitted(classes, settings.folds)
            if fitted is not None:
                typical = sample.ids[fitted.model.typical]
                judged = keep(judged_images(asked, vectors, fitted.model, classes, typical, total))
                first = first_bin(judged, settings, fitted.lake)
                lake.overwrite("labels", judged.withColumn("flagged", flagged(first)).drop("confident_label"))
                told = told_of_classes(lake, sample, classes, fitted, first, settings.folds)
                wrong = fitted.lake
                break
        # Seldom: all different images of a class are in one fold. The others are asked again, without it.
        lake.engine.forget(asked)
        reasons |= {name: SEEN_TOGETHER for name, lacks in zip(classes.names, sample.lacking, strict=True) if lacks}
        left = np.flatnonzero(~sample.lacking)
        classes = Classes([classes.names[n] for n in left], classes.images[left], classes.standing[left])
    if judged is None:
        reasons |= dict.fromkeys(classes.names, ONLY_ONE)
        for name in ("labels", "confusions"):
            lake.empty(name)
    else:
        lake.overwrite("confusions", confusion_counts(judged))
    why = keep(left_out(sizes, reasons, settings))
    counts = {
        "labelled": known["images"], "classes": known["labels"],
        "judged_classes": 0 if judged is None else len(classes.names),
        **({} if wrong is None else label_notes.numbers(wrong)),
    }  # fmt: skip
    notes = label_notes.told(lake, why, known, None if judged is None else classes.images, wrong)
    return _Found(counts, notes, why, told)


def _vectors(context: Context) -> DataFrame:
    """(image_id, vector) of the model in use, shortened where they are long."""
    rows = context.lake.read("embeddings").where(F.col("model") == context.config.embed.model)
    first = rows.select(F.size("vector")).first()
    matrix = None if first is None else label_model.projection(int(first[0]))
    vectors = rows.select("image_id", "vector")
    if matrix is None:
        return vectors
    schema = StructType([StructField("image_id", LongType()), StructField("vector", ArrayType(FloatType()))])
    return map_batches(vectors, label_rows.projected(matrix), schema)


def _settings(context: Context) -> dict[str, Any]:
    settings = context.config.labels
    names = ("min_images", "max_classes", "folds", "sample_images", "flag", "precision")
    return {"model": context.config.embed.model, **{name: getattr(settings, name) for name in names}}


STAGE = Stage(
    name=JOB,
    does="find wrong labels",
    reads=("images", "embeddings", "copies", "neighbours", "duplicates"),
    writes=WRITTEN,
    settings=_settings,
    body=labels,
)


if __name__ == "__main__":
    sys.exit(submitted(JOB))
