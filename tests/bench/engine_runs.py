"""Runs of the whole program for tests.bench.engine: measured, watched for memory, and interrupted."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from tests.bench import process_tree

ROOT = Path(__file__).resolve().parents[2]
SAMPLE_S = 0.25
QUALITY = 95  # of the crops, as that of photographs


class FailedError(Exception):
    """A run that was to succeed did not; says how it ended."""


def environment() -> dict[str, str]:
    """This one, with the modules of this checkout, and as it is for a user, whose Python keeps what it has compiled."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPATH": str(ROOT)}


def program(*argv: str, python: str) -> list[str]:
    """The command line of a command of this checkout."""
    return [python, "-W", "ignore", "-m", "jobs.command", *argv]


def command(folder: Path, lake: Path, *more: str, python: str = sys.executable) -> list[str]:
    return program("run", str(folder), "--lake", str(lake), *more, python=python)


def measured(folder: Path, lake: Path, *more: str, python: str = sys.executable) -> process_tree.Measured:
    """A run to its end. Raises FailedError."""
    return ended(command(folder, lake, *more, python=python))


def ended(run: list[str]) -> process_tree.Measured:
    """A command to its end. Raises FailedError."""
    found = process_tree.run(run, environment(), ROOT, 3600)
    if found.returncode or found.killed:
        raise FailedError(f"exit code {found.returncode}, {found.killed} killed: {found.err[-500:]}")
    return found


def crops(photos: list[Path], folder: Path, count: int, seed: int = 0) -> list[Path]:
    """Writes so many photographs, each a random crop of at least six tenths of a side, resized back. They differ."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(seed)
    made = []
    for number in range(count):
        picture = cv2.imread(str(photos[number % len(photos)]), cv2.IMREAD_COLOR)
        if picture is None:
            raise FailedError(f"{photos[number % len(photos)]} cannot be read")
        height, width = picture.shape[:2]
        share = draw.uniform(0.6, 0.95)
        high, wide = int(height * share), int(width * share)
        top, left = int(draw.integers(0, height - high + 1)), int(draw.integers(0, width - wide + 1))
        cut = cv2.resize(picture[top : top + high, left : left + wide], (width, height), interpolation=cv2.INTER_CUBIC)
        made.append(folder / f"{number:06}.jpg")
        cv2.imwrite(str(made[-1]), cut, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return made


def varied(images: list[Path], folder: Path, count: int, seed: int = 0) -> None:
    """Writes so many small images, each one of the given with other brightness, contrast and noise, as PNG, in folders
    named after the given images' own."""
    draw = np.random.default_rng(seed)
    for number in range(count):
        source = images[number % len(images)]
        picture = cv2.imread(str(source), cv2.IMREAD_COLOR)
        if picture is None:
            raise FailedError(f"{source} cannot be read")
        changed = picture * draw.uniform(0.7, 1.3) + draw.uniform(-25, 25) + draw.normal(0, 6, picture.shape)
        target = folder / source.parent.name
        target.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(target / f"{number:06}.png"), np.clip(changed, 0, 255).astype(np.uint8))


def peak_of(run: list[str]) -> tuple[float, float]:
    """(wall seconds, the peak of what all processes of a run hold together, in 10^6 bytes).

    Each page that several share is counted in parts (PSS of /proc/PID/smaps_rollup, Linux). Raises FailedError."""
    started, peak = time.monotonic(), 0.0
    with subprocess.Popen(
        run, env=environment(), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        said: list[str] = []
        reader = threading.Thread(target=lambda: said.extend(process.stderr or ()), daemon=True)
        reader.start()
        while process.poll() is None:
            peak = max(peak, sum(map(_pss_mb, [process.pid, *process_tree.descendants(process.pid)])))
            time.sleep(SAMPLE_S)
        reader.join(5)
    if process.returncode:
        raise FailedError(f"exit code {process.returncode}: {''.join(said)[-500:]}")
    return time.monotonic() - started, peak


def _pss_mb(process: int) -> float:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return 0.0
    return sum(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("Pss:"))


def interrupted(run: list[str], after_s: float) -> tuple[float, int, str, int]:
    """Sends what a terminal sends for Ctrl-C, so many seconds after the start.

    Returns (seconds until the process had ended, its exit code, its last line, processes of it still there after one
    second more). A run that ends before is FailedError."""
    with subprocess.Popen(
        run, env=environment(), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        time.sleep(after_s)
        if process.poll() is not None:
            raise FailedError(f"the run ended in less than {after_s:.1f} s")
        tree = process_tree.descendants(process.pid)
        begun = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)
        code = process.wait(60)
        took = time.monotonic() - begun
        lines = (process.stdout.read() if process.stdout else "").strip().splitlines()
        time.sleep(1)
        return took, code, lines[-1] if lines else "", sum(map(_is_there, tree))


def _is_there(process: int) -> bool:
    try:
        text = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] not in "ZX"


def moments(count: int, whole_s: float, seed: int) -> Iterator[float]:
    """Seconds after the start of a run of whole_s, spread over it: one in each of count equal parts, drawn."""
    draw = random.Random(seed)
    for part in range(count):
        yield (part + draw.random()) * whole_s / count
