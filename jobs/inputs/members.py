"""Shards to their members: tar archives and Parquet files are listed on the executors, and only where they changed."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from jobs.engines.frames import map_batches, read_parquet, write_parquet
from jobs.errors import InputError
from jobs.stage import Context
from udfs.stores import fetch, shards

FILES = from_arrow_schema(shards.FILES)
MEMBERS = from_arrow_schema(shards.MEMBERS)
# Shards of one task where there are many, for a task costs up to a second; but at least TASKS_PER_CORE a core, for one
# shard can be a hundred times as large as the next.
SHARDS_PER_TASK = 16
TASKS_PER_CORE = 4


def is_broken_shard() -> Column:
    """Whether a row of `images` is a shard that could not be listed to its end, and no image. Needs uri and shard."""
    return F.col("shard").isNull() & F.lower("uri").rlike(f"[.]({'|'.join(shards.KINDS)})$")


def listed_before(files: DataFrame, images: DataFrame) -> DataFrame:
    """The members of shards that have not changed, as MEMBERS, from the table: a shard is the same by its etag.

    files: FILES. images: the table, made from the same inputs with the same settings. A shard that stands in it
    itself could not be listed to its end, and is left out."""
    now = files.where(F.col("etag").isNotNull()).select(
        F.col("uri").alias("shard"),
        F.col("etag").alias("etag_now"),
        F.col("modified_at").alias("modified_at_now"),
        F.when(F.col("relative") == "", "").otherwise(F.concat("relative", F.lit("/"))).alias("above"),
    )
    broken = images.where(F.col("shard").isNull()).join(now.select(F.col("shard").alias("uri")), "uri").select("uri")
    same = (
        images.where(F.col("shard").isNotNull())
        .join(now, "shard")
        .where(F.col("etag") == F.col("etag_now"))
        .join(broken.select(F.col("uri").alias("shard")), "shard", "left_anti")
    )
    # A member's URI is its shard's, `!/`, its name.
    name = F.expr("substring(uri, length(shard) + 3)")
    return same.select(
        "uri", F.concat("above", name).alias("relative"), "source", "size_bytes", "etag",
        F.col("modified_at_now").alias("modified_at"), "split", "label", "labels", "owner", "shard", "shard_offset",
    )  # fmt: skip


def list_shards(context: Context, files: DataFrame, number: int, outside: tuple[str, ...]) -> tuple[DataFrame, int]:
    """Lists shards on the executors, staged. files: FILES, about `number` of them. outside: beginnings of the URIs of
    files that are none. Skew: a shard is listed by one task.

    Returns (their members, each URI once, as the columns of MEMBERS; number of files in them that are no images).
    Raises InputError where the store does not let one be read: its images are not gone."""
    lake, config = context.lake, context.config
    limits = fetch.Limits(config.embed.max_bytes, config.embed.timeout_s, config.embed.retries)
    work = shards.expand(tuple(ending.lower() for ending in config.catalog.extensions), limits, outside)
    place = lake.staging("members")
    engine = lake.engine
    tasks = engine.tasks(max(TASKS_PER_CORE * engine.cores, number // SHARDS_PER_TASK))
    dealt = files.repartition(max(1, min(number, tasks)))
    write_parquet(map_batches(dealt, work, MEMBERS), place)
    staged = read_parquet(lake.spark, place, MEMBERS)
    notes = staged.where(F.col("uri").isNull())
    told = notes.agg(
        F.sum("skipped"),
        F.bool_or("repeats"),
        F.min(F.when(F.col("fault").isNotNull(), F.struct("shard", "fault"))),
        F.count("label_of"),
    ).head()
    skipped, repeats, fault, apart = told or (0, False, None, 0)
    if fault is not None:
        raise InputError(f"{fault['shard']}: cannot be listed now ({fault['fault']}): run the same command again")
    members = staged.where(F.col("uri").isNotNull())
    if apart:
        members = with_labels(members, notes.where(F.col("label_of").isNotNull()))
    if repeats:
        members = told_apart(members, notes.where("repeats").select("shard"))
    return members, int(skipped or 0)


def with_labels(members: DataFrame, labels: DataFrame) -> DataFrame:
    """Members with the labels that stand apart from them in their archive, by the name up to the first dot of its last
    part. members, labels: MEMBERS."""
    found = labels.groupBy("shard", "label_of").agg(F.min("label").alias("label_apart"))
    name = F.regexp_extract("relative", "^((?:.*/)?[^./]*)", 1)
    joined = members.withColumn("label_of", name).join(found, ["shard", "label_of"], "left")
    return joined.withColumn("label", F.coalesce("label", "label_apart")).select(*members.columns)


def told_apart(members: DataFrame, some: DataFrame) -> DataFrame:
    """Members of which a URI stands once: of those of one name the first in the archive keeps it, the others get their
    offset behind it. some: the shards to be looked at."""
    rank = F.row_number().over(Window.partitionBy("uri").orderBy("shard_offset"))
    longer = F.concat("uri", F.lit("!"), F.col("shard_offset").cast("string"))
    repeated = members.join(some, "shard", "left_semi").withColumn("rank", rank)
    named = repeated.withColumn("uri", F.when(F.col("rank") > 1, longer).otherwise(F.col("uri"))).drop("rank")
    return named.unionByName(members.join(some, "shard", "left_anti"))
