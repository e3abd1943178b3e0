"""The engine Spark: a JVM on this machine or a cluster, with Delta's own reader and writer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from jobs.engines import delta_log, spark_session, spark_versions
from jobs.engines.base import Counter, Engine, MapBatches, Table
from jobs.errors import ConfigError
from udfs.arrow import Place

_ARROW_ROWS = "spark.sql.execution.arrow.maxRecordsPerBatch"
WITH_PROFILES = 4  # the first Spark that takes `profile` in mapInArrow


def literal(path: str) -> str:
    """A path as Spark's file readers want it: they take []{}*? for a pattern. Delta takes a path as it is."""
    return re.sub(r"([\\\[\]{}*?])", r"\\\1", path)


class SparkEngine(Engine):
    """See Engine. A session that was submitted is left to spark-submit to end."""

    name = "spark"

    @property
    def cores(self) -> int:
        return int(self.spark.sparkContext.defaultParallelism)  # executors come and go

    # --- rows of the driver ---

    def rows(self, values: Iterable[Any], schema: StructType | str) -> DataFrame:
        return self.spark.createDataFrame(list(values), schema)

    def from_arrow(self, table: pa.Table, schema: StructType) -> DataFrame:
        return spark_versions.from_arrow(self.spark, table, schema)

    def to_arrow(self, frame: DataFrame) -> pa.Table:
        return spark_versions.to_arrow(frame)

    # --- frames ---

    def keep(self, frame: DataFrame) -> DataFrame:
        return frame.persist()

    def forget(self, frame: DataFrame) -> None:
        frame.unpersist()

    def forget_all(self) -> None:
        self.spark.catalog.clearCache()

    def small(self, frame: DataFrame) -> DataFrame:
        return F.broadcast(frame)

    @contextmanager
    def batch_rows(self, rows: int) -> Iterator[None]:
        usual = str(self.spark.conf.get(_ARROW_ROWS))
        self.spark.conf.set(_ARROW_ROWS, str(rows))
        try:
            yield
        finally:
            self.spark.conf.set(_ARROW_ROWS, usual)

    def map_batches(
        self, frame: DataFrame, run: MapBatches, schema: StructType, isolated: bool = False, resources: Any = None
    ) -> DataFrame:
        more = {} if resources is None else {"profile": resources}  # Spark 3.5 does not know the argument
        return frame.mapInArrow(run, schema, **more)  # type: ignore[arg-type]

    def map_together(
        self, frame: DataFrame, keys: Sequence[str], run: MapBatches, schema: StructType, partitions: int | None = None
    ) -> DataFrame:
        dealt = frame.repartition(*keys) if partitions is None else frame.repartition(partitions, *keys)
        return self.map_batches(dealt.sortWithinPartitions(*keys), run, schema)

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
        dealt = frame.repartitionByRange(tasks, *near).sortWithinPartitions(*order)
        return self.map_batches(dealt, run, schema, True, resources)

    def map_groups(
        self, frame: DataFrame, keys: Sequence[str], run: Callable[[pa.Table], pa.Table], schema: StructType
    ) -> DataFrame:
        return spark_versions.apply_in_arrow(frame, keys, run, schema)

    def tasks(self, wanted: int) -> int:
        return max(self.cores, wanted)

    # --- files and workers ---

    def read_parquet(self, folder: str, schema: StructType) -> DataFrame:
        return self.spark.read.schema(schema).parquet(literal(folder))

    def write_parquet(self, frame: DataFrame, folder: str) -> None:
        frame.write.mode("overwrite").parquet(folder)

    def write_in_order(self, frame: DataFrame, key: str, folder: str) -> None:
        self.write_parquet(frame.orderBy(key), folder)

    def read_source(self, uri: str, kind: str) -> DataFrame:
        reader = self.spark.read
        if kind == "csv":
            return reader.option("header", True).option("multiLine", True).option("escape", '"').csv(literal(uri))
        if kind == "delta":
            return reader.format("delta").load(uri)
        return reader.format(kind).load(literal(uri))

    def workers(self, files: Sequence[Path]) -> Callable[[], Place]:
        for file in files:
            self.spark.sparkContext.addFile(str(file))
        names = tuple(file.name for file in files)

        def place() -> Place:
            from pyspark import SparkFiles, TaskContext

            task = TaskContext.get()
            gpus = task.resources().get("gpu") if task else None
            return Place(
                tuple(Path(SparkFiles.get(name)) for name in names),
                int(gpus.addresses[0]) if gpus else None,
                task.cpus() if task else 1,
            )

        return place

    def counter(self) -> Counter:
        done = self.spark.sparkContext.accumulator(0)
        return Counter(done.add, lambda: int(done.value))

    # --- GPUs ---

    def offers_gpus(self) -> bool | None:
        if any(self.spark.conf.get(f"spark.{who}.resource.gpu.amount", None) for who in ("task", "executor")):
            return True
        return None if str(self.spark.sparkContext.master).startswith("local") else False

    def gpu_resources(self, share: float) -> Any:
        """Where executors have GPUs that the cluster's settings give to no task: so that other stages use all cores.
        Raises ConfigError on Spark 3.5, whose stages have no resources of their own."""
        spark = self.spark
        has = spark.conf.get("spark.executor.resource.gpu.amount", None)
        if not has or spark.conf.get("spark.task.resource.gpu.amount", None):
            return None
        if int(spark.version.split(".")[0]) < WITH_PROFILES:
            raise ConfigError(
                f"Spark {spark.version} gives GPUs to all stages or none: set spark.task.resource.gpu.amount"
            )
        from pyspark.resource import ResourceProfileBuilder, TaskResourceRequests

        cores = int(spark.conf.get("spark.task.cpus", "1") or 1)
        return ResourceProfileBuilder().require(TaskResourceRequests().cpus(cores).resource("gpu", share)).build

    # --- Delta ---

    def read_table(self, path: str, table: Table) -> DataFrame:
        return self.spark.read.format("delta").load(path)

    def create(self, path: str, table: Table) -> None:
        from delta.tables import DeltaTable

        builder = DeltaTable.createIfNotExists(self.spark).location(path).addColumns(table.schema)
        for name, value in delta_log.properties(table).items():
            builder = builder.property(name, value)
        builder.execute()

    def append(self, path: str, table: Table, rows: DataFrame) -> None:
        rows.write.format("delta").mode("append").save(path)

    def overwrite(self, path: str, table: Table, rows: DataFrame) -> None:
        rows.write.format("delta").mode("overwrite").save(path)

    def delete(self, path: str, table: Table, ids: DataFrame) -> None:
        from delta.tables import DeltaTable

        target = DeltaTable.forPath(self.spark, path).alias("t")
        target.merge(ids.select("image_id").alias("s"), "t.image_id = s.image_id").whenMatchedDelete().execute()

    def merge(self, path: str, table: Table, changes: DataFrame) -> None:
        from delta.tables import DeltaTable

        changes = self.keep(changes)
        if changes.isEmpty():
            return
        columns = {column: F.col(f"s.{column}") for column in table.schema.names}
        (
            DeltaTable.forPath(self.spark, path)
            .alias("t")
            .merge(changes.alias("s"), " AND ".join(f"t.{column} = s.{column}" for column in table.key))
            .whenMatchedDelete(F.col("s.removed"))
            .whenMatchedUpdate(set=columns)  # type: ignore[arg-type]
            .whenNotMatchedInsert(~F.col("s.removed"), values=columns)  # type: ignore[arg-type]
            .execute()
        )

    # --- life ---

    @property
    def has_graphframes(self) -> bool:
        return True

    def explain(self, error: BaseException) -> str | None:
        return spark_session.explain(error)

    def close(self) -> None:
        self.spark.stop()


def open_spark(config: Any, uses_s3: bool) -> SparkEngine:
    """See spark_session.open_session."""
    return SparkEngine(spark_session.open_session(config, uses_s3))
