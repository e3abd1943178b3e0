"""Catches an index that a run makes anew where little changed, or leaves as it was where much did."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from jobs.indexing import stage, store
from jobs.stage import Context
from tests.spark import small_lake
from tests.spark.small_lake import Picture
from tests.vectors import families
from udfs.networks import concepts

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture(autouse=True)
def without_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The vectors are not as long as the model's."""
    monkeypatch.setattr(concepts, "prepare", lambda model, cache: None)


def pictures(count: int, first: int = 0) -> list[Picture]:
    return [Picture(first + n, tuple(row)) for n, row in enumerate(families(2, first + count)[first:].tolist())]


def fill(context: Context, given: list[Picture]) -> None:
    small_lake.fill(context, given)
    context.lake.overwrite("copies", small_lake.frames(context.lake.spark, given)["copies"])


def test_it_follows_the_lake(spark: SparkSession, tmp_path: Path) -> None:
    """A skipped change, an index made anew for one picture, none for a lake that has lost all its pictures."""
    given = pictures(90)
    with small_lake.on_disk(spark, tmp_path) as context:
        fill(context, given)
        uri = context.lake.uri
        first = stage.vector_index(context)
        assert (first["in"], first["out"], first["failed"], first["added"], first["segments"]) == (90, 90, 0, 90, 1)
        assert first["recall_at_10"] >= 0.97
        assert stage.vector_index(context)["wrote"] == 0
        base = store.read(uri)
        changed = given[7].but(content="other", vector=given[8].vector)
        fill(context, [*given[2:7], changed, *given[8:], *pictures(3, 90)])
        second = stage.vector_index(context)
        assert (second["in"], second["added"], second["segments"]) == (91, 4, 2)
        now = store.read(uri)
        assert base is not None
        assert now is not None
        assert now.parts[0].files == base.parts[0].files
        assert now.images == 91
        asked = replace(context, given={stage.JOB: True})
        assert stage.vector_index(asked)["segments"] == 1
        fill(context, pictures(60, 500))
        assert stage.vector_index(context)["segments"] == 1, "most was gone"
        fill(context, [])
        assert stage.vector_index(context)["wrote"] == 1
        assert store.read(uri) is None
        assert stage.vector_index(context)["wrote"] == 0


def test_a_broken_index_is_made_anew(spark: SparkSession, tmp_path: Path) -> None:
    """A lake that can be run no more, because a file of its index was taken away or cut off."""
    with small_lake.on_disk(spark, tmp_path) as context:
        fill(context, pictures(50))
        stage.vector_index(context)
        folder = Path(context.lake.uri) / store.FOLDER
        for name in ("ids-", "index.json", "space-"):
            (file,) = (each for each in folder.iterdir() if each.name.startswith(name))
            file.write_bytes(file.read_bytes()[:40])
            fill(context, [*pictures(50), *pictures(1, 60)])
            assert stage.vector_index(context)["segments"] == 1
            fill(context, pictures(50))
            stage.vector_index(context)


def test_more_images_than_one_machine_searches(spark: SparkSession, tmp_path: Path) -> None:
    """An index that grows beyond what is set, or an old one that is left behind; silence about it."""
    with small_lake.on_disk(spark, tmp_path) as context:
        fill(context, pictures(50))
        stage.vector_index(context)
        small = replace(context, config=replace(context.config, index=replace(context.config.index, most_images=49)))
        counts = stage.vector_index(small)
        assert store.read(context.lake.uri) is None
        assert counts["notes"] == [
            "index: 50 images are more than index.most_images = 49: the lake has no index, "
            "and the app makes one of its own"
        ]


def test_the_stage_itself(spark: SparkSession, tmp_path: Path) -> None:
    """A stage that is skipped where somebody took the index away, or is not where nothing changed."""
    with small_lake.on_disk(spark, tmp_path) as context:
        fill(context, pictures(50))
        assert not stage.STAGE.run(context).skipped
        assert stage.STAGE.run(context).skipped
        store.remove(context.lake.uri)
        assert not stage.STAGE.run(context).skipped
        kept = store.read(context.lake.uri)
        assert kept is not None
        assert np.isfinite(kept.images)
