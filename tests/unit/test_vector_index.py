"""Catches a search that misses what is near or finds what is gone, an index that is seen half written, and one that
somebody else wrote and that leads astray."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from numpy.typing import NDArray

from jobs.indexing import making, reading, segments, space, store
from jobs.indexing.opening import LAKES, NEWER, OWN, Opened, Reader
from jobs.indexing.store import BrokenIndexError, Manifest
from tests.vectors import families, unit
from udfs.networks.concepts import Classifier
from udfs.vectors.cosine import Vectors

MODEL = "test@1"
K = 10
CLASSIFIER = Classifier(
    tuple(map(str, range(20))),
    np.random.default_rng(5).normal(size=(20, 32)).astype(np.float32),
    np.zeros(20, np.float32),
)


@pytest.fixture(autouse=True)
def small_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some hundred vectors already lie in several cells, of which a search reads a part."""
    monkeypatch.setattr(space, "ALONE", 200)
    monkeypatch.setattr(space, "PER_CELL", 50)
    monkeypatch.setattr(space, "PER_CENTRE", 8)
    monkeypatch.setattr("jobs.indexing.vector_index.READ", 300)


def write(lake: Path, ids: Sequence[int], vectors: Vectors, keys: Sequence[int] | None = None) -> None:
    kind = pa.list_(pa.field("element", pa.float32(), nullable=False))
    table = {
        "image_id": pa.array(ids, pa.int64()), "model": [MODEL] * len(ids), "vector": pa.array(vectors.tolist(), kind),
        "norm": pa.array(np.ones(len(ids)), pa.float32()),
    }  # fmt: skip
    write_deltalake(str(lake / "embeddings"), pa.table(table), mode="overwrite")
    kept = pa.array(keys if keys is not None else [100 + i for i in ids], pa.int64())
    copies = {
        "image_id": pa.array(ids, pa.int64()),
        "representative_id": pa.array(ids, pa.int64()),
        "content_key": kept,
    }
    write_deltalake(str(lake / "copies"), pa.table(copies), mode="overwrite")


def of(lake: Path, classifier: Classifier | None = CLASSIFIER) -> making.Lake:
    return making.Lake(str(lake), MODEL, reading.versions(str(lake)), classifier, lambda: None)


def made(lake: Path) -> Manifest:
    own = of(lake)
    return making.anew(own, own.vectors(), lambda _: None)


def updated(lake: Path) -> Manifest:
    own = of(lake)
    kept = store.read(str(lake))
    assert kept is not None
    now = making.changed_since(str(lake), kept, own.vectors())
    return making.brought_up(own, kept, own.vectors(), now, lambda _: None)


def opened(lake: Path, folder: Path, most: int = 10_000, classifier: Classifier | None = CLASSIFIER) -> Opened:
    """The rows of the gallery are the ids below `most`."""
    at = reading.versions(str(lake))

    def rows_of(ids: NDArray[np.int64]) -> NDArray[np.int32]:
        return np.where(ids < most, ids, -1).astype(np.int32)

    place = folder / "-".join(map(str, at.values()))
    found = Reader(str(lake), MODEL, at, classifier, rows_of, place, lambda _: None).opened()
    assert found is not None
    return found


def recall(found: Opened, ids: NDArray[np.int64], vectors: Vectors) -> float:
    """Of the K nearest of some pictures, by brute force."""
    hits = 0
    asked = range(0, len(ids), 17)
    for row in asked:
        true = ids[np.argsort(-(vectors @ vectors[row]), kind="stable")[:K]]
        hits += len({*found.index.like(vectors[row], K)[0].tolist()} & {*true.tolist()})
    return hits / K / len(asked)


def test_the_nearest_are_found_and_measured(tmp_path: Path) -> None:
    """A cell left out that holds the nearest, a cosine that is wrong, a recall that is told and not so."""
    vectors = families(3, 900)
    write(tmp_path, range(900), vectors)
    manifest = made(tmp_path)
    found = opened(tmp_path, tmp_path / "own")
    assert (found.source, found.index.images, found.note) == (LAKES, 900, "")
    assert len(store.open_space(str(tmp_path), manifest).centres) == 16
    assert recall(found, np.arange(900), vectors) >= 0.97
    assert manifest.recall is not None
    assert manifest.recall.low <= manifest.recall.at_10 <= manifest.recall.high
    assert manifest.recall.at_10 >= 0.97
    assert manifest.recall.images == 900
    rows, alike = found.index.like(vectors[5], 50)
    assert rows[0] == 5
    np.testing.assert_allclose(alike, vectors[rows] @ vectors[5], atol=0.02)
    own = found.index.like_row(5)
    assert own is not None
    assert own[0][0] == 5
    assert found.index.like_row(2000) is None


