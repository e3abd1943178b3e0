"""Processes that a run has started, and whether they have ended."""

import time
from collections.abc import Iterable

import psutil


def gone(processes: Iterable[psutil.Process], within_s: float = 5) -> bool:
    """Whether all of them have ended, or end within so many seconds."""
    ends = time.monotonic() + within_s
    there = [process for process in processes if _is_there(process)]
    while there and time.monotonic() < ends:
        time.sleep(0.02)
        there = [process for process in there if _is_there(process)]
    return not there


def _is_there(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
