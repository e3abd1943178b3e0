"""How fast an album is grouped, and how much is read for it: one JSON line.

    nice -n -19 python -m tests.bench.live_albums

- album_ms: an album of PICTURES vectors of 1,280 numbers, on disk, grouped at level medium by a process that has opened
  the lake and its table and has grouped nothing yet; the median of PROCESSES. first_ms: likewise where not even the
  modules are loaded: warm_ms: the same question again. warm_level_ms: the same album at a level not asked for yet.
  album_cpu_ms: of both cores. The vectors are made up: a direction that all share, subjects and bursts, so that mean
  cosines are about those of a network, 0.45, and `groups` tells how many they make.
- bytes_ratio: what is read of a lake of OWNERS owners and IMAGES pictures of 1,280 numbers for the album of one of
  them, by what the album takes; requests: GETs. The mean of SAMPLED owners, and the worst. `increments`: the same with
  INCREMENTS later runs of as many pictures each as a run of the stage leaves. The log names the files of all owners;
  only those in which sampled owners lie are written, the others are never opened. One owner has a tenth of all
  pictures.
- stage: cpu_ms of a picture, the slope of `imagesieve albums` between SIZES vectors of 1,280 numbers with owners of
  EACH pictures, start of the engine and pairs of each pack included; nothing_cpu_s where nothing is new, and
  moved_cpu_s where MOVED pictures change their owner.
- erasure: CPU seconds of `imagesieve forget` for one of these owners; the tables are images, features, embeddings and
  albums."""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from numpy.typing import NDArray

from jobs import __version__
from jobs.albums.reading import Albums
from jobs.engines import delta_files, delta_log
from jobs.engines.delta_files import Added
from jobs.lakes import LAKE_FORMAT, MARKER
from jobs.tables import TABLES
from tests.bench import engine_runs, vector_lake
from udfs.albums import files, packs
from udfs.albums.packs import FACTS, Pictures
from udfs.networks import models
from udfs.stores import objects

PICTURES, DIMENSION = 2000, 1280
PROCESSES = 5
OWNERS, IMAGES = 100_000, 10_000_000
LARGEST = 0.1  # of all pictures, of one owner
SAMPLED = 40
INCREMENTS = (1_000, 5_000, 25_000, 125_000, 625_000)  # pictures of the last run, of the one before, and so on
PACK = 2048
SIZES, EACH, MOVED = (10_000, 30_000), 100, 1000
URI = "s3://bucket/users/{owner:08}/2024/IMG_{number:06}.jpeg"

CHILD = """
import json, sys, time
lake, owner, loaded = sys.argv[1:]
import imagesieve
opened = imagesieve.open(lake)
if loaded == "yes":
    import jobs.albums.grouping
    opened._albums = jobs.albums.grouping.OwnersAlbums(opened.uri)
times = []
def timed(level):
    wall, cpu = time.perf_counter(), time.process_time()
    found = opened.group(owner, level)
    times.append((1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu)))
    return found
found = timed("medium")
timed("medium")
timed("high")
print(json.dumps({"times": times, "groups": int(found.group.max()) + 1}))
"""


