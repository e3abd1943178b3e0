"""Embed: reads each new or changed image once and writes its features and embedding, or a failure."""

from __future__ import annotations

import math
import shutil
import sys
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from jobs.detecting import detections
from jobs.engines.base import Engine
from jobs.engines.frames import keep, read_parquet, write_parquet
from jobs.errors import ConfigError, ContractError, TooManyFailuresError
from jobs.inputs import vectors
from jobs.inputs.dealing import in_commits, in_tasks
from jobs.lakes import Lake
from jobs.stage import Asked, Context, Counts, Ready, Stage, submitted
from udfs import arrow, errors
from udfs.detection.detectors import weights_of
from udfs.images import rows as image_rows
from udfs.networks import formats, models, preparation, weight_files
from udfs.stores import fetch
from udfs.stores.cache import user_cache

JOB = "embed"
MIN_FOR_FAILED_SHARE = 20  # fewer images say nothing about the whole input
READ = from_arrow_schema(image_rows.EMBEDDED)
PENDING = from_arrow_schema(image_rows.PENDING)
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
        images.select(*image_rows.REFERENCE.names, "image_id", "etag")
        .join(embeddings.where(F.col("model") == model).select("image_id"), "image_id", "left_anti")
        .join(final, "image_id", "left_anti")
        .join(features.select("image_id", F.lit(True).alias("has_features")), "image_id", "left")
        .join(attempts, "image_id", "left")
        .select(
            *image_rows.REFERENCE.names, "image_id", "etag",
            F.coalesce("has_features", F.lit(False)).alias("has_features"),
            (F.coalesce("attempts", F.lit(0)) + 1).cast("int").alias("attempt"),
            F.lit(None).cast("array<float>").alias(image_rows.GIVEN_VECTOR),
        )
    )  # fmt: skip


def choose_runtime(engine: Engine, wanted: str, model_format: str = "timm") -> str:
    """The kind of runtime for `auto`: torch where tasks have GPUs, or this machine has one and torch is installed, else
    openvino, which alone runs ONNX. model_format: of models.Model."""
    if wanted != "auto":
        return wanted
    if model_format == "onnx":
        return "openvino"
    offered = engine.offers_gpus()
    if offered is not None:
        return "torch" if offered else "openvino"
    if shutil.which("nvidia-smi") is None or formats.missing_torch():
        return "openvino"
    import torch

    return "torch" if torch.cuda.is_available() else "openvino"


def unused_gpu(engine: Engine, wanted: str, model_format: str = "timm") -> str:
    """One line to print where `choose_runtime` takes openvino only because torch is not installed, else ""."""
    missing = formats.missing_torch()
    if wanted != "auto" or model_format in ("onnx", "vectors") or not missing:
        return ""
    if engine.offers_gpus() is not None or shutil.which("nvidia-smi") is None:
        return ""
    return f"nvidia-smi is here and {missing} is not: {formats.INSTALL_TORCH} would embed on the GPU"


def embed(context: Context) -> Counts:
    """Brings features, embeddings and failures in line with `images`, in commits of embed.images_per_commit."""
    lake, settings = context.lake, context.config.embed
    images = lake.require("images")
    stale = keep(stale_ids(images, lake.read("features"), lake.read("failures").where(F.col("stage") == JOB)))
    wrote = 0
    try:
        if not stale.isEmpty():
            wrote = 1
            # features last: it is what tells that the others are stale, should this run die in between.
            for name in ("embeddings", "failures", "features"):
                lake.delete(name, stale)
    finally:
        lake.engine.forget(stale)
    failures = lake.read("failures").where(F.col("stage") == JOB)
    model = models.find(settings.model, context.config.models)
    changed = _changed_settings(context)
    again = errors.TRANSIENT + (errors.BEYOND_LIMITS if changed & {"max_bytes", "max_pixels"} else ())
    if model.format == "vectors" or "model" in changed:
        again += (errors.NO_VECTOR,)
    missing = pending(images, lake.read("features"), lake.read("embeddings"), failures, settings.model, again)
    if model.format == "vectors":
        given = vectors.read_vectors(lake.spark, model).withColumnRenamed("vector", image_rows.GIVEN_VECTOR)
        missing = missing.drop(image_rows.GIVEN_VECTOR).join(given, "uri", "left").select(*PENDING.names)
    # Staged, not cached: a cache would be computed again after each commit, for it reads the tables committed to.
    write_parquet(missing, lake.staging("pending"))
    todo = read_parquet(lake.spark, lake.staging("pending"), PENDING)
    total = todo.count()
    if total:
        wrote = 1
        _embed_all(context, todo, total, model)
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
    seen = detections.detect(context, again)
    counts["transient"] += seen.transient
    return {**counts, "read": total, "wrote": max(wrote, seen.wrote), **seen.told()}


