"""Review files: decisions out of a lake and into one, as CSV, Parquet or JSON lines: `imagesieve review`."""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from jobs.errors import ConfigError, InputError
from jobs.lakes import existing, named
from jobs.serve import gallery
from jobs.serve.columns import Columns
from jobs.serve.decisions import DecisionError, Decisions, account
from jobs.tables import DECISIONS, RELABEL

ENDINGS = (".csv", ".parquet", ".jsonl")
SCHEMA = pa.schema(
    [("uri", pa.string()), ("image_id", pa.int64()), ("decision", pa.string()), ("label", pa.string()),
     ("note", pa.string()), ("by", pa.string()), ("at", pa.string())]
)  # fmt: skip
MOST_BYTES = 1 << 30  # of a file to import
FAULTS_SHOWN = 3


def exported(lake: str, file: Path) -> int:
    """Writes what is decided now, a row an image, and returns how many. Raises RunError."""
    columns, decisions = _opened(lake)
    try:
        codes = decisions.column().codes
        rows = []
        for row in np.flatnonzero(codes).tolist():
            image_id = int(columns.id[row])
            last = [b for b, undone in decisions.history(image_id) if not undone and b.decision in DECISIONS][-1]
            at = last.at.astimezone(datetime.UTC).isoformat()
            rows.append({"uri": columns.uri(row), "image_id": image_id, "decision": last.decision, "label": last.label,
                         "note": last.note, "by": last.by, "at": at})  # fmt: skip
    finally:
        decisions.close()
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    if file.suffix == ".parquet":
        pq.write_table(table, file)
    elif file.suffix == ".csv":
        pacsv.write_csv(table, file)
    else:
        file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return len(rows)


def imported(lake: str, file: Path, by: str) -> int:
    """Adds the decisions of a file to the lake's, and returns how many. The file has uri or image_id, decision, and
    optionally label and note. All faults are told before anything is written. Raises RunError."""
    rows = _read(file)
    columns, decisions = _opened(lake)
    try:
        wanted: dict[tuple[str, str | None, str | None], list[int]] = {}
        faults = []
        by_uri = _ids_by_uri(columns, {row["uri"] for row in rows if row.get("uri") and row.get("image_id") is None})
        for number, row in enumerate(rows, start=1):
            image_id = row.get("image_id") if row.get("image_id") is not None else by_uri.get(str(row.get("uri")))
            decision, label, note = row.get("decision"), row.get("label") or None, row.get("note") or None
            if not isinstance(image_id, int) or image_id not in columns.rows_of([image_id]):
                faults.append(f"row {number}: no such image ({row.get('uri') or row.get('image_id')})")
            elif decision not in DECISIONS or (decision == RELABEL) != bool(label):
                faults.append(f"row {number}: decision {decision!r}, label {label!r}")
            else:
                wanted.setdefault((decision, label, note), []).append(image_id)
        if faults:
            more = f" and {len(faults) - FAULTS_SHOWN} more" if len(faults) > FAULTS_SHOWN else ""
            raise InputError(f"{file}: {'; '.join(faults[:FAULTS_SHOWN])}{more}; nothing was written")
        for (decision, label, note), ids in wanted.items():
            decisions.decide(ids, decision, by, label, note)
    except DecisionError as error:
        raise InputError(f"{file}: {error}") from error
    finally:
        decisions.close()
    return len(rows)


def _opened(lake: str) -> tuple[Columns, Decisions]:
    columns = gallery.opened(lake, gallery.versions(existing(lake)))
    return columns, Decisions(lake, columns.images, columns.rows_of_ids)


def _ids_by_uri(columns: Columns, wanted: set[str]) -> dict[str, int]:
    if not wanted:
        return {}
    return {uri: int(columns.id[row]) for row in range(columns.images) if (uri := columns.uri(row)) in wanted}


def _read(file: Path) -> list[dict[str, Any]]:
    """Raises InputError."""
    try:
        if file.stat().st_size > MOST_BYTES:
            raise InputError(f"{file}: more than {MOST_BYTES} bytes")
        if file.suffix == ".parquet":
            table = pq.read_table(file)
        elif file.suffix == ".csv":
            kinds = {name: pa.string() for name in SCHEMA.names if name != "image_id"} | {"image_id": pa.int64()}
            options = pacsv.ConvertOptions(column_types=kinds, strings_can_be_null=True)
            table = pacsv.read_csv(
                file, convert_options=options, parse_options=pacsv.ParseOptions(newlines_in_values=True)
            )
        else:
            lines = file.read_text(encoding="utf-8").splitlines()
            table = pa.Table.from_pylist([json.loads(line) for line in lines if line.strip()])
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{file}: cannot be read: {' '.join(str(error).split())[:300]}") from error
    if "decision" not in table.column_names or not {"uri", "image_id"} & set(table.column_names):
        raise InputError(f"{file}: needs the columns uri or image_id, and decision")
    rows: list[dict[str, Any]] = table.select([n for n in SCHEMA.names if n in table.column_names]).to_pylist()
    return rows


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        prog="imagesieve review", allow_abbrev=False, description="Decisions of people, out of a lake and into one."
    )
    options.add_argument("what", choices=("export", "import"))
    options.add_argument("file", metavar="FILE", help=f"one of {', '.join(ENDINGS)}")
    options.add_argument("--lake", required=True, metavar="URI", help="where the tables lie")
    options.add_argument("--user", help="whose decisions imported ones are (default: the name of this account)")
    return options


def main(argv: Sequence[str]) -> int:
    """Raises RunError."""
    given = parser().parse_args(argv)
    file = Path(given.file)
    if file.suffix not in ENDINGS:
        raise ConfigError(f"FILE: must end in {', '.join(ENDINGS)}, got {given.file!r}")
    lake = named(given.lake)
    if given.what == "export":
        try:
            count = exported(lake, file)
        except OSError as error:
            raise InputError(f"{file}: {error.strerror}") from error
        sys.stdout.write(f"{count:,} decisions: {file}\n")
    else:
        count = imported(lake, file, given.user or account())
        sys.stdout.write(f"{count:,} decisions: {lake}\n")
    return 0
