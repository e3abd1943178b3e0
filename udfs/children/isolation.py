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

import atexit
import contextlib
import itertools
import mmap
import os
import pickle
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

import pyarrow as pa

Batches = Iterator[pa.RecordBatch]

ROW = "_row"  # the column that numbers the rows of one call of `run`; a task hands it on
_TASK, _READY, _FAULT, _ROWS, _END = b"T", b"R", b"X", b"B", b"E"
_HEAD = struct.Struct("<cQ")
_SLOT = struct.Struct("<qd")  # row + 1, or 0 for none; when it was begun, by the machine's monotonic clock
_SLOTS = 64
_POLL_S = 0.25
_IDLE_S = 30.0  # after which a child that has nothing to do ends: its memory is for the stages that follow
_MAX_REPLY = 1 << 30  # bytes of one message from the child
_CRASHES_IN_A_ROW = 10  # with no row in between that went well: then it is the machine, not the rows
# Of glibc: else each thread that fetches keeps a heap of its own, and gives its pages back after every image.
MALLOC = {"MALLOC_ARENA_MAX": "2", "MALLOC_TRIM_THRESHOLD_": str(256 << 20), "MALLOC_MMAP_THRESHOLD_": str(32 << 20)}
# Of NumPy's products: there is one worker a core. Spark sets the first for its workers.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class Board:
    """Which rows a child is at, in memory that outlives it. Each thread has a slot of its own, at most 64 threads."""

    def __init__(self, file: int) -> None:
        self._memory = mmap.mmap(file, _SLOTS * _SLOT.size)
        self._mine = threading.local()
        self._free = iter(range(_SLOTS))

    @contextlib.contextmanager
    def at(self, row: int) -> Iterator[None]:
        """While inside, the calling thread is at this row. Raises RuntimeError in the 65th thread."""
        slot = getattr(self._mine, "slot", None)
        if slot is None:
            slot = self._mine.slot = next(self._free, None)
            if slot is None:
                raise RuntimeError(f"more than {_SLOTS} threads")
        _SLOT.pack_into(self._memory, slot * _SLOT.size, row + 1, time.monotonic())
        try:
            yield
        finally:
            _SLOT.pack_into(self._memory, slot * _SLOT.size, 0, 0.0)

    def rows(self) -> dict[int, float]:
        """Each row that was begun and not ended, and since when."""
        return {row - 1: begun for row, begun in _SLOT.iter_unpack(self._memory[:]) if row}


def _anonymous_file() -> int:
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


class WorkerError(RuntimeError):
    """A function of `stream` raised an error, or its process ended; one line that says which and how."""


