"""States: the findings of a lake as its runs have left them, and what came and went from one to another.

A run that writes `issues` makes a version of it, which Delta keeps until somebody vacuums it. What is held of a state
is the numbers of its findings' images, none of the images themselves."""

from __future__ import annotations

import datetime
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.engines import delta_log
from jobs.engines.datasets import dataset
from jobs.pages.texts import ISSUES as TEXTS
from jobs.serve.filters import Changed, FilterError
from jobs.serve.recent import Recent
from udfs.stores import uris

TABLE = "issues"
SHOWN = 100  # states, the newest
COMMITS = 10_000  # of the table that are looked through
KEPT_BYTES = 128 << 20  # of findings
ROWS = 131_072  # read at once

Ids = NDArray[np.int64]
Findings = Mapping[str, Ids]  # the images of each issue, ascending


@dataclass(frozen=True)
class State:
    """What a run has left. version: of the table of findings; None where its log does not reach back so far."""

    run_id: str
    ended_at: datetime.datetime
    version: int | None


class States:
    """The states of a lake. lake: a canonical URI. now: the version of the findings that are shown, None for none."""

    def __init__(self, lake: str, now: int | None) -> None:
        self.now = now
        self._lake = lake
        self._known: Recent[OrderedDict[str, State]] = Recent(1, lambda _: 1)
        self._findings: Recent[Findings] = Recent(KEPT_BYTES, lambda found: sum(ids.nbytes for ids in found.values()))

    def known(self) -> OrderedDict[str, State]:
        """By the run, the newest first; SHOWN of them at most."""
        version = delta_log.version(uris.join(self._lake, "runs"))
        return self._known.get(version, self._read) if version is not None else OrderedDict()

    @property
    def shown(self) -> str:
        """The run that has left what is shown, "" where it is not known. Vacuuming and compacting make versions too."""
        there = (s.run_id for s in self.known().values() if s.version is not None and s.version <= (self.now or 0))
        return next(there, "")

    def compared(self, since: str, until: str) -> list[dict[str, Any]]:
        """For each issue how many findings came, went and stayed from a run to another, "" for what is shown. Raises
        FilterError."""
        before, after = self._of(since), self._of(until)
        rows = []
        for issue in sorted({*before, *after}):
            old, new = before.get(issue, _NONE), after.get(issue, _NONE)
            stayed = int(np.count_nonzero(_among(new, old)))
            title = TEXTS[issue].title if issue in TEXTS else issue.replace("_", " ")
            rows.append(
                {"issue": issue, "title": title, "came": len(new) - stayed, "went": len(old) - stayed, "stayed": stayed}
            )
        return rows

    def changed(self, asked: Changed) -> Ids:
        """The images, ascending, that a filter by what came or went asks for. Raises FilterError."""
        before, after = self._of(asked.since), self._of(asked.until)
        if asked.gone:
            before, after = after, before
        issues = [asked.issue] if asked.issue else sorted(after)
        found = [_without(after.get(issue, _NONE), before.get(issue, _NONE)) for issue in issues]
        return np.unique(np.concatenate([_NONE, *found]))

    def _of(self, run: str) -> Findings:
        version = self.now
        if run:
            state = self.known().get(run)
            if state is None:
                raise FilterError(f"no run {run} has left findings, or it is not among the last {SHOWN}")
            version = state.version
            if version is None:
                raise FilterError(f"the findings of run {run} are not there any more: the log has been cleaned up")
        if version is None:
            return {}
        return self._findings.get(version, lambda: self._read_findings(version, run))

    def _read(self) -> OrderedDict[str, State]:
        from deltalake import DeltaTable

        path = uris.join(self._lake, TABLE)
        if delta_log.version(path) is None:
            return OrderedDict()
        table = DeltaTable(delta_log.spelled(path), storage_options=delta_log.storage_options(path))
        commits = sorted(
            (each["timestamp"], each["version"]) for each in table.history(COMMITS) if each.get("timestamp") is not None
        )
        times = np.array([at for at, _ in commits], np.int64)
        rows = dataset(self._lake, "runs").to_table(
            columns=["run_id", "ended_at"], filter=(pc.field("job") == TABLE) & (pc.field("status") == "done")
        )
        found: OrderedDict[str, State] = OrderedDict()
        for row in rows.sort_by([("ended_at", "descending")]).slice(0, SHOWN).to_pylist():
            ended = row["ended_at"].astimezone(datetime.UTC)
            place = int(np.searchsorted(times, ended.timestamp() * 1000, side="right"))
            found[row["run_id"]] = State(row["run_id"], ended, commits[place - 1][1] if place else None)
        return found

    def _read_findings(self, version: int, run: str) -> Findings:
        parts: dict[str, list[Ids]] = {}
        try:
            for batch in dataset(self._lake, TABLE, version).to_batches(columns=["image_id", "issue"], batch_size=ROWS):
                ids = batch.column("image_id").to_numpy()
                encoded = pc.dictionary_encode(batch.column("issue"))
                codes = encoded.indices.to_numpy(zero_copy_only=False)
                for code, issue in enumerate(encoded.dictionary.to_pylist()):
                    parts.setdefault(issue, []).append(ids[codes == code])
        except (FileNotFoundError, _delta_error()) as error:
            whose = f"run {run}" if run else "the lake"
            raise FilterError(
                f"the findings of {whose} are not there any more: version {version} of issues was vacuumed"
            ) from error
        return {issue: np.unique(np.concatenate(ids)) for issue, ids in parts.items()}


def _delta_error() -> type[Exception]:
    from deltalake.exceptions import DeltaError

    return DeltaError


_NONE: Ids = np.empty(0, np.int64)


def _among(values: Ids, others: Ids) -> NDArray[np.bool_]:
    """(n,): whether each value is one of others. Both ascend."""
    if not len(others):
        return np.zeros(len(values), np.bool_)
    return np.asarray(others[np.minimum(np.searchsorted(others, values), len(others) - 1)] == values)


def _without(values: Ids, others: Ids) -> Ids:
    return values[~_among(values, others)]
