"""CSV, Parquet and JSON lines: one row an image, with uri, image_id, decision, label, note, by, at."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from jobs.reviews.rows import FormatError, Given, Rows, text

SCHEMA = pa.schema(
    [("uri", pa.string()), ("image_id", pa.int64()), ("decision", pa.string()), ("label", pa.string()),
     ("note", pa.string()), ("by", pa.string()), ("at", pa.string())]
)  # fmt: skip
MOST_BYTES = 1 << 30  # of a file to read
_TOGETHER = 65_536  # rows that are written at once


def write_csv(file: Path, rows: Rows) -> int:
    """Returns how many rows it holds."""
    with pacsv.CSVWriter(file, SCHEMA) as out:
        return sum(out.write_batch(batch) or batch.num_rows for batch in _batches(rows))


def write_parquet(file: Path, rows: Rows) -> int:
    """Returns how many rows it holds."""
    with pq.ParquetWriter(file, SCHEMA) as out:
        return sum(out.write_batch(batch) or batch.num_rows for batch in _batches(rows))


def write_jsonl(file: Path, rows: Rows) -> int:
    """Returns how many rows it holds."""
    count = 0
    with file.open("w", encoding="utf-8") as out:
        for row in rows():
            out.write(text({name: getattr(row, name) for name in SCHEMA.names}) + "\n")
            count += 1
    return count


def read_csv(file: Path) -> list[Given]:
    """Raises FormatError, OSError."""
    kinds = {name: SCHEMA.field(name).type for name in SCHEMA.names}
    options = pacsv.ConvertOptions(column_types=kinds, strings_can_be_null=True)
    return _given(
        file,
        lambda: pacsv.read_csv(
            file, convert_options=options, parse_options=pacsv.ParseOptions(newlines_in_values=True)
        ),
    )


def read_parquet(file: Path) -> list[Given]:
    """Raises FormatError, OSError."""
    return _given(file, lambda: pq.read_table(file))


def read_jsonl(file: Path) -> list[Given]:
    """Raises FormatError, OSError."""

    def table() -> pa.Table:
        lines = file.read_text(encoding="utf-8").splitlines()
        return pa.Table.from_pylist([json.loads(line) for line in lines if line.strip()])

    return _given(file, table)


def _batches(rows: Rows) -> Iterator[pa.RecordBatch]:
    left = rows()
    while some := list(islice(left, _TOGETHER)):
        columns = [pa.array([_plain(getattr(row, f.name)) for row in some], f.type) for f in SCHEMA]
        yield pa.record_batch(columns, schema=SCHEMA)


def _plain(value: Any) -> Any:
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _given(file: Path, read: Any) -> list[Given]:
    if file.stat().st_size > MOST_BYTES:
        raise FormatError(f"more than {MOST_BYTES} bytes")
    try:
        table = read()
    except (ValueError, AttributeError, RecursionError) as error:
        raise FormatError(f"cannot be read: {' '.join(str(error).split())[:300]}") from error
    if "decision" not in table.column_names or not {"uri", "image_id"} & set(table.column_names):
        raise FormatError("needs the columns uri or image_id, and decision")
    try:
        kept = table.select([name for name in SCHEMA.names if name in table.column_names])
        rows = kept.cast(pa.schema([SCHEMA.field(name) for name in kept.column_names])).to_pylist()
    except (ValueError, TypeError) as error:
        raise FormatError(f"cannot be read: {' '.join(str(error).split())[:300]}") from error
    return [
        Given(f"row {number}", row.get("uri"), row.get("image_id"), row.get("decision") or "", row.get("label"),
              row.get("note"))
        for number, row in enumerate(rows, start=1)
    ]  # fmt: skip
