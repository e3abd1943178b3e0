"""Catches ids with gaps or repeats, rows that break the contract, and tables that other readers cannot read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import functions as F
from pyspark.sql.types import LongType, StructField, StructType, TimestampType

from jobs import lakes
from jobs.engines.frames import frame_of, read_parquet, write_parquet
from jobs.errors import ContractError, LakeError
from jobs.lakes import Lake, dense_ids
from jobs.tables import OUTLIER_SCORES, SCORES, TABLES
from tests.conftest import ENGINE
from tests.spark import small_lake

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from jobs.stage import Context


BROKEN = {"spark": "DELTA_VIOLATE_CONSTRAINT_WITH_VALUES", "sail": "rows break .*: not written"}
NULL = {"spark": "DELTA_NOT_NULL_CONSTRAINT_VIOLATED", "sail": "neighbours: 1 rows break rank: not written"}


@pytest.fixture(scope="module")
def context(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Context]:
    """A lake in a folder whose name is full of characters that paths and globs give a meaning."""
    # A literal % is more than delta-rs takes.
    folder = tmp_path_factory.mktemp("a lake") / ("é [1] {a,b} #%41?*" if ENGINE == "spark" else "é [1] {a,b} #41?*")
    folder.mkdir()
    with small_lake.on_disk(spark, folder) as context:
        yield context


def rows(spark: SparkSession, name: str, *values: tuple[Any, ...]) -> DataFrame:
    return frame_of(spark, list(values), TABLES[name].schema)


@pytest.mark.parametrize(("per_bucket", "partitions"), [(1000, 1), (1000, 4), (7, 1), (7, 5), (1, 3)])
def test_dense_ids(spark: SparkSession, per_bucket: int, partitions: int) -> None:
    """A gap, a repeat, or an id that depends on the partitions or the order of the rows."""
    names = [(f"{number % 9}/{number:03}", number) for number in range(60)]

    def number(given: list[tuple[str, int]], parts: int) -> dict[str, int]:
        frame = frame_of(spark, given, "name string, other long").repartition(parts)
        found, total = dense_ids(frame, ["name", "other"], 100, "id", per_bucket)
        assert total == 60
        assert found.columns == ["name", "other", "id"]
        return {row["name"]: row["id"] for row in found.collect()}

    ids = number(names, partitions)
    assert sorted(ids.values()) == list(range(100, 160))
    if partitions > 1:
        assert ids == number(names[::-1], 1)
    if per_bucket == 1000:
        assert [ids[name] for name in sorted(ids)] == list(range(100, 160))


def test_dense_ids_of_nothing(spark: SparkSession) -> None:
    """A crash where no image was added."""
    found, total = dense_ids(frame_of(spark, [], "name string"), ["name"], 5, "id")
    assert (total, found.count()) == (0, 0)


def test_merge_upserts_and_removes_in_one_commit(spark: SparkSession, context: Context) -> None:
    """A row twice, one that stays, or readers that see a half of the changes; and a table that only Spark 4 reads."""
    lake = context.lake
    lake.append("neighbours", rows(spark, "neighbours", (1, 1, 2, 0.5), (1, 2, 3, 0.4), (2, 1, 1, 0.5)))
    before = lake.version("neighbours")
    changes = rows(spark, "neighbours", (1, 1, 9, 0.9), (3, 1, 1, 0.1)).withColumn("removed", F.lit(False))
    gone = rows(spark, "neighbours", (1, 2, 7, 0.0), (8, 8, 9, 0.0)).withColumn("removed", F.lit(True))
    lake.merge("neighbours", changes.unionByName(gone))
    assert before is not None
    assert lake.version("neighbours") == before + 1
    assert small_lake.rows_of(context, "neighbours") == [(1, 1, 9, 0.9), (2, 1, 1, 0.5), (3, 1, 1, 0.1)]

    lake.delete("neighbours", frame_of(spark, [(1,), (77,)], "image_id long"))
    assert small_lake.rows_of(context, "neighbours") == [(2, 1, 1, 0.5), (3, 1, 1, 0.1)]
    log = Path(lake.path("neighbours"), "_delta_log")
    actions = [json.loads(line) for file in log.iterdir() if file.suffix == ".json" for line in file.open()]
    protocol = next(action["protocol"] for action in actions if "protocol" in action)
    assert protocol == {"minReaderVersion": 1, "minWriterVersion": 3}
    configuration = next(action["metaData"]["configuration"] for action in actions if "metaData" in action)
    checks = {f"delta.constraints.{name}": check for name, check in TABLES["neighbours"].checks.items()}
    assert configuration == {"delta.enableDeletionVectors": "false", "delta.checkpointInterval": "10", **checks}
    assert not any((action.get("add") or {}).get("deletionVector") for action in actions)


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("issues", (1, "dark", 1.5, None, None, None, "review", None)),
        ("issues", (1, "gloomy", 0.5, None, None, None, "review", None)),
        ("neighbours", (1, 1, 1, 0.5)),
    ],
)
def test_checks_refuse(spark: SparkSession, context: Context, name: str, row: tuple[Any, ...]) -> None:
    """A check that is only written down: a score above one, an unknown issue, an image that is its own neighbour."""
    with pytest.raises(Exception, match=BROKEN[ENGINE]):
        context.lake.append(name, rows(spark, name, row))


def test_a_null_is_refused(spark: SparkSession, context: Context) -> None:
    """A null where the contract has none."""
    bad = rows(spark, "neighbours", (1, 1, 2, 0.5)).withColumn("rank", F.lit(None).cast("int"))
    with pytest.raises(Exception, match=NULL[ENGINE]):
        context.lake.append("neighbours", bad)


def test_a_null_is_taken_where_it_may_be(spark: SparkSession, context: Context) -> None:
    """A check on a column that may be null: Delta takes an unknown answer for a no."""
    context.lake.append("scores", rows(spark, "scores", (1, *[0.5] * len(SCORES), *[None] * len(OUTLIER_SCORES))))
    context.lake.append("issues", rows(spark, "issues", (1, "dark", 0.5, None, None, None, "review", None)))
    assert small_lake.rows_of(context, "scores", "outlier_score") == [(None,)]


def test_other_types_and_missing_columns_are_refused(spark: SparkSession, context: Context) -> None:
    """A type that is widened or cut in silence."""
    good = rows(spark, "neighbours", (1, 1, 2, 0.5))
    wrong = [good.withColumn("rank", F.col("rank").cast("long")), good.drop("cosine")]
    for bad in wrong:
        with pytest.raises(ContractError, match="neighbours"):
            context.lake.append("neighbours", bad)
        with pytest.raises(ContractError, match="neighbours"):
            context.lake.overwrite("neighbours", bad)


def test_reading_what_is_not_there(spark: SparkSession, context: Context) -> None:
    """A crash of a first run, or a stage that works on without its input; and a reader that writes."""
    assert context.lake.read("features").count() == 0
    with pytest.raises(LakeError, match="no table features"):
        context.lake.require("features")
    reader = Lake(spark, context.lake.uri, "reader")
    with pytest.raises(ContractError, match="read only"):
        reader.append("neighbours", rows(spark, "neighbours", (1, 1, 2, 0.5)))
    with pytest.raises(ContractError, match="read only"):
        reader.mark(next_image_id=0)


def test_staged_files_are_read_back(spark: SparkSession, context: Context) -> None:
    """A lake whose name Spark takes for a pattern: what was staged would not be found."""
    staged = context.lake.staging("some")
    write_parquet(rows(spark, "neighbours", (1, 1, 2, 0.5)), staged)
    assert read_parquet(spark, staged, TABLES["neighbours"].schema).count() == 1
    context.lake.clear_staging()
    assert not Path(context.lake.uri, "_staging").exists()


def test_times_of_both_spellings_in_one_table(spark: SparkSession, tmp_path: Path) -> None:
    """A lake that Spark wrote, whose times are INT96, and that the embedded engine goes on with."""
    times = [datetime(1970, 1, 1, tzinfo=UTC), datetime(2026, 2, 3, 4, 5, 6, 789012, tzinfo=UTC)]
    for number, old in enumerate((True, False, True)):
        table = pa.table({"id": [number, number + 10], "at": pa.array(times, pa.timestamp("us", "UTC"))})
        pq.write_table(table, tmp_path / f"{number}.parquet", use_deprecated_int96_timestamps=old, store_schema=False)
    schema = StructType([StructField("id", LongType()), StructField("at", TimestampType())])
    found = read_parquet(spark, str(tmp_path), schema).orderBy("id")
    assert [row["id"] for row in found.collect()] == [0, 1, 2, 10, 11, 12]
    assert found.select(F.unix_micros("at")).collect() == [(0,)] * 3 + [(1_770_091_506_789_012,)] * 3


def test_ids_go_on_from_the_marker(tmp_path: Path, context: Context) -> None:
    """An id given out twice: one mark must not reset the other."""
    assert (context.lake.next_id("next_image_id"), context.lake.next_id("next_cluster_id")) == (0, 0)
    context.lake.mark(next_image_id=7)
    context.lake.mark(next_cluster_id=3)
    assert (context.lake.next_id("next_image_id"), context.lake.next_id("next_cluster_id")) == (7, 3)


def test_a_folder_that_is_no_lake(tmp_path: Path) -> None:
    """Tables written into somebody's folder."""
    assert lakes.read_marker(str(tmp_path / "new")) is None
    (tmp_path / "_leases").mkdir()
    assert lakes.read_marker(str(tmp_path)) is None
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(LakeError, match="not a lake and not empty"):
        lakes.read_marker(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (json.dumps({"format": lakes.LAKE_FORMAT + 1, "version": "9.9"}), "imagesieve 9.9, newer"),
        (json.dumps({"format": lakes.LAKE_FORMAT - 1, "version": "0.1"}), "imagesieve 0.1, whose tables lack"),
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"format": null}', "cannot be read"),
        ('{"version": "1"}', "cannot be read"),
    ],
)
def test_a_marker_that_cannot_be_used(tmp_path: Path, text: str, told: str) -> None:
    """A newer lake damaged by an older program, or a traceback for a broken marker."""
    (tmp_path / lakes.MARKER).write_text(text)
    with pytest.raises(LakeError, match=told):
        lakes.read_marker(str(tmp_path))