def test_the_recall_is_that_of_what_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recall that is told as whole where a search reads one cell alone."""
    monkeypatch.setattr("jobs.indexing.vector_index.READ", 1)
    monkeypatch.setattr("jobs.indexing.vector_index.READ_SHARE", 0.0)
    write(tmp_path, range(900), unit(np.random.default_rng(0).normal(size=(900, 32))))
    manifest = made(tmp_path)
    assert manifest.recall is not None
    assert manifest.recall.at_10 < 0.8


def test_changes_are_brought_in(tmp_path: Path) -> None:
    """A picture that is new and not found, one that is gone and found, one that changed and is found as it was; a file
    that is written again though nothing in it changed."""
    vectors = families(3, 1200)
    write(tmp_path, range(800), vectors[:800])
    first = made(tmp_path)
    ids = np.concatenate([np.arange(20, 800), np.arange(1000, 1100)])
    now = np.concatenate([vectors[20:800], vectors[1000:1100]])
    now[5] = vectors[1150]  # of image 25
    keys = [100 + int(i) + 7 * (i == 25) for i in ids]
    write(tmp_path, ids.tolist(), now, keys)
    kept = updated(tmp_path)
    found = opened(tmp_path, tmp_path / "own")
    assert found.source == LAKES
    assert (kept.images, found.index.images, len(kept.parts)) == (880, 880, 2)
    assert kept.parts[1].images == 101
    assert kept.parts[0].files == first.parts[0].files
    for row in range(0, 800, 3):
        assert not {*found.index.like(vectors[row])[0].tolist()} & {*range(20)}
    assert found.index.like(vectors[1150], 1)[0].tolist() == [25]
    assert found.index.like_row(3) is None
    assert recall(found, ids, now) >= 0.95
    classes = [np.eye(20, dtype=np.float32)[3]]
    rows = found.index.of_classes(classes, 10_000)[0]
    assert not {*rows.tolist()} & {*range(20)}
    assert len({*rows.tolist()}) == len(rows)
    assert not (tmp_path / "own").exists(), "a reader made an index of its own"


def test_a_reader_adds_what_is_newer(tmp_path: Path) -> None:
    """An app that does not know the newest pictures until somebody runs a job, or finds what is gone; that makes all
    anew for a few; that takes what the gallery does not have."""
    vectors = families(3, 900)
    write(tmp_path, range(800), vectors[:800])
    made(tmp_path)
    write(tmp_path, range(10, 850), vectors[10:850])
    for _ in range(2):
        found = opened(tmp_path, tmp_path / "own", most=840)
        assert (found.source, found.index.images) == (NEWER, 830)
    assert recall(found, np.arange(10, 840), vectors[10:840]) >= 0.95
    (folder,) = (tmp_path / "own").iterdir()
    assert len(np.load(folder / "ids.npy")) == 50


def test_much_that_changed_is_told(tmp_path: Path) -> None:
    """An index whose cells no longer fit, taken in silence; one made anew in silence, where the lake has one."""
    vectors = families(3, 900)
    write(tmp_path, range(300), vectors[:300])
    made(tmp_path)
    write(tmp_path, range(900), vectors)
    found = opened(tmp_path, tmp_path / "own")
    assert found.source == OWN
    assert "imagesieve index" in found.note
    assert found.recall is not None
    kept = store.read(str(tmp_path))
    assert kept is not None
    assert making.is_worn(kept, making.changed_since(str(tmp_path), kept, of(tmp_path).vectors()))


def test_without_an_index_a_reader_makes_one(tmp_path: Path) -> None:
    """A search that fails where the lake has none, or where it has no copies yet."""
    vectors = families(3, 400)
    write(tmp_path, range(400), vectors)
    own = opened(tmp_path, tmp_path / "own")
    assert (own.source, own.note) == (OWN, "")
    assert recall(own, np.arange(400), vectors) >= 0.97
    shutil.rmtree(tmp_path / "copies")
    assert opened(tmp_path, tmp_path / "other").index.images == 400


def test_many_segments_become_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More files with each increment, and pictures lost or doubled where they are joined."""
    monkeypatch.setattr(making, "MOST_PARTS", 3)
    vectors = families(3, 1000)
    write(tmp_path, range(800), vectors[:800])
    made(tmp_path)
    for last in range(810, 870, 10):
        write(tmp_path, range(5, last), vectors[5:last])
        kept = updated(tmp_path)
        assert len(kept.parts) <= 3
    found = opened(tmp_path, tmp_path / "own")
    assert (found.source, found.index.images) == (LAKES, 855)
    assert recall(found, np.arange(5, 860), vectors[5:860]) >= 0.95
    named = {file.name for file in kept.files()} | {store.MANIFEST}
    assert {each.name for each in (tmp_path / store.FOLDER).iterdir()} == named


