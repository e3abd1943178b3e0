"""Decisions: what people decide of images, in the table `reviews`, to which rows are only ever added.

One thread of a server writes; what others have decided meanwhile is one commit more. A decision counts as made once it
is committed."""

from __future__ import annotations

import datetime
import queue
import secrets
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.engines import delta_log
from jobs.engines.datasets import dataset
from jobs.serve.batches import MOST_LABEL, MOST_NOTE, RULE, TABLE, Batch, DecisionError, Wanted, batches_of, step_of
from jobs.serve.columns import Coded
from jobs.tables import DECISIONS, NOTE, RELABEL, REMARKS, TABLES, UNDO
from udfs.stores import uris

TIDIED = 500  # commits after which small files become one
_Asked = tuple[list[Batch], threading.Event, list[Exception]]


@dataclass
class _State:
    """All batches in their order, and the effective decision of each row of the gallery."""

    codes: NDArray[np.uint8]
    judged: NDArray[np.bool_]  # whether a person has looked at it for its decision, as far as is known
    labels: dict[int, str] = field(default_factory=dict)  # by row
    batches: dict[str, Batch] = field(default_factory=dict)
    undone: set[str] = field(default_factory=set)
    of_image: dict[int, list[str]] = field(default_factory=lambda: defaultdict(list))
    of_step: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    revision: int = 0


