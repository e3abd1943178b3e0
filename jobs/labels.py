"""Labels: says which labels are likely wrong, from a classifier on the embeddings and from the neighbours.

The model is fitted on the driver to a bounded sample of images, drawn by content; then all images are judged where they
are. What it computes stands in udfs/vectors/label_model.py. Duplicates are in one fold of the cross-validation,
whatever their splits, and do not vote for one another."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, FloatType, LongType, StructField, StructType

from jobs.config import Labels
from jobs.engines.frames import batch_rows, frame_of, keep, map_batches, small, to_arrow
from jobs.findings.label_issues import has_label
from jobs.lakes import Lake
from jobs.neighbours import step
from jobs.pages.format import written_out
from jobs.stage import Context, Counts, Stage, submitted
from jobs.tables import TABLES
from udfs.vectors import label_model, label_rows
from udfs.vectors.label_model import LabelModel

JOB = "labels"
WRITTEN = ("labels", "confusions", "classes")
BROADCAST_IMAGES = (
    300_000  # up to so many, each task gets what is asked of all (about 60 MB), and no vector is shuffled
)
ARROW_ROWS = 2048  # images in a batch on their way to Python: 10 MB of 1,280 numbers each
LEAST_SAMPLE = 20  # images a class
NAMED = 5  # classes in a line for a person
IMBALANCE = 10  # largest class by smallest, from which a line says so
SAMPLE_PARTS = 1_000_000
ONLY_ONE = "the only class with enough images"
SEEN_TOGETHER = "too few different images in the sample"


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
    labels = images.select("image_id", "split", F.when(has_label(), F.col("label")).alias("label"))
    return (
        copies.join(labels, "image_id")
        .join(in_cluster, "image_id", "left")
        .withColumn("group_key", F.coalesce("cluster_key", "content_key"))
        .withColumn("stands", F.coalesce("is_keeper", F.lit(True)))
        .drop("cluster_key", "is_keeper")
    )


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


def fitted(
    asked: DataFrame, vectors: DataFrame, classes: Classes, folds: int
) -> tuple[LabelModel | None, NDArray[np.int64], NDArray[np.bool_]]:
    """The model, an image_id for each class that shows it well, and which classes it could not be fitted to: with any
    of these there is no model. asked: of asked_images. vectors: (image_id, vector)."""
    drawn = asked.where("in_sample").select("content_key", *label_rows.ASKED[:-1])
    table = to_arrow(vectors.join(small(drawn), "image_id"))
    ids, keys = table["image_id"].to_numpy(), table["content_key"].to_numpy()
    if not len(ids):
        return None, ids, np.ones(len(classes.names), bool)
    order = np.lexsort((ids, keys))
    examples = label_rows.examples_of(table.take(order))
    lacking = ~label_model.in_two_folds(examples.classes, examples.folds, len(classes.names))
    if lacking.any() or len(classes.names) < 2:
        return None, ids[:0], lacking
    model = label_model.fit(examples, classes.standing, folds)
    return model, ids[order][model.typical], lacking


def judged_images(
    asked: DataFrame, vectors: DataFrame, model: LabelModel, classes: Classes, typical: NDArray[np.int64], total: int
) -> DataFrame:
    """label_rows.JUDGED of all that is asked; total: so many images."""
    narrow = asked.select(*label_rows.ASKED[:-1])
    rows = vectors.join(small(narrow) if total <= BROADCAST_IMAGES else narrow, "image_id")
    return step(rows.select(*label_rows.ASKED), label_rows.judged(model, classes.names, typical), label_rows.JUDGED)


def flagged(limit: float) -> Column:
    """Off the diagonal of the confident joint, and likelier wrong than the limit allows."""
    return F.coalesce(F.col("confident_label") != F.col("label"), F.lit(False)) & (F.col("score") < F.lit(limit))


def confusion_counts(judged: DataFrame) -> DataFrame:
    """The rows of `confusions`: the confident joint off its diagonal. judged: label_rows.JUDGED."""
    joint = judged.where(F.col("confident_label") != F.col("label"))
    sizes = judged.groupBy("label").agg(F.count("*").alias("of"))
    pairs = joint.groupBy("label", F.col("confident_label").alias("other_label")).agg(F.count("*").alias("images"))
    return pairs.join(sizes, "label").select(
        "label", "other_label", "images", F.round(F.col("images") / F.col("of"), label_rows.DIGITS).alias("share")
    )


def left_out(sizes: DataFrame, told: dict[str, str | None], settings: Labels) -> DataFrame:
    """(label, why_left_out or null) of each label. sizes: of class_sizes. told: of the classes that are large enough
    and not too many, why they were not judged, or None."""
    rows = [(*row, True) for row in told.items()]
    known = frame_of(sizes.sparkSession, rows, "label STRING, why STRING, kept BOOLEAN")
    few = F.lit(f"fewer than {settings.min_images:,} different images")
    many = F.lit(f"more than {settings.max_classes:,} classes are larger")
    why = F.when(F.col("kept"), F.col("why")).when(F.col("different") < settings.min_images, few).otherwise(many)
    return sizes.join(small(known), "label", "left").select("label", why.alias("why_left_out"))


def class_counts(grouped: DataFrame, flags: DataFrame, reasons: DataFrame) -> DataFrame:
    """The rows of `classes`. flags: (image_id) of flagged images. reasons: (label, why_left_out)."""
    marked = grouped.join(flags.withColumn("is_flagged", F.lit(1)), "image_id", "left")
    counted = marked.groupBy("label", "split").agg(
        F.count("*").alias("images"), F.coalesce(F.sum("is_flagged"), F.lit(0)).cast("long").alias("flagged")
    )
    return counted.join(reasons, "label", "left").select(*TABLES["classes"].schema.names)


def labels(context: Context) -> Counts:
    """Writes `labels`, `confusions` and `classes` anew from the other tables."""
    lake, model = context.lake, context.config.embed.model
    images = lake.require("images")
    embedded = lake.require("embeddings").where(F.col("model") == model)
    neighbours, duplicates = lake.require("neighbours"), lake.require("duplicates")
    about = images.agg(F.count("*").alias("images"), F.count_if(has_label()).alias("labelled")).first()
    notes = [] if about is None else _first_notes(about.asDict())
    try:
        if about is None or not about["labelled"]:
            total = embedded.count()
            for name in WRITTEN:
                lake.empty(name)
            return {"in": total, "out": total, "failed": 0, "notes": notes}
        grouped = keep(grouped_images(lake.require("copies"), images, duplicates))
        counts = _judge(context, grouped, neighbours)
        return {**counts, "notes": notes + counts["notes"]}
    finally:
        lake.engine.forget_all()


def _judge(context: Context, grouped: DataFrame, neighbours: DataFrame) -> Counts:
    lake, settings = context.lake, context.config.labels
    total = grouped.count()
    sizes = keep(class_sizes(grouped))
    found = sizes.agg(
        F.count("*").alias("labels"), F.sum("images").alias("images"), F.max("images").alias("largest"),
        F.min("images").alias("smallest"),
    ).first()  # fmt: skip
    known = {} if found is None else {name: int(value or 0) for name, value in found.asDict().items()}
    classes = Classes.of(sizes, settings.min_images, settings.max_classes)
    reasons: dict[str, str | None] = dict.fromkeys(classes.names)
    vectors = _vectors(context)
    judged: DataFrame | None = None
    while len(classes.names) >= 2:
        asked = asked_images(grouped, classes.numbered(lake, settings.sample_images), neighbours, settings.folds)
        asked = keep(asked)
        with batch_rows(lake.spark, ARROW_ROWS):
            model, typical, lacking = fitted(asked, vectors, classes, settings.folds)
            if model is not None:
                judged = keep(judged_images(asked, vectors, model, classes, typical, total))
                lake.overwrite(
                    "labels", judged.withColumn("flagged", flagged(settings.flag_below)).drop("confident_label")
                )
                break
        # Seldom: all different images of a class are in one fold. The others are asked again, without it.
        lake.engine.forget(asked)
        reasons |= {name: SEEN_TOGETHER for name, lacks in zip(classes.names, lacking, strict=True) if lacks}
        left = np.flatnonzero(~lacking)
        classes = Classes([classes.names[n] for n in left], classes.images[left], classes.standing[left])
    if judged is None:
        reasons |= dict.fromkeys(classes.names, ONLY_ONE)
        for name in ("labels", "confusions"):
            lake.empty(name)
    else:
        lake.overwrite("confusions", confusion_counts(judged))
    why = keep(left_out(sizes, reasons, settings))
    flags = lake.read("labels").where("flagged").select("image_id")
    lake.overwrite("classes", class_counts(grouped, flags, why))
    judged_classes = 0 if judged is None else len(classes.names)
    number = lake.read("classes").agg(F.sum("flagged")).first()
    return {
        "in": total, "out": total, "failed": 0, "labelled": known["images"], "classes": known["labels"],
        "judged_classes": judged_classes, "flagged": int(number[0] or 0) if number else 0,
        "notes": _notes(lake, why, known, classes, judged is not None),
    }  # fmt: skip


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


def _first_notes(about: dict[str, Any]) -> list[str]:
    """What the column label alone tells. about: counts of `images`."""
    if not about["labelled"]:
        return ["labels: no image has one, so none was judged"]
    if about["labelled"] < about["images"]:
        return [f"labels: {about['images'] - about['labelled']:,} of {about['images']:,} images have none"]
    return []


def _notes(lake: Lake, why: DataFrame, known: dict[str, int], classes: Classes, is_judged: bool) -> list[str]:
    """What a person should know of the labels. why: of left_out. known: of all labels, see _judge."""
    number, images = known["labels"], known["images"]
    if number == 0:
        return ["labels: no image that could be read has one, so none was judged"]
    if number == 1:
        row = why.first()
        name = "" if row is None else written_out(row["label"])
        return [f"labels: all {images:,} images have the label {name}, so none could be judged"]
    if number == images:
        return [f"labels: each of the {images:,} images has a label of its own, so none could be judged"]
    notes = []
    out = why.where(F.col("why_left_out").isNotNull())
    for reason, count in sorted(map(tuple, out.groupBy("why_left_out").count().collect())):  # three reasons at most
        some = out.where(F.col("why_left_out") == reason).orderBy("label").limit(NAMED).collect()
        told = ", ".join(written_out(row["label"]) for row in some) + (", …" if count > NAMED else "")
        notes.append(f"labels: {count:,} of {number:,} classes left out, {reason} ({told})")
    if not is_judged:
        return [*notes, "labels: fewer than two classes are left, so none could be judged"]
    largest, smallest = int(classes.images.max()), int(classes.images.min())
    if largest >= IMBALANCE * smallest:
        ratio = round(largest / smallest)
        notes.append(f"labels: the largest class has {largest:,} images, the smallest {smallest:,}: {ratio:,} to 1")
    pair = F.array_sort(F.array("label", "other_label"))
    most = (
        lake.read("confusions")
        .groupBy(pair.alias("pair"))
        .agg(F.sum("images").alias("images"))
        .orderBy(F.desc("images"), "pair")
        .first()
    )
    if most is not None:
        one, other = (written_out(name) for name in most["pair"])
        plural = "" if most["images"] == 1 else "s"
        notes.append(f"labels: {one} and {other} are confused most ({most['images']:,} image{plural})")
    return notes


def _settings(context: Context) -> dict[str, Any]:
    settings = context.config.labels
    names = ("min_images", "max_classes", "folds", "sample_images", "flag_below")
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
