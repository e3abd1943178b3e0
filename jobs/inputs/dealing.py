"""How images that are to be read are dealt to commits and tasks."""

from __future__ import annotations

from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from jobs.engines.base import MapBatches, of

ROWS_TOGETHER = 4096  # rows of a Parquet file that one task reads, at least
STRETCH_BITS = 30  # 1 GiB of a tar stays in one commit, and a Parquet file


def in_tasks(part: DataFrame, tasks: int, run: MapBatches, schema: StructType, resources: Any = None) -> DataFrame:
    """What run makes of images dealt to tasks: those of a shard by their place in it, so that a task reads a stretch of
    it, others by a hash. part: image_id and REFERENCE at least. schema: of what run makes. resources: of
    Engine.gpu_resources."""
    engine = of(part)
    if part.where(F.col("shard").isNotNull()).isEmpty():
        return engine.map_batches(part.repartition(tasks), run, schema, isolated=True, resources=resources)
    spread = F.when(F.col("shard").isNull(), F.xxhash64("image_id"))
    # The rows of a Parquet file have no size. A row group can only be read from its start, so its tasks are larger.
    stretch = F.when(F.col("size_bytes").isNull(), F.floor(F.col("shard_offset") / ROWS_TOGETHER)).otherwise(
        F.col("shard_offset")
    )
    named = part.withColumns({"spread": spread, "stretch": stretch})
    near, order = ("shard", "stretch", "spread"), ("shard", "shard_offset", "spread")
    return engine.map_in_order(named, tasks, near, order, run, schema, resources)


def in_commits(todo: DataFrame, commits: int) -> list[DataFrame]:
    """Deals images to commits, by a hash. What lies side by side in a shard stays together. todo: REFERENCE
    at least."""
    if commits == 1:
        return [todo]
    place = F.coalesce(F.concat("shard", F.lit("!"), F.shiftright("shard_offset", STRETCH_BITS).cast("string")), "uri")
    return [todo.where(F.pmod(F.xxhash64(place), F.lit(commits)) == number) for number in range(commits)]
