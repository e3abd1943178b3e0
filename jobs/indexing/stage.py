"""Index: what finds like pictures, and pictures of classes, in a moment, kept under the lake for the app.

It is made on the driver, which reads the vectors itself, and searched on one machine: a lake of more images than
`index.most_images` gets none."""

from __future__ import annotations

import sys
from typing import Any

from pyspark.sql import functions as F

from jobs.errors import ConfigError
from jobs.indexing import making, store
from jobs.indexing.reading import SOURCES
from jobs.indexing.store import BrokenIndexError, Manifest
from jobs.stage import Context, Counts, Option, Ready, Stage, submitted
from udfs.networks import concepts, models
from udfs.stores.cache import user_cache

JOB = "index"


def vector_index(context: Context) -> Counts:
    """Brings the index in line with the embeddings."""
    lake, key = context.lake, context.config.embed.model
    for name in SOURCES:
        lake.require(name)
    total = lake.read("embeddings").where(F.col("model") == key).count()
    counts: Counts = {"in": total, "out": total, "failed": 0}
    most = context.config.index.most_images
    if not total or total > most:
        lake.confirm()
        counts["wrote"] = int(store.remove(lake.uri))
        if total > most:
            told = f"index: {total:,} images are more than index.most_images = {most:,}: the lake has no index"
            counts["notes"] = [f"{told}, and the app makes one of its own"]
        return counts
    at = {name: lake.version(name) for name in SOURCES}
    own = making.Lake(lake.uri, key, at, _classifier(context), lake.confirm)
    vectors = own.vectors()
    counts |= {"out": len(vectors.known.ids), "failed": total - len(vectors.known.ids)}
    kept = None if context.given.get(JOB) else _usable(context, own)
    if kept is not None:
        try:
            now = making.changed_since(own.uri, kept, vectors)
            if not len(now.fresh) and now.dead == sum(part.images for part in kept.parts) - kept.images:
                return {**counts, "added": 0, "wrote": 0, **making.counted(kept)}
            if not making.is_worn(kept, now):
                made = making.brought_up(own, kept, vectors, now, lambda _: None)
                return {**counts, "added": len(now.fresh), **making.counted(made)}
        except (BrokenIndexError, FileNotFoundError) as error:
            context.reporter.stage(JOB, f"the index cannot be read and is made anew: {error}")
    made = making.anew(own, vectors, lambda _: None)
    return {**counts, "added": made.images, **making.counted(made)}


def _usable(context: Context, own: making.Lake) -> Manifest | None:
    """The index that is there, if it is of these vectors and can be read."""
    try:
        kept = store.read(own.uri)
    except BrokenIndexError as error:
        context.reporter.stage(JOB, f"the index is made anew: {error}")
        return None
    if kept is None or kept.model != own.model or kept.has_classes != (own.classifier is not None):
        return None
    return kept if kept.parts else None


def _classifier(context: Context) -> concepts.Classifier | None:
    model = models.find(context.config.embed.model, context.config.models)
    try:
        return concepts.prepare(model, user_cache())
    except models.ModelError as error:
        raise ConfigError(str(error)) from error


def _is_to_be_made(context: Context) -> bool:
    """Asked for anew, or taken away by somebody."""
    last = context.history.last_done(JOB)
    was_made = last is not None and "segments" in last["counts"]
    return bool(context.given.get(JOB)) or (was_made and not store.is_there(context.lake.uri))


def _settings(context: Context) -> dict[str, Any]:
    """A text side that a card has got since is put down in `runs`, where searches look for it."""
    model = models.find(context.config.embed.model, context.config.models)
    return {"model": model.key, "most_images": context.config.index.most_images, "text": model.text_sha256}


STAGE = Stage(
    name=JOB,
    does="make the index for searches by picture and by words",
    reads=SOURCES,
    writes=(),
    settings=_settings,
    body=vector_index,
    always=_is_to_be_made,
    options=(Option("--new-index", {"action": "store_true", "help": "make the index anew, where one is there"}),),
    prepare=lambda asked: Ready(asked.arguments.new_index),
)


if __name__ == "__main__":
    sys.exit(submitted(JOB))
