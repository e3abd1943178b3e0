"""Running again: nothing new costs nothing, changes cost themselves, and a killed run goes on where it stood."""

import os
import random
import shutil
import signal
import time
from pathlib import Path

import psutil
import pytest
from pyspark.sql import SparkSession

from jobs.tables import TABLES
from tests.conftest import ENGINE, FEW_PARTITIONS, sail_only
from tests.e2e import images, lakes
from tests.e2e.conftest import LAYOUT, Labelled
from tests.e2e.lakes import Commands
from tests.e2e.processes import gone

INPUT = 3
KILLS = 20


def test_unchanged_input(labelled: Labelled, spark: SparkSession) -> None:
    """Catches a run that commits, or reads an image, though nothing changed."""
    before = lakes.versions(labelled.lake)
    lakes.ran(spark, "run", labelled.folder, "--lake", labelled.lake, "--layout", LAYOUT)
    assert lakes.versions(labelled.lake) == before
    assert len(before) == len(TABLES)


def test_wrong_folder(labelled_copy: Labelled, commands: Commands, tmp_path: Path) -> None:
    """Catches a run that forgets a whole lake because another folder was named."""
    other = images.write(tmp_path / "other", {"a.jpg": images.jpeg(images.picture(1))})
    before = lakes.versions(labelled_copy.lake)
    ended = commands("run", other, "--lake", labelled_copy.lake)
    assert (ended.code, "catalog.max_removed_share=1" in ended.line) == (INPUT, True)
    assert lakes.versions(labelled_copy.lake) == before
    assert not (labelled_copy.lake / "_staging").exists()


@pytest.mark.slow
def test_changed_input(labelled_copy: Labelled, spark: SparkSession, tmp_path: Path) -> None:
    """Catches images read again without need, features of old bytes, rows of deleted images, ids that wander, and
    whatever else makes an updated lake differ from a fresh one."""
    folder, lake = labelled_copy.folder, labelled_copy.lake
    name_of = lakes.relative_to(folder)
    old_ids = {name_of(row["uri"]): row["image_id"] for row in lakes.rows(lake, "images")}
    old_clusters = clusters_by_members(lake)
    # A copy of a new image, a copy across splits, a corrupted file and a repaired one are among them.
    new = {f"train/new/{n:02d}.jpg": images.jpeg(images.picture(100 + n)) for n in range(7)}
    new |= {"test/new/copy.jpg": new["train/new/00.jpg"], "test/new/near.jpg": images.near_copy(images.picture(101)),
            "train/new/bad.jpg": b"bad"}  # fmt: skip
    changed = {
        "train/broken/truncated.jpg": images.jpeg(images.picture(201)),
        "train/cat/007.jpg": images.jpeg(images.picture(202)),
        "test/dog/two as png.png": images.png(images.picture(203)),
        "test/cat/003.jpg": b"now a text",
        "train/broken/text.jpg": b"another text",
    }
    deleted = ["train/dog/004.jpg", "test/cat/copy-of-1.jpg", "train/broken/empty.jpg", "test/dog/000.jpg",
               "train/dog/a#b %20 100%.jpg"]  # fmt: skip
    assert (len(new), len(changed), len(deleted)) == (10, 5, 5)
    images.write(folder, new | changed)
    for name in deleted:
        (folder / name).unlink()

    lakes.ran(spark, "run", folder, "--lake", lake, "--layout", LAYOUT)

    assert lakes.last_counts(lake, "embed")["read"] == 15
    counts = lakes.last_counts(lake, "catalog")
    assert (counts["added"], counts["changed"], counts["removed"]) == (10, 5, 5)
    ids = {name_of(row["uri"]): row["image_id"] for row in lakes.rows(lake, "images")}
    assert {name: ids[name] for name in old_ids if name not in deleted} == {
        name: number for name, number in old_ids.items() if name not in deleted
    }
    assert min(ids[name] for name in new) > max(old_ids.values())
    untouched = {members: number for members, number in old_clusters.items() if not {*changed, *deleted} & members}
    now = clusters_by_members(lake)
    assert {members: now[members] for members in untouched if members in now} == {
        members: number for members, number in untouched.items() if members in now
    }
    lakes.ran(spark, "run", folder, "--lake", tmp_path / "fresh", "--layout", LAYOUT)
    lakes.assert_same(lakes.snapshot(tmp_path / "fresh", name_of), lakes.snapshot(lake, name_of))


