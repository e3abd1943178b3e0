"""Albums: lays the pictures of each owner out so that they are read at once.

Each run writes what is new, has changed or is gone as files of its own, sorted by owner; what earlier runs wrote stays
as it is, but where it is not runs.FACTOR times as much it is written again with what is new. So few runs are there at
any time, and each picture is written a bounded number of times. A batch of arrivals is a run too: see jobs.live.albums.
"""

from __future__ import annotations

from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from jobs.albums.runs import joined, runs_of
from jobs.engines.delta_files import Added
from jobs.engines.frames import batch_rows, keep, map_batches, map_together, read_parquet, small, write_parquet
from jobs.errors import ContractError
from jobs.lakes import Lake
from jobs.stage import Context, Counts, Stage
from udfs.albums import files, packs
from udfs.stores import objects, uris

JOB = "albums"
PACK_IMAGES = 2048  # of one row: 5 MB of 1,280 numbers
ARROW_ROWS = 512  # in a batch: 2.6 MB of 1,280 numbers
NAME = ["owner", "image_id"]


def albums(context: Context) -> Counts:
    """Brings `albums` in line with the images that have an owner and a vector."""
    lake, model = context.lake, context.config.embed.model
    owned = lake.require("images").where(F.col("owner").isNotNull())
    if owned.isEmpty():
        lake.empty(JOB)
        return {"in": 0, "out": 0, "failed": 0}
    try:
        wanted = keep(_wanted(lake, owned, model))
        total = wanted.count()
        known = keep(_known(lake))
        marks = known.where(F.col("mark") != packs.MARK_GONE).select(*NAME, "mark")
        gone = keep(marks.join(wanted, NAME, "left_anti").select(*NAME))
        changed = wanted.join(marks, [*NAME, "mark"], "left_anti").count()
        removed = gone.count()
        counts: Counts = {"in": total, "out": total, "failed": 0, "changed": changed, "gone": removed, "written": 0}
        held = {row["run"]: row["count"] for row in known.groupBy("run").count().collect()}
        again_runs = joined(held, changed + removed)
        if changed + removed == 0 and not again_runs and lake.exists(JOB):
            return {**counts, "wrote": 0}
        if not set(held) - again_runs:
            rows = wanted.select(*NAME, "mark")
        else:
            stays = known.where((F.col("mark") != packs.MARK_GONE) & ~F.col("run").isin(*again_runs))
            again = wanted.join(stays, [*NAME, "mark"], "left_anti").select(*NAME, "mark")
            gone = gone.unionByName(
                known.where((F.col("mark") == packs.MARK_GONE) & F.col("run").isin(*again_runs)).select(*NAME)
                .join(wanted, NAME, "left_anti")
            ).distinct()  # fmt: skip
            rows = again.unionByName(gone.withColumn("mark", F.lit(packs.MARK_GONE).cast("long")))
        rows = keep(rows)
        counts["written"] = _written(lake, wanted, rows, model, max([0, *held]) + 1, set(held) - again_runs)
        return counts
    finally:
        lake.engine.forget_all()
        lake.clear_staging()


def _wanted(lake: Lake, owned: DataFrame, model: str) -> DataFrame:
    """What told() tells of the images that have a vector."""
    vectors = lake.require("embeddings").where(F.col("model") == model).select("image_id")
    scores = lake.read("scores").select("image_id", "quality_score")
    times = lake.read("features").select("image_id", "taken_at")
    return told(owned.join(vectors, "image_id").join(scores, "image_id", "left").join(times, "image_id", "left"), model)


def told(pictures: DataFrame, model: str) -> DataFrame:
    """(owner, image_id, taken, by_camera, quality, uri, mark). pictures: (owner, image_id, uri, etag, modified_at,
    taken_at, quality_score) and others. model: of their vectors."""
    rows = pictures.select(
        "owner", "image_id", "uri", "etag", F.col("quality_score").cast("float").alias("quality"),
        F.unix_micros(F.coalesce("taken_at", "modified_at")).alias("taken"),
        F.col("taken_at").isNotNull().cast("int").alias("by_camera"),
    )  # fmt: skip
    return rows.withColumn("mark", _mark(model)).drop("etag")


