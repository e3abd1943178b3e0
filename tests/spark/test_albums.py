"""Catches albums that lack a picture or keep one that is gone, groups that are not those of imagesieve.group, and
increments that write again what they need not touch."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pyspark.sql import functions as F

from jobs.albums import stage as albums
from jobs.albums.grouping import OwnersAlbums
from jobs.albums.reading import Albums
from jobs.engines import delta_log
from jobs.errors import InputError
from jobs.stage import Context
from tests.spark import small_lake
from tests.spark.small_lake import Picture
from tests.vectors import unit
from udfs.albums import files
from udfs.vectors.similarity import group

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

DIMENSION = 16


def pictures(count: int, first: int = 0, seed: int = 0) -> list[Picture]:
    generator = np.random.default_rng(seed)
    bases = unit(generator.normal(size=(max(1, count // 3), DIMENSION)))
    rows = unit(bases[generator.integers(0, len(bases), count)] + 0.1 * generator.normal(size=(count, DIMENSION)))
    rows = rows.astype(np.float16).astype(np.float32)
    return [Picture(first + n, tuple(row)) for n, row in enumerate(rows.tolist())]


def fill(context: Context, given: Sequence[Picture], owners: dict[int, str | None]) -> None:
    lake = context.lake
    frames = small_lake.frames(lake.spark, given)
    named = lake.engine.rows(list(owners.items()), "image_id bigint, owner string")
    images = frames["images"].drop("owner").join(named, "image_id", "left")
    lake.overwrite("images", images)
    lake.overwrite("embeddings", frames["embeddings"])
    lake.overwrite("features", frames["features"])


def told(lake: str, owner: str) -> dict[int, tuple[str, tuple[float, ...]]]:
    found = Albums(lake).album(owner).pictures
    return {
        int(i): (uri.decode(), tuple(row))
        for i, uri, row in zip(found.ids, found.uris, found.vectors.astype(np.float32).tolist(), strict=True)
    }


def expected(given: Sequence[Picture], owners: dict[int, str | None], owner: str) -> dict[int, Any]:
    return {p.image_id: (p.uri, p.vector) for p in given if owners[p.image_id] == owner and p.vector is not None}


def test_albums_follow_the_images(spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture that is missed, found twice, or kept with its former owner or its old bytes; a run that is written
    again though little is new; more runs than a logarithm."""
    monkeypatch.setattr(files, "BUCKET_IMAGES", 40)
    monkeypatch.setattr(albums, "PACK_IMAGES", 16)
    generator = np.random.default_rng(3)
    given = pictures(200)
    owners: dict[int, str | None] = {p.image_id: f"o{min(p.image_id % 23, 7)}" for p in given}
    owners |= {5: None, 6: "o'l d/é\n%"}
    with small_lake.on_disk(spark, tmp_path / "lake") as context:
        lake = context.lake.uri
        fill(context, given, owners)
        first = albums.albums(context)
        assert (first["in"], first["changed"], first["gone"], first["written"]) == (199, 199, 0, 199)
        kept = set(delta_log.files_of(delta_log.delta_table(f"{lake}/albums"), f"{lake}/albums"))
        for step in range(6):
            more = pictures(8, first=200 + 8 * step, seed=step + 10)
            owners |= {p.image_id: f"o{generator.integers(0, 9)}" for p in more}
            gone = set(generator.choice([p.image_id for p in given], 2, replace=False).tolist())
            given = [p for p in given if p.image_id not in gone] + more
            moved = given[int(generator.integers(len(given)))].image_id
            owners[moved] = "o1"
            place = int(generator.integers(len(given)))
            given[place] = given[place].but(vector=more[0].vector, modified_at=small_lake.SOME_DAY.replace(year=2020))
            fill(context, given, owners)
            counts = albums.albums(context)
            assert counts["in"] == counts["out"] == sum(owners[p.image_id] is not None for p in given)
            if step == 0:  # what was there stays as it is
                now = delta_log.files_of(delta_log.delta_table(f"{lake}/albums"), f"{lake}/albums")
                assert kept < set(now)
                assert counts["written"] <= 20
            for owner in {owner for owner in owners.values() if owner is not None}:
                want = expected(given, owners, owner)
                if want:
                    assert told(lake, owner) == want, (step, owner)
        runs = {row["run"] for row in context.lake.read("albums").select("run").distinct().collect()}
        assert len(runs) <= 3
        again = albums.albums(context)
        assert again["wrote"] == 0
        with pytest.raises(InputError, match="nobody"):
            Albums(lake).album("nobody")
        fill(context, given, dict.fromkeys(owners, "one"))
        albums.albums(context)
        assert told(lake, "one") == expected(given, dict.fromkeys(owners, "one"), "one")
        with pytest.raises(InputError, match="o1"):
            Albums(lake).album("o1")


def test_groups_are_those_of_the_vectors(spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups that differ where packs end or runs meet; a best one that is not; times and bursts of other pictures."""
    monkeypatch.setattr(albums, "PACK_IMAGES", 16)
    given = pictures(90)
    second = datetime.timedelta(seconds=1)
    given = [p.but(modified_at=small_lake.SOME_DAY + second * (2 * n + 10 * (n // 30))) for n, p in enumerate(given)]
    given[89] = given[89].but(modified_at=None)
    owners: dict[int, str | None] = dict.fromkeys(range(90), "a")
    with small_lake.on_disk(spark, tmp_path / "lake") as context:
        fill(context, given[:82], owners)
        albums.albums(context)
        fill(context, given, owners)
        albums.albums(context)
        assert context.lake.read("albums").select("run").distinct().count() == 2
        scores = context.lake.read("images").select("image_id", *[
            (F.pmod(F.col("image_id") * 37, F.lit(91)) / 91).alias(name) if name == "quality_score" else
            F.lit(0.5).alias(name)
            for name in context.lake.no_rows("scores").columns if name != "image_id"
        ])  # fmt: skip
        context.lake.overwrite("scores", scores)
        for run in range(2):  # before and after the quality is known
            found = OwnersAlbums(context.lake.uri)
            for level in ("low", "medium", "high", 0.9, 0.3):
                grouped = found.grouped("a", level)
                quality = None if run == 0 else np.arange(90) * 37 % 91 / 91
                want = group(np.array([p.vector for p in given], np.float32), level, quality)
                assert grouped.group.tolist() == want.cluster.tolist()
                assert np.flatnonzero(grouped.best).tolist() == sorted(set(want.keeper.tolist()))
                assert np.array_equal(grouped.cosine, want.cosine)
                assert len(set(want.cluster.tolist())) < 90 or level == 0.9
            albums.albums(context)
        assert grouped.burst.tolist() == [-1 if n == 89 else n // 30 for n in range(90)]
        assert not grouped.by_camera.any()
        assert len(grouped.pandas()) == len(grouped.rows()) == 90
