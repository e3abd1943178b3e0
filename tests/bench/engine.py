"""What a run on the embedded engine costs: one JSON line of `python -m tests.bench.engine --photos DIR --labelled DIR`.

- first: wall_s, cpu_s of a first run on the photographs, each the median of three runs into new lakes.
- again: again_s, the same command again; ten_more_s, with ten photographs more.
- fastdup: cpu_ratio_to_fastdup at 1,000 and 4,000 photographs (crops, resized back), in turn with it in one run. It is
  installed for that, in an environment of its own.
- busy: embed_cpu_share, CPU time of the stage embed alone on 2,000 photographs, by its wall time and the cores; its
  start, which is one thread, counts.
- tables: differing_tables of the photographs and labelled images between this engine and Spark (--spark-python).
- install: install_mb of the default environment, compiled as the Makefile does; refused: what must not come with it.
- demo: demo_s, make demo in a fresh clone, with warm caches of packages.
- many: 50,000 small images, the labelled ones varied; peak_mb of all processes together, wall_s, and Spark's.
- interrupt: Ctrl-C at drawn moments: interrupt_s, the longest; left_processes; and the same command afterwards.

Runs on the embedded engine are those of a default installation, as a user has it. CPU is user and system time of all
processes. Linux only."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.bench import engine_runs, many, peers, process_tree
from tests.bench.engine_runs import FailedError
from tests.lake_compare import differences

ROOT = Path(__file__).resolve().parents[2]
SIZES = (1000, 4000)
SMALL_IMAGES = 50_000
INTERRUPTS = 6
REFUSED = ("torch", "pyspark", "timm", "delta-spark")
BUSY_IMAGES = 2000
LAYOUT = ("--layout", "{label}/*")


class Bench:
    """The parts. Each returns what it adds to the line."""

    def __init__(self, photos: Path, labelled: Path, spark_python: str, work: Path) -> None:
        self._photos, self._labelled, self._spark, self._work = photos, labelled, spark_python, work

    @cached_property
    def _default(self) -> Path:
        """A virtual environment with a default installation."""
        home = self._work / "installed"
        uv = str(Path(sys.executable).with_name("uv"))
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(home)], check=True)
        constraints = ["--constraints", str(ROOT / "constraints.txt")]
        subprocess.run(
            [uv, "pip", "install", "--quiet", "--python", str(home), *constraints, str(ROOT)],
            check=True,
        )
        # As the Makefile does.
        compiled = [str(home / "bin" / "python"), "-m", "compileall", "-qq", "-j", "0", "-x", "/tests?/", "lib"]
        subprocess.run(compiled, cwd=home, check=False)  # a file may be for another Python
        return home

    @property
    def _python(self) -> str:
        return str(self._default / "bin" / "python")

    def _run(self, folder: Path, lake: Path, *more: str) -> process_tree.Measured:
        return engine_runs.measured(folder, lake, *more, python=self._python)

    def first(self) -> dict[str, Any]:
        self._warm()
        runs = [self._run(self._photos, self._work / f"first-{number}") for number in range(3)]
        return {
            "wall_s": round(statistics.median(run.wall_s for run in runs), 2),
            "cpu_s": round(statistics.median(run.cpu_s for run in runs), 2),
        }

    def again(self) -> dict[str, Any]:
        self._warm()
        folder, lake = self._work / "again", self._work / "again-lake"
        shutil.copytree(self._photos, folder)
        self._run(folder, lake)
        again = [self._run(folder, lake).wall_s for _ in range(3)]
        engine_runs.crops(many.photographs(self._photos), folder / "more", 10)
        more = []
        for number in range(3):
            copied = Path(shutil.copytree(lake, self._work / f"more-lake-{number}"))
            more.append(self._run(folder, copied).wall_s)
        return {"again_s": round(statistics.median(again), 2), "ten_more_s": round(statistics.median(more), 2)}

    def fastdup(self) -> dict[str, Any]:
        self._warm()
        folders = {}
        for size in SIZES:
            folders[size] = self._work / f"photos-{size}"
            engine_runs.crops(many.photographs(self._photos), folders[size], size)
        peer = peers.PEERS["fastdup"]
        python = peers.install(peer, self._work / "fastdup")
        (source,) = peer.programs.values()
        program = peers.peer_program(python, source, peer.environment)
        ours, theirs = {}, {}
        for size, folder in folders.items():
            with tempfile.TemporaryDirectory(dir=self._work) as scratch:
                theirs[size] = program(folder, size, Path(scratch)).cpu_s
            ours[size] = self._run(folder, self._work / f"lake-{size}").cpu_s
        low, high = SIZES
        return {
            "fastdup": peer.requirement,
            "cpu_ratio_to_fastdup": {str(size): round(ours[size] / theirs[size], 2) for size in SIZES},
            "cpu_s_at": {str(size): [round(ours[size], 1), round(theirs[size], 1)] for size in SIZES},
            "slope_ms": [round((cpu[high] - cpu[low]) / (high - low) * 1000, 2) for cpu in (ours, theirs)],
        }

    def busy(self) -> dict[str, Any]:
        self._warm()
        folder, lake = self._work / "busy", str(self._work / "busy-lake")
        engine_runs.crops(many.photographs(self._photos), folder, BUSY_IMAGES)
        engine_runs.ended(engine_runs.program("catalog", str(folder), "--lake", lake, python=self._python))
        run = engine_runs.ended(engine_runs.program("embed", "--lake", lake, python=self._python))
        return {"embed_cpu_share": round(run.cpu_s / run.wall_s / len(os.sched_getaffinity(0)), 3)}

    def tables(self) -> dict[str, Any]:
        folder = self._work / "both"
        shutil.copytree(self._photos, folder / "photos")
        for path in sorted(self._labelled.glob("*/*"))[::25]:
            (folder / path.parent.name).mkdir(exist_ok=True)
            shutil.copy2(path, folder / path.parent.name)
        lakes = {}
        for name, python in (("sail", self._python), ("spark", self._spark)):
            lakes[name] = self._work / f"both-{name}"
            engine_runs.measured(folder, lakes[name], *LAYOUT, "--set", f"spark.engine={name}", python=python)
        found = differences(lakes["sail"], lakes["spark"])
        return {"differing_tables": len(found), "differences": found}

    def install(self) -> dict[str, Any]:
        home, uv = self._default, str(Path(sys.executable).with_name("uv"))
        size = subprocess.run(["du", "-s", "--block-size=1000000", home], capture_output=True, text=True, check=True)
        there = subprocess.run(
            [uv, "pip", "list", "--format=json", "--python", str(home)], capture_output=True, text=True, check=True
        )
        names = {package["name"] for package in json.loads(there.stdout)}
        java = [path.name for path in home.rglob("*.jar")]
        return {"install_mb": int(size.stdout.split()[0]), "refused": sorted(names & set(REFUSED)) + java[:1]}

    def demo(self) -> dict[str, Any]:
        clone = self._work / "clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        found = process_tree.run(["make", "demo"], engine_runs.environment() | {"PYTHONPATH": ""}, clone, 1800)
        if found.returncode:
            raise FailedError(found.err[-500:])
        return {"demo_s": round(found.wall_s, 1), "demo_cpu_s": round(found.cpu_s, 1)}

    def many(self) -> dict[str, Any]:
        self._warm()
        folder = self._work / "many"
        engine_runs.varied(sorted(self._labelled.glob("*/*")), folder, SMALL_IMAGES)
        wall_s, peak = engine_runs.peak_of(
            engine_runs.command(folder, self._work / "many-lake", *LAYOUT, python=self._python)
        )
        found: dict[str, Any] = {"images": SMALL_IMAGES, "peak_mb": round(peak), "many_wall_s": round(wall_s, 1)}
        if Path(self._spark).exists():
            run = engine_runs.command(
                folder, self._work / "many-spark", *LAYOUT, "--set", "spark.engine=spark", python=self._spark
            )
            wall_s, peak = engine_runs.peak_of(run)
            found |= {"many_spark_wall_s": round(wall_s, 1), "many_spark_peak_mb": round(peak)}
        return found

    def interrupt(self) -> dict[str, Any]:
        self._warm()
        whole = self._work / "whole"
        took = self._run(self._photos, whole).wall_s
        ends, left, differing, wrong = [], 0, 0, []
        for number, moment in enumerate(engine_runs.moments(INTERRUPTS, took * 0.95, seed=15)):
            lake = self._work / f"interrupted-{number}"
            run = engine_runs.command(self._photos, lake, python=self._python)
            seconds, code, line, there = engine_runs.interrupted(run, moment)
            ends.append(seconds)
            left += there
            if code != 130 or "interrupted" not in line:
                wrong.append(f"after {moment:.1f} s: exit code {code}, {line[:200]}")
            self._run(self._photos, lake)
            differing += bool(differences(whole, lake))
        return {
            "interrupt_s": round(max(ends), 2), "left_processes": left, "after_interrupt_differing": differing,
            "interrupt_wrong": wrong,
        }  # fmt: skip

    def _warm(self) -> None:
        """One small run: the network is converted, and what is read from disk is in memory."""
        folder = self._work / "warm"
        if not folder.exists():
            engine_runs.crops(many.photographs(self._photos), folder, 30)
            self._run(folder, self._work / "warm-lake")


PARTS = ("first", "again", "fastdup", "busy", "tables", "install", "demo", "many", "interrupt")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.engine", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--labelled", type=Path, required=True, help="small images in a folder for each label")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--spark-python", default=str(ROOT / ".venv-spark/bin/python"))
    parser.add_argument("--work", type=Path, help="existing folder for images and lakes, removed again")
    given = parser.parse_args(argv)
    parts = given.parts.split(",")
    if unknown := sorted(set(parts) - set(PARTS)):
        parser.error(f"--parts: no such part: {', '.join(unknown)}")
    line: dict[str, Any] = {"machine": process_tree.machine()}
    failed = False
    with tempfile.TemporaryDirectory(dir=given.work, prefix="engine-") as work:
        bench = Bench(given.photos.resolve(), given.labelled.resolve(), given.spark_python, Path(work))
        for name in parts:
            part: Callable[[], dict[str, Any]] = getattr(bench, name)
            try:
                found = part()
            except (FailedError, peers.NotMeasuredError, subprocess.CalledProcessError, OSError) as error:
                found, failed = {f"{name}_failed": str(error)[-500:]}, True
            sys.stderr.write(f"{name}: {json.dumps(found)}\n")
            line |= found
    print(json.dumps(line))
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
