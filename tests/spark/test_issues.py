"""Catches scores that do not follow their formula, and images that are blamed wrongly or not at all."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from pyspark.sql import functions as F

from jobs import clusters, issues, neighbours, tables
from jobs.tables import TABLES
from tests.spark import small_lake
from tests.spark.small_lake import Picture
from tests.spark.test_clusters import PLAIN, around
from tests.vectors import families
from udfs import errors

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import DataFrame, SparkSession


LIMITS = {"dark": 0.3, "bright": 0.4, "blurry": 0.5, "low_information": 0.3, "odd_size": 0.5, "odd_aspect_ratio": 0.35,
          "grayscale": 0.5, "outlier": 0.5}  # fmt: skip


@pytest.fixture(scope="module")
def scores(spark: SparkSession) -> dict[int, dict[str, Any]]:
    """The scores of a few images with round properties, by image_id."""
    usual = {"width": 400, "height": 400, "brightness": 0.5, "brightness_p05": 0.1, "brightness_p99": 0.9,
             "contrast": 0.2, "sharpness": 78.03, "entropy": 6.0, "colourfulness": 12.85}  # fmt: skip
    changed: list[dict[str, float]] = [
        {},
        {"width": 1600, "height": 1600, "brightness_p99": 0.25},  # a side four times the median
        {"width": 100, "height": 100, "brightness": 0.9, "brightness_p05": 0.8},
        {"width": 800, "height": 200, "contrast": 0.0, "sharpness": 0.0, "entropy": 0.0},
        {"sharpness": 26.01, "colourfulness": 0.0},
        {"brightness": 1.0, "brightness_p05": 1.0, "brightness_p99": 1.0},
        {"brightness_p99": 1.0 + 1e-9, "entropy": 8.0 + 1e-9, "width": 200, "height": 800},
    ]
    features = spark.createDataFrame([(i, *{**usual, **c}.values()) for i, c in enumerate(changed)],
                                     ["image_id", *usual])  # fmt: skip
    ranked = spark.createDataFrame([(i, 4 if i == 5 else i) for i in range(7)], "image_id long, representative_id long")
    near = [(0, 0.5), (1, 0.52), (2, 0.5), (4, 0.5), (6, 0.5 - 0.02 * issues.HALF_AT)]  # spread 0.02 at least
    nearness = spark.createDataFrame(
        [(i, v, 90 + i) for i, v in near], "image_id long, nearness double, nearest_id long"
    )
    return {row["image_id"]: row.asDict() for row in issues.score_images(features, nearness, ranked).collect()}


@pytest.mark.parametrize(
    ("image_id", "score", "expected"),
    [
        (0, "dark_score", 0.9),
        (1, "dark_score", 0.25),
        (6, "dark_score", 1.0),
        (0, "bright_score", 0.7),  # 1 - (0.1 + 0.5) / 2
        (2, "bright_score", 0.15),
        (5, "bright_score", 0.0),
        (0, "blur_score", 0.5),  # 78.03 = 0.03 (255 x 0.2)^2
        (4, "blur_score", 0.25),  # a third of it
        (3, "blur_score", 0.0),
        (0, "information_score", 0.75),
        (3, "information_score", 0.0),
        (6, "information_score", 1.0),
        (0, "size_score", 1.0),
        (1, "size_score", 0.5),
        (2, "size_score", 0.5),
        (3, "size_score", 1.0),
        (0, "aspect_ratio_score", 1.0),
        (3, "aspect_ratio_score", 0.25),
        (6, "aspect_ratio_score", 0.25),
        (0, "colour_score", 12.85 / 128.5 / (12.85 / 128.5 + 0.02)),
        (4, "colour_score", 0.0),
        (0, "outlier_score", 1.0),
        (1, "outlier_score", 1.0),
        (6, "outlier_score", 0.5),
        (3, "outlier_score", None),  # all its neighbours are duplicates
        (5, "outlier_score", 1.0),  # that of its representative
    ],
)
def test_scores(scores: dict[int, dict[str, Any]], image_id: int, score: str, expected: float | None) -> None:
    """A formula that is not the documented one; the expected values are worked out by hand."""
    found = scores[image_id][score]
    assert found == pytest.approx(expected, abs=5e-4)  # percentiles are rounded


def test_scores_are_in_range_and_complete(scores: dict[int, dict[str, Any]]) -> None:
    """A score outside [0, 1], which the table would refuse, an image lost, or the evidence of another."""
    assert sorted(scores) == list(range(7))
    for row in scores.values():
        assert all(0 <= row[name] <= 1 for name in tables.SCORES if row[name] is not None)
    assert (scores[6]["nearest_id"], scores[5]["nearest_id"], scores[3]["nearest_id"]) == (96, 94, None)


def test_thresholds(spark: SparkSession) -> None:
    """A score at its threshold that is flagged, one below that is not; a flat image that is called blurred; a null."""
    at: dict[str, float | None] = {score: LIMITS[issue] for issue, score in issues.QUALITY.items()}
    below: dict[str, float | None] = {score: LIMITS[issue] - 0.01 for issue, score in issues.QUALITY.items()}
    rows: list[dict[str, float | None]] = [
        at,
        below,
        {**at, "blur_score": 0.1},
        {**at, "blur_score": 0.1, "information_score": 0.1},
    ]
    rows += [{**at, "outlier_score": None}]
    frame = spark.createDataFrame(
        [(i, *(row[name] for name in tables.SCORES), 70 + i) for i, row in enumerate(rows)],
        "image_id long, " + ", ".join(f"{name} double" for name in tables.SCORES) + ", nearest_id long",
    )
    found = issues.quality_issues(frame, LIMITS).collect()
    flagged = {(row["image_id"], row["issue"]): (row["score"], row["evidence_id"]) for row in found}
    assert len(flagged) == len(found)
    assert {issue for image_id, issue in flagged if image_id == 1} == set(issues.QUALITY) - {"blurry"}
    assert {key for key in flagged if key[0] != 1} == {(2, "blurry"), (3, "low_information")}
    assert flagged[1, "dark"] == (pytest.approx(0.29), None)
    assert flagged[1, "outlier"] == (pytest.approx(0.49), 71)
    assert {row["suggestion"] for row in found} == {"review"}


def test_only_spoilt_images_are_corrupted(spark: SparkSession) -> None:
    """An image blamed for a network that was down; an error code that nobody sorted."""
    rows = [(i, "embed", code, "", 1, small_lake.SOME_DAY, None) for i, code in enumerate(errors.CODES)]
    rows += [(99, "report", "corrupt", "", 1, small_lake.SOME_DAY, None)]
    rows += [(i, "embed", "corrupt", "", 1, small_lake.SOME_DAY, None) for i in (201, 202, 203)]
    names: list[tuple[int, str, str | None]] = [(i, f"/in/{i}.jpg", None) for i in range(len(errors.CODES))]
    names += [(201, "/in/a.TAR", None), (202, "/in/b.parquet", None), (203, "/in/a.tar!/c.tar", "/in/a.tar")]
    images = spark.createDataFrame(names, "image_id bigint, uri string, shard string")
    found = issues.corrupted_issues(spark.createDataFrame(rows, TABLES["failures"].schema), images).collect()
    spoilt = {errors.CODES[row["image_id"]] for row in found if row["image_id"] < 200}
    fetching = {"not_found", "access_denied", *errors.TRANSIENT, errors.NO_VECTOR}
    assert spoilt == set(errors.CODES) - fetching
    assert {(row["issue"], row["score"]) for row in found} == {("corrupted", 0.0)}
    # A broken shard may hold good images.
    assert {row["image_id"] for row in found if row["suggestion"] == "review"} == {201, 202}
    assert {row["suggestion"] for row in found} == {"review", "remove"}


def duplicates_of(spark: SparkSession, rows: list[tuple[int, int, int, float]]) -> DataFrame:
    """rows: (image_id, cluster_id, keeper_id, cosine)."""
    return spark.createDataFrame(
        [(i, cluster, "near", keeper, i == keeper, cosine, 2, cluster) for i, cluster, keeper, cosine in rows],
        TABLES["duplicates"].schema,
    )


def test_leaks(spark: SparkSession) -> None:
    """A leak seen from one side only, the wrong evidence, an image of the same split, and one without a split."""
    rows = [(1, 0, 1, 1.0), (2, 0, 1, 0.9), (3, 0, 1, 0.95), (4, 0, 1, 0.8), (5, 0, 1, 0.7)]
    rows += [(6, 1, 6, 1.0), (7, 1, 6, 0.9)]
    splits = {1: "train", 2: "test", 3: "test", 4: "val", 5: None, 6: "train", 7: "train", 8: "test"}
    images = spark.createDataFrame(
        [(i, f"/{i}", s) for i, s in splits.items()], "image_id long, uri string, split string"
    )
    found = issues.leak_issues(duplicates_of(spark, rows), images).collect()
    assert {row["image_id"]: (row["evidence_id"], row["score"]) for row in found} == {
        1: (3, pytest.approx(0.05)),  # the best of the test images; 4 is further away
        2: (1, pytest.approx(0.1)),
        3: (1, pytest.approx(0.05)),
        4: (1, pytest.approx(0.2)),
    }
    assert {(row["issue"], row["suggestion"]) for row in found} == {("leak", "review")}


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
        scores = {row["image_id"]: row.asDict() for row in context.lake.read("scores").collect()}
        yield Judged(counts, found, scores)


def of(lake: Judged, *kinds: str) -> dict[tuple[int, str], int | None]:
    """The issues of these kinds with their evidence."""
    return {key: row["evidence_id"] for key, row in lake.issues.items() if key[1] in kinds}


def test_only_the_lone_image_is_an_outlier(lake: Judged) -> None:
    """An image that resembles nothing and is not found, or members of families called odd."""
    flagged = of(lake, "outlier")
    assert [key for key in flagged if key[0] == LONELY] == [(LONELY, "outlier")]
    assert {image_id for image_id, _ in flagged} == {LONELY}
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
    assert lake.issues[61, "near_duplicate"]["score"] == pytest.approx(0.02, abs=0.02)


def test_rows_of_a_lake(lake: Judged) -> None:
    """A failed image with a score, one that is lost for the network's fault, or an issue nobody planted."""
    assert of(lake, "corrupted") == {(SPOILT, "corrupted"): None}
    assert {issue for _, issue in lake.issues} == {"outlier", "exact_duplicate", "near_duplicate", "leak", "corrupted"}
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
        assert small_lake.rows_of(context, "issues", "issue") == [("corrupted",)] * (3 - count)
        assert context.lake.read("scores").where(F.col("size_score") < 0.99).count() == 0