def _changed_settings(context: Context) -> set[str]:
    """Those of SETTINGS for which the last run that ended had another value; none where there was no such run."""
    last = context.history.last_done(JOB)
    if last is None:
        return set()
    return {name for name in SETTINGS if last["settings"][name] != getattr(context.config.embed, name)}


def _embed_all(context: Context, todo: DataFrame, total: int, model: models.Model) -> None:
    lake, settings, engine = context.lake, context.config.embed, context.lake.engine
    try:
        prepared = preparation.prepare(model, user_cache(), choose_runtime(engine, settings.runtime, model.format))
    except models.ModelError as error:
        raise ConfigError(str(error)) from error
    line = unused_gpu(engine, settings.runtime, model.format)
    if line:
        context.reporter.stage(JOB, line)
    done = engine.counter()
    limits = fetch.Limits(settings.max_bytes, settings.timeout_s, settings.retries)
    make_task = arrow.task_maker(
        prepared, model, limits, settings.fetch_threads, settings.max_pixels, engine.workers(prepared.files)
    )
    work = arrow.embed_batches(make_task, settings.decode_timeout_s, done.add)
    resources = engine.gpu_resources(settings.gpu_share) if prepared.kind == "torch" else None
    commits = math.ceil(total / settings.images_per_commit)
    with context.reporter.images(JOB, total, done.value):
        for commit, part in enumerate(in_commits(todo, commits)):
            tasks = engine.tasks(math.ceil(total / commits / settings.images_per_task))
            staged = lake.staging(f"{JOB}-{commit:06d}")
            write_parquet(in_tasks(part, tasks, work, READ, resources), staged)
            _commit(lake, read_parquet(lake.spark, staged, READ), settings.model)
            lake.clear_staging(staged)


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
    """in, out, failed, how many failures may pass by themselves, and how many vectors each fingerprint of the
    preprocessing has. Raises ContractError where a key stands twice."""
    embeddings = lake.read("embeddings").where(F.col("model") == model)
    out = embeddings.count()
    if embeddings.select("image_id").distinct().count() != out:
        raise ContractError(f"embeddings: an image has two vectors of {model}")
    failures = lake.read("failures").where(F.col("stage") == JOB)
    transient = failures.where(F.col("error").isin(*errors.TRANSIENT)).count()
    made = embeddings.where(F.col("transform").isNotNull()).groupBy("transform").count().orderBy("transform").collect()
    return {
        "in": lake.read("images").count(), "out": out, "failed": failures.count(), "transient": transient,
        "transforms": {row["transform"]: row["count"] for row in made},
    }  # fmt: skip


def _refuse_another(context: Context) -> None:
    """Raises ConfigError where the lake has vectors of this key that another network or preprocessing has made."""
    model = models.find(context.config.embed.model, context.config.models)
    settings = F.get_json_object("config", "$.settings.model"), F.get_json_object("config", "$.settings.fingerprint")
    of_this_key = context.lake.read("runs").where((F.col("job") == JOB) & (settings[0] == model.key))
    if not of_this_key.where(settings[1] != model.fingerprint).isEmpty():
        raise ConfigError(
            f"{model.key} is not what it was when {context.lake.uri} was embedded: "
            "give the changed card another revision"
        )


def _settings(context: Context) -> dict[str, Any]:
    model = models.find(context.config.embed.model, context.config.models)
    own = {name: getattr(context.config.embed, name) for name in SETTINGS}
    return {**own, "fingerprint": model.fingerprint, "detectors": detections.keys(context.config.embed.detectors)}


def _is_imported(context: Context) -> bool:
    """Whether imported vectors are still those of the last run is not known."""
    return models.find(context.config.embed.model, context.config.models).format == "vectors"


def _check_model(asked: Asked) -> Ready:
    """Looks for the weights of the detectors, and for the model's weights or vectors, and checks their digest. A driver
    that has the converted network, and is not told to use torch, needs no weights of it. Raises ModelError, InputError,
    ConfigError."""
    settings = asked.config.embed
    weights_of(settings.detectors)
    model, cache = models.find(settings.model, asked.config.models), user_cache()
    if model.format == "vectors":
        vectors.find_table(model)
        return Ready(None, (model.weights,))
    if settings.runtime in ("auto", "openvino") and preparation.is_converted(model, cache):
        return Ready()
    try:
        weight_files.weights_file(model, cache)
    except OSError as error:
        told = f"{cache}: cannot be written ({error.strerror}): name another folder with IMAGESIEVE_CACHE"
        raise ConfigError(told) from error
    return Ready()


STAGE = Stage(
    name=JOB,
    does="read each new image: features and embedding",
    reads=("images",),
    writes=("features", "embeddings", "failures", "detections"),
    settings=_settings,
    body=embed,
    before=_refuse_another,
    always=_is_imported,
    prepare=_check_model,
)


if __name__ == "__main__":
    sys.exit(submitted(JOB))
