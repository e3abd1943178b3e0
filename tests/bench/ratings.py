"""Ratings: how few picks a taste takes, whether intervals and maps are true, and what they cost.

    python -m tests.bench.ratings --photos DIR --labelled DIR [--skip cost,coverage] [--work DIR]

prints one JSON line. Held-out pictures are those that a fit has not seen, nor any of cosine ALIKE to one that it has.

- Raters are made: each likes two classes of the labelled pictures and dislikes two; a tenth of what he says is said at
  random. He judges pictures of these four. taste_auc_50, _20: AUC of what he truly likes on all others of these, mean
  of DRAWS draws of picks and the three raters. personal_gain: AUC from ten picks with a general head as base less that
  without, for each rater; the general head is learnt from the other two, who share some of his taste.
- quality_spearman: each photograph is spoilt in one step of one kind of tests.bench.damage; a rating learnt from 200
  ranks the other 100 by step; mean over the kinds, and by_kind. learning_curve: of all kinds, the mean: that it
  does not fall by more than its interval.
- coverage: share of seeded fits whose interval of the first figure holds that figure on new judgements of the same
  rater: half of them tastes from 30 to 60 picks, half steps of a damage from 40 to 100 photographs.
- map_error: by how much shares and score less offset differ, by the spread of the score over the photographs, the
  most; map_rounding: before what was rounded away in storing is spread. planted: share of collages, a liked picture and
  three disliked, whose highest quarter is the liked one; planted_alone: share of which the head scores the liked one
  highest of the four pictures themselves, whole and one by one: a map of it can hardly know better.
- map_cpu_ms, embed_cpu_ms: of a picture, the median of the lowest of three, thread CPU. score_cpu_us: CPU of
  `imagesieve rate` with all its processes, an image and rating, at 100,000 images and ten ratings.
- suggest_auc_60: picks chosen by suggestions, twelve at a time, from twelve at random, or as many as it takes to fit
  a head; random_auc_60, _90."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.bench import damage, process_tree, vector_lake
from udfs.images import decode
from udfs.images.rows import PROPERTIES
from udfs.networks import embedding, models, preparation
from udfs.networks.feature_map import FeatureMap
from udfs.ratings import files, fitting, maps, measures, suggest
from udfs.ratings.fitting import Fitted, Judged, TooFewError
from udfs.ratings.heads import Head
from udfs.ratings.linear import PICKED, RATING, Numbers
from udfs.ratings.space import Space
from udfs.stores.cache import user_cache
from udfs.transforms.square import opened
from udfs.vectors.cosine import Vectors

ROOT = Path(__file__).resolve().parents[2]
ALIKE = 0.98
ONE_THREAD = "OPENBLAS_NUM_THREADS"
DRAWS = 40
NEAREST = 10
FEW, SOME, PERSONAL = 20, 50, 10
OF_OTHERS = 150  # picks of each other rater that a general head is learnt from
LEARNT_PHOTOS = 200
FITS = 100
COLLAGES = 200
TOGETHER = 4  # pictures that the network embeds at once
MAX_PIXELS = 10**9
SKIPPED = ("cost", "coverage", "suggest", "quality", "maps", "taste")
POOL, TASKS = 1200, 4
COST_IMAGES, COST_RATINGS = 100_000, 10


@dataclass(frozen=True)
class Pictures:
    """Pictures as the lake knows them. vectors: (n, d) float32 as stored. near: means with neighbours. squares: as the
    network gets them. properties: (n, p)."""

    vectors: Vectors
    near: Vectors
    squares: NDArray[np.uint8]
    properties: Numbers


class Network:
    """The built-in one, opened once, and what embed does with pictures."""

    def __init__(self) -> None:
        self.model = models.find(models.DEFAULT)
        prepared = preparation.prepare(self.model, user_cache())
        self.net = embedding.open_runtime("openvino", self.model, prepared.files)
        self.map = FeatureMap(self.model, prepared.files)

    def see(self, data: bytes) -> tuple[NDArray[np.uint8], list[float]]:
        from udfs.images import quality

        decoded, seen = opened(data, MAX_PIXELS)
        side = self.model.input_side
        square = seen if seen.shape[:2] == (side, side) else embedding.fit(decoded.pixels, side)
        told = quality.of_file(data, decoded, seen)
        return square, [float(told[name]) for name in PROPERTIES]

    def stored(self, squares: NDArray[np.uint8]) -> Vectors:
        return self.net.embed(squares).astype(np.float16).astype(np.float32)

    def pictures(self, data: list[bytes]) -> Pictures:
        seen = [self.see(one) for one in data]
        squares = np.stack([square for square, _ in seen])
        vectors = self.stored(squares)
        return Pictures(vectors, _near(vectors), squares, np.array([told for _, told in seen]))


def _near(vectors: Vectors) -> Vectors:
    sums = np.empty_like(vectors)
    for start in range(0, len(vectors), 1024):
        alike = vectors[start : start + 1024] @ vectors.T
        alike[np.arange(len(alike)), np.arange(start, start + len(alike))] = -2
        nearest = np.argpartition(-alike, NEAREST, axis=1)[:, :NEAREST]
        sums[start : start + 1024] = vectors[nearest].sum(axis=1)
    return np.asarray((vectors + sums) / (NEAREST + 1), np.float32)


@dataclass(frozen=True)
class Task:
    """What a rater judges. rows: of the pictures, in an order of chance. true, said: (n,) 1 or 0."""

    rows: NDArray[np.int64]
    true: Numbers
    said: Numbers


def task(classes: NDArray[np.int64], liked: list[int], disliked: list[int], seed: int) -> Task:
    draw = np.random.default_rng(seed)
    rows = draw.permutation(np.flatnonzero(np.isin(classes, liked + disliked)))
    true = np.isin(classes[rows], liked).astype(np.float64)
    at_random = draw.random(len(rows)) < 0.1
    said = np.where(at_random, draw.integers(0, 2, len(rows)), true).astype(np.float64)
    return Task(rows, true, said)


def three_raters(count: int, seed: int = 0) -> list[tuple[list[int], list[int]]]:
    """Classes that each likes and dislikes: each shares a liked and a disliked one with each other."""
    a, b, c, d, e, f = np.random.default_rng(seed).permutation(count)[:6].tolist()
    return [([a, b], [d, e]), ([b, c], [e, f]), ([c, a], [f, d])]


class Tastes:
    """Fits of tastes to the labelled pictures."""

    def __init__(self, pictures: Pictures) -> None:
        self.pictures = pictures
        some = np.random.default_rng(0).permutation(len(pictures.vectors))[:4096]
        self.space = Space.of(pictures.vectors[some], near=pictures.near[some])

    def fit(self, rows: NDArray[np.int64], said: Numbers, base: Head | None = None) -> Fitted:
        groups = np.column_stack([rows, rows])
        given = Judged(
            PICKED, self.pictures.vectors[rows], said, np.ones(len(rows)), groups, near=self.pictures.near[rows]
        )
        return fitting.fit(given, self.space, "taste@1", models.DEFAULT, base)

    def auc(self, fitted: Fitted, of: Task, picked: NDArray[np.int64], judged: Numbers) -> float:
        """On all of the task but what was picked, and copies of it."""
        rest = self.rest(of, picked)
        return measures.auc(judged[rest], fitted.head.raw(self.pictures.vectors[of.rows[rest]]))

    def rest(self, of: Task, picked: NDArray[np.int64]) -> NDArray[np.int64]:
        others = np.setdiff1d(np.arange(len(of.rows)), picked)
        vectors = self.pictures.vectors
        alike = (vectors[of.rows[others]] @ vectors[of.rows[picked]].T).max(axis=1)
        return np.asarray(others[alike < ALIKE])

    def draw(self, of: Task, count: int, seed: int) -> tuple[NDArray[np.int64], Fitted]:
        """The first picks of a dealing of which something can be learnt."""
        for more in range(100):
            picked = np.random.default_rng((seed, more)).permutation(len(of.rows))[:count]
            try:
                return picked, self.fit(of.rows[picked], of.said[picked])
            except TooFewError:
                continue
        raise ValueError("no picks that anything can be learnt from")


def tastes(of: Tastes, classes: NDArray[np.int64]) -> dict[str, Any]:
    raters = three_raters(int(classes.max()) + 1)
    found: dict[str, Any] = {}
    for count in (FEW, SOME):
        each = []
        for number, (liked, disliked) in enumerate(raters):
            for draw in range(DRAWS):
                judged = task(classes, liked, disliked, 100 * number + draw)
                picked, fitted = of.draw(judged, count, draw)
                each.append(of.auc(fitted, judged, picked, judged.true))
        found[f"taste_auc_{count}"] = float(np.mean(each))
        found[f"taste_auc_{count}_by_rater"] = np.mean(np.reshape(each, (len(raters), DRAWS)), axis=1).tolist()
    gains = []
    for number, (liked, disliked) in enumerate(raters):
        rows, said = [], []
        for other, (theirs, not_theirs) in enumerate(raters):
            if other != number:
                judged = task(classes, theirs, not_theirs, 1000 + other)
                rows.append(judged.rows[:OF_OTHERS])
                said.append(judged.said[:OF_OTHERS])
        general = of.fit(np.concatenate(rows), np.concatenate(said)).head
        gained = []
        for draw in range(DRAWS):
            judged = task(classes, liked, disliked, 2000 + 100 * number + draw)
            own = np.setdiff1d(np.arange(len(judged.rows)), np.flatnonzero(np.isin(judged.rows, np.concatenate(rows))))
            judged = Task(judged.rows[own], judged.true[own], judged.said[own])
            picked, alone = of.draw(judged, PERSONAL, draw)
            with_base = of.fit(judged.rows[picked], judged.said[picked], general)
            gained.append(of.auc(with_base, judged, picked, judged.true) - of.auc(alone, judged, picked, judged.true))
        gains.append(float(np.mean(gained)))
    return {**found, "personal_gain": gains}


def spoilt(photos: dict[str, bytes], kind: damage.Kind, network: Network, seed: int) -> tuple[Pictures, Numbers]:
    """Each photograph in one step, from none to the strongest, and minus that step."""
    draw = np.random.default_rng((seed, len(kind.name)))
    data, steps = [], []
    for name, original in photos.items():
        step = int(draw.integers(0, len(kind.steps) + 1))
        pixels = decode.decode(original, MAX_PIXELS, MAX_PIXELS).pixels
        data.append(original if not step else damage.spoilt(pixels, kind, kind.steps[step - 1], name)[0])
        steps.append(-float(step))
    return network.pictures(data), np.array(steps)


def graded(pictures: Pictures, steps: Numbers, learnt: NDArray[np.int64]) -> Fitted:
    space = Space.of(pictures.vectors, PROPERTIES, pictures.properties, pictures.near)
    names = [PROPERTIES.index(name) for name in space.names]
    given = Judged(
        RATING, pictures.vectors[learnt], steps[learnt], np.ones(len(learnt)), np.column_stack([learnt, learnt]),
        near=pictures.near[learnt], properties=pictures.properties[learnt][:, names],
    )  # fmt: skip
    return fitting.fit(given, space, "steps@1", models.DEFAULT)


def of_head(head: Head, pictures: Pictures, rows: NDArray[np.int64]) -> Numbers:
    names = head.measured.names if head.measured else ()
    properties = pictures.properties[rows][:, [PROPERTIES.index(name) for name in names]] if names else None
    return head.raw(pictures.vectors[rows], properties)


def qualities(of_kind: dict[str, tuple[Pictures, Numbers]]) -> dict[str, Any]:
    by_kind, falls = {}, []
    for name, (pictures, steps) in of_kind.items():
        order = np.random.default_rng(1).permutation(len(steps))
        learnt, rest = order[:LEARNT_PHOTOS], order[LEARNT_PHOTOS:]
        fitted = graded(pictures, steps, learnt)
        by_kind[name] = measures.spearman(steps[rest], of_head(fitted.head, pictures, rest))
        points = fitted.curve
        falls.append(all(after.value >= before.low for before, after in pairwise(points)))
    return {
        "quality_spearman": float(np.mean(list(by_kind.values()))),
        "quality_spearman_by_kind": by_kind,
        "learning_curve_monotone": float(np.mean(falls)),
    }


def coverage(of: Tastes, classes: NDArray[np.int64], of_kind: dict[str, tuple[Pictures, Numbers]]) -> dict[str, Any]:
    held = {"taste": 0, "quality": 0}
    kinds = list(of_kind.values())
    for seed in range(FITS // 2):
        draw = np.random.default_rng(seed)
        chosen = draw.permutation(int(classes.max()) + 1)[:4].tolist()
        judged = task(classes, chosen[:2], chosen[2:], seed)
        picked, fitted = of.draw(judged, int(draw.integers(30, 61)), seed)
        value = of.auc(fitted, judged, picked, judged.said)
        held["taste"] += fitted.figures[0].low <= value <= fitted.figures[0].high
        pictures, steps = kinds[seed % len(kinds)]
        order = draw.permutation(len(steps))
        count = int(draw.integers(40, 101))
        fitted = graded(pictures, steps, order[:count])
        value = measures.spearman(steps[order[count:]], of_head(fitted.head, pictures, order[count:]))
        held["quality"] += fitted.figures[0].low <= value <= fitted.figures[0].high
    return {
        "coverage": sum(held.values()) / (2 * (FITS // 2)),
        "coverage_by_kind": {name: count / (FITS // 2) for name, count in held.items()},
    }


def shown(network: Network, photos: Pictures, head: Head, of: Tastes, classes: NDArray[np.int64]) -> dict[str, Any]:
    """Figures of the maps. head: of which the photographs have scores."""
    weights = head.layers[0].weights[0].astype(np.float64)
    totals = photos.vectors.astype(np.float64) @ weights
    seen = network.map.look(photos.squares)
    raw = maps.shares(head, seen)
    spread = float(of_head(head, photos, np.arange(len(totals))).std())
    settled, _ = maps.settled(raw, totals)
    liked, disliked = three_raters(int(classes.max()) + 1)[0]
    judged = task(classes, liked, disliked, 7)
    learnt = np.arange(LEARNT_PHOTOS)
    taste = of.fit(judged.rows[learnt], judged.said[learnt]).head
    rest = of.rest(judged, learnt)
    draw = np.random.default_rng(3)
    right = alone = 0
    for _ in range(COLLAGES):
        quarter = int(draw.integers(4))
        rows = [judged.rows[draw.choice(rest[judged.true[rest] == (place == quarter)])] for place in range(4)]
        tiles = [of.pictures.squares[row][::2, ::2] for row in rows]
        collage = np.concatenate([np.concatenate(tiles[:2], axis=1), np.concatenate(tiles[2:], axis=1)])
        found = maps.shares(taste, network.map.look(collage[None]))[0]
        right += int(np.argmax(_quarters(found))) == quarter
        alone += int(np.argmax(taste.raw(of.pictures.vectors[rows]))) == quarter
    return {
        "map_error": float(np.abs(settled.sum(axis=(1, 2)) - totals).max() / spread),
        "map_rounding": float(np.abs(raw.sum(axis=(1, 2)) - totals).max() / spread),
        "planted": right / COLLAGES,
        "planted_alone": alone / COLLAGES,
        "map_cpu_ms": _cpu_ms(lambda one: maps.shares(head, network.map.look(one)), photos.squares[:50]),
        "embed_cpu_ms": _cpu_ms(network.net.embed, photos.squares[:48], TOGETHER),
    }


def _quarters(one: Numbers) -> Numbers:
    """The sums of the four quarters; a cell on the border counts for each by its area there."""
    weights = np.array([np.clip(len(one) / 2 - np.arange(len(one)), 0, 1)])
    halves = np.vstack([weights, 1 - weights])
    return np.asarray((halves @ one @ halves.T).ravel())


def _cpu_ms(work: Callable[[NDArray[np.uint8]], Any], squares: NDArray[np.uint8], together: int = 1) -> float:
    """Of a picture, the median of the lowest of three. together: pictures of a call."""
    times = []
    for start in range(0, len(squares), together):
        part, tries = squares[start : start + together], []
        for _ in range(3):
            began = time.thread_time()
            work(part)
            tries.append((time.thread_time() - began) / len(part))
        times.append(min(tries))
    return 1000 * float(np.median(times))


def _can_be_learnt(said: Numbers) -> bool:
    return bool(min(said.sum(), len(said) - said.sum()) >= fitting.LEAST_OF_A_KIND)


def suggested(of: Tastes, classes: NDArray[np.int64]) -> dict[str, float]:
    found: dict[str, list[float]] = {"suggest_auc_60": [], "random_auc_60": [], "random_auc_90": []}
    for number, (liked, disliked) in enumerate(three_raters(int(classes.max()) + 1)):
        for draw in range(TASKS):
            judged = task(classes, liked, disliked, 5000 + 100 * number + draw)
            pool = np.arange(POOL)
            chosen = np.arange(next(n for n in range(12, 60) if _can_be_learnt(judged.said[:n])))
            while len(chosen) < 60:
                left = np.setdiff1d(pool, chosen)
                head = of.fit(judged.rows[chosen], judged.said[chosen]).head
                design = suggest.Design.of(of.space, head, of.pictures.vectors[judged.rows[chosen]])
                new = design.choose(of.pictures.vectors[judged.rows[left]], min(12, 60 - len(chosen)))
                chosen = np.concatenate([chosen, left[new]])
            test = Task(judged.rows[POOL:], judged.true[POOL:], judged.said[POOL:])
            for name, picked in (
                ("suggest_auc_60", chosen), ("random_auc_60", np.arange(60)), ("random_auc_90", np.arange(90)),
            ):  # fmt: skip
                fitted = of.fit(judged.rows[picked], judged.said[picked])
                found[name].append(measures.auc(test.true, fitted.head.raw(of.pictures.vectors[test.rows])))
    return {name: float(np.mean(values)) for name, values in found.items()}


def score_cpu_us(head: Head, vectors: Vectors, work: Path) -> float:
    """CPU of `imagesieve rate`, less that of a lake of few images, an image and rating."""
    from jobs.rating import store

    draw = np.random.default_rng(0)
    cpu = []
    for count in (2000, COST_IMAGES):
        rows = vectors[draw.integers(0, len(vectors), count)] + draw.normal(0, 0.01, (count, vectors.shape[1])).astype(
            np.float32
        )
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        lake = work / f"lake-{count}"
        vector_lake.write(lake, rows.astype(np.float16).astype(np.float32))
        settings = vector_lake.card(lake, vectors.shape[1])
        for number in range(COST_RATINGS):
            store.write(str(lake), replace(head, key=f"rating{number}@1", model=vector_lake.MODEL))
        command = [sys.executable, "-m", "imagesieve", "rate", "--lake", str(lake), "--config", str(settings)]
        done = process_tree.run(command, None, work, 600)
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, command, done.out, done.err)
        cpu.append(done.cpu_s)
    return 1e6 * (cpu[1] - cpu[0]) / (COST_IMAGES - 2000) / COST_RATINGS


def measure(photos: Path, labelled: Path, work: Path, skip: set[str]) -> dict[str, Any]:
    network = Network()
    folders = sorted(folder for folder in labelled.iterdir() if folder.is_dir())
    pictures = [(file.read_bytes(), place) for place, folder in enumerate(folders) for file in sorted(folder.iterdir())]
    classes = np.array([place for _, place in pictures])
    of = Tastes(network.pictures([data for data, _ in pictures]))
    originals = damage.photographs(photos)
    found: dict[str, Any] = {"photos": len(originals), "labelled": len(pictures)}
    if "taste" not in skip:
        found |= tastes(of, classes)
    of_kind: dict[str, tuple[Pictures, Numbers]] = {}
    if not {"quality", "coverage", "maps"} <= skip:
        of_kind = {name: spoilt(originals, kind, network, 0) for name, kind in damage.KINDS.items()}
    if "quality" not in skip:
        found |= qualities(of_kind)
    if "coverage" not in skip:
        found |= coverage(of, classes, of_kind)
    blurred, steps = of_kind.get("gaussian_blur", (of.pictures, classes.astype(np.float64)))
    # The labelled ones lie class by class: the first of them would all be of one.
    learnt = np.arange(len(steps)) if of_kind else np.random.default_rng(0).permutation(len(steps))
    head = graded(blurred, steps, learnt[:LEARNT_PHOTOS]).head
    if "maps" not in skip:
        plain = network.pictures(list(originals.values()))
        found |= shown(network, plain, head, of, classes)
    if "suggest" not in skip:
        found |= suggested(of, classes)
    if "cost" not in skip:
        taste = task(classes, [0, 1], [2, 3], 0)
        found["score_cpu_us"] = score_cpu_us(of.fit(taste.rows[:200], taste.said[:200]).head, of.pictures.vectors, work)
    numbers, card = files.written(head)
    found["head_bytes"] = len(numbers) + len(card)
    return found


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.ratings")
    parser.add_argument("--photos", type=Path, required=True, help="folder of JPEG photographs")
    parser.add_argument("--labelled", type=Path, required=True, help="folder of images in a folder for each label")
    parser.add_argument("--skip", default="", help=f"parts to leave out, of {','.join(SKIPPED)}")
    parser.add_argument("--work", type=Path, help="existing folder for lakes, removed again")
    options = parser.parse_args(argv)
    if os.environ.get(ONE_THREAD) != "1":  # as `imagesieve ratings` does; NumPy reads it once
        given = sys.argv[1:] if argv is None else argv
        command = [sys.executable, "-m", "tests.bench.ratings", *given]
        return subprocess.run(command, env={**os.environ, ONE_THREAD: "1"}, check=False).returncode
    skip = {name for name in options.skip.split(",") if name}
    if not skip <= set(SKIPPED):
        parser.error(f"--skip: must be of {','.join(SKIPPED)}")
    with tempfile.TemporaryDirectory(dir=options.work, prefix="ratings-") as work:
        print(json.dumps(rounded(measure(options.photos, options.labelled, Path(work), skip))))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
