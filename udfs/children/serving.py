"""The child's side: it opens tasks and answers rows until its parent goes."""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from udfs.children.messages import (
    END,
    FAULT,
    HEAD,
    IDLE_S,
    READY,
    ROWS,
    TASK,
    Batches,
    Board,
    Task,
    in_messages,
    packed,
)


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
        while work is None or select.select([connected], [], [], IDLE_S)[0]:
            kind, payload = _read(connected)
            if kind == TASK:
                task: Task = pickle.loads(payload)  # noqa: S301 (of the parent)
                work = task.open()
                _write(connected, READY)
                continue
            if work is None:
                return
            for batch in work(_received(connected, kind, payload), rows):
                for part in in_messages(batch):
                    _write(connected, ROWS, packed(part))
            _write(connected, END)
            with contextlib.suppress(OSError):
                os.ftruncate(2, 0)  # what decoders have to say of good images is of no interest later
    except EOFError:
        return
    except Exception as error:  # told to the parent, which stops
        traceback.print_exc()
        with contextlib.suppress(OSError):
            _write(connected, FAULT, " ".join(f"{type(error).__name__}: {error}".split()).encode())


def _received(stream: socket.socket, kind: bytes, payload: bytearray) -> Batches:
    """Batches from the parent, of this first message on, until it says that there are no more. Raises EOFError where it
    is gone."""
    while kind != END:
        yield from pa.ipc.open_stream(payload)
        kind, payload = _read(stream)


def _read(stream: socket.socket) -> tuple[bytes, bytearray]:
    kind, length = HEAD.unpack(_receive(stream, HEAD.size))
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
    stream.sendall(HEAD.pack(kind, len(payload)))
    stream.sendall(payload)
