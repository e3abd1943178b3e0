"""Batches: what is decided of images at once, as rows of the table `reviews`."""

from __future__ import annotations

import datetime
import getpass
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.engines.sail_types import arrow_schema
from jobs.tables import TABLES

TABLE = "reviews"
SCHEMA = arrow_schema(TABLES[TABLE].schema)
MOST_NOTE = 2000  # characters of a note
MOST_LABEL = 500
AGENT = "agent:"  # how the names of those begin that are no people
RULE = "rule-"  # begins the names of batches that decide pictures which nobody has looked at one by one
# Of a batch that is one of several of a step: the step's name, and its number in it.
_STEP = re.compile(rf"^((?:{RULE})?[0-9a-f]{{24}})\.[0-9]{{1,9}}$")


class DecisionError(ValueError):
    """A decision that cannot be; one line."""


@dataclass(frozen=True)
class Batch:
    """What was decided at once. ids: (n,) int64. undoes: the batch that it takes back, or ""."""

    batch_id: str
    ids: NDArray[np.int64]
    decision: str
    label: str | None
    note: str | None
    undoes: str
    by: str
    at: datetime.datetime

    @property
    def is_judged(self) -> bool:
        """Whether a person has looked at each of the pictures, as far as is known."""
        return not self.batch_id.startswith(RULE) and not self.by.startswith(AGENT)

    @property
    def step(self) -> str:
        """The name of all batches that were decided and are taken back together; see Decisions.decide_all."""
        return step_of(self.batch_id)

    def table(self) -> pa.Table:
        """Rows of SCHEMA. An undone batch is one row, whatever it held."""
        count = len(self.ids)
        same = {"batch_id": self.batch_id, "decision": self.decision, "label": self.label, "note": self.note,
                "undoes": self.undoes or None, "by": self.by, "at": self.at}  # fmt: skip
        columns = {name: pa.repeat(pa.scalar(value, SCHEMA.field(name).type), count) for name, value in same.items()}
        columns["review_id"] = pa.array([f"{self.batch_id}-{number}" for number in range(count)], pa.string())
        columns["image_id"] = pa.array(self.ids, pa.int64())
        return pa.table([columns[name] for name in SCHEMA.names], schema=SCHEMA)


@dataclass(frozen=True)
class Wanted:
    """What is to be decided of some images."""

    ids: Iterable[int] | NDArray[np.int64]
    decision: str
    label: str | None = None
    note: str | None = None


def step_of(batch_id: str) -> str:
    """The step that a batch of this name is of: itself, but of a step of several."""
    return _STEP.sub(r"\1", batch_id)


def batches_of(rows: pa.Table) -> list[Batch]:
    """The batches of a table, in their order."""
    if not rows.num_rows:
        return []
    rows = rows.sort_by([("at", "ascending"), ("batch_id", "ascending")])
    encoded = pc.dictionary_encode(rows["batch_id"].combine_chunks())
    codes = encoded.indices.to_numpy()
    first = np.flatnonzero(np.append(True, codes[1:] != codes[:-1]))
    ids = rows["image_id"].to_numpy()
    heads: list[dict[str, Any]] = rows.drop_columns(["image_id", "review_id"]).take(pa.array(first)).to_pylist()
    parts = np.split(ids, first[1:])
    return [
        Batch(h["batch_id"], part, h["decision"], h["label"], h["note"], h["undoes"] or "", h["by"], h["at"])
        for h, part in zip(heads, parts, strict=True)
    ]


def agent(name: str) -> str:
    """By whom decisions are that a program of this name has made."""
    return AGENT + name


def account() -> str:
    """Whose decisions these are where nobody says: the account's name."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
