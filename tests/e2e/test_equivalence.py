"""Catches a table that depends on the engine: the demo's pictures and labelled ones, on each engine, and an increment
with a removal on a lake that another engine began. Run by make test-equivalence, where both engines are installed.

IMAGESIEVE_SPARK35 names the Python of an environment with Spark 3.5, which has no embedded engine."""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image, ImageEnhance

from jobs.demo.plant import plant
from tests.e2e import images
from tests.lake_compare import differences

pytestmark = [
    pytest.mark.equivalence,
    pytest.mark.skipif(importlib.util.find_spec("py4j") is None, reason="Spark is not installed"),
]

ROOT = Path(__file__).resolve().parents[2]
LAYOUT = "{split}/{label}/*"
ADDED = 10
# By name: the Python, and the engine that it is to take.
ENGINES = {
    "sail": (sys.executable, "sail"),
    "spark": (sys.executable, "spark"),
    "spark35": (os.environ.get("IMAGESIEVE_SPARK35", ""), "spark"),
}
# Which engine goes on with the lake that another began.
CONTINUED = [("sail", "sail"), ("sail", "spark"), ("spark", "sail"), ("spark35", "sail")]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's images, with labelled ones beside them in splits of their own."""
    folder = tmp_path_factory.mktemp("pictures") / "images"
    plant(folder, 0)
    images.write(folder, {f"more-{name}": made for name, made in images.labelled_lake().items()})
    return folder


@pytest.fixture(scope="module")
def begun(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A lake by each engine of the same pictures."""
    root = tmp_path_factory.mktemp("lakes")
    lakes = {name: root / name for name in ENGINES if ENGINES[name][0]}
    sieve_all((name, pictures, lake) for name, lake in lakes.items())
    return lakes


@pytest.fixture(scope="module")
def continued(begun: dict[str, Path], pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Lakes that one engine began and another went on with after ten pictures came, one changed and one went."""
    root = tmp_path_factory.mktemp("continued")
    changed(pictures)
    pairs = [(first, then) for first, then in CONTINUED if first in begun]
    lakes = {pair: Path(shutil.copytree(begun[pair[0]], root / "-".join(pair))) for pair in pairs}
    sieve_all((then, pictures, lake) for (_, then), lake in lakes.items())
    return {", ".join(pair): lake for pair, lake in lakes.items()}


def sieve_all(wanted: Iterable[tuple[str, Path, Path]]) -> None:
    """Two at a time: of so few pictures, a run on Spark is mostly one thread of its driver."""
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(sieve, *one) for one in wanted]:
            done.result()


def sieve(name: str, folder: Path, lake: Path) -> None:
    python, engine = ENGINES[name]
    command = [python, "-m", "jobs.command", "run", folder, "--lake", lake, "--layout", LAYOUT]
    more = ["--report", lake.with_name(f"{lake.name}-report"), "--set", f"spark.engine={engine}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [*map(str, command), *map(str, more)], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr[-2000:]


def changed(folder: Path) -> None:
    files = sorted(path for path in folder.rglob("*.jpg") if "more-" not in str(path) and is_whole(path))
    for number, path in enumerate(files[20 : 20 + ADDED]):
        picture = Image.open(path).convert("RGB")
        width, height = picture.size
        picture.crop((width // 4, 0, width, height * 3 // 4)).save(path.with_name(f"new-{number}.jpg"), quality=92)
    ImageEnhance.Brightness(Image.open(files[3]).convert("RGB")).enhance(0.5).save(files[3], quality=90)
    files[7].unlink()


def is_whole(path: Path) -> bool:
    try:
        Image.open(path).load()
    except (OSError, Image.DecompressionBombError):
        return False
    return True


@pytest.mark.parametrize("name", ["spark", "spark35"])
def test_the_same_tables_on_each_engine(begun: dict[str, Path], name: str) -> None:
    if name not in begun:
        pytest.skip("IMAGESIEVE_SPARK35 names no Python")
    assert differences(begun["sail"], begun[name]) == {}


@pytest.mark.parametrize("name", [", ".join(pair) for pair in CONTINUED[1:]])
def test_the_same_tables_whoever_goes_on(continued: dict[str, Path], name: str) -> None:
    if name not in continued:
        pytest.skip("IMAGESIEVE_SPARK35 names no Python")
    assert differences(continued["sail, sail"], continued[name]) == {}
