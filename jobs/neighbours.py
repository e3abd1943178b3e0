"""Neighbours: the k nearest images of each image, by cosine of their embeddings, exact inside Voronoi cells.

Up to neighbours.cell_images images there is one cell and the search is exact. A later run searches only for images that
are new, changed, or lost a neighbour, and merges the new ones into the lists of the others."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.types import DoubleType, IntegerType, LongType, StructField, StructType

from jobs.copies import ranked_images
from jobs.runs import Context, Counts, StageResult, run_stage
from jobs.tables import TABLES, Lake, read_parquet
from udfs import cells as lsh
from udfs.cosine import Vectors
from udfs.search import nearest

JOB = "neighbours"
ASSIGNED = StructType(
    [
        StructField("image_id", LongType(), False),
        StructField("content_key", LongType(), False),
        StructField("is_query", IntegerType(), False),
        StructField("cell", IntegerType(), False),
        TABLES["embeddings"].schema["vector"],
    ]
)
FOUND = StructType(
    [
        StructField("image_id", LongType(), False),
        StructField("neighbour_id", LongType(), False),
        StructField("cosine", DoubleType(), False),
    ]
)


def vectors_of(column: pa.ListArray | pa.ChunkedArray) -> Vectors:
    """A column of lists of equal length as (n, d) float32."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    flat = column.flatten().to_numpy(zero_copy_only=False)
    return np.ascontiguousarray(flat.reshape(len(column), -1), dtype=np.float32)


def assign_cells(centres: Vectors, probes: int) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Maps (image_id, content_key, is_query, vector) to ASSIGNED: a row for each of an image's nearest cells."""

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            if batch.num_rows == 0:
                continue
            nearest = lsh.nearest_cells(vectors_of(batch.column("vector")), centres, probes)
            for probe in range(nearest.shape[1]):
                columns = {name: batch.column(name) for name in batch.schema.names} | {
                    "cell": pa.array(nearest[:, probe])
                }
                yield pa.RecordBatch.from_arrays([columns[name] for name in ASSIGNED.names], names=ASSIGNED.names)

    return run


def search_blocks(k: int) -> Callable[[pa.Table], pa.Table]:
    """Searches one pair of blocks of one cell. The table: ASSIGNED with block, left and right.

    A query is compared with all images of the other block (or of its own where left = right); an image that is no
    query only with the queries. Returns FOUND."""

    def run(table: pa.Table) -> pa.Table:
        ids = table["image_id"].to_numpy()
        keys = table["content_key"].to_numpy()
        is_query = table["is_query"].to_numpy() == 1
        block = table["block"].to_numpy()
        left, right = table["left"][0].as_py(), table["right"][0].as_py()
        vectors = vectors_of(table["vector"])
        parts = []

        def compare(from_rows: Any, to_rows: Any) -> None:
            if from_rows.any() and to_rows.any():
                parts.append(
                    nearest(vectors[from_rows], ids[from_rows], vectors[to_rows], ids[to_rows], keys[to_rows], k)
                )

        sides = [(left, right)] if left == right else [(left, right), (right, left)]
        for here, there in sides:
            compare(is_query & (block == here), block == there)
            compare(~is_query & (block == here), is_query & (block == there))
        columns = [np.concatenate([part[i] for part in parts]) if parts else np.empty(0) for i in range(3)]
        return pa.table(
            {
                "image_id": pa.array(columns[0], pa.int64()),
                "neighbour_id": pa.array(columns[1], pa.int64()),
                "cosine": pa.array(columns[2], pa.float64()),
            }
        )

    return run


def in_blocks(assigned: DataFrame, block_images: int) -> DataFrame:
    """Deals each cell into blocks of about block_images and repeats each image for every pair of blocks it is in.

    A cell of b blocks costs b (b + 1) / 2 tasks of bounded memory. assigned: ASSIGNED. Adds block, left, right."""
    sizes = assigned.groupBy("cell").agg(F.ceil(F.count("*") / block_images).cast("int").alias("blocks"))
    dealt = assigned.join(F.broadcast(sizes), "cell").withColumn(
        "block", F.pmod(F.xxhash64("image_id"), F.col("blocks")).cast("int")
    )
    other = dealt.withColumn("_other", F.explode(F.sequence(F.lit(0), F.col("blocks") - 1)))
    return (
        other.withColumn("left", F.least("block", "_other"))
        .withColumn("right", F.greatest("block", "_other"))
        .drop("_other", "blocks")
    )


