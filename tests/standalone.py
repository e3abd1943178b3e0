"""A standalone Spark cluster on 127.0.0.1: a master and workers as processes of their own, as many as a test starts.

It runs the pyspark of this Python. The processes see neither the checkout nor the packages of this Python, unless a
test submits with them."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pyspark

from tests.bench.process_tree import descendants
from tests.e2e.lakes import Ended, clean_environment

HOME = Path(pyspark.__file__).parent
START_S = 60.0
# As imagesieve starts its own JVM: for runs of minutes the second compiler costs more than it saves.
JAVA_OPTIONS = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
DAEMON_MEMORY = "256m"  # of the master and of a worker, which only starts executors


@dataclass(frozen=True)
class Worker:
    """folder: below it each executor has its working folder."""

    process: "subprocess.Popen[bytes]"
    folder: Path

    def kill(self) -> int:
        """SIGKILL for it and all that it started, as a node dies. Returns how many processes that were."""
        # Stopped first, else it starts another executor for one that dies before it.
        os.kill(self.process.pid, signal.SIGSTOP)
        victims = [*descendants(self.process.pid), self.process.pid]
        for victim in victims:
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
        self.process.wait()
        return len(victims)


@dataclass(frozen=True)
class Cluster:
    folder: Path
    port: int
    master: "subprocess.Popen[bytes]"
    workers: list[Worker] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"spark://127.0.0.1:{self.port}"

    def start_worker(self, cores: int = 1, memory_mb: int = 2048, gpus: int = 0) -> Worker:
        """A worker that offers these; its GPUs are made up, by a discovery script. Returns when it is registered."""
        folder = self.folder / f"worker-{len(self.workers)}"
        folder.mkdir()
        settings = folder / "worker.properties"
        settings.write_text("")
        if gpus:
            script = folder / "gpus.sh"
            found = json.dumps({"name": "gpu", "addresses": [str(number) for number in range(gpus)]})
            script.write_text(f"#!/bin/sh\necho '{found}'\n")
            script.chmod(0o755)
            settings.write_text(
                f"spark.worker.resource.gpu.amount {gpus}\nspark.worker.resource.gpu.discoveryScript {script}\n"
            )
        process = _start(
            "worker.Worker", folder, "--host", "127.0.0.1", "--webui-port", "0", "--cores", str(cores),
            "--memory", f"{memory_mb}m", "--work-dir", str(folder / "work"), "--properties-file", str(settings),
            self.url,
        )  # fmt: skip
        worker = Worker(process, folder / "work")
        self.workers.append(worker)
        _wait_for(folder / "log", "Successfully registered with master", process)
        return worker

    def start(
        self,
        *argv: str | Path,
        cwd: Path,
        conf: Mapping[str, str],
        env: Mapping[str, str],
        options: tuple[str, ...] = (),
    ) -> "subprocess.Popen[str]":
        """spark-submit in client mode. conf: settings. options: others of spark-submit. argv: the script, and its
        arguments."""
        usual = {
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.memory": "1g",
            "spark.driver.extraJavaOptions": JAVA_OPTIONS,
            "spark.executor.extraJavaOptions": JAVA_OPTIONS,
            "spark.executor.memory": "768m",
            "spark.executor.cores": "1",
            "spark.ui.enabled": "false",
            "spark.task.maxFailures": "8",
        }
        settings = [part for name, value in {**usual, **conf}.items() for part in ("--conf", f"{name}={value}")]
        return subprocess.Popen(
            [str(HOME / "bin" / "spark-submit"), "--master", self.url, "--deploy-mode", "client",
             *settings, *options, *map(str, argv)],
            cwd=cwd, env=clean_environment(SPARK_HOME=str(HOME), **env),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def submit(
        self,
        *argv: str | Path,
        cwd: Path,
        conf: Mapping[str, str],
        env: Mapping[str, str],
        options: tuple[str, ...] = (),
        timeout_s: float = 900,
    ) -> Ended:
        """As `start`, to its end; it is killed, and the test fails, after timeout_s. What it left on the workers'
        disks goes."""
        running = self.start(*argv, cwd=cwd, conf=conf, env=env, options=options)
        try:
            out, err = running.communicate(timeout=timeout_s)
        finally:
            running.kill()
            self.clear()
        return Ended(running.returncode, out, err)

    def clear(self) -> None:
        """Removes the executors' folders: each holds an environment."""
        for worker in self.workers:
            shutil.rmtree(worker.folder, ignore_errors=True)
            if worker.process.poll() is None:
                worker.folder.mkdir(parents=True, exist_ok=True)


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """A master alone, until the block ends; then all processes end. Fails where it does not start."""
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = int(listener.getsockname()[1])
    master = _start("master.Master", folder, "--host", "127.0.0.1", "--port", str(port), "--webui-port", "0")
    started = Cluster(folder, port, master)
    try:
        _wait_for(folder / "log", "I have been elected leader", master)
        yield started
    finally:
        for worker in started.workers:
            if worker.process.poll() is None:
                worker.kill()
        master.kill()
        master.wait()
        started.clear()


def _start(name: str, folder: Path, *argv: str) -> "subprocess.Popen[bytes]":
    """A daemon of Spark whose output goes to folder/log."""
    env = clean_environment(SPARK_HOME=str(HOME), SPARK_LOCAL_IP="127.0.0.1", SPARK_DAEMON_MEMORY=DAEMON_MEMORY,
                            SPARK_DAEMON_JAVA_OPTS=JAVA_OPTIONS)  # fmt: skip
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [str(HOME / "bin" / "spark-class"), f"org.apache.spark.deploy.{name}", *argv],
            cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip


def _wait_for(log: Path, words: str, process: "subprocess.Popen[bytes]") -> None:
    ends = time.monotonic() + START_S
    while time.monotonic() < ends and process.poll() is None:
        if words in log.read_text(errors="replace"):
            return
        time.sleep(0.1)
    raise AssertionError(f"Spark's daemon did not start:\n{log.read_text(errors='replace')[-2000:]}")
