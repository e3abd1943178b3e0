"""Scores of whole networks: a pass over the pictures that have none yet, one for each network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from jobs.engines.frames import map_batches, read_parquet, to_arrow, write_parquet
from jobs.rating import cards, store
from jobs.rating.store import Kept
from jobs.stage import Context
from udfs import arrow
from udfs.images import rows as image_rows
from udfs.networks import preparation
from udfs.networks.models import Model
from udfs.ratings.rows import SCORED, percentiles
from udfs.stores import fetch
from udfs.stores.cache import user_cache

READ = from_arrow_schema(image_rows.READ_SCORES)
TABLE = from_arrow_schema(SCORED)
Batches = Iterator[pa.RecordBatch]


def score(context: Context, kept: Kept, images: int, sample: int) -> int:
    """Scores the images that embed could read and that have no score of this network. Returns whether there were any.

    images: of the lake that can be scored. sample: scores of which percentiles are told. Raises ModelError."""
    lake, embed = context.lake, context.config.embed
    model, output = cards.network_of(kept.head)
    done = lake.read("ratings").where(F.col("rating") == kept.head.key).select("image_id")
    todo = lake.read("images").join(lake.read("features").select("image_id"), "image_id", "left_semi")
    todo = todo.join(done, "image_id", "left_anti").select("image_id", *image_rows.REFERENCE.names)
    total = todo.count()
    if not total:
        return 0
    prepared = preparation.prepare(model, user_cache(), "openvino-fp32")
    limits = fetch.Limits(embed.max_bytes, embed.timeout_s, embed.retries)
    where = lake.engine.workers(prepared.files)
    make_task = task_maker(where, model, output, limits, embed.fetch_threads, embed.max_pixels)
    tasks = lake.engine.tasks(-(-total // embed.images_per_task))
    found = lake.engine.map_batches(
        todo.repartition(tasks), arrow.score_batches(make_task, embed.decode_timeout_s), READ, isolated=True
    )
    place = lake.staging("scores")
    write_parquet(found, place)
    rows = read_parquet(lake.spark, place, READ).where(F.col("score").isNotNull())
    if not len(kept.quantiles):
        some = to_arrow(rows.orderBy(F.xxhash64("image_id")).limit(sample))
        kept = store.with_quantiles(lake.uri, kept, some["score"].to_numpy(), images)
    etags = lake.read("images").select("image_id", "etag")
    lake.append("ratings", map_batches(rows.join(etags, "image_id"), _placed(kept), TABLE))
    lake.clear_staging(place)
    return 1


def task_maker(
    where: Callable[[], arrow.Place], model: Model, output: str, limits: fetch.Limits, threads: int, max_pixels: int
) -> Callable[[], arrow.ScoreTask]:
    """What a worker calls to learn its task."""

    def make() -> arrow.ScoreTask:
        files: Sequence[Path] = where().files
        return arrow.ScoreTask(model, tuple(files), output, limits, threads, max_pixels)

    return make


def readable(images: DataFrame, features: DataFrame) -> int:
    """Images that a network can score."""
    return images.join(features.select("image_id"), "image_id", "left_semi").count()


def _placed(kept: Kept) -> Callable[[Batches], Batches]:
    key, quantiles = kept.head.key, kept.quantiles

    def run(batches: Batches) -> Batches:
        for batch in batches:
            found = batch.column("score").to_numpy(zero_copy_only=False)
            yield pa.RecordBatch.from_arrays(
                [batch.column("image_id"), pa.array([key] * batch.num_rows, pa.string()), pa.array(found),
                 pa.array(percentiles(quantiles, found)), pa.nulls(batch.num_rows, pa.float64()), batch.column("etag")],
                schema=SCORED,
            )  # fmt: skip

    return run