class Decisions:
    """The decisions of one lake. rows_of: maps ids to rows of the gallery, (n,) int32, -1 where an image is gone."""

    def __init__(self, lake: str, images: int, rows_of: Callable[[NDArray[np.int64]], NDArray[np.int32]]) -> None:
        self.lake, self._path = lake, uris.join(lake, TABLE)
        self._images, self._rows_of = images, rows_of
        self._lock = threading.RLock()
        self._state = _blank(images)
        self._version: int | None = None
        self._commits = 0
        self._asked: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self._last = datetime.datetime.fromtimestamp(0, datetime.UTC)
        self.refresh()
        self._writer = threading.Thread(target=self._write_until_closed, name="reviews", daemon=True)
        self._writer.start()

    def close(self) -> None:
        """Ends when all that was asked for is written."""
        self._asked.put(None)
        self._writer.join()

    @property
    def revision(self) -> int:
        """Another number whenever a decision has changed."""
        return self._state.revision

    def column(self) -> Coded:
        """The decision of each row of the gallery."""
        return Coded(self._state.codes, [(), *((name,) for name in DECISIONS)])

    def judged(self) -> NDArray[np.bool_]:
        """(images,): whether a row is decided and a person has looked at it for that, as far as is known."""
        return self._state.judged

    def effective(self) -> tuple[NDArray[np.int32], list[Batch]]:
        """For each row of the gallery which of the batches counts for it, (images,), -1 where none does."""
        found = np.full(self._images, -1, np.int32)
        with self._lock:
            batches = [b for b in self._state.batches.values() if _counts(self._state, b)]
        for place, batch in enumerate(batches):
            rows = self._rows_of(batch.ids)
            found[rows[rows >= 0]] = place
        return found, batches

    def label(self, row: int) -> str | None:
        """Which label a row is to have, where that was decided."""
        return self._state.labels.get(row)

    def decide(
        self,
        ids: Iterable[int] | NDArray[np.int64],
        decision: str,
        by: str,
        label: str | None = None,
        note: str | None = None,
        batch_id: str = "",
        by_rule: bool = False,
    ) -> Batch:
        """Writes one decision of some images and returns it once it is committed. batch_id: of the asker; a batch of
        that name that is there is returned, and nothing is written twice. by_rule: nobody has looked at each of them.
        Raises DecisionError."""
        name = (RULE if by_rule else "") + (batch_id or secrets.token_hex(12))
        known = self._checked(Wanted(ids, decision, label, note))
        with self._lock:
            if name in self._state.batches:
                return self._state.batches[name]
        (batch,) = self._written([Batch(name, known, decision, label, note, "", by, self._now())])
        return batch

    def decide_all(self, wanted: Iterable[Wanted], by: str, by_rule: bool = False) -> list[Batch]:
        """Writes several decisions in one commit, as one step that undo() takes back whole. Raises DecisionError, and
        writes nothing then."""
        step, at = (RULE if by_rule else "") + secrets.token_hex(12), self._now()
        batches = [
            Batch(f"{step}.{n}", self._checked(each), each.decision, each.label, each.note, "", by, at)
            for n, each in enumerate(wanted)
        ]
        return self._written(batches) if batches else []

    def _checked(self, wanted: Wanted) -> NDArray[np.int64]:
        """The ids of the images that are there, each once. Raises DecisionError."""
        ids, decision, label, note = wanted.ids, wanted.decision, wanted.label, wanted.note
        if decision not in (*DECISIONS, NOTE):
            raise DecisionError(f"decision: must be one of {', '.join((*DECISIONS, NOTE))}")
        if (decision == RELABEL) != bool(label):
            raise DecisionError("label: must be given with relabel, and with nothing else")
        if decision == NOTE and not note:
            raise DecisionError("note: must be given")
        if len(label or "") > MOST_LABEL or len(note or "") > MOST_NOTE:
            raise DecisionError(f"label, note: at most {MOST_LABEL}, {MOST_NOTE} characters")
        known = np.unique(np.asarray(list(ids) if not isinstance(ids, np.ndarray) else ids, np.int64))
        known = known[self._rows_of(known) >= 0]
        if not len(known):
            raise DecisionError("no such image")
        return known

    def undo(self, by: str, batch_id: str = "", only_own: bool = False) -> list[Batch]:
        """Takes a batch back with all of its step, or the last one of this person. only_own: no batch of another.
        Raises DecisionError where there is none."""
        with self._lock:
            state = self._state
            if not batch_id:
                own = (b for b in reversed(state.batches.values()) if b.by == by and b.batch_id not in state.undone)
                batch_id = next((b.batch_id for b in own), "")
            step = state.of_step.get(step_of(batch_id), [batch_id])
            last = [state.batches[name] for name in step if name in state.batches and name not in state.undone]
        if not last or (only_own and any(each.by != by for each in last)):
            raise DecisionError("nothing to undo")
        at = self._now()
        self._written(
            [Batch(secrets.token_hex(12), each.ids[:1], UNDO, None, None, each.batch_id, by, at) for each in last]
        )
        return last

    def history(self, image_id: int) -> list[tuple[Batch, bool]]:
        """What was decided of an image, the first first, and whether it was taken back."""
        with self._lock:
            state = self._state
            large = (b for b in state.batches.values() if len(b.ids) > _LISTED and image_id in b.ids)
            found = [*(state.batches[name] for name in state.of_image.get(image_id, ())), *large]
            return [(batch, batch.batch_id in state.undone) for batch in sorted(found, key=lambda b: b.at)]

    def recent(self, count: int) -> list[tuple[list[Batch], bool]]:
        """The batches of each of the last steps, the newest first, and whether they were taken back."""
        with self._lock:
            found: dict[str, list[Batch]] = {}
            for batch in reversed(self._state.batches.values()):
                if batch.step not in found and len(found) == count:
                    break
                found.setdefault(batch.step, []).append(batch)
            return [(step, step[0].batch_id in self._state.undone) for step in found.values()]

    def standing(self) -> list[Batch]:
        """All batches that were not taken back, in their order."""
        with self._lock:
            return [batch for name, batch in self._state.batches.items() if name not in self._state.undone]

    def by_person(self) -> dict[str, int]:
        """How many decisions each person has made that were not taken back."""
        found: dict[str, int] = {}
        with self._lock:
            for name, batch in self._state.batches.items():
                if name not in self._state.undone:
                    found[batch.by] = found.get(batch.by, 0) + len(batch.ids)
        return found

    def refresh(self) -> None:
        """Reads what others have written."""
        version = delta_log.version(self._path)
        with self._lock:
            if version is None or version == self._version:
                return
            state = replace(_blank(self._images), revision=self._state.revision + 1)
            for batch in batches_of(dataset(self.lake, TABLE).to_table()):
                _add(state, batch)
            _apply_all(state, self._rows_of)
            self._state, self._version = state, version

    def _now(self) -> datetime.datetime:
        """Later than all before it of this server."""
        with self._lock:
            now = datetime.datetime.now(datetime.UTC)
            self._last = max(now, self._last + datetime.timedelta(microseconds=1))
            return self._last

    def _written(self, batches: list[Batch]) -> list[Batch]:
        done, failed = threading.Event(), list[Exception]()
        self._asked.put((batches, done, failed))
        done.wait()
        if failed:
            raise failed[0]
        return batches

    def _write_until_closed(self) -> None:
        while (first := self._asked.get()) is not None:
            group, ends = [first], False
            while not self._asked.empty():  # all that has come meanwhile is one commit
                more = self._asked.get()
                if more is None:
                    ends = True
                    break
                group.append(more)
            try:
                self._commit([batch for batches, _, _ in group for batch in batches])
            except Exception as error:
                for _, _, failed in group:
                    failed.append(error)
            for _, done, _ in group:
                done.set()
            if ends:
                return

    def _commit(self, batches: list[Batch]) -> None:
        from deltalake import write_deltalake

        options = delta_log.storage_options(self._path)
        if delta_log.version(self._path) is None:
            delta_log.create(self._path, TABLES[TABLE])
        rows = pa.concat_tables([batch.table() for batch in batches])
        write_deltalake(delta_log.spelled(self._path), rows, mode="append", storage_options=options)
        version = delta_log.version(self._path)
        with self._lock:
            if self._version is not None and version == self._version + 1:
                state = self._state
                for batch in batches:
                    _add(state, batch)
                if any(batch.decision == UNDO for batch in batches):
                    _apply_all(state, self._rows_of)
                else:
                    for batch in batches:
                        _apply(state, batch, self._rows_of)
                self._state, self._version = replace(state, revision=state.revision + 1), version
            else:  # another has written too
                self.refresh()
        self._commits += 1
        if self._commits % TIDIED == 0:
            self._tidy(options)

    def _tidy(self, options: dict[str, str] | None) -> None:
        from deltalake import DeltaTable

        table = DeltaTable(delta_log.spelled(self._path), storage_options=options)
        table.optimize.compact()
        table.create_checkpoint()
        with self._lock:
            self._version = delta_log.version(self._path)