def test_nobody_sees_half_an_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is killed while it writes, after which a search fails or answers from both; files that it leaves for
    ever."""
    vectors = families(3, 900)
    write(tmp_path, range(800), vectors[:800])
    made(tmp_path)
    write(tmp_path, range(50, 900), vectors[50:900])
    put, left = store.put, 3

    def killed(lake: str, name: str, file: Path) -> store.File:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return put(lake, name, file)

    monkeypatch.setattr(store, "put", killed)
    with pytest.raises(KeyboardInterrupt):
        updated(tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr("jobs.indexing.vector_index.READ", 300)
    files = len(list((tmp_path / store.FOLDER).iterdir()))
    found = opened(tmp_path, tmp_path / "own")
    assert (found.source, found.index.images) == (NEWER, 850)
    kept = updated(tmp_path)
    assert opened(tmp_path, tmp_path / "own").source == LAKES
    assert len(list((tmp_path / store.FOLDER).iterdir())) == len(list(kept.files())) + 1
    assert files > len(segments.files_of(True)) + 2, "nothing was left behind: the test is none"


def test_a_run_that_may_not_write_names_nothing(tmp_path: Path) -> None:
    """An index of a run that lost its lease, over that of the run that has it."""
    write(tmp_path, range(300), families(3, 300))

    def lost() -> None:
        raise RuntimeError("lost")

    own = making.Lake(str(tmp_path), MODEL, reading.versions(str(tmp_path)), None, lost)
    with pytest.raises(RuntimeError, match="lost"):
        making.anew(own, own.vectors(), lambda _: None)
    assert store.read(str(tmp_path)) is None


def test_a_reader_that_meets_a_new_index_looks_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that read the old names, whose files another run has just taken away."""
    vectors = families(3, 400)
    write(tmp_path, range(400), vectors)
    made(tmp_path)
    stale = store.read(str(tmp_path))
    write(tmp_path, range(1, 400), vectors[1:])
    made(tmp_path)
    answers = iter([stale])
    read = store.read
    monkeypatch.setattr(store, "read", lambda lake: next(answers, None) or read(lake))
    assert opened(tmp_path, tmp_path / "own").source == LAKES


@pytest.mark.parametrize(
    "spoil",
    [
        lambda told: told["space"].update(name="../../secret.npz"),
        lambda told: told["parts"][0]["files"]["ids"].update(name="/etc/passwd"),
        lambda told: told["parts"][0]["files"].pop("ids"),
        lambda told: told["parts"][0].update(images=-1),
        lambda told: told["parts"][0].update(images=7),
        lambda told: told["parts"][0]["files"]["ids"].update(bytes=8),
        lambda told: told["parts"].extend(told["parts"] * 100),
        lambda told: told.update(more="x"),
        lambda told: told["parts"][0]["files"].update(ids=told["parts"][0]["files"]["bytes"]),
        lambda told: told["parts"][0].update(alive=told["parts"][0]["files"]["ids"]),
    ],
)
def test_what_others_wrote_leads_nowhere(tmp_path: Path, spoil: Callable[[Any], Any]) -> None:
    """A manifest that names files elsewhere, or others than it says, and is followed; a search that then fails."""
    write(tmp_path, range(300), families(3, 300))
    made(tmp_path)
    file = tmp_path / store.FOLDER / store.MANIFEST
    told = json.loads(file.read_text())
    spoil(told)
    file.write_text(json.dumps(told))
    found = opened(tmp_path, tmp_path / "own")
    assert found.source == OWN
    assert str(tmp_path) in found.note or "alive" in found.note or "npy" in found.note
    assert "\n" not in found.note


def test_files_that_are_none(tmp_path: Path) -> None:
    """Pickled objects that are loaded, cells that lie beyond the pictures, text that is no manifest."""
    write(tmp_path, range(300), families(3, 300))
    kept = made(tmp_path)
    folder = tmp_path / store.FOLDER
    own = store.open_space(str(tmp_path), kept)
    starts = folder / kept.parts[0].files["starts"].name
    good = starts.read_bytes()
    wild = np.load(starts)
    wild[1] = 10**9
    np.save(starts, wild)
    with pytest.raises(BrokenIndexError, match="no places of cells"):
        store.open_part(str(tmp_path), kept.parts[0], own)
    starts.write_bytes(good)
    ids = folder / kept.parts[0].files["ids"].name
    np.save(ids, np.array([print] * 300, object), allow_pickle=True)
    with pytest.raises(BrokenIndexError):
        store.open_array(str(tmp_path), kept.parts[0].files["ids"])
    (folder / store.MANIFEST).write_text("[" * 5000)
    with pytest.raises(BrokenIndexError, match="imagesieve index"):
        store.read(str(tmp_path))
    (folder / store.MANIFEST).write_text('{"layout": 99}')
    assert store.read(str(tmp_path)) is None


def test_another_models_index_is_not_taken(tmp_path: Path) -> None:
    write(tmp_path, range(300), families(3, 300))
    made(tmp_path)
    found = opened(tmp_path, tmp_path / "own", classifier=None)
    assert (found.source, found.index.has_classes) == (OWN, False)
    assert MODEL in found.note


def test_bytes_on_disk(tmp_path: Path) -> None:
    """More than 400 bytes a picture, of 288 directions and with classes: a number more for each direction is a byte."""
    vectors = unit(np.random.default_rng(0).normal(size=(3000, 300)))
    wide = Classifier(CLASSIFIER.names, np.zeros((20, 300), np.float32), CLASSIFIER.bias)
    write(tmp_path, range(3000), vectors)
    own = of(tmp_path, wide)
    kept = making.anew(own, own.vectors(), lambda _: None)
    assert sum(file.bytes for part in kept.parts for file in part.files.values()) / 3000 <= 380
