"""Catches Ctrl-C after which threads, loggers or what is put in order complain of the engine that has gone."""

import os
import signal
import subprocess
import sys

import pytest

from jobs.errors import AGAIN, INTERRUPTED
from tests.e2e.lakes import ROOT

PROGRAM = """
import logging, sys, threading, time
from jobs import command
from jobs.engines import interrupts

def gone():
    while not interrupts.happened():
        time.sleep(0.01)
    logging.getLogger("client").error("the stream ended")
    raise OSError("the connection broke in a thread")

def perform(*_):
    thread = threading.Thread(target=gone)
    thread.start()
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        thread.join()
        raise OSError("the connection broke at the end")

command.perform = perform
sys.exit(command.script())
"""

IMPORTED = """
import importlib.abc, os, signal, sys

class Found(importlib.abc.MetaPathFinder):
    def find_spec(self, name, *_):
        if name in ("jobs.pipeline", "jobs.serve.command"):
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Found())
from imagesieve.__main__ import script
sys.exit(script())
"""


@pytest.mark.parametrize("command", ["report", "serve"])
def test_while_modules_are_imported(command: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", IMPORTED, command, "--lake", "none"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (INTERRUPTED, f"imagesieve: {AGAIN}\n")


def test_one_line() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "report", "--lake", "none"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED, err
    assert len(err.splitlines()) == 1, err
    assert err.startswith("imagesieve: interrupted")
