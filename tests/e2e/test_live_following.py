"""Catches concepts, ratings and albums that a batch tells otherwise than a whole run, forgets, or tells twice."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imagesieve
import pytest
from PIL import Image
from pyspark.sql import SparkSession

from jobs.albums.runs import runs_of
from jobs.engines import delta_files, delta_log, journal
from jobs.lakes import mark
from jobs.live import albums
from jobs.rating import store
from tests import heads, live_compare
from tests.e2e import images, lakes
from tests.e2e.live_lake import FROZEN, Killed, Live, arriving, begun, dies_at

FOLLOWING = ("concepts", "ratings", "albums")
OWNER = ("--owner", "*/{owner}/*")  # whose label it is


@pytest.fixture
def live(spark: SparkSession, tmp_path: Path) -> Iterator[Live]:
    """A lake with owners and two ratings."""
    for name in ("lake", "fresh"):
        mark(str(tmp_path / name))
        for one in (heads.seeded("crisp@1"), heads.seeded("dull@2", seed=6)):
            store.write(str(tmp_path / name), one)
    found = begun(spark, tmp_path, *OWNER)
    yield found
    shutil.rmtree(found.at_hand, ignore_errors=True)


def taken(at: str) -> bytes:
    """A JPEG file whose camera tells when it was taken."""
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = at
    sink = io.BytesIO()
    Image.fromarray(images.picture(90)).save(sink, "JPEG", exif=exif)
    return sink.getvalue()


def told(lake: Path) -> dict[str, Any]:
    return {name: live_compare.rows(lake, name) for name in FOLLOWING}


def whole_run(live: Live) -> dict[str, dict[str, Any]]:
    """The counts of the stages of a whole run that had something to look at."""
    before = {row["run_id"] for row in lakes.rows(live.lake, "runs")}
    live.run()
    rows = [row for row in lakes.rows(live.lake, "runs") if row["run_id"] not in before]
    return {row["job"]: json.loads(row["counts"]) for row in rows}


def test_a_batch_tells_what_a_whole_run_would(live: Live) -> None:
    """A concept, a score or an album's picture that waits for the next whole run, is of what was there before, or is
    told by that run otherwise."""
    late = ["train/cat/taken.jpg", *arriving(live)]
    live.files[late[0]] = taken("2024:05:06 07:08:09")
    live.bring(live.write(late[::2]))
    old = [name for name in live.files if (live.folder / name).exists() and name.endswith(".jpg")]
    gone, turned = old[:3], old[3:6]
    for name in turned[:2]:
        live.files[name] = live.files[old[7]]
    live.files[turned[2]] = b"no image any more"
    outcome = live.bring([*live.write([*late[1::2], *turned]), *live.remove(gone)])
    assert (outcome.added, outcome.changed, outcome.removed) == (len(late[1::2]), 3, 3)
    now = told(live.lake)
    assert all(now[name] for name in FOLLOWING)
    assert [key for key, row in now["albums"].items() if row["by_camera"]] == [("cat", str(live.folder / late[0]))]
    assert live_compare.differences(live.lake, live.fresh(), FROZEN) == {}
    counts = whole_run(live)
    assert (counts["albums"]["changed"], counts["albums"]["gone"]) == (0, 0)
    assert counts["rate"]["failed"] == 0
    assert told(live.lake) == now


def test_the_album_of_an_owner_has_the_picture_at_once(live: Live) -> None:
    """An album that stays open and does not see what came, or shows what went."""
    lake = imagesieve.open(live.lake)
    before = set(lake.group("cat").uris)
    came = [name for name in arriving(live) if "/cat/" in name]
    live.bring(live.write(came))
    usable = {str(live.folder / name) for name in came}
    assert set(lake.group("cat").uris) == before | usable
    live.bring(live.remove([str(Path(next(iter(before))).relative_to(live.folder))]))
    assert len(lake.group("cat").uris) == len(before | usable) - 1
    live.files["train/somebody else/new.jpg"] = images.jpeg(images.picture(77))
    live.bring(live.write(["train/somebody else/new.jpg"]))
    assert len(lake.group("somebody else").uris) == 1


@pytest.mark.parametrize(
    ("where", "name", "call", "after"),
    [
        (journal, "write", 1, False),
        (delta_files, "commit", 1, False),
        (delta_files, "commit", 1, True),
        (delta_log, "make", 14, True),
        (journal, "forget", 1, False),
    ],
)
def test_a_batch_that_was_killed_is_followed_once(
    live: Live, monkeypatch: pytest.MonkeyPatch, where: object, name: str, call: int, after: bool
) -> None:
    """An album that has files of a batch which does not count, or lacks those of one that does; a rating twice."""
    old = [name for name in live.files if (live.folder / name).exists() and name.endswith(".jpg")]
    changes = [*live.write(arriving(live)), *live.remove(old[:2])]
    with monkeypatch.context() as patch:
        dies_at(patch, where, name, call, after)
        with pytest.raises(Killed):
            live.bring(changes)
    live.bring(changes)
    assert live_compare.differences(live.lake, live.fresh(), FROZEN) == {}
    files = {path.name for path in (live.lake / "albums").glob("run-*/*.parquet")}
    assert {Path(name).name for name in delta_files.names_of(str(live.lake / "albums"))} <= files


def test_small_runs_are_joined_by_batches(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that pile up until an album is read from all of them; batches that write the whole table again; a whole run
    that leaves what has piled up."""
    monkeypatch.setattr(albums, "MOST_BYTES", 0)
    late = [name for name in arriving(live) if name.endswith(".jpg")]
    assert len(late) >= 5
    for name in late[:4]:
        live.bring(live.write([name]))
    table = str(live.lake / "albums")
    assert len(runs_of(table)) == 5
    first = set(runs_of(table)[1])
    monkeypatch.setattr(albums, "MOST_BYTES", sum(sum(files.values()) for files in list(runs_of(table).values())[1:]))
    live.bring([*live.write(late[4:5]), *live.remove(late[:1])])
    assert set(runs_of(table)) == {1, 6}
    assert set(runs_of(table)[1]) == first
    now = told(live.lake)
    assert live_compare.differences(live.lake, live.fresh(), FROZEN) == {}
    assert whole_run(live)["albums"]["changed"] == 0
    assert told(live.lake) == now


