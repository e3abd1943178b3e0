"""Catches outliers that are not found, images called odd that are not, and scores that depend on the partitions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from jobs.engines.frames import frame_of
from jobs.findings import outliers
from jobs.tables import TABLES
from tests.bench.outliers import outlier_scores
from tests.spark import small_lake
from tests.spark.small_lake import Picture
from tests.vectors import unit

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import DataFrame, SparkSession

    from udfs.vectors.cosine import Vectors
    from udfs.vectors.foreign_share import Foreign

SIDE = 40  # images of a class


def pictures() -> list[Picture]:
    """Two classes of different images, and a few images of a third, too few to be judged; the last of the first class
    is unlike everything."""
    generator = np.random.default_rng(0)
    middles = generator.normal(size=(3, 24))
    vectors = np.concatenate([unit(m + 0.9 * generator.normal(size=(SIDE, 24))) for m in middles[:2]])
    few = unit(middles[2] + 0.9 * generator.normal(size=(9, 24)))
    strange = unit(-middles.sum(axis=0, keepdims=True))
    rows = np.concatenate([vectors, few, strange])
    labels = ["cat"] * SIDE + ["dog"] * SIDE + ["owl"] * 9 + ["cat"]
    return [Picture(i, tuple(v.tolist()), label=label) for i, (v, label) in enumerate(zip(rows, labels, strict=True))]


STRANGE = 2 * SIDE + 9


def scored(
    spark: SparkSession, folder: Path, rows: list[Picture], shuffled: int | None = None
) -> dict[int, tuple[float | None, float | None]]:
    """(outlier_score, class_outlier_score) by image."""
    with small_lake.in_memory(spark, folder, rows, shuffled=shuffled) as context:
        lake = context.lake
        duplicates = frame_of(spark, [], TABLES["duplicates"].schema)
        embeddings = lake.read("embeddings").select("image_id", "vector")
        measured, notes = outliers.measured(embeddings, lake.read("images"), lake.read("copies"), duplicates, len(rows))
        assert not notes
        near = outliers.nearness(small_lake.nearest(spark, rows), duplicates)
        found = outliers.outlier_scores(near.join(measured, "image_id").persist()).collect()
        return {row["image_id"]: (row["outlier_score"], row["class_outlier_score"]) for row in found}


def test_scores(spark: SparkSession, tmp_path: Path) -> None:
    """A formula other than that of the benchmark, a class score across classes or of a class that is too small, and
    another answer where the rows stand otherwise."""
    rows = pictures()
    vectors: Vectors = np.array([row.vector for row in rows], np.float32)
    found = scored(spark, tmp_path / "a", rows)
    np.testing.assert_allclose([found[i][0] or 0.0 for i in range(len(rows))], outlier_scores(vectors), atol=0.02)
    assert min(found, key=lambda i: found[i][0] or 0) == STRANGE
    for first, ids in ((0, [*range(SIDE), STRANGE]), (SIDE, range(SIDE, 2 * SIDE))):
        inside = vectors[list(ids)]
        middle = inside.sum(axis=0) / np.linalg.norm(inside.sum(axis=0))
        cosines = inside @ middle
        away = max(1.4826 * np.median(np.abs(cosines - np.median(cosines))), 0.02)
        expected = 1 / (1 + (np.maximum(np.median(cosines) - cosines, 0) / away / outliers.HALF_AT) ** 2)
        np.testing.assert_allclose([found[i][1] or 0.0 for i in ids], expected, atol=0.02, err_msg=str(first))
    assert {found[i][1] for i in range(2 * SIDE, STRANGE)} == {None}
    assert scored(spark, tmp_path / "b", rows, shuffled=3) == found


def test_one_class_tells_nothing(spark: SparkSession, tmp_path: Path) -> None:
    """A class score where all labels are the same, blank or missing."""
    labels = ["cat", " ", None]
    rows = [row.but(label="cat" if i < 60 else labels[i % 3]) for i, row in enumerate(pictures())]
    assert {own for _, own in scored(spark, tmp_path, rows).values()} == {None}


def test_nearness(spark: SparkSession) -> None:
    """The nearest three that count, a duplicate that does, a neighbour beyond the tenth, or the wrong evidence."""
    cosines = {1: [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0, -0.5], 2: [0.9, 0.8], 3: [0.9]}
    rows = [(i, rank + 1, 100 * i + rank, value) for i, of in cosines.items() for rank, value in enumerate(of)]
    near = frame_of(spark, rows, TABLES["neighbours"].schema)
    members = [(1, 7, 1), (100, 7, 1), (104, 7, 1), (3, 8, 3), (300, 8, 3)]
    duplicates = frame_of(
        spark,
        [(i, cluster, "near", keeper, i == keeper, 0.9, None, 0.8, 2, cluster) for i, cluster, keeper in members],
        TABLES["duplicates"].schema,
    )
    found = {
        row["image_id"]: (row["nearness"], row["nearest_id"]) for row in outliers.nearness(near, duplicates).collect()
    }
    assert found == {
        1: (pytest.approx((0.6 + 0.4 + 0.3 + 0.2 + 0.1 + 0.0) / 6, abs=1e-6), 101),
        2: (pytest.approx(0.85), 200),
    }


def class_rows(spark: SparkSession, wrong: list[int]) -> DataFrame:
    """The issues of images 1 and 2, of which only the second has a neighbour of its own label."""
    scores = frame_of(spark, [(1, 0.1), (2, 0.2), (3, 0.9), (4, None)], "image_id long, class_outlier_score double")
    images = frame_of(spark, [(1, "a"), (2, "a"), (3, "a"), (4, None), (5, "b")], "image_id long, label string")
    near = frame_of(
        spark, [(1, 1, 5, 0.5), (2, 1, 5, 0.5), (2, 2, 3, 0.4), (2, 3, 1, 0.3)], TABLES["neighbours"].schema
    )
    flagged = frame_of(spark, [(i,) for i in wrong], "image_id long")
    return outliers.class_outlier_issues(scores, 0.4, flagged, images, near)


def test_class_outliers_are_not_wrong_labels(spark: SparkSession) -> None:
    """Evidence of another label, an image above the limit, and one of which another label is said to be right."""
    found = {row["image_id"]: row["evidence_id"] for row in class_rows(spark, []).collect()}
    assert found == {1: None, 2: 3}
    assert [row["image_id"] for row in class_rows(spark, [1]).collect()] == [2]


def test_outliers_are_what_deviates_as_foreign_images_do(spark: SparkSession) -> None:
    """The least typical of one subject called outliers, copies of one picture counted as many foreign ones, a foreign
    one that is not raised, and a limit of the settings that is not asked."""
    generator = np.random.default_rng(4)
    away = np.append(1.1 * generator.weibull(1.6, 500), [9.0, 9.0, 9.0, 10.0])
    rows = [(i, 9 / (9 + z * z), None, 7, 0.5) for i, z in enumerate(away.tolist())]
    names = "image_id long, outlier_score double, class_outlier_score double, nearest_id long, nearest_cosine double"
    scores = frame_of(spark, [*rows, (504, None, None, 7, 0.5)], names)
    members = [(i, 1, "exact", 500, i == 500, 1.0, None, 1.0, 3, 1) for i in (500, 501, 502)]
    duplicates = frame_of(spark, members, TABLES["duplicates"].schema)

    def raised(found: Foreign | None, limit: float = 0.5) -> set[int]:
        return {row["image_id"] for row in outliers.outlier_issues(scores, limit, found).collect()}

    found = outliers.foreign(scores, duplicates)
    assert found is not None
    assert found.low == pytest.approx(2 / 502)
    assert raised(found) == {500, 501, 502, 503}
    assert raised(found, 9 / (9 + 9.5**2)) == {503}
    assert outliers.numbers(found)["foreign"]["low"] == pytest.approx(found.low, abs=1e-6)
    own = outliers.foreign(scores.where("image_id < 500"), duplicates)
    assert own is not None
    assert own.low == 0
    assert raised(own) == raised(None) == set()
    assert "none can be shown" in outliers.told(own)[0]
    assert outliers.told(None) == []
    assert outliers.numbers(None) == {}
