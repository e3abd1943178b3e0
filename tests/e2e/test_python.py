"""`import imagesieve`: run, open, tables, summary, report, clean, and one line where something is wrong."""

import json
import subprocess
import sys
from pathlib import Path

import imagesieve
import numpy as np
import pytest

from jobs.pipeline import STAGES
from tests.conftest import sail_only
from tests.e2e import images, lakes
from tests.e2e.conftest import Labelled


def test_tables(labelled: Labelled) -> None:
    """Catches a table that Arrow, pandas and DuckDB read otherwise than delta-rs."""
    lake = imagesieve.open(labelled.lake)
    rows = lakes.rows(labelled.lake, "issues")
    assert lake.arrow("issues").num_rows == len(rows) > 0
    assert sorted(lake.pandas("issues", ["issue"])["issue"]) == sorted(row["issue"] for row in rows)
    query = "SELECT i.uri, s.issue FROM issues s JOIN images i USING (image_id) WHERE s.issue = 'corrupted'"
    corrupted = lake.sql(query).fetchall()
    assert len(corrupted) == sum(row["issue"] == "corrupted" for row in rows) > 0
    assert "truncated.jpg" in {Path(uri).name for uri, _ in corrupted}
    # What a lake answers outlives it.
    counted = imagesieve.open(labelled.lake).sql("SELECT count(*) FROM issues").fetchall()
    assert counted == [(len(rows),)]
    assert lake.tables[:2] == ["images", "features"]
    assert str(labelled.lake) in repr(lake)


def test_summary(labelled: Labelled) -> None:
    """Catches counts of rows that are not those of the table."""
    rows = lakes.rows(labelled.lake, "issues")
    summary = imagesieve.open(labelled.lake).summary()
    assert summary["images"].to_dict() == {
        issue: sum(row["issue"] == issue for row in rows) for issue in {row["issue"] for row in rows}
    }
    assert (summary[["remove", "relabel", "review"]].sum(axis=1) == summary["images"]).all()
    removed = {row["issue"] for row in rows if row["suggestion"] == "remove"}
    assert set(summary.index[summary["remove"] > 0]) == removed
    assert summary["share"].between(0, 1).all()


def test_report(labelled: Labelled) -> None:
    """Catches a page that is not shown in a notebook, or shown without its pictures."""
    report = imagesieve.open(labelled.lake).report()
    shown = report._repr_html_()
    assert Path(report.uri).is_file()
    assert shown.startswith("<iframe srcdoc=")
    assert "&lt;base href=" in shown


def test_group_is_the_function_of_vectors() -> None:
    vectors = np.eye(8, dtype=np.float32)[[0, 1, 0, 2]]
    assert imagesieve.group(vectors, "medium").keeper.tolist() == [0, 1, 0, 3]


@pytest.mark.parametrize("name", ["nothing-here", "a%zz"])
def test_no_lake(name: str, tmp_path: Path) -> None:
    with pytest.raises(imagesieve.RunError, match="lake"):
        imagesieve.open(tmp_path / name)


def test_no_such_table(labelled: Labelled) -> None:
    with pytest.raises(imagesieve.RunError, match=r"no table 'faces' \(there are: images, features"):
        imagesieve.open(labelled.lake).arrow("faces")


SCRIPT = """
import json, sys
import imagesieve

lake = imagesieve.run("pictures", settings={"issues.dark": 0.3}, layout="{label}/*")
first = lake.summary()["images"].to_dict()
again = imagesieve.run(["pictures"], lake=lake.uri, layout="{label}/*", settings={"issues.dark": 0.3})
kept = again.clean("kept.csv", remove=["exact_duplicate"])
faults = []
for call in (
    lambda: imagesieve.run("pictures", settings={"issues.drak": 1}),
    lambda: imagesieve.run("missing"),
    lambda: again.clean("kept.txt"),
):
    try:
        call()
    except imagesieve.RunError as error:
        faults.append(str(error))
told = {"uri": lake.uri, "first": first, "again": again.summary()["images"].to_dict(), "kept": kept, "faults": faults,
        "runs": [[row["job"], row["status"]] for row in again.arrow("runs").to_pylist()],
        "report": again.report().uri}
print("TOLD " + json.dumps(told))
"""


@sail_only
def test_run_twice_in_one_process(tmp_path: Path) -> None:
    """Catches an engine that can be started once only, faults that end the process, and work that is done again."""
    picture = images.jpeg(images.picture(1))
    files = {f"a/{n}.jpg": images.jpeg(images.picture(n)) for n in range(12)}
    images.write(tmp_path / "pictures", {**files, "b/copy.jpg": picture})
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=tmp_path, env=lakes.clean_environment(), capture_output=True, text=True,
        check=False, timeout=300,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    told = json.loads(next(line for line in ended.stdout.splitlines() if line.startswith("TOLD "))[5:])
    assert told["uri"] == str(tmp_path / "pictures-lake")
    assert told["first"]["exact_duplicate"] == 1
    assert told["again"] == told["first"]
    jobs = [job for job, status in told["runs"] if status == "done"]
    assert len(jobs) == len(set(jobs)) == len(STAGES)  # the second run had nothing to do
    kept = (tmp_path / told["kept"][0]).read_text().splitlines()
    assert len(kept) == 1 + 12
    assert [fault.split(":")[0] for fault in told["faults"][:1]] == ["--set"]
    assert "missing" in told["faults"][1]
    assert "kept.txt" in told["faults"][2]
    assert Path(told["report"]).is_file()
