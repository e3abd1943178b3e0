"""Applying: the clean set as a folder of its own, or what is left out moved away, with a journal that takes it back.

Only files in folders are touched: a member of a shard and an object in S3 are counted. Nothing is ever written over a
file that is there. The journal is written before each step, so that a run that was ended in the middle can be gone on
with, and taken back."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from jobs.cleaning.files import staged
from jobs.errors import ConfigError, InputError
from udfs.stores import uris

COPY, LINK, MOVE = "copy", "link", "move"
HOW = (COPY, LINK, MOVE)
JOURNAL = "imagesieve-journal.jsonl"
PLACED = pa.schema([(name, pa.string()) for name in ("uri", "shard", "split", "label", "issue")])
LONGEST = 100  # characters of the name of a folder or a file
_SAFE = frozenset("-_.,()[]+=@ ")


@dataclass(frozen=True)
class Applied:
    """done: files. elsewhere: images that are no files of their own in a folder. there: files that were there."""

    done: int
    elsewhere: int
    there: int


def check_folder(folder: Path, how: str, lake: str) -> None:
    """Raises ConfigError where a folder cannot take the files: it is the lake's, or holds what is not of a journal."""
    resolved = folder.resolve()
    if not uris.is_s3(lake):
        own = Path(os.fsdecode(uris.local_path(lake))).resolve()
        if resolved == own or own in resolved.parents:
            raise ConfigError(f"--to {folder}: lies in the lake: name another folder")
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--to {folder}: is no folder")
    if folder.exists() and any(folder.iterdir()) and not (folder / JOURNAL).exists():
        raise ConfigError(f"--to {folder}: is not empty, and no journal of imagesieve lies in it: name another folder")
    if (folder / JOURNAL).exists() and (first := next(_entries(folder), None)) and first["how"] != how:
        raise ConfigError(f"--to {folder}: was made by --apply {first['how']}: undo that first, or name another folder")


def apply(rows: str, how: str, folder: Path) -> Applied:
    """Copies or links what is kept into folder/[split/][label/]name, or moves what is left out into
    folder/issue/name. rows: staged, with PLACED. See check_folder. Raises InputError."""
    folder.mkdir(parents=True, exist_ok=True)
    known = {entry["from"]: entry["to"] for entry in _entries(folder)}
    taken = set(known.values())
    done = elsewhere = there = 0
    _cut_off(folder / JOURNAL)
    with (folder / JOURNAL).open("a", encoding="utf-8") as journal:
        for table in staged(rows, PLACED):
            for row in table.to_pylist():
                if row["shard"] is not None or uris.is_s3(row["uri"]):
                    elsewhere += 1
                    continue
                source = Path(os.fsdecode(uris.local_path(row["uri"])))
                target = Path(known[str(source)]) if str(source) in known else _target(folder, row, source, how, taken)
                taken.add(str(target))
                if str(source) not in known:
                    entry = {"how": how, "from": str(source), "to": str(target)}
                    journal.write(json.dumps(entry) + "\n")
                    journal.flush()
                if target.exists():
                    there += 1
                else:
                    done += _placed(source, target, how)
    return Applied(done, elsewhere, there)


def undo(folder: Path) -> tuple[int, list[str]]:
    """Takes back what a journal says, the last first: moved files go back, copies and links that nobody has changed
    go. Returns how many, and what could not be, in lines. Raises InputError where there is no journal."""
    if not (folder / JOURNAL).exists():
        raise InputError(f"{folder}: no journal of imagesieve lies in it")
    done, left = 0, []
    for entry in reversed(list(_entries(folder))):
        source, target = Path(entry["from"]), Path(entry["to"])
        if not _is_inside(target, folder):
            raise InputError(f"{folder / JOURNAL}: {target} is outside the folder; nothing more is taken back")
        if not target.exists() and not target.is_symlink():
            continue
        if entry["how"] == MOVE:
            if source.exists():
                left.append(f"{target}: {source} is there again")
                continue
            source.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(target, source)
        elif _same(source, target):
            target.unlink()
        else:
            left.append(f"{target}: it was changed, or {source} was")
            continue
        done += 1
        _remove_empty(target.parent, folder)
    if not left:
        (folder / JOURNAL).unlink()
        _remove_empty(folder, folder)
    return done, left


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        prog="imagesieve unapply",
        allow_abbrev=False,
        description="Takes back what `imagesieve clean --apply` has done.",
    )
    options.add_argument("folder", metavar="FOLDER", help="that of --to")
    return options


