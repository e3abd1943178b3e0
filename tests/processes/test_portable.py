"""Catches what asks for Linux, and has no other way: system calls, /proc."""

import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from jobs import lease
from udfs.children import isolation, pool
from udfs.children.messages import FunctionTask


@pytest.fixture
def no_proc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(lease, "_PROC", tmp_path / "proc")


@pytest.mark.usefixtures("no_proc")
def test_a_killed_holder_is_told_without_proc() -> None:
    assert lease._boot()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        began = lease._process_started(other.pid)
        assert began
        assert began == lease._process_started(other.pid) != lease._process_started(os.getpid())
        other.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # a zombie
        assert lease._process_started(other.pid) == ""
    assert lease._process_started(other.pid) == ""


@pytest.mark.usefixtures("no_proc")
def test_a_lake_is_taken_and_released_without_proc(tmp_path: Path) -> None:
    for number in (1, 2):
        with lease.acquire(str(tmp_path / "lake"), "run") as held:
            assert held.number == number
    with lease.acquire(str(tmp_path / "lake"), "run"), pytest.raises(lease.LeaseHeld):
        lease.acquire(str(tmp_path / "lake"), "other")


def test_children_start_without_files_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    pool.close()
    batch = pa.record_batch([pa.array([1, 2])], names=["n"])
    assert list(isolation.stream(iter([batch]), FunctionTask(pickle.dumps(iter), "same"))) == [batch]


def test_cores_are_counted_without_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    from jobs.engines import sail_start

    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert sail_start.usable_cores() == os.cpu_count()
