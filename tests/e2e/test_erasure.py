"""Catches anything of an erased person that is left in any file of a lake, also when forgetting is ended in the middle,
and a lake that is not as if the pictures had never been there."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from PIL import Image
from pyspark.sql import SparkSession

from jobs.albums.grouping import OwnersAlbums
from jobs.erasure import command as erasure
from jobs.erasure.forgetting import Asked, forget
from jobs.erasure.suppression import salt_of
from jobs.errors import ConfigError, InputError, LakeBusyError, LakeError
from jobs.lease import acquire
from jobs.rating import command as ratings
from jobs.serve import gallery
from jobs.serve.decisions import Decisions
from jobs.tables import TABLES
from tests.e2e import images, lakes
from udfs.albums.packs import FACTS
from udfs.stores import objects

OWNER = "zelda-5b1d"
LAYOUT = "{owner}/*/*"
IDS = ("image_id", "neighbour_id", "representative_id", "keeper_id", "other_id", "evidence_id")


@dataclass(frozen=True)
class Traces:
    """What may be nowhere: parts of URIs, digests, hashes, and vectors as bytes; and ids, in columns of ids."""

    texts: frozenset[bytes]
    ids: frozenset[int]


@dataclass(frozen=True)
class Owned:
    folder: Path
    lake: Path
    cache: Path


@pytest.fixture(scope="module")
def owned(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Owned:
    """Pictures of four people, with edits of one another's; a lake of three runs in which pictures came, changed and
    went; a rating, decisions, a report, and the app's cache."""
    root = tmp_path_factory.mktemp("owned")
    folder, cache = root / "in", root / "cache"
    for owner in range(4):
        name = OWNER if owner == 0 else f"person-{owner}"
        for number in range(9):
            pixels = images.picture(100 * owner + number)
            if owner and number < 2:  # of one that is erased
                pixels = _edited(images.picture(number), owner)
            if number == 8:  # of one's own
                pixels = _edited(images.picture(100 * owner + 7), 1)
            write(folder / name / ("cat" if number % 2 else "dog") / f"{number}.png", pixels)
    (folder / OWNER / "cat" / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    run(spark, folder, root / "lake")
    write(folder / OWNER / "dog" / "later.png", images.picture(77))
    (folder / OWNER / "dog" / "6.png").unlink()
    write(folder / "person-1" / "dog" / "4.png", images.picture(904))
    run(spark, folder, root / "lake")
    ids = {row["uri"]: row["image_id"] for row in lakes.rows(root / "lake", "images")}
    picks = root / "picks.csv"
    lines = [f"{uri},{'yes' if '/cat/' in uri else 'no'}" for uri in ids if "broken" not in uri]
    picks.write_text("uri,picked\n" + "\n".join(lines) + "\n", encoding="utf-8")
    assert ratings.main(["fit", "cats", "--lake", str(root / "lake"), "--picks", str(picks)]) == 0
    decided(root / "lake", ids)
    run(spark, folder, root / "lake")
    return Owned(folder, root / "lake", cache)


@pytest.fixture
def copy(owned: Owned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Owned:
    """A lake that a test may change, with the app's cache of it."""
    shutil.copytree(owned.lake, tmp_path / "lake")
    monkeypatch.setenv("IMAGESIEVE_CACHE", str(tmp_path / "cache"))
    gallery.opened(str(tmp_path / "lake"), gallery.versions(str(tmp_path / "lake")))
    return Owned(owned.folder, tmp_path / "lake", tmp_path / "cache")


def _edited(pixels: images.Pixels, how: int) -> images.Pixels:
    height, width = pixels.shape[:2]
    shifted = np.clip(pixels.astype(np.int16) + 3 * how, 0, 255).astype(np.uint8)
    return np.asarray(cv2.resize(shifted, (width - 4 * how, height - 3 * how), interpolation=cv2.INTER_AREA), np.uint8)


def write(path: Path, pixels: images.Pixels) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def run(spark: SparkSession, folder: Path, lake: Path) -> None:
    lakes.ran(spark, "run", folder, "--lake", lake, "--layout", LAYOUT, "--set", "catalog.max_removed_share=1")


def decided(lake: Path, ids: dict[str, int]) -> None:
    order = np.array(sorted(ids.values()), np.int64)
    rows = {int(image): row for row, image in enumerate(order.tolist())}
    decisions = Decisions(
        str(lake), len(order), lambda given: np.array([rows.get(int(i), -1) for i in given], np.int32)
    )
    erased = next(uri for uri in ids if OWNER in uri)
    other = next(uri for uri in ids if OWNER not in uri)
    decisions.decide([ids[erased]], "remove", "me", note="theirs")
    decisions.decide([ids[other]], "keep", "me", note=f"like {erased}, but sharper")
    decisions.decide([ids[erased], ids[other]], "keep", "me")
    decisions.close()


def traces(lake: Path, owner: str = OWNER) -> Traces:
    """Of all versions that are there."""
    texts, ids = {owner.encode()}, set[int]()
    mine = {row["image_id"]: row["uri"] for row in lakes.rows(lake, "images") if row["owner"] == owner}
    for file in (lake / "images").rglob("*.parquet"):
        if "_delta_log" not in str(file):
            rows = pq.read_table(file).to_pylist()
            mine |= {row["image_id"]: row["uri"] for row in rows if row["owner"] == owner}
    ids |= set(mine)
    texts |= {uri.encode() for uri in mine.values()}
    kept_digests = {r["sha256"] for r in lakes.rows(lake, "features") if r["image_id"] not in ids}
    for row in lakes.rows(lake, "features"):
        if row["image_id"] in ids and row["sha256"] not in kept_digests:
            texts |= {row["sha256"].encode(), row["pixel_hash"].encode()}
            texts |= {row["thumbnail"], row["look"]}
    for row in lakes.rows(lake, "embeddings"):
        if row["image_id"] in ids:
            vector = np.array(row["vector"], np.float32)
            texts |= {vector.tobytes(), vector.astype(np.float16).tobytes()}
    assert len(ids) >= 9
    return Traces(frozenset(texts), frozenset(ids))


def found_in(folder: Path, sought: Traces) -> list[str]:
    """Where traces are, byte for byte in files and in the decoded values of Parquet."""
    found = []
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        found += [f"{file}: its name" for text in sought.texts if text in os.fsencode(str(file.relative_to(folder)))]
        data = file.read_bytes()
        found += [f"{file}: {text[:60]!r}" for text in sought.texts if text in data]
        if file.suffix == ".parquet":
            found += [f"{file}: {what}" for what in _in_columns(pq.read_table(file), sought)]
        if file.suffix == ".judged":
            found += [f"{file}: ids" for image in json.loads(data) if image in sought.ids]
    return found


def _in_columns(rows: pa.Table, sought: Traces, above: str = "") -> Iterator[str]:
    for name in rows.column_names:
        column = rows[name].combine_chunks()
        values = column.to_pylist()
        if name in IDS:
            yield from (f"{name} {value}" for value in values if value in sought.ids)
        if name == "typical_ids":
            yield from (f"{name} {value}" for value in values if sought.ids & set(value or ()))
        if name == "facts":
            yield from (f"{name} {i}" for v in values for i in np.frombuffer(v, FACTS)["image_id"] if i in sought.ids)
        if name == "vector":
            yield from (f"{name}" for v in values if np.array(v, np.float32).tobytes() in sought.texts)
        text = repr(values).encode() if pa.types.is_nested(column.type) else b"\0".join(
            value if isinstance(value, bytes) else str(value).encode() for value in values
        )  # fmt: skip
        yield from (f"{name}: {one[:60]!r}" for one in sought.texts if one in text)


def forgotten(lake: Path, **asked: Any) -> dict[str, Any]:
    with acquire(str(lake), "test") as lease:
        receipt = forget(str(lake), Asked(**{name: frozenset(of) for name, of in asked.items()}), lease)
    told: dict[str, Any] = json.loads(Path(receipt).read_text(encoding="utf-8"))
    return told


def test_nothing_is_left(copy: Owned, capsys: pytest.CaptureFixture[str]) -> None:
    """An id, a URI, a digest, a thumbnail or a vector in a table, an old version, a log, the report, a rating or a
    cache; a receipt that tells of whom."""
    sought = traces(copy.lake)
    before = {name: lakes.rows(copy.lake, name) for name in TABLES}
    where = {
        str(Path(line.partition(":")[0]).relative_to(copy.lake)).split("/")[0] for line in found_in(copy.lake, sought)
    }
    assert {"images", "features", "embeddings", "neighbours", "duplicates", "issues", "albums", "reviews", "report",
            "ratings-heads", "copies", "cells", "map", "scores", "failures"} <= where  # fmt: skip
    assert found_in(copy.cache, sought)
    assert erasure.main(["--lake", str(copy.lake), "--owner", OWNER]) == 0
    receipt = json.loads(Path(capsys.readouterr().out.splitlines()[-1].removeprefix("receipt: ")).read_text())
    assert found_in(copy.lake, sought) == []
    assert found_in(copy.cache, sought) == []
    assert receipt["images"] == len(sought.ids)
    assert receipt["rows"]["images"]["removed"] == sum(row["owner"] == OWNER for row in before["images"])
    for name, rows in before.items():  # what is not theirs stays
        left = lakes.rows(copy.lake, name)
        if name in ("features", "embeddings", "scores", "images", "map", "concepts"):
            assert sorted(map(repr, left)) == sorted(repr(r) for r in rows if r["image_id"] not in sought.ids), name
        table = DeltaTable(copy.lake / name)
        assert table.version() == receipt["versions"][name]
        assert {Path(uri).resolve() for uri in table.file_uris()} == {
            path for path in (copy.lake / name).rglob("*.parquet") if "_delta_log" not in str(path)
        }
    notes = [row["note"] for row in lakes.rows(copy.lake, "reviews") if row["note"]]
    assert notes == ["like (erased), but sharper"]
    with pytest.raises(InputError, match=OWNER):
        OwnersAlbums(str(copy.lake)).grouped(OWNER)
    assert len(OwnersAlbums(str(copy.lake)).grouped("person-1")) == 9
    with pytest.raises(InputError, match="nothing was deleted"):
        erasure.main(["--lake", str(copy.lake), "--owner", OWNER])


def test_the_rest_is_consistent_at_once(copy: Owned) -> None:
    """A cluster of one picture, one whose keeper is gone, an issue with evidence that is not there."""
    forgotten(copy.lake, owners=[OWNER])
    there = {row["image_id"] for row in lakes.rows(copy.lake, "images")}
    for name in TABLES:
        for row in lakes.rows(copy.lake, name):
            assert all(row[column] in there for column in IDS if row.get(column) is not None), (name, row)
    clusters: dict[int, list[dict[str, Any]]] = {}
    for row in lakes.rows(copy.lake, "duplicates"):
        clusters.setdefault(row["cluster_id"], []).append(row)
    for members in clusters.values():
        assert len(members) > 1
        assert {row["cluster_size"] for row in members} == {len(members)}
        assert {row["keeper_id"] for row in members} == {row["image_id"] for row in members if row["is_keeper"]}


def test_the_next_run_is_as_if_they_had_never_been_there(spark: SparkSession, copy: Owned, tmp_path: Path) -> None:
    """Pictures that come back, or neighbours that are not searched again for what has lost one."""
    forgotten(copy.lake, owners=[OWNER])
    run(spark, copy.folder, copy.lake)  # its pictures are still in the folder
    assert OWNER not in {row["owner"] for row in lakes.rows(copy.lake, "images")}
    without = tmp_path / "without"
    shutil.copytree(copy.folder, without, ignore=lambda _, names: {OWNER} & set(names))
    run(spark, without, tmp_path / "other")
    name_of, name_there = lakes.relative_to(copy.folder), lakes.relative_to(without)
    lakes.assert_same(lakes.snapshot(copy.lake, name_of), lakes.snapshot(tmp_path / "other", name_there))
    assert erasure.main(["--lake", str(copy.lake), "--allow-all-again"]) == 0
    run(spark, copy.folder, copy.lake)
    assert OWNER in {row["owner"] for row in lakes.rows(copy.lake, "images")}


def test_one_picture(copy: Owned) -> None:
    """More, or less, than one picture by its URI or its id."""
    uri = f"{copy.folder}/{OWNER}/cat/3.png"
    image = next(row["image_id"] for row in lakes.rows(copy.lake, "images") if row["uri"] == uri)
    other = next(r["image_id"] for r in lakes.rows(copy.lake, "images") if r["uri"].endswith("person-2/cat/5.png"))
    total = len(lakes.rows(copy.lake, "images"))
    assert forgotten(copy.lake, uris=[uri], ids=[other])["images"] == 2
    left = {row["image_id"] for row in lakes.rows(copy.lake, "images")}
    assert len(left) == total - 2
    assert not left & {image, other}
    assert found_in(copy.lake, Traces(frozenset({uri.encode()}), frozenset({image, other}))) == []
    assert image not in OwnersAlbums(str(copy.lake)).grouped(OWNER).ids


class Killed(BaseException):
    """In the place of the end of a process."""


@pytest.mark.parametrize("seed", range(6))
def test_it_may_be_ended_anywhere(copy: Owned, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """A step after which the rest is not found any more, tables that cannot be read meanwhile, a receipt of half."""
    sought = traces(copy.lake)
    salt_of(str(copy.lake))
    clean = forgotten(_twin(copy.lake), owners=[OWNER])
    left = random.Random(seed).randint(1, 160)
    calls = 0

    def counted(work: Callable[..., Any]) -> Callable[..., Any]:
        def step(*given: Any, **more: Any) -> Any:
            nonlocal calls, left
            calls += 1
            if calls == left:
                raise Killed
            return work(*given, **more)

        return step

    for name in ("put", "put_if_absent", "replacing", "delete", "delete_below"):
        monkeypatch.setattr(objects, name, counted(getattr(objects, name)))
    ends = 0
    while True:
        calls = 0
        try:
            receipt = forgotten(copy.lake, owners=[OWNER])
            break
        except Killed:
            ends += 1
            left += random.Random(100 * seed + ends).randint(1, 200)
            for name in TABLES:
                lakes.rows(copy.lake, name)
    assert found_in(copy.lake, sought) == []
    assert (receipt["images"], receipt["images_digest"]) == (clean["images"], clean["images_digest"])
    assert receipt["rows"] == clean["rows"]
    assert not list((copy.lake / "_forgotten" / "pending").glob("*"))


def _twin(lake: Path) -> Path:
    twin = lake.with_name("twin")
    shutil.copytree(lake, twin)
    return twin


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_process_that_is_killed(copy: Owned, seed: int) -> None:
    """What only a real end shows: a lease that is held, a file that is half written."""
    sought = traces(copy.lake)
    argv = [sys.executable, "-m", "imagesieve", "forget", "--lake", str(copy.lake), "--owner", OWNER]
    wait = random.Random(seed).uniform(0.0, 1.5)
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()  # it has begun
    time.sleep(wait)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    ended = subprocess.run(argv, capture_output=True, text=True, check=False)
    done = "nothing was deleted" in ended.stderr  # it had ended before
    assert ended.returncode == (3 if done else 0), ended.stderr
    assert found_in(copy.lake, sought) == []


def test_bad_questions(copy: Owned, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing asked for, everything asked for by a wrong name, a lake that is none, one that is being written, a table
    that may hold anything."""
    lake = str(copy.lake)
    for argv, error in (
        (["--lake", lake], ConfigError),
        (["--lake", lake, "--owner", ""], ConfigError),
        (["--lake", lake, "--owner", OWNER, "--allow-all-again"], ConfigError),
        (["--lake", lake, "--owner", "nobody"], InputError),
        (["--lake", lake, "--uri", "s3:/x"], InputError),
        (["--lake", lake, "--image-id", "99999"], InputError),
        (["--lake", str(tmp_path / "none"), "--owner", OWNER], LakeError),
    ):
        before = lakes.versions(lake)
        with pytest.raises(error):
            erasure.main(argv)
        assert lakes.versions(lake) == before
    with acquire(lake, "other"), pytest.raises(LakeBusyError):
        erasure.main(["--lake", lake, "--owner", OWNER])
    shutil.copytree(copy.lake / "map", copy.lake / "mine")
    with pytest.raises(LakeError, match="mine"):
        erasure.main(["--lake", lake, "--owner", OWNER])
    capsys.readouterr()
