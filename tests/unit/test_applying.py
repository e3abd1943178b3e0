"""Catches a file that is lost, written over, brought outside the folder, or that cannot be brought back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.cleaning import applying
from jobs.cleaning.applying import JOURNAL, Applied, apply, check_folder, undo
from jobs.errors import ConfigError, InputError

FILES = {"a/one.jpg": "1", "a/two.jpg": "22", "b/one.jpg": "333", "b/.hidden": "4444"}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def staged(tmp_path: Path, rows: list[dict[str, Any]]) -> str:
    folder = tmp_path / "staged"
    folder.mkdir(exist_ok=True)
    whole = [{"shard": None, "split": None, "label": None, "issue": None, **row} for row in rows]
    pq.write_table(pa.Table.from_pylist(whole, schema=applying.PLACED), folder / "0.parquet")
    return str(folder)


def contents(folder: Path) -> dict[str, str]:
    return {str(f.relative_to(folder)): f.read_text(encoding="utf-8") for f in folder.rglob("*") if f.is_file()}


@pytest.mark.parametrize("how", ["copy", "link"])
def test_a_tree_of_what_is_kept_and_back(files: Path, tmp_path: Path, how: str) -> None:
    """Two images of one name of which one is lost, a member of a shard taken for a file, and files left behind."""
    rows = [{"uri": str(files / name), "split": "train", "label": "cat"} for name in FILES]
    rows += [{"uri": "s3://bucket/x.jpg"}, {"uri": "/x.tar!/y.jpg", "shard": "/x.tar"}]
    out = tmp_path / "out"
    assert apply(staged(tmp_path, rows), how, out) == Applied(4, 2, 0)
    made = contents(out / "train" / "cat")
    assert made == {"one.jpg": "1", "two.jpg": "22", "one-2.jpg": "333", ".hidden": "4444"}
    assert (out / "train" / "cat" / "one.jpg").is_symlink() == (how == "link")
    assert apply(staged(tmp_path, rows), how, out) == Applied(0, 2, 4)
    assert undo(out) == (4, [])
    assert not out.exists()
    assert contents(files) == FILES


def test_moved_and_back(files: Path, tmp_path: Path) -> None:
    """A moved image that does not come back to its place; one whose place was taken, which is lost with it."""
    rows = [{"uri": str(files / name), "issue": "near_duplicate"} for name in ("a/one.jpg", "b/one.jpg")]
    out = tmp_path / "out"
    assert apply(staged(tmp_path, rows), "move", out) == Applied(2, 0, 0)
    assert contents(out / "near_duplicate") == {"one.jpg": "1", "one-2.jpg": "333"}
    assert contents(files) == {name: text for name, text in FILES.items() if not name.endswith("one.jpg")}
    (files / "a/one.jpg").write_text("new", encoding="utf-8")
    done, left = undo(out)
    assert (done, len(left)) == (1, 1)
    assert (files / "a/one.jpg").read_text(encoding="utf-8") == "new"
    (files / "a/one.jpg").unlink()
    assert undo(out) == (1, [])
    assert contents(files) == FILES


def test_ended_in_the_middle(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was killed and does all again under other names, or cannot be taken back."""
    rows = staged(tmp_path, [{"uri": str(files / name), "issue": "dark"} for name in FILES])
    out, calls, really = tmp_path / "out", 0, applying._placed

    def placed(source: Path, target: Path, how: str) -> int:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return really(source, target, how)

    monkeypatch.setattr(applying, "_placed", placed)
    with pytest.raises(KeyboardInterrupt):
        apply(rows, "move", out)
    with (out / JOURNAL).open("a", encoding="utf-8") as journal:
        journal.write('{"how": "mo')  # a line that was cut off
    monkeypatch.setattr(applying, "_placed", really)
    assert apply(rows, "move", out).done == 2
    assert len(contents(out)) == 1 + len(FILES)
    assert undo(out) == (4, [])
    assert contents(files) == FILES


@pytest.mark.parametrize("label", ["../../up", "/etc", "..", ".", "a/b", "a\0b", "x" * 300, "<b>&", " "])
def test_hostile_labels_stay_inside(files: Path, tmp_path: Path, label: str) -> None:
    """A label that leads out of the folder, or is no name of a file."""
    out = tmp_path / "deep" / "out"
    assert apply(staged(tmp_path, [{"uri": str(files / "a/one.jpg"), "label": label}]), "copy", out).done == 1
    (made,) = (file for file in tmp_path.rglob("one.jpg") if file.parent.parent != files)
    assert made.parent.parent == out
    assert undo(out)[0] == 1


def test_what_was_changed_stays(files: Path, tmp_path: Path) -> None:
    """A copy that a person has worked on and that goes with the others."""
    out = tmp_path / "out"
    apply(staged(tmp_path, [{"uri": str(files / name)} for name in FILES]), "copy", out)
    (out / "two.jpg").write_text("edited", encoding="utf-8")
    done, left = undo(out)
    assert (done, len(left)) == (3, 1)
    assert (out / "two.jpg").read_text(encoding="utf-8") == "edited"


def test_a_journal_of_another_place_moves_nothing(files: Path, tmp_path: Path) -> None:
    """A journal that was written by hand and names a file elsewhere."""
    out = tmp_path / "out"
    out.mkdir()
    victim = files / "a/one.jpg"
    (out / JOURNAL).write_text(f'{{"how": "move", "from": "{tmp_path}/x", "to": "{victim}"}}\n', encoding="utf-8")
    with pytest.raises(InputError, match="outside"):
        undo(out)
    assert victim.exists()


def test_folders_that_cannot_take_it(files: Path, tmp_path: Path) -> None:
    """A folder that holds other things, is the lake's, or is of another way."""
    with pytest.raises(ConfigError, match="is not empty"):
        check_folder(files, "copy", "/lake")
    with pytest.raises(ConfigError, match="lies in the lake"):
        check_folder(tmp_path / "lake" / "out", "copy", str(tmp_path / "lake"))
    with pytest.raises(ConfigError, match="is no folder"):
        check_folder(files / "a/one.jpg", "copy", "/lake")
    apply(staged(tmp_path, [{"uri": str(files / "a/one.jpg")}]), "copy", tmp_path / "out")
    check_folder(tmp_path / "out", "copy", "/lake")
    with pytest.raises(ConfigError, match="was made by --apply copy"):
        check_folder(tmp_path / "out", "move", "/lake")
    with pytest.raises(InputError, match="no journal"):
        undo(tmp_path / "nothing")