def clusters_by_members(lake: Path) -> dict[frozenset[str], int]:
    """Members by their file names -> cluster_id."""
    names = {row["image_id"]: row["uri"].split("/in/", 1)[1] for row in lakes.rows(lake, "images")}
    members: dict[int, set[str]] = {}
    for row in lakes.rows(lake, "duplicates"):
        members.setdefault(row["cluster_id"], set()).add(names[row["image_id"]])
    return {frozenset(found): number for number, found in members.items()}


@pytest.mark.slow
def test_killed_run_goes_on(labelled: Labelled, spark: SparkSession, tmp_path: Path) -> None:
    """Catches a killed run that holds the lake, leaves its staging, loses what it had committed, or whose half-done
    commit counts twice: a real process is killed between two commits of the embed stage."""
    lake = tmp_path / "lake"
    argv = ["run", str(labelled.folder), "--lake", str(lake), "--layout", LAYOUT]
    settings = ["embed.images_per_commit=5", f"spark.engine={ENGINE}", *FEW_PARTITIONS]
    small = [option for setting in settings for option in ("--set", setting)]
    running = lakes.start(*argv, *small, cwd=tmp_path, own_group=True)
    try:
        ends = time.monotonic() + 240
        # features are committed before embeddings: in between is the hardest moment.
        while lakes.commits(lake, "features") < 3:
            assert running.poll() is None, running.communicate()
            assert time.monotonic() < ends
            time.sleep(0.02)
    finally:
        os.killpg(running.pid, signal.SIGKILL)  # its JVM and workers too; the embedded engine ends by itself
        running.communicate()
    already = len(lakes.rows(lake, "embeddings"))
    total = len(labelled.snapshot["images"])
    assert already < total - len(labelled.snapshot["failures"])
    assert (lake / "_staging").exists()

    lakes.ran(spark, *argv)

    assert lakes.last_counts(lake, "embed")["read"] < total
    assert not (lake / "_staging").exists()
    lakes.assert_same(labelled.snapshot, lakes.snapshot(lake, lakes.relative_to(labelled.folder)))
    shutil.rmtree(lake)


@pytest.mark.slow
@sail_only
def test_kills_at_any_moment(labelled: Labelled, spark: SparkSession, tmp_path: Path) -> None:
    """Catches a moment at which a kill loses or doubles rows, closes the lake, or leaves a process of the engine."""
    argv = ["run", str(labelled.folder), "--layout", LAYOUT, "--set", "embed.images_per_commit=7"]
    started = time.monotonic()
    assert lakes.process(*argv, "--lake", tmp_path / "whole", cwd=tmp_path).code == 0
    took = time.monotonic() - started
    draw = random.Random(15)
    killed = 0
    for number in range(KILLS):
        lake = tmp_path / f"lake-{number}"
        running = lakes.start(*argv, "--lake", str(lake), cwd=tmp_path, own_group=True)
        time.sleep(draw.uniform(0.1, 0.95) * took)
        others = psutil.Process(running.pid).children(recursive=True) if running.poll() is None else []
        killed += running.poll() is None
        running.kill()  # it alone: what it has started ends by itself
        running.communicate()
        assert gone(others), number
        lakes.ran(spark, *argv, "--lake", lake)
        lakes.assert_same(labelled.snapshot, lakes.snapshot(lake, lakes.relative_to(labelled.folder)))
        assert not (lake / "_staging").exists()
        shutil.rmtree(lake)
    assert killed > KILLS / 2
