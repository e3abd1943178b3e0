"""Catches a lake that batches of changes made into something else than a fresh lake of the same images would be."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from jobs import config
from jobs.engines import delta_log, journal
from jobs.engines.base import of
from jobs.errors import ConfigError, LakeBusyError, LakeError
from jobs.lease import acquire
from jobs.live.changes import Change
from jobs.live.core import Core
from jobs.live.known import Known
from jobs.progress import Reporter
from tests import live_compare
from tests.e2e import images, lakes
from tests.e2e.live_lake import FROZEN, Killed, Live, arriving, begun, dies_at


@pytest.fixture
def live(spark: SparkSession, tmp_path: Path) -> Iterator[Live]:
    found = begun(spark, tmp_path)
    yield found
    shutil.rmtree(found.at_hand, ignore_errors=True)


def test_batches_make_what_a_fresh_lake_is(live: Live) -> None:
    """Anything that a batch forgets: a copy's representative, an orphan's list, a cluster that falls apart, a leak."""
    late = arriving(live)
    first = live.bring(live.write(late[::2]))
    assert (first.batch, first.added, first.same) == (0, len(late[::2]), 0)
    old = [name for name in live.files if (live.folder / name).exists() and name.endswith(".jpg")]
    gone, turned, source = old[:3], old[3:5], old[7]
    for name in turned:
        live.files[name] = live.files[source]
    second = live.bring([*live.write([*late[1::2], *turned]), *live.remove(gone)])
    assert (second.batch, second.added, second.changed, second.removed) == (1, len(late[1::2]), 2, 3)
    assert live_compare.differences(live.lake, live.fresh(), FROZEN) == {}
    again = live.bring([Change(str(live.folder / name)) for name in old[3:]])
    assert (again.batch, again.same) == (None, len(old[3:]))
    live.run()
    assert live_compare.differences(live.lake, live.root / "fresh") == {}


def test_what_is_no_image_or_of_no_input_changes_nothing_else(live: Live, tmp_path: Path) -> None:
    """A picture from elsewhere in the lake, an unknown one that is removed, or a broken file that stops the batch."""
    elsewhere = images.write(tmp_path / "elsewhere", {"a.jpg": images.jpeg(images.picture(99))})
    live.files["train/cat/broken.jpg"] = b"no image at all"
    changes = [
        Change(str(elsewhere / "a.jpg")), Change(str(live.folder / "nobody.jpg"), removed=True),
        Change(str(live.folder / "vanished.jpg")), *live.write(["train/cat/broken.jpg"]),
    ]  # fmt: skip
    outcome = live.bring(changes)
    assert (outcome.added, outcome.failed, outcome.left_out, outcome.same) == (1, 1, 1, 2)
    assert live_compare.differences(live.lake, live.fresh(), FROZEN) == {}


@pytest.mark.parametrize(
    ("where", "name", "call", "after"),
    [
        (journal, "write", 1, False),
        (journal, "write", 1, True),
        (delta_log, "make", 1, False),
        (delta_log, "make", 3, True),
        (delta_log, "make", 9, False),
        (journal, "forget", 1, False),
        (journal, "forget", 1, True),
    ],
)
def test_a_batch_that_was_killed_is_brought_once(
    live: Live, monkeypatch: pytest.MonkeyPatch, where: object, name: str, call: int, after: bool
) -> None:
    """Rows that are lost, or stand twice, because a process ended between two commits."""
    changes = live.write(arriving(live))
    with monkeypatch.context() as patch:
        dies_at(patch, where, name, call, after)
        with pytest.raises(Killed):
            live.bring(changes)
    outcome = live.bring(changes)
    assert outcome.added in (0, len(changes))
    assert live_compare.differences(live.lake, live.fresh(), FROZEN) == {}
    runs = [row for row in lakes.rows(live.lake, "runs") if row["job"] == "watch"]
    assert len(runs) == 1


def test_a_whole_run_settles_what_a_killed_batch_has_left(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that reads tables of which half have the batch."""
    changes = live.write(arriving(live))
    with monkeypatch.context() as patch:
        dies_at(patch, delta_log, "make", 4, after=True)
        with pytest.raises(Killed):
            live.bring(changes)
    live.run()
    assert live_compare.differences(live.lake, live.fresh()) == {}


def test_refusals_are_one_line(live: Live, tmp_path: Path) -> None:
    """A batch that mixes results of other settings in, or writes beside another run."""
    changes = live.write(arriving(live)[:1])
    with pytest.raises(ConfigError, match=r"clusters ran with other settings \(keeper_slack\)"):
        live.core("clusters.keeper_slack=0.2").bring(changes)
    with acquire(str(live.lake), "another", 60), pytest.raises(LakeBusyError, match="another"):
        live.core().bring(changes)
    empty = tmp_path / "empty"
    lakes.ran(live.spark, "catalog", live.folder, "--lake", empty)
    core = Core(str(empty), config.load(), Reporter(), of(live.spark), at_hand=tmp_path / "other")
    with pytest.raises(LakeError, match="imagesieve run"):
        core.bring(changes)


def test_small_files_are_joined_and_nothing_changes(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lake of which each batch leaves files until none can be read, or what is at hand is read anew after each."""
    monkeypatch.setattr("jobs.live.core.JOIN_EACH", 1)
    monkeypatch.setattr("jobs.live.core.JOIN_FILES", 2)
    made: list[str] = []
    monkeypatch.setattr("jobs.live.known.Known.make", _counting(made))
    late = arriving(live)
    for name in late:
        live.bring(live.write([name]))
    assert len(made) == 1
    assert {name: len(lakes.table(live.lake, name).file_uris()) for name in ("images", "neighbours", "scores")} == {
        "images": 1, "neighbours": 1, "scores": 1,
    }  # fmt: skip
    assert live_compare.differences(live.lake, live.fresh(), FROZEN) == {}
    live.run()
    assert live_compare.differences(live.lake, live.root / "fresh") == {}


def _counting(made: list[str]) -> Callable[..., None]:
    """Known.make, which notes its calls."""
    make = Known.make

    def counted(known: Known, *given: Any) -> None:
        made.append("made")
        make(known, *given)

    return counted
