"""A fixed sample of images with known answers, and whether a lake made of them has these answers.

The images are drawn from a seed, so anybody can make them again. The answers are what was drawn, not what a run found.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from emr.costs.stage_work import STAGES
from jobs.errors import ConfigError, InputError, LakeError
from udfs.stores import objects, uris
from udfs.stores.s3 import StoreError

if TYPE_CHECKING:
    from jobs.lakes import Lake

IMAGES = "images"
ANSWERS = "answers.json"
SEED = 20_274
SIZE = (480, 360)  # width, height
CHECKED = ("corrupted", "blurry", "dark", "flat")  # issues that the sample decides; it says nothing of others
WRONG = 1  # exit code

Rng = np.random.Generator
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Answers:
    """What is true of the sample, or what a lake says. Names of files without folders, all lists sorted.

    images: rows of the table images. done: stages that have ended well. issues: for each of CHECKED its images.
    failures: file to error code. exact, near: the clusters, each the names of its images."""

    images: int
    done: list[str]
    issues: dict[str, list[str]]
    failures: dict[str, str]
    exact: list[list[str]]
    near: list[list[str]]


# --- the sample ---


def sample() -> tuple[dict[str, bytes], Answers]:
    """The files by name, and the answers: 60 images, of them 32 that nothing is wrong with."""
    scenes = {f"scene-{number:02}.png": _scene(number) for number in range(46)}
    names = list(scenes)
    files = {name: _png(scenes[name]) for name in names[:32]}
    exact, near = [], []
    for number, name in enumerate(names[:6]):
        copy = f"copy-{number}.png"
        files[copy] = files[name] if number % 2 else _png(scenes[name], compress_level=1)
        exact.append(sorted((name, copy)))
    for number, name in enumerate(names[6:14]):
        picture, edit = scenes[name], f"edit-{number}.jpg"
        half = picture.resize((SIZE[0] // 2, SIZE[1] // 2), Image.Resampling.LANCZOS)
        files[edit] = _jpeg(half, 90) if number % 2 else _jpeg(picture, 40)
        near.append(sorted((name, edit)))
    issues: dict[str, list[str]] = {issue: [] for issue in CHECKED}
    for number, name in enumerate(names[32:36]):
        files[f"dark-{number}.png"] = _png(scenes[name].point(lambda value: value * 0.22))
        issues["dark"].append(f"dark-{number}.png")
    for number, name in enumerate(names[36:42]):
        files[f"blurred-{number}.png"] = _png(scenes[name].filter(ImageFilter.GaussianBlur(5)))
        issues["blurry"].append(f"blurred-{number}.png")
    files["blank.png"] = _png(Image.new("RGB", SIZE, (120, 160, 200)))
    issues["flat"].append("blank.png")
    whole = _jpeg(scenes[names[42]], 90)
    broken = {"cut.jpg": whole[: len(whole) // 3], "empty.jpg": b"", "text.jpg": b"this is no image\n" * 40}
    files |= broken
    issues["corrupted"] = sorted(broken)
    failures = {"cut.jpg": "truncated", "empty.jpg": "empty", "text.jpg": "not_an_image"}
    return files, Answers(len(files), sorted(STAGES), issues, failures, sorted(exact), sorted(near))


def _scene(number: int) -> Image.Image:
    """Two of eight kinds of drawing in a frame of a third, in colours, places and sizes of its own: two scenes of one
    kind alone would be too alike to be surely different."""
    rng = np.random.default_rng([SEED, number])
    first, second, third = _TRIPLES[number]
    picture = _KINDS[first](rng, _colours(rng))
    x, y = _grid()
    turn, where = rng.uniform(0, 2 * np.pi), rng.uniform(-40, 40)
    half = (x - SIZE[0] / 2) * np.cos(turn) + (y - SIZE[1] / 2) * np.sin(turn) > where
    picture.paste(_KINDS[second](rng, _colours(rng)), mask=Image.fromarray(half))
    left, top = (int(one) for one in rng.integers((10, 10), (SIZE[0] // 2, SIZE[1] // 2)))
    width, height = (int(one) for one in rng.integers((120, 90), (SIZE[0] // 2, SIZE[1] // 2)))
    inset = _KINDS[third](rng, _colours(rng)).crop((left, top, left + width, top + height))
    picture.paste(inset, (left, top))
    grain = rng.normal(0, 5, (SIZE[1], SIZE[0], 1))  # no area is quite flat
    return Image.fromarray(np.clip(np.asarray(picture, np.float64) + grain, 0, 255).astype(np.uint8))


def _colours(rng: Rng) -> list[Colour]:
    """Four that differ in hue and in brightness."""
    hue = rng.permutation(6)[:4] / 6 + rng.uniform(0, 1 / 12)
    values = rng.permutation(np.linspace(0.3, 0.95, 4))
    return [_colour(float(h), float(v)) for h, v in zip(hue, values, strict=True)]


def _colour(hue: float, value: float) -> Colour:
    """A strong colour. hue: in turns. value: in 0..1."""
    channels = np.clip(np.abs((hue % 1 * 6 + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    red, green, blue = (255 * value * (0.25 + 0.75 * channels)).round().astype(int)
    return int(red), int(green), int(blue)


def _hills(rng: Rng, colours: list[Colour]) -> Image.Image:
    image = Image.new("RGB", SIZE, colours[0])
    draw = ImageDraw.Draw(image)
    x, y, radius = rng.integers((60, 40, 20), (420, 110, 45))
    draw.ellipse((int(x - radius), int(y - radius), int(x + radius), int(y + radius)), colours[3])
    across = np.arange(0, SIZE[0] + 8, 8)
    for layer in range(1, 4):
        height = 110 + 60 * layer + 35 * np.sin(across / rng.uniform(20, 70) + rng.uniform(0, 6))
        points = [(int(at), int(top)) for at, top in zip(across, height + rng.normal(0, 6, len(across)), strict=True)]
        draw.polygon([(0, SIZE[1]), *points, (SIZE[0], SIZE[1])], colours[layer])
    return image


def _towers(rng: Rng, colours: list[Colour]) -> Image.Image:
    image = Image.new("RGB", SIZE, colours[0])
    draw = ImageDraw.Draw(image)
    left = 0
    while left < SIZE[0]:
        width, top = (int(one) for one in rng.integers((40, 60), (95, 260)))
        draw.rectangle((left, top, left + width, SIZE[1]), colours[1 + int(rng.integers(2))])
        for x in range(left + 6, left + width - 10, 16):
            for y in range(top + 8, SIZE[1], 20):
                if rng.random() < 0.6:
                    draw.rectangle((x, y, x + 8, y + 11), colours[3])
        left += width + int(rng.integers(2, 14))
    return image


def _rings(rng: Rng, colours: list[Colour]) -> Image.Image:
    x, y = _grid()
    cx, cy = rng.uniform(0.2, 0.8, 2) * SIZE
    distance = np.hypot((x - cx) * rng.uniform(0.7, 1.4), y - cy)
    return _striped(distance / rng.uniform(12, 34), colours)


def _weave(rng: Rng, colours: list[Colour]) -> Image.Image:
    x, y = _grid()
    turn = rng.uniform(0, np.pi)
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    table = np.array(colours, np.float64)
    bands = [(part / rng.uniform(15, 45)).astype(int) % 4 for part in (along + 600, across + 600)]
    return Image.fromarray(((table[bands[0]] + table[bands[1]]) / 2).astype(np.uint8))


def _bricks(rng: Rng, colours: list[Colour]) -> Image.Image:
    image = Image.new("RGB", SIZE, colours[0])
    draw = ImageDraw.Draw(image)
    width, height = (int(one) for one in rng.integers((36, 18), (90, 48)))
    for row, top in enumerate(range(0, SIZE[1], height)):
        for left in range(-width * (row % 2) // 2, SIZE[0], width):
            draw.rectangle((left, top, left + width - 5, top + height - 5), colours[1 + int(rng.integers(3))])
    return image


def _discs(rng: Rng, colours: list[Colour]) -> Image.Image:
    image = Image.new("RGB", SIZE, colours[0])
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(12, 60))):
        x, y, radius = (int(one) for one in rng.integers((0, 0, 8), (*SIZE, 60)))
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), colours[1 + int(rng.integers(3))], colours[0], 3)
    return image


def _rays(rng: Rng, colours: list[Colour]) -> Image.Image:
    x, y = _grid()
    cx, cy = rng.uniform(0.1, 0.9, 2) * SIZE
    bend = rng.uniform(-0.02, 0.02)
    angle = np.arctan2(y - cy, x - cx) + bend * np.hypot(x - cx, y - cy)
    return _striped((angle + np.pi) / (2 * np.pi) * 4 * rng.integers(3, 12), colours)


def _letters(rng: Rng, colours: list[Colour]) -> Image.Image:
    image = Image.new("RGB", SIZE, colours[0])
    draw = ImageDraw.Draw(image)
    for _ in range(26):
        x, y, size = (int(one) for one in rng.integers((-20, -20, 30), (SIZE[0], SIZE[1], 130)))
        letter = chr(ord("A") + int(rng.integers(26)))
        draw.text((x, y), letter, colours[1 + int(rng.integers(3))], font_size=size)
    return image


_KINDS: tuple[Callable[[Rng, list[Colour]], Image.Image], ...] = (
    _hills, _towers, _rings, _weave, _bricks, _discs, _rays, _letters
)  # fmt: skip
# All triples of kinds, shuffled: no two scenes have the same three.
_TRIPLES = np.random.default_rng(SEED).permutation(list(combinations(range(len(_KINDS)), 3))).tolist()


def _grid() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    y, x = np.mgrid[0 : SIZE[1], 0 : SIZE[0]].astype(np.float64)
    return x, y


def _striped(values: NDArray[np.float64], colours: list[Colour]) -> Image.Image:
    return Image.fromarray(np.array(colours, np.uint8)[values.astype(int) % len(colours)])


def _png(picture: Image.Image, compress_level: int = 6) -> bytes:
    sink = io.BytesIO()
    picture.save(sink, "PNG", compress_level=compress_level)
    return sink.getvalue()


def _jpeg(picture: Image.Image, quality: int) -> bytes:
    sink = io.BytesIO()
    picture.save(sink, "JPEG", quality=quality)
    return sink.getvalue()


# --- its answers ---


def wrong_answers(expected: Answers, found: Answers) -> list[str]:
    """A line for each difference; none where all is as it should be."""
    lines = []
    if found.images != expected.images:
        lines.append(f"images: there are {found.images}, not {expected.images}")
    lines += [f"{job}: has not ended" for job in sorted(set(expected.done) - set(found.done))]
    for issue in sorted({*expected.issues, *found.issues}):
        lines += _differences(issue, expected.issues.get(issue, ()), found.issues.get(issue, ()))
    for name in sorted({*expected.failures, *found.failures}):
        wanted, is_now = expected.failures.get(name, "no failure"), found.failures.get(name, "no failure")
        if wanted != is_now:
            lines.append(f"failures: {name} is {is_now}, not {wanted}")
    for kind in ("exact", "near"):
        groups = [[" = ".join(group) for group in getattr(side, kind)] for side in (expected, found)]
        lines += _differences(f"{kind} duplicates", *groups)
    return lines


def answers_of(lake: Lake) -> Answers:
    """What a lake says. Only for one of the sample's size: all of its issues come to the driver."""
    from pyspark.sql import functions as F

    names = lake.read("images").select("image_id", F.element_at(F.split("uri", "/"), -1).alias("name"))
    flagged = lake.read("issues").where(F.col("issue").isin(*CHECKED)).join(names, "image_id")
    issues: dict[str, list[str]] = {issue: [] for issue in CHECKED}
    for row in flagged.orderBy("name").select("issue", "name").collect():
        issues[row["issue"]].append(row["name"])
    failed = lake.read("failures").join(names, "image_id").select("name", "error").collect()
    members: dict[int, list[tuple[str, str, bool]]] = {}
    for row in lake.read("duplicates").join(names, "image_id").collect():
        members.setdefault(row["cluster_id"], []).append((row["name"], row["kind"], row["is_keeper"]))
    groups: dict[str, list[list[str]]] = {"exact": [], "near": []}
    for cluster in members.values():
        kinds = {kind for _, kind, is_keeper in cluster if not is_keeper}
        groups["exact" if kinds == {"exact"} else "near"].append(sorted(name for name, _, _ in cluster))
    done = lake.read("runs").where("status = 'done'").select("job").distinct().collect()
    return Answers(
        images=lake.read("images").count(),
        done=sorted(row["job"] for row in done),
        issues=issues,
        failures={row["name"]: row["error"] for row in failed},
        exact=sorted(groups["exact"]),
        near=sorted(groups["near"]),
    )