def top_k(found: DataFrame, keys: DataFrame, k: int) -> DataFrame:
    """The k nearest of each image over all cells. found: FOUND, a pair any times. keys: (image_id, content_key).

    Returns the columns of `neighbours`."""
    pairs = found.dropDuplicates(["image_id", "neighbour_id"])
    keyed = pairs.join(keys.select(F.col("image_id").alias("neighbour_id"), "content_key"), "neighbour_id")
    order = Window.partitionBy("image_id").orderBy(F.desc("cosine"), "content_key", "neighbour_id")
    return (
        keyed.withColumn("rank", F.row_number().over(order).cast("int"))
        .where(F.col("rank") <= k)
        .select(*TABLES["neighbours"].schema.names)
    )


def search(context: Context, images: DataFrame, queries: DataFrame, centres: Vectors) -> tuple[DataFrame, DataFrame]:
    """Compares the queries with all images of their cells.

    images: (image_id, content_key), those that take part. queries: (image_id), those whose neighbours are wanted; the
    other images only find the queries. Returns (FOUND, the images' cells as the table `cells`)."""
    config = context.config
    vectors = context.lake.read("embeddings").where(F.col("model") == config.embed.model).select("image_id", "vector")
    marked = (
        images.join(queries.withColumn("is_query", F.lit(1)), "image_id", "left")
        .withColumn("is_query", F.coalesce("is_query", F.lit(0)))
        .join(vectors, "image_id")
    )
    assigned = marked.mapInArrow(assign_cells(centres, config.neighbours.probes), ASSIGNED)  # type: ignore[arg-type]
    assigned = assigned.persist() if len(centres) > 1 else assigned
    found = (
        in_blocks(assigned, config.neighbours.block_images)
        .groupBy("cell", "left", "right")
        .applyInArrow(search_blocks(config.neighbours.k), FOUND)
    )
    return found, assigned.select(*TABLES["cells"].schema.names)


def still_valid(old: DataFrame, fresh: DataFrame, gone: DataFrame) -> tuple[DataFrame, DataFrame]:
    """What of the old lists can be kept.

    old: `neighbours`. fresh, gone: (image_id), images that are new (or changed) and that are there no more.
    Returns (FOUND, pairs of images that are neither; (image_id), images to search again: they lost a neighbour)."""
    as_neighbour = F.col("image_id").alias("neighbour_id")
    orphans = (
        old.join(gone.select(as_neighbour), "neighbour_id", "left_semi")
        .select("image_id")
        .distinct()
        .join(gone.select("image_id"), "image_id", "left_anti")
    )
    kept = old
    for left_out in (orphans, gone, fresh):
        kept = kept.join(left_out.select("image_id"), "image_id", "left_anti")
    return kept.join(fresh.select(as_neighbour), "neighbour_id", "left_anti").select(*FOUND.names), orphans