def vectors(count: int, seed: int) -> NDArray[np.float16]:
    """(count, DIMENSION) of norm 1: subjects that share a direction, in bursts of one to six pictures."""
    draw = np.random.default_rng(seed)

    def directions(number: int) -> NDArray[np.float32]:
        rows = draw.standard_normal((number, DIMENSION), np.float32)
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)

    sizes = draw.integers(1, 7, count)
    burst = np.repeat(np.arange(count), sizes)[:count]
    subject = draw.integers(0, max(1, count // 40), count)[burst]
    parts = ((0.67, directions(1)[np.zeros(count, int)]), (0.35, directions(subject.max() + 1)[subject]),
             (0.55, directions(burst.max() + 1)[burst]), (0.36, directions(count)))  # fmt: skip
    rows = sum(weight * part for weight, part in parts)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float16)


def facts_of(ids: NDArray[np.int64], uris: list[bytes]) -> NDArray[np.void]:
    facts = np.zeros(len(ids), FACTS)
    facts["image_id"], facts["mark"] = ids, 1 + ids
    facts["taken"] = 1_700_000_000_000_000 + 5_000_000 * np.arange(len(ids))
    facts["quality"] = (ids * 7919 % 1000) / 1000
    facts["uri_bytes"] = [len(uri) for uri in uris]
    return facts


def new_lake(folder: Path) -> str:
    """A lake with an empty table of albums. Returns the table's URI."""
    folder.mkdir(parents=True)
    (folder / MARKER).write_text(json.dumps({"format": LAKE_FORMAT, "version": __version__}), encoding="utf-8")
    return new_table(folder)


def new_table(folder: Path) -> str:
    """An empty table of albums in a lake. Returns its URI."""
    table = str(folder / "albums")
    delta_log.create(table, TABLES["albums"])
    return table


def commit(table: str, made: list[pa.RecordBatch]) -> None:
    rows = pa.Table.from_batches(made).to_pylist()
    delta_files.commit(
        table, [Added(r["path"], r["size_bytes"], r["rows"], {"owner_key": (r["low"], r["high"])}) for r in rows], ()
    )


def album_times(folder: Path) -> dict[str, Any]:
    table = new_lake(folder)
    ids = np.arange(PICTURES, dtype=np.int64)
    uris = [URI.format(owner=1, number=n).encode() for n in range(PICTURES)]
    pack = Pictures(facts_of(ids, uris), uris, vectors(PICTURES, 0)).compared()
    writer = files.Writer(table, 1)
    commit(table, [*writer.add(packs.key_of("anna"), "anna", 1, 0, models.DEFAULT, pack), *writer.close()])
    told = {loaded: [_child(folder, loaded) for _ in range(PROCESSES)] for loaded in ("yes", "no")}

    def median(of: list[dict[str, Any]], question: int, what: int = 0) -> float:
        return round(float(statistics.median(one["times"][question][what] for one in of)), 1)

    return {
        "album_ms": median(told["yes"], 0), "album_cpu_ms": median(told["yes"], 0, 1),
        "warm_ms": median(told["yes"], 1), "warm_level_ms": median(told["yes"], 2),
        "first_ms": median(told["no"], 0), "groups": told["yes"][0]["groups"], "pictures": PICTURES,
    }  # fmt: skip


def _child(lake: Path, loaded: str) -> dict[str, Any]:
    answer = subprocess.run(
        [sys.executable, "-c", CHILD, str(lake), "anna", loaded], capture_output=True, text=True, check=True
    )
    return dict(json.loads(answer.stdout))


class Unwritten(files.Writer):
    """As Writer, for files that nobody will open."""

    def _file(self) -> pa.RecordBatch:
        with mock.patch.object(files, "write_groups"), mock.patch.object(objects, "replacing", _nowhere):
            return super()._file()


@contextlib.contextmanager
def _nowhere(uri: str) -> Iterator[Path]:
    yield Path("/dev/null")


def sizes_of_owners(draw: np.random.Generator) -> NDArray[np.int64]:
    """(OWNERS,) pictures of each: the first has LARGEST of all, the others are spread as a lognormal."""
    shares = draw.lognormal(0, 1, OWNERS - 1)
    rest = np.maximum(1, np.round(shares / shares.sum() * IMAGES * (1 - LARGEST))).astype(np.int64)
    return np.concatenate([[int(IMAGES * LARGEST)], rest])


def write_run(table: str, run: int, counts: dict[int, int], keys: NDArray[np.int64], wanted: set[int]) -> None:
    """A run of the stage: counts pictures of each owner. wanted: owners whose files are written."""
    total = sum(counts.values())
    shift = packs.KEY_BITS - files.buckets(total)
    owners = sorted(counts, key=lambda owner: int(keys[owner]))
    dealt: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for owner in owners:
        shares = -(-counts[owner] // files.BUCKET_IMAGES)
        for share in range(shares):
            part = counts[owner] // shares
            dealt.setdefault((int(keys[owner]) >> shift, share), []).append((owner, part))
    made: list[pa.RecordBatch] = []
    largest = np.zeros((PACK, DIMENSION), np.float16)
    for (bucket, share), of in sorted(dealt.items()):
        written = any(owner in wanted for owner, _ in of) or any(int(keys[w]) >> shift == bucket for w in wanted)
        writer = files.Writer(table, run) if written else Unwritten(table, run)
        for owner, count in of:
            for start in range(0, count, PACK):
                ids = np.arange(start, min(count, start + PACK), dtype=np.int64) + run * 100_000_000 + owner * 1000
                uris = [URI.format(owner=owner, number=n).encode() for n in range(len(ids))]
                numbers = vectors(len(ids), owner) if owner in wanted else largest[: len(ids)]
                pack = Pictures(facts_of(ids, uris), uris, numbers, packs.NO_PAIRS)
                pack = pack.compared() if owner in wanted else pack
                made += writer.add(int(keys[owner]), str(owner), run, share << 16 | start // PACK, "m", pack)
        made += writer.close()
    commit(table, made)


def bytes_read(lake: Path, wanted: list[int]) -> dict[str, Any]:
    albums = Albums(str(lake))
    ratios, requests = [], []
    for owner in wanted:
        found = albums.album(str(owner)).pictures
        ratios.append(albums.fetched / sum(len(column or b"") for column in packs.packed(found)))
        requests.append(albums.requests)
    return {
        "bytes_ratio": round(float(np.mean(ratios)), 2), "worst": round(max(ratios), 2),
        "requests": round(float(np.mean(requests)), 1), "most_requests": max(requests),
    }  # fmt: skip


def layout(folder: Path) -> dict[str, Any]:
    table = new_lake(folder)
    draw = np.random.default_rng(0)
    keys = np.array([packs.key_of(str(owner)) for owner in range(OWNERS)], np.int64)
    sizes = sizes_of_owners(draw)
    usual = np.flatnonzero((sizes >= 50) & (sizes <= 2000))
    wanted = draw.choice(usual, SAMPLED, replace=False).tolist()
    started = time.monotonic()
    write_run(table, 1, dict(enumerate(sizes.tolist())), keys, set(wanted))
    told = {"owners": OWNERS, "pictures": int(sizes.sum()), "mean_album": round(float(sizes[wanted].mean()), 1)}
    told |= bytes_read(folder, wanted)
    for run, count in enumerate(reversed(INCREMENTS), start=2):
        owners, each = np.unique(draw.choice(OWNERS, count, p=sizes / sizes.sum()), return_counts=True)
        more = {int(owner): int(n) for owner, n in zip(owners, each, strict=True) if owner != 0}
        write_run(table, run, more, keys, set(wanted))
    log = sum(file.stat().st_size for file in (folder / "albums" / "_delta_log").iterdir())
    opened = time.monotonic()
    Albums(str(folder))
    return {
        **told, "increments": bytes_read(folder, wanted), "runs": 1 + len(INCREMENTS), "log_bytes": log,
        "open_s": round(time.monotonic() - opened, 2), "made_s": round(time.monotonic() - started),
    }  # fmt: skip


def with_owners(lake: Path, count: int, moved: int = 0) -> None:
    """Gives the images of a lake owners of EACH pictures, the first `moved` of them others than before."""
    rows = DeltaTable(str(lake / "images")).to_pyarrow_table().sort_by("image_id")
    owners = [f"u{n // EACH if n >= moved else 7 * n % (count // EACH)}" for n in range(count)]
    place = rows.schema.get_field_index("owner")
    rows = rows.set_column(place, rows.schema.field(place), pa.array(owners, rows.schema.field(place).type))
    write_deltalake(str(lake / "images"), rows, mode="overwrite")


def stage(folder: Path) -> dict[str, Any]:
    took, written = [], []
    for count in SIZES:
        lake = folder / f"lake{count}"
        vector_lake.write(lake, np.asarray(vectors(count, 0), np.float32), model=models.DEFAULT)
        with_owners(lake, count)
        took.append(_albums_cpu_s(lake))
    written = [_albums_cpu_s(lake)]
    with_owners(lake, SIZES[-1], MOVED)
    written.append(_albums_cpu_s(lake))
    slope = 1000 * (took[1] - took[0]) / (SIZES[1] - SIZES[0])
    return {"cpu_ms": round(slope, 3), "nothing_cpu_s": round(written[0], 1), "moved_cpu_s": round(written[1], 1)}


def _albums_cpu_s(lake: Path) -> float:
    command = [sys.executable, "-W", "ignore", "-m", "imagesieve", "albums", "--lake", str(lake)]
    return engine_runs.ended(command).cpu_s


def erasure(folder: Path) -> dict[str, Any]:
    """Of the larger lake of stage(): one owner."""
    lake = folder / f"lake{SIZES[-1]}"
    command = [sys.executable, "-W", "ignore", "-m", "imagesieve", "forget", "--lake", str(lake), "--owner", "u123"]
    ran = engine_runs.ended(command)
    return {"cpu_s": round(ran.cpu_s, 1), "images": SIZES[-1], "pictures": EACH}


def measure() -> dict[str, Any]:
    """All of it, as the first lines of this file tell."""
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        return {
            "albums": album_times(here / "one"), "layout": layout(here / "many"),
            "stage": stage(here), "erasure": erasure(here),
        }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(measure()))