def test_a_whole_run_joins_what_has_piled_up(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """Albums that are read from more runs from week to week."""
    monkeypatch.setattr(albums, "MOST_BYTES", 0)
    for name in arriving(live)[:4]:
        live.bring(live.write([name]))
    now = told(live.lake)
    assert len(runs_of(str(live.lake / "albums"))) >= 4
    counts = whole_run(live)["albums"]
    assert (counts["changed"], counts["gone"]) == (0, 0)
    assert counts["written"] > 0
    assert len(runs_of(str(live.lake / "albums"))) == 2
    assert told(live.lake) == now


def test_what_is_gone_does_not_come_back_from_an_old_run(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run whose pictures all changed later, and which a whole run leaves when it joins all others."""
    monkeypatch.setattr(albums, "MOST_BYTES", 0)
    old = [name for name in live.files if (live.folder / name).exists()]
    for number, name in enumerate(old):
        live.files[name] = images.jpeg(images.picture(200 + number))
    for part in (old[::2], old[1::2]):
        assert live.bring(live.write(part)).changed == len(part)
    live.bring(live.remove(old[:3]))
    now = told(live.lake)
    assert len(now["albums"]) == len(old) - 3
    assert len(runs_of(str(live.lake / "albums"))) == 4
    assert whole_run(live)["albums"]["changed"] == 0
    assert len(runs_of(str(live.lake / "albums"))) == 1
    assert told(live.lake) == now


def test_what_a_lake_has_not_is_not_begun(live: Live) -> None:
    """Ratings by a head that no whole run has scored, by one that has gone, or by a network; concepts without any."""
    store.write(str(live.lake), heads.seeded("new@1", seed=9))
    store.remove(str(live.lake), "dull@2")
    late = arriving(live)
    live.bring(live.write(late))
    rows = lakes.rows(live.lake, "ratings")
    uri = {row["image_id"]: row["uri"] for row in lakes.rows(live.lake, "images")}
    new = {str(live.folder / name) for name in late}
    assert {row["rating"] for row in rows if uri[row["image_id"]] in new} == {"crisp@1"}
    live.run()
    ratings = {row["rating"] for row in lakes.rows(live.lake, "ratings")}
    assert ratings == {"crisp@1", "new@1"}
