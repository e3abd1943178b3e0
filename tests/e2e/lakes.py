"""Runs the commands, and reads lakes with delta-rs, in a form that two lakes can be compared in."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from jobs.command import main
from jobs.tables import TABLES
from tests.s3_server import S3Server
from udfs.stores import uris

ROOT = Path(__file__).resolve().parents[2]
Row = tuple[Any, ...]
# Tables that two lakes of the same images have in common; `runs` tells of times.
RESULTS = ("images", "features", "embeddings", "neighbours", "duplicates", "scores", "issues", "failures")
# Columns of other images, and of clusters, which have ids of their own in each lake.
_IMAGE_IDS = ("image_id", "neighbour_id", "keeper_id", "evidence_id", "other_id", "representative_id")
_CLUSTER_IDS = ("cluster_id", "component_id")
_NOT_COMPARED = {
    "images": ("uri", "source", "etag", "modified_at"),
    "features": ("etag",),
    "failures": ("etag", "at", "detail", "attempt"),
}


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The one line that a bad run says. Fails where stderr holds anything else."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("imagesieve: "), self.err
        assert "Traceback" not in self.err + self.out
        return lines[0]


@dataclass(frozen=True)
class Commands:
    """Runs commands in the shared session and keeps what they print."""

    spark: SparkSession
    capture: "pytest.CaptureFixture[str]"

    def __call__(self, *argv: str | Path) -> Ended:
        self.capture.readouterr()
        try:
            code = main([str(one) for one in argv], spark=self.spark)
        except SystemExit as error:  # argparse
            code = int(str(error.code))
        out, err = self.capture.readouterr()
        return Ended(code, out, err)


def ran(spark: SparkSession, *argv: str | Path) -> None:
    """Runs a command that must succeed."""
    code = main([str(one) for one in argv], spark=spark)
    assert code == 0, f"exit code {code} of {argv}"


def clean_environment(**more: str) -> dict[str, str]:
    """This environment without AWS's, Python's and Spark's variables."""
    prefixes = ("AWS_", "PYTHON", "SPARK_", "PYSPARK_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
    return {**kept, **more}


def start(
    *argv: str | Path, cwd: Path, env: Mapping[str, str] | None = None, own_group: bool = False
) -> "subprocess.Popen[str]":
    """A real process of the command line. own_group: it and all that it starts can be killed at once."""
    return subprocess.Popen(
        [sys.executable, "-m", "jobs.command", *map(str, argv)],
        cwd=cwd,
        env={**clean_environment(PYTHONPATH=str(ROOT)), **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=own_group,
    )


def process(*argv: str | Path, cwd: Path, env: Mapping[str, str] | None = None, timeout_s: float = 180) -> Ended:
    """Runs a real process to its end; it is killed, and the test fails, after timeout_s."""
    running = start(*argv, cwd=cwd, env=env)
    try:
        out, err = running.communicate(timeout=timeout_s)
    finally:
        running.kill()
    return Ended(running.returncode, out, err)


def table(lake: str | Path, name: str, s3: S3Server | None = None) -> DeltaTable:
    options = None
    if s3 is not None:
        options = {**s3.env, "AWS_ALLOW_HTTP": "true", "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "false"}
    return DeltaTable(f"{lake}/{name}", storage_options=options)


def rows(lake: str | Path, name: str, s3: S3Server | None = None) -> list[dict[str, Any]]:
    """All rows of a table, none where it does not exist, in no order."""
    if s3 is None and not Path(lake, name).exists():
        return []
    found = table(lake, name, s3).to_pyarrow_dataset().to_table()
    return [dict(row) for row in found.to_pylist()]


def versions(lake: str | Path) -> dict[str, int]:
    """The Delta version of every table that there is."""
    return {name: table(lake, name).version() for name in TABLES if Path(lake, name).exists()}


def commits(lake: str | Path, name: str) -> int:
    """Files in the log of a table, the one that created it included."""
    return len(list(Path(lake, name, "_delta_log").glob("*.json")))


def last_counts(lake: str | Path, job: str) -> dict[str, int]:
    """The counts of the newest row of `runs` of a stage."""
    newest = max((row for row in rows(lake, "runs") if row["job"] == job), key=lambda row: row["ended_at"])
    counts = json.loads(newest["counts"])
    return {name: int(value) for name, value in counts.items() if isinstance(value, int | float)}


def relative_to(root: str | Path) -> Callable[[str], str]:
    """Names an image by its path below root."""
    folder = uris.canonical(str(root)).rstrip("/")
    return lambda uri: uris.relative(uri, folder)


def snapshot(
    lake: str | Path, name_of: Callable[[str], str], s3: S3Server | None = None, only: Iterable[str] = RESULTS
) -> dict[str, list[Row]]:
    """The tables as sorted rows with images named instead of numbered, and clusters named by their first member.

    Floats are compared bit for bit."""
    read = {name: rows(lake, name, s3) for name in {*only, "images", "duplicates"}}
    names = {row["image_id"]: name_of(row["uri"]) for row in read["images"]}
    clusters: dict[int, str] = {}
    components: dict[int, str] = {}
    for row in read["duplicates"]:
        own = names[row["image_id"]]
        clusters[row["cluster_id"]] = min(own, clusters.get(row["cluster_id"], own))
        components[row["component_id"]] = min(own, components.get(row["component_id"], own))

    def value(column: str, cell: Any) -> Any:
        if column in _IMAGE_IDS:
            return names[cell] if cell is not None else ""
        if column == "cluster_id":
            return clusters[cell]
        if column == "component_id":
            return components[cell]
        if isinstance(cell, float):
            return cell.hex()
        if isinstance(cell, list):
            return tuple(float(item).hex() for item in cell)
        return cell

    return {
        name: sorted(
            (
                tuple(value(c, cell) for c, cell in row.items() if c not in _NOT_COMPARED.get(name, ()))
                for row in read[name]
            ),
            key=repr,
        )
        for name in only
    }


def assert_same(left: dict[str, list[Row]], right: dict[str, list[Row]]) -> None:
    """Fails with the first row of the first table that differs."""
    for name, expected in left.items():
        other = right[name]
        missing = sorted(set(expected) - set(other), key=repr)
        added = sorted(set(other) - set(expected), key=repr)
        assert (missing, added) == ([], []), (
            f"{name}: {len(missing)} rows only on the left, {len(added)} only on the right, such as "
            f"{str(missing[:1])[:700]} and {str(added[:1])[:700]}"
        )
        assert len(expected) == len(other), name


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
