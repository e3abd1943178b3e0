"""Catches Ctrl-C after which threads, loggers or what is put in order complain of the engine that has gone."""

import os
import signal
import subprocess
import sys

from jobs.errors import INTERRUPTED
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
