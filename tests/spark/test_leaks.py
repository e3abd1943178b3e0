"""Catches leaks that are missed, seen from one side only, told with another image, or told where there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from jobs.engines.frames import frame_of
from jobs.findings import leaks
from jobs.tables import TABLES
from tests.vectors import unit

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

# (image, cluster, keeper, cosine to it, representative, split, source); 8 and 9 have equal pixels, and so have 1 and 4.
MEMBERS = [
    (1, 0, 1, 1.0, 1, "train", "web"), (2, 0, 1, 0.9, 2, "test", "web"), (3, 0, 1, 0.95, 3, "test", "disk"),
    (4, 0, 1, 1.0, 1, "val", "web"), (5, 0, 1, 0.7, 5, None, "web"),
    (6, 1, 6, 1.0, 6, "train", "web"), (7, 1, 6, 0.9, 7, "train", "web"),
    (8, 2, 8, 1.0, 8, "train", "web"), (9, 2, 8, 1.0, 8, "test", "disk"),
    (10, 3, 10, 1.0, 10, "train", "web"), (11, 3, 10, 0.95, 11, "test", "web"), (12, 3, 10, 0.9, 12, "test", "web"),
    (13, 3, 10, 0.8, 13, "val", "web"),
]  # fmt: skip
AGREEMENT = {11: 0.4, 12: 0.9, 13: 0.7}  # with the keeper: the network says that 11 is nearer, the pixels that 12 is


def tables(spark: SparkSession) -> tuple[DataFrame, DataFrame, DataFrame]:
    """duplicates, copies and images of MEMBERS."""
    duplicates = [
        (i, c, "near", keeper, i == keeper, cosine, None, AGREEMENT.get(i, 1.0), 2, c)
        for i, c, keeper, cosine, *_ in MEMBERS
    ]
    return (
        frame_of(spark, duplicates, TABLES["duplicates"].schema),
        frame_of(spark, [(m[0], m[4], 0) for m in MEMBERS], TABLES["copies"].schema),
        frame_of(
            spark,
            [(m[0], f"/{m[0]}", m[5], m[6]) for m in MEMBERS],
            "image_id long, uri string, split string, source string",
        ),
    )


def pairs(spark: SparkSession, between: str) -> dict[tuple[int, str], tuple[int, str, float | None]]:
    rows = leaks.pairs_between(*tables(spark), between).collect()
    found = {(r["image_id"], r["there"]): (r["other_id"], r["kind"], r["cosine"]) for r in rows}
    assert len(found) == len(rows)
    assert {r["between"] for r in rows} == {between}
    return found


def test_pairs_between_splits(spark: SparkSession) -> None:
    """The wrong partner or kind, an image without a split, one of the same split, and a cosine that is no one's."""
    assert pairs(spark, leaks.SPLIT) == {
        (1, "test"): (3, "near", 0.95), (1, "val"): (4, "exact", 1.0),
        (2, "train"): (1, "near", 0.9), (2, "val"): (4, "near", None),
        (3, "train"): (1, "near", 0.95), (3, "val"): (4, "near", None),
        (4, "train"): (1, "exact", 1.0), (4, "test"): (3, "near", None),
        (8, "test"): (9, "exact", 1.0), (9, "train"): (8, "exact", 1.0),
        (10, "test"): (12, "near", 0.9), (10, "val"): (13, "near", 0.8), (11, "train"): (10, "near", 0.95),
        (11, "val"): (13, "near", None), (12, "train"): (10, "near", 0.9), (12, "val"): (13, "near", None),
        (13, "train"): (10, "near", 0.8), (13, "test"): (12, "near", None),
    }  # fmt: skip
    agreement = {
        (r["image_id"], r["there"]): r["agreement"] for r in leaks.pairs_between(*tables(spark), leaks.SPLIT).collect()
    }
    assert agreement[11, "train"] == agreement[11, "val"] == 0.4
    assert agreement[13, "test"] == agreement[13, "train"] == 0.7
    assert agreement[1, "val"] == agreement[8, "test"] == 1.0


def test_pairs_between_sources(spark: SparkSession) -> None:
    """Splits taken for sources."""
    found = pairs(spark, leaks.SOURCE)
    assert set(found) == {(i, "disk") for i in (1, 2, 4, 5, 8)} | {(3, "web"), (9, "web")}
    assert found[3, "web"] == (1, "near", 0.95)


def test_many_sources_are_bounded(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row for each pair of a cluster with a source of its own for each image."""
    monkeypatch.setattr(leaks, "MOST_PLACES", 3)
    members = [(i, 0, "near", 1, i == 1, 1 - i / 1000, None, 0.9, 50, 0) for i in range(1, 51)]
    duplicates = frame_of(spark, members, TABLES["duplicates"].schema)
    copies = frame_of(spark, [(i, i, 0) for i in range(1, 51)], TABLES["copies"].schema)
    images = frame_of(spark, [(i, f"/{i}", f"s{i}") for i in range(1, 51)], "image_id long, uri string, source string")
    rows = leaks.pairs_between(duplicates, copies, images, leaks.SOURCE).collect()
    assert {row["there"] for row in rows} == {"s1", "s2", "s3"}
    assert {row["image_id"] for row in rows} == set(range(1, 51))


def test_cosines_are_of_the_pair(spark: SparkSession) -> None:
    """A cosine by way of the keeper, or of another pair; a known one that is lost."""
    vectors = unit(np.random.default_rng(0).normal(size=(3, 8)))
    embeddings = frame_of(
        spark, [(i, [float(x) for x in v]) for i, v in enumerate(vectors)], "image_id long, vector array<float>"
    )
    schema = TABLES["leaks"].schema
    columns = ", ".join(f"{f.name} {f.dataType.simpleString()}" for f in schema)
    rows = [
        (0, "split", "a", "b", 1, "near", None, 0.8),
        (0, "split", "a", "c", 2, "near", 0.5, 0.8),
        (1, "source", "a", "b", 0, "near", None, 0.8),
    ]
    found = leaks.with_cosines(frame_of(spark, rows, columns), embeddings).collect()
    exact = float(vectors[0] @ vectors[1])
    assert {(r["image_id"], r["there"]): r["cosine"] for r in found} == {
        (0, "b"): pytest.approx(exact, abs=1e-5), (0, "c"): 0.5, (1, "b"): pytest.approx(exact, abs=1e-5),
    }  # fmt: skip


def test_issues_tell_the_worst(spark: SparkSession) -> None:
    """Two rows for one image, a near one where there is an exact one, and a score without the second look."""
    rows = [
        (1, "split", "train", "test", 2, "near", 0.97, 1.0), (1, "split", "train", "val", 3, "exact", 1.0, 1.0),
        (4, "split", "train", "test", 5, "near", 0.95, 0.5), (4, "split", "train", "val", 6, "near", 0.9, 0.9),
        (4, "source", "web", "disk", 7, "near", 0.7, -0.1),
    ]  # fmt: skip
    found = leaks.leak_issues(frame_of(spark, rows, TABLES["leaks"].schema)).collect()
    assert {(r["image_id"], r["issue"]): (r["evidence_id"], r["cosine"], r["detail"], r["score"]) for r in found} == {
        (1, "leak"): (3, 1.0, "exact", 0.0),
        (4, "leak"): (6, 0.9, "near", pytest.approx(0.19)),
        (4, "source_overlap"): (7, 0.7, "near", 1.0),
    }
    assert {r["suggestion"] for r in found} == {"review"}
