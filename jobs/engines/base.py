"""What the stages need of the engine that runs their queries: one interface, so that no stage asks which one it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

from udfs.arrow import Place

Batches = Iterator[pa.RecordBatch]
MapBatches = Callable[[Batches], Batches]
NAME = "imagesieve_engine"  # the attribute of a session that names its engine
# Whether PySpark looks up the line of code of every call, for its errors: a fifth of the time of a small run.
CALL_SITES = "spark.python.sql.dataFrameDebugging.enabled"


@dataclass(frozen=True)
class Table:
    """One table of a lake. key: the columns that tell its rows apart. checks: SQL that holds for every row, by name."""

    name: str
    schema: StructType
    key: tuple[str, ...]
    checks: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Counter:
    """Counts what workers have done. add: sent to them. value: asked on the driver."""

    add: Callable[[int], Any]
    value: Callable[[], int]


class Engine(ABC):
    """Runs queries, Python functions on batches, and Delta's reads and writes. Paths are canonical URIs
    (udfs.stores.uris).

    Whoever opens one closes it."""

    name: str  # sail or spark
    spark: SparkSession

    def __init__(self, spark: SparkSession) -> None:
        self.spark = spark
        setattr(spark, NAME, self)

    @property
    @abstractmethod
    def cores(self) -> int:
        """Tasks that run at once."""

    # --- rows of the driver ---

    @abstractmethod
    def rows(self, values: Iterable[Any], schema: StructType | str) -> DataFrame:
        """A frame of few rows that the driver holds: tuples or dicts. Raises for a null where none may be."""

    @abstractmethod
    def from_arrow(self, table: pa.Table, schema: StructType) -> DataFrame:
        """The rows of a table that the driver holds. Raises ValueError where it has a null."""

    @abstractmethod
    def to_arrow(self, frame: DataFrame) -> pa.Table:
        """All rows of a frame, on the driver, in its order."""

    # --- frames ---

    @abstractmethod
    def keep(self, frame: DataFrame) -> DataFrame:
        """The same rows, computed once however often they are used, until forget() or forget_all()."""

    @abstractmethod
    def forget(self, frame: DataFrame) -> None:
        """Frees what keep() returned."""

    @abstractmethod
    def forget_all(self) -> None:
        """Frees all that keep() ever returned."""

    @abstractmethod
    def small(self, frame: DataFrame) -> DataFrame:
        """Says that a frame of a join is small enough to be sent whole to each task."""

    @abstractmethod
    def batch_rows(self, rows: int) -> AbstractContextManager[None]:
        """While inside, so many rows at most make a batch on their way to a function."""

    @abstractmethod
    def map_batches(
        self, frame: DataFrame, run: MapBatches, schema: StructType, isolated: bool = False, resources: Any = None
    ) -> DataFrame:
        """The rows that a function makes of each partition's batches, in worker processes.

        isolated: it runs its work in child processes of its own (udfs.children.isolation). resources: of
        gpu_resources()."""

    @abstractmethod
    def map_together(
        self, frame: DataFrame, keys: Sequence[str], run: MapBatches, schema: StructType, partitions: int | None = None
    ) -> DataFrame:
        """As map_batches, where rows with the same keys are in one partition, one after another. partitions: so many
        there should be; None: as the engine likes."""

    @abstractmethod
    def map_in_order(
        self,
        frame: DataFrame,
        tasks: int,
        near: Sequence[str],
        order: Sequence[str],
        run: MapBatches,
        schema: StructType,
        resources: Any = None,
    ) -> DataFrame:
        """As map_batches with isolated, where rows near one another by the columns `near`, two or more, mostly share a
        task, in which they come in this order. It serves speed alone."""

    @abstractmethod
    def map_groups(
        self, frame: DataFrame, keys: Sequence[str], run: Callable[[pa.Table], pa.Table], schema: StructType
    ) -> DataFrame:
        """The rows that a function makes of each group of rows with the same keys: whole numbers, never null."""

    @abstractmethod
    def tasks(self, wanted: int) -> int:
        """Into how many tasks work is to be dealt that would best have so many, on this engine."""

    # --- files and workers ---

    @abstractmethod
    def read_parquet(self, folder: str, schema: StructType) -> DataFrame:
        """The Parquet files of a folder of any name, which must be there."""

    @abstractmethod
    def write_parquet(self, frame: DataFrame, folder: str) -> None:
        """Writes a frame as Parquet files of a folder, in place of any that was there."""

    @abstractmethod
    def write_in_order(self, frame: DataFrame, key: str, folder: str) -> None:
        """As write_parquet, the rows ordered by a column without nulls: within each file, and from name to name."""

    @abstractmethod
    def read_source(self, uri: str, kind: str) -> DataFrame:
        """A user's csv, json, parquet or delta, its schema as it is found. Raises what the engine raises."""

    @abstractmethod
    def workers(self, files: Sequence[Path]) -> Callable[[], Place]:
        """Brings local files to the workers. Returns what a task calls to learn where it is."""

    @abstractmethod
    def counter(self) -> Counter:
        """A new counter."""

    # --- GPUs ---

    @abstractmethod
    def offers_gpus(self) -> bool | None:
        """Whether the engine gives GPUs to tasks; None where that depends on this machine alone."""

    @abstractmethod
    def gpu_resources(self, share: float) -> Any:
        """A stage's own share of a GPU for each task, or None where none need be asked for. Raises ConfigError."""

    # --- Delta ---

    @abstractmethod
    def read_table(self, path: str, table: Table) -> DataFrame:
        """A table that is there, as it is now. Raises LakeError where this engine cannot."""

    @abstractmethod
    def create(self, path: str, table: Table) -> None:
        """Makes a table, without rows, with its checks, and without what readers other than Spark do not know."""

    @abstractmethod
    def append(self, path: str, table: Table, rows: DataFrame) -> None:
        """Adds rows, the table's columns in its order, in one commit. Raises where a check does not hold."""

    @abstractmethod
    def overwrite(self, path: str, table: Table, rows: DataFrame) -> None:
        """Puts rows in place of all that were there, in one commit."""

    @abstractmethod
    def delete(self, path: str, table: Table, ids: DataFrame) -> None:
        """Removes all rows of these image_ids, in one commit. ids: (image_id), no duplicates."""

    @abstractmethod
    def merge(self, path: str, table: Table, changes: DataFrame) -> None:
        """Upserts rows by the key, in one commit. changes: the table's columns and `removed`, see Lake.merge."""

    # --- life ---

    @property
    @abstractmethod
    def has_graphframes(self) -> bool:
        """Whether GraphFrames runs on it: else connected components are found in one process, whatever their number."""

    @abstractmethod
    def explain(self, error: BaseException) -> str | None:
        """What an error of the engine or of a worker means, on one line; None for an error that is neither's."""

    @abstractmethod
    def close(self) -> None:
        """Ends it and all its processes; may be called twice."""


def of(frame: DataFrame | SparkSession) -> Engine:
    """The engine that runs a frame, or whose session that is."""
    session = frame.sparkSession if isinstance(frame, DataFrame) else frame
    engine: Engine = getattr(session, NAME)
    return engine