class _DiedError(Exception):
    """The child is gone, or was ended as it hung. why: for people, on one line."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class _Pending(NamedTuple):
    batch: pa.RecordBatch
    at: int


class Process(Protocol):
    """A process as subprocess.Popen has it."""

    pid: int

    def poll(self) -> int | None: ...
    def wait(self) -> int: ...
    def kill(self) -> None: ...


def _started(connection: int, board: int, alive: int, said: int) -> Process:
    """A child that begins from nothing."""
    program = "import sys; from udfs.children.isolation import serve; serve(*map(int, sys.argv[1:]))"
    return subprocess.Popen(
        [sys.executable, "-P", "-c", program, str(connection), str(board), str(alive)],
        stdin=subprocess.DEVNULL,
        stdout=said,
        stderr=said,
        pass_fds=(connection, board, alive),
        # What this process can import, the child can: a zip of --py-files stands on sys.path alone.
        env={**ONE_THREAD, **os.environ, **MALLOC, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )


class Forks(Protocol):
    """Starts children that have their modules already; see udfs.children.forks."""

    def started(self, connection: int, board: int, alive: int, said: int) -> Process: ...


_forks: Forks | None = None


def start_by(forks: Forks) -> None:
    """From now on this process starts its children so."""
    global _forks  # noqa: PLW0603 (one way for a process)
    _forks = forks


class _Child:
    """One child process that has opened a task; another can be opened in its place."""

    def __init__(self, task: bytes) -> None:
        self.task = b""
        self.idle_since = 0.0
        self._socket, theirs = socket.socketpair()
        board = _anonymous_file()
        alive, ours = os.pipe()
        self._alive = os.fdopen(ours, "wb")  # never written to
        os.ftruncate(board, _SLOTS * _SLOT.size)
        self.board = Board(board)
        self._said: IO[bytes] = tempfile.TemporaryFile("ab+")  # noqa: SIM115 (closed with the child)
        start = _started if _forks is None else _forks.started
        try:
            self._process = start(theirs.fileno(), board, alive, self._said.fileno())
        finally:
            theirs.close()
            os.close(board)
            os.close(alive)
        self.pid = self._process.pid
        self.open(task)

    def open(self, task: bytes) -> None:
        """Raises RuntimeError where the task cannot be opened, and ends the process."""
        if task == self.task:
            return
        try:
            self.send(_TASK, task)
            kind, payload = self.receive(None)
        except _DiedError as died:
            self.close()
            raise RuntimeError(f"the worker's child does not start: {died.why}") from died
        if kind != _READY:
            self.close()
            raise RuntimeError(bytes(payload).decode())
        self.task = task

    def send(self, kind: bytes, payload: bytes | memoryview = b"") -> None:
        """Raises _DiedError, at once where the child is gone."""
        try:
            self._socket.sendall(_HEAD.pack(kind, len(payload)))
            self._socket.sendall(payload)
        except OSError as error:
            raise _DiedError(str(error)) from error

    def receive(self, hang_s: float | None) -> tuple[bytes, bytearray]:
        """The next message. Raises _DiedError where the child ends before, or stays longer than hang_s at one row."""
        head = self._exactly(_HEAD.size, hang_s)
        kind, length = _HEAD.unpack(head)
        if length > _MAX_REPLY:
            self.kill()
            raise _DiedError(f"it sent a message of {length} bytes")
        return kind, self._exactly(length, hang_s)

    def _exactly(self, size: int, hang_s: float | None) -> bytearray:
        whole = bytearray(size)
        view, at = memoryview(whole), 0
        while at < size:
            if hang_s is not None and not select.select([self._socket], [], [], _POLL_S)[0]:
                self._look_after(hang_s)
                continue
            try:
                got = self._socket.recv_into(view[at:])
            except OSError:
                got = 0
            if not got:
                raise _DiedError(self._why())
            at += got
        return whole

    def _look_after(self, hang_s: float) -> None:
        oldest = min(self.board.rows().values(), default=None)
        if oldest is not None and time.monotonic() - oldest > hang_s:
            self.kill()
            raise _DiedError(f"it did not end within {hang_s:g} s")

    def _why(self) -> str:
        code = self._process.wait()
        self._said.seek(0)
        lines = self._said.read()[-20_000:].decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        if code < 0:
            with contextlib.suppress(ValueError):
                return f"killed by {signal.Signals(-code).name}" + (f": {last[:200]}" if last else "")
        return f"ended with exit code {code}" + (f": {last[:300]}" if last else "")

    def is_there(self) -> bool:
        """Whether it has not ended; it does by itself once it was idle for long."""
        return self._process.poll() is None

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Ends the process; what it was at is lost."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes a thread that sends
        self._socket.close()
        self.kill()
        self._said.close()
        self._alive.close()


_FUNCTIONS = b""  # what idle children of `stream` are kept under: any may take any function
# Idle children by what they have opened: opening a model costs half a second, and a process a fifth.
_idle: dict[bytes, list[_Child]] = {}
_lock = threading.Lock()


def _take(task: bytes, of: bytes) -> _Child:
    """An idle child kept under `of`, else one that lets go of another task, else a new one, with this task opened.
    What rows have touched never becomes a child of `stream`, nor the other way round. So memory is bounded."""
    child: _Child | None = None
    with _lock:
        for key in [of] if of == _FUNCTIONS else [of, *(key for key in _idle if key not in (of, _FUNCTIONS))]:
            mine = _idle.get(key, [])
            while mine and child is None:
                child = mine.pop()
                # One that is about to end by itself is not taken: it would be gone before its first row.
                if not child.is_there() or time.monotonic() - child.idle_since > 0.8 * _IDLE_S:
                    child.close()
                    child = None
            if not mine:
                _idle.pop(key, None)
    if child is None:
        return _Child(task)
    child.open(task)
    return child


def _keep(child: _Child, of: bytes) -> None:
    """Keeps an idle child, unless there are as many as there are cores."""
    child.idle_since = time.monotonic()
    with _lock:
        mine = _idle.setdefault(of, [])
        if len(mine) < (os.cpu_count() or 1):
            mine.append(child)
            return
    child.close()


def children() -> list[int]:
    """The process ids of the children that are kept for later calls."""
    with _lock:
        return [child.pid for kept in _idle.values() for child in kept]


def close() -> None:
    """Ends the children that are kept for later calls."""
    with _lock:
        gone = [child for kept in _idle.values() for child in kept]
        _idle.clear()
    for child in gone:
        child.close()


atexit.register(close)


def stream(batches: Iterable[pa.RecordBatch], task: FunctionTask) -> Batches:
    """What a function of batches makes of them, in a child process, while they are still being sent.

    Raises WorkerError; what the batches raise is raised here."""
    source = iter(batches)
    first = next(source, None)  # before a child is taken: what the batches come from may need one itself
    given = source if first is None else itertools.chain([first], source)
    child = _take(pickle.dumps(task), _FUNCTIONS)
    feeder = _Feeder(child, [], given, None)
    try:
        while (message := child.receive(None))[0] == _ROWS:
            yield from pa.ipc.open_stream(message[1])
        if message[0] == _FAULT:
            raise WorkerError(f"{task.name}: {bytes(message[1]).decode()}")
        feeder.join()
    except _DiedError as died:
        feeder.stop()
        child.close()
        raise WorkerError(f"{task.name} ended: {died.why}") from died
    except BaseException:  # the end of the reader's interest too
        feeder.stop()
        child.close()
        raise
    _keep(child, _FUNCTIONS)


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
        self._child: _Child | None = None
        self._pending: dict[int, _Pending] = {}
        self._crashes = 0

    def all(self, source: Batches) -> Batches:
        while True:
            again = self._batches_pending()
            self._pending.clear()
            feeder = _Feeder(self._open(), again, source, self._pending)
            try:
                yield from self._answers()
            except _DiedError as died:
                feeder.stop()
                yield from self._one_by_one(died)
                continue
            except BaseException:
                feeder.stop()
                raise
            feeder.join()
            return

    def _open(self) -> _Child:
        if self._child is None:
            self._child = _take(self._task, self._task)
        return self._child

    def _answers(self) -> Batches:
        """Results until the child says that it has answered all."""
        child = self._open()
        while True:
            kind, payload = child.receive(self._hang_s)
            if kind == _END:
                return
            if kind == _FAULT:
                raise RuntimeError(bytes(payload).decode())
            for batch in pa.ipc.open_stream(payload):
                for row in batch.column(ROW).to_pylist():
                    self._pending.pop(row, None)
                self._crashes = 0
                yield _unnumbered(batch)

    def _one_by_one(self, died: _DiedError) -> Batches:
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
            except _DiedError as again:
                feeder.stop()
                self.abandon()
                self._count_crash(again)
                yield self._failed(_unnumbered(alone), again.why)
            else:
                feeder.join()
            self._pending = others

    def _count_crash(self, died: _DiedError) -> None:
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
            _keep(self._child, self._task)


class _Feeder:
    """Sends rows to a child in a thread of its own, so that the child takes what it needs and answers meanwhile."""

    def __init__(
        self, child: _Child, again: list[pa.RecordBatch], source: Batches, pending: dict[int, _Pending] | None
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
                self._child.send(_ROWS, _packed(batch))
            while not self._stopped:
                batch = next(self._source, None)
                if batch is None:
                    break
                self._remember(batch)
                self._child.send(_ROWS, _packed(batch))
        except _DiedError:
            return  # the other thread hears of it as well
        except BaseException as error:  # raised again by join, in the thread that asked
            self._error = error
        with contextlib.suppress(_DiedError):
            self._child.send(_END)

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


def _packed(batch: pa.RecordBatch) -> memoryview:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return memoryview(sink.getvalue())


# --- in the child ---


def _end_with_parent(alive: int) -> None:
    """Ends this process when the other end of the pipe has closed: the parent has gone, however. Linux's own signal for
    it would come at the end of the thread that started this process, which an engine ends when it likes."""
    while os.read(alive, 1):
        pass
    os._exit(1)


class _NoPandas:
    """Finds no module of that name, whatever there is."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name == "pandas":
            raise ImportError(name)


