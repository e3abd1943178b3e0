"""spark-submit in real processes: with the zip on executors of their own, and from a checkout with nothing else."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pyspark
import pytest

from emr.packages.package import PACKAGES, build_zip
from jobs.engines.spark_versions import RELEASE
from tests.conftest import spark_only
from tests.e2e import images, lakes
from tests.e2e.lakes import ROOT

PROPERTIES = ROOT / "conf" / ("spark-cpu-3.5.properties" if RELEASE == "3.5" else "spark-cpu.properties")
VERSION = "0.0.0+zip"  # of the copy in the zip: the run tells by it whether it ran from there


def submit(*argv: str | Path, cwd: Path, **env: str) -> lakes.Ended:
    """spark-submit of the installed pyspark, with this Python on both sides."""
    home = Path(pyspark.__file__).parent
    ended = subprocess.run(
        [str(home / "bin" / "spark-submit"), *map(str, argv)],
        cwd=cwd,
        env=lakes.clean_environment(PYSPARK_PYTHON=sys.executable, SPARK_HOME=str(home), **env),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    return lakes.Ended(ended.returncode, ended.stdout, ended.stderr)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The zip of a copy of the sources that has a version of its own."""
    copy = tmp_path_factory.mktemp("sources")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("jobs", "udfs"):
        file = copy / name / "__init__.py"
        text = file.read_text()
        file.write_text("\n".join(f'__version__ = "{VERSION}"' if "__version__ = " in line else line
                                  for line in text.splitlines()))  # fmt: skip
    target = copy / "build" / "imagesieve.zip"
    build_zip(target, copy)
    return target


def test_zip_is_whole(package: Path) -> None:
    """Catches a file that the code needs at run time and the zip lacks: templates, settings."""
    with zipfile.ZipFile(package) as archive:
        names = set(archive.namelist())
    kept = subprocess.run(
        ["git", "ls-files", "jobs", "udfs", "conf"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    sources = {name for name in kept.stdout.split() if not name.startswith("jobs/serve/app/")}  # which are built
    assert sources <= names  # empty where this is no checkout
    assert {"jobs/command.py", "udfs/arrow.py", "conf/defaults.yaml"} <= names


@spark_only
def test_cluster_with_the_zip(package: Path, tmp_path: Path) -> None:
    """Catches executors that import jobs or udfs from anywhere but the zip (the run compares both versions itself),
    and what only shows where executors are processes of their own: files not shipped, functions not picklable."""
    folder = images.write(tmp_path / "in", {f"{n:02d}.jpg": images.jpeg(images.picture(n)) for n in range(11)})
    images.write(folder, {"broken.jpg": b"no image"})
    shutil.copy(ROOT / "jobs" / "pipeline.py", tmp_path / "submitted.py")
    ended = submit(
        "--master", "local-cluster[2,1,1024]",
        "--properties-file", PROPERTIES, "--py-files", package,
        tmp_path / "submitted.py", folder, "--lake", tmp_path / "lake", "--set", "spark.shuffle_partitions=2",
        cwd=tmp_path,
    )  # fmt: skip
    assert ended.code == 0, ended.err[-3000:]
    assert "12 images, 12 read" in ended.out
    assert {row["version"] for row in lakes.rows(tmp_path / "lake", "runs")} == {VERSION}
    assert len(lakes.rows(tmp_path / "lake", "embeddings")) == 11
    assert len(lakes.rows(tmp_path / "lake", "failures")) == 1


@spark_only
def test_submit_from_a_checkout(tmp_path: Path) -> None:
    """Catches a spark-submit that needs options beyond those of the README; and a lake of one image, which has no
    neighbour."""
    folder = images.write(tmp_path / "in", {"only.jpg": images.jpeg(images.picture(5))})
    ended = submit(ROOT / "jobs" / "pipeline.py", folder, "--lake", tmp_path / "lake", cwd=tmp_path,
                   PYTHONPATH=str(ROOT))  # fmt: skip
    assert ended.code == 0, ended.err[-3000:]
    assert "1 images, 1 read" in ended.out
    assert lakes.rows(tmp_path / "lake", "neighbours") == []
    assert (tmp_path / "lake" / "report" / "index.html").is_file()
    again = submit(ROOT / "jobs" / "embed.py", "--lake", tmp_path / "lake", cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert again.code == 0, again.err[-3000:]
    assert "embed" in again.err
    assert "nothing to do" in again.err
    settings = json.loads(lakes.rows(tmp_path / "lake", "runs")[0]["config"])["all"]
    assert settings["spark"]["master"] is None
