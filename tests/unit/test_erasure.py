"""Catches a table of which nobody has said what goes with a picture, and rows that are left of one."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql.pandas.types import to_arrow_schema

from jobs.erasure.rules import ERASED, RULES, Erased
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
