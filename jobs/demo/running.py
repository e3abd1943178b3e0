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
from pyspark.sql import functions as F

from jobs import command, config
from jobs.demo import judge
from jobs.demo.plant import plant, read_truth
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
    if missing := [name for name in ("skimage", "sklearn") if find_spec(name) is None]:
        raise MachineError(
            f"{' and '.join(missing)} not found, whose photographs it shows: pip install 'imagesieve[demo]'"
        )
    folder = Path(arguments.folder)
    started = time.monotonic()
    images = folder / "images"
    if not (folder / "truth.json").exists():
        sys.stderr.write("demo       drawing the images\n")
        for part in ("images", "lake", "report"):  # of a demo that was stopped; nothing else in the folder is ours
            shutil.rmtree(folder / part, ignore_errors=True)
        plant(images, arguments.seed)
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
        rows = judge.judge(truth, found_issues(spark, lake))
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


def found_issues(spark: SparkSession, folder: Path) -> list[judge.Issue]:
    """The rows of `issues`, images as URIs."""
    lake = Lake(spark, str(folder.resolve()), run_id="judge")
    uris = lake.read("images").select("image_id", "uri")
    evidence = uris.select(F.col("image_id").alias("evidence_id"), F.col("uri").alias("evidence"))
    rows = lake.read("issues").join(uris, "image_id").join(evidence, "evidence_id", "left")
    return [(row["uri"], row["issue"], row["evidence"]) for row in rows.select("uri", "issue", "evidence").collect()]
