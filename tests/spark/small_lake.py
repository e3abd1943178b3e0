"""Small lakes of synthetic vectors for the stages: no image is read and, in memory, no table written."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs import config, lease, pipeline
from jobs.engines.frames import frame_of
from jobs.lakes import Lake
from jobs.progress import Reporter
from jobs.stage import Context
from jobs.tables import TABLES
from udfs.images import looks
from udfs.images.compression import SQUEEZED
from udfs.images.rows import PROPERTIES
from udfs.images.starts import SIDE
from udfs.networks import models
from udfs.vectors import search

# One for all images, in which there is something to be compared: vectors alone tell them apart.
LOOK = looks.look(np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8).repeat(8, axis=0).repeat(8, axis=1))
SOME_DAY = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)


@dataclass(frozen=True)
class Picture:
    """One image of a small lake. content: what its pixels are; vector None: it could not be read."""

    image_id: int
    vector: tuple[float, ...] | None
    content: str = ""
    split: str | None = None
    label: str | None = None
    labels: tuple[str, ...] | None = None
    norm: float | None = None
    width: int = 640
    height: int = 480
    size_bytes: int | None = 1000
    jpeg_quality: float = 90.0
    sharpness: float = 500.0
    modified_at: datetime.datetime | None = SOME_DAY
    error: str = "corrupt"

    @property
    def uri(self) -> str:
        return f"/images/{self.image_id:05}.jpg"

    def but(self, **values: Any) -> Picture:
        return dataclasses.replace(self, **values)


def frames(spark: SparkSession, pictures: Sequence[Picture]) -> dict[str, DataFrame]:
    """The tables that the stages from `neighbours` on read, as catalog and embed would leave them."""
    read = [p for p in pictures if p.vector is not None]
    usual = {
        **dict.fromkeys(PROPERTIES, 0.0),
        "medium": "photograph",
        "thumbnail": bytes(SIDE**2),
        "look": LOOK,
        "brightness": 0.5,
        "brightness_p01": 0.05,
        "brightness_p05": 0.1,
        "brightness_p99": 0.9,
        "contrast": 0.2,
        "edge_frequency": 2.0,
        "entropy": 7.0,
    }
    best = {pixel_hash(picture): picture.image_id for picture in representatives(pictures)}
    rows: dict[str, list[dict[str, Any]]] = {
        "images": [
            {"image_id": p.image_id, "uri": p.uri, "source": "/images", "split": p.split, "label": p.label,
             "labels": None if p.labels is None else list(p.labels), "size_bytes": p.size_bytes,
             "modified_at": p.modified_at}
            for p in pictures
        ],
        "features": [
            {**usual, "image_id": p.image_id, "sha256": "", "pixel_hash": pixel_hash(p), "perceptual_hash": 0,
             "format": "jpeg", "width": p.width, "height": p.height, "sharpness": p.sharpness, "colourfulness": 50.0,
             "jpeg_quality": p.jpeg_quality}
            for p in read
        ],
        "embeddings": [
            {"image_id": p.image_id, "model": models.DEFAULT, "vector": [float(x) for x in p.vector or ()],
             "norm": p.norm}
            for p in read
        ],
        "failures": [
            {"image_id": p.image_id, "stage": "embed", "error": p.error, "detail": "", "attempt": 1,
             "at": SOME_DAY}
            for p in pictures
            if p.vector is None
        ],
        "copies": [
            {"image_id": p.image_id, "representative_id": best[pixel_hash(p)], "content_key": content_key(p)}
            for p in read
        ],
    }  # fmt: skip
    return {
        name: frame_of(
            spark,
            [tuple(row.get(column) for column in TABLES[name].schema.names) for row in found],
            TABLES[name].schema,
        )
        for name, found in rows.items()
    }


def representatives(pictures: Sequence[Picture]) -> list[Picture]:
    """Of the pictures of equal content the best: most pixels, not squeezed, oldest, most bytes, shortest URI, first."""
    best: dict[str, Picture] = {}
    never = datetime.datetime.max.replace(tzinfo=datetime.UTC)
    for picture in sorted(
        pictures,
        key=lambda p: (
            -p.width * p.height,
            p.jpeg_quality < SQUEEZED,
            p.modified_at or never,
            1 if p.size_bytes is None else -p.size_bytes,
            len(p.uri),
            p.uri,
        ),
    ):
        if picture.vector is not None:
            best.setdefault(pixel_hash(picture), picture)
    return list(best.values())


def nearest(spark: SparkSession, pictures: Sequence[Picture], k: int = 10) -> DataFrame:
    """The table `neighbours` of the pictures without the stage: for the stages that come after it."""
    chosen = representatives(pictures)
    vectors = np.array([p.vector for p in chosen], np.float32)
    ids = np.array([p.image_id for p in chosen])
    found = search.nearest_among(vectors, np.ones(len(ids), bool), k, exact=len(ids), probes=1)
    starts = np.cumsum(found.counts) - found.counts
    rows = [
        (int(ids[row]), rank + 1, int(ids[found.others[start + rank]]), float(found.cosines[start + rank]))
        for row, (start, count) in enumerate(zip(starts, found.counts, strict=True))
        for rank in range(count)
    ]
    return frame_of(spark, rows, TABLES["neighbours"].schema)


def pixel_hash(picture: Picture) -> str:
    text = picture.content or f"only {picture.image_id} {picture.vector}"
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def content_key(picture: Picture) -> int:
    return int(pixel_hash(picture)[:15], 16)


class MemoryLake(Lake):
    """A lake whose tables are rows in memory; each write makes the tables' checks, null a no as in Delta."""

    def __init__(self, spark: SparkSession, folder: Path, tables: dict[str, DataFrame], held: lease.Lease) -> None:
        super().__init__(spark, str(folder), "test", held)
        self.tables = dict(tables)

    def version(self, name: str) -> int | None:
        return 0 if name in self.tables else None

    def exists(self, name: str) -> bool:
        return name in self.tables

    def read(self, name: str) -> DataFrame:
        return self.tables.get(name, frame_of(self.spark, [], TABLES[name].schema))

    def overwrite(self, name: str, rows: DataFrame) -> None:
        collected = self._conform(name, rows).collect()
        kept = frame_of(self.spark, collected, TABLES[name].schema)  # raises for a null where none may be
        for rule in TABLES[name].checks.values():
            broken = kept.where(~F.expr(f"coalesce({rule}, false)")).head()
            if broken is not None:
                raise ValueError(f"{name}: {rule} broken by {broken}")
        keys = [tuple(row[column] for column in TABLES[name].key) for row in collected]
        if len(set(keys)) != len(keys):
            raise ValueError(f"{name}: a key stands twice")
        self.tables[name] = kept


