"""The formats of review files: which one a file has, and what writes and reads it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jobs.errors import ConfigError
from jobs.reviews import coco, fiftyone, label_studio, table_files
from jobs.reviews.rows import FormatError, Given, Rows, loaded

JSON: dict[str, Any] = {"coco": coco, "label-studio": label_studio, "fiftyone": fiftyone}
BY_ENDING = {".csv": "csv", ".parquet": "parquet", ".jsonl": "jsonl"}
NAMES = (*BY_ENDING.values(), *JSON)
_WRITES: dict[str, Callable[[Path, Rows], int]] = {
    "csv": table_files.write_csv, "parquet": table_files.write_parquet, "jsonl": table_files.write_jsonl,
    **{name: module.write for name, module in JSON.items()},
}  # fmt: skip
_READS: dict[str, Callable[[Path], list[Given]]] = {
    "csv": table_files.read_csv, "parquet": table_files.read_parquet, "jsonl": table_files.read_jsonl,
}  # fmt: skip


def to_write(file: Path, name: str | None) -> Callable[[Path, Rows], int]:
    """What writes a format, by its name, else by the file's ending. Raises ConfigError."""
    known = name or BY_ENDING.get(file.suffix)
    if known is None:
        raise ConfigError(f"FILE: must end in {', '.join(BY_ENDING)}, or --format say what it is, got {str(file)!r}")
    return _WRITES[known]


def read(file: Path, name: str | None) -> list[Given]:
    """The decisions of a file, whose format is its name, else told by its ending, and of JSON by what it holds. Raises
    FormatError, OSError, ConfigError."""
    known = name or BY_ENDING.get(file.suffix)
    if known in _READS:
        return _READS[known](file)
    if known is None and file.suffix != ".json":
        raise ConfigError(
            f"FILE: must end in {', '.join((*BY_ENDING, '.json'))}, or --format say what it is, got {str(file)!r}"
        )
    value = loaded(file)
    known = known or next((each for each, module in JSON.items() if module.looks_so(value)), None)
    if known is None or not JSON[known].looks_so(value):
        told = f"is no {known} file" if known else f"is none of {', '.join(JSON)}"
        raise FormatError(told)
    found: list[Given] = JSON[known].read(value)
    return found