def spare_arrow_pandas() -> None:
    """Arrow imports pandas before its first array, to tell what it is given from pandas's own: a quarter of a second
    of each child. Where it is not found then it is not asked for again. Others may import it afterwards."""
    finder: Any = _NoPandas()
    sys.meta_path.insert(0, finder)
    try:
        pa.array([0])
    finally:
        sys.meta_path.remove(finder)


def serve(connection: int, board: int, alive: int) -> None:
    """The child's whole life: opens the task that it is sent, then answers rows until the parent goes."""
    spare_arrow_pandas()
    threading.Thread(target=_end_with_parent, args=(alive,), daemon=True, name="parent's life").start()
    with contextlib.suppress(OSError):
        # Where memory runs out, this process is to go: it costs one image, and its parent the task.
        Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")
    connected = socket.socket(fileno=connection)
    rows = Board(board)
    work: Callable[[Batches, Board], Batches] | None = None
    try:
        while work is None or select.select([connected], [], [], _IDLE_S)[0]:
            kind, payload = _read(connected)
            if kind == _TASK:
                task: Task = pickle.loads(payload)  # noqa: S301 (of the parent)
                work = task.open()
                _write(connected, _READY)
                continue
            if work is None:
                return
            for batch in work(_received(connected, kind, payload), rows):
                for part in _in_messages(batch):
                    _write(connected, _ROWS, _packed(part))
            _write(connected, _END)
            with contextlib.suppress(OSError):
                os.ftruncate(2, 0)  # what decoders have to say of good images is of no interest later
    except EOFError:
        return
    except Exception as error:  # told to the parent, which stops
        traceback.print_exc()
        with contextlib.suppress(OSError):
            _write(connected, _FAULT, " ".join(f"{type(error).__name__}: {error}".split()).encode())


