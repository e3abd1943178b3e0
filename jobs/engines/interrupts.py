"""Ctrl-C: ends what runs beside this process at once, and the process itself soon, whatever it is at."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SOON_S = 1.2  # after which the process ends without waiting for what is still to be put in order

_at_once: Callable[[], None] | None = None
_happened = threading.Event()


def happened() -> bool:
    """Whether Ctrl-C came: an error that follows is of what it ended, whoever has caught the KeyboardInterrupt."""
    return _happened.is_set()


def at_once(end: Callable[[], None] | None) -> None:
    """Names what a Ctrl-C ends before anything else; None: nothing."""
    global _at_once  # noqa: PLW0603 (a signal has one handler in a process)
    _at_once = end


def _interrupted(_number: int, _frame: FrameType | None) -> None:
    _happened.set()
    # Objects, threads and loggers of the client complain of the engine that has gone.
    sys.unraisablehook = lambda _: None
    threading.excepthook = lambda _: None
    logging.disable()
    if _at_once is not None:
        _at_once()
    raise KeyboardInterrupt


@contextmanager
def ends_soon(last_words: Callable[[], int]) -> Iterator[None]:
    """While inside, Ctrl-C ends the process within SOON_S, even in the middle of a long computation.

    last_words: says what is to be said and returns the exit code, where the process had no time to do it itself. Only
    for a program of its own: nothing of the process is put in order then. Does nothing where Ctrl-C is ignored (a job
    in the background of a shell)."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    _happened.clear()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    ended = threading.Event()

    def watch() -> None:
        while number := ours.recv(1):
            if number[0] == signal.SIGINT:
                break
        else:
            return
        if not ended.wait(SOON_S):
            code = last_words()
            sys.stderr.flush()
            os._exit(code)

    before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGINT, _interrupted)
    threading.Thread(target=watch, daemon=True, name="interrupts").start()
    try:
        yield
    finally:
        ended.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.set_wakeup_fd(before)
        theirs.close()
