"""Embed: reads each new or changed image once and writes its features and embedding, or a failure."""

from __future__ import annotations

import math
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
from pyspark import SparkFiles, TaskContext
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from jobs.errors import ConfigError, ContractError, TooManyFailuresError
from jobs.runs import Context, Counts, StageResult, last_done, run_stage
from jobs.tables import Lake, read_parquet
from udfs import arrow, embedding, errors, fetch, models

JOB = "embed"
MIN_FOR_FAILED_SHARE = 20  # fewer images say nothing about the whole input
READ = from_arrow_schema(arrow.EMBEDDED)
PENDING = from_arrow_schema(arrow.HANDED_ON.append(pa.field("uri", pa.string())))
SETTINGS = ("model", "max_bytes", "max_pixels")


def stale_ids(images: DataFrame, features: DataFrame, failures: DataFrame) -> DataFrame:
    """image_ids that have features or failures of bytes that are no longer there: removed or changed images."""
    known = features.select("image_id", "etag").union(failures.select("image_id", "etag"))
    current = images.select("image_id", F.col("etag").alias("etag_now"))
    joined = known.join(current.withColumn("there", F.lit(True)), "image_id", "left")
    return (
        joined.where(F.col("there").isNull() | ~F.col("etag").eqNullSafe(F.col("etag_now")))
        .select("image_id")
        .distinct()
    )


def pending(
    images: DataFrame,
    features: DataFrame,
    embeddings: DataFrame,
    failures: DataFrame,
    model: str,
    try_again: tuple[str, ...] = errors.TRANSIENT,
) -> DataFrame:
    """Images to read: without an embedding of this model and without a failure that would come again.

    try_again: codes of failures that may have passed.
    Returns PENDING."""
    final = failures.where(~F.col("error").isin(*try_again)).select("image_id")
    attempts = failures.groupBy("image_id").agg(F.max("attempt").alias("attempts"))
    return (
        images.select("image_id", "uri", "etag")
        .join(embeddings.where(F.col("model") == model).select("image_id"), "image_id", "left_anti")
        .join(final, "image_id", "left_anti")
        .join(features.select("image_id", F.lit(True).alias("has_features")), "image_id", "left")
        .join(attempts, "image_id", "left")
        .select(
            "image_id", "uri", "etag",
            F.coalesce("has_features", F.lit(False)).alias("has_features"),
            (F.coalesce("attempts", F.lit(0)) + 1).cast("int").alias("attempt"),
        )
    )  # fmt: skip


def choose_runtime(spark: SparkSession, wanted: str) -> str:
    """The kind of runtime for `auto`: torch where tasks are given GPUs or this machine has one, else openvino."""
    if wanted != "auto":
        return wanted
    if spark.conf.get("spark.task.resource.gpu.amount", None):
        return "torch"
    if not str(spark.sparkContext.master).startswith("local") or shutil.which("nvidia-smi") is None:
        return "openvino"
    import torch

    return "torch" if torch.cuda.is_available() else "openvino"


def runtime_opener(prepared: models.Prepared) -> Callable[[], embedding.Runtime]:
    """What a worker calls to get its runtime: from the files that Spark brought to its node, on the GPU of its task."""
    kind, model, names = prepared.kind, prepared.model, [file.name for file in prepared.files]

    def opener() -> embedding.Runtime:
        task = TaskContext.get()
        gpus = task.resources().get("gpu") if task else None
        device = int(gpus.addresses[0]) if gpus else (0 if kind == "torch" else None)
        return arrow.runtime(kind, model, tuple(SparkFiles.get(name) for name in names), device)

    return opener


def embed(context: Context) -> Counts:
    """Brings features, embeddings and failures in line with `images`, in commits of embed.images_per_commit."""
    lake, settings = context.lake, context.config.embed
    images = lake.require("images", "catalog")
    stale = stale_ids(images, lake.read("features"), lake.read("failures").where(F.col("stage") == JOB)).persist()
    wrote = 0
    try:
        if not stale.isEmpty():
            wrote = 1
            # features last: it is what tells that the others are stale, should this run die in between.
            for name in ("embeddings", "failures", "features"):
                lake.delete(name, stale)
    finally:
        stale.unpersist()
    failures = lake.read("failures").where(F.col("stage") == JOB)
    # Staged, not cached: a cache would be computed again after each commit, for it reads the tables committed to.
    again = errors.TRANSIENT + (errors.BEYOND_LIMITS if _limits_changed(context) else ())
    missing = pending(images, lake.read("features"), lake.read("embeddings"), failures, settings.model, again)
    missing.write.parquet(lake.staging("pending"))
    todo = read_parquet(lake.spark, lake.staging("pending"), PENDING)
    total = todo.count()
    if total:
        wrote = 1
        _embed_all(context, todo, total)
    lake.clear_staging()
    counts = _counts(lake, settings.model)
    failed_now = counts["failed"]
    if failed_now > settings.max_failed_share * counts["in"] and counts["in"] >= MIN_FOR_FAILED_SHARE:
        common = lake.read("failures").groupBy("error").count().orderBy(F.desc("count"), "error").head()
        told = f", most of them {common['error']}" if common else ""
        raise TooManyFailuresError(
            f"{failed_now} of {counts['in']} images failed{told}: see the table failures; "
            "--set embed.max_failed_share=1 goes on regardless"
        )
    return {**counts, "read": total, "wrote": wrote}


