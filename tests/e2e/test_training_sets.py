"""A clean set becomes shards that one can train from, that a killed run goes on with, and that can be made again."""

import dataclasses
import hashlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from imagesieve import transforms
from pyspark.sql import SparkSession

from jobs.cleaning import training_set
from tests.conftest import sail_only
from tests.e2e import images, lakes
from tests.s3_server import S3Server
from udfs.networks import embedding, models, preparation

CLASSES = ("lines", "spots", "plain")
EACH = 110  # of a class
FILES = {"tar": "webdataset", "parquet": "parquet"}


def picture(kind: str, number: int) -> images.Pixels:
    """Of a class that a network can tell: (48, 64, 3) uint8."""
    rng = np.random.default_rng([number, CLASSES.index(kind)])
    rows, columns = np.mgrid[:48, :64]
    colour = rng.uniform(40, 215, 3)
    shape = {
        "lines": np.sin(columns / rng.uniform(1, 2)),
        "spots": np.sin(columns / 3) * np.sin(rows / 3),
        "plain": 0 * rows,
    }
    made = colour + 70 * shape[kind][..., None] + rng.normal(0, 12, (48, 64, 3))
    return np.asarray(made.clip(0, 255), np.uint8)


@dataclasses.dataclass(frozen=True)
class Made:
    folder: Path
    lake: Path
    sets: dict[str, Path]  # by what was written