def _mark(model: str) -> Column:
    """A number for all that an album tells of a picture, never MARK_GONE. Numbers are rounded first: the engines differ
    in the last digits."""
    quality = F.round(F.col("quality").cast("double") * 1_000_000).cast("long")
    hashed = F.xxhash64(
        F.lit(model), "uri", F.coalesce("etag", F.lit("")), F.coalesce("taken", F.lit(-1).cast("long")), "by_camera",
        F.coalesce(quality, F.lit(-1).cast("long")),
    )  # fmt: skip
    return F.when(hashed == packs.MARK_GONE, F.lit(1).cast("long")).otherwise(hashed)


def _known(lake: Lake) -> DataFrame:
    """HELD, each picture of an owner once, as the last run has told it."""
    held = map_batches(lake.read(JOB).select(*packs.HELD_OF), packs.held, from_arrow_schema(packs.HELD))
    last = held.groupBy(*NAME).agg(F.max_by(F.struct("run", "mark"), "run").alias("last"))
    return last.select(*NAME, F.col("last.run").alias("run"), F.col("last.mark").alias("mark"))


def _written(lake: Lake, wanted: DataFrame, rows: DataFrame, model: str, run: int, stay: set[int]) -> int:
    """Writes pictures as a run, in place of all runs but those that stay, also of such in which no picture counts.
    rows: (owner, image_id, mark). Returns how many there were. Skew: an owner with more than a bucket of pictures is
    shared among tasks."""
    engine, table = lake.engine, lake.path(JOB)
    total = rows.count()
    span = rows.agg(F.min("image_id"), F.max("image_id")).collect()[0]
    vectors = lake.read("embeddings").where((F.col("model") == model) & F.col("image_id").between(span[0], span[1]))
    facts = wanted.select(*NAME, "taken", "by_camera", "quality", "uri")
    there = rows.where(F.col("mark") != packs.MARK_GONE).join(facts, NAME)
    there = there.join(vectors.select("image_id", "vector"), "image_id")
    nothing = {name: F.lit(None).cast(kind) for name, kind in
               (("taken", "long"), ("quality", "float"), ("uri", "string"), ("vector", "array<float>"))}  # fmt: skip
    gone = rows.where(F.col("mark") == packs.MARK_GONE).withColumns({**nothing, "by_camera": F.lit(0)})
    each = rows.groupBy("owner").count().where(F.col("count") > files.BUCKET_IMAGES)
    shares = each.select("owner", F.ceil(F.col("count") / files.BUCKET_IMAGES).cast("int").alias("shares"))
    bits = files.buckets(total)
    key = F.conv(F.substring(F.sha2("owner", 256), 1, packs.KEY_DIGITS), 16, 10).cast("long")
    bucket = F.shiftright(key, packs.KEY_BITS - bits).cast("int") if bits else F.lit(0)
    dealt = (
        there.select(*files.GIVEN).unionByName(gone.select(*files.GIVEN))
        .join(small(shares), "owner", "left")
        .withColumn(files.BUCKET, bucket)
        .withColumn(files.SHARE, F.pmod("image_id", F.coalesce("shares", F.lit(1))).cast("int"))
        .select(files.BUCKET, files.SHARE, *files.GIVEN)
    )  # fmt: skip
    if not lake.exists(JOB):
        lake.empty(JOB)  # Spark makes no table where files lie
    objects.delete_below(uris.join(table, files.folder_of(run)))  # of a run that was killed
    staged = lake.staging(JOB)
    with batch_rows(lake.spark, ARROW_ROWS):
        work = files.written(table, run, model, PACK_IMAGES)
        keys = [files.BUCKET, files.SHARE]
        made = map_together(dealt, keys, work, from_arrow_schema(files.FILES), engine.tasks(1 << bits))
        write_parquet(made, staged)
    found = read_parquet(lake.spark, staged, from_arrow_schema(files.FILES)).collect()
    if sum(row["images"] for row in found) != total:
        raise ContractError(f"{JOB}: {sum(row['images'] for row in found)} of {total} pictures were written")
    added = [Added(r["path"], r["size_bytes"], r["rows"], {"owner_key": (r["low"], r["high"])}) for r in found]
    lake.put_files(JOB, added, [name for one, names in runs_of(table).items() if one not in stay for name in names])
    return total


def _settings(context: Context) -> dict[str, Any]:
    return {"model": context.config.embed.model}


STAGE = Stage(
    name=JOB,
    does="lay the pictures of each owner out to be read at once",
    reads=("images", "features", "embeddings", "scores"),
    writes=(JOB,),
    settings=_settings,
    body=albums,
)
