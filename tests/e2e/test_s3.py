"""The same images from a folder into a local lake, and from S3 into a lake on S3."""

import json
import time
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs.tables import TABLES
from tests.e2e import apps, images, lakes
from tests.e2e.conftest import LAYOUT, Labelled
from tests.s3_server import S3Server


@pytest.fixture(scope="module")
def from_s3(spark: SparkSession, s3: S3Server) -> tuple[str, str]:
    """(prefix of the images, lake)."""
    client = s3.client()
    # Of copies of one size the oldest is kept. In the folder all are of one age, and bytes and names decide: here their
    # order is that of the times, so that a second that passes between two writes changes nothing.
    for name, data in sorted(images.labelled_lake().items(), key=lambda item: (-len(item[1]), len(item[0]), item[0])):
        client.put_object(Bucket=s3.bucket, Key=f"photos/2024 a%20b/{name}", Body=data)
    places = f"s3://{s3.bucket}/photos/2024 a%20b", f"s3://{s3.bucket}/lakes/one"
    lakes.ran(spark, "run", places[0], "--lake", places[1], "--layout", LAYOUT)
    return places


def test_same_tables(from_s3: tuple[str, str], labelled: Labelled, s3: S3Server) -> None:
    """Catches results that depend on where the images or the tables lie: order of listing, keys that are encoded,
    bytes changed on their way."""
    prefix, lake = from_s3
    lakes.assert_same(labelled.snapshot, lakes.snapshot(lake, lakes.relative_to(prefix), s3))


def test_lake_on_s3_is_left_clean(from_s3: tuple[str, str], s3: S3Server) -> None:
    """Catches staged files that stay and are paid for, a lease that stays held, and a report that lacks its pages."""
    lake = from_s3[1].removeprefix(f"s3://{s3.bucket}/")
    pages = s3.client().get_paginator("list_objects_v2").paginate(Bucket=s3.bucket, Prefix=f"{lake}/")
    keys = [item["Key"].removeprefix(f"{lake}/") for page in pages for item in page.get("Contents", ())]
    assert not [key for key in keys if key.startswith("_staging/") and not key.endswith("/")]
    assert {"lake.json", "report/index.html"} <= set(keys)


def test_again_on_s3_changes_nothing(from_s3: tuple[str, str], spark: SparkSession, s3: S3Server) -> None:
    """Catches etags that differ from one listing to the next, and commits of nothing."""
    prefix, lake = from_s3
    before = {name: lakes.table(lake, name, s3).version() for name in TABLES}
    lakes.ran(spark, "run", prefix, "--lake", lake, "--layout", LAYOUT)
    assert {name: lakes.table(lake, name, s3).version() for name in TABLES} == before


def test_the_app_over_s3(from_s3: tuple[str, str], s3: S3Server, tmp_path: Path) -> None:
    """Catches an app that reads tables, pictures or vectors from folders alone, or whose decisions stay here."""
    with apps.serving(from_s3[1], tmp_path, "--user", "anna", **s3.env) as app:
        for _ in range(300):
            if app.get("/api/lake")["search"]["like"]:
                break
            time.sleep(0.1)
        told = app.get("/api/lake")["search"]
        assert (told["index"], told["note"]) == ("lake", None)
        key = f"{from_s3[1].removeprefix(f's3://{s3.bucket}/')}/vector-index/index.json"
        kept = json.loads(s3.client().get_object(Bucket=s3.bucket, Key=key)["Body"].read())
        fetched = {file.name for file in (tmp_path / "vector-index").rglob("*") if file.is_file()}
        assert fetched == {file["name"] for part in kept["parts"] for file in part["files"].values()} | {
            kept["space"]["name"]
        }
        rows = app.get("/api/rows?issue=near_duplicate")["rows"]
        first = next(row for row in rows if row["readable"])
        thumb = app.client.get(f"/api/thumb/{first['id']}")
        assert thumb.status_code == 200
        assert thumb.content.startswith(b"\xff\xd8")
        assert app.get(f"/api/rows?like={first['id']}")["rows"][0]["id"] == first["id"]
        answer = app.client.post("/api/decide", json={"ids": [first["id"]], "decision": "remove"})
        assert answer.status_code == 200
        assert [row["id"] for row in app.get("/api/rows?decision=remove")["rows"]] == [first["id"]]
    kept = lakes.table(from_s3[1], "reviews", s3).to_pyarrow_table(columns=["image_id", "decision", "by"]).to_pylist()
    assert kept == [{"image_id": first["id"], "decision": "remove", "by": "anna"}]
