"""Arrow tables to and from an engine, and groups; on Spark 4.0 also what stands for its own calls on 3.5."""

import numpy as np
import pyarrow as pa
import pyspark
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from jobs import config
from jobs.engines import spark_versions
from jobs.engines.frames import batch_rows, from_arrow, map_groups, to_arrow
from jobs.errors import MachineError
from tests.conftest import ENGINE, spark_only

ROWS = pa.schema(
    [
        ("n", pa.int64()),
        ("i", pa.int32()),
        ("real", pa.float32()),
        ("data", pa.binary()),
        ("vector", pa.list_(pa.float32())),
        ("text", pa.string()),
        ("flag", pa.bool_()),
        ("at", pa.timestamp("us", "UTC")),
    ]
)


@pytest.fixture(params=[True, False] if ENGINE == "spark" and spark_versions.HAS_ARROW_TABLES else [False])
def _either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if ENGINE == "spark":
        monkeypatch.setattr(spark_versions, "HAS_ARROW_TABLES", request.param)


def values() -> list[tuple[object, ...]]:
    third = float(np.float32(1 / 3))
    return [
        (2**62 + 1, 2**31 - 1, third, b"\x00\xff", [third, -0.0], "ねこ", True, None),
        (None, None, None, None, None, None, None, None),
        (-(2**63), -1, float("inf"), b"", [], "", False, None),
    ]


@pytest.mark.usefixtures("_either_way")
def test_rows_come_to_the_driver_as_they_are(spark: SparkSession) -> None:
    """Integers beside a null that become floating-point numbers and lose their last digits; bytes, vectors and nulls
    that change; rows in another order; the types of a table without rows."""
    frame = spark.createDataFrame(values(), from_arrow_schema(ROWS)).withColumn(
        "at", F.lit("2024-02-29 23:59:59.123456").cast("timestamp")
    )
    table = to_arrow(frame.repartitionByRange(3, "n").orderBy(F.desc_nulls_first("n")))
    order = [1, 0, 2]
    assert [tuple(row.values())[:-1] for row in table.to_pylist()] == [values()[at][:-1] for at in order]
    assert {str(at) for at in table["at"].to_pylist()} == {"2024-02-29 23:59:59.123456+00:00"}
    assert table.schema.types == ROWS.types
    assert to_arrow(frame.where("n = 7")).schema.types == table.schema.types


@pytest.mark.usefixtures("_either_way")
def test_rows_go_from_the_driver_as_they_are(spark: SparkSession) -> None:
    """Vectors of float32 that are rounded, numbers beyond 2**53."""
    kind = pa.list_(pa.field("element", pa.float32(), False))
    vectors = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    table = pa.table({"n": pa.array(range(2**62, 2**62 + 5)), "vector": pa.array(list(vectors), kind)})
    schema = from_arrow_schema(pa.schema([("n", pa.int64()), ("vector", pa.list_(pa.float32()))]))
    frame = from_arrow(spark, table, schema)
    assert [(field.name, field.dataType) for field in frame.schema] == [
        (field.name, field.dataType) for field in schema
    ]
    rows = frame.orderBy("n").collect()
    assert [row["n"] for row in rows] == list(range(2**62, 2**62 + 5))
    np.testing.assert_array_equal(np.array([row["vector"] for row in rows], np.float32), vectors)
    assert from_arrow(spark, table.slice(0, 0), schema).collect() == []


@pytest.mark.usefixtures("_either_way")
def test_nulls_are_not_sent(spark: SparkSession) -> None:
    """An integer beside a null that would arrive rounded on one version only."""
    with pytest.raises(ValueError, match="nulls"):
        from_arrow(spark, pa.table({"n": [1, None]}), from_arrow_schema(pa.schema([("n", pa.int64())])))


@pytest.mark.usefixtures("_either_way")
@pytest.mark.parametrize("batch", [3, 1000])
def test_each_group_is_one_table(spark: SparkSession, batch: int) -> None:
    """A group that is met twice because it lies in two batches or partitions, and rows that change on their way."""
    rows = spark.range(200, numPartitions=5).selectExpr(
        "id % 7 - 3 AS a", "pmod(hash(id), 4) AS b", f"{2**60} + id AS n", "unhex(hex(id)) AS data",
        "array(CAST(id / 3 AS FLOAT)) AS vector", "IF(id % 3 = 0, NULL, id) AS gap",
    )  # fmt: skip
    kept = [("a", pa.int64()), ("b", pa.int32()), ("rows", pa.int64()), ("n", pa.list_(pa.int64()))]
    schema = pa.schema([*kept, ("data", pa.list_(pa.binary())), ("vector", pa.list_(pa.list_(pa.float32()))),
                        ("gap", pa.list_(pa.int64()))])  # fmt: skip

    def described(table: pa.Table) -> pa.Table:
        table = table.sort_by("n")
        first = {name: [table[name][0].as_py()] for name in ("a", "b")}
        lists = {name: [table[name].to_pylist()] for name in ("n", "data", "vector", "gap")}
        return pa.table({**first, "rows": [table.num_rows], **lists}, schema=schema)

    with batch_rows(spark, batch):
        found = map_groups(rows, ["a", "b"], described, from_arrow_schema(schema)).collect()
    expected: dict[tuple[int, int], list[tuple[object, ...]]] = {}
    for row in rows.orderBy("n").collect():
        expected.setdefault((row["a"], row["b"]), []).append(tuple(row)[2:])
    got = {(row["a"], row["b"]): list(zip(*tuple(row)[3:], strict=True)) for row in found}
    assert len(found) == len(expected) > 20
    assert got == expected


@spark_only
def test_jars_go_with_spark(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jars of one Scala or Spark handed to another, also by the properties for spark-submit; a Spark that we do not
    know, taken for one that we do."""
    scala = {"4.0": "_2.13:", "3.5": "_2.12:"}[spark_versions.RELEASE]
    jars = spark_versions.jars()
    assert scala in jars.delta
    assert f"{spark_versions.RELEASE}{scala}" in jars.graphframes
    file = {"4.0": "spark-cpu.properties", "3.5": "spark-cpu-3.5.properties"}[spark_versions.RELEASE]
    assert f"{jars.delta},{jars.graphframes}" in config.conf_text(file)
    assert pyspark.__version__.startswith(spark_versions.RELEASE + ".")
    monkeypatch.setattr(spark_versions, "RELEASE", "3.4")
    with pytest.raises(MachineError, match=r"not supported: install one of 4\.0, 3\.5"):
        spark_versions.jars()
