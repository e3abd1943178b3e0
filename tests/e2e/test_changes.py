"""Catches an updated lake that is not as a fresh one, and suggestions that would lose all copies of a picture.

Images are added, removed, renamed, retouched, relabelled, moved to another split, and given other times, by a seed.
They stand in a manifest whose etags tell of the bytes alone, as on S3: where only a time changes, no image is
read again, and yet another copy may be the one to keep."""

import csv
import datetime
import hashlib
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from tests.e2e import images, lakes

EPOCH = datetime.datetime(2015, 1, 1, tzinfo=datetime.UTC)
LABELS, SPLITS = ("cat", "dog"), ("train", "test")
TABLES = (*lakes.RESULTS, "copies", "leaks", "labels", "classes")
FIRST = 10  # pictures at the beginning, with two copies of each of the first three


@dataclass(frozen=True)
class Listed:
    """One image as the manifest has it. days: its time, since EPOCH."""

    data: bytes
    label: str
    split: str
    days: int


@dataclass
class Folder:
    """Images in a folder with a manifest, and changes of them."""

    root: Path
    draw: random.Random
    listed: dict[str, Listed] = field(default_factory=dict)
    made: int = 0

    @property
    def manifest(self) -> Path:
        return self.root / "m.csv"

    def write(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        images.write(self.root, {name: image.data for name, image in self.listed.items()})
        with self.manifest.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["uri", "etag", "size_bytes", "modified_at", "label", "split"])
            for name, image in sorted(self.listed.items()):
                etag = hashlib.sha256(image.data).hexdigest()[:12]
                when = (EPOCH + datetime.timedelta(days=image.days)).isoformat()
                table.writerow([name, etag, len(image.data), when, image.label, image.split])

    def image(self, data: bytes) -> Listed:
        return Listed(data, self.draw.choice(LABELS), self.draw.choice(SPLITS), self.draw.randrange(3000))

    def name(self) -> str:
        self.made += 1
        return f"{self.draw.choice('abcxyz')}{self.made:03d}.jpg"

    def some(self) -> str:
        return self.draw.choice(sorted(self.listed))

    def add(self) -> None:
        self.listed[self.name()] = self.image(images.jpeg(images.picture(self.draw.randrange(10_000))))

    def copy(self) -> None:
        """Adds an exact copy of an image, or one that is nearly the same."""
        same = self.listed[self.some()].data
        near = images.near_copy(images.picture(self.draw.randrange(FIRST)))
        self.listed[self.name()] = self.image(self.draw.choice((same, near)))

    def remove(self) -> None:
        del self.listed[self.some()]

    def rename(self) -> None:
        self.listed[self.name()] = self.listed.pop(self.some())

    def retouch(self) -> None:
        name = self.some()
        other = images.jpeg(images.picture(self.draw.randrange(10_000)), quality=80)
        self.listed[name] = replace(self.listed[name], data=other)

    def relabel(self) -> None:
        name = self.some()
        self.listed[name] = replace(self.listed[name], label=self.draw.choice(LABELS))

    def move(self) -> None:
        name = self.some()
        self.listed[name] = replace(self.listed[name], split=self.draw.choice(SPLITS))

    def swap_times(self) -> None:
        """The order of age is turned round, and nothing else."""
        for name, image in self.listed.items():
            self.listed[name] = replace(image, days=3000 - image.days)


CHANGES: tuple[Callable[[Folder], None], ...] = (
    Folder.add, Folder.copy, Folder.remove, Folder.rename, Folder.retouch, Folder.relabel, Folder.move,
    Folder.swap_times,
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path / "in", random.Random(16))
    for seed in range(FIRST):
        made.listed[made.name()] = made.image(images.jpeg(images.picture(seed)))
        if seed < 3:
            made.listed[made.name()] = made.image(images.jpeg(images.picture(seed)))
            made.listed[made.name()] = made.image(images.near_copy(images.picture(seed)))
    made.write()
    return made


def run(spark: SparkSession, folder: Folder, lake: Path) -> dict[str, list[lakes.Row]]:
    lakes.ran(spark, "run", folder.manifest, "--lake", lake, "--set", "catalog.max_removed_share=1")
    return lakes.snapshot(lake, lakes.relative_to(folder.root), only=TABLES)


def clusters_without_a_rest(lake: Path) -> list[int]:
    """Clusters of which all members are to be removed."""
    removed = {row["image_id"] for row in lakes.rows(lake, "issues") if row["suggestion"] == "remove"}
    members: dict[int, set[int]] = {}
    for row in lakes.rows(lake, "duplicates"):
        members.setdefault(row["cluster_id"], set()).add(row["image_id"])
    return [cluster for cluster, of_it in members.items() if of_it <= removed]


def compare(spark: SparkSession, folder: Folder, lake: Path, fresh: Path) -> None:
    """A run of the changed folder on the lake makes what a run on no lake makes."""
    folder.write()
    found = run(spark, folder, lake)
    assert clusters_without_a_rest(lake) == []
    lakes.assert_same(run(spark, folder, fresh), found)
    shutil.rmtree(fresh)


def test_other_times(spark: SparkSession, folder: Folder, tmp_path: Path) -> None:
    """Catches a keeper that was the oldest once: no image is read again, so no vector and no hash changes."""
    before = {row[0]: row for row in run(spark, folder, tmp_path / "lake")["duplicates"]}
    folder.swap_times()
    compare(spark, folder, tmp_path / "lake", tmp_path / "fresh")
    after = {row["image_id"] for row in lakes.rows(tmp_path / "lake", "duplicates") if row["is_keeper"]}
    assert before
    assert after
    versions = lakes.versions(tmp_path / "lake")
    run(spark, folder, tmp_path / "lake")
    assert lakes.versions(tmp_path / "lake") == versions


@pytest.mark.parametrize("changes", [6, pytest.param(50, marks=pytest.mark.slow)])
def test_any_change(spark: SparkSession, folder: Folder, tmp_path: Path, changes: int) -> None:
    run(spark, folder, tmp_path / "lake")
    order = list(CHANGES) if changes > len(CHANGES) else folder.draw.sample(CHANGES, len(CHANGES))
    for number in range(changes):
        change = order[number] if number < len(order) else folder.draw.choice(CHANGES)
        change(folder)
        compare(spark, folder, tmp_path / "lake", tmp_path / f"fresh-{number}")
