"""Children of udfs.children.isolation forked from a process that has imported what they need: a start takes hundredths
of a second instead of half of one, and they share its memory. By multiprocessing's fork server."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from multiprocessing import forkserver, reduction
from typing import Any

from udfs.children import pool, serving

PRELOADED = "udfs.children.preloaded"


class Inherited:
    """A descriptor on its way to a child."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[Any, ...]:
        return _detached, (reduction.DupFd(self.number),)


def _detached(handle: Any) -> Inherited:
    return Inherited(handle.detach())


class ForkServer:
    """See pool.Forks. Linux only: elsewhere the system's own libraries may not be forked."""

    def __init__(self) -> None:
        """Starts it and returns at once. Its environment is this process's, which must have pool.MALLOC."""
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([PRELOADED])
        self._lock = threading.Lock()  # multiprocessing looks after all children whenever it starts one
        forkserver.ensure_running()

    def started(self, connection: int, board: int, alive: int, said: int) -> pool.Process:
        given = tuple(map(Inherited, (connection, board, alive, said)))
        process = self._context.Process(target=_serve, args=given, daemon=True)
        with self._lock:
            process.start()
        return _Forked(process, self._lock)


class _Forked:
    """As subprocess.Popen."""

    def __init__(self, process: Any, lock: threading.Lock) -> None:
        self._process, self._lock = process, lock
        self.pid: int = process.pid

    def poll(self) -> int | None:
        with self._lock:
            code: int | None = self._process.exitcode
            return code

    def wait(self) -> int:
        with self._lock:
            self._process.join()
            return int(self._process.exitcode)

    def kill(self) -> None:
        self._process.kill()


def can_fork() -> bool:
    return sys.platform == "linux"


def _serve(connection: Inherited, board: Inherited, alive: Inherited, said: Inherited) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, place in ((nothing, 0), (said.number, 1), (said.number, 2)):
        os.dup2(number, place)
    os.close(nothing)
    os.close(said.number)
    serving.serve(connection.number, board.number, alive.number)
