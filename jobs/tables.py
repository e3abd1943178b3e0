"""The contract: every table's schema, key and checks, and all reads and writes of the lake.

Tables are Delta, read by Spark, delta-rs, DuckDB and Athena alike: no deletion vectors, no column mapping.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Collection

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    BooleanType,
    DataType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

from jobs import __version__
from jobs.engines import delta_log
from jobs.engines.base import Table, of
from jobs.errors import ContractError, LakeError
from jobs.lease import Lease
from udfs.images.rows import PROPERTIES
from udfs.stores import objects, uris

LAKE_FORMAT = 3  # of all tables together: 2 has shards, 3 labels, content, and more properties
MARKER = "lake.json"  # {format, version, next_image_id, next_cluster_id}

CORRUPTED = "corrupted"
EXACT_DUPLICATE = "exact_duplicate"
NEAR_DUPLICATE = "near_duplicate"
LEAK = "leak"
OUTLIER = "outlier"
DARK = "dark"
BRIGHT = "bright"
BLURRY = "blurry"
LOW_INFORMATION = "low_information"
ODD_SIZE = "odd_size"
ODD_ASPECT_RATIO = "odd_aspect_ratio"
GRAYSCALE = "grayscale"
WRONG_LABEL = "wrong_label"
LABEL_CONFLICT = "label_conflict"
SOURCE_OVERLAP = "source_overlap"
CLASS_OUTLIER = "class_outlier"
LOW_CONTRAST = "low_contrast"
FLAT = "flat"
NOISY = "noisy"
BLOCKY = "blocky"
LOW_QUALITY = "low_quality"
ISSUES = (
    CORRUPTED,
    EXACT_DUPLICATE,
    NEAR_DUPLICATE,
    LEAK,
    SOURCE_OVERLAP,
    WRONG_LABEL,
    LABEL_CONFLICT,
    OUTLIER,
    CLASS_OUTLIER,
    DARK,
    BRIGHT,
    BLURRY,
    NOISY,
    BLOCKY,
    LOW_CONTRAST,
    LOW_INFORMATION,
    FLAT,
    LOW_QUALITY,
    ODD_SIZE,
    ODD_ASPECT_RATIO,
    GRAYSCALE,
)
SCORES = (
    "dark_score",
    "bright_score",
    "blur_score",
    "noise_score",
    "blockiness_score",
    "contrast_score",
    "information_score",
    "flat_score",
    "brisque_score",
    "quality_score",
    "size_score",
    "aspect_ratio_score",
    "colour_score",
)
OUTLIER_SCORES = ("outlier_score", "class_outlier_score")  # null where an image has no neighbours to be compared with
DETAILS = ("exact", "near")  # of leaks and overlaps


def _schema(**columns: DataType | tuple[DataType, bool]) -> StructType:
    """A column given as (type, True) may be null."""
    return StructType(
        [
            StructField(name, kind[0], kind[1]) if isinstance(kind, tuple) else StructField(name, kind, False)
            for name, kind in columns.items()
        ]
    )


def _unit(*columns: str) -> dict[str, str]:
    return {f"{column}_in_0_1": f"{column} BETWEEN 0 AND 1" for column in columns}


def _unit_or_null(*columns: str) -> dict[str, str]:
    return {f"{column}_in_0_1": f"{column} IS NULL OR {column} BETWEEN 0 AND 1" for column in columns}


_TEXT, _LONG, _INT, _DOUBLE, _TIME, _BOOL = (
    StringType(), LongType(), IntegerType(), DoubleType(), TimestampType(), BooleanType()
)  # fmt: skip

_COUNTED = ArrayType(StructType([StructField("name", _TEXT), StructField("images", _LONG)]), containsNull=False)

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        Table(
            "images",
            _schema(
                image_id=_LONG, uri=_TEXT, source=_TEXT, split=(_TEXT, True), label=(_TEXT, True),
                shard=(_TEXT, True), shard_offset=(_LONG, True),
                size_bytes=(_LONG, True), etag=(_TEXT, True), modified_at=(_TIME, True),
            ),
            ("image_id",),
        ),
        Table(
            "features",
            _schema(
                image_id=_LONG, etag=(_TEXT, True), sha256=_TEXT, pixel_hash=_TEXT, perceptual_hash=_LONG,
                width=_INT, height=_INT, format=_TEXT, thumbnail=BinaryType(), **dict.fromkeys(PROPERTIES, _DOUBLE),
            ),
            ("image_id",),
            {"has_pixels": "width > 0 AND height > 0"},
        ),
        Table(
            "embeddings",
            _schema(
                image_id=_LONG, model=_TEXT, vector=ArrayType(FloatType(), containsNull=False),
                norm=(FloatType(), True),
            ),
            ("image_id", "model"),
        ),
        Table(
            "failures",
            _schema(
                image_id=_LONG, stage=_TEXT, error=_TEXT, detail=_TEXT, attempt=_INT, at=_TIME, etag=(_TEXT, True)
            ),
            ("image_id", "stage"),
        ),
        Table(
            "copies",
            _schema(image_id=_LONG, representative_id=_LONG, content_key=_LONG),
            ("image_id",),
        ),
        Table(
            "centres",
            _schema(cell=_INT, vector=ArrayType(FloatType(), containsNull=False)),
            ("cell",),
        ),
        Table(
            "cells",
            _schema(image_id=_LONG, cell=_INT, content_key=_LONG),
            ("image_id", "cell"),
        ),
        Table(
            "neighbours",
            _schema(image_id=_LONG, rank=_INT, neighbour_id=_LONG, cosine=_DOUBLE),
            ("image_id", "rank"),
            {"cosine_in_range": "cosine BETWEEN -1 AND 1", "not_itself": "image_id <> neighbour_id"},
        ),
        Table(
            "duplicates",
            _schema(
                image_id=_LONG, cluster_id=_LONG, kind=_TEXT, keeper_id=_LONG, is_keeper=_BOOL,
                cosine_to_keeper=_DOUBLE, cluster_size=_INT, component_id=_LONG,
            ),
            ("image_id",),
            {"kind_known": "kind IN ('exact', 'near')", "more_than_one": "cluster_size > 1"},
        ),
        Table(
            "labels",
            _schema(
                image_id=_LONG, label=_TEXT, confidence=(_DOUBLE, True), neighbour_share=(_DOUBLE, True),
                score=_DOUBLE, suggested_label=_TEXT, suggested_confidence=_DOUBLE, flagged=_BOOL,
                evidence_id=(_LONG, True),
            ),
            ("image_id",),
            {
                **_unit("score", "suggested_confidence"), **_unit_or_null("confidence", "neighbour_share"),
            },
        ),
        Table(
            "confusions",
            _schema(label=_TEXT, other_label=_TEXT, images=_LONG, share=_DOUBLE),
            ("label", "other_label"),
            _unit("share"),
        ),
        Table(
            "classes",
            _schema(label=(_TEXT, True), split=(_TEXT, True), images=_LONG, flagged=_LONG, why_left_out=(_TEXT, True)),
            ("label", "split"),
        ),
        Table(
            "concepts",
            _schema(image_id=_LONG, rank=_INT, concept=_TEXT, confidence=_DOUBLE),
            ("image_id", "rank"),
            _unit("confidence"),
        ),
        Table(
            "topics",
            _schema(image_id=_LONG, topic_id=_INT, distance=_DOUBLE),
            ("image_id",),
            {"distance_in_range": "distance BETWEEN 0 AND 2"},
        ),
        Table(
            "topic_summaries",
            _schema(
                topic_id=_INT, images=_LONG, typical_ids=ArrayType(_LONG, containsNull=False),
                concepts=_COUNTED, labels=_COUNTED,
            ),
            ("topic_id",),
        ),
        Table(
            "leaks",
            _schema(
                image_id=_LONG, between=_TEXT, here=_TEXT, there=_TEXT, other_id=_LONG, kind=_TEXT, cosine=_DOUBLE
            ),
            ("image_id", "between", "there"),
            {
                "between_known": "between IN ('split', 'source')", "kind_known": "kind IN ('exact', 'near')",
                "cosine_in_range": "cosine BETWEEN -1 AND 1", "not_itself": "image_id <> other_id",
            },
        ),
        Table(
            "scores",
            _schema(
                image_id=_LONG, **dict.fromkeys(SCORES, _DOUBLE), **dict.fromkeys(OUTLIER_SCORES, (_DOUBLE, True))
            ),
            ("image_id",),
            {**_unit(*SCORES), **_unit_or_null(*OUTLIER_SCORES)},
        ),
        Table(
            "issues",
            _schema(
                image_id=_LONG, issue=_TEXT, score=_DOUBLE, evidence_id=(_LONG, True), cosine=(_DOUBLE, True),
                detail=(_TEXT, True), suggestion=_TEXT, suggested_label=(_TEXT, True),
            ),
            ("image_id", "issue"),
            {
                **_unit("score"),
                "issue_known": "issue IN ({})".format(", ".join(f"'{name}'" for name in ISSUES)),
                "suggestion_known": "suggestion IN ('remove', 'relabel', 'review')",
                "cosine_in_range": "cosine IS NULL OR cosine BETWEEN -1 AND 1",
            },
        ),
        Table(
            "runs",
            _schema(
                run_id=_TEXT, job=_TEXT, version=_TEXT, config=_TEXT, inputs=_TEXT, counts=_TEXT,
                started_at=_TIME, ended_at=_TIME, seconds=_DOUBLE, status=_TEXT,
            ),
            ("run_id", "job"),
            {"status_known": "status IN ('done', 'failed')"},
        ),
    )
}  # fmt: skip


def read_marker(uri: str) -> dict[str, object] | None:
    """The lake's marker, or None where there is no lake. Needs no Spark.

    Raises LakeError for a lake of a newer version, and for a folder that holds other things than a lake."""
    try:
        text = objects.read_small(uris.join(uri, MARKER))
    except FileNotFoundError:
        if objects.has_any(uri, but=("_leases", "_staging")):
            raise LakeError(f"{uri} is not a lake and not empty: name another --lake, or empty it") from None
        return None
    try:
        marker = json.loads(text)
        lake_format = int(marker["format"])
    except (ValueError, KeyError, TypeError) as error:
        raise LakeError(f"{uri}/{MARKER} cannot be read ({error}): restore it, or name another --lake") from error
    made_by = f"{uri} was made by imagesieve {marker.get('version')}"
    if lake_format > LAKE_FORMAT:
        raise LakeError(f"{made_by}, newer than this one ({__version__}): upgrade it")
    if lake_format < LAKE_FORMAT:
        raise LakeError(f"{made_by}, whose tables lack columns of this one's ({__version__}): make a new --lake")
    return dict(marker)


class Lake:
    """The tables under one URI, for one run. Writes check the lease first; without a lease the lake is read-only."""

    def __init__(self, spark: SparkSession, uri: str, run_id: str, lease: Lease | None = None) -> None:
        self.spark = spark
        self.engine = of(spark)
        self.uri = uri
        self.run_id = run_id
        self._lease = lease
        self._reads = self._writes = frozenset(TABLES)

    def within(self, reads: Collection[str], writes: Collection[str]) -> Lake:
        """The same lake, which refuses all tables but these and `runs`: ContractError."""
        narrow = copy.copy(self)
        narrow._writes = frozenset(writes)
        narrow._reads = narrow._writes.union(reads, ["runs"])
        return narrow

    def path(self, name: str) -> str:
        """Where a table lies, as a canonical URI."""
        return uris.join(self.uri, TABLES[name].name)

    def exists(self, name: str) -> bool:
        return self.version(name) is not None

    def version(self, name: str) -> int | None:
        """The newest Delta version of a table, or None where it is not there yet."""
        if name not in self._reads:
            raise ContractError(f"a stage reads {name}, which it does not declare")
        return delta_log.version(self.path(name))

    def read(self, name: str) -> DataFrame:
        """A table as it is now; empty where it is not there yet."""
        if not self.exists(name):
            return self.no_rows(name)
        return self.engine.read_table(self.path(name), TABLES[name])

    def no_rows(self, name: str) -> DataFrame:
        """A frame of a table's columns without a row."""
        return self.engine.rows([], TABLES[name].schema)

    def require(self, name: str, made_by: str) -> DataFrame:
        """A table that a stage cannot do without. Raises LakeError that names the stage to run first."""
        if not self.exists(name):
            raise LakeError(f"{self.uri} has no table {name}: run `imagesieve {made_by}` first")
        return self.read(name)

    def append(self, name: str, rows: DataFrame) -> None:
        self._create(name)
        self.engine.append(self.path(name), TABLES[name], self._conform(name, rows))

    def overwrite(self, name: str, rows: DataFrame) -> None:
        self._create(name)
        self.engine.overwrite(self.path(name), TABLES[name], self._conform(name, rows))

    def empty(self, name: str) -> None:
        """Makes the table where it is not there yet, and leaves it without rows."""
        self._create(name)
        if not self.read(name).isEmpty():
            self.overwrite(name, self.no_rows(name))

    def delete(self, name: str, ids: DataFrame) -> None:
        """Removes all rows of these image_ids. ids: (image_id), no duplicates."""
        if not self.exists(name):
            return
        self._may_write_table(name)
        self.engine.delete(self.path(name), TABLES[name], ids)

    def merge(self, name: str, changes: DataFrame) -> None:
        """Upserts rows by the table's key, in one commit. changes: the table's columns and `removed` BOOLEAN;
        of a row with removed = true only the key counts, and it goes."""
        self._create(name)
        self.engine.merge(self.path(name), TABLES[name], changes)

    def staging(self, *parts: str) -> str:
        """A place for this run's intermediate files; clear_staging() empties it."""
        return uris.join(self.uri, "_staging", self.run_id, *parts)

    def open(self) -> None:
        """Makes a lake of a URI that is none yet, and removes what dead runs have left staged."""
        if read_marker(self.uri) is None:
            self.mark()
        self.clear_staging()

    def clear_staging(self, staged: str | None = None) -> None:
        """Removes what this run and dead ones before it have staged, or one place that staging() named."""
        self._may_write()
        objects.delete_below(staged or uris.join(self.uri, "_staging"))

    def mark(self, **values: int) -> None:
        """Writes the lake's marker with these values changed; makes a lake of a URI that is none yet."""
        self._may_write()
        marker = {**(read_marker(self.uri) or {"next_image_id": 0, "next_cluster_id": 0}), **values}
        marker |= {"format": LAKE_FORMAT, "version": __version__}
        objects.put(uris.join(self.uri, MARKER), json.dumps(marker, indent=1).encode())

    def next_id(self, name: str) -> int:
        """The first id never given out. name: next_image_id or next_cluster_id."""
        return int(str((read_marker(self.uri) or {}).get(name, 0)))

    def _may_write(self) -> None:
        if self._lease is None:
            raise ContractError(f"{self.uri} was opened to read only")
        self._lease.check()

    def _may_write_table(self, name: str) -> None:
        if name not in self._writes:
            raise ContractError(f"a stage writes {name}, which it does not declare")
        self._may_write()

    def _create(self, name: str) -> None:
        self._may_write_table(name)
        if not self.exists(name):
            self.engine.create(self.path(name), TABLES[name])

    def _conform(self, name: str, rows: DataFrame) -> DataFrame:
        """The rows with just the table's columns, in its order. Raises ContractError for a missing or other column."""
        given = {column.name: column.dataType for column in rows.schema}
        for column in TABLES[name].schema:
            found = given.get(column.name)
            if found is None or found.simpleString() != column.dataType.simpleString():
                raise ContractError(f"{name}.{column.name} must be {column.dataType.simpleString()}, got {found}")
        return rows.select(*TABLES[name].schema.names)


