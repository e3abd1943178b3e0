"""What differs between Spark 3.5 and 4.0: the jars, and three calls for Arrow tables that only 4.0 has.

On 4.0 each is Spark's own; on 3.5 it is made of what is there, and gives the same rows and types."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyspark
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from jobs.errors import MachineError
from udfs.groups import of_each_group

RELEASE = ".".join(pyspark.__version__.split(".")[:2])
HAS_ARROW_TABLES = int(RELEASE.split(".")[0]) >= 4


@dataclass(frozen=True)
class Jars:
    """Maven coordinates. s3: what S3A needs. s3_excludes: group:artifact of dependencies that are left out."""

    delta: str
    graphframes: str
    s3: tuple[str, ...]
    s3_excludes: tuple[str, ...]


# GraphFrames: io.graphframes is the natural choice; Sedona's jar carries the same classes. S3A comes without the SDK's
# bundle, 558 MB with Spark 4.0 and 281 MB with 3.5.
JARS = {
    "4.0": Jars(
        delta="io.delta:delta-spark_2.13:4.0.1",
        graphframes="org.apache.sedona:sedona-spark-shaded-4.0_2.13:1.8.0",
        s3=(
            "org.apache.hadoop:hadoop-aws:3.4.1",
            *(
                f"software.amazon.awssdk:{name}:2.29.52"
                for name in ("s3", "s3-transfer-manager", "sts", "apache-client", "url-connection-client")
            ),
        ),
        s3_excludes=("software.amazon.awssdk:bundle",),
    ),
    "3.5": Jars(
        delta="io.delta:delta-spark_2.12:3.3.2",
        graphframes="org.apache.sedona:sedona-spark-shaded-3.5_2.12:1.8.0",
        s3=(
            "org.apache.hadoop:hadoop-aws:3.3.4",
            *(f"com.amazonaws:aws-java-sdk-{name}:1.12.262" for name in ("s3", "sts", "dynamodb")),
        ),
        s3_excludes=("com.amazonaws:aws-java-sdk-bundle",),
    ),
}


def jars() -> Jars:
    """Those of the Spark that is installed. Raises MachineError where it is neither 3.5 nor 4.0."""
    if RELEASE not in JARS:
        raise MachineError(f"pyspark {pyspark.__version__} is not supported: install one of {', '.join(JARS)}")
    return JARS[RELEASE]


def to_arrow(frame: DataFrame) -> pa.Table:
    """All rows, on the driver, in Spark's order."""
    if HAS_ARROW_TABLES:
        return frame.toArrow()
    spark_3: Any = frame
    batches = spark_3._collect_as_arrow()  # what toPandas is made of; pandas has no integers with nulls
    schema = to_arrow_schema(frame.schema)
    return pa.Table.from_batches(batches).cast(schema) if batches else schema.empty_table()


def from_arrow(spark: SparkSession, table: pa.Table, schema: StructType) -> DataFrame:
    """The rows of a table that the driver holds. Raises ValueError where it has a null: pandas has no integers with
    nulls."""
    if any(column.null_count for column in table.columns):
        raise ValueError("a table with nulls cannot be handed to Spark 3.5")
    rows = table if HAS_ARROW_TABLES else table.to_pandas()
    return spark.createDataFrame(rows, schema)


def apply_in_arrow(
    frame: DataFrame, keys: Sequence[str], run: Callable[[pa.Table], pa.Table], schema: StructType
) -> DataFrame:
    """The rows that run makes of each group of rows with the same keys. keys: columns of whole numbers, never null."""
    if HAS_ARROW_TABLES:
        return frame.groupBy(*keys).applyInArrow(run, schema)
    together = frame.repartition(*keys).sortWithinPartitions(*keys)
    return together.mapInArrow(of_each_group(tuple(keys), run), schema)
