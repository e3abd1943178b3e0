"""The views for analysts say what the tables hold, in each of their dialects."""

import datetime
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import imagesieve
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import sqlglot
from deltalake import write_deltalake

from jobs.analysis import command, dialects, views
from jobs.errors import ConfigError, LakeError
from jobs.tables import TABLES
from tests.e2e import lakes
from tests.e2e.conftest import Labelled
from tests.e2e.lakes import ROOT

T0 = datetime.datetime(2024, 3, 3, 23, 30, tzinfo=datetime.UTC)  # a Sunday, half an hour before Monday


def review(number: int, image_id: int, decision: str, batch: str, undoes: str | None = None) -> dict[str, Any]:
    at = T0 + datetime.timedelta(seconds=number)
    label = "x" if decision == "relabel" else None
    row = {"review_id": f"r{number:03d}", "batch_id": batch, "image_id": image_id, "decision": decision}
    return {**row, "label": label, "note": None, "undoes": undoes, "by": "anna", "at": at}


@pytest.fixture(scope="module")
def tables(labelled: Labelled, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A lake whose images have times on both sides of midnight and of a week, one of none, and with decisions."""
    lake = tmp_path_factory.mktemp("views") / "lake"
    shutil.copytree(labelled.lake, lake)
    images = lakes.table(lake, "images").to_pandas()
    images["modified_at"] = [T0 + datetime.timedelta(hours=13 * n) for n in range(len(images))]
    images.loc[3, "modified_at"] = pd.NaT
    images["source"] = [f"/source-{n % 2}" for n in range(len(images))]
    schema = lakes.table(lake, "images").to_pyarrow_table().schema
    write_deltalake(str(lake / "images"), pa.Table.from_pandas(images, schema, preserve_index=False), mode="overwrite")
    ids = sorted(lakes.table(lake, "issues").to_pandas()["image_id"].unique().tolist())
    rows = [
        review(1, ids[0], "remove", "b1"), review(2, ids[1], "keep", "b2"), review(3, ids[2], "remove", "rule-b3"),
        review(4, ids[3], "skip", "b4"), review(5, ids[4], "keep", "b5"), review(6, ids[4], "remove", "b6"),
        review(7, ids[5], "remove", "b7"), review(8, ids[5], "undo", "b8", undoes="b7"),
        review(9, ids[0], "note", "b9"), review(10, ids[6], "keep", "b10"), review(11, ids[6], "relabel", "b11"),
        review(12, ids[6], "undo", "b12", "b11"),
    ]  # fmt: skip
    kind = lakes.table(lake, "reviews").to_pyarrow_table().schema
    write_deltalake(str(lake / "reviews"), pa.Table.from_pylist(rows, kind), mode="append")
    return lake, {name: lakes.table(lake, name).to_pandas() for name in TABLES}


@pytest.fixture(scope="module", params=["duckdb", "athena", "redshift"])
def database(request: pytest.FixtureRequest, tables: tuple[Path, Any]) -> Iterator[Any]:
    """The views of one dialect in DuckDB, in a time zone that is not UTC; other dialects are translated back."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'America/New_York'")
        connection.execute("CREATE MACRO at_timezone(moment, zone) AS moment AT TIME ZONE zone")  # of Athena
        for name in TABLES:
            connection.register(name, lakes.table(tables[0], name).to_pyarrow_dataset())
        for statement in views.views(request.param).values():
            plain = (
                statement.replace("WITH NO SCHEMA BINDING", "").replace(f"{views.SCHEMA}.", "").replace("public.", "")
            )
            plain = plain.replace("VARCHAR(MAX)", "VARCHAR")
            made = plain if request.param == "duckdb" else sqlglot.transpile(plain, request.param, "duckdb")[0]
            connection.execute(made.replace("CREATE OR REPLACE VIEW", "CREATE OR REPLACE TEMP VIEW"))
        yield connection


def rows(database: Any, view: str, order: str) -> list[Any]:
    found = list(database.execute(f"SELECT * FROM {view} ORDER BY {order}").df().itertuples())
    assert found, view
    return found


def days(times: Any) -> Any:
    return times.dt.tz_convert("UTC").dt.date.astype(str).where(times.notna(), "")


