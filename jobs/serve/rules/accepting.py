"""Accepting: what is suggested for many pictures becomes what is decided of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from jobs.serve.batches import MOST_LABEL, Wanted
from jobs.serve.columns import Columns, Rows
from jobs.serve.decisions import Decisions
from jobs.tables import RELABEL, REMOVE

ACCEPTED = (REMOVE, RELABEL)


@dataclass(frozen=True)
class Plan:
    """What would be decided. remove: ids. relabel: ids by the label that is suggested. Left alone are those that are
    decided already, those to be looked at, those for which nothing is suggested, and others where not all is wanted."""

    remove: NDArray[np.int64]
    relabel: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    decided: int = 0
    review: int = 0
    others: int = 0

    def counts(self) -> dict[str, int]:
        relabelled = sum(map(len, self.relabel.values()))
        return {"remove": len(self.remove), "relabel": relabelled, "decided": self.decided, "review": self.review,
                "others": self.others}  # fmt: skip

    def decisions(self) -> Iterator[Wanted]:
        """As Decisions.decide_all takes them."""
        if len(self.remove):
            yield Wanted(self.remove, REMOVE)
        for label, ids in self.relabel.items():
            yield Wanted(ids, RELABEL, label)


def plan(columns: Columns, decisions: Decisions, rows: Rows, only: tuple[str, ...] = ACCEPTED) -> Plan:
    """What is suggested for some rows. only: of ACCEPTED."""
    is_open = decisions.column().codes[rows] == 0
    left = rows[is_open]
    suggestion = columns.coded("suggestion")
    by_name = {name: left[suggestion.having([name])[left]] for name in (REMOVE, RELABEL, "review")}
    remove = by_name[REMOVE] if REMOVE in only else left[:0]
    relabel: dict[str, NDArray[np.int64]] = {}
    count = len(remove)
    if RELABEL in only:
        suggested = columns.coded("suggested")
        wanted = by_name[RELABEL]
        codes = suggested.codes[wanted]
        order = np.argsort(codes, kind="stable")
        found, starts = np.unique(codes[order], return_index=True)
        for code, part in zip(found.tolist(), np.split(wanted[order], starts[1:]), strict=False):
            label = "".join(suggested.names[code])
            if 0 < len(label) <= MOST_LABEL:
                relabel[label] = columns.id[part]
                count += len(part)
    review = len(by_name["review"])
    return Plan(columns.id[remove], relabel, len(rows) - len(left), review, len(left) - count - review)
