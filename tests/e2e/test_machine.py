"""Machines that lack something: one line that says what, and the exit code of machines."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e import images, lakes
from tests.e2e.lakes import ROOT

MACHINE = 7


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return images.write(tmp_path_factory.mktemp("machine"), {"a.jpg": images.jpeg(images.picture(1))})


def fake_java(folder: Path, version: str) -> Path:
    java = folder / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\necho '{version}' >&2\n")
    java.chmod(0o755)
    return folder


def test_no_java(folder: Path, tmp_path: Path) -> None:
    """Catches pyspark's traceback where there is no Java at all, and where JAVA_HOME names a folder without one."""
    (tmp_path / "bin").mkdir()
    for env in ({"PATH": str(tmp_path / "bin"), "JAVA_HOME": ""}, {"JAVA_HOME": str(tmp_path / "gone")}):
        ended = lakes.process("run", folder, "--lake", tmp_path / "lake", cwd=tmp_path, env=env)
        assert ended.code == MACHINE, ended.err
        assert "no Java found: install a JDK 17" in ended.line
        assert not (tmp_path / "lake").exists()


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
    ended = lakes.process("run", folder, "--lake", tmp_path / "lake", cwd=tmp_path, env={"JAVA_HOME": str(home)})
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
