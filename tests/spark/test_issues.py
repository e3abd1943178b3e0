"""Catches images that are blamed wrongly or not at all, and a stage whose tables or counts do not agree."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from pyspark.sql import functions as F

from jobs import clusters, issues, neighbours, tables
from jobs.engines.frames import frame_of
from jobs.findings import formulas
from jobs.tables import TABLES
from tests.spark import small_lake
from tests.spark.small_lake import Picture
from tests.spark.test_clusters import PLAIN, around
from tests.vectors import families
from udfs import errors
from udfs.images.looks import Look
from udfs.images.relations import compare

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession


def test_what_is_broken_and_what_is_unread(spark: SparkSession) -> None:
    """An image blamed for a network that was down; an error code that nobody sorted."""
    rows = [(i, "embed", code, "", 1, small_lake.SOME_DAY, None) for i, code in enumerate(errors.CODES)]
    rows += [(99, "report", "corrupt", "", 1, small_lake.SOME_DAY, None)]
    rows += [(i, "embed", "corrupt", "", 1, small_lake.SOME_DAY, None) for i in (201, 202, 203)]
    names: list[tuple[int, str, str | None]] = [(i, f"/in/{i}.jpg", None) for i in range(len(errors.CODES))]
    names += [(201, "/in/a.TAR", None), (202, "/in/b.parquet", None), (203, "/in/a.tar!/c.tar", "/in/a.tar")]
    images = frame_of(spark, names, "image_id bigint, uri string, shard string")
    found = issues.unreadable_issues(frame_of(spark, rows, TABLES["failures"].schema), images).collect()
    codes = {
        issue: {errors.CODES[row["image_id"]] for row in found if row["issue"] == issue and row["image_id"] < 200}
        for issue in ("corrupted", "unread")
    }
    assert codes["corrupted"] == {"empty", "not_an_image", "truncated", "corrupt"}
    assert codes["unread"] == set(errors.CODES) - codes["corrupted"] - {errors.NO_VECTOR}
    assert {row["score"] for row in found} == {0.0}
    assert {row["suggestion"] for row in found if row["issue"] == "unread"} == {"review"}
    assert all(row["detail"] for row in found if row["issue"] == "unread")
    found = [row for row in found if row["issue"] == "corrupted"]
    # A broken shard may hold good images.
    assert {row["image_id"] for row in found if row["suggestion"] == "review"} == {201, 202}
    assert {row["suggestion"] for row in found} == {"review", "remove"}


@dataclass(frozen=True)
class Judged:
    """A lake after the stage: its issues as (image_id, issue) -> row."""

    counts: dict[str, int]
    issues: dict[tuple[int, str], dict[str, Any]]
    scores: dict[int, dict[str, Any]]


LONELY, SPOILT, LOST = 300, 301, 302
TAKEN_OUT = 25  # the three near-duplicates take its place in its family


@pytest.fixture(scope="module")
def lake(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judged]:
    """Families of images, two copies (0 and 1), three near-duplicates over two splits, a lone image, two failures."""
    dimension = len(around(0, 1)[0])
    vectors = [tuple(v.tolist()) for v in families(3, 60, dimension=dimension, size=20)]
    pictures = [Picture(i, vector, f"family {i}") for i, vector in enumerate(vectors)]
    pictures[1] = pictures[0].but(image_id=1, width=600)
    trio = zip((60, 61, 62), around(5, 3, vectors[TAKEN_OUT]), ("train", "test", "test"), strict=True)
    pictures += [Picture(image_id, vector, split=split) for image_id, vector, split in trio]
    pictures.pop(TAKEN_OUT)
    lonely = [-sum(column) for column in zip(*vectors, strict=True)]
    size = math.sqrt(sum(x * x for x in lonely))
    pictures += [Picture(LONELY, tuple(x / size for x in lonely))]
    pictures += [Picture(SPOILT, None), Picture(LOST, None, error="timeout")]
    with small_lake.in_memory(spark, tmp_path_factory.mktemp("issues"), pictures, *PLAIN) as context:
        context.lake.overwrite("neighbours", small_lake.nearest(spark, pictures))
        clusters.clusters(context)
        counts = issues.issues(context)
        found = {(row["image_id"], row["issue"]): row.asDict() for row in context.lake.read("issues").collect()}
        scored = {row["image_id"]: row.asDict() for row in context.lake.read("scores").collect()}
        yield Judged(counts, found, scored)


def of(lake: Judged, *kinds: str) -> dict[tuple[int, str], int | None]:
    """The issues of these kinds with their evidence."""
    return {key: row["evidence_id"] for key, row in lake.issues.items() if key[1] in kinds}


def test_the_lone_image_is_the_outlier(lake: Judged) -> None:
    """An image that resembles nothing and is not found, or is not the worst; members of families called odd."""
    flagged = of(lake, "outlier")
    assert min(flagged, key=lambda key: lake.issues[key]["score"]) == (LONELY, "outlier")
    assert len(flagged) <= 3
    nearest = flagged[LONELY, "outlier"]
    assert nearest is not None
    assert nearest in lake.scores


def test_duplicates_and_leaks_of_a_lake(lake: Judged) -> None:
    """Copies reported as near, keepers reported at all, a duplicate without what it duplicates."""
    assert of(lake, "exact_duplicate", "near_duplicate") == {
        (1, "exact_duplicate"): 0, (61, "near_duplicate"): 60, (62, "near_duplicate"): 60,
    }  # fmt: skip
    leaks = of(lake, "leak")
    assert set(leaks) == {(60, "leak"), (61, "leak"), (62, "leak")}
    assert leaks[61, "leak"] == leaks[62, "leak"] == 60
    assert leaks[60, "leak"] in (61, 62)
    row = lake.issues[61, "near_duplicate"]
    look = Look(small_lake.LOOK, 160, 160, False, False)
    assert row["cosine"] == pytest.approx(0.98, abs=0.02)
    assert row["score"] == pytest.approx(1 - row["cosine"] * compare(look, look).agreement, abs=1e-6)


def test_rows_of_a_lake(lake: Judged) -> None:
    """A failed image with a score, one that is called broken for the network's fault, or an issue nobody planted."""
    assert of(lake, "corrupted") == {(SPOILT, "corrupted"): None}
    assert of(lake, "unread") == {(LOST, "unread"): None}
    found = {issue for _, issue in lake.issues} - set(formulas.QUALITY)
    assert found == {"outlier", "exact_duplicate", "near_duplicate", "leak", "corrupted", "unread"}
    assert set(lake.scores) == {*range(63), LONELY} - {TAKEN_OUT}
    assert all(0 <= row[name] <= 1 for row in lake.scores.values() for name in tables.SCORES if row[name] is not None)
    assert (lake.counts["in"], lake.counts["out"], lake.counts["failed"]) == (65, 63, 2)
    assert lake.counts["issues"] == len(lake.issues)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_almost_nothing(spark: SparkSession, tmp_path: Path, count: int) -> None:
    """A crash, or an issue of nothing, on a lake whose images all failed, or with one or two."""
    pictures = [Picture(i, around(i, 1)[0] if i < count else None) for i in range(3)]
    with small_lake.in_memory(spark, tmp_path, pictures) as context:
        neighbours.neighbours(context)
        clusters.clusters(context)
        counts = issues.issues(context)
        assert (counts["in"], counts["out"], counts["failed"]) == (3, count, 3 - count)
        found = small_lake.rows_of(context, "neighbours", "image_id", "rank", "neighbour_id")
        assert found == ([(0, 1, 1), (1, 1, 0)] if count == 2 else [])
        assert [row for row in small_lake.rows_of(context, "issues", "issue") if row[0] not in formulas.QUALITY] == [
            ("corrupted",)
        ] * (3 - count)
        assert context.lake.read("scores").where(F.col("size_score") < 0.99).count() == 0


def test_one_split_is_said(spark: SparkSession, tmp_path: Path) -> None:
    """A split column of one value without a word, or a word where no image has a split."""
    for name, split in (("one", "train"), ("none", None)):
        pictures = [Picture(i, around(i, 1)[0], split=split) for i in range(3)]
        with small_lake.in_memory(spark, tmp_path / name, pictures) as context:
            context.lake.overwrite("neighbours", small_lake.nearest(spark, pictures))
            clusters.clusters(context)
            notes = issues.issues(context).get("notes", [])
            assert notes == (["leaks: all images are in one split (train): none can be found"] if split else [])
            assert small_lake.rows_of(context, "leaks") == []