def test_issues_by_source_and_day(database: Any, tables: tuple[Path, dict[str, Any]]) -> None:
    images, issues = tables[1]["images"], tables[1]["issues"]
    images = images.assign(day=days(images["modified_at"]))
    whole = images.groupby(["source", "day"]).size()
    expected = issues.merge(images, on="image_id").groupby(["source", "day", "issue"]).size()
    found = rows(database, "issues_by_source_and_day", "source, day, issue")
    assert "" in expected.index.get_level_values("day") or 3 not in set(issues["image_id"])
    assert len(found) == len(expected)
    for row in found:
        day = "" if pd.isna(row.day) else str(row.day)[:10]
        assert (row.images, row.of_images) == (expected[row.source, day, row.issue], whole[row.source, day])
        assert np.isclose(row.share, row.images / row.of_images)


def test_cost_by_run(database: Any, tables: tuple[Path, dict[str, Any]]) -> None:
    runs = tables[1]["runs"]
    found = rows(database, "cost_by_run", "run_id")
    assert [row.run_id for row in found] == sorted(runs["run_id"].unique())
    for row in found:
        own = runs[runs["run_id"] == row.run_id]
        assert np.isclose(row.seconds, own["seconds"].sum())
        assert row.stages == len(own)
        embedded = [json.loads(counts) for counts in own[own["job"] == "embed"]["counts"]]
        assert row.images_read == embedded[0]["read"]
        assert row.images == embedded[0]["in"]
        assert pd.isna(row.usd)
        assert row.started_at == own["started_at"].min().tz_convert("UTC").tz_localize(None)


def test_cost_in_dollars(tables: tuple[Path, dict[str, Any]]) -> None:
    """A price that is not taken from the settings of its run."""
    runs = tables[1]["runs"].copy()
    runs["config"] = [json.dumps({"settings": {}, "all": {"metrics": {"usd_per_hour": 7.2}}})] * len(runs)
    runs["seconds"] = 250.0
    with duckdb.connect() as connection:
        connection.register("runs", runs)
        connection.execute(views.views()["cost_by_run"].replace("VIEW", "TEMP VIEW", 1))
        for stages, usd in connection.execute("SELECT stages, usd FROM cost_by_run").fetchall():
            assert np.isclose(usd, 0.5 * stages)


def test_duplicates_by_source(database: Any, tables: tuple[Path, dict[str, Any]]) -> None:
    images, duplicates = tables[1]["images"], tables[1]["duplicates"]
    gone = duplicates[~duplicates["is_keeper"]].merge(images, on="image_id")
    expected = gone.groupby(["source", "kind"])["size_bytes"].agg(["count", "sum"])
    found = rows(database, "duplicates_by_source", "source, kind")
    assert len(found) == len(expected)
    for row in found:
        assert (row.images, row.bytes_saved) == tuple(expected.loc[(row.source, row.kind)])
        of = images[images["source"] == row.source]["size_bytes"]
        assert (row.of_images, row.of_bytes) == (len(of), of.sum())
        assert np.isclose(row.share_of_bytes, row.bytes_saved / of.sum())


def test_agreement_with_reviews(database: Any, tables: tuple[Path, dict[str, Any]]) -> None:
    """A decision that was taken back, skipped, made by a rule or is not the last one, and counts all the same."""
    issues = tables[1]["issues"]
    ids = sorted(issues["image_id"].unique().tolist())
    decided = {ids[0]: "remove", ids[1]: "keep", ids[4]: "remove", ids[6]: "keep"}
    own = issues[issues["image_id"].isin(decided)]
    own = own.assign(decision=own["image_id"].map(decided))
    found = rows(database, "agreement_with_reviews", "issue")
    assert [row.issue for row in found] == sorted(own["issue"].unique())
    for row in found:
        of = own[own["issue"] == row.issue]
        assert row.judged == len(of)
        assert row.found_right == row.removed == (of["decision"] == "remove").sum()
        assert row.as_suggested == (of["decision"] == of["suggestion"]).sum()
        assert np.isclose(row.precision_of_issue, row.found_right / row.judged)


