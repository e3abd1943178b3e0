"""Connected components of a graph of images: in one process while the edges fit, by GraphFrames beyond."""

from __future__ import annotations

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import LongType, StructField, StructType

from jobs.engines.base import of
from jobs.engines.frames import from_arrow, to_arrow
from jobs.errors import ConfigError
from udfs.vectors.components import label_components

COMPONENTS = StructType([StructField("image_id", LongType()), StructField("component", LongType())])


def connected_components(edges: DataFrame, engine: str, max_edges_one_process: int, checkpoints: str) -> DataFrame:
    """Components of an undirected graph. edges: (src, dst) BIGINT, without loops.

    engine: scipy, graphframes, or auto (scipy up to max_edges_one_process edges, and where there are no GraphFrames).
    checkpoints: a URI where GraphFrames may put its intermediate results. Returns (image_id, component), component the
    lowest id in it; nodes without an edge are not in it. Raises ConfigError for graphframes on an engine without."""
    there = of(edges).has_graphframes
    if engine == "auto":
        engine = "scipy" if not there or edges.count() <= max_edges_one_process else "graphframes"
    if engine == "graphframes" and not there:
        raise ConfigError("clusters.engine: graphframes needs Spark: --set spark.engine=spark, or leave it to auto")
    spark = edges.sparkSession
    return _by_scipy(spark, edges) if engine == "scipy" else _by_graphframes(spark, edges, checkpoints)


def _by_scipy(spark: SparkSession, edges: DataFrame) -> DataFrame:
    table = to_arrow(edges.select("src", "dst"))
    nodes, lowest = label_components(table["src"].to_numpy(), table["dst"].to_numpy())
    table = pa.table({"image_id": pa.array(nodes, pa.int64()), "component": pa.array(lowest, pa.int64())})
    return from_arrow(spark, table, COMPONENTS)


def _by_graphframes(spark: SparkSession, edges: DataFrame, checkpoints: str) -> DataFrame:
    from graphframes import GraphFrame

    spark.sparkContext.setCheckpointDir(checkpoints)
    nodes = edges.select(F.col("src").alias("id")).union(edges.select(F.col("dst").alias("id"))).distinct()
    # algorithm="graphx" is never used: its default max_iter of 31 ends long chains too early.
    found = GraphFrame(nodes, edges.select("src", "dst")).connectedComponents(algorithm="graphframes")
    lowest = found.groupBy("component").agg(F.min("id").alias("lowest"))
    result = found.join(lowest, "component").select(F.col("id").alias("image_id"), F.col("lowest").alias("component"))
    checked: DataFrame = result.localCheckpoint()
    found.unpersist()
    return checked
