"""A lake into which batches of changes are brought, and processes that end where a test wants it."""

from __future__ import annotations

import dataclasses
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs import config
from jobs.engines.base import of
from jobs.live.changes import Change, Outcome
from jobs.live.core import Core
from jobs.live.sources.looking import look
from jobs.progress import Reporter
from tests.e2e import images, lakes
from tests.e2e.conftest import LAYOUT, LONG_AGO
from udfs.stores.s3_objects import Limits

# What is usual in a lake is what the last whole run found, until the next.
FROZEN = {"scores": {"size_score"}, "issues": {"score"}, "ratings": {"percentile"}}


@dataclasses.dataclass
class Live:
    """A lake of some of the images of a folder, into which others are brought."""

    spark: SparkSession
    root: Path
    at_hand: Path
    files: dict[str, bytes]
    options: tuple[str, ...] = ("--layout", LAYOUT)  # of whole runs

    @property
    def folder(self) -> Path:
        return self.root / "in"

    @property
    def lake(self) -> Path:
        return self.root / "lake"

    def write(self, names: list[str]) -> list[Change]:
        images.write(self.folder, {name: self.files[name] for name in names})
        for name in names:
            os.utime(self.folder / name, (LONG_AGO, LONG_AGO))
        return [Change(str(self.folder / name)) for name in names]

    def remove(self, names: list[str]) -> list[Change]:
        for name in names:
            (self.folder / name).unlink()
        return [Change(str(self.folder / name), removed=True) for name in names]

    def core(self, *settings: str) -> Core:
        return Core(str(self.lake), config.load((), settings), Reporter(), of(self.spark), at_hand=self.at_hand)

    def bring(self, changes: list[Change]) -> Outcome:
        core = self.core()
        looked = look([change.uri for change in changes], Limits())
        assert not looked.faults
        try:
            return core.bring(looked.changes)
        finally:
            core.close()

    def run(self, name: str = "lake") -> None:
        """A whole run."""
        lakes.ran(self.spark, "run", self.folder, "--lake", self.root / name, *self.options)

    def fresh(self, name: str = "fresh") -> Path:
        self.run(name)
        return self.root / name


def begun(spark: SparkSession, root: Path, *options: str) -> Live:
    """A lake of two thirds of images.labelled_lake, drawn by a seed. options: of whole runs, beside the layout."""
    files = {name: data for name, data in images.labelled_lake().items() if not name.endswith(".txt")}
    names = sorted(files)
    random.Random(1).shuffle(names)
    live = Live(spark, root, root / "at-hand", {name: files[name] for name in names}, ("--layout", LAYOUT, *options))
    live.write(names[: 2 * len(names) // 3])
    live.run()
    return live


def arriving(live: Live) -> list[str]:
    """The names of the other third."""
    names = list(live.files)
    return names[2 * len(names) // 3 :]


class Killed(BaseException):
    """Stands for the end of the process."""


def dies_at(monkeypatch: pytest.MonkeyPatch, where: object, name: str, call: int, after: bool) -> None:
    """Lets the so-many-th call of a function be the last of the process, done or not."""
    real: Callable[..., object] = getattr(where, name)
    left = [call]

    def dying(*given: object, **named: object) -> object:
        left[0] -= 1
        if left[0] == 0 and not after:
            raise Killed
        found = real(*given, **named)
        if left[0] == 0:
            raise Killed
        return found

    monkeypatch.setattr(where, name, dying)
