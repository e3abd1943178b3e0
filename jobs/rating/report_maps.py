"""Maps for the report, made by the workers: a picture is hostile until it is decoded."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from jobs.engines.frames import frame_of, small
from jobs.rating.store import Kept
from jobs.stage import Context
from udfs import arrow
from udfs.images import rows as image_rows
from udfs.networks import models, preparation
from udfs.networks.models import Model, ModelError
from udfs.ratings.explainer import kind_of
from udfs.ratings.files import NETWORK
from udfs.ratings.heads import Head
from udfs.stores import fetch
from udfs.stores.cache import user_cache

IMAGES_A_TASK = 12  # to open the network takes as long
MAPPED = from_arrow_schema(image_rows.MAPPED)
Made = dict[tuple[int, str], tuple[list[list[float]], bool, bool]]


def without(context: Context, kept: Sequence[Kept]) -> dict[str, str]:
    """Why ratings have no maps in the report, by key."""
    embed = context.config.embed
    model = _model(context)
    found = {}
    for one in kept:
        if one.head.kind == NETWORK:
            found[one.head.key] = "It is a network of its own, whose maps are not made."
        elif model is None or model.format == "vectors":
            found[one.head.key] = f"The vectors of {embed.model} were imported: no network can be asked."
        elif one.head.model != model.key:
            found[one.head.key] = f"It is for vectors of {one.head.model}."
    return found


def _model(context: Context) -> Model | None:
    try:
        return models.find(context.config.embed.model, context.config.models)
    except ModelError:
        return None


def make(context: Context, wanted: Sequence[tuple[int, str]], kept: Sequence[Kept]) -> Made:
    """What values.ScoreMap has of (image, rating), without those that could not be read. Raises ModelError."""
    model = _model(context)
    if not wanted or model is None:
        return {}
    lake, embed = context.lake, context.config.embed
    heads = {one.head.key: one.head for one in kept}
    keys = sorted({key for _, key in wanted})
    places = {key: place for place, key in enumerate(keys)}
    asked = frame_of(lake.spark, [(image, places[key]) for image, key in wanted], "image_id bigint, place int")
    todo = lake.read("images").join(small(asked), "image_id")
    todo = todo.select("image_id", "place", *image_rows.REFERENCE.names)
    files = lake.engine.workers(preparation.prepare(model, user_cache(), kind_of(model)).files)
    limits = fetch.Limits(embed.max_bytes, embed.timeout_s, embed.retries)
    make_task = task_maker(
        files, model, tuple(heads[key] for key in keys), limits, embed.fetch_threads, embed.max_pixels
    )
    tasks = max(1, min(lake.engine.cores, -(-len(wanted) // IMAGES_A_TASK)))
    work = arrow.map_batches(make_task, embed.decode_timeout_s)
    made = lake.engine.map_batches(todo.repartition(tasks), work, MAPPED, isolated=True)
    return {
        (row["image_id"], keys[row["place"]]): (_rows(row["shares"], row["columns"]), row["exact"], model.fit != "crop")
        for row in made.where(F.col("shares").isNotNull()).collect()
    }


def _rows(shares: Sequence[float], columns: int) -> list[list[float]]:
    return [list(shares[start : start + columns]) for start in range(0, len(shares), columns)]


def task_maker(
    where: Callable[[], arrow.Place], model: Model, heads: tuple[Head, ...], limits: fetch.Limits, threads: int,
    max_pixels: int,
) -> Callable[[], arrow.MapTask]:  # fmt: skip
    """What a worker calls to learn its task."""

    def make() -> arrow.MapTask:
        return arrow.MapTask(model, tuple(where().files), heads, limits, threads, max_pixels)

    return make
