"""Neighbours: the k nearest images of each image, by cosine of their embeddings, among those that share a cell.

Up to neighbours.exact_images images there is one cell and all pairs are compared. A later run searches only for images
that are new, changed, or lost a neighbour, and merges the new ones into the lists of the others. In every run a sample
is searched exactly, so that the recall is known; where it is under its floor, all are searched again, more widely."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from jobs.duplicates import recall
from jobs.duplicates.copies import find_copies
from jobs.duplicates.lists import merged_pairs, pairs_of, still_valid
from jobs.duplicates.near_rules import near_rule
from jobs.engines.frames import (
    batch_rows,
    frame_of,
    from_arrow,
    keep,
    map_batches,
    map_together,
    read_parquet,
    small,
    to_arrow,
    write_parquet,
)
from jobs.lakes import Lake, difference
from jobs.stage import Context, Counts, Stage, submitted
from jobs.tables import TABLES
from udfs.vectors import cell_packs, cells, packs
from udfs.vectors.cell_packs import Images, Repeated
from udfs.vectors.cells import to_cells
from udfs.vectors.cosine import Ids, Vectors
from udfs.vectors.merge import merge_lists
from udfs.vectors.search import exact_lists, repeated_lists, search_cells

JOB = "neighbours"
BROADCAST_IMAGES = 1_000_000  # up to so many, each task gets all ids (about 40 MB), and no vector is shuffled for them
LEAST_SAMPLE, MOST_SAMPLE = 16_384, 262_144
BUCKET_IMAGES = 65_536  # whose lists one step merges
MENDS = 2  # searches more widely in one run
MOST_GROWN = 2.0  # times neighbours.cell_mb that the vectors of a cell may take where more probes are needed
ARROW_ROWS = 512  # in a batch: 512 packs are at most 128 MB


@dataclass(frozen=True)
class Search:
    """What one run compares. images: (image_id, content_key, asks INT, vector), all that take part; asks is 1 where
    the neighbours are wanted: the others only find those. repeated: see its class. cells: how many there are."""

    images: DataFrame
    total: int
    asked: int
    cells: int
    effort: recall.Effort
    centres: Vectors
    repeated: Repeated

    @property
    def buckets(self) -> int:
        return 1 + self.total // BUCKET_IMAGES


def step(frame: DataFrame, run: cell_packs.Step, schema: pa.Schema) -> DataFrame:
    return map_batches(frame, run, from_arrow_schema(schema))


def met(packed: DataFrame, partitions: int, run: cell_packs.Step, schema: pa.Schema) -> DataFrame:
    """A step on packs, those of each place in one partition, one after another."""
    return map_together(packed, [packs.PLACE], run, from_arrow_schema(schema), partitions)


def collected(images: DataFrame) -> Images:
    """images: as Search.images, few of them. Brings them to the driver, ordered by content."""
    table = to_arrow(images)
    ids, keys = table["image_id"].to_numpy(), table["content_key"].to_numpy()
    order = np.lexsort((ids, keys))
    vectors = cell_packs.vectors_of(table["vector"]) if len(ids) else np.empty((0, 1), np.float32)
    return Images(ids[order], keys[order], table["asks"].to_numpy()[order] == 1, vectors[order])


def found_lists(context: Context, search: Search) -> DataFrame:
    """MERGED: the k nearest of each image among those that share a cell with it."""
    settings, dimension = context.config.neighbours, search.centres.shape[1]
    hashed = step(
        search.images,
        to_cells(search.centres, search.effort.probes, search.repeated, _asked_cells(search)),
        cell_packs.IMAGES,
    )
    lists = met(
        hashed,
        search.cells,
        search_cells(settings.k, dimension, settings.exact_images, search.effort.fine_probes, search.buckets),
        cell_packs.LISTS,
    )
    if len(search.repeated.vectors):
        rest = repeated_lists(search.centres, search.repeated, search.buckets)
        lists = lists.unionByName(step(search.images, rest, cell_packs.LISTS))
    return met(lists, search.buckets, merge_lists(settings.k), cell_packs.MERGED)


def _asked_cells(search: Search) -> Ids | None:
    """The cells that images who ask are in, or None for all: the others need not be looked at."""
    if search.cells == 1 or search.asked == search.total:
        return None
    asking = search.images.where("asks = 1")
    nobody = Repeated.none(search.centres.shape[1])
    assign = to_cells(search.centres, search.effort.probes, nobody, None)
    places = step(asking, assign, cell_packs.IMAGES).select(packs.PLACE).distinct().collect()  # at most all cells
    return np.flatnonzero(np.isin(packs.place_names(search.cells), [row[0] for row in places]))


def neighbours(context: Context) -> Counts:
    """Brings `copies`, `neighbours`, `cells` and `centres` in line with the embeddings."""
    lake, config = context.lake, context.config
    settings = config.neighbours
    copies = keep(find_copies(lake, config.embed.model))
    lake.merge("copies", difference(lake.read("copies"), copies, "copies"))
    # Others have the neighbours of their representative: they are neither searched nor lost.
    images = copies.where("image_id = representative_id").select("image_id", "content_key")
    embedded, total = copies.count(), images.count()
    counts: Counts = {"in": embedded, "out": embedded, "failed": 0, "copies": embedded - total, "searched": 0}
    layout = cells.layout(
        total, _dimension(context), settings.exact_images, int(settings.cell_mb * 10**6), settings.probes
    )
    afresh = _settings_changed(context) or lake.read("centres").count() != layout.cells
    effort = recall.Effort(layout.probes, settings.fine_probes)
    if not afresh:
        effort = _last_effort(context, effort)
    try:
        if total == 0:
            wrote = sum(_emptied(lake, name) for name in ("cells", "centres", "neighbours"))
            return {**counts, "wrote": int(afresh) + wrote}
        with batch_rows(lake.spark, ARROW_ROWS):
            if afresh:
                searched = _afresh(context, images, total, layout.cells, effort, None)
            else:
                found = _again(context, images, total, layout.cells, effort)
                if found is None:  # the lists are those of the last run, and so is what it measured of them
                    last = context.history.last_done(JOB)
                    return {**(last["counts"] if last else {}), **counts, "wrote": 0}
                searched = found
            asked = searched.asked
            measured, better = _recall(context, searched, MENDS)
            for left in reversed(range(MENDS)):
                if better is None:
                    break
                began, effort = time.monotonic(), better
                searched = _afresh(context, images, total, layout.cells, effort, searched.centres)
                asked += searched.asked
                how = f"neighbours.probes={effort.probes}, neighbours.fine_probes={effort.fine_probes}"
                took = f"searched again with {how} in {time.monotonic() - began:.0f} s"
                context.reporter.stage(JOB, f"{took}; later runs begin with them")
                measured, better = _recall(context, searched, left)
            counts |= {"searched": asked, "cells": layout.cells, "largest_cell": _largest_cell(lake)}
            if layout.cells > 1:
                counts |= {"probes": effort.probes, "fine_probes": effort.fine_probes}
            counts |= measured
        lake.clear_staging()
        return counts
    finally:
        lake.engine.forget_all()


def _last_effort(context: Context, usual: recall.Effort) -> recall.Effort:
    """With which the last run searched: its lists and new ones are of one kind."""
    last = context.history.last_done(JOB)
    counts = last["counts"] if last else {}
    return recall.Effort(counts.get("probes", usual.probes), counts.get("fine_probes", usual.fine_probes))


def _largest_cell(lake: Lake) -> int:
    """Images in the cell that is the nearest one of most. No cell is cut: a large one takes its task longer."""
    row = lake.read("cells").groupBy("cell").count().agg(F.max("count")).head()
    return 0 if row is None else int(row[0])


def _emptied(lake: Lake, name: str) -> bool:
    """Leaves a table without rows. Returns whether there was anything to do."""
    if lake.exists(name) and lake.read(name).isEmpty():
        return False
    lake.overwrite(name, lake.read(name).limit(0))
    return True


def _afresh(
    context: Context, images: DataFrame, total: int, count: int, effort: recall.Effort, centres: Vectors | None
) -> Search:
    """Searches for the neighbours of all images. images: (image_id, content_key), total of them. count: of cells.
    centres: where they are known."""
    lake = context.lake
    search = _prepared(context, images.withColumn("asks", F.lit(1)), total, total, count, effort, centres)
    lists = _staged(lake, found_lists(context, search), "lists")
    _emptied(lake, "cells")  # until the end, all images count as new
    _write_centres(lake, search.centres)
    lake.overwrite("neighbours", pairs_of(lists))
    lake.overwrite("cells", lists.select(*TABLES["cells"].schema.names))
    return search


def _again(context: Context, images: DataFrame, total: int, count: int, effort: recall.Effort) -> Search | None:
    """Searches for the neighbours of the images that are new or lost one; None where there are none."""
    lake = context.lake
    known = keep(lake.read("cells").select("image_id", "content_key").distinct())
    fresh = keep(images.join(known, ["image_id", "content_key"], "left_anti").select("image_id"))
    gone = keep(known.join(images, ["image_id", "content_key"], "left_anti").select("image_id"))
    if fresh.isEmpty() and gone.isEmpty():
        return None
    old = lake.read("neighbours")
    kept, orphans = still_valid(old, fresh, gone)
    asking = keep(fresh.union(orphans).distinct())
    marked = images.join(asking.withColumn("asks", F.lit(1)), "image_id", "left").na.fill(0, ["asks"])
    table = to_arrow(lake.read("centres").orderBy("cell"))
    centres = cell_packs.vectors_of(table["vector"])
    search = _prepared(context, marked, total, asking.count(), count, effort, centres)
    lists = _staged(lake, found_lists(context, search), "lists")
    found = pairs_of(lists).drop("rank")
    touched = keep(found.select("image_id").union(fresh).distinct())
    kept = kept.join(touched, "image_id", "left_semi")
    result = _staged(lake, merged_pairs(found, kept, images, context.config.neighbours.k), "result")
    concerned = touched.union(gone).distinct()
    in_cells = lists.select(*TABLES["cells"].schema.names).join(fresh, "image_id", "left_semi")
    lake.merge("neighbours", difference(old.join(concerned, "image_id", "left_semi"), result, "neighbours"))
    lake.delete("cells", gone.union(fresh).distinct())
    lake.append("cells", in_cells)
    return search


def _dimension(context: Context) -> int:
    """Numbers in a vector of the model in use; 1 where there is no vector."""
    rows = context.lake.read("embeddings").where(F.col("model") == context.config.embed.model)
    row = rows.select(F.size("vector")).head()
    return 1 if row is None else int(row[0])


def _prepared(
    context: Context,
    images: DataFrame,
    total: int,
    asked: int,
    count: int,
    effort: recall.Effort,
    centres: Vectors | None,
) -> Search:
    """images: (image_id, content_key, asks), total of them, of which `asked` ask. count: of cells. centres: where they
    are known."""
    settings = context.config.neighbours
    embeddings = context.lake.read("embeddings").where(F.col("model") == context.config.embed.model)
    vectors = embeddings.select("image_id", "vector")
    rows = vectors.join(small(images) if total <= BROADCAST_IMAGES else images, "image_id")
    if count == 1:  # nothing is to be learnt, and all are in one task in any case
        dimension = _dimension(context)
        nowhere = np.zeros((1, dimension), np.float32)
        return Search(rows, total, asked, count, effort, nowhere, Repeated.none(dimension))
    size = min(max(count * settings.sample_per_centre, LEAST_SAMPLE), MOST_SAMPLE)
    # Drawn by content: it depends neither on ids nor on partitions.
    drawn = images.orderBy("content_key", "image_id").limit(size)
    sample = collected(vectors.join(small(drawn), "image_id"))
    repeated, first = cell_packs.repeated_in(sample, settings.k)
    if centres is None:
        different = sample.vectors[first] if len(first) >= count else sample.vectors
        centres = cells.train_centres(different, count, settings.iterations)
    return Search(rows, total, asked, count, effort, centres, repeated)


def _staged(lake: Lake, rows: DataFrame, name: str) -> DataFrame:
    """The rows, computed once, from the tables as they are now."""
    staged = lake.staging(JOB, name)
    write_parquet(rows, staged)
    return read_parquet(lake.spark, staged, rows.schema)


def _recall(context: Context, search: Search, left: int) -> tuple[Counts, recall.Effort | None]:
    """Measures the recall of the table as it now is. Where it is under its floor, returns as well how widely to search
    again, or None, and says what to set. left: how often it may be searched again."""
    settings, lake = context.config.neighbours, context.lake
    if search.cells == 1:
        context.reporter.stage(JOB, f"all {search.total:,} images were compared with one another: recall 100 %")
        return {}, None
    if not settings.recall_images:
        return {}, None
    # The other end of the order by content: none of them has trained a centre.
    drawn = search.images.select("image_id", "content_key").orderBy(F.desc("content_key"), F.desc("image_id"))
    ids = drawn.limit(settings.recall_images).select("image_id")
    queries = collected(search.images.join(small(ids), "image_id"))
    exact = step(search.images, exact_lists(queries, settings.k, 1), cell_packs.LISTS)
    best = met(exact, 1, merge_lists(settings.k), cell_packs.MERGED)
    truth = recall.compared(queries, best, lake.read("neighbours"), settings.k, near_rule(context.config))
    at_k, of_pairs = truth.at_k(), truth.of_pairs()
    context.reporter.stage(
        JOB,
        f"recall@{settings.k} {at_k.text()}; of {of_pairs.of:,} pairs that may be near-duplicates {of_pairs.text()}; "
        f"measured on {len(queries.ids):,} images",
    )
    better = None
    others = sorted({int(image_id) for image_id in truth.other})
    if at_k.value < settings.recall_floor or of_pairs.value < settings.pair_recall_floor:
        ids = frame_of(lake.spark, [(image_id,) for image_id in others], "image_id BIGINT")
        near = collected(search.images.join(small(ids), "image_id"))
        vectors = dict(zip(near.ids.tolist(), near.vectors, strict=True))
        wanted = recall.wanted(truth, vectors, search.centres, search.effort, settings)
        better = recall.together([one.effort for one in wanted])
        numbers = search.total * len(search.centres[0]) / search.cells  # of the vectors in a cell, once
        if better and (
            not (left and settings.mend) or numbers * 4 * better.probes > MOST_GROWN * settings.cell_mb * 1e6
        ):
            better = None
        said = [one.now if better else f"{one.now}: set {one.where}" for one in wanted]
        context.reporter.stage(JOB, "; ".join(said))
    counts = {
        "recall_at_k": round(at_k.value, 4), "recall_at_k_low": round(at_k.low, 4),
        "recall_at_k_high": round(at_k.high, 4), "pair_recall": round(of_pairs.value, 4),
        "pair_recall_low": round(of_pairs.low, 4), "pairs_sampled": of_pairs.of, "recall_images": len(queries.ids),
    }  # fmt: skip
    return counts, better


def _settings_changed(context: Context) -> bool:
    last = context.history.last_done(JOB)
    return last is None or {**last["settings"], "version": None} != {**_settings(context), "version": None}


def _write_centres(lake: Lake, centres: Vectors) -> None:
    kind = pa.list_(pa.field("element", pa.float32(), False))
    ends = pa.array(np.arange(len(centres) + 1, dtype=np.int32) * centres.shape[1])
    vectors = pa.ListArray.from_arrays(ends, pa.array(centres.ravel()), type=kind)
    table = pa.table({"cell": pa.array(np.arange(len(centres), dtype=np.int32)), "vector": vectors})
    lake.overwrite("centres", from_arrow(lake.spark, table, TABLES["centres"].schema))


def _settings(context: Context) -> dict[str, Any]:
    settings = context.config.neighbours
    names = ("k", "exact_images", "cell_mb", "probes", "fine_probes", "sample_per_centre", "iterations")
    return {"model": context.config.embed.model, **{name: getattr(settings, name) for name in names}}


STAGE = Stage(
    name=JOB,
    does="find the nearest images of each image",
    reads=("images", "features", "embeddings"),
    writes=("copies", "neighbours", "cells", "centres"),
    settings=_settings,
    body=neighbours,
)


if __name__ == "__main__":
    sys.exit(submitted(JOB))