def neighbours(context: Context) -> Counts:
    """Brings `neighbours`, `cells` and `centres` in line with the embeddings."""
    lake, settings = context.lake, context.config.neighbours
    ranked = ranked_images(lake, context.config.embed.model)
    is_representative = F.col("image_id") == F.col("representative_id")
    images = ranked.where(is_representative).select("image_id", "content_key").persist()
    embedded, total = ranked.count(), images.count()
    # The copies of a representative have its neighbours: they are neither searched nor lost.
    counts = {"in": embedded, "out": embedded, "failed": 0, "copies": embedded - total, "searched": 0}
    cells_wanted = lsh.cell_count(total, settings.cell_images)
    afresh = _settings_changed(context) or lake.read("centres").count() != cells_wanted
    known = lake.read("cells").select("image_id", "content_key").distinct()
    known = (known.limit(0) if afresh else known).persist()
    try:
        fresh = images.join(known, ["image_id", "content_key"], "left_anti").select("image_id").persist()
        gone = known.join(images, ["image_id", "content_key"], "left_anti").select("image_id").persist()
        if fresh.isEmpty() and gone.isEmpty() and not afresh:
            return {**counts, "wrote": 0}
        if total == 0:
            for name in ("cells", "centres", "neighbours"):
                lake.overwrite(name, lake.read(name).limit(0))
            return counts
        centres = _centres(context, images, cells_wanted, afresh)
        old = lake.read("neighbours")
        kept, orphans = still_valid(old.limit(0) if afresh else old, fresh, gone)
        queries = fresh.union(orphans).distinct().persist()
        found, in_cells = search(context, images, queries, centres)
        result = _staged(lake, top_k(found.unionByName(kept), images, settings.k))
        searched = queries.count()  # now: a write below makes Spark compute it again, from the tables as they are then
        if afresh:
            lake.overwrite("cells", in_cells.limit(0))  # until the end of the stage, all images count as new
            _write_centres(lake, centres)
            lake.overwrite("neighbours", result)
            lake.overwrite("cells", in_cells)
        else:
            lake.merge("neighbours", _difference(old, result))
            lake.delete("cells", gone.union(fresh).distinct())
            lake.append("cells", in_cells.join(fresh, "image_id", "left_semi"))
        lake.clear_staging()
        return {**counts, "searched": searched, "cells": cells_wanted}
    finally:
        lake.spark.catalog.clearCache()


def _staged(lake: Lake, result: DataFrame) -> DataFrame:
    """The table's rows, computed once."""
    staged = lake.staging(JOB)
    result.write.mode("overwrite").parquet(staged)
    return read_parquet(lake.spark, staged, TABLES["neighbours"].schema)


def _difference(old: DataFrame, new: DataFrame) -> DataFrame:
    """What turns old into new. old, new: `neighbours`. Returns its columns and removed, for Lake.merge."""
    names = TABLES["neighbours"].schema.names
    changed = new.exceptAll(old.select(*names)).withColumn("removed", F.lit(False))
    removed = old.select(*names).join(new.select("image_id", "rank"), ["image_id", "rank"], "left_anti")
    return changed.unionByName(removed.withColumn("removed", F.lit(True)))


def _settings_changed(context: Context) -> bool:
    from jobs.runs import last_done

    last = last_done(context.lake, JOB)
    return last is None or {**last["settings"], "version": None} != {**_settings(context), "version": None}


def _centres(context: Context, representatives: DataFrame, count: int, afresh: bool) -> Vectors:
    """The lake's centres, or new ones from a sample drawn by content: it depends on neither ids nor partitions."""
    lake, settings = context.lake, context.config.neighbours
    if not afresh:
        rows = lake.read("centres").orderBy("cell").collect()  # bounded: a centre for each cell
        return np.array([row["vector"] for row in rows], np.float32)
    vectors = lake.read("embeddings").where(F.col("model") == context.config.embed.model).select("image_id", "vector")
    size = max(count * settings.sample_per_centre, 1)
    sample = representatives.orderBy(F.xxhash64("content_key"), "content_key").limit(size if count > 1 else 1)
    rows = sample.join(vectors, "image_id").orderBy("content_key").select("vector").collect()
    return lsh.train_centres(np.array([row["vector"] for row in rows], np.float32), count, settings.iterations)


def _write_centres(lake: Lake, centres: Vectors) -> None:
    rows = [(cell, vector.tolist()) for cell, vector in enumerate(centres)]
    lake.overwrite("centres", lake.spark.createDataFrame(rows, TABLES["centres"].schema))


def _settings(context: Context) -> dict[str, Any]:
    settings = context.config.neighbours
    return {
        "model": context.config.embed.model,
        "k": settings.k,
        "cell_images": settings.cell_images,
        "probes": settings.probes,
        "sample_per_centre": settings.sample_per_centre,
        "iterations": settings.iterations,
    }


def run(context: Context) -> StageResult:
    return run_stage(context, JOB, ("embeddings", "features"), _settings(context), neighbours)


def main(argv: list[str]) -> int:
    from jobs.command import main as command

    return command([JOB, *argv])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