def read_answers(uri: str) -> Answers:
    """The answers that `make` wrote. Raises InputError."""
    try:
        return Answers(**json.loads(objects.read_small(uri)))
    except FileNotFoundError as error:
        raise InputError(f"{uri}: there is no such file: make it with `imagesieve emr health --make`") from error
    except (ValueError, TypeError) as error:
        if isinstance(error, StoreError):
            raise
        raise InputError(f"{uri} holds no answers of this version: make the sample again") from error


def _differences(what: str, expected: Iterable[str], found: Iterable[str]) -> list[str]:
    missed, extra = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    return [f"{what}: {one} was not found" for one in missed] + [f"{what}: {one} is none" for one in extra]


# --- the command ---


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
    others = set(objects.list_small(images)) - set(files)
    if others:
        raise InputError(f"{images} holds other files, such as {min(others)}: name a folder of its own")
    for name, data in files.items():
        objects.put(uris.join(images, name), data)
    objects.put(uris.join(folder, ANSWERS), (json.dumps(asdict(answers), indent=1) + "\n").encode())
    sys.stdout.write(f"{len(files)} images: {images}\nanswers: {uris.join(folder, ANSWERS)}\n")
    return 0


def _check(lake_uri: str, answers_uri: str, overrides: list[str]) -> int:
    from jobs import config, lakes
    from jobs.engines.opening import open_engine

    settings = config.load((), overrides)
    expected = read_answers(answers_uri)
    if lakes.read_marker(lake_uri) is None:
        raise LakeError(f"{lake_uri} is no lake yet: run `imagesieve run` on the sample first")
    with open_engine(settings, uris.is_s3(lake_uri)) as engine:
        lake = lakes.Lake(engine.spark, lake_uri, time.strftime("%Y%m%dT%H%M%SZ"))
        lines = wrong_answers(expected, answers_of(lake))
    return told(lines, lake_uri)


def told(lines: list[str], lake_uri: str) -> int:
    """Prints the outcome and returns the exit code."""
    for line in lines:
        sys.stdout.write(f"wrong: {line}\n")
    if not lines:
        sys.stdout.write(f"{lake_uri}: all answers are right\n")
    return WRONG if lines else 0
