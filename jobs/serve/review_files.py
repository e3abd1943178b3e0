"""Review files: decisions out of a lake and into one: `imagesieve review`."""

from __future__ import annotations

import argparse
import datetime
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.engines import delta_log
from jobs.errors import ConfigError, InputError
from jobs.lakes import existing, named
from jobs.reviews import formats
from jobs.reviews.matching import Images
from jobs.reviews.rows import Decided, FormatError, Given, in_words
from jobs.serve import gallery
from jobs.serve.batches import Batch, DecisionError, Wanted, account
from jobs.serve.columns import Coded, Columns
from jobs.serve.decisions import Decisions
from jobs.serve.facets.states import States
from jobs.serve.filters import Filter, FilterError
from jobs.serve.views import Views
from jobs.tables import DECISIONS, KEEP, RELABEL
from udfs.stores import uris

FAULTS_SHOWN = 3


def exported(lake: str, file: Path, form: str | None = None, where: str | None = None) -> int:
    """Writes a row an image and returns how many: of what is decided now, or of all images of a view, and for Label
    Studio also of those with a finding. form: one of formats.NAMES, else by the file's ending. where: filters as the
    app has them in its address. Raises RunError."""
    write = formats.to_write(file, form)
    columns, decisions = _opened(lake)
    draft = file.with_name(f".{file.name}.draft")
    try:
        effective, batches = decisions.effective()
        if where is None:
            chosen = effective >= 0
            if form == "label-studio":
                chosen = chosen | (columns.coded("issue").codes > 0)
            rows: NDArray[Any] = np.flatnonzero(chosen)
        else:
            rows = _view(lake, columns, decisions, where)
        count = write(draft, lambda: _decided(columns, rows.tolist(), effective, batches))
        os.replace(draft, file)  # noqa: PTH105 (in one step)
    finally:
        draft.unlink(missing_ok=True)
        decisions.close()
    return count


def imported(lake: str, file: Path, by: str, form: str | None = None) -> int:
    """Adds the decisions of a file to the lake's, in one commit, and returns how many. form: one of formats.NAMES, else
    by the file. All faults are told before anything is written. Raises RunError."""
    try:
        given = formats.read(file, form)
    except FormatError as error:
        raise InputError(f"{file}: {error}") from error
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror or error}") from error
    columns, decisions = _opened(lake)
    try:
        images = Images(columns, given)
        wanted: dict[tuple[str, str | None, str | None], list[int]] = {}
        seen: dict[int, tuple[str, str | None, str | None]] = {}
        faults = []
        for each in given:
            row = images.row(each)
            if isinstance(row, str):
                faults.append(f"{each.place}: {row}")
                continue
            own = columns.coded("label").of(row)
            if len(each.labels) > 1 and each.labels != own:
                told = in_words(each.labels[:FAULTS_SHOWN])
                faults.append(f"{each.place}: several labels ({told}) that are not those of the image: give one")
                continue
            decision, label = _meant(each, own)
            if decision not in DECISIONS or (decision == RELABEL) != bool(label):
                faults.append(f"{each.place}: decision {decision[:100]!r}, label {(label or '')[:100]!r}")
            elif seen.setdefault(row, what := (decision, label, each.note or None)) != what:
                faults.append(f"{each.place}: is decided in another way before ({columns.uri(row)[:200]})")
            else:
                wanted.setdefault(what, []).append(int(columns.id[row]))
        if faults:
            more = f" and {len(faults) - FAULTS_SHOWN} more" if len(faults) > FAULTS_SHOWN else ""
            raise InputError(f"{file}: {'; '.join(faults[:FAULTS_SHOWN])}{more}; nothing was written")
        decisions.decide_all([Wanted(ids, *what) for what, ids in wanted.items()], by)
    except DecisionError as error:
        raise InputError(f"{file}: {error}; nothing was written") from error
    finally:
        decisions.close()
    return len(given)


def _meant(given: Given, own: tuple[str, ...]) -> tuple[str, str | None]:
    """Decision and label. own: the label that the image has, or several."""
    if given.decision is not None:
        return given.decision, given.label or None
    return (KEEP, None) if given.labels or given.label == in_words(own) else (RELABEL, given.label)


def _opened(lake: str) -> tuple[Columns, Decisions]:
    columns = gallery.opened(lake, gallery.versions(existing(lake)))
    return columns, Decisions(lake, columns.images, columns.rows_of_ids)


def _view(lake: str, columns: Columns, decisions: Decisions, where: str) -> NDArray[Any]:
    def search(wanted: tuple[str, str]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        raise FilterError(f"{wanted[0]}: review takes no searches")

    decided: Coded = decisions.column()
    try:
        changed = States(lake, delta_log.version(uris.join(lake, "issues"))).changed
        return Views(columns, lambda: (decided, 0), search, changed).order(Filter.of_query(where))
    except FilterError as error:
        raise InputError(f"--where: {error}") from error


def _decided(
    columns: Columns, rows: list[int], effective: NDArray[np.int32], batches: list[Batch]
) -> Iterator[Decided]:
    for row in rows:
        place = int(effective[row])
        last = batches[place] if place >= 0 else None
        yield Decided(
            columns.uri(row), int(columns.id[row]), int(columns.numbers("width")[row]),
            int(columns.numbers("height")[row]), columns.coded("label").of(row), columns.coded("issue").of(row),
            _text(columns, "suggestion", row), _text(columns, "suggested", row),
            *((last.decision, last.label, last.note, last.by, last.at.astimezone(datetime.UTC).isoformat())
              if last else ()),
        )  # fmt: skip


def _text(columns: Columns, name: str, row: int) -> str | None:
    return "".join(columns.coded(name).of(row)) or None


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        prog="imagesieve review", allow_abbrev=False, description="Decisions of people, out of a lake and into one."
    )
    options.add_argument("what", choices=("export", "import"))
    options.add_argument("file", metavar="FILE")
    options.add_argument("--lake", required=True, metavar="URI", help="where the tables lie")
    options.add_argument(
        "--format", choices=formats.NAMES,
        help="of the file (default: by its ending; of JSON files that are imported by what they hold)",
    )  # fmt: skip
    options.add_argument(
        "--where", metavar="QUERY",
        help="export the pictures of a view, decided or not: filters, as the app has them in its address",
    )  # fmt: skip
    options.add_argument("--user", help="whose decisions imported ones are (default: the name of this account)")
    return options


def main(argv: Sequence[str]) -> int:
    """Raises RunError."""
    given = parser().parse_args(argv)
    file = Path(given.file)
    lake = named(given.lake)
    if given.what == "export":
        try:
            count = exported(lake, file, given.format, given.where)
        except OSError as error:
            raise InputError(f"{file}: {error.strerror or error}") from error
        sys.stdout.write(f"{count:,} images: {file}\n")
    else:
        if given.where is not None:
            raise ConfigError("--where: goes with export")
        count = imported(lake, file, given.user or account(), given.format)
        sys.stdout.write(f"{count:,} decisions: {lake}\n")
    return 0
