"""A run that is stopped, or whose engine or functions die, in a process of its own: one line, and nothing stays."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest

from jobs.errors import INTERRUPTED
from tests.conftest import sail_only
from tests.e2e import images, lakes
from tests.e2e.lakes import ROOT
from tests.e2e.processes import gone

pytestmark = sail_only
ENDS_S = 5.0  # the bench asks for two seconds on a machine that does nothing else
SERVER = "sail_server"

# Found by Python before anything else: once the module is read, its function ends the process as a fault in C does.
FAULT = """
import importlib.abc, importlib.machinery, os, signal, sys
class Fault(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path, target=None):
        if name == "udfs.images.alignment":
            found = importlib.machinery.PathFinder.find_spec(name, path)
            self.real, found.loader = found.loader, self
            return found
    def create_module(self, spec):
        return self.real.create_module(spec)
    def exec_module(self, module):
        self.real.exec_module(module)
        module.alignment = lambda *pair: os.kill(os.getpid(), signal.SIGSEGV)
sys.meta_path.insert(0, Fault())
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Sixty images, of which each has a copy that only alignments can tell from its original."""
    files = {}
    for number in range(30):
        picture = images.picture(number, 240, 180)
        files[f"{number:02d}.jpg"] = images.jpeg(picture)
        files[f"{number:02d}-small.jpg"] = images.jpeg(np.asarray(cv2.resize(picture, (160, 120)), np.uint8))
    return images.write(tmp_path / "in", files)


@pytest.fixture
def running(folder: Path, tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """A run that has begun to read images."""
    process = lakes.start(
        "run", folder, "--lake", tmp_path / "lake", "--set", "embed.images_per_commit=5", cwd=tmp_path, own_group=True
    )
    ends = time.monotonic() + 120
    while lakes.commits(tmp_path / "lake", "embeddings") < 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < ends
        time.sleep(0.02)
    yield process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def test_interrupted(running: "subprocess.Popen[str]", folder: Path, tmp_path: Path) -> None:
    """Catches Ctrl-C that is not heard while an engine works, that ends with a traceback, or that leaves processes."""
    started = psutil.Process(running.pid).children(recursive=True)
    assert started
    begun = time.monotonic()
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does: to all of them
    _, err = running.communicate(timeout=60)
    assert time.monotonic() - begun < ENDS_S
    assert running.returncode == INTERRUPTED, err
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("imagesieve: interrupted")
    assert gone(started)
    again = lakes.process("run", folder, "--lake", tmp_path / "lake", cwd=tmp_path)
    assert again.code == 0, again.err
    assert len(lakes.rows(tmp_path / "lake", "embeddings")) == 60


def test_the_engine_dies(running: "subprocess.Popen[str]") -> None:
    """Catches a run that waits for ever for an engine that is gone, or that tells of gRPC."""
    started = psutil.Process(running.pid).children(recursive=True)
    (server,) = [one for one in started if SERVER in " ".join(one.cmdline())]
    server.kill()
    _, err = running.communicate(timeout=60)
    assert running.returncode not in (0, INTERRUPTED)
    assert "Traceback" not in err
    assert "the embedded engine ended (killed by SIGKILL" in err.splitlines()[-1]
    assert gone(started)


def test_native_code_dies_in_a_function(folder: Path, tmp_path: Path) -> None:
    """Catches a fault in C outside the decoders that ends the engine, or the run without a word."""
    images.write(tmp_path / "path", {"sitecustomize.py": FAULT.encode()})
    ended = lakes.process(
        "run", folder, "--lake", tmp_path / "lake", cwd=tmp_path, env={"PYTHONPATH": f"{tmp_path / 'path'}:{ROOT}"}
    )
    assert ended.code not in (0, INTERRUPTED), ended.err
    assert "Traceback" not in ended.err
    last = ended.err.splitlines()[-1]
    assert last.startswith("imagesieve: ")
    assert "killed by SIGSEGV" in last
    assert len(lakes.rows(tmp_path / "lake", "embeddings")) == 60
