"""The small images of the demo as a sample with known answers, and whether a lake made of them has these answers.

The images are drawn from a seed, so anybody can make them again. The answers are what was planted, not what a run
found.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Container, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs import pipeline
from jobs.errors import ConfigError, InputError, LakeError
from udfs.stores import objects, uris
from udfs.stores.listing import list_files
from udfs.stores.s3 import StoreError

if TYPE_CHECKING:
    from jobs.demo.judge import Issue, Planted
    from jobs.lakes import Lake

IMAGES = "images"
ANSWERS = "answers.json"
CODES = {"empty file": "empty", "cut in the middle": "truncated", "text named .jpg": "not_an_image"}
WRONG = 1  # exit code


@dataclass(frozen=True)
class Answers:
    """What is true of the sample. images: how many. planted: every trouble in it. failures: path to error code."""

    images: int
    planted: Sequence[Planted]
    failures: dict[str, str]


@dataclass(frozen=True)
class Found:
    """What a lake says. images: rows of the table. done: stages that have ended well. failures: path to error code."""

    images: int
    done: set[str]
    issues: list[Issue]
    failures: dict[str, str]


def sample() -> tuple[dict[str, bytes], Answers]:
    """The files by their paths, split/label/name, and the answers. No leaks: a run on EMR is given no layout."""
    from jobs.demo.plant import SMALL, planted

    files, truth = planted(size=replace(SMALL, leaks=()))
    broken = [entry for entry in truth if entry.kind == "corrupted"]
    failures = {entry.path: CODES[entry.detail.rstrip(" 0123456789")] for entry in broken}
    return files, Answers(len(files), truth, failures)


def wrong_answers(expected: Answers, found: Found) -> list[str]:
    """A line for each difference; none where all is as it should be. Only kinds that were planted are judged."""
    from jobs.demo.judge import judge

    lines = []
    if found.images != expected.images:
        lines.append(f"images: there are {found.images}, not {expected.images}")
    lines += [f"{stage}: has not ended" for stage in pipeline.NAMES if stage not in found.done]
    for row in judge(expected.planted, found.issues):
        if row.planted and row.missed:
            lines.append(f"{row.kind}: {row.missed} of {row.planted} not found")
        if row.planted and row.false:
            lines.append(f"{row.kind}: {row.false} that are none")
    for path in sorted({*expected.failures, *found.failures}):
        wanted, is_now = expected.failures.get(path, "no failure"), found.failures.get(path, "no failure")
        if wanted != is_now:
            lines.append(f"failures: {path} is {is_now}, not {wanted}")
    return lines


def found_in(lake: Lake) -> Found:
    """What a lake says. Only for one of the sample's size: all of its issues come to the driver."""
    from pyspark.sql import functions as F

    from jobs.demo.judge import found_issues, tail

    images = lake.read("images")
    failed = lake.read("failures").join(images, "image_id").select("uri", "error").collect()
    done = lake.read("runs").where(F.col("status") == "done").select("job").distinct().collect()
    return Found(
        images.count(),
        {row["job"] for row in done},
        found_issues(lake),
        {tail(row["uri"]): row["error"] for row in failed},
    )


def read_answers(uri: str) -> Answers:
    """The answers that `make` wrote. Raises InputError."""
    from jobs.demo.judge import Planted

    try:
        given: dict[str, Any] = json.loads(objects.read_small(uri))
        return Answers(**{**given, "planted": [Planted(**entry) for entry in given["planted"]]})
    except FileNotFoundError as error:
        raise InputError(f"{uri}: there is no such file: make it with `imagesieve emr health --make`") from error
    except (ValueError, TypeError, KeyError) as error:
        if isinstance(error, StoreError):
            raise
        raise InputError(f"{uri} holds no answers of this version: make the sample again") from error


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--make", metavar="FOLDER", help=f"write the sample: FOLDER/{IMAGES} and FOLDER/{ANSWERS}")
    what.add_argument("--check", metavar="LAKE", help="compare the tables of a lake of the sample with the answers")
    parser.add_argument("--answers", metavar="FILE", help=f"with --check: the {ANSWERS} that --make wrote")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", dest="overrides",
                        help="with --check: a setting, as of `imagesieve run`")  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Returns 0, or WRONG after one line on stdout for each wrong answer. Raises RunError and StoreError."""
    if arguments.make is not None:
        return _make(_canonical(arguments.make))
    if arguments.answers is None:
        raise ConfigError("--check needs --answers FILE")
    return _check(_canonical(arguments.check).rstrip("/"), _canonical(arguments.answers), arguments.overrides)


def _canonical(uri: str) -> str:
    try:
        return uris.canonical(uri)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _make(folder: str) -> int:
    files, answers = sample()
    images = uris.join(folder, IMAGES)
    objects.check_access(folder, must_exist=False)
    if (other := _another(images, files)) is not None:
        raise InputError(f"{images} holds other files, such as {other}: name a folder of its own")
    for name, data in files.items():
        objects.put(uris.join(images, *name.split("/")), data)
    objects.put(uris.join(folder, ANSWERS), (json.dumps(asdict(answers), indent=1) + "\n").encode())
    sys.stdout.write(f"{len(files)} images: {images}\nanswers: {uris.join(folder, ANSWERS)}\n")
    return 0


def _another(folder: str, files: Container[str]) -> str | None:
    """A file of a folder, by its path in it, that is none of these; None where there is none."""
    if not uris.is_s3(folder) and not Path(folder).is_dir():
        return None
    paths = (one.uri.removeprefix(f"{folder}/") for listed in list_files(folder) for one in listed)
    return next((path for path in paths if path not in files), None)


def _check(lake_uri: str, answers_uri: str, overrides: list[str]) -> int:
    from jobs import config, lakes
    from jobs.engines.opening import open_engine

    settings = config.load((), overrides)
    expected = read_answers(answers_uri)
    if lakes.read_marker(lake_uri) is None:
        raise LakeError(f"{lake_uri} is no lake yet: run `imagesieve run` on the sample first")
    with open_engine(settings, uris.is_s3(lake_uri)) as engine:
        lake = lakes.Lake(engine.spark, lake_uri, time.strftime("%Y%m%dT%H%M%SZ"))
        lines = wrong_answers(expected, found_in(lake))
    return told(lines, lake_uri)


def told(lines: list[str], lake_uri: str) -> int:
    """Prints the outcome and returns the exit code."""
    for line in lines:
        sys.stdout.write(f"wrong: {line}\n")
    if not lines:
        sys.stdout.write(f"{lake_uri}: all answers are right\n")
    return WRONG if lines else 0
