"""Catches findings that the app tells to have come or gone and have not, and runs that are not those of the lake."""

from __future__ import annotations

import datetime
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from pyspark.sql.pandas.types import to_arrow_schema

from jobs.lakes import LAKE_FORMAT, MARKER
from jobs.serve import gallery
from jobs.serve.facets import states as states_module
from jobs.serve.facets.arrivals import arrivals
from jobs.serve.facets.states import States
from jobs.serve.filters import Filter, FilterError
from jobs.tables import TABLES

FINDINGS = [
    {("dark", 1), ("dark", 2), ("blurry", 2)},
    {("dark", 2), ("blurry", 2), ("blurry", 3), ("noisy", 9)},
    {("noisy", 9)},
]
ADDED = [4, 0, 6]  # images, by each run
RUNS = ["first", "second", "third"]


def wrote(lake: Path, table: str, rows: list[dict[str, Any]], mode: Any) -> None:
    schema = to_arrow_schema(TABLES[table].schema)
    write_deltalake(str(lake / table), pa.Table.from_pylist(rows, schema=schema), mode=mode)


def run(name: str, job: str, counts: dict[str, int], status: str = "done") -> dict[str, Any]:
    now = datetime.datetime.now(datetime.UTC)
    return {"run_id": name, "job": job, "version": "0", "config": "{}", "inputs": "{}", "counts": json.dumps(counts),
            "started_at": now, "ended_at": now, "seconds": 0.0, "status": status}  # fmt: skip


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three runs, the second of which adds no image; after them ten images."""
    monkeypatch.setenv("IMAGESIEVE_CACHE", str(tmp_path / "cache"))
    found = tmp_path / "lake"
    found.mkdir()
    mark(found, sum(ADDED))
    ids = 0
    for name, findings, added in zip(RUNS, FINDINGS, ADDED, strict=True):
        rows = [{"image_id": ids + n, "uri": f"/x/{ids + n}", "source": "/x"} for n in range(added)]
        wrote(found, "images", rows, "append")
        ids += added
        wrote(found, "runs", [run(name, "catalog", {"added": added})], "append")
        rows = [{"image_id": i, "issue": issue, "score": 0.5, "suggestion": "review"} for issue, i in sorted(findings)]
        wrote(found, "issues", rows, "overwrite")
        wrote(found, "runs", [run(name, "issues", {}), run(f"not-{name}", "issues", {}, "failed")], "append")
        time.sleep(0.005)
    return found


def mark(lake: Path, next_image_id: int) -> None:
    told = {"format": LAKE_FORMAT, "version": "0", "next_image_id": next_image_id}
    (lake / MARKER).write_text(json.dumps(told), encoding="utf-8")


@pytest.fixture
def states(lake: Path) -> States:
    return States(str(lake), 2)


def test_known_states(lake: Path, states: States) -> None:
    """A run that has left nothing, or one whose version is another's."""
    assert [(each.run_id, each.version) for each in states.known().values()] == [
        ("third", 2), ("second", 1), ("first", 0),
    ]  # fmt: skip
    assert states.shown == "third"
    assert States(str(lake), 1).shown == "second"


@pytest.mark.parametrize(("since", "until"), [(0, 1), (1, 2), (0, 2), (2, 0), (1, 1), (0, None)])
def test_what_came_and_went(states: States, since: int, until: int | None) -> None:
    """A count or a list that is not the difference of the two sets."""
    old, new = FINDINGS[since], FINDINGS[2 if until is None else until]
    to = "" if until is None else RUNS[until]
    told = {each["issue"]: each for each in states.compared(RUNS[since], to)}
    assert set(told) == {issue for issue, _ in old | new}
    for issue, each in told.items():
        was, now = ({i for name, i in one if name == issue} for one in (old, new))
        assert (each["came"], each["went"], each["stayed"]) == (len(now - was), len(was - now), len(now & was))
    span = RUNS[since] + (f"..{to}" if to else "")
    for kind, found in (("new", new - old), ("gone", old - new)):
        (asked,) = Filter.of_query(f"{kind}={span}").changed
        assert states.changed(asked).tolist() == sorted({i for _, i in found})
        (asked,) = Filter.of_query(f"{kind}={span}/dark").changed
        assert states.changed(asked).tolist() == sorted(i for issue, i in found if issue == "dark")


def test_what_is_not_there_any_more(lake: Path, states: States, monkeypatch: pytest.MonkeyPatch) -> None:
    """A traceback, or findings of another version, where the one that is asked for was vacuumed."""
    with pytest.raises(FilterError, match="no run nosuch"):
        states.compared("nosuch", "")
    DeltaTable(str(lake / "issues")).vacuum(0, enforce_retention_duration=False, dry_run=False)
    with pytest.raises(
        FilterError, match=r"run first are not there any more: version 0 of issues was vacuumed"
    ) as told:
        states.compared("first", "")
    assert "\n" not in str(told.value)
    after = States(str(lake), gallery.versions(str(lake))["issues"])
    assert after.now == 4  # of vacuuming itself
    assert after.shown == "third"
    assert after.compared("third", "")[0]["stayed"] == 1
    monkeypatch.setattr(states_module, "COMMITS", 1)
    cut = States(str(lake), 2)
    with pytest.raises(FilterError, match="the log has been cleaned up"):
        cut.compared("first", "")


def test_a_lake_without_runs(tmp_path: Path) -> None:
    """A server that does not start."""
    assert not States(str(tmp_path), None).known()
    with pytest.raises(FilterError, match="no run x"):
        States(str(tmp_path), None).compared("x", "")


def test_in_which_run_each_came(lake: Path) -> None:
    """A picture that is told to have come in another run, or a guess where it is not known."""
    columns = gallery.opened(str(lake), gallery.versions(str(lake)))
    column = columns.coded("run")
    assert ["".join(column.of(row)) for row in np.argsort(columns.id)] == ["first"] * 4 + ["third"] * 6
    for ids in ([*range(10), 99], [*range(10)] * 9):  # looked up one by one, and together
        assert [columns.id[row] if row >= 0 else 99 for row in columns.rows_of_ids(np.array(ids))] == ids
    mark(lake, 11)  # as of a run that was killed when it had numbered an image
    column, why = arrivals(str(lake), columns)
    assert "was stopped" in why
    assert column.counts(None) == {"": 10}
