"""The files of a clean set: staged rows, in order, become one Parquet, CSV or JSON lines file, in bounded memory.

The same rows give the same bytes, however they were staged: batches have a fixed size, and no time is written."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import BinaryIO, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from jobs.errors import InputError
from udfs.errors import ImageError
from udfs.stores import objects, ranges, uris
from udfs.stores.s3_objects import Limits

ENDINGS = (".parquet", ".csv", ".jsonl")
ROWS = 65_536  # of a batch and of a Parquet row group: about 10 MB
_TIME = "%Y-%m-%dT%H:%M:%SZ"


class _Writer(Protocol):
    def write(self, table: pa.Table) -> None: ...

    def close(self) -> None: ...


class _Parquet:
    def __init__(self, file: BinaryIO, schema: pa.Schema) -> None:
        self._writer = pq.ParquetWriter(file, schema, compression="zstd")

    def write(self, table: pa.Table) -> None:
        self._writer.write_table(table, row_group_size=ROWS)

    def close(self) -> None:
        self._writer.close()


class _Csv:
    """Texts stand in quotes, a missing value is empty. Nothing is put before a text that a spreadsheet may take for a
    formula (a label `=1+1`), for the file must give back the same text: import such columns as text."""

    def __init__(self, file: BinaryIO, schema: pa.Schema) -> None:
        self._writer = pacsv.CSVWriter(file, _as_text(_readable(schema.empty_table())).schema)

    def write(self, table: pa.Table) -> None:
        self._writer.write_table(_as_text(_readable(table)))

    def close(self) -> None:
        self._writer.close()


class _JsonLines:
    def __init__(self, file: BinaryIO, _schema: pa.Schema) -> None:
        self._file = file

    def write(self, table: pa.Table) -> None:
        rows = _readable(table).to_pylist()
        self._file.writelines(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)

    def close(self) -> None:
        pass


_WRITERS: dict[str, Callable[[BinaryIO, pa.Schema], _Writer]] = {
    ".parquet": _Parquet,
    ".csv": _Csv,
    ".jsonl": _JsonLines,
}


def ending_of(uri: str) -> str | None:
    """The one of ENDINGS that a URI has, or None."""
    return next((ending for ending in ENDINGS if uri.lower().endswith(ending)), None)


def beside(uri: str, name: str) -> str:
    """a/b.csv and removed give a/b.removed.csv. uri: with one of ENDINGS."""
    stem, _, ending = uri.rpartition(".")
    return f"{stem}.{name}.{ending}"


def write(uri: str, folder: str, schema: pa.Schema) -> int:
    """Writes the columns of schema of staged rows as one file, whole or not at all. Returns the number of rows.

    folder: see staged. Raises StoreError, InputError."""
    rows = 0
    with objects.replacing(uri) as path, path.open("wb") as file:
        with closing(_WRITERS[ending_of(uri) or ".csv"](file, schema)) as writer:
            for table in staged(folder, schema):
                writer.write(table)
                rows += len(table)
        file.flush()
    return rows


def staged(folder: str, schema: pa.Schema) -> Iterator[pa.Table]:
    """Tables of ROWS rows (the last of fewer) of the Parquet files that were written into a folder, in their order.

    schema: the columns wanted. Raises StoreError, InputError."""
    waiting: list[pa.Table] = []
    count = 0
    for name in objects.list_small(folder):
        if not name.endswith(".parquet"):
            continue
        try:
            with ranges.open_file(uris.join(folder, name), None, Limits()) as (file, _):
                for batch in pq.ParquetFile(file).iter_batches(ROWS, columns=schema.names):
                    waiting.append(pa.Table.from_batches([batch]).select(schema.names).cast(schema))
                    count += len(batch)
                    while count >= ROWS:
                        joined = pa.concat_tables(waiting)
                        yield joined.slice(0, ROWS).combine_chunks()
                        waiting, count = [joined.slice(ROWS)], count - ROWS
        except ImageError as error:
            raise InputError(f"{folder}/{name}: cannot be read again ({error})") from error
    if count:
        yield pa.concat_tables(waiting).combine_chunks()


def _readable(table: pa.Table) -> pa.Table:
    """The table with its times as texts that any reader takes, in UTC."""
    for number, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            text = pc.strftime(table.column(number), format=_TIME)
            table = table.set_column(number, pa.field(field.name, pa.string()), text)
    return table


def _as_text(table: pa.Table) -> pa.Table:
    """The table with its lists as JSON, for CSV has none."""
    for number, field in enumerate(table.schema):
        if pa.types.is_list(field.type):
            lists = table.column(number).to_pylist()
            texts = [None if one is None else json.dumps(one, ensure_ascii=False) for one in lists]
            table = table.set_column(number, pa.field(field.name, pa.string()), pa.array(texts, pa.string()))
    return table
