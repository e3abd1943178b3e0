"""What a child and its parent say to each other, and the board on which the child says what it is at."""

from __future__ import annotations

import contextlib
import mmap
import os
import pickle
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

Batches = Iterator[pa.RecordBatch]

ROW = "_row"  # the column that numbers the rows of one call of `run`; a task hands it on

TASK, READY, FAULT, ROWS, END = b"T", b"R", b"X", b"B", b"E"

HEAD = struct.Struct("<cQ")

SLOT = struct.Struct("<qd")  # row + 1, or 0 for none; when it was begun, by the machine's monotonic clock

SLOTS = 64

IDLE_S = 30.0  # after which a child that has nothing to do ends: its memory is for the stages that follow

MAX_REPLY = 1 << 30  # bytes of one message from the child


class Board:
    """Which rows a child is at, in memory that outlives it. Each thread has a slot of its own, at most 64 threads."""

    def __init__(self, file: int) -> None:
        self._memory = mmap.mmap(file, SLOTS * SLOT.size)
        self._mine = threading.local()
        self._free = iter(range(SLOTS))

    @contextlib.contextmanager
    def at(self, row: int) -> Iterator[None]:
        """While inside, the calling thread is at this row. Raises RuntimeError in the 65th thread."""
        slot = getattr(self._mine, "slot", None)
        if slot is None:
            slot = self._mine.slot = next(self._free, None)
            if slot is None:
                raise RuntimeError(f"more than {SLOTS} threads")
        SLOT.pack_into(self._memory, slot * SLOT.size, row + 1, time.monotonic())
        try:
            yield
        finally:
            SLOT.pack_into(self._memory, slot * SLOT.size, 0, 0.0)

    def rows(self) -> dict[int, float]:
        """Each row that was begun and not ended, and since when."""
        return {row - 1: begun for row, begun in SLOT.iter_unpack(self._memory[:]) if row}


def anonymous_file() -> int:
    """A descriptor of a new file without a name, in memory where the system can."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("board")
    file, path = tempfile.mkstemp()
    os.unlink(path)  # noqa: PTH108 (a text)
    return file


class Task(Protocol):
    """What a child does; it is sent there by pickle, from the parent to the child only."""

    def open(self) -> Callable[[Batches, Board], Batches]:
        """Called once in the child. Returns what maps batches, which have the column ROW, to batches of results with
        that column: one for each row, in any order. It must not take more from its argument than it needs."""
        ...


@dataclass(frozen=True)
class FunctionTask:
    """A function of batches, for `stream`. pickled: by value, by whoever sends it. name: for people."""

    pickled: bytes
    name: str

    def open(self) -> Callable[[Batches, Board], Batches]:
        function: Callable[[Batches], Batches] = pickle.loads(self.pickled)  # noqa: S301 (of the driver)
        return lambda batches, _board: function(batches)


def packed(batch: pa.RecordBatch) -> memoryview:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return memoryview(sink.getvalue())


def in_messages(batch: pa.RecordBatch) -> Batches:
    """The batch in parts of which each fits into a message."""
    parts = max(1, -(-batch.nbytes // (MAX_REPLY // 4)))
    rows = max(1, -(-batch.num_rows // parts))
    for start in range(0, max(batch.num_rows, 1), rows):
        yield batch.slice(start, rows)
