"""Ctrl-C in `imagesieve emr submit`, in a process of its own: nothing stays behind that nobody knows of."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.emr.account import INPUT, LAKE, Account
from tests.emr.proxy import Proxy, Request, Response
from tests.emr.test_submit import jobs_run_on, release_known_to_moto

ROOT = Path(__file__).parents[2]


class Gate:
    """Holds an action back at the proxy until it is opened; `reached` when it is there."""

    def __init__(self, proxy: Proxy, wanted: Callable[[Request], bool]) -> None:
        self.reached, self._open = threading.Event(), threading.Event()
        self._wanted = wanted
        proxy.rules.append(self._rule)

    def _rule(self, request: Request) -> Response | None:
        if self._wanted(request):
            self.reached.set()
            self._open.wait(60)
        return None

    def open(self) -> None:
        self._open.set()


def _begun(account: Account, *more: str) -> "subprocess.Popen[str]":
    options = account.serverless if "serverless" in more else account.options
    command = [sys.executable, "-m", "imagesieve", "emr", "submit", INPUT, "--lake", LAKE, *options, "--yes", *more]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    )


def _interrupted(process: "subprocess.Popen[str]", gate: Gate, again: bool = False) -> tuple[int, str, str]:
    """Ctrl-C when the gate is reached; then, unless it comes again, the gate opens. (exit code, stdout, stderr)."""
    try:
        assert gate.reached.wait(60)
        process.send_signal(signal.SIGINT)
        time.sleep(1.0)
        if again:
            process.send_signal(signal.SIGINT)
            process.wait(30)
        gate.open()
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        gate.open()
    assert "Traceback" not in err
    return process.returncode, out, err


def test_while_the_cluster_is_asked_for(account: Account, proxy: Proxy) -> None:
    """Catches a cluster that starts after the person has gone: the request was on its way."""
    gate = Gate(proxy, lambda request: request.action == "RunJobFlow")
    code, _, err = _interrupted(_begun(account), gate)
    assert code == 130
    assert "had been started and was ended again" in err
    assert proxy.seen.count("RunJobFlow") == 1
    assert not account.alive()


@pytest.mark.slow
def test_while_it_is_asked_for_and_the_answer_is_lost(account: Account, proxy: Proxy) -> None:
    """Catches the same, where only the unique name tells which cluster it was."""
    gate = Gate(proxy, lambda request: request.action == "RunJobFlow")
    proxy.lost.add("RunJobFlow")
    code, _, err = _interrupted(_begun(account), gate)
    assert code == 130
    assert "had been started and was ended again" in err
    assert not account.alive()


@pytest.mark.slow
def test_it_cannot_be_ended(account: Account, proxy: Proxy) -> None:
    """Catches a cluster that is left behind without a word of its id."""
    gate = Gate(proxy, lambda request: request.action == "RunJobFlow")
    proxy.refuse("TerminateJobFlows", 400, "AccessDeniedException", "you may not")
    code, _, err = _interrupted(_begun(account), gate)
    assert code == 130
    (alive,) = account.alive()
    assert f"{alive['Id']} runs and could not be ended" in err
    assert f"imagesieve emr cancel {alive['Id']}" in err


@pytest.mark.slow
def test_twice(account: Account, proxy: Proxy) -> None:
    """Catches a second Ctrl-C that hangs, or that leaves the person without the name to look for."""
    gate = Gate(proxy, lambda request: request.action == "RunJobFlow")
    code, _, err = _interrupted(_begun(account), gate, again=True)
    assert code == 130
    assert "cluster imagesieve-cpu-" in err
    assert "may be running: look with imagesieve emr status" in err


def test_while_checking(account: Account, proxy: Proxy) -> None:
    """Catches a traceback, and a cluster that is started all the same."""
    gate = Gate(proxy, lambda request: request.action == "DescribeInstanceTypes")
    code, _, err = _interrupted(_begun(account), gate)
    assert code == 130
    assert err.splitlines()[-1] == "imagesieve: interrupted: nothing was started"
    assert "RunJobFlow" not in proxy.seen
    assert not account.alive()


@pytest.mark.slow
def test_while_a_job_run_is_asked_for(account: Account, proxy: Proxy) -> None:
    """Catches a run on EMR Serverless that goes on, and is paid, without anybody."""
    release_known_to_moto(proxy)
    jobs_run_on(proxy)
    gate = Gate(proxy, lambda request: request.method == "POST" and request.path.endswith("/jobruns"))
    cancelled: list[str] = []
    proxy.rules.append(lambda request: cancelled.append(request.path) if request.method == "DELETE" else None)
    code, _, err = _interrupted(_begun(account, "--cluster", "serverless"), gate)
    assert code == 130
    assert "had been started and was ended again" in err
    assert len(cancelled) == 1
    (run,) = account.jobs()
    assert run["id"] in cancelled[0]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cpu"])
def test_without_ctrl_c(kind: str, account: Account, proxy: Proxy) -> None:
    """Catches a test above that passes for nothing would start at all."""
    process = _begun(account, "--cluster", kind)
    out, _ = process.communicate(timeout=90)
    assert process.returncode == 0
    assert f"{account.alive()[0]['Id']} was started" in out
