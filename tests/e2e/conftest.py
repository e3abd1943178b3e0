"""The lakes that several files of these tests look at."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from tests.e2e import images, lakes

LAYOUT = "{split}/{label}/*"
LONG_AGO = 1_700_000_000


@dataclass(frozen=True)
class Labelled:
    """A folder of images and the lake made of it in one undisturbed run. Neither may be changed by a test."""

    folder: Path
    lake: Path
    snapshot: dict[str, list[lakes.Row]]


@pytest.fixture(scope="session")
def labelled(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Labelled:
    """See images.labelled_lake; splits and labels are read from the paths."""
    root = tmp_path_factory.mktemp("labelled")
    folder = images.write(root / "in", images.labelled_lake())
    for path in folder.rglob("*"):
        os.utime(path, (LONG_AGO, LONG_AGO))  # no copy is older than another: elsewhere they would be of other ages
    lakes.ran(spark, "run", folder, "--lake", root / "lake", "--layout", LAYOUT)
    return Labelled(folder, root / "lake", lakes.snapshot(root / "lake", lakes.relative_to(folder)))


@pytest.fixture
def labelled_copy(labelled: Labelled, tmp_path: Path) -> Iterator[Labelled]:
    """A copy of the labelled lake, and its folder, that a test may change: the folder is put back afterwards."""
    lake = tmp_path / "lake"
    shutil.copytree(labelled.lake, lake)
    kept = labelled.folder.with_name("in-kept")
    labelled.folder.rename(kept)
    shutil.copytree(kept, labelled.folder)  # times included, so that the etags are the same
    yield Labelled(labelled.folder, lake, labelled.snapshot)
    shutil.rmtree(labelled.folder)
    kept.rename(labelled.folder)


@pytest.fixture
def commands(spark: SparkSession, capsys: pytest.CaptureFixture[str]) -> lakes.Commands:
    return lakes.Commands(spark, capsys)
