"""Draft: what a batch changes, table by table; what is at hand is changed at once, the lake when all is whole."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import from_arrow_schema

from jobs.engines import journal
from jobs.engines.datasets import dataset
from jobs.engines.frames import read_parquet
from jobs.engines.journal import FileChange, TableChange
from jobs.lakes import Lake
from jobs.live.known import Known
from jobs.tables import TABLES
from udfs.stores import objects, uris


class Draft:
    """The changes of one batch. lake: held by a lease. known: of the lake as it is; it is changed along."""

    def __init__(self, lake: Lake, known: Known) -> None:
        self.lake, self.known = lake, known
        self.changes: dict[str, TableChange] = {}
        self.files: dict[str, FileChange] = {}  # written already
        self._numbers = itertools.count()

    def put(self, table: str, rows: Any = None, removed: Any = None, new: bool = False) -> None:
        """Upserts and removals, once for each table. rows, removed, new: of journal.change."""
        made = journal.change(TABLES[table], rows, removed, new)
        if not made.is_empty:
            self.known.apply({table: made})
            self.changes[table] = made

    def replace(self, table: str, old: pa.Table, new: pa.Table) -> None:
        """Makes rows of a table what they now are: what stays the same is not written. old: those that are at hand."""
        schema = journal.change(TABLES[table]).rows.schema
        before = {_key(table, row): row for row in old.select(schema.names).to_pylist()}
        after = {_key(table, row): row for row in new.select(schema.names).cast(schema).to_pylist()}
        rows = [row for key, row in after.items() if before.get(key) != row]
        removed = [row for key, row in before.items() if key not in after]
        self.put(table, rows, [{name: row[name] for name in TABLES[table].key} for row in removed])

    def remake(self, table: str, rows: pa.Table, gone: Iterable[int]) -> None:
        """Puts rows of images into a table that is not at hand, in place of all that it has of images that are gone.
        rows: columns of the table, of images in gone or new ones."""
        made = {_key(table, row) for row in rows.select(TABLES[table].key).to_pylist()}
        held = self.keys_in_lake(table, gone)
        removed = [row for row in held.to_pylist() if _key(table, row) not in made]
        self.put(table, rows, removed, new=not held.num_rows)

    def keys_in_lake(self, table: str, ids: Iterable[int]) -> pa.Table:
        """The keys of the rows of images in a table that is not at hand. It reads a column of the whole table."""
        wanted, version = list(ids), self.lake.version(table)
        schema = journal.change(TABLES[table]).removed.schema
        if not wanted or version is None:
            return schema.empty_table()
        among = pc.field("image_id").isin(wanted)
        return dataset(self.lake.uri, table, version).to_table(columns=schema.names, filter=among).cast(schema)

    def frame(self, rows: pa.Table) -> DataFrame:
        """Rows for the engine."""
        folder = self.lake.staging("live", f"{next(self._numbers):03d}")
        with objects.replacing(uris.join(folder, "rows.parquet")) as file:
            pq.write_table(rows, file)
        return read_parquet(self.lake.spark, folder, from_arrow_schema(rows.schema))


def _key(table: str, row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in TABLES[table].key)
