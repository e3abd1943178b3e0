"""Ratings: scores each image by each rating of the lake, only what is new; no picture is read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from jobs.engines.frames import batch_rows, frame_of, keep, map_batches
from jobs.rating import network_pass, store
from jobs.rating.store import Kept
from jobs.rating.vectors import LakeRows
from jobs.stage import Asked, Context, Counts, Ready, Stage
from udfs.ratings.files import NETWORK
from udfs.ratings.rows import SCORED, Scorer, score

JOB = "rate"
ARROW_ROWS = 512  # in a batch: 2.6 MB of 1,280 numbers
GROWN = 2  # times as many images: the percentiles of a rating are then told anew
SAMPLE = (
    16_384  # images of which the percentiles are told; their error is 0.4 percent at most, mostly (Dvoretzky et al.)
)
TABLE = from_arrow_schema(SCORED)


def ratings(context: Context) -> Counts:
    """Brings `ratings` in line with the heads of the lake, and with `embeddings`."""
    lake = context.lake
    kept: tuple[Kept, ...] = context.given[JOB]
    model = context.config.embed.model
    networks = [one for one in kept if one.head.kind == NETWORK]
    usable = [one for one in kept if one.head.model == model and one.head.kind != NETWORK]
    known = {one.head.key for one in (*networks, *usable)}
    notes = [
        f"ratings: {one.head.key} is for vectors of {one.head.model}, not {model}: not scored"
        for one in kept if one.head.key not in known
    ]  # fmt: skip
    embeddings = lake.require("embeddings").where(F.col("model") == model)
    images = embeddings.count()
    wrote = _forget_others(context, sorted(known))
    if not known:
        if not lake.exists("ratings"):
            lake.empty("ratings")
            wrote = 1
        return {"in": 0, "out": 0, "failed": 0, "wrote": wrote, **({"notes": notes} if notes else {})}
    scorers, anew = _with_quantiles(lake.uri, usable, images, model)
    pictures = network_pass.readable(lake.read("images"), lake.read("features")) if networks else 0
    anew += [one.head.key for one in networks if pictures > GROWN * one.images]
    wrote |= _drop(context, anew) | _drop_stale(context)
    try:
        if scorers and images:
            with batch_rows(lake.spark, ARROW_ROWS):
                wrote |= _score(context, scorers, embeddings)
        for one in networks:
            fresh = replace(one, quantiles=one.quantiles[:0]) if one.head.key in anew else one
            wrote |= network_pass.score(context, fresh, pictures, SAMPLE)
    finally:
        lake.engine.forget_all()
    if not lake.exists("ratings"):
        lake.empty("ratings")
    out = lake.read("ratings").count()
    total = images * len(scorers) + pictures * len(networks)
    return {"in": total, "out": out, "failed": total - out, "ratings": len(known), "wrote": wrote,
            **({"notes": notes} if notes else {})}  # fmt: skip


def _forget_others(context: Context, keys: list[str]) -> int:
    """Takes out the rows of ratings that the lake no longer has."""
    rows = context.lake.read("ratings")
    other = rows.where(~F.col("rating").isin(*keys)) if keys else rows
    if other.isEmpty():
        return 0
    return _drop(context, [row["rating"] for row in other.select("rating").distinct().collect()])  # of heads: few


def _drop(context: Context, keys: list[str]) -> int:
    lake = context.lake
    if not keys or lake.read("ratings").where(F.col("rating").isin(*keys)).isEmpty():
        return 0
    lake.overwrite("ratings", lake.read("ratings").where(~F.col("rating").isin(*keys)))
    return 1


def _with_quantiles(lake: str, usable: list[Kept], images: int, model: str) -> tuple[list[Scorer], list[str]]:
    """The heads with the quantiles of their scores, and those whose quantiles are new."""
    new = [one for one in usable if not len(one.quantiles) or images > GROWN * one.images]
    if new:
        rows = LakeRows(lake, model)
        ids, vectors = rows.sample(SAMPLE)
        told: dict[str, Kept] = {}
        for one in new:
            measured = one.head.measured
            properties = None if measured is None else rows.properties(ids, measured.names)
            told[one.head.key] = store.with_quantiles(lake, one, one.head.scores(vectors, properties)[0], images)
        usable = [told.get(one.head.key, one) for one in usable]
    return [Scorer(one.head, one.quantiles) for one in usable], [one.head.key for one in new]


def _drop_stale(context: Context) -> int:
    """Takes out the rows of images that are gone or have changed."""
    lake = context.lake
    there = lake.read("ratings").select("image_id", "rating", F.col("etag").alias("etag_then"))
    now = lake.read("images").select("image_id", "etag").withColumn("there", F.lit(True))
    joined = there.join(now, "image_id", "left")
    stale = joined.where(F.col("there").isNull() | ~F.col("etag").eqNullSafe(F.col("etag_then")))
    stale = keep(stale.select("image_id").distinct())
    try:
        if stale.isEmpty():
            return 0
        lake.delete("ratings", stale)
        return 1
    finally:
        lake.engine.forget(stale)


def _score(context: Context, scorers: list[Scorer], embeddings: DataFrame) -> int:
    """Scores what has no row yet."""
    lake = context.lake
    now = embeddings.select("image_id").join(lake.read("images").select("image_id", "etag"), "image_id")
    names = frame_of(
        lake.spark, [(place, scorer.head.key) for place, scorer in enumerate(scorers)], "place INT, rating STRING"
    )
    done = lake.read("ratings").select("image_id", "rating").join(names, "rating")
    done = done.groupBy("image_id").agg(F.collect_list("place").alias("done"))
    # None has all: those that have are left out here. array_except wants the same nullability, on Sail.
    todo = now.join(done, "image_id", "left")
    todo = keep(todo.where(F.col("done").isNull() | (F.size("done") < len(scorers))))
    if todo.isEmpty():
        return 0
    properties = sorted({name for scorer in scorers if scorer.head.measured for name in scorer.head.measured.names})
    rows = todo.join(embeddings.select("image_id", "vector"), "image_id")
    if properties:
        rows = rows.join(lake.read("features").select("image_id", *properties), "image_id", "left")
    rows = rows.select("image_id", "vector", "etag", "done", *properties)
    lake.append("ratings", map_batches(rows, score(scorers, properties), TABLE))
    return 1


def _prepare(asked: Asked) -> Ready:
    """Reads the heads before anything is opened or written. Raises InputError, LakeError."""
    return Ready(tuple(store.all_of(asked.lake)))


def _settings(context: Context) -> dict[str, Any]:
    """The heads decide: a lake without any has nothing to do."""
    kept: tuple[Kept, ...] = context.given.get(JOB, ())
    return {"model": context.config.embed.model, "heads": {one.head.key: one.digest for one in kept}}


STAGE = Stage(
    name=JOB,
    does="score the images by the ratings that the lake has",
    reads=("images", "features", "embeddings"),
    writes=("ratings",),
    settings=_settings,
    body=ratings,
    prepare=_prepare,
)