def test_trends_by_week(database: Any, tables: tuple[Path, dict[str, Any]]) -> None:
    """Weeks of another time zone, or from Sunday on; images that count once for each of their issues."""
    images, issues = tables[1]["images"], tables[1]["issues"]
    found = rows(database, "trends_by_week", "week")
    starts = images["modified_at"].dt.tz_convert("UTC").dt.tz_localize(None).dt.to_period("W-SUN").dt.start_time
    assert min(str(row.week)[:10] for row in found) == "2024-02-26"
    assert sum(row.images for row in found) == len(images)
    flagged, removable = set(issues["image_id"]), set(issues[issues["suggestion"] == "remove"]["image_id"])
    copies = tables[1]["duplicates"]
    for row in found:
        here = images[starts.isna() if pd.isna(row.week) else starts == pd.Timestamp(row.week)]
        ids = set(here["image_id"])
        assert row.images == len(ids)
        assert row.bytes == here["size_bytes"].sum()
        assert (row.with_issues, row.removable) == (len(ids & flagged), len(ids & removable))
        assert row.duplicates == len(ids & set(copies[~copies["is_keeper"]]["image_id"]))
        scores = tables[1]["scores"].query("image_id in @ids")["quality_score"]
        assert np.isclose(row.mean_quality, scores.mean()) or (len(scores) == 0 and pd.isna(row.mean_quality))


@pytest.mark.parametrize("engine", ["athena", "redshift"])
def test_files_are_made_of_the_source(engine: str) -> None:
    """A view that was changed in one dialect alone, and words that its engine does not know."""
    assert (ROOT / "jobs" / "analysis" / views.FILES[engine]).read_text("utf-8") == dialects.text(engine)
    assert list(views.views(engine)) == list(views.views())
    for statement in views.views(engine).values():
        parsed = sqlglot.parse_one(statement.replace("WITH NO SCHEMA BINDING", ""), read=engine)
        assert isinstance(parsed, sqlglot.exp.Create)
        assert "->>" not in statement
        assert set(views.reads(statement)) <= set(TABLES)
    assert {name for statement in views.views(engine).values() for name in views.reads(statement)} >= {
        "images",
        "runs",
        "reviews",
    }


def test_documented() -> None:
    text = (ROOT / "docs" / "views.md").read_text("utf-8")
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == list(views.views())


def test_documented_columns(database: Any) -> None:
    text = (ROOT / "docs" / "views.md").read_text("utf-8")
    for name, columns in re.findall(r"^\| `(\w+)` \|[^|]*\|(.*)\|$", text, re.MULTILINE):
        there = [column[0] for column in database.execute(f"SELECT * FROM {name} LIMIT 0").description]
        named = set(re.findall(r"`(\w+)`", columns))
        assert named <= set(there), name
        assert set(there) - named <= {"source", "day", "issue", "run_id", "kind", "week"}, name


def test_the_command_and_python(tables: tuple[Path, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """A script that DuckDB does not take, and views that lake.sql does not know."""
    lake = imagesieve.open(tables[0])
    by_python = lake.sql("SELECT * FROM trends_by_week ORDER BY week").fetchall()
    assert by_python
    assert lake.sql("SELECT count(*) FROM agreement_with_reviews").fetchone() != (0,)
    assert command.main(["--lake", str(tables[0]), "--for", "duckdb"]) == 0
    script = capsys.readouterr().out
    names = [name for name in TABLES if f"VIEW {name} AS" in script]
    assert "images" in names
    with duckdb.connect() as connection:
        for statement in filter(None, (part.strip() for part in script.split(";\n"))):
            found = re.match(r"CREATE OR REPLACE VIEW (\w+) AS SELECT \* FROM delta_scan\('(.*)'\)", statement)
            if found is not None:  # the extension is not fetched here: tests/e2e/test_readers.py reads by it
                assert Path(found[2]) == tables[0] / found[1]
                connection.register(found[1], lakes.table(tables[0], found[1]).to_pyarrow_dataset())
            elif statement.startswith("CREATE"):
                connection.execute(statement.replace("VIEW", "TEMP VIEW", 1))
        assert connection.execute("SELECT * FROM trends_by_week ORDER BY week").fetchall() == by_python
    with pytest.raises(ConfigError, match="S3 alone"):
        command.main(["--lake", str(tables[0]), "--for", "redshift"])
    with pytest.raises(LakeError):
        command.main(["--lake", str(tables[0].parent), "--for", "athena"])


def test_external_tables_of_redshift() -> None:
    """A column that Spectrum does not read, or a place that ends the statement."""
    script = views.script("redshift", "s3://bucket/it's/lake")
    assert "LOCATION 's3://bucket/it''s/lake/images/_symlink_format_manifest'" in script
    tables = re.findall(r"CREATE EXTERNAL TABLE imagesieve\.(\w+) \(\n(.*?)\n\)", script, re.DOTALL)
    assert {name for name, _ in tables} == {name for one in views.views().values() for name in views.reads(one)}
    columns = dict(tables)
    assert '"modified_at" TIMESTAMP' in columns["images"]
    assert '"size_bytes" BIGINT' in columns["images"]