def _in_messages(batch: pa.RecordBatch) -> Batches:
    """The batch in parts of which each fits into a message."""
    parts = max(1, -(-batch.nbytes // (_MAX_REPLY // 4)))
    rows = max(1, -(-batch.num_rows // parts))
    for start in range(0, max(batch.num_rows, 1), rows):
        yield batch.slice(start, rows)


def _received(stream: socket.socket, kind: bytes, payload: bytearray) -> Batches:
    """Batches from the parent, of this first message on, until it says that there are no more. Raises EOFError where it
    is gone."""
    while kind != _END:
        yield from pa.ipc.open_stream(payload)
        kind, payload = _read(stream)


def _read(stream: socket.socket) -> tuple[bytes, bytearray]:
    kind, length = _HEAD.unpack(_receive(stream, _HEAD.size))
    return kind, _receive(stream, length)


def _receive(stream: socket.socket, size: int) -> bytearray:
    whole = bytearray(size)
    view, at = memoryview(whole), 0
    while at < size:
        got = stream.recv_into(view[at:])
        if not got:
            raise EOFError
        at += got
    return whole


def _write(stream: socket.socket, kind: bytes, payload: bytes | memoryview = b"") -> None:
    stream.sendall(_HEAD.pack(kind, len(payload)))
    stream.sendall(payload)
