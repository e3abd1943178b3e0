"""Catches the wrong representative of equal images, and a task that gathers all of them."""

from __future__ import annotations

import datetime
import random
from typing import TYPE_CHECKING

from jobs.duplicates.copies import find_copies
from tests.spark import small_lake
from tests.spark.small_lake import SOME_DAY, Picture
from udfs.networks import models

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
from pyspark.sql import SparkSession

CONTENTS, COUNT = 25, 300


def drawn() -> list[Picture]:
    """Pictures of few contents with few values of each property, and some that are alone or could not be read."""
    chance = random.Random(0)
    ids = chance.sample(range(10_000), COUNT)
    return [
        Picture(
            ids[number],
            None if number % 29 == 0 else (1.0, 0.0),
            content=f"content {chance.randrange(CONTENTS)}" if number % 10 else "",
            width=chance.choice((640, 641)),
            size_bytes=chance.choice((None, 0, 1000)),
            jpeg_quality=chance.choice((49.9, 50.0, 100.0)),
            modified_at=chance.choice((None, SOME_DAY, SOME_DAY + datetime.timedelta(days=1))),
        )
        for number in range(COUNT)
    ]


def test_representatives(spark: SparkSession, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A null that beats a value, a property that is asked in the wrong order, and an image lost or there twice."""
    pictures = drawn()
    best = {small_lake.pixel_hash(picture): picture.image_id for picture in small_lake.representatives(pictures)}
    with small_lake.in_memory(spark, tmp_path, pictures, shuffled=3) as context:
        copies = find_copies(context.lake, models.DEFAULT)
        found = [(row["image_id"], row["representative_id"], row["content_key"]) for row in copies.collect()]
        copies.explain()
        plan = capsys.readouterr().out
    assert sorted(found) == sorted(
        (picture.image_id, best[small_lake.pixel_hash(picture)], small_lake.content_key(picture))
        for picture in pictures
        if picture.vector is not None
    )
    assert CONTENTS < len(set(best.values())) < COUNT / 2
    assert "Window" not in plan
