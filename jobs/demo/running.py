"""`imagesieve demo`: draws images with planted trouble, runs all stages on them, and compares what was found.

Ends with a table of what was planted, found, missed and falsely reported, and with exit code 1 where it falls short."""

import argparse
import shutil
import sys
import time
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

from pyspark.sql import SparkSession

from jobs import command, config
from jobs.demo import judge
from jobs.demo.plant import SIZES, plant, read_truth
from jobs.engines.opening import open_engine
from jobs.errors import MachineError
from jobs.lakes import Lake

FOUND_AT_LEAST = 0.99
FALSE_AT_MOST = 0.01
LAYOUT = "{split}/{label}/*"


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="imagesieve demo", description=__doc__, allow_abbrev=False)
    options.add_argument(
        "--folder", default="imagesieve-demo", help="for images, lake and report (default: %(default)s)"
    )
    options.add_argument(
        "--size",
        choices=tuple(SIZES),
        default="full",
        help="small: a few drawings, no photographs, and only planted kinds are judged (default: %(default)s)",
    )
    options.add_argument("--seed", type=int, default=0, help="decides which picture gets which (default: %(default)s)")
    options.add_argument(
        "--false-at-most",
        type=float,
        default=FALSE_AT_MOST,
        help="share of false findings, 0..1 (default: %(default)s)",
    )
    options.add_argument(
        "--set", action="append", default=[], dest="overrides", metavar="SECTION.KEY=VALUE", help="one setting"
    )
    return options


def main(argv: list[str], spark: SparkSession | None = None) -> int:
    """Returns the exit code. spark: a session to work in, which is left open; without it one is opened and closed."""
    arguments = parser().parse_args(argv)
    size = SIZES[arguments.size]
    if missing := [name for name in ("skimage", "sklearn") if size.photographs and find_spec(name) is None]:
        raise MachineError(
            f"{' and '.join(missing)} not found, whose photographs it shows: pip install 'imagesieve[demo]', or take "
            "--size small"
        )
    folder = Path(arguments.folder)
    started = time.monotonic()
    images = folder / "images"
    if not (folder / "truth.json").exists():
        sys.stderr.write("demo       drawing the images\n")
        for part in ("images", "lake", "report"):  # of a demo that was stopped; nothing else in the folder is ours
            shutil.rmtree(folder / part, ignore_errors=True)
        plant(images, arguments.seed, size)
    truth = read_truth(folder / "truth.json")
    with ExitStack() as stack:
        if spark is None:
            spark = stack.enter_context(open_engine(config.load((), arguments.overrides))).spark
        settings = [option for override in arguments.overrides for option in ("--set", override)]
        lake = folder / "lake"
        given = ["run", str(images), "--lake", str(lake), "--report", str(folder / "report"), "--layout", LAYOUT]
        code = command.main([*given, *settings], spark)
        if code:
            return code
        rows = judge.judge(truth, judge.found_issues(Lake(spark, str(lake.resolve()), run_id="judge")))
    if not size.judges_all:
        rows = [row for row in rows if row.planted]
    total = judge.total(rows)
    sys.stdout.write(f"\n{judge.format_table(rows)}\n\n")
    sys.stdout.write(f"tables: {folder / 'lake'}\nreport: {(folder / 'report' / 'index.html').resolve().as_uri()}\n")
    sys.stdout.write(f"{time.monotonic() - started:.0f} s in all\n")
    if total.found_share < FOUND_AT_LEAST or total.false_share > arguments.false_at_most:
        sys.stderr.write(
            f"demo: found less than {FOUND_AT_LEAST:.0%} or more than {arguments.false_at_most:.0%} false\n"
        )
        return 1
    return 0
