"""Catches a table of which nobody has said what goes with a picture, and rows that are left of one."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from pyspark.sql.pandas.types import to_arrow_schema

from jobs.engines import delta_files, delta_log, journal
from jobs.erasure import beside, rewriting
from jobs.erasure.forgetting import Asked, forget
from jobs.erasure.rules import ERASED, RULES, Erased
from jobs.erasure.suppression import forgotten_of
from jobs.lakes import LAKE_FORMAT, MARKER
from jobs.lease import acquire
from jobs.live.known import Known
from jobs.serve import gallery
from jobs.tables import TABLES

URI = 's3://b/users/z/"1 \u00e9".jpg'
GONE = Erased(
    np.array([3, 7], np.int64), frozenset({URI, "s3://b/users/z/2.jpg"}), frozenset({"z"}), frozenset({20}), {10: 1},
    {3: 4}, np.array([5], np.int64),
)  # fmt: skip
# By table: rows as far as it matters, and what is left of them.
CASES: dict[str, tuple[list[dict[str, object]], list[dict[str, object]]]] = {
    "neighbours": (
        [{"image_id": 1, "neighbour_id": 2}, {"image_id": 1, "neighbour_id": 3}, {"image_id": 7, "neighbour_id": 1}],
        [{"image_id": 1, "neighbour_id": 2}],
    ),
    "cells": ([{"image_id": 1}, {"image_id": 3}, {"image_id": 5}], [{"image_id": 1}]),
    "copies": (
        [{"image_id": 3, "representative_id": 3}, {"image_id": 4, "representative_id": 3},
         {"image_id": 6, "representative_id": 3}, {"image_id": 8, "representative_id": 8}],
        [{"image_id": 4, "representative_id": 4}, {"image_id": 6, "representative_id": 4},
         {"image_id": 8, "representative_id": 8}],
    ),
    "duplicates": (
        [{"image_id": i, "cluster_id": c, "keeper_id": k, "cluster_size": s} for i, c, k, s in
         ((1, 10, 1, 3), (2, 10, 1, 3), (3, 10, 1, 3), (7, 20, 7, 2), (8, 20, 7, 2), (9, 30, 9, 2), (11, 30, 9, 2))],
        [{"image_id": i, "cluster_id": c, "keeper_id": k, "cluster_size": s} for i, c, k, s in
         ((1, 10, 1, 2), (2, 10, 1, 2), (9, 30, 9, 2), (11, 30, 9, 2))],
    ),
    "labels": (
        [{"image_id": 3, "evidence_id": 1}, {"image_id": 1, "evidence_id": 7}, {"image_id": 2, "evidence_id": None}],
        [{"image_id": 1, "evidence_id": None}, {"image_id": 2, "evidence_id": None}],
    ),
    "issues": (
        [{"image_id": 1, "issue": "near_duplicate", "evidence_id": 3, "cosine": 0.9},
         {"image_id": 1, "issue": "outlier", "evidence_id": 3, "cosine": 0.9},
         {"image_id": 2, "issue": "leak", "evidence_id": 1, "cosine": 0.8},
         {"image_id": 7, "issue": "dark", "evidence_id": None, "cosine": None}],
        [{"image_id": 1, "issue": "outlier", "evidence_id": None, "cosine": None},
         {"image_id": 2, "issue": "leak", "evidence_id": 1, "cosine": 0.8}],
    ),
    "topic_summaries": (
        [{"topic_id": 1, "typical_ids": [1, 3, 2]}, {"topic_id": 2, "typical_ids": [4]}],
        [{"topic_id": 1, "typical_ids": [1, 2]}, {"topic_id": 2, "typical_ids": [4]}],
    ),
    "reviews": (
        [{"image_id": 3, "note": None}, {"image_id": 1, "note": f"as {URI}"}, {"image_id": 2, "note": "s3://b/users/"}],
        [{"image_id": 1, "note": f"as {ERASED}"}, {"image_id": 2, "note": "s3://b/users/"}],
    ),
    "runs": (
        [{"config": json.dumps({"inputs": [URI]}), "counts": json.dumps({"notes": [URI]}, ensure_ascii=False)}],
        [{"config": json.dumps({"inputs": [ERASED]}), "counts": json.dumps({"notes": [ERASED]})}],
    ),
    "images": (
        [{"image_id": 1, "uri": "a", "owner": "z"}, {"image_id": 3, "uri": "b", "owner": None},
         {"image_id": 2, "uri": URI, "owner": "y"}, {"image_id": 4, "uri": "c", "owner": None}],
        [{"image_id": 4, "uri": "c", "owner": None}],
    ),
}  # fmt: skip
BLANK = {"string": "", "int64": 0, "int32": 0, "double": 0.5, "float": 0.5, "bool": False, "binary": b""}


def rows_of(name: str, rows: list[dict[str, object]]) -> pa.Table:
    """Rows with all columns of the table."""
    schema = to_arrow_schema(TABLES[name].schema)
    columns = []
    for field in schema:
        blank = None if field.nullable else BLANK.get(str(field.type), [] if pa.types.is_list(field.type) else 0)
        columns.append(pa.array([row.get(field.name, blank) for row in rows], field.type))
    return pa.table(columns, schema=schema)


def test_every_table_has_a_rule() -> None:
    """A new table in which an erased picture would be left."""
    assert set(RULES) == set(TABLES)
    assert list(RULES)[-1] == "images"
    for name, rule in RULES.items():
        assert set(rule.looks) <= set(TABLES[name].schema.names), name
    ids = {column for table in TABLES.values() for column in table.schema.names if column.endswith(("_id", "_ids"))}
    known = {"image_id", "neighbour_id", "representative_id", "keeper_id", "other_id", "evidence_id", "typical_ids"}
    assert ids - known == {"cluster_id", "component_id", "topic_id", "review_id", "batch_id", "run_id"}
    for name, table in TABLES.items():
        assert known & set(table.schema.names) <= set(RULES[name].looks), name


@pytest.mark.parametrize("name", sorted(CASES))
def test_what_is_left(name: str) -> None:
    """A row that stays or goes by mistake, a name that is left in one that stays, a column that gets another type."""
    given, expected = CASES[name]
    rows, rule = rows_of(name, given), RULES[name]
    touched = rule.touched(rows.select(list(rule.looks)), GONE)
    found = rule.changed(rows, GONE)
    assert found.schema.equals(rows.schema)
    kept = expected[0].keys()
    assert found.select(list(kept)).to_pylist() == expected
    untouched = rows.filter(pa.array(~touched)).to_pylist()
    assert all(row in found.to_pylist() for row in untouched)
    assert touched.any()
    again = RULES[name].touched(found.select(list(rule.looks)), GONE)
    assert not again[: len(again)].any() or name == "duplicates"
    nobody = Erased(np.empty(0, np.int64))
    assert not rule.touched(rows.select(list(rule.looks)), nobody).any()


def test_a_table_that_was_merged_into(tmp_path: Path) -> None:
    """Files of a merge, whose texts have another type, that cannot be filtered: the erasure ends in the middle."""
    path, table = str(tmp_path / "images"), TABLES["images"]
    given, expected = CASES["images"]
    rows = rows_of("images", [{**row, "labels": ["a", "b"]} for row in given])
    delta_log.create(path, table)
    for number in (1, 2):
        delta_log.make(path, table, rows, rows.select(list(table.key)).slice(0, 0), new=False, once=("test", number))
    kinds = {str(kind) for uri in rewriting.all_files(path) for kind in pq.read_schema(uri).types}
    assert "string_view" in kinds, "a merge writes plain texts now: this test shows nothing"
    assert rewriting.rewrite(path, RULES["images"], GONE, lambda _: None).removed == len(given) - len(expected)
    left = DeltaTable(path).to_pyarrow_table()
    assert left.select(list(expected[0])).to_pylist() == expected
    assert left["labels"].to_pylist() == [["a", "b"]]
    assert rewriting.rewrite(path, RULES["images"], GONE, lambda _: None).removed == 0


def test_a_table_of_another_writer(tmp_path: Path) -> None:
    """Times of INT96 that come back as others, names that the log spells otherwise than the disk, files of no version
    and checksums of Hadoop that are left, a version that cannot be read any more."""
    path = tmp_path / "a b" / "images"
    delta_log.create(str(path), TABLES["images"])
    at = datetime.datetime(2021, 5, 6, 7, 8, 9, 123456, datetime.UTC)
    rows = rows_of("images", [{"image_id": n, "uri": f"u{n}", "source": "s", "modified_at": at} for n in range(5)])
    (path / "p%41 ü").mkdir()
    for name in ("p%41 ü/1.parquet", "orphan.parquet"):
        pq.write_table(rows, path / name, use_deprecated_int96_timestamps=True)
    (path / ".1.parquet.crc").write_bytes(b"crc")
    (path / "_delta_log" / ".00000000000000000000.json.crc").write_bytes(b"crc")
    size = (path / "p%41 ü" / "1.parquet").stat().st_size
    delta_files.commit(str(path), [delta_files.Added("p%2541%20%C3%BC/1.parquet", size, 5)], ())
    before = DeltaTable(path).to_pyarrow_table()
    noted: list[rewriting.Done] = []
    done = rewriting.rewrite(str(path), RULES["images"], GONE, noted.append)
    assert (done.removed, done.changed, done.version) == (1, 0, 2)
    assert noted == [done]
    rewriting.purge(str(path), lambda: None)
    table = DeltaTable(path)
    assert table.version() == delta_log.version(str(path)) == 3
    left = table.to_pyarrow_table().sort_by("image_id")
    assert left["image_id"].to_pylist() == [0, 1, 2, 4]
    assert left["modified_at"].to_pylist() == [at] * 4
    assert left.schema == before.schema
    files = sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file())
    assert [name for name in files if not name.startswith("_delta_log/")] == [
        unquote(name) for name in table.get_add_actions(flatten=True).column("path").to_pylist()
    ]
    assert all(name.partition(".")[0].endswith(("3", "_last_checkpoint")) for name in files if "_delta_log" in name)
    assert rewriting.rewrite(str(path), RULES["images"], GONE, noted.append).removed == 0


def test_what_is_made_of_the_tables_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of another name than the door, the index or the watch give theirs, a change in the journal that would
    bring back what was deleted."""
    source = (Path(beside.__file__).parents[1] / "serve" / "door" / "prepared.py").read_text(encoding="utf-8")
    assert f'PLACE, CURRENT = "{beside.DOOR}"' in source
    monkeypatch.setenv("IMAGESIEVE_CACHE", str(tmp_path / "cache"))
    lake = str(tmp_path / "lake")
    delta_log.create(f"{lake}/images", TABLES["images"])
    (tmp_path / "lake" / MARKER).write_text(json.dumps({"format": LAKE_FORMAT, "version": "1", "next_image_id": 1}))
    rows = [{"image_id": 3, "uri": "a", "source": "s", "owner": "z"}, {"image_id": 4, "uri": "b", "source": "s"}]
    made = journal.change(TABLES["images"], rows, None, new=True)
    journal.write(lake, 1, {"images": made}, {"next_image_id": 5}, TABLES)
    places = [tmp_path / "lake" / name / "x" for name in ("_staging", "vector-index", "door")]
    places += [Known.place(tmp_path / "cache", lake) / "x", gallery.folder_of(lake, {}) / "x"]
    for file in places:
        file.parent.mkdir(parents=True)
        file.write_bytes(b"a")
    with acquire(lake, "test") as lease:
        forget(lake, Asked(frozenset({"z"})), lease)
    assert not any(file.exists() for file in places)
    assert not (tmp_path / "lake" / "_journal").exists()
    assert DeltaTable(f"{lake}/images").to_pyarrow_table()["image_id"].to_pylist() == [4]
    assert json.loads((tmp_path / "lake" / MARKER).read_text())["next_image_id"] == 5
    assert forgotten_of(lake, {"a", "b"}) == {"a"}
