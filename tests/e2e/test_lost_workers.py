"""A node that dies in the middle of a stage: SIGKILL for a worker, its executor and their Python processes."""

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from emr.packages.package import build_zip
from jobs.engines.spark_versions import JARS, RELEASE
from tests import standalone
from tests.conftest import spark_only
from tests.e2e import images, lakes
from tests.e2e.lakes import ROOT

pytestmark = [pytest.mark.slow, spark_only]

COUNT = 240  # images: enough for a stage to have a middle
# Each stage with so little in a task that there are tasks to lose; neighbours by cells, with shuffles.
SETTINGS = {
    "embed": ("embed.images_per_task=16",),
    "neighbours": ("neighbours.exact_images=64", "neighbours.cell_mb=1", "neighbours.recall_images=50"),
}
TABLES = {"embed": ("images", "features", "embeddings", "failures"), "neighbours": ("neighbours",)}
SEEDS = (1, 2, 3)
EARLIEST, LATEST = 0.15, 0.85  # of a stage's tasks; before and after Spark itself is at work, not the stage


@dataclass(frozen=True)
class Undisturbed:
    """The lake before each stage, by its name; the tables after it; how many tasks it took."""

    folder: Path
    before: dict[str, Path]
    after: dict[str, dict[str, list[lakes.Row]]]
    tasks: dict[str, int]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def tasks_done(port: int) -> int | None:
    """Tasks that the driver has seen end well, of all stages; None while it does not answer."""
    root = f"http://127.0.0.1:{port}/api/v1/applications"
    try:
        with urllib.request.urlopen(root, timeout=5) as answer:
            own = json.load(answer)[0]["id"]
        with urllib.request.urlopen(f"{root}/{own}/stages", timeout=5) as answer:
            return sum(int(stage["numCompleteTasks"]) for stage in json.load(answer))
    except (OSError, ValueError, LookupError):
        return None


def start(cluster: standalone.Cluster, package: Path, stage: str, lake: Path, port: int) -> "subprocess.Popen[str]":
    settings = [part for one in (*SETTINGS[stage], "spark.shuffle_partitions=6") for part in ("--set", one)]
    return cluster.start(
        ROOT / "emr" / "entry.py", stage, "--lake", lake, *settings,
        cwd=lake.parent, env={"PYSPARK_PYTHON": sys.executable},
        conf={"spark.ui.enabled": "true", "spark.ui.port": str(port)},
        options=("--py-files", str(package), "--packages", JARS[RELEASE].delta),
    )  # fmt: skip


def ended(running: "subprocess.Popen[str]") -> lakes.Ended:
    try:
        out, err = running.communicate(timeout=900)
    finally:
        running.kill()
    return lakes.Ended(running.returncode, out, err)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("package") / "imagesieve.zip"
    build_zip(target)
    return target


@pytest.fixture(scope="module")
def undisturbed(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """Each stage on a cluster of two workers that lose nothing."""
    root = tmp_path_factory.mktemp("undisturbed")
    folder = images.write(
        root / "in",
        {f"{n:03d}.jpg": images.jpeg(images.picture(n)) for n in range(COUNT)}
        | {f"near-{n:02d}.jpg": images.near_copy(images.picture(n)) for n in range(20)}
        | {"broken.jpg": b"no image"},
    )
    lake = root / "lake"
    catalogued = lakes.process("catalog", folder, "--lake", lake, "--set", "spark.master=local[1]", cwd=root)
    assert catalogued.code == 0, catalogued.err
    name_of = lakes.relative_to(folder)
    before, after, tasks = {}, {}, {}
    with standalone.cluster(root / "cluster") as cluster:
        cluster.start_worker()
        cluster.start_worker()
        for stage in SETTINGS:
            before[stage] = root / f"before-{stage}"
            shutil.copytree(lake, before[stage])
            port = free_port()
            running = start(cluster, package, stage, lake, port)
            found = 0
            while running.poll() is None:
                found = max(found, tasks_done(port) or 0)
                time.sleep(0.1)
            over = ended(running)
            assert over.code == 0, over.err[-3000:]
            after[stage] = lakes.snapshot(lake, name_of, only=TABLES[stage])
            tasks[stage] = found
    assert min(tasks.values()) > 20, tasks
    return Undisturbed(folder, before, after, tasks)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("stage", list(SETTINGS))
def test_a_worker_dies(stage: str, seed: int, undisturbed: Undisturbed, package: Path, tmp_path: Path) -> None:
    """Catches results that are lost or doubled with an executor, and a stage that its death ends."""
    rng = np.random.default_rng([seed, len(stage)])
    third = (SEEDS.index(seed) + rng.uniform()) / len(SEEDS)  # early, in the middle, late
    share, victim = EARLIEST + (LATEST - EARLIEST) * third, int(rng.integers(2))
    moment = round(share * undisturbed.tasks[stage])
    lake = tmp_path / "lake"
    shutil.copytree(undisturbed.before[stage], lake)
    with standalone.cluster(tmp_path / "cluster") as cluster:
        workers = [cluster.start_worker(), cluster.start_worker()]
        port = free_port()
        running = start(cluster, package, stage, lake, port)
        while running.poll() is None and (tasks_done(port) or 0) < moment:
            time.sleep(0.05)
        done = tasks_done(port)
        killed = workers[victim].kill()
        alive = running.poll() is None
        over = ended(running)
    sys.stdout.write(
        f"Spark {RELEASE}, {stage}, seed {seed}: worker {victim} killed ({killed} processes) after {done} of "
        f"{undisturbed.tasks[stage]} tasks, exit code {over.code}\n"
    )
    assert alive, "it had ended before"
    assert killed >= 3, "no executor died with it"
    assert over.code == 0, over.err[-3000:]
    assert "Lost executor" in over.err
    now = lakes.snapshot(lake, lakes.relative_to(undisturbed.folder), only=TABLES[stage])
    lakes.assert_same(undisturbed.after[stage], now)
