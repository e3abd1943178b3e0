"""Catches keepers that depend on how a component is dealt out to tasks, and one task that gathers a whole component."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from jobs.duplicates import keepers
from jobs.duplicates.copies import BEST_FIRST, best_first
from jobs.engines.frames import frame_of
from tests.conftest import spark_only
from tests.spark.small_lake import LOOK
from tests.vectors import unit
from udfs.images.relation_names import RELATIONS
from udfs.vectors.cosine import Vectors
from udfs.vectors.keepers import around_keepers

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

MAX_COMPONENT = 50
LEAST = 0.8
COPIES, FEW, MANY = 300, 240, 3 * MAX_COMPONENT + 70  # images of the components: one cluster, some, one for each image


def components() -> dict[int, Vectors]:
    """Component -> its vectors, the best image first."""
    generator = np.random.default_rng(0)
    middles = generator.normal(size=(20, 16))
    found = {
        0: unit(np.eye(16)[:1] + 0.02 * generator.normal(size=(COPIES, 16))),
        1: unit(middles[generator.integers(0, 20, FEW)] + 0.25 * generator.normal(size=(FEW, 16))),
        2: unit(np.eye(MANY)),
    }
    for small in range(3, 40):
        found[small] = unit(middles[[small % 20] * (2 + small % 5)] + 0.3 * generator.normal(size=(2 + small % 5, 16)))
    return {number: np.pad(rows, ((0, 0), (0, MANY - rows.shape[1]))) for number, rows in found.items()}


def frame(spark: SparkSession, of: dict[int, Vectors]) -> DataFrame:
    """All that keepers_of needs of images whose ids do not tell how good they are."""
    rows = []
    ids = iter(np.random.default_rng(1).permutation(10_000).tolist())
    for component, vectors in of.items():
        for number, vector in enumerate(vectors.tolist()):
            best = (1000 - number, False, None, None, 7, f"{component} {number:05}")
            rows.append((next(ids), 1000 + component, vector, LOOK, 640, 480, "photograph", "jpeg", *best))
    looks = "look binary, width int, height int, medium string, format string"
    columns = f"image_id long, component long, vector array<float>, {looks}"
    order = "pixels long, is_squeezed boolean, modified_at timestamp, size_bytes long, uri_length int, uri string"
    return frame_of(spark, rows, f"{columns}, {order}").repartition(3).persist()


@pytest.fixture(scope="module")
def kept(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], int]:
    """(URI -> the URI of its keeper, components that were cut)."""
    folder = tmp_path_factory.mktemp("keepers")
    images = frame(spark, components())
    details = images.drop("component")
    rows, cut = keepers.keepers_of(
        images.select("image_id", "component"),
        images.select("image_id", *BEST_FIRST),
        lambda some: some.join(details, "image_id"),
        LEAST,
        frozenset(RELATIONS),
        MAX_COMPONENT,
        lambda name: str(folder / name),
    )
    uri = {row["image_id"]: row["uri"] for row in images.collect()}
    collected = rows.collect()
    assert len(collected) == len(uri)
    for row in collected:
        assert str(row["component"] - 1000) == uri[row["image_id"]].split()[0]
    return {uri[row["image_id"]]: uri[row["keeper_id"]] for row in collected}, cut


def test_rounds_give_the_answer_of_one_task(kept: tuple[dict[str, str], int]) -> None:
    """A component that is cut into parts with keepers of their own, an image lost between rounds or in two of them, a
    worse keeper that comes first, and small components that mix because they share a task."""
    for component, vectors in components().items():
        for row, keeper in enumerate(around_keepers(vectors, LEAST).keeper):
            assert kept[0][f"{component} {row:05}"] == f"{component} {keeper:05}"
    few = {keeper for image, keeper in kept[0].items() if image.startswith("1 ")}
    assert len(few) > 20
    assert {keeper for image, keeper in kept[0].items() if image.startswith("0 ")} == {"0 00000"}


def test_what_is_oversized_after_all_rounds_is_counted(kept: tuple[dict[str, str], int]) -> None:
    """Rounds without end where no two images match, or a component that is cut in silence."""
    assert kept[1] == 1


@spark_only
def test_no_task_gathers_a_component_to_find_its_best(spark: SparkSession) -> None:
    """The best so many images of a component found by sorting all of it in one task."""
    images = frame(spark, {0: np.eye(4, dtype=np.float32)})
    assert len(best_first()) == len(BEST_FIRST)
    for best in keepers.ROUNDS:
        found = keepers.heads(images.select("image_id", "component"), images.drop("component"), best)
        plan = found._jdf.queryExecution().executedPlan().toString()
        before, after = plan.index("Partial"), plan.index("Final")
        assert "WindowGroupLimit" in plan
        assert after < before, "no limit before the exchange"
