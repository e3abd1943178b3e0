"""Catches maps that depend on how the lake lies in partitions, and images that move when others come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from jobs.mapping import map as image_map
from jobs.stage import Context
from tests.spark import small_lake
from tests.spark.small_lake import Picture, rows_of
from tests.vectors import unit

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

DIMENSION = 16
GROUPS = (40, 30, 20)


def pictures(groups: Sequence[int] = GROUPS, first: int = 0, seed: int = 0) -> list[Picture]:
    generator = np.random.default_rng(seed)
    found: list[Picture] = []
    for group, size in enumerate(groups):
        rows = unit(np.eye(DIMENSION)[group] + 0.4 + 0.02 * generator.normal(size=(size, DIMENSION)))
        found += [Picture(first + len(found) + n, tuple(row), label=str(group)) for n, row in enumerate(rows.tolist())]
    return found


def fill(context: Context, given: Sequence[Picture]) -> None:
    small_lake.fill(context, given)
    context.lake.overwrite("copies", small_lake.frames(context.lake.spark, given)["copies"])


def places(context: Context) -> dict[int, tuple[float, float, bool]]:
    return {i: (x, y, anchor) for i, x, y, anchor in rows_of(context, "map", "image_id", "x", "y", "is_anchor")}


@pytest.fixture
def small_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_map, "SAMPLE", 60)


@pytest.mark.usefixtures("small_sample")
def test_every_image_has_a_place_by_its_like(spark: SparkSession, tmp_path: Path) -> None:
    """An image without a place, one among others than its like, copies that lie apart, a sample with two of a kind."""
    given = pictures()
    given = [*given[:-3], *[p.but(content="same", vector=given[0].vector) for p in given[-3:]]]
    with small_lake.in_memory(spark, tmp_path, given) as context:
        counts = image_map.embedding_map(context)
        found = places(context)
    assert counts == {"in": 90, "out": 90, "failed": 0, "laid_out": 60, "placed": 30}
    assert set(found) == {p.image_id for p in given}
    assert sum(anchor for _, _, anchor in found.values()) == 60
    copies = {found[p.image_id][:2] for p in given[-3:]}
    assert len(copies) == 1
    assert sum(found[p.image_id][2] for p in given[-3:]) <= 1
    points = np.array([found[p.image_id][:2] for p in given[:-3]])
    labels = np.array([p.label for p in given[:-3]])
    apart = ((points[:, np.newaxis] - points) ** 2).sum(axis=2)
    np.fill_diagonal(apart, np.inf)
    assert (labels[apart.argmin(axis=1)] == labels).mean() > 0.95


@pytest.mark.usefixtures("small_sample")
@pytest.mark.parametrize("seed", [1, 2])
def test_the_same_images_give_the_same_map(spark: SparkSession, tmp_path: Path, seed: int) -> None:
    """A sample or a layout that depends on the order of rows or on partitions."""
    found = []
    for folder, shuffled in (("plain", None), ("other", seed)):
        (tmp_path / folder).mkdir()
        with small_lake.in_memory(spark, tmp_path / folder, pictures(), shuffled=shuffled) as context:
            image_map.embedding_map(context)
            found.append(rows_of(context, "map"))
    assert found[0] == found[1]


@pytest.mark.usefixtures("small_sample")
def test_new_images_move_no_others(spark: SparkSession, tmp_path: Path) -> None:
    """A map that turns round with each run; an image whose content changed and that stays where the old one lay; rows
    of images that are gone; a new map that nobody asked for, and none where one was."""
    given = pictures()
    with small_lake.on_disk(spark, tmp_path) as context:
        fill(context, given)
        assert image_map.embedding_map(context)["laid_out"] == 60
        before = places(context)
        assert image_map.embedding_map(context)["wrote"] == 0
        changed = given[5].but(vector=given[-1].vector, content="other")
        now = [*given[:5], changed, *given[7:], *pictures((5,), first=500, seed=9)]
        fill(context, now)
        counts = image_map.embedding_map(context)
        after = places(context)
        assert (counts["in"], counts["laid_out"], counts["placed"]) == (94, 0, 6)
        assert set(after) == {p.image_id for p in now}
        for picture in now:
            if picture.image_id < 500 and picture.image_id != 5:
                assert after[picture.image_id] == before[picture.image_id]
        assert not after[5][2]
        assert after[5][:2] != before[5][:2]
        asked = replace(context, given={image_map.JOB: True})
        assert image_map.embedding_map(asked)["laid_out"] == 60
        fill(context, pictures(first=1000, seed=4))
        assert image_map.embedding_map(context)["laid_out"] == 60, "none of the sample was left"


def test_no_images_and_one(spark: SparkSession, tmp_path: Path) -> None:
    """A crash where nothing could be read, or where there is nothing to be laid out."""
    for folder, these in (("none", []), ("one", pictures()[:1])):
        (tmp_path / folder).mkdir()
        with small_lake.in_memory(spark, tmp_path / folder, these) as context:
            counts: dict[str, Any] = image_map.embedding_map(context)
            assert (counts["in"], counts["laid_out"]) == (len(these), len(these))
            assert [row[1:4] for row in rows_of(context, "map")] == [(0.5, 0.5, True)][: len(these)]
