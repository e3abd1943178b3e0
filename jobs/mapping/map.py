"""Map: a place in a plane for each image, so that alike ones lie together.

A bounded sample, drawn by content, is laid out on the driver; all others are placed in the workers by those of the
sample that they are nearest to. A later run places what is new on the map that is there, so that nothing moves, until
the sample that is left says too little of the lake, or a person asks for a new map."""

from __future__ import annotations

import sys
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.engines.frames import batch_rows, from_arrow, keep, small, to_arrow
from jobs.neighbours import step
from jobs.stage import Context, Counts, Option, Ready, Stage, submitted
from jobs.tables import TABLES
from udfs.maps import placing, reduction
from udfs.maps.layout import lay_out
from udfs.maps.placing import PLACED, Anchors
from udfs.vectors.cell_packs import vectors_of

JOB = "map"
SAMPLE = 16_384  # images that are laid out: 84 MB of 1,280 numbers on the driver, and 4 s of CPU
LEAST_SHARE = 0.5  # of the images that a new sample would have: with fewer left, the map is laid out anew
BROADCAST_IMAGES = 1_000_000  # up to so many new ones, each task gets all ids, and no vector is shuffled for them
ARROW_ROWS = 512  # in a batch: 2.6 MB of 1,280 numbers
KEY = ["image_id", "content_key"]


def embedding_map(context: Context) -> Counts:
    """Brings `map` in line with the embeddings."""
    lake = context.lake
    embeddings = lake.require("embeddings").where(F.col("model") == context.config.embed.model)
    embeddings = embeddings.select("image_id", "vector")
    copies = lake.require("copies")
    total = copies.count()
    counts: Counts = {"in": total, "out": total, "failed": 0, "laid_out": 0, "placed": 0}
    if not total:
        lake.empty("map")
        return counts
    different = copies.where(F.col("image_id") == F.col("representative_id")).select(*KEY)
    try:
        with batch_rows(lake.spark, ARROW_ROWS):
            known = lake.read("map")
            left = known.where("is_anchor").join(copies.select(*KEY), KEY, "left_semi")
            wanted = min(different.count(), SAMPLE)
            if _is_asked(context) or _settings_changed(context) or left.count() < LEAST_SHARE * wanted:
                return {**counts, **_laid_out(context, embeddings, copies, different)}
            return {**counts, **_brought_up(context, embeddings, copies, known, left)}
    finally:
        lake.engine.forget_all()


def _laid_out(context: Context, embeddings: DataFrame, copies: DataFrame, different: DataFrame) -> Counts:
    """A new map."""
    lake = context.lake
    drawn = different.orderBy("content_key", "image_id").limit(SAMPLE)
    table = _in_order(embeddings.join(small(drawn), "image_id"))
    vectors = vectors_of(table["vector"])
    learnt = reduction.learn(vectors)
    rows = learnt.of(vectors)
    points = lay_out(rows)
    columns = {
        "image_id": table["image_id"], "x": points[:, 0], "y": points[:, 1], "is_anchor": [True] * len(points),
        "content_key": table["content_key"],
    }  # fmt: skip
    anchors = from_arrow(lake.spark, pa.table(columns), TABLES["map"].schema)
    others = embeddings.join(small(anchors.select("image_id")), "image_id", "left_anti")
    placed = _placed(others, Anchors(learnt, rows, points), copies)
    lake.overwrite("map", anchors.unionByName(placed))
    return {"laid_out": len(points), "placed": copies.count() - len(points)}


def _brought_up(
    context: Context, embeddings: DataFrame, copies: DataFrame, known: DataFrame, left: DataFrame
) -> Counts:
    """Takes away what is gone and places what is new. left: the rows of the sample that are as they were."""
    lake = context.lake
    fresh = keep(copies.select(*KEY).join(known, KEY, "left_anti").select("image_id"))
    gone = keep(known.select(*KEY).join(copies, KEY, "left_anti").select("image_id"))
    count = fresh.count()
    if not count and gone.isEmpty():
        return {"wrote": 0}
    if count:
        table = _in_order(embeddings.join(small(left.select(*KEY, "x", "y")), "image_id"))
        vectors = vectors_of(table["vector"])
        learnt = reduction.learn(vectors)
        points = pa.table({"x": table["x"], "y": table["y"]}).to_pandas().to_numpy()
        new = embeddings.join(small(fresh) if count <= BROADCAST_IMAGES else fresh, "image_id", "left_semi")
        placed = keep(_placed(new, Anchors(learnt, learnt.of(vectors), points), copies))
    if not gone.isEmpty():
        lake.delete("map", gone)
    if count:
        lake.append("map", placed)
    return {"placed": count}


def _in_order(rows: DataFrame) -> pa.Table:
    """Brings a sample to the driver, ordered by content: it depends neither on ids nor on partitions."""
    return to_arrow(rows).sort_by([("content_key", "ascending"), ("image_id", "ascending")])


def _placed(embeddings: DataFrame, anchors: Anchors, copies: DataFrame) -> DataFrame:
    """The rows of `map` for these images. embeddings: (image_id, vector)."""
    found = step(embeddings, placing.place(anchors), PLACED).withColumn("is_anchor", F.lit(False))
    return found.join(copies.select(*KEY), "image_id").select(*TABLES["map"].schema.names)


def _is_asked(context: Context) -> bool:
    return bool(context.given.get(JOB))


def _settings_changed(context: Context) -> bool:
    last = context.history.last_done(JOB)
    return last is not None and {**last["settings"], "version": None} != {**_settings(context), "version": None}


def _settings(context: Context) -> dict[str, Any]:
    return {"model": context.config.embed.model}


STAGE = Stage(
    name=JOB,
    does="lay all images out on a map",
    reads=("embeddings", "copies"),
    writes=("map",),
    settings=_settings,
    body=embedding_map,
    always=_is_asked,
    options=(
        Option("--new-map", {"action": "store_true", "help": "lay the map out anew, where one is there that would do"}),
    ),
    prepare=lambda asked: Ready(asked.arguments.new_map),
)


if __name__ == "__main__":
    sys.exit(submitted(JOB))