def difference(old: DataFrame, new: DataFrame, name: str) -> DataFrame:
    """What turns old rows of a table into new ones, for Lake.merge: the table's columns and `removed`."""
    names, key = TABLES[name].schema.names, list(TABLES[name].key)
    changed = new.select(*names).exceptAll(old.select(*names)).withColumn("removed", F.lit(False))
    removed = old.select(*names).join(new.select(*key), key, "left_anti")
    return changed.unionByName(removed.withColumn("removed", F.lit(True)))


def dense_ids(
    rows: DataFrame, order: list[str], first: int, column: str, per_bucket: int = 1_000_000
) -> tuple[DataFrame, int]:
    """Adds column: first, first + 1, … with no gap, the same whatever the partitions and the order of the rows.

    order: columns that together tell all rows apart. Rows are dealt into buckets by a hash of the first (one bucket up
    to per_bucket rows, so small sets are numbered in plain order) and numbered inside each; only sizes reach
    the driver. Returns (rows with the column, number of rows)."""
    from pyspark.sql import Window

    total = rows.count()
    buckets = max(1, -(-total // per_bucket))
    bucketed = rows.withColumn("_bucket", F.pmod(F.xxhash64(order[0]), F.lit(buckets)))
    sizes = {row["_bucket"]: row["count"] for row in bucketed.groupBy("_bucket").count().collect()}
    offsets, at = {}, first
    for bucket in range(buckets):
        offsets[bucket] = at
        at += sizes.get(bucket, 0)
    starts = F.create_map(*[F.lit(value) for pair in offsets.items() for value in pair])
    rank = F.row_number().over(Window.partitionBy("_bucket").orderBy(*order))
    numbered = bucketed.withColumn(column, (F.element_at(starts, F.col("_bucket").cast("int")) + rank - 1).cast("long"))
    return numbered.drop("_bucket"), total
