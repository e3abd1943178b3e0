"""A stage is one file, and its place in the list of jobs/pipeline.py: everything else follows from that."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.e2e import lakes
from tests.e2e.lakes import ROOT

STAGE = '''"""Formats: how many images there are of each format."""

import sys

from jobs.stage import Context, Counts, Stage, submitted


def count(context: Context) -> Counts:
    rows = context.lake.require("features").groupBy("format").count().orderBy("format").collect()
    images = sum(row["count"] for row in rows)
    note = "formats: " + ", ".join(f"{row['count']} {row['format']}" for row in rows)
    return {"in": images, "out": images, "failed": 0, "notes": [note]}


STAGE = Stage(
    name="formats",
    does="count images by format",
    reads=("features",),
    writes=(),
    settings=lambda context: {},
    body=count,
)

if __name__ == "__main__":
    sys.exit(submitted("formats"))
'''


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the product with one stage more."""
    folder = tmp_path_factory.mktemp("house")
    for room in ("jobs", "udfs", "emr", "conf"):
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "jobs" / "formats.py").write_text(STAGE, encoding="utf-8")
    pipeline = folder / "jobs" / "pipeline.py"
    text = pipeline.read_text(encoding="utf-8")
    for old, new in (
        ("embed, issues", "embed, formats, issues"),
        ("    embed.STAGE,\n", "    embed.STAGE,\n    formats.STAGE,\n"),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    pipeline.write_text(text, encoding="utf-8")
    return folder


def _imagesieve(house: Path, *words: str | Path) -> str:
    places = (house, house / "jobs" / "api")
    ended = subprocess.run(
        [sys.executable, "-m", "imagesieve", *map(str, words)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, places)), "COLUMNS": "200"},
        cwd=house, text=True, capture_output=True, check=False, timeout=300,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return ended.stdout + ended.stderr


def test_a_run_does_it(house: Path, tmp_path: Path) -> None:
    """Catches a list of stages that stands elsewhere, too: in the command line, the summary, or the table of runs."""
    rng = np.random.default_rng(16)
    (tmp_path / "pictures").mkdir()
    for name in ("1.png", "2.png", "3.jpg"):
        Image.fromarray(rng.integers(0, 256, (80, 90, 3), dtype=np.uint8)).save(tmp_path / "pictures" / name)
    lake = tmp_path / "lake"
    told = _imagesieve(house, "run", tmp_path / "pictures", "--lake", lake)
    assert "note: formats: 1 jpeg, 2 png" in told
    rows = [row for row in lakes.rows(lake, "runs") if row["job"] == "formats"]
    assert [(row["status"], json.loads(row["counts"])["in"]) for row in rows] == [("done", 3)]
    assert "nothing to do: 3 in" in _imagesieve(house, "formats", "--lake", lake)


def test_the_command_line_knows_it(house: Path) -> None:
    assert "count images by format" in _imagesieve(house, "--help")
    assert "catalog,embed,formats,neighbours" in _imagesieve(house, "emr", "submit", "--help")
    costs = _imagesieve(house, "emr", "cost", "--images", "1e6")
    assert "| formats (not measured)" in costs
    assert "| embed  " in costs
