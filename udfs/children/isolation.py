"""Runs work on untrusted data in a child process: a row on which native code crashes or hangs costs itself alone.

The parent feeds record batches to one child, which answers in batches. A board in shared memory says which rows the
child is at. When it dies, or has been at one row for too long, each row on the board is tried again alone in a child of
its own: what kills that one too is the culprit and becomes a failed row. All other rows are simply sent again.

`run` is for work row by row. `stream` runs any function of batches in a child, for engines that would call it in a
thread of their own process: there it costs one clear error where native code crashes.

Several tasks of one process, in threads, each have a child of their own; idle ones are kept for later tasks.

Messages: one byte of kind, eight of length, and the payload. The payloads of rows are Arrow streams, no pickles: what a
hostile image may have made of the child can send nothing but data.
"""

from __future__ import annotations

import contextlib
import itertools
import pickle
import threading
from collections.abc import Callable, Iterable
from typing import NamedTuple

import pyarrow as pa

from udfs.children.messages import (
    END,
    FAULT,
    ROW,
    ROWS,
    Batches,
    FunctionTask,
    Task,
    packed,
)
from udfs.children.pool import FUNCTIONS, Child, DiedError, keep, take

_CRASHES_IN_A_ROW = 10  # with no row in between that went well: then it is the machine, not the rows


class WorkerError(RuntimeError):
    """A function of `stream` raised an error, or its process ended; one line that says which and how."""


class _Pending(NamedTuple):
    batch: pa.RecordBatch
    at: int


def stream(batches: Iterable[pa.RecordBatch], task: FunctionTask) -> Batches:
    """What a function of batches makes of them, in a child process, while they are still being sent.

    Raises WorkerError; what the batches raise is raised here."""
    source = iter(batches)
    first = next(source, None)  # before a child is taken: what the batches come from may need one itself
    given = source if first is None else itertools.chain([first], source)
    child = take(pickle.dumps(task), FUNCTIONS)
    feeder = _Feeder(child, [], given, None)
    try:
        while (message := child.receive(None))[0] == ROWS:
            yield from pa.ipc.open_stream(message[1])
        if message[0] == FAULT:
            raise WorkerError(f"{task.name}: {bytes(message[1]).decode()}")
        feeder.join()
    except DiedError as died:
        feeder.stop()
        child.close()
        raise WorkerError(f"{task.name} ended: {died.why}") from died
    except BaseException:  # the end of the reader's interest too
        feeder.stop()
        child.close()
        raise
    keep(child, FUNCTIONS)


def run(
    batches: Iterable[pa.RecordBatch],
    task: Task,
    failed: Callable[[pa.RecordBatch, str], pa.RecordBatch],
    hang_s: float,
) -> Batches:
    """Maps batches by the task in a child process, in no order.

    failed: the result for a row, a batch of one, on which the child crashed or hung twice, the second time alone; the
    text says how. hang_s: seconds that one row may take. Raises RuntimeError where the child cannot open the task or
    dies of many rows one after another; what the batches raise is raised here."""
    source = iter(batches)
    first = next(source, None)
    if first is None:  # an empty partition is not worth a child
        return
    calls = _Calls(pickle.dumps(task), failed, hang_s)
    try:
        yield from calls.all(_numbered(itertools.chain([first], source)))
    except BaseException:
        calls.abandon()
        raise
    calls.keep()


def _numbered(batches: Iterable[pa.RecordBatch]) -> Batches:
    first = 0
    for batch in batches:
        numbers = pa.array(range(first, first + batch.num_rows), pa.int64())
        yield pa.RecordBatch.from_arrays([*batch.columns, numbers], names=[*batch.schema.names, ROW])
        first += batch.num_rows


