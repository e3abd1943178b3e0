"""Sail's server in a process of its own, which ends with the process that started it, however that ends.

In our own process it would take Ctrl-C for itself, and a crash of it, or of a Python function, would be ours."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from udfs.children import forks, pool

START_S = 60.0
LOG_SHOWN = 300  # characters of the log in an error
# Rows of a row group that the writer holds: 16,384 vectors of 1,280 numbers are 84 MB.
ROW_GROUP = 16_384
MEMORY_SHARE = 0.6  # of the machine's memory that queries may hold before one of them stops with an error


class Server:
    """A running server. address: host:port. folder: for its checkpoints and log, removed with it."""

    def __init__(self, environment: Mapping[str, str], cores: int) -> None:
        """Starts it and returns at once; see wait(). environment: over this process's own."""
        self.folder = Path(tempfile.mkdtemp(prefix="imagesieve-"))
        (self.folder / "checkpoints").mkdir()
        self.log = self.folder / "engine.log"
        program = "from jobs.engines.sail_server import serve; serve()"
        settings = {
            "RUST_LOG": "error",
            "RUST_BACKTRACE": "0",
            "SAIL_EXECUTION__DEFAULT_PARALLELISM": str(cores),
            "SAIL_EXECUTION__CHECKPOINT__PATH": str(self.folder / "checkpoints"),
            # The driver may be busy for long with its own work, or stopped for a while.
            "SAIL_SPARK__SESSION_TIMEOUT_SECS": str(7 * 86_400),
            "TMPDIR": str(self.folder),  # of what does not fit into memory
            "SAIL_PARQUET__MAX_ROW_GROUP_SIZE": str(ROW_GROUP),
            "SAIL_PARQUET__MAXIMUM_PARALLEL_ROW_GROUP_WRITERS": "1",
            "SAIL_RUNTIME__MEMORY_POOL__TYPE": "greedy",
            "SAIL_RUNTIME__MEMORY_POOL__GREEDY__MAX_SIZE": str(int(MEMORY_SHARE * _memory_bytes())),
            # Its allocator, and PyArrow's in the children of its functions, give back at once what they need no more:
            # else each holds the most that it ever had, half of all memory with 50,000 images.
            "MIMALLOC_PURGE_DELAY": "0",
            **pool.MALLOC,
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }
        with self.log.open("wb") as log:
            # A session of its own: Ctrl-C on a terminal is for us alone, and all its processes can be ended at once.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", program, str(self.folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**pool.ONE_THREAD, **os.environ, **settings, **environment},
                start_new_session=True,
            )
        self._said: IO[bytes] | None = self._process.stdout
        self._killed = False

    def wait(self) -> str:
        """host:port, once it answers there. Raises OSError where it ends before."""
        line = self._said.readline() if self._said is not None else b""
        if not line:
            raise OSError(self.why())
        return str(json.loads(line)["address"])

    def has_ended(self, within_s: float) -> bool:
        """Whether it is gone, or goes within so long: its connections break a while before it has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(within_s)
        return self._process.poll() is not None

    def why(self) -> str:
        """How it ended, with the end of its log, on one line."""
        self.has_ended(2)
        code = self._process.returncode
        how = f"exit code {code}"
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                how = f"killed by {signal.Signals(-code).name}"
        return f"{how}; the end of its log: {self.last_line() or 'empty'}"

    def last_line(self) -> str:
        try:
            lines = self.log.read_bytes()[-20_000:].decode(errors="replace").splitlines()
        except OSError:
            return ""
        return next((" ".join(line.split())[:LOG_SHOWN] for line in reversed(lines) if line.strip()), "")

    def kill(self) -> None:
        """Ends it and all processes that it started, at once; what it was at is lost."""
        if self._killed:  # the number of the group may be another's by now
            return
        self._killed = True
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)

    def close(self) -> None:
        self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def _memory_bytes() -> int:
    """Of this machine, or of the container where that has less."""
    import psutil

    total = int(psutil.virtual_memory().total)
    with contextlib.suppress(OSError, ValueError):
        total = min(total, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    return total


# --- in the server's process ---


def _prepare() -> None:
    """Imports what the first function needs, while the run looks at its inputs."""
    with contextlib.suppress(ImportError):  # what is missing is told by whoever needs it
        import pandas  # noqa: F401
        import pyspark.sql.pandas.serializers
        import pyspark.worker  # noqa: F401

        import udfs.arrow
        import udfs.children.in_child  # noqa: F401


def serve() -> None:
    """The process's whole life: starts the server, says where, and waits until the parent has gone."""
    folder = Path(sys.argv[1])
    if forks.can_fork():
        pool.start_by(forks.ForkServer())
    from pysail.spark import SparkConnectServer

    server = SparkConnectServer("127.0.0.1", 0)
    server.start(background=True)
    found = server.listening_address
    host, port = found if found is not None else ("", 0)
    sys.stdout.write(json.dumps({"address": f"{host}:{port}"}) + "\n")
    sys.stdout.flush()
    threading.Thread(target=_prepare, daemon=True, name="prepare").start()
    while os.read(0, 1):  # at its end the parent has gone, by whatever way
        pass
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        os.killpg(0, signal.SIGKILL)  # this process and the children of its functions
    os._exit(0)
