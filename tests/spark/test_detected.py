"""Catches people who are not told of, pictures of text that are none, and issues of what nobody has looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from jobs.engines.frames import frame_of
from jobs.findings.common import without_common
from jobs.findings.detected import release_issues, text_issues
from jobs.tables import TABLES

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


def table(spark: SparkSession, rows: list[dict[str, Any]]) -> DataFrame:
    schema = TABLES["detections"].schema
    return frame_of(spark, [tuple({"model": "m@1", **row}.get(name) for name in schema.names) for row in rows], schema)


def seen(image_id: int, detector: str, found: int, share: float, width: int) -> dict[str, Any]:
    return {"image_id": image_id, "detector": detector, "found": found, "share": share, "width": width}


def test_people_who_can_be_recognised(spark: SparkSession) -> None:
    rows = [seen(1, "faces", 1, 0.01, 19), seen(2, "faces", 1, 0.01, 20), seen(3, "faces", 1, 0.01, 21),
            seen(4, "faces", 3, 0.3, 180), seen(5, "faces", 0, 0.0, 0), seen(6, "text", 2, 0.5, 300),
            {"image_id": 7, "detector": "faces", "error": "crashed"}]  # fmt: skip
    found = {row["image_id"]: row for row in release_issues(table(spark, rows), 0.5).collect()}
    assert set(found) == {3, 4}
    assert found[3]["score"] == pytest.approx(20 / 41, abs=1e-6)
    assert found[4]["score"] == pytest.approx(0.1)
    assert (found[3]["detail"], found[4]["detail"]) == ("1 face, 21 pixels wide", "3 faces, the widest 180 pixels wide")
    assert {(row["issue"], row["suggestion"]) for row in found.values()} == {("needs_release", "review")}
    assert {row["image_id"] for row in release_issues(table(spark, rows), 0.11).collect()} == {4}
    assert release_issues(table(spark, rows), 0.0).isEmpty()


def test_mostly_text(spark: SparkSession) -> None:
    rows = [seen(1, "text", 9, 0.25, 300), seen(2, "text", 9, 0.26, 300), seen(3, "faces", 9, 0.9, 300),
            seen(4, "text", 0, 0.0, 0), {"image_id": 5, "detector": "text", "error": "timeout"}]  # fmt: skip
    (row,) = text_issues(table(spark, rows), 0.75).collect()
    assert (row["image_id"], row["issue"], row["suggestion"]) == (2, "mostly_text", "review")
    assert row["score"] == pytest.approx(0.74)
    assert row["detail"] == "text over 26 % of it"
    assert text_issues(table(spark, rows), 0.0).isEmpty()


def test_what_a_lake_is_like(spark: SparkSession) -> None:
    """A lake of pages of which each is told to be one; a lake of portraits of which nobody need be asked."""
    detections = table(spark, [seen(n, name, 2, 0.4, 90) for n in range(40) for name in ("faces", "text")])
    names = [(n, f"/in/{n}.jpg", "/in", None) for n in range(40)]
    images = frame_of(spark, names, "image_id bigint, uri string, source string, label string")
    rows = release_issues(detections, 0.5).unionByName(text_issues(detections, 0.75))
    alike = frame_of(spark, [], TABLES["look_alikes"].schema)
    left, notes, _ = without_common(rows, images, alike, 0.5)
    assert {row["issue"] for row in left.select("issue").distinct().collect()} == {"needs_release"}
    assert left.count() == 40
    assert any("mostly text" in note or "mostly_text" in note for note in notes)
