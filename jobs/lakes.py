"""All reads and writes of a lake, for one run."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Collection, Sequence

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs import __version__
from jobs.engines import delta_files, delta_log, journal
from jobs.engines.base import of
from jobs.errors import ConfigError, ContractError, LakeError, MissingTableError
from jobs.lease import Lease
from jobs.tables import TABLES
from udfs.stores import objects, uris

# Of all tables together: 2 has shards, 3 labels, content, more properties, 4 looks, 5 other scaling, 6 noise of labels,
# 7 fingerprints of the preprocessing, edges, owners, 8 detections, agreement, 9 several labels
# of an image.
LAKE_FORMAT = 9

MARKER = "lake.json"  # {format, version, next_image_id, next_cluster_id}


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


def mark(uri: str, **values: int) -> None:
    """Writes a lake's marker with these values changed. Whoever calls it holds the lease."""
    marker = {**(read_marker(uri) or {"next_image_id": 0, "next_cluster_id": 0}), **values}
    marker |= {"format": LAKE_FORMAT, "version": __version__}
    objects.put(uris.join(uri, MARKER), json.dumps(marker, indent=1).encode())


def settle(uri: str) -> None:
    """Makes what is left in a lake's journal: see jobs.engines.journal. Whoever calls it holds the lease."""
    marks = journal.settle(uri, TABLES)
    if marks is not None:
        mark(uri, **marks)
        journal.forget(uri)


def existing(uri: str) -> str:
    """The canonical URI of a lake that is there, as it was given. Raises LakeError where it is none."""
    if read_marker(uri) is None:
        raise LakeError(f"{uri} is no lake yet: run `imagesieve run` first")
    return uri


def named(lake: str) -> str:
    """The canonical URI of a lake as a command was given it. Raises ConfigError."""
    try:
        return uris.canonical(lake, base=os.getcwd()).rstrip("/")  # noqa: PTH109 (a text)
    except ValueError as error:
        raise ConfigError(f"--lake: {error}") from error


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

    def require(self, name: str) -> DataFrame:
        """A table that a stage cannot do without. Raises MissingTableError."""
        if not self.exists(name):
            raise MissingTableError(self.uri, name)
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

    def put_files(self, name: str, added: Sequence[delta_files.Added], removed: Collection[str]) -> None:
        """Makes Parquet files that workers have written in a table's folder part of it, in one commit in which others
        go. removed: as the log spells them."""
        self._create(name)
        delta_files.checkpoint_at(self.path(name), delta_files.commit(self.path(name), added, removed))

    def staging(self, *parts: str) -> str:
        """A place for this run's intermediate files; clear_staging() empties it."""
        return uris.join(self.uri, "_staging", self.run_id, *parts)

    def open(self) -> None:
        """Makes a lake of a URI that is none yet, with the table that people write; removes what dead runs have left
        staged."""
        if read_marker(self.uri) is None:
            self.mark()
        self._create("reviews")
        self.settle()
        self.clear_staging()

    def settle(self) -> None:
        """Makes what is left in the journal: see jobs.engines.journal."""
        self._may_write()
        settle(self.uri)

    def clear_staging(self, staged: str | None = None) -> None:
        """Removes what this run and dead ones before it have staged, or one place that staging() named."""
        self._may_write()
        objects.delete_below(staged or uris.join(self.uri, "_staging"))

    def confirm(self) -> None:
        """Asked before something that is no table is written. Raises where this run may not write any longer."""
        self._may_write()

    def mark(self, **values: int) -> None:
        """Writes the lake's marker with these values changed; makes a lake of a URI that is none yet."""
        self._may_write()
        mark(self.uri, **values)

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


def each_label() -> Column:
    """The label of a row of `images`, or each of its several; null where it has none. For select()."""
    return F.explode_outer(F.coalesce("labels", F.array("label")))


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
