"""Catches an engine that splits or joins components, and a size from which the wrong engine is taken."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pyspark.sql.types import LongType, StructField, StructType

from jobs.duplicates import components
from jobs.engines.frames import frame_of
from tests import graphs
from tests.conftest import spark_only

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

SCHEMA = StructType([StructField("src", LongType(), False), StructField("dst", LongType(), False)])
APART = 2**54  # between the ids of two graphs; larger than any id in one


@pytest.fixture(scope="module")
def graph() -> tuple[list[tuple[int, int]], dict[int, int]]:
    """One hundred random graphs and the extreme ones side by side: their edges, src < dst and each once, and networkx's
    components."""
    edges: list[tuple[int, int]] = []
    expected: dict[int, int] = {}
    for number, drawn in enumerate([*map(graphs.seeded, range(graphs.COUNT)), *graphs.extreme()]):
        first = number * APART
        edges += [(first + min(edge), first + max(edge)) for edge in drawn.edges]
        expected |= {first + node: first + lowest for node, lowest in graphs.expected(drawn).items()}
    random.Random(0).shuffle(edges)
    return edges, expected


@pytest.mark.parametrize("engine", [pytest.param("graphframes", marks=spark_only), "scipy"])
def test_like_networkx(
    spark: SparkSession, tmp_path: Path, graph: tuple[list[tuple[int, int]], dict[int, int]], engine: str
) -> None:
    """A component split in two or named after another image, a chain cut after so many rounds."""
    edges, expected = graph
    frame = frame_of(spark, edges, SCHEMA).repartition(3)
    found = components.connected_components(frame, engine, 0, str(tmp_path)).collect()
    assert len(found) == len(expected)
    assert {row["image_id"]: row["component"] for row in found} == expected


@spark_only
def test_auto_takes_one_process_up_to_the_limit(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """A big graph collected into the driver, or a small one sent through GraphFrames."""
    edges = frame_of(spark, [(1, 2), (2, 3), (7, 9)], SCHEMA)
    taken: list[str] = []

    def scipy(_: SparkSession, found: DataFrame) -> DataFrame:
        taken.append("scipy")
        return found

    def graphframes(_: SparkSession, found: DataFrame, __: str) -> DataFrame:
        taken.append("graphframes")
        return found

    monkeypatch.setattr(components, "_by_scipy", scipy)
    monkeypatch.setattr(components, "_by_graphframes", graphframes)
    for limit in (2, 3, 4):
        components.connected_components(edges, "auto", limit, "unused")
    assert taken == ["graphframes", "scipy", "scipy"]