@pytest.fixture(scope="module")
def made(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Images without splits, some of them twice, one broken; and a set of each kind."""
    root = tmp_path_factory.mktemp("sets")
    files = {f"{kind}/{n:03d}.jpg": images.jpeg(picture(kind, n)) for kind in CLASSES for n in range(EACH)}
    copies = {f"plain/copy-{n}.jpg": files[f"plain/{n:03d}.jpg"] for n in range(2)}
    broken = {"plain/broken.jpg": files["plain/000.jpg"][:300]}
    folder = images.write(root / "in", {**files, **copies, **broken})
    lakes.ran(spark, "run", folder, "--lake", root / "lake", "--layout", "{label}/*")
    sets = {}
    for write in FILES.values():
        sets[write] = root / write
        lakes.ran(spark, *arguments(root / "lake", sets[write], write))
    return Made(folder, root / "lake", sets)


def arguments(lake: Path, to: Path | str, write: str = "webdataset", seed: int = 5) -> list[str | Path]:
    """Only copies are removed: the demands of quality are not what these pictures are about."""
    return [
        "clean", "--lake", lake, "--write", write, "--to", to, "--seed", str(seed), "--shard-images", "100",
        "--splits", "train=0.7,val=0.3",
        "--set", "clean.remove=[corrupted, exact_duplicate]", "--set", "clean.relabel=false",
    ]  # fmt: skip


def samples_of_tars(to: Path | str) -> Iterator[tuple[str, dict[str, Any]]]:
    """As WebDataset groups them: the split, and members of one key side by side."""
    for path in sorted(Path(to).glob("*/*.tar")):
        with tarfile.open(path) as tar:
            key, sample = "", dict[str, Any]()
            for member in tar:
                stem, _, ending = member.name.partition(".")
                if stem != key and sample:
                    yield path.parent.name, sample
                    sample = {}
                key = stem
                file = tar.extractfile(member)
                assert file is not None
                sample[ending] = file.read()
            yield path.parent.name, sample


def digests(to: Path) -> dict[str, str]:
    rows = pq.read_table(to / training_set.SHARDS).to_pylist()
    return {row["name"]: row["sha256"] for row in rows}


def test_both_forms_hold_the_clean_set(made: Made, tmp_path: Path, commands: lakes.Commands) -> None:
    """An image that is lost, twice, under another label or in two splits; bytes that changed; shards in no order."""
    remove = ["--set", "clean.remove=[corrupted, exact_duplicate]", "--set", "clean.relabel=false"]
    commands("clean", "--lake", made.lake, "--out", tmp_path / "kept.parquet", *remove)
    kept = {row["uri"]: row["label"] for row in pq.read_table(tmp_path / "kept.parquet").to_pylist()}
    assert len(kept) == len(CLASSES) * EACH
    told = json.loads((made.sets["webdataset"] / "training-set.json").read_text())
    assert (told["whole"], told["left_out"], told["classes"]) == (True, 0, sorted(CLASSES))
    assert told["made_of"]["tables"]["issues"] is not None
    by_tar = {}
    order = []
    for split, sample in samples_of_tars(made.sets["webdataset"]):
        known = json.loads(sample["json"])
        assert known["uri"] not in by_tar
        assert sample["jpg"] == Path(known["uri"]).read_bytes()
        assert sorted(CLASSES)[int(sample["cls"])] == known["label"]
        assert known["split"] == split
        by_tar[known["uri"]] = (known["label"], split)
        order.append(known["label"])
    rows = [row for split in ("train", "val") for row in pq.read_table(made.sets["parquet"] / split).to_pylist()]
    assert {row["uri"]: (row["label"], row["split"]) for row in rows} == by_tar
    assert all(row["image"]["bytes"] == Path(row["uri"]).read_bytes() for row in rows)
    assert {uri: label for uri, (label, _) in by_tar.items()} == kept
    shares = Counter(split for _, split in by_tar.values())
    assert shares == told["splits"]
    assert 0.6 < shares["train"] / len(kept) < 0.8
    changes = sum(one != other for one, other in itertools.pairwise(order))
    assert changes > 0.5 * len(order), "labels in a row: not shuffled"
    assert len(digests(made.sets["webdataset"])) >= 4
    assert not (made.sets["webdataset"] / "_parts").exists()


def test_another_seed_is_another_order(made: Made, commands: lakes.Commands, tmp_path: Path) -> None:
    assert commands(*arguments(made.lake, tmp_path / "one")).code == 0
    assert digests(tmp_path / "one") == digests(made.sets["webdataset"])
    assert commands(*arguments(made.lake, tmp_path / "other", seed=6)).code == 0
    assert not set(digests(tmp_path / "other").values()) & set(digests(tmp_path / "one").values())


@pytest.mark.slow
def test_a_killed_run_goes_on(made: Made, tmp_path: Path) -> None:
    """A shard that is cut off, missing or twice after kills at any moment."""
    rng = np.random.default_rng(3)
    for kill in range(4):
        process = lakes.start(*arguments(made.lake, tmp_path / "set"), cwd=tmp_path, own_group=True)
        # Every other one once shards are written, or soon after the set is begun; the others at any moment.
        mark, most_s = ("set/_parts/*", 120) if kill % 2 else ("set/training-set.json", float(rng.uniform(3, 30)))
        end = time.monotonic() + most_s
        while time.monotonic() < end and process.poll() is None and not list(tmp_path.glob(mark)):
            time.sleep(0.002)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()
        time.sleep(0.2)
    ended = lakes.process(*arguments(made.lake, tmp_path / "set"), cwd=tmp_path)
    assert ended.code == 0, ended.err
    assert digests(tmp_path / "set") == digests(made.sets["webdataset"])
    assert not list((tmp_path / "set").rglob("*.tmp"))


def test_what_a_killed_run_leaves_is_taken_away(made: Made, commands: lakes.Commands, tmp_path: Path) -> None:
    """Half a shard beside the whole ones, which a pattern of names may take for one; and a file of somebody else's."""
    (tmp_path / "set" / "train").mkdir(parents=True)
    begun = {**json.loads((made.sets["webdataset"] / "training-set.json").read_text()), "whole": False}
    (tmp_path / "set" / "training-set.json").write_text(json.dumps(begun))
    draft = tmp_path / "set" / "train" / "train-000001.tar.78c0f1b43ea10ffd.tmp"
    draft.write_bytes(b"half")
    (tmp_path / "set" / "train" / "notes.tmp").write_bytes(b"mine")
    assert commands(*arguments(made.lake, tmp_path / "set")).code == 0
    assert not draft.exists()
    assert (tmp_path / "set" / "train" / "notes.tmp").exists()
    assert digests(tmp_path / "set") == digests(made.sets["webdataset"])


def test_what_is_there_is_not_written_again(made: Made, commands: lakes.Commands, tmp_path: Path) -> None:
    """A set that costs its time twice; one that takes shards of another set, or of other rules, for its own."""
    again = commands(*arguments(made.lake, made.sets["webdataset"]))
    assert "lies there already" in again.out + again.err
    other = commands(*arguments(made.lake, made.sets["webdataset"], seed=9))
    assert other.code == 2
    assert "holds another training set (seed, images_sha256)" in other.line
    other = commands(*arguments(made.lake, made.sets["webdataset"]), "--set", "clean.remove=[]")
    assert "holds another training set (images, images_sha256)" in other.line
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("x")
    assert "is not empty" in commands(*arguments(made.lake, tmp_path / "full")).line


def test_replay(made: Made, commands: lakes.Commands, tmp_path: Path) -> None:
    """A set that cannot be made again once the lake has gone on; a picture that changed and goes in all the same."""
    manifest = made.sets["parquet"] / "training-set.json"
    done = commands("clean", "--lake", made.lake, "--replay", manifest, "--to", tmp_path / "again")
    assert "byte for byte what they were" in done.out + done.err
    assert digests(tmp_path / "again") == digests(made.sets["parquet"])
    changed = made.folder / "lines" / "007.jpg"
    kept = changed.read_bytes()
    try:
        changed.write_bytes(images.jpeg(picture("lines", 999)))
        (made.folder / "lines" / "008.jpg").rename(tmp_path / "away.jpg")
        done = commands("clean", "--lake", made.lake, "--replay", manifest, "--to", tmp_path / "later")
        assert "not what they were" in done.out + done.err
        left_out = [json.loads(line) for line in (tmp_path / "later" / "left-out.jsonl").read_text().splitlines()]
        assert sorted((Path(one["uri"]).name, one["why"]) for one in left_out) == [
            ("007.jpg", "changed"), ("008.jpg", "not_found"),
        ]  # fmt: skip
    finally:
        changed.write_bytes(kept)
        if (tmp_path / "away.jpg").exists():
            shutil.move(tmp_path / "away.jpg", made.folder / "lines" / "008.jpg")
    shutil.copytree(made.sets["parquet"], tmp_path / "forged")
    shutil.copy(made.sets["webdataset"] / "shards.parquet", tmp_path / "forged" / "images.parquet")
    forged = commands(
        "clean", "--lake", made.lake, "--replay", tmp_path / "forged" / "training-set.json", "--to", tmp_path / "x"
    )
    assert (forged.code, "cannot be read" in forged.line or "is not the list" in forged.line) == (3, True)


@pytest.mark.parametrize("write", FILES.values())
def test_a_linear_head_learns_from_the_shards(write: str, made: Made) -> None:
    """Labels that do not belong to their pictures, or splits that cannot be told: the head is no better than chance."""
    model = models.find("efficientnet-lite0-160@imagenet-3")
    transform = transforms.Transform(model)
    net = embedding.open_runtime("openvino-fp32", model, preparation.prepare(model, cache()).files)
    vectors: dict[str, list[Any]] = {"train": [], "val": []}
    labels: dict[str, list[int]] = {"train": [], "val": []}
    for split, data, label in read(made.sets[write], write):
        vectors[split].append(net.embed(transform.pixels(data)[None])[0])
        labels[split].append(label)
    given, asked = (np.stack(vectors[split]) for split in ("train", "val"))
    wanted = np.eye(len(CLASSES))[labels["train"]]
    centre = given.mean(axis=0)
    inner = (given - centre) @ (given - centre).T + 0.1 * np.eye(len(given))
    head = (given - centre).T @ np.linalg.solve(inner, wanted - wanted.mean(axis=0))
    right = ((asked - centre) @ head + wanted.mean(axis=0)).argmax(axis=1) == labels["val"]
    assert right.mean() > 0.9, right.mean()


def cache() -> Path:
    from udfs.stores.cache import user_cache

    return user_cache()


def read(to: Path, write: str) -> Iterator[tuple[str, bytes, int]]:
    if write == "webdataset":
        for split, sample in samples_of_tars(to):
            yield split, sample["jpg"], int(sample["cls"])
        return
    for split in ("train", "val"):
        for row in pq.read_table(to / split).to_pylist():
            yield split, row["image"]["bytes"], row["label_number"]


def test_shards_are_inputs_again(made: Made, commands: lakes.Commands, tmp_path: Path) -> None:
    """Tars that the catalog does not read, or whose labels it does not find."""
    assert commands("catalog", made.sets["webdataset"] / "val", "--lake", tmp_path / "lake").code == 0
    rows = lakes.table(tmp_path / "lake", "images").to_pandas()
    told = json.loads((made.sets["webdataset"] / "training-set.json").read_text())
    assert len(rows) == told["splits"]["val"]
    assert set(rows["label"]) == {"0", "1", "2"}


PYTHON = """
import sys, imagesieve
print(imagesieve.open(sys.argv[1]).training_set(
    sys.argv[2], seed=5, shard_images=100, splits="train=0.7,val=0.3", relabel=False,
    remove=["corrupted", "exact_duplicate"],
))
"""


@sail_only
def test_from_python_and_to_s3(made: Made, s3: S3Server, tmp_path: Path) -> None:
    """A set on S3 whose shards are others; in a process of its own, for here there is a session already."""
    to = f"s3://{s3.bucket}/sets/one"
    ended = subprocess.run(
        [sys.executable, "-c", PYTHON, str(made.lake), to], cwd=tmp_path, capture_output=True, text=True, timeout=300,
        env=lakes.clean_environment(PYTHONPATH=f"{lakes.ROOT}:{lakes.ROOT / 'jobs' / 'api'}", **s3.env), check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == f"{to}/training-set.json"
    client = s3.client()
    for name, digest in digests(made.sets["webdataset"]).items():
        data = client.get_object(Bucket=s3.bucket, Key=f"sets/one/{name}")["Body"].read()
        assert hashlib.sha256(data).hexdigest() == digest
    told = json.loads(client.get_object(Bucket=s3.bucket, Key="sets/one/training-set.json")["Body"].read())
    assert told["whole"]
    assert not client.list_objects_v2(Bucket=s3.bucket, Prefix="sets/one/_parts/").get("KeyCount")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--write", "webdataset"], "--to: must name"),
        (["--write", "webdataset", "--to", "LAKE/x"], "apart from the lake"),
        (["--write", "parquet", "--to", "t", "--apply", "copy"], "one of them at a time"),
        (["--write", "parquet", "--to", "t", "--shard-images", "7"], "--shard-images: must be 100..1000000, got 7"),
        (["--write", "parquet", "--to", "t", "--seed", "-1"], "--seed: must be"),
        (["--write", "parquet", "--to", "t", "--splits", "train"], "--splits: must be NAME=SHARE"),
        (["--write", "parquet", "--to", "t", "--splits", "a=0.5,b=0.6"], "--splits: shares must"),
        (["--write", "parquet", "--to", "t", "--splits", "a=nan,b=0.5"], "--splits: shares must"),
        (["--seed", "4", "--out", "k.csv"], "--seed: goes with --write"),
        (["--replay", "nothing.json", "--to", "t"], "there is no such file"),
        (["--to", "t"], "one needs the other"),
        ([], "--out: must name a file"),
    ],
)
def test_bad_input_is_one_line(
    more: list[str], said: str, made: Made, commands: lakes.Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = commands("clean", "--lake", made.lake, *[part.replace("LAKE", str(made.lake)) for part in more])
    assert ended.code in (2, 3)
    assert said in ended.line
    assert not list(tmp_path.iterdir()), "nothing is written before all was looked at"