def _blank(images: int) -> _State:
    return _State(np.zeros(images, np.uint8), np.zeros(images, np.bool_))


_LISTED = 1000  # images of a batch up to which each knows it


def _add(state: _State, batch: Batch) -> None:
    if batch.decision == UNDO:
        state.undone.add(batch.undoes)
        return
    state.batches[batch.batch_id] = batch
    if batch.step != batch.batch_id:
        state.of_step[batch.step].append(batch.batch_id)
    if len(batch.ids) <= _LISTED:
        for image_id in batch.ids.tolist():
            state.of_image[image_id].append(batch.batch_id)


def _counts(state: _State, batch: Batch) -> bool:
    return batch.decision not in REMARKS and batch.batch_id not in state.undone


def _apply(state: _State, batch: Batch, rows_of: Callable[[NDArray[np.int64]], NDArray[np.int32]]) -> None:
    if not _counts(state, batch):
        return
    rows = rows_of(batch.ids)
    rows = rows[rows >= 0]
    state.codes[rows] = 1 + DECISIONS.index(batch.decision)
    state.judged[rows] = batch.is_judged
    if batch.label is None:
        for row in rows.tolist() if state.labels else ():
            state.labels.pop(row, None)
    else:
        state.labels.update(dict.fromkeys(rows.tolist(), batch.label))


def _apply_all(state: _State, rows_of: Callable[[NDArray[np.int64]], NDArray[np.int32]]) -> None:
    state.codes, state.judged = np.zeros_like(state.codes), np.zeros_like(state.judged)
    state.labels = {}
    for batch in state.batches.values():
        _apply(state, batch, rows_of)
