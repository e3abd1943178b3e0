"""Catches workers whose products of matrices take more than the one core that is theirs."""

import os
from collections.abc import Iterator

import pyarrow as pa
from pyspark.sql import SparkSession
from pyspark.sql.types import LongType, StructField, StructType

from jobs.engines.base import of

THREADS = StructType([StructField("threads", LongType())])


def _threads(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for _ in batches:
        yield pa.RecordBatch.from_pydict({"threads": [int(os.environ.get("OMP_NUM_THREADS", "0"))]})


def test_products_have_one_thread(spark: SparkSession) -> None:
    found = of(spark).map_batches(spark.range(8), _threads, THREADS).collect()
    assert {row["threads"] for row in found} == {1}
