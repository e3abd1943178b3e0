"""Detections: what each detector that is asked for sees in each picture that embed could read."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from jobs.engines.frames import keep, read_parquet, write_parquet
from jobs.errors import ConfigError, ContractError
from jobs.inputs.dealing import in_commits, in_tasks
from jobs.lakes import Lake
from jobs.stage import Context
from udfs import arrow, errors
from udfs.detection.detectors import DETECTORS, weights_of
from udfs.images import rows as image_rows
from udfs.networks.models import ModelError
from udfs.stores import fetch

TABLE = "detections"
PENDING = from_arrow_schema(image_rows.LOOKED_FOR)
READ = from_arrow_schema(image_rows.DETECTED)
Weights = tuple[tuple[str, tuple[Path, ...]], ...]


@dataclass(frozen=True)
class Detected:
    """What came of it. wrote: whether anything was, 0 or 1. transient: pictures that could not be read and may be by
    the next run. of: by the name of the detector, how many pictures it has looked at and how many it could not."""

    wrote: int = 0
    transient: int = 0
    of: dict[str, dict[str, int]] = field(default_factory=dict)

    def told(self) -> dict[str, Any]:
        """For the counts of a stage."""
        notes = [
            f"{name}: {counts['failed']} images could not be looked at, detections.error says why"
            for name, counts in self.of.items()
            if counts["failed"]
        ]
        return {**({"detectors": self.of} if self.of else {}), **({"notes": notes} if notes else {})}


def keys(names: Collection[str]) -> dict[str, str]:
    """The networks by which detectors look, by the name of the detector, in one order."""
    return {name: DETECTORS[name].key for name in sorted(set(names))}


def stale_ids(images: DataFrame, detections: DataFrame) -> DataFrame:
    """image_ids with detections of bytes that are no longer there: removed or changed images."""
    current = images.select("image_id", F.col("etag").alias("etag_now"), F.lit(True).alias("there"))
    joined = detections.select("image_id", "etag").join(current, "image_id", "left")
    gone = F.col("there").isNull() | ~F.col("etag").eqNullSafe(F.col("etag_now"))
    return joined.where(gone).select("image_id").distinct()


def pending(
    images: DataFrame,
    features: DataFrame,
    detections: DataFrame,
    wanted: dict[str, str],
    try_again: Collection[str] = errors.TRANSIENT,
) -> DataFrame:
    """Images that embed could read and a detector is still to look at. wanted: of keys. try_again: codes of failures
    that may have passed. Returns PENDING."""
    mine = detections.where(F.col("detector").isin(*wanted))
    done = F.lit(False)
    for name, key in wanted.items():
        done = done | ((F.col("detector") == name) & (F.col("model") == key))
    done = done & (F.col("error").isNull() | ~F.col("error").isin(*try_again))
    left = images.join(features.select("image_id"), "image_id", "left_semi")
    for name in wanted:
        known = mine.where((F.col("detector") == name) & done).select("image_id", F.lit(True).alias(name))
        left = left.join(known, "image_id", "left")
    missing = F.array_compact(F.array(*(F.when(F.col(name).isNull(), F.lit(name)) for name in wanted)))
    over = mine.where(~done).select("image_id", F.lit(True).alias("again")).distinct()
    return (
        left.withColumn("wanted", missing)
        .where(F.size("wanted") > 0)
        .join(over, "image_id", "left")
        .withColumn("again", F.coalesce("again", F.lit(False)))
        .select(*PENDING.names)
    )


def detect(context: Context, try_again: Collection[str]) -> Detected:
    """Brings `detections` in line with the images that embed could read, in commits of embed.images_per_commit. What a
    detector saw that is no longer asked for stays, until the image is gone or another.

    try_again: codes of failures that may have passed. Raises ConfigError without the weights."""
    lake, wanted = context.lake, keys(context.config.embed.detectors)
    if not lake.exists(TABLE):
        lake.empty(TABLE)
    wrote = _drop_stale(lake)
    if not wanted:
        return Detected(wrote)
    images, features = lake.read("images"), lake.read("features")
    write_parquet(pending(images, features, lake.read(TABLE), wanted, try_again), lake.staging("to_look_at"))
    todo = read_parquet(lake.spark, lake.staging("to_look_at"), PENDING)
    total = todo.count()
    if total:
        wrote = 1
        _look(context, todo, total, wanted)
    lake.clear_staging()
    return _counted(lake, wanted, wrote)


def _drop_stale(lake: Lake) -> int:
    stale = keep(stale_ids(lake.read("images"), lake.read(TABLE)))
    try:
        if stale.isEmpty():
            return 0
        lake.delete(TABLE, stale)
        return 1
    finally:
        lake.engine.forget(stale)


def _look(context: Context, todo: DataFrame, total: int, wanted: dict[str, str]) -> None:
    lake, settings, engine = context.lake, context.config.embed, context.lake.engine
    try:
        weights = weights_of(wanted)
    except ModelError as error:
        raise ConfigError(str(error)) from error
    done = engine.counter()
    limits = fetch.Limits(settings.max_bytes, settings.timeout_s, settings.retries)
    where = engine.workers([file for _, files in weights for file in files])
    make_task = task_maker(where, weights, limits, settings.fetch_threads, settings.max_pixels)
    work = arrow.detect_batches(make_task, settings.decode_timeout_s, done.add)
    commits = math.ceil(total / settings.images_per_commit)
    with context.reporter.images(TABLE, total, done.value):
        for commit, part in enumerate(in_commits(todo, commits)):
            tasks = engine.tasks(math.ceil(total / commits / settings.images_per_task))
            staged = lake.staging(f"{TABLE}-{commit:06d}")
            write_parquet(in_tasks(part, tasks, work, READ), staged)
            _commit(lake, read_parquet(lake.spark, staged, READ), wanted)
            lake.clear_staging(staged)


def task_maker(
    where: Callable[[], arrow.Place], weights: Weights, limits: fetch.Limits, threads: int, max_pixels: int
) -> Callable[[], arrow.DetectTask]:
    """What a worker calls to learn its task. weights: as they lie on the driver; where: says where they lie there, in
    the same order."""

    def make() -> arrow.DetectTask:
        files = iter(where().files)
        there = tuple((name, tuple(next(files) for _ in own)) for name, own in weights)
        return arrow.DetectTask(there, limits, threads, max_pixels)

    return make


def _commit(lake: Lake, read: DataFrame, wanted: dict[str, str]) -> None:
    """Puts what was seen into the table. read: READ."""
    seen = read.select("image_id", "etag", "again", F.explode("seen").alias("one"))
    model = F.coalesce(*(F.when(F.col("detector") == name, F.lit(key)) for name, key in wanted.items()))
    rows = seen.select("image_id", "etag", "again", "one.*").withColumn("model", model)
    lake.append(TABLE, rows.where(~F.col("again")))
    over = rows.where("again")
    if not over.isEmpty():
        lake.merge(TABLE, over.drop("again").withColumn("removed", F.lit(False)))


def _counted(lake: Lake, wanted: dict[str, str], wrote: int) -> Detected:
    """Raises ContractError where a picture is missing."""
    rows = lake.read(TABLE).where(F.col("detector").isin(*wanted))
    known = {
        row["detector"]: row
        for row in rows.join(lake.read("features").select("image_id"), "image_id", "left_semi")
        .groupBy("detector")
        .agg(
            F.count("*").alias("images"),
            F.count("error").alias("failed"),
            F.count_if(F.col("error").isin(*errors.TRANSIENT)).alias("transient"),
        )
        .collect()
    }
    readable = lake.read("features").count()
    missing = [name for name in wanted if (known[name]["images"] if name in known else 0) != readable]
    if missing:
        raise ContractError(f"{TABLE}: {', '.join(missing)} did not look at each of {readable} images once")
    of = {name: {"read": row["images"] - row["failed"], "failed": row["failed"]} for name, row in known.items()}
    return Detected(wrote, sum(row["transient"] for row in known.values()), dict(sorted(of.items())))
