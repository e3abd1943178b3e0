"""A look into a table of a lake: some columns of some rows, by conditions; no query language, nothing is written."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from jobs.engines.datasets import dataset

MOST_ROWS = 200
MOST_CONDITIONS = 20
LOOK_S = 20.0  # after which a look ends with what it has found
_BATCH = 4096
_OPERATORS = ("=", "!=", "<", "<=", ">", ">=", "in", "contains", "null", "not null")


class LookError(ValueError):
    """A look that cannot be; one line."""


@dataclass(frozen=True)
class Condition:
    """operator: one of _OPERATORS. value: a list for `in`, a text for `contains`, none for `null` and `not null`."""

    column: str
    operator: str
    value: Any = None


@dataclass(frozen=True)
class Look:
    """rows: in the table's own order. is_all: whether no others hold."""

    rows: list[dict[str, Any]]
    is_all: bool


def look(lake: str, table: str, columns: list[str], conditions: list[Condition], limit: int) -> Look:
    """The first rows of a table for which all conditions hold. columns: all where empty. Raises LookError."""
    source = dataset(lake, table)
    if not 1 <= limit <= MOST_ROWS:
        raise LookError(f"limit: must be 1..{MOST_ROWS}, got {limit}")
    if len(conditions) > MOST_CONDITIONS:
        raise LookError(f"conditions: at most {MOST_CONDITIONS}")
    for name in (*columns, *(each.column for each in conditions)):
        if name not in source.schema.names:
            raise LookError(f"{table} has no column {name[:100]!r}; it has {', '.join(source.schema.names)}")
    wanted = None
    for each in conditions:
        holds = _expression(source.schema.field(each.column).type, each)
        wanted = holds if wanted is None else wanted & holds
    end = time.monotonic() + LOOK_S
    rows: list[dict[str, Any]] = []
    scanner = source.scanner(
        columns=columns or None, filter=wanted, batch_size=_BATCH, batch_readahead=1, fragment_readahead=1
    )
    for found in scanner.scan_batches():
        rows += found.record_batch.slice(0, limit + 1 - len(rows)).to_pylist()
        if len(rows) > limit or time.monotonic() > end:
            return Look(rows[:limit], False)
    return Look(rows, True)


def _expression(kind: pa.DataType, condition: Condition) -> ds.Expression:
    column, operator, value = pc.field(condition.column), condition.operator, condition.value
    if operator in ("null", "not null"):
        return column.is_null() if operator == "null" else column.is_valid()
    if operator not in _OPERATORS:
        raise LookError(f"operator: must be one of {', '.join(_OPERATORS)}, got {operator[:20]!r}")
    if operator == "contains":
        if not isinstance(value, str) or not pa.types.is_string(kind):
            raise LookError(f"{condition.column}: contains takes a text, of a column of texts")
        return pc.match_substring(column, value, ignore_case=True)
    if isinstance(value, list) != (operator == "in"):
        raise LookError(f"{condition.column}: a list of values goes with `in`, one value with the others")
    try:
        given = [pa.scalar(each).cast(kind) for each in (value if operator == "in" else [value])]
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError, OverflowError) as error:
        raise LookError(f"{condition.column} is {kind}: {' '.join(str(error).split())[:200]}") from error
    if operator == "in":
        return column.isin([each.as_py() for each in given])
    one = given[0]
    compared: dict[str, ds.Expression] = {
        "=": column == one, "!=": column != one, "<": column < one, "<=": column <= one, ">": column > one,
        ">=": column >= one,
    }  # fmt: skip
    return compared[operator]
