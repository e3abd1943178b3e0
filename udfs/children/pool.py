"""Child processes: how they start, and the idle ones that are kept for later work."""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from typing import IO, Protocol

from udfs.children.messages import (
    HEAD,
    IDLE_S,
    MAX_REPLY,
    READY,
    SLOT,
    SLOTS,
    TASK,
    Board,
    anonymous_file,
)

_POLL_S = 0.25

# Of glibc: else each thread that fetches keeps a heap of its own, and gives its pages back after every image.
MALLOC = {"MALLOC_ARENA_MAX": "2", "MALLOC_TRIM_THRESHOLD_": str(256 << 20), "MALLOC_MMAP_THRESHOLD_": str(32 << 20)}


# Of NumPy's products: there is one worker a core. Spark sets the first for its workers.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def set_malloc() -> None:
    """Sets MALLOC for the children that are started from here on, where the environment does not say otherwise."""
    for name, value in MALLOC.items():
        os.environ.setdefault(name, value)


class DiedError(Exception):
    """The child is gone, or was ended as it hung. why: for people, on one line."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Process(Protocol):
    """A process as subprocess.Popen has it."""

    pid: int

    def poll(self) -> int | None: ...
    def wait(self) -> int: ...
    def kill(self) -> None: ...


def _started(connection: int, board: int, alive: int, said: int) -> Process:
    """A child that begins from nothing."""
    program = "import sys; from udfs.children.serving import serve; serve(*map(int, sys.argv[1:]))"
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


class Child:
    """One child process that has opened a task; another can be opened in its place."""

    def __init__(self, task: bytes) -> None:
        self.task = b""
        self.idle_since = 0.0
        self._socket, theirs = socket.socketpair()
        board = anonymous_file()
        alive, ours = os.pipe()
        self._alive = os.fdopen(ours, "wb")  # never written to
        os.ftruncate(board, SLOTS * SLOT.size)
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
            self.send(TASK, task)
            kind, payload = self.receive(None)
        except DiedError as died:
            self.close()
            raise RuntimeError(f"the worker's child does not start: {died.why}") from died
        if kind != READY:
            self.close()
            raise RuntimeError(bytes(payload).decode())
        self.task = task

    def send(self, kind: bytes, payload: bytes | memoryview = b"") -> None:
        """Raises DiedError, at once where the child is gone."""
        try:
            self._socket.sendall(HEAD.pack(kind, len(payload)))
            self._socket.sendall(payload)
        except OSError as error:
            raise DiedError(str(error)) from error

    def receive(self, hang_s: float | None) -> tuple[bytes, bytearray]:
        """The next message. Raises DiedError where the child ends before, or stays longer than hang_s at one row."""
        head = self._exactly(HEAD.size, hang_s)
        kind, length = HEAD.unpack(head)
        if length > MAX_REPLY:
            self.kill()
            raise DiedError(f"it sent a message of {length} bytes")
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
                raise DiedError(self._why())
            at += got
        return whole

    def _look_after(self, hang_s: float) -> None:
        oldest = min(self.board.rows().values(), default=None)
        if oldest is not None and time.monotonic() - oldest > hang_s:
            self.kill()
            raise DiedError(f"it did not end within {hang_s:g} s")

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


FUNCTIONS = b""  # what idle children of `stream` are kept under: any may take any function

# Idle children by what they have opened: opening a model costs half a second, and a process a fifth.
_idle: dict[bytes, list[Child]] = {}

_lock = threading.Lock()


def take(task: bytes, of: bytes) -> Child:
    """An idle child kept under `of`, else one that lets go of another task, else a new one, with this task opened.
    What rows have touched never becomes a child of `stream`, nor the other way round. So memory is bounded."""
    child: Child | None = None
    with _lock:
        for key in [of] if of == FUNCTIONS else [of, *(key for key in _idle if key not in (of, FUNCTIONS))]:
            mine = _idle.get(key, [])
            while mine and child is None:
                child = mine.pop()
                # One that is about to end by itself is not taken: it would be gone before its first row.
                if not child.is_there() or time.monotonic() - child.idle_since > 0.8 * IDLE_S:
                    child.close()
                    child = None
            if not mine:
                _idle.pop(key, None)
    if child is None:
        return Child(task)
    child.open(task)
    return child


def keep(child: Child, of: bytes) -> None:
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
