"""Functions of batches for an engine that calls them in threads of its own process: they run in child processes, so
that two use two cores, and a crash of native code is one clear error and not the engine's end."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from udfs.children import isolation, messages

NUMBER = "_number"  # a column by which the engine puts rows into an order; no function sees it


@dataclass(frozen=True)
class Function:
    """What the engine calls with a partition's batches. payload: the function, pickled by value. name: for people.
    schema: of its results. rows: most of a batch that it is given. isolated: it has child processes of its own."""

    payload: bytes
    name: str
    schema: pa.Schema
    rows: int
    isolated: bool

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        source = sliced(batches, self.rows)
        if self.isolated:
            run = pickle.loads(self.payload)  # noqa: S301 (of the driver)
            found = run(source)
        else:
            found = isolation.stream(source, messages.FunctionTask(self.payload, self.name))
        for batch in found:
            yield checked(batch, self.schema, self.name)


@dataclass(frozen=True)
class Count:
    """Counts what is done, for other processes to see: the size of a file, one byte each."""

    file: str

    def __call__(self, number: int) -> None:
        descriptor = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            os.write(descriptor, bytes(number))
        finally:
            os.close(descriptor)


def sliced(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of at most so many: the engine gives up to 8,192, whatever is said to it."""
    for given in batches:
        names = given.schema.names
        batch = given.select([name for name in names if name != NUMBER]) if NUMBER in names else given
        if batch.num_rows <= rows:
            yield batch
        else:
            for start in range(0, batch.num_rows, rows):
                yield batch.slice(start, rows)


def checked(batch: pa.RecordBatch, schema: pa.Schema, name: str) -> pa.RecordBatch:
    """The batch as schema has it. Raises TypeError for other columns or types, which the engine takes for nulls."""
    if batch.schema.names != schema.names:
        raise TypeError(f"{name} gave the columns {', '.join(batch.schema.names)}, not {', '.join(schema.names)}")
    if batch.schema.equals(schema):
        return batch
    columns = []
    for column, field in zip(batch.columns, schema, strict=True):
        if not _same(column.type, field.type):
            raise TypeError(f"{name} gave {column.type} for {field.name}, not {field.type}")
        columns.append(column if column.type.equals(field.type) else column.cast(field.type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _same(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether the types differ at most in names and nullability of what is inside lists."""
    if pa.types.is_list(found) and pa.types.is_list(wanted):
        return _same(found.value_type, wanted.value_type)
    if pa.types.is_struct(found) and pa.types.is_struct(wanted):
        return found.num_fields == wanted.num_fields and all(
            a.name == b.name and _same(a.type, b.type) for a, b in zip(found, wanted, strict=True)
        )
    return bool(found.equals(wanted))
