"""What differs between the tables of two lakes that were made of the same images."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deltalake import DeltaTable

from jobs.tables import TABLES

EXACT = 1e-12  # relative: sums and powers in another order, or of another library
# Products of float32 vectors, in batches of other sizes: by table and column. Of `issues` it concerns those of labels.
PRODUCTS = {
    "labels": {"confidence", "score", "suggested_confidence", "probability_wrong"},
    "issues": {"score"},
}
PRODUCT = 1e-5  # relative, or absolute where a number is below one
SHOWN = 3  # differences told of one column
# Times and names of a run, and versions, of which one engine makes more than another.
OF_A_RUN = ("run_id", "config", "inputs", "started_at", "ended_at", "seconds")
WHEN = {"failures": {"at"}}

Rows = dict[tuple[Any, ...], dict[str, Any]]


def differences(a: Path | str, b: Path | str) -> dict[str, list[str]]:
    """By table what differs, in lines for a person; tables that are the same are not in it. a, b: folders of lakes."""
    found = {name: _table(name, Path(a) / name, Path(b) / name) for name in TABLES}
    return {name: lines for name, lines in found.items() if lines}


def _table(name: str, a: Path, b: Path) -> list[str]:
    there = [(path / "_delta_log").exists() for path in (a, b)]
    if not any(there):
        return []
    if not all(there):
        return [f"only {a if there[0] else b} is there"]
    ours, theirs = (_runs(path) if name == "runs" else _rows(name, path) for path in (a, b))
    lines = [f"only in a: {key}" for key in sorted(ours.keys() - theirs.keys(), key=repr)[:SHOWN]]
    lines += [f"only in b: {key}" for key in sorted(theirs.keys() - ours.keys(), key=repr)[:SHOWN]]
    told: dict[str, int] = {}
    for key in ours.keys() & theirs.keys():
        for column, value in ours[key].items():
            if not same(value, theirs[key][column], tolerance(name, column)):
                told[column] = told.get(column, 0) + 1
                if told[column] <= SHOWN:
                    lines.append(f"{key} {column}: {value!r} and {theirs[key][column]!r}"[:300])
    return lines + [f"{column}: {count} rows differ" for column, count in told.items() if count > SHOWN]


def tolerance(table: str, column: str) -> float:
    """By how much a number of a column may differ, relative to its size."""
    return PRODUCT if column in PRODUCTS.get(table, ()) else EXACT


def same(a: Any, b: Any, within: float) -> bool:
    """Whether two values are the same: numbers with a point within a tolerance, all else exactly."""
    if isinstance(a, float) and isinstance(b, float):
        if math.isnan(a) or math.isnan(b):
            return math.isnan(a) and math.isnan(b)
        return math.isclose(a, b, rel_tol=within, abs_tol=within)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(same(x, y, within) for x, y in zip(a, b, strict=True))
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(same(a[key], b[key], within) for key in a)
    return bool(a == b)


def _rows(name: str, path: Path) -> Rows:
    """The rows by their key. Raises ValueError where a key stands twice."""
    left_out = WHEN.get(name, set())
    rows: Rows = {}
    for row in DeltaTable(str(path)).to_pyarrow_table().to_pylist():
        key = tuple(row[column] for column in TABLES[name].key)
        if key in rows:
            raise ValueError(f"{path}: {key} stands twice")
        rows[key] = {column: value for column, value in row.items() if column not in left_out}
    return rows


def _runs(path: Path) -> Rows:
    """The last run of each job that ended well: what it counted, but for what hangs on the run itself."""
    last: dict[str, dict[str, Any]] = {}
    for row in DeltaTable(str(path)).to_pyarrow_table().to_pylist():
        if row["status"] == "done" and (row["job"] not in last or row["ended_at"] > last[row["job"]]["ended_at"]):
            last[row["job"]] = row
    rows: Rows = {}
    for job, row in last.items():
        kept = {column: value for column, value in row.items() if column not in OF_A_RUN}
        rows[(job,)] = {**kept, "counts": json.loads(row["counts"])}
    return rows
