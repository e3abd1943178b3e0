"""Known: what the next batch may ask of a lake, at hand on this machine: a cache, made again whenever it is behind.

Rows of the narrow tables lie in SQLite, found by the id of an image and by what else is asked for; vectors on a shelf.
It is worth something only while the lake is at the versions that it is of."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.engines.datasets import dataset
from jobs.engines.journal import TableChange
from jobs.engines.sail_types import arrow_schema
from jobs.live.shelf import UNKNOWN, Shelf
from jobs.tables import TABLES
from udfs.vectors.cell_packs import vectors_of
from udfs.vectors.cosine import Ids

FILE = "known.sqlite"
LAYOUT = 5  # of the folder: another number makes it anew
# The tables that are kept, and by what their rows are found beside the key.
FOUND_BY = {
    "images": ("uri",),
    "features": ("pixel_hash",),
    "failures": (),
    "copies": ("representative_id",),
    "neighbours": ("neighbour_id",),
    "edges": ("other_id",),
    "duplicates": ("cluster_id", "component_id"),
    "look_alikes": ("other_id",),
    "leaks": (),
    "issues": (),
}
_FEATURES = ("image_id", "etag", "pixel_hash", "perceptual_hash", "width", "height", "format", "medium", "thumbnail",
             "look", "jpeg_quality")  # fmt: skip
DISTINCT = ("source", "split")  # columns of `images`
ROWS_AT_ONCE = 8192
CACHE_KIB = 64 << 10  # of SQLite's pages: those that a batch writes
MAPPED_BYTES = 2 << 30  # of its file, read without a call each
_VARIABLES = 500  # of one statement


def columns(table: str) -> pa.Schema:
    """What is kept of a table."""
    schema = arrow_schema(TABLES[table].schema)
    return pa.schema([schema.field(name) for name in _FEATURES]) if table == "features" else schema


class Known:
    """What is known of one lake. folder: of its own, on this machine."""

    def __init__(self, folder: Path, lake: str, model: str, k: int) -> None:
        self._folder, self._lake, self._model, self._k = folder, lake, model, k
        self._base: sqlite3.Connection | None = None
        self._shelf: Shelf | None = None

    @property
    def _dirty(self) -> Path:
        return self._folder / "dirty"

    @staticmethod
    def place(cache: Path, lake: str) -> Path:
        return cache / "live" / hashlib.sha256(lake.encode()).hexdigest()[:24]

    @property
    def base(self) -> sqlite3.Connection:
        assert self._base is not None  # noqa: S101 (bring_up was called)
        return self._base

    @property
    def shelf(self) -> Shelf:
        assert self._shelf is not None  # noqa: S101 (bring_up was called)
        return self._shelf

    def is_of(self, versions: Mapping[str, int | None]) -> bool:
        """Whether it is what the lake is at these versions of its tables."""
        if self._dirty.exists():
            self.close()
            return False
        if self._base is None and (self._folder / FILE).exists():
            self._connect()
        if self._base is None or self._get("mark") != self._mark(versions):
            return False
        if self._shelf is None:
            self._open_shelf()
        return True

    def make(self, versions: Mapping[str, int | None], learnt: str) -> None:
        """Makes it anew of the lake at these versions. learnt: a text that is kept with it."""
        self.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        self._connect()
        self._set("learnt", learnt)
        for name in FOUND_BY:
            self._load(name, versions.get(name))
        self._make_shelf(versions)
        for name, by in FOUND_BY.items():
            for column in by:
                self.base.execute(f"CREATE INDEX {name}_by_{column} ON {name} ({column})")
        self.settled(versions)

    @property
    def learnt(self) -> str:
        """As make() was given it."""
        return str(self._get("learnt"))

    @contextmanager
    def changing(self) -> Iterator[None]:
        """While inside it is changed, and nothing of it is to be trusted; what was left by an error is made anew."""
        self._dirty.touch()
        try:
            yield
        except BaseException:
            self.close()
            raise
        self._dirty.unlink()

    def settled(self, versions: Mapping[str, int | None]) -> None:
        """Says that it is now of these versions."""
        self.shelf.flush()
        self._set("count", self.shelf.count)
        self._set("mark", self._mark(versions))
        self.base.commit()

    def highest_id(self) -> int:
        """-1 without images."""
        (highest,) = self.base.execute("SELECT max(image_id) FROM images").fetchone()
        return -1 if highest is None else int(highest)

    def close(self) -> None:
        if self._base is not None:
            self._base.close()
        self._base = self._shelf = None

    # --- rows ---

    def rows(
        self, table: str, by: str, values: Iterable[Any], names: Sequence[str] | None = None, where: str = "TRUE"
    ) -> pa.Table:
        """The rows of a table whose column holds one of these values, in no order. names: columns; None: all. where: a
        condition of ours, in SQL."""
        schema, given = columns(table), list(values)
        if names is not None:
            schema = pa.schema([schema.field(name) for name in names])
        found: list[tuple[Any, ...]] = []
        for at in range(0, len(given), _VARIABLES):
            part = given[at : at + _VARIABLES]
            marks = ",".join("?" * len(part))
            query = f"SELECT {_listed(schema.names)} FROM {table} WHERE {by} IN ({marks}) AND ({where})"  # noqa: S608 (names of ours)
            found += self.base.execute(query, part).fetchall()
        parts = zip(*found, strict=True) if found else [[]] * len(schema)
        return pa.table(
            [_column(list(values), field.type) for values, field in zip(parts, schema, strict=True)], schema=schema
        )

    def of_images(
        self, table: str, ids: Iterable[int], names: Sequence[str] | None = None, where: str = "TRUE"
    ) -> pa.Table:
        """The rows of these images. names, where: of rows()."""
        return self.rows(table, "image_id", [int(one) for one in ids], names, where)

    def distinct(self, column: str) -> list[str]:
        """The values that a column of DISTINCT has had since it was made, none of them null. They are few."""
        return sorted(json.loads(self._get(f"distinct {column}") or "[]"))

    def places(self, ids: Iterable[int]) -> dict[int, int]:
        """The row of the shelf of each image that has one."""
        given, found = [int(one) for one in ids], dict[int, int]()
        for at in range(0, len(given), _VARIABLES):
            part = given[at : at + _VARIABLES]
            marks = ",".join("?" * len(part))
            found |= dict(self.base.execute(f"SELECT image_id, row FROM places WHERE image_id IN ({marks})", part))  # noqa: S608 (names of tables and columns)
        return found

    def put_places(self, ids: Iterable[int], rows: Iterable[int]) -> None:
        pairs = zip(map(int, ids), map(int, rows), strict=True)
        self.base.executemany("INSERT OR REPLACE INTO places VALUES (?, ?)", pairs)

    def apply(self, changes: Mapping[str, TableChange]) -> None:
        """Makes the same changes as the lake."""
        for name, made in changes.items():
            if name not in FOUND_BY:
                continue
            key = TABLES[name].key
            gone = zip(*(made.removed[column].to_pylist() for column in key), strict=True)
            where = " AND ".join(f'"{column}" = ?' for column in key)
            self.base.executemany(f"DELETE FROM {name} WHERE {where}", gone)  # noqa: S608 (names of tables and columns)
            self._insert(name, made.rows)
            if name == "images":
                self._see(made.rows)

    # --- inside ---

    def _see(self, images: pa.Table) -> None:
        """Adds the values of these rows to those of distinct(): to look for them would read the whole table."""
        for column in DISTINCT:
            seen = {*self.distinct(column), *images[column].unique().to_pylist()} - {None}
            self._set(f"distinct {column}", json.dumps(sorted(seen)))

    def _mark(self, versions: Mapping[str, int | None]) -> str:
        return json.dumps([LAYOUT, self._model, self._k, sorted(versions.items())])

    def _connect(self) -> None:
        self._base = sqlite3.connect(self._folder / FILE, check_same_thread=False)
        self._base.execute("PRAGMA journal_mode = WAL")
        self._base.execute("PRAGMA synchronous = OFF")  # a cache: what is lost is made again
        self._base.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        self._base.execute(f"PRAGMA mmap_size = {MAPPED_BYTES}")
        self._base.execute("CREATE TABLE IF NOT EXISTS notes (name TEXT PRIMARY KEY, value)")
        self._base.execute("CREATE TABLE IF NOT EXISTS places (image_id INTEGER PRIMARY KEY, row INTEGER)")

    def _get(self, name: str) -> Any:
        row = self.base.execute("SELECT value FROM notes WHERE name = ?", (name,)).fetchone()
        return row[0] if row else None

    def _set(self, name: str, value: Any) -> None:
        self.base.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (name, value))

    def _load(self, name: str, version: int | None) -> None:
        names, key = columns(name).names, _listed(TABLES[name].key)
        kinds = ",".join(f'"{column}" INTEGER' if column == "image_id" else f'"{column}"' for column in names)
        # Several rows of an image lie side by side where the key is the place.
        place = "" if TABLES[name].key == ("image_id",) else "WITHOUT ROWID"
        self.base.execute(f"CREATE TABLE {name} ({kinds}, PRIMARY KEY ({key})) {place}")
        if version is None:
            return
        for batch in dataset(self._lake, name, version).to_batches(columns=names, batch_size=ROWS_AT_ONCE):
            rows = pa.Table.from_batches([batch])
            self._insert(name, rows)
            if name == "images":
                self._see(rows)

    def _insert(self, name: str, rows: pa.Table) -> None:
        names = columns(name).names
        values = zip(*(_plain(rows[column]) for column in names), strict=True)
        self.base.executemany(f"INSERT OR REPLACE INTO {name} VALUES ({','.join('?' * len(names))})", values)  # noqa: S608 (names of tables and columns)

    def _make_shelf(self, versions: Mapping[str, int | None]) -> None:
        centres = dataset(self._lake, "centres", versions["centres"]).to_table().sort_by("cell")
        vectors = vectors_of(centres["vector"])
        keys = dict(self.base.execute("SELECT image_id, content_key FROM copies"))
        self._set("centres", vectors.tobytes())
        shelf = Shelf(self._folder, vectors.shape[1], 0, vectors, np.zeros(len(vectors) + 1, np.int64))
        embeddings = dataset(self._lake, "embeddings", versions["embeddings"])
        of_model = pc.field("model") == self._model
        ids = embeddings.to_table(columns=["image_id"], filter=of_model)["image_id"].to_numpy()
        cell_of = dict.fromkeys(ids.tolist(), 0)
        if len(vectors) > 1:
            cells = dataset(self._lake, "cells", versions["cells"]).to_table(columns=["image_id", "cell"])
            cell_of |= dict(zip(cells["image_id"].to_pylist(), cells["cell"].to_pylist(), strict=True))
        cell = np.array([cell_of[one] for one in ids.tolist()], np.int64)
        order = np.argsort(cell, kind="stable")
        row_of = np.empty(len(ids), np.int64)
        row_of[order] = np.arange(len(ids))
        shelf.append(ids[order], np.array([keys.get(one, 0) for one in ids[order].tolist()], np.int64), None)
        at = 0
        for batch in embeddings.to_batches(columns=["image_id", "vector"], filter=of_model, batch_size=ROWS_AT_ONCE):
            if batch.num_rows:
                shelf.put(row_of[at : at + batch.num_rows], vectors_of(batch.column("vector")))
                at += batch.num_rows
        self.put_places(ids, row_of)
        shelf.starts = np.searchsorted(cell[order], np.arange(len(vectors) + 1)).astype(np.int64)
        self._set("starts", shelf.starts.tobytes())
        used = {one for (one,) in self.base.execute("SELECT image_id FROM copies WHERE image_id = representative_id")}
        shelf.used[:] = [one in used for one in shelf.ids.tolist()]
        query = "SELECT image_id, min(cosine) FROM neighbours GROUP BY image_id HAVING count(*) >= ?"
        least = dict(self.base.execute(query, (self._k,)))
        shelf.least[:] = [least.get(one, UNKNOWN) for one in shelf.ids.tolist()]
        self._shelf = shelf

    def _open_shelf(self) -> None:
        starts = np.frombuffer(self._get("starts"), np.int64)
        centres = np.frombuffer(self._get("centres"), np.float32).reshape(len(starts) - 1, -1)
        self._shelf = Shelf(self._folder, centres.shape[1], int(self._get("count")), centres, starts)


def ids_of(table: pa.Table, column: str = "image_id") -> Ids:
    """(n,) int64."""
    ids: Ids = table[column].to_numpy()
    return ids


def _listed(names: Iterable[str]) -> str:
    return ",".join(f'"{name}"' for name in names)


def _plain(column: pa.ChunkedArray) -> Sequence[Any]:
    """Values as SQLite has them: times as microseconds since 1970, lists as JSON."""
    if pa.types.is_list(column.type):
        return [None if one is None else json.dumps(one) for one in column.to_pylist()]
    values: list[Any] = (column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column).to_pylist()
    return values


def _column(values: list[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_timestamp(kind):
        return pa.array(values, pa.int64()).cast(kind)
    if pa.types.is_list(kind):
        return pa.array([None if one is None else json.loads(one) for one in values], kind)
    if pa.types.is_boolean(kind):
        return pa.array([None if one is None else bool(one) for one in values], kind)
    return pa.array(values, kind)