def _limits_changed(context: Context) -> bool:
    """Whether the last run that ended had other limits on bytes or pixels."""
    last = last_done(context.lake, JOB)
    settings = context.config.embed
    return last is not None and any(last["settings"][name] != getattr(settings, name) for name in SETTINGS[1:])


def _embed_all(context: Context, todo: DataFrame, total: int) -> None:
    lake, settings = context.lake, context.config.embed
    spark = lake.spark
    try:
        model = models.find(settings.model)
        prepared = models.prepare(model, model_cache(), choose_runtime(spark, settings.runtime))
    except models.ModelError as error:
        raise ConfigError(str(error)) from error
    for file in prepared.files:
        spark.sparkContext.addFile(str(file))
    done = spark.sparkContext.accumulator(0)
    limits = fetch.Limits(settings.max_bytes, settings.timeout_s, settings.retries)
    work = arrow.embed_batches(
        runtime_opener(prepared), limits, settings.fetch_threads, settings.max_pixels, model.input_side, done.add
    )
    commits = math.ceil(total / settings.images_per_commit)
    with context.reporter.images(JOB, total, lambda: int(done.value)):
        for commit in range(commits):
            part = todo.where(F.pmod(F.xxhash64("image_id"), F.lit(commits)) == commit) if commits > 1 else todo
            tasks = max(spark.sparkContext.defaultParallelism, math.ceil(total / commits / settings.images_per_task))
            staged = lake.staging(f"{JOB}-{commit:06d}")
            part.repartition(tasks).mapInArrow(work, READ).write.parquet(staged)  # type: ignore[arg-type]
            _commit(lake, read_parquet(spark, staged, READ), settings.model)
            lake.clear_staging(staged)


def model_cache() -> Path:
    """Where converted models are kept between runs: IMAGESIEVE_CACHE, else the user's cache folder."""
    given = os.environ.get("IMAGESIEVE_CACHE")
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "imagesieve"


def _commit(lake: Lake, rows: DataFrame, model: str) -> None:
    """Appends what was read to the tables. rows: READ. embeddings come last: an image without one is read again after a
    crash, and has_features tells that its features are there already."""
    good, bad = rows.where(F.col("error").isNull()), rows.where(F.col("error").isNotNull())
    lake.append("features", good.where(~F.col("has_features")))
    failures = bad.select(
        "image_id", F.lit(JOB).alias("stage"), "error", "detail", "attempt", F.current_timestamp().alias("at"), "etag"
    )
    lake.merge("failures", failures.withColumn("removed", F.lit(False)))
    retried = good.where(F.col("attempt") > 1)
    if not retried.isEmpty():
        lake.delete("failures", retried)
    lake.append("embeddings", good.withColumn("model", F.lit(model)))


def _counts(lake: Lake, model: str) -> Counts:
    """in, out, failed and how many failures may pass by themselves. Raises ContractError where a key stands twice."""
    embeddings = lake.read("embeddings").where(F.col("model") == model)
    out = embeddings.count()
    if embeddings.select("image_id").distinct().count() != out:
        raise ContractError(f"embeddings: an image has two vectors of {model}")
    failures = lake.read("failures").where(F.col("stage") == JOB)
    transient = failures.where(F.col("error").isin(*errors.TRANSIENT)).count()
    return {"in": lake.read("images").count(), "out": out, "failed": failures.count(), "transient": transient}


def run(context: Context) -> StageResult:
    settings = {name: getattr(context.config.embed, name) for name in SETTINGS}
    return run_stage(context, JOB, ("images",), settings, embed)


def main(argv: list[str]) -> int:
    from jobs.command import main as command

    return command([JOB, *argv])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
