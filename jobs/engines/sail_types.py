"""Schemas as the embedded engine and Arrow have them."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructField, StructType


def ddl(schema: StructType) -> str:
    """A schema as text. The object carries metadata that later aggregates of structs fail by (Sail 0.7)."""
    return ", ".join(f"`{column.name}` {column.dataType.simpleString()}" for column in schema)


def told(frame: DataFrame, schema: StructType) -> DataFrame:
    """The frame, whose schema is known: the client would ask the server for it, 3 ms at a time."""
    known: Any = frame
    known._cached_schema = StructType([StructField(column.name, column.dataType) for column in schema])
    return frame


def arrow_schema(schema: StructType) -> pa.Schema:
    """All nullable, and without PySpark's metadata; see ddl."""
    return pa.schema([pa.field(field.name, _bare(field.type)) for field in to_arrow_schema(schema)])


_TYPES = {
    "bigint": pa.int64(), "long": pa.int64(), "int": pa.int32(), "string": pa.string(), "boolean": pa.bool_(),
    "double": pa.float64(), "float": pa.float32(), "binary": pa.binary(), "timestamp": pa.timestamp("us", "UTC"),
}  # fmt: skip


def arrow_of_text(schema: str) -> pa.Schema:
    """Of names and simple types, or arrays of them, as callers write them for frames of few rows. Raises KeyError for
    other types."""
    fields = []
    for column in schema.split(","):
        name, kind = column.replace(":", " ").split()  # Spark takes both forms
        inner = kind.lower().removeprefix("array<").removesuffix(">")
        fields.append(pa.field(name, _TYPES[inner] if inner == kind.lower() else pa.list_(_TYPES[inner])))
    return pa.schema(fields)


def _bare(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_list(kind):
        return pa.list_(_bare(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(field.name, _bare(field.type)) for field in kind])
    return kind
