"""Journal: changes to several tables that are all made, once, however often whoever makes them is killed.

They are written beside the tables first, and count from the moment when the last file, which names the others, is
there. Then each table gets its own in one commit that carries the number of the change (a transaction identifier of
Delta's protocol), so that nothing is made twice. Whoever takes the lake to write settles what was left."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.engines import delta_files, delta_log
from jobs.engines.base import Table
from jobs.engines.sail_types import arrow_schema
from jobs.errors import ContractError
from udfs.stores import fetch, objects, ranges, uris

FOLDER = "_journal"
ENTRY = "entry.json"  # {number, tables, files, marks}; written last
APPLICATION = "imagesieve-journal"  # of Delta's transaction identifiers


@dataclass(frozen=True)
class TableChange:
    """Upserts and removals by the key of a table. rows: its columns. removed: the columns of its key, none that rows
    have too. new: the table has none of the rows, which are only added."""

    rows: pa.Table
    removed: pa.Table
    new: bool = False

    @property
    def is_empty(self) -> bool:
        return not self.rows.num_rows and not self.removed.num_rows


@dataclass(frozen=True)
class FileChange:
    """Parquet files that lie in a table's folder and become part of it, and those that go. removed: as the log spells
    them."""

    added: tuple[delta_files.Added, ...] = ()
    removed: tuple[str, ...] = ()


def change(table: Table, rows: Any = None, removed: Any = None, new: bool = False) -> TableChange:
    """A change from Arrow tables or lists of dicts. Columns that the table has not are left out."""
    schema = arrow_schema(table.schema)
    key = pa.schema([schema.field(name) for name in table.key])
    return TableChange(_as_table(rows, schema), _as_table(removed, key), new)


def write(
    lake: str,
    number: int,
    changes: Mapping[str, TableChange],
    marks: Mapping[str, int],
    tables: Mapping[str, Table],
    files: Mapping[str, FileChange] | None = None,
) -> None:
    """Makes these changes count: from here on they will be made, by settle(). lake: a canonical URI, held by a lease.
    number: higher than that of any change before. marks: what settle() is to return. tables: by name. files: of other
    tables than changes. Raises ContractError, before anything counts, where a table would refuse its rows."""
    for name, made in changes.items():
        _check(tables[name], made.rows)
    objects.delete_below(uris.join(lake, FOLDER))  # of a run that was killed before its entry was whole
    told = {}
    for name, made in changes.items():
        if not made.is_empty:
            told[name] = [made.rows.num_rows, made.removed.num_rows, made.new]
            for part, rows in (("rows", made.rows), ("removed", made.removed)):
                if rows.num_rows:
                    with objects.replacing(_part(lake, name, part)) as file:
                        pq.write_table(rows, file, compression="zstd")
    moved = {name: asdict(made) for name, made in (files or {}).items()}
    entry = {"number": number, "tables": told, "files": moved, "marks": dict(marks)}
    objects.put(uris.join(lake, FOLDER, ENTRY), json.dumps(entry).encode())


def settle(lake: str, tables: Mapping[str, Table]) -> dict[str, int] | None:
    """Makes the changes that count and are not made yet. Returns their marks, None where there are none; forget() is to
    be called once these are kept. tables: by name; what is not there yet is created. Raises LakeError."""
    try:
        entry = json.loads(objects.read_small(uris.join(lake, FOLDER, ENTRY)))
    except FileNotFoundError:
        return None
    once = APPLICATION, int(entry["number"])
    for name, told in entry.get("files", {}).items():
        path = _there(lake, tables[name])
        if not delta_log.is_made(delta_log.delta_table(path), once):
            added = [delta_files.Added(**file) for file in told["added"]]
            delta_files.checkpoint_at(path, delta_files.commit(path, added, told["removed"], once=once))
    for name, (rows, removed, new) in entry["tables"].items():
        path, table = _there(lake, tables[name]), tables[name]
        made = change(
            table,
            _read(_part(lake, name, "rows")) if rows else None,
            _read(_part(lake, name, "removed")) if removed else None,
        )
        delta_log.make(path, table, made.rows, made.removed, bool(new), once)
    return {name: int(value) for name, value in entry["marks"].items()}


def _there(lake: str, table: Table) -> str:
    """Where a table lies, created where it is not there yet."""
    path = uris.join(lake, table.name)
    if delta_log.version(path) is None:
        delta_log.create(path, table)
    return path


def forget(lake: str) -> None:
    """Removes what settle() has made. The entry goes first: without it the rest is nothing."""
    objects.delete(uris.join(lake, FOLDER, ENTRY))
    objects.delete_below(uris.join(lake, FOLDER))


def _check(table: Table, rows: pa.Table) -> None:
    """Raises ContractError where a row breaks a check of the table: once a change counts it must not be refused."""
    for column in table.schema:
        if not column.nullable and rows[column.name].null_count:
            raise ContractError(f"{table.name}: {rows[column.name].null_count} rows lack {column.name}: not written")
    if not table.checks or not rows.num_rows:
        return
    plain = [
        field.name for field in rows.schema if not pa.types.is_nested(field.type) and not pa.types.is_binary(field.type)
    ]
    columns = [rows[name].cast(pa.int64()) if pa.types.is_timestamp(rows[name].type) else rows[name] for name in plain]
    with closing(sqlite3.connect(":memory:")) as base:  # checks are written in SQL
        named = ",".join(f'"{name}"' for name in plain)
        base.execute(f"CREATE TABLE given ({named})")
        values = zip(*(column.to_pylist() for column in columns), strict=True)
        base.executemany(f"INSERT INTO given VALUES ({','.join('?' * len(plain))})", values)  # noqa: S608 (names of tables and columns)
        for name, check in table.checks.items():
            condition = re.sub(r"\bbetween\b", '"between"', check)  # a column of leaks; the operator is in capitals
            (broken,) = base.execute(f"SELECT count(*) FROM given WHERE NOT coalesce({condition}, FALSE)").fetchone()  # noqa: S608 (names of tables and columns)
            if broken:
                raise ContractError(f"{table.name}: {broken} rows break {name}: not written")


def _as_table(rows: Any, schema: pa.Schema) -> pa.Table:
    if rows is None:
        return schema.empty_table()
    if isinstance(rows, list):
        return pa.Table.from_pylist(rows, schema=schema)
    return rows.select(schema.names).cast(schema)


def _part(lake: str, name: str, part: str) -> str:
    return uris.join(lake, FOLDER, f"{name}-{part}.parquet")


def _read(uri: str) -> pa.Table:
    with ranges.open_file(uri, None, fetch.Limits()) as (stream, _):
        return pq.read_table(stream)
