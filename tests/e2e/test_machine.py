"""Machines that lack something: one line that says what, and the exit code of machines."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import sail_only, spark_only
from tests.e2e import images, lakes
from tests.e2e.lakes import ROOT

USAGE, LAKE, MACHINE = 2, 4, 7
SPARK = ("--set", "spark.engine=spark")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return images.write(tmp_path_factory.mktemp("machine"), {"a.jpg": images.jpeg(images.picture(1))})


def fake_java(folder: Path, version: str) -> Path:
    java = folder / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\necho '{version}' >&2\n")
    java.chmod(0o755)
    return folder


@spark_only
def test_no_java(folder: Path, tmp_path: Path) -> None:
    """Catches pyspark's traceback where there is no Java at all, and where JAVA_HOME names a folder without one."""
    (tmp_path / "bin").mkdir()
    for env in ({"PATH": str(tmp_path / "bin"), "JAVA_HOME": ""}, {"JAVA_HOME": str(tmp_path / "gone")}):
        ended = lakes.process("run", folder, "--lake", tmp_path / "lake", *SPARK, cwd=tmp_path, env=env)
        assert ended.code == MACHINE, ended.err
        assert "no Java found: install a JDK 17" in ended.line
        assert not (tmp_path / "lake").exists()


@spark_only
@pytest.mark.parametrize(
    ("version", "told"),
    [
        ('openjdk version "11.0.22" 2024-01-16', "Java 11.0.22"),
        ('java version "1.8.0_401"', "Java 1.8.0_401"),
        ("Error: broken", "Java"),
    ],
)
def test_old_java(version: str, told: str, folder: Path, tmp_path: Path) -> None:
    """Catches a class-version error of the JVM in place of a word on Java."""
    home = fake_java(tmp_path / "jdk", version)
    env = {"JAVA_HOME": str(home)}
    ended = lakes.process("run", folder, "--lake", tmp_path / "lake", *SPARK, cwd=tmp_path, env=env)
    assert ended.code == MACHINE, ended.err
    assert told in ended.line
    assert "install a JDK 17" in ended.line
    assert not (tmp_path / "lake").exists()


def foreign_udfs(folder: Path) -> Path:
    images.write(folder, {"udfs/__init__.py": b"VALUE = 1\n"})
    return folder


def test_foreign_udfs_on_the_driver(folder: Path, tmp_path: Path) -> None:
    """Catches an ImportError from somewhere inside, or somebody's functions called for ours."""
    path = f"{foreign_udfs(tmp_path / 'theirs')}:{ROOT}"
    ended = lakes.process("run", folder, "--lake", tmp_path / "lake", cwd=tmp_path, env={"PYTHONPATH": path})
    assert ended.code != 0
    assert "is not imagesieve" in ended.err.splitlines()[-1]
    assert str(tmp_path / "theirs" / "udfs") in ended.err.splitlines()[-1]


@spark_only
def test_foreign_udfs_on_the_executors(folder: Path, tmp_path: Path) -> None:
    """Catches a worker that imports somebody's udfs: it fails in the middle of a run, or worse, does not."""
    theirs = foreign_udfs(tmp_path / "theirs")
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from jobs.command import main; sys.exit(main())"
    argv = ["run", str(folder), "--lake", str(tmp_path / "lake"), "--set", "spark.master=local[1]"]
    done = subprocess.run(
        [sys.executable, "-c", program, *argv], cwd=tmp_path, env=lakes.clean_environment(PYTHONPATH=str(theirs)),
        capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    ended = lakes.Ended(done.returncode, done.stdout, done.stderr)
    assert ended.code == MACHINE, ended.err
    assert f"executors import udfs unknown from {theirs}" in ended.line
    assert not (tmp_path / "lake").exists()


@pytest.mark.skipif(importlib.util.find_spec("py4j") is not None, reason="Spark is installed")
def test_no_spark(folder: Path, tmp_path: Path) -> None:
    """An ImportError where Spark is asked for and only its client is installed."""
    for more in (SPARK, ("--set", "spark.master=local[1]")):
        ended = lakes.process("run", folder, "--lake", tmp_path / "lake", *more, cwd=tmp_path)
        assert ended.code == MACHINE, ended.err
        assert 'pip install "imagesieve[spark]"' in ended.line
        assert not (tmp_path / "lake").exists()


def test_the_engine_that_cannot_be(folder: Path, tmp_path: Path) -> None:
    """An engine of a wrong name, the embedded one under spark-submit, Spark Connect: each taken for another."""
    cases = {
        ("--set", "spark.engine=flink"): ({}, "spark.engine must be one of sail, spark, auto, got 'flink'"),
        ("--set", "spark.engine=sail"): ({"PYSPARK_GATEWAY_PORT": "1"}, "started by spark-submit"),
        (): ({"SPARK_REMOTE": "sc://there"}, "SPARK_REMOTE is set"),
    }
    for more, (env, told) in cases.items():
        ended = lakes.process("run", folder, "--lake", tmp_path / "lake", *more, cwd=tmp_path, env=env)
        assert ended.code == USAGE, ended.err
        assert told in ended.line
        assert not (tmp_path / "lake").exists()


@sail_only
def test_a_name_that_cannot_be_written(folder: Path, tmp_path: Path) -> None:
    """A lake that is half written before delta-rs meets the name."""
    for name in ("100%41", "back\\slash", "tab\tname", os.fsdecode(b"\xff")):
        ended = lakes.process("run", folder, "--lake", tmp_path / name, cwd=tmp_path)
        assert ended.code == LAKE, ended.err
        assert "the embedded engine cannot write to a path with" in ended.line
        assert not (tmp_path / name).exists()


@sail_only
def test_a_table_that_delta_rs_cannot_write(folder: Path, tmp_path: Path) -> None:
    """Rows that a deletion vector hides come back, or a table that other readers no longer understand."""
    lakes.process("run", folder, "--lake", tmp_path / "lake", cwd=tmp_path)
    log = tmp_path / "lake" / "features" / "_delta_log"
    number = len(list(log.glob("*.json")))
    protocol = {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["deletionVectors"],
                "writerFeatures": ["deletionVectors", "invariants"]}  # fmt: skip
    (log / f"{number:020}.json").write_text(json.dumps({"protocol": protocol}) + "\n")
    images.write(folder, {"b.jpg": images.jpeg(images.picture(2))})
    ended = lakes.process("run", folder, "--lake", tmp_path / "lake", cwd=tmp_path)
    (folder / "b.jpg").unlink()
    assert ended.code == LAKE, ended.err
    last = ended.err.splitlines()[-1]
    assert "uses Delta's deletionVectors, which the embedded engine cannot write" in last


@sail_only
def test_a_lake_without_a_name(folder: Path, tmp_path: Path) -> None:
    """The shortest command: its lake is beside, is named after the folder, and is found again."""
    for read in (1, 0):
        ended = lakes.process("run", folder, cwd=tmp_path)
        assert ended.code == 0, ended.err
        first = ended.err.splitlines()[0]
        assert first.endswith(f"(on one machine); tables in {tmp_path}/{folder.name}-lake")
        assert f"1 images, {read} read" in ended.out
        assert ended.out.splitlines()[-1] == f"report: file://{tmp_path}/{folder.name}-lake/report/index.html"


@sail_only
def test_a_large_lake_names_spark(folder: Path, tmp_path: Path) -> None:
    ended = lakes.process(
        "catalog", folder, "--lake", tmp_path / "lake", "--set", "spark.embedded_images=0", cwd=tmp_path
    )
    assert ended.code == 0, ended.err
    assert "more than one machine does well; Spark spreads them over many" in ended.err