def _unnumbered(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch.select([name for name in batch.schema.names if name != ROW])


class _Calls:
    def __init__(self, task: bytes, failed: Callable[[pa.RecordBatch, str], pa.RecordBatch], hang_s: float) -> None:
        self._task, self._failed, self._hang_s = task, failed, hang_s
        self._child: Child | None = None
        self._pending: dict[int, _Pending] = {}
        self._crashes = 0

    def all(self, source: Batches) -> Batches:
        while True:
            again = self._batches_pending()
            self._pending.clear()
            feeder = _Feeder(self._open(), again, source, self._pending)
            try:
                yield from self._answers()
            except DiedError as died:
                feeder.stop()
                yield from self._one_by_one(died)
                continue
            except BaseException:
                feeder.stop()
                raise
            feeder.join()
            return

    def _open(self) -> Child:
        if self._child is None:
            self._child = take(self._task, self._task)
        return self._child

    def _answers(self) -> Batches:
        """Results until the child says that it has answered all."""
        child = self._open()
        while True:
            kind, payload = child.receive(self._hang_s)
            if kind == END:
                return
            if kind == FAULT:
                raise RuntimeError(bytes(payload).decode())
            for batch in pa.ipc.open_stream(payload):
                for row in batch.column(ROW).to_pylist():
                    self._pending.pop(row, None)
                self._crashes = 0
                yield _unnumbered(batch)

    def _one_by_one(self, died: DiedError) -> Batches:
        """Tries each row that the dead child was at alone; all that it had, where it was at none (a hostile shard can
        end it while it is read). Leaves the others pending."""
        suspects = [row for row in self._open().board.rows() if row in self._pending] or sorted(self._pending)
        self.abandon()
        if not suspects:  # it had ended before it was sent any
            self._count_crash(died)
        for row in suspects:
            batch, at = self._pending.pop(row)
            alone = batch.slice(at, 1)
            others, self._pending = self._pending, {row: _Pending(alone, 0)}
            feeder = _Feeder(self._open(), [alone], iter(()), self._pending)
            try:
                yield from self._answers()
            except DiedError as again:
                feeder.stop()
                self.abandon()
                self._count_crash(again)
                yield self._failed(_unnumbered(alone), again.why)
            else:
                feeder.join()
            self._pending = others

    def _count_crash(self, died: DiedError) -> None:
        self._crashes += 1
        if self._crashes >= _CRASHES_IN_A_ROW:
            raise RuntimeError(f"{self._crashes} images in a row ended the decoder: {died.why}") from died

    def _batches_pending(self) -> list[pa.RecordBatch]:
        """What was sent and not answered, in batches of one row for those of one batch that is not whole any more."""
        return [batch.slice(at, 1) for batch, at in self._pending.values()]

    def abandon(self) -> None:
        """The child is in the middle of something, or dead: it goes."""
        if self._child is not None:
            self._child.close()
            self._child = None

    def keep(self) -> None:
        if self._child is not None:
            keep(self._child, self._task)


class _Feeder:
    """Sends rows to a child in a thread of its own, so that the child takes what it needs and answers meanwhile."""

    def __init__(
        self, child: Child, again: list[pa.RecordBatch], source: Batches, pending: dict[int, _Pending] | None
    ) -> None:
        """pending: where what was sent is written down, None where nobody asks."""
        self._child, self._again, self._source, self._pending = child, again, source, pending
        self._error: BaseException | None = None
        self._stopped = False
        self._thread = threading.Thread(target=self._feed, daemon=True, name="feeder")
        self._thread.start()

    def _feed(self) -> None:
        try:
            for batch in self._again:
                self._remember(batch)
            for batch in self._again:
                self._child.send(ROWS, packed(batch))
            while not self._stopped:
                batch = next(self._source, None)
                if batch is None:
                    break
                self._remember(batch)
                self._child.send(ROWS, packed(batch))
        except DiedError:
            return  # the other thread hears of it as well
        except BaseException as error:  # raised again by join, in the thread that asked
            self._error = error
        with contextlib.suppress(DiedError):
            self._child.send(END)

    def _remember(self, batch: pa.RecordBatch) -> None:
        if self._pending is not None:
            for at, row in enumerate(batch.column(ROW).to_pylist()):
                self._pending[row] = _Pending(batch, at)

    def stop(self) -> None:
        """Waits until the thread has ended; the child is dead or of no use any more."""
        self._stopped = True
        self._child.kill()
        self._thread.join()

    def join(self) -> None:
        """Waits until all is sent. Raises what the source of the rows raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
