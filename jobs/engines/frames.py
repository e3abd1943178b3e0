"""What stages do with frames beyond PySpark's own calls, each by the engine of the frame."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

from jobs.engines.base import MapBatches, of


def keep(frame: DataFrame) -> DataFrame:
    """The same rows, computed once however often they are used; see Engine.forget_all."""
    return of(frame).keep(frame)


def small(frame: DataFrame) -> DataFrame:
    """Says that a frame of a join is small enough to be sent whole to each task."""
    return of(frame).small(frame)


def map_batches(frame: DataFrame, run: MapBatches, schema: StructType) -> DataFrame:
    """The rows that a function makes of each partition's batches."""
    return of(frame).map_batches(frame, run, schema)


def map_together(
    frame: DataFrame, keys: Sequence[str], run: MapBatches, schema: StructType, partitions: int | None = None
) -> DataFrame:
    """As map_batches, where rows with the same keys are in one partition, one after another."""
    return of(frame).map_together(frame, keys, run, schema, partitions)


def map_groups(
    frame: DataFrame, keys: Sequence[str], run: Callable[[pa.Table], pa.Table], schema: StructType
) -> DataFrame:
    """The rows that a function makes of each group of rows with the same keys: whole numbers, never null."""
    return of(frame).map_groups(frame, keys, run, schema)


def batch_rows(spark: SparkSession, rows: int) -> AbstractContextManager[None]:
    """While inside, so many rows at most make a batch on their way to a function."""
    return of(spark).batch_rows(rows)


def to_arrow(frame: DataFrame) -> pa.Table:
    """All rows of a frame, on the driver, in its order."""
    return of(frame).to_arrow(frame)


def from_arrow(spark: SparkSession, table: pa.Table, schema: StructType) -> DataFrame:
    """The rows of a table that the driver holds. Raises ValueError where it has a null."""
    return of(spark).from_arrow(table, schema)


def frame_of(spark: SparkSession, values: Iterable[Any], schema: StructType | str) -> DataFrame:
    """A frame of few rows that the driver holds: tuples or dicts."""
    return of(spark).rows(values, schema)


def read_parquet(spark: SparkSession, folder: str, schema: StructType) -> DataFrame:
    """The Parquet files of a folder of any name, which must be there."""
    return of(spark).read_parquet(folder, schema)


def write_parquet(frame: DataFrame, folder: str) -> None:
    """Writes a frame as Parquet files of a folder, in place of any that was there."""
    of(frame).write_parquet(frame, folder)
