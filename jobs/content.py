"""Content: what the images show, as concepts that the model's classifier names and as topics of like images."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from jobs.duplicates.copies import redundant_ids
from jobs.engines.frames import batch_rows, frame_of, keep, small, to_arrow
from jobs.errors import ConfigError
from jobs.neighbours import step
from jobs.stage import Context, Counts, Stage, submitted
from udfs.content import DESCRIBED, describe, seen
from udfs.networks import concepts, models
from udfs.networks.concepts import Classifier
from udfs.stores.cache import user_cache
from udfs.vectors import topics
from udfs.vectors.cell_packs import vectors_of
from udfs.vectors.topics import Topics

JOB = "content"
SAMPLE = 16_384  # images that topics are learnt from: 84 MB of 1,280 numbers on the driver
ARROW_ROWS = 512  # in a batch: 2.6 MB of 1,280 numbers
COMMON = 10  # names told of a topic
SURE = 0.1  # confidence from which a concept counts for the topic of its image
VECTOR = ("image_id", "vector", "norm")


def concept_rows(described: DataFrame) -> DataFrame:
    """The rows of `concepts`. described: DESCRIBED."""
    one_by_one = described.select("image_id", F.posexplode("concepts").alias("at", "found"))
    return one_by_one.select(
        "image_id", (F.col("at") + 1).cast("int").alias("rank"), "found.concept", "found.confidence"
    )


def first_of_topics(
    rows: DataFrame, order: list[Column], most: int, value: Column, more: Column | None = None
) -> DataFrame:
    """The first rows of each topic in an order. rows: with topic_id. value: what is kept of a row.

    more: what must hold beside, of `place`, the row's number. A topic may be any share of the lake: Spark cuts each
    partition to the first `most` rows of a topic before it brings them together (WindowGroupLimit, from 3.5 on).
    Returns (topic_id, found ARRAY in that order)."""
    numbered = rows.withColumn("place", F.row_number().over(Window.partitionBy("topic_id").orderBy(*order)))
    kept = numbered.where((F.col("place") <= most) & (F.lit(True) if more is None else more))
    one = F.struct("place", value.alias("value"))
    return kept.groupBy("topic_id").agg(
        F.transform(F.array_sort(F.collect_list(one)), lambda it: it["value"]).alias("found")
    )


def common_names(named: DataFrame) -> DataFrame:
    """The most common names of each topic. named: (topic_id, name), a row for each image that has it.

    However many names there are, a topic keeps COMMON. Returns (topic_id, found ARRAY of (name, images))."""
    counted = named.groupBy("topic_id", "name").agg(F.count("*").alias("images"))
    return first_of_topics(counted, [F.desc("images"), F.asc("name")], COMMON, F.struct("name", "images"))


def topic_summaries(placed: DataFrame, sizes: DataFrame, typical: int) -> DataFrame:
    """The rows of `topic_summaries`. placed: (image_id, topic_id, distance, concepts, uri, labels or null, redundant).
    sizes: (topic_id, images).

    Typical are the images nearest to the centre, of a cluster of duplicates its keeper; a topic that has none of these
    shows the nearest of all."""
    nearest = [F.asc("redundant"), F.asc("distance"), F.asc("uri")]
    shown = ~F.col("redundant") | (F.col("place") == 1)
    sure = placed.select("topic_id", F.explode("concepts").alias("found")).where(F.col("found.confidence") >= SURE)
    lists = {
        "typical_ids": first_of_topics(placed, nearest, typical, F.col("image_id"), shown),
        "concepts": common_names(sure.select("topic_id", F.col("found.concept").alias("name"))),
        "labels": common_names(placed.select("topic_id", F.explode("labels").alias("name"))),
    }
    summaries = sizes
    for name, found in lists.items():
        filled = F.coalesce("found", F.array()).alias(name)
        summaries = summaries.join(found, "topic_id", "left").select(*summaries.columns, filled)
    return summaries


def content(context: Context) -> Counts:
    """Writes `concepts`, `topics` and `topic_summaries` anew."""
    lake, config = context.lake, context.config
    settings, model = config.content, models.find(config.embed.model, config.models)
    embeddings = lake.require("embeddings").where(F.col("model") == model.key).select(*VECTOR)
    # They shall neither make a topic nor fill one's page.
    redundant = redundant_ids(lake.require("duplicates"))
    total = embeddings.count()
    counts: Counts = {"in": total, "out": total, "failed": 0, "concepts": 0, "topics": 0}
    if not total:
        for name in ("concepts", "topics", "topic_summaries"):
            lake.empty(name)
        return counts
    try:
        with batch_rows(lake.spark, ARROW_ROWS):
            classifier, learnt, notes = _learnt(context, embeddings, redundant, total, model)
            described = step(embeddings, describe(learnt, classifier, settings.concepts), DESCRIBED)
            several = F.coalesce("labels", F.when(F.col("label").isNotNull(), F.array("label"))).alias("labels")
            named = lake.read("images").select("image_id", "uri", several)
            marked = redundant.withColumn("redundant", F.lit(True))
            placed = keep(
                described.join(named, "image_id").join(marked, "image_id", "left").na.fill(False, ["redundant"])
            )
            sizes = _sizes(placed, len(learnt.centres))
            numbers = F.array(*[F.lit(number) for number in _numbers(sizes)])
            placed = placed.withColumn("topic_id", F.get(numbers, "place")).drop("place")
            lake.overwrite("concepts", concept_rows(placed))
            lake.overwrite("topics", placed)
            filled = [(number, size) for number, size in zip(_numbers(sizes), sizes, strict=True) if size]
            counted = frame_of(lake.spark, filled, "topic_id INT, images BIGINT")
            lake.overwrite("topic_summaries", topic_summaries(placed, counted, settings.typical))
    finally:
        lake.engine.forget_all()
    out = sum(sizes)
    given = min(settings.concepts, len(classifier.names)) if classifier else 0
    return {**counts, "out": out, "concepts": out * given, "topics": len(filled), **({"notes": notes} if notes else {})}


def _learnt(
    context: Context, embeddings: DataFrame, redundant: DataFrame, total: int, model: models.Model
) -> tuple[Classifier | None, Topics, list[str]]:
    """The classifier, if the model has one; the topics, learnt from a sample of images that are no duplicates; and what
    there is to say. embeddings: VECTOR, `total` of them."""
    lake, settings = context.lake, context.config.content
    try:
        classifier = concepts.prepare(model, user_cache())
    except models.ModelError as error:
        raise ConfigError(str(error)) from error
    keys = lake.require("copies").select("image_id", "content_key")
    # Drawn by content: it depends neither on ids nor on partitions.
    different = embeddings.select("image_id").join(redundant, "image_id", "left_anti").join(keys, "image_id")
    drawn = different.orderBy("content_key", "image_id").limit(SAMPLE)
    table = to_arrow(embeddings.join(small(drawn), "image_id"))
    table = table.sort_by([("content_key", "ascending"), ("image_id", "ascending")])
    norms = table["norm"].to_numpy().astype(np.float32)
    notes = []
    if classifier is None:
        notes.append(f"concepts: {model.key} has no classifier; none were named")
    elif np.isnan(norms).any():
        notes.append(f"concepts: the lengths of the vectors of {model.key} are not known; none were named")
        classifier = None
    if settings.topics is None:
        images = table.num_rows if table.num_rows < SAMPLE else total - redundant.count()
        count = topics.usual_count(images)
    else:
        count = settings.topics
    return classifier, topics.train(seen(classifier, vectors_of(table["vector"]), norms), count), notes


def _sizes(placed: DataFrame, centres: int) -> list[int]:
    """Images of each topic, by the place of its centre."""
    found = {row["place"]: row["count"] for row in placed.groupBy("place").count().collect()}
    return [found.get(place, 0) for place in range(centres)]


def _numbers(sizes: list[int]) -> list[int]:
    """topic_id by the place of the centre: from 1 on, the largest first. Of equal ones the first centre, which depends
    on the content of the sample alone."""
    ranks = np.argsort(-np.array(sizes), kind="stable")
    numbers = np.empty(len(sizes), int)
    numbers[ranks] = np.arange(1, len(sizes) + 1)
    return [int(number) for number in numbers]


def _settings(context: Context) -> dict[str, Any]:
    settings = context.config.content
    names = ("concepts", "topics", "typical")
    return {"model": context.config.embed.model, **{name: getattr(settings, name) for name in names}}


STAGE = Stage(
    name=JOB,
    does="say what is in the images: concepts and topics",
    reads=("images", "embeddings", "copies", "duplicates"),
    writes=("concepts", "topics", "topic_summaries"),
    settings=_settings,
    body=content,
)


if __name__ == "__main__":
    sys.exit(submitted(JOB))