def main(argv: Sequence[str]) -> int:
    """Raises RunError."""
    folder = Path(parser().parse_args(argv).folder).absolute()
    done, left = undo(folder)
    sys.stdout.write("".join(f"{line}\n" for line in left))
    sys.stdout.write(f"{done:,} taken back, {len(left):,} left as they are\n")
    return 1 if left else 0


def _placed(source: Path, target: Path, how: str) -> int:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if how == LINK:
            target.symlink_to(source)
        elif how == COPY:
            with source.open("rb") as given, target.open("xb") as made:
                shutil.copyfileobj(given, made)
            shutil.copystat(source, target)
        else:
            shutil.move(source, target)
    except OSError as error:
        told = f"{source}: cannot be brought to {target} ({error.strerror})"
        raise InputError(f"{told}; the same command goes on, `imagesieve unapply` takes it back") from error
    return 1


def _target(folder: Path, row: dict[str, Any], source: Path, how: str, taken: set[str]) -> Path:
    """A place that is free: not there, and no other image's."""
    parts = [row["issue"] or "left out"] if how == MOVE else [row["split"], row["label"]]
    place = folder.joinpath(*(safe_name(part) for part in parts if part))
    stem, ending = safe_name(source.stem), safe_name(source.suffix) if source.suffix else ""
    number = 1
    while True:
        found = place / (f"{stem}{ending}" if number == 1 else f"{stem}-{number}{ending}")
        if str(found) not in taken and not found.exists() and not found.is_symlink():
            return found
        number += 1


def safe_name(text: str) -> str:
    """A text as the name of a file: labels come from anywhere."""
    kept = "".join(c if c.isalnum() or c in _SAFE else "_" for c in text)[:LONGEST].strip(" ")
    return kept if kept.strip(".") else f"_{kept}"


def _entries(folder: Path) -> Iterator[dict[str, str]]:
    """Of the journal. A last line that was not written whole does not count. Raises InputError."""
    file = folder / JOURNAL
    if not file.exists():
        return
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.endswith("\n"):
                return
            try:
                entry = json.loads(line)
                found = {name: str(entry[name]) for name in ("how", "from", "to")}
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(f"{file}: line {number} cannot be read ({error})") from error
            if found["how"] not in HOW:
                raise InputError(f"{file}: line {number} says {found['how']!r}")
            yield found


def _cut_off(journal: Path) -> None:
    """Takes away a last line that was not written whole."""
    if journal.exists():
        text = journal.read_bytes()
        if not text.endswith(b"\n"):
            journal.write_bytes(text[: text.rfind(b"\n") + 1])


def _same(source: Path, target: Path) -> bool:
    """Whether a copy or a link is still what was made."""
    if target.is_symlink():
        return target.readlink() == source
    try:
        one, two = source.stat(), target.stat()
    except FileNotFoundError:
        return False
    return (one.st_size, one.st_mtime_ns) == (two.st_size, two.st_mtime_ns)


def _is_inside(target: Path, folder: Path) -> bool:
    return folder.resolve() in target.parent.resolve().parents or target.parent.resolve() == folder.resolve()


def _remove_empty(place: Path, folder: Path) -> None:
    """Removes folders that are empty now, up to the one that was given."""
    while place.exists() and not any(place.iterdir()) and (place == folder or folder in place.parents):
        place.rmdir()
        place = place.parent