class FrozenReporter(Reporter):
    """Prints nothing."""

    def stage(self, job: str, text: str) -> None:
        pass


@contextmanager
def in_memory(
    spark: SparkSession, folder: Path, pictures: Sequence[Picture], *overrides: str, shuffled: int | None = None
) -> Iterator[Context]:
    """A context with a MemoryLake of the pictures. shuffled: a seed that deals rows in another order and partitions."""
    rows = list(pictures)
    if shuffled is not None:
        random.Random(shuffled).shuffle(rows)
    tables = frames(spark, rows)
    if shuffled is not None:
        tables = {name: table.repartition(1 + shuffled % 7) for name, table in tables.items()}
    with lease.acquire(str(folder), "test") as held:
        lake = MemoryLake(spark, folder, tables, held)
        lake.open()
        yield Context(lake, config.load((), overrides), FrozenReporter(), order=pipeline.NAMES)


@contextmanager
def on_disk(spark: SparkSession, folder: Path, *overrides: str) -> Iterator[Context]:
    """A context with an empty lake of Delta tables."""
    with lease.acquire(str(folder), "test") as held:
        lake = Lake(spark, str(folder), "test", held)
        lake.open()
        yield Context(lake, config.load((), overrides), FrozenReporter(), order=pipeline.NAMES)


def fill(context: Context, pictures: Sequence[Picture]) -> None:
    """Makes the tables of the context's lake hold these pictures and no others."""
    for name, table in frames(context.lake.spark, pictures).items():
        if name not in ("failures", "copies"):
            context.lake.overwrite(name, table)


def rows_of(context: Context, name: str, *columns: str) -> list[tuple[Any, ...]]:
    """The rows of a table, sorted."""
    found = context.lake.read(name).select(*(columns or TABLES[name].schema.names)).collect()
    return sorted((tuple(row) for row in found), key=repr)


def with_settings(context: Context, *overrides: str) -> Context:
    """The same lake under other settings."""
    return Context(context.lake, config.load((), overrides), context.reporter, order=pipeline.NAMES)
