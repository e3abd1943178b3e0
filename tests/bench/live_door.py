"""What the door of a lake takes, and which copies it finds: one JSON line.

    python -m tests.bench.live_door --photos DIR [--others DIR] [--vectors 1000000] [--work DIR] [--edits-of 300]

DIR: JPEG photographs, no two alike. The lake is that of the photographs and of --others, by the whole pipeline, with
made rows up to --vectors: vectors of tests.bench.many_vectors, each with the thumbnail, the look and the properties of
one of the pictures. It is asked over HTTP, as a process of its own.

- door_cpu_ms: CPU of the server and all its children for each picture, the mean of ASKED photographs enlarged to 12
  megapixels with grain (jpeg_mb each, in the mean), one after another, warm; door_ms: until the answer, the median.
- found: of the copies at each edit of tests.bench.edits and jobs.demo.edits the share whose photograph is told as a
  copy; alike: as a look-alike. others: of all near copies told, the share that is neither the photograph nor one that
  the photograph itself is told for.
- ready_s, ready_cpu_s: until a server that has nothing of the lake yet answers; evidence_bytes, index_bytes: what it
  then keeps of each picture."""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from PIL import Image

from jobs.demo.edits import EDITS as DEMO_EDITS
from tests.bench import engine_runs, many_vectors
from tests.bench.edits import EDITS, copies
from tests.bench.many import photographs
from tests.bench.serve import Server
from udfs.vectors.cell_packs import vectors_of

VECTORS, PART = 1_000_000, 50_000
ASKED, WARM = 24, 4
LARGE = (4000, 3000)
GRAIN = 5.0  # grey levels: about 4 MB at QUALITY
QUALITY = 90
CLIENTS = 2
READY_S = 7200.0
BINARY = {"content-type": "application/octet-stream"}


def make(lake: Path, folders: list[Path], vectors: int) -> None:
    """The lake of the pictures of some folders, and rows up to so many."""
    run = engine_runs.program("run", *map(str, folders), "--lake", str(lake), python=sys.executable)
    engine_runs.ended(run)
    tables = {name: DeltaTable(str(lake / name)).to_pyarrow_table() for name in
              ("images", "features", "embeddings", "neighbours", "copies", "scores")}  # fmt: skip
    rows = tables["embeddings"].sort_by("image_id")
    real = vectors_of(rows["vector"])
    # fit() turns the vectors by what it finds; those that are made are turned back.
    turned = np.linalg.eigh(real.astype(np.float64).T @ real.astype(np.float64))[1][:, ::-1]
    source = many_vectors.fit(real, real.shape[1])
    back = np.ascontiguousarray(turned.T, np.float32)
    of = {name: table.sort_by("image_id") for name, table in tables.items() if name in ("features", "scores", "copies")}
    tenth = tables["neighbours"].filter(pa.compute.equal(tables["neighbours"]["rank"], 10))["cosine"].to_numpy()
    first = int(max(pa.compute.max(tables["images"]["image_id"]).as_py(), 0)) + 1
    draw = np.random.default_rng(0)
    for number, start in enumerate(range(first, vectors, PART)):
        ids = np.arange(start, min(start + PART, vectors))
        made = many_vectors.make(source, len(ids), seed=number) @ back
        _append(lake, "embeddings", ids, rows, draw, {"vector": list(made.astype(np.float16).astype(np.float32))})
        hashes = [draw.bytes(48).hex() for _ in ids]
        _append(
            lake, "features", ids, of["features"], draw,
            {"pixel_hash": [one[:32] for one in hashes], "sha256": [one[32:] for one in hashes],
             "perceptual_hash": draw.integers(-(2**63), 2**63 - 1, len(ids))},
        )  # fmt: skip
        _append(lake, "scores", ids, of["scores"], draw, {})
        keys = draw.integers(0, 2**60, len(ids))
        _append(lake, "copies", ids, of["copies"], draw, {"representative_id": ids, "content_key": keys})
        uris = [f"/made/{image_id:09d}.jpg" for image_id in ids.tolist()]
        _append(lake, "images", ids, tables["images"], draw, {"uri": uris})
        for rank in (9, 10):
            near = {"rank": np.full(len(ids), rank), "neighbour_id": np.zeros(len(ids), np.int64),
                    "cosine": draw.choice(tenth, len(ids))}  # fmt: skip
            _append(lake, "neighbours", ids, tables["neighbours"], draw, near)


def _append(
    lake: Path, table: str, ids: Any, like: pa.Table, draw: np.random.Generator, columns: dict[str, Any]
) -> None:
    """Rows of a table: those of pictures drawn, with other ids and columns."""
    kept = like.drop_columns(["image_id", *columns])
    taken = kept.take(pa.array(draw.integers(0, like.num_rows, len(ids))))
    given = {"image_id": ids, **columns}
    arrays = [
        pa.array(given[field.name], field.type) if field.name in given else taken[field.name].combine_chunks()
        for field in like.schema
    ]
    write_deltalake(str(lake / table), pa.table(arrays, schema=like.schema), mode="append")


def enlarged(photo: Path, seed: int) -> bytes:
    pixels = np.asarray(Image.open(photo).convert("RGB").resize(LARGE, Image.Resampling.LANCZOS), np.float32)
    grain = np.random.default_rng(seed).normal(0, GRAIN, pixels.shape[:2]).astype(np.float32)[..., np.newaxis]
    out = io.BytesIO()
    Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8)).save(out, "JPEG", quality=QUALITY)
    return out.getvalue()


def edited(photo: Path, number: int) -> dict[str, bytes]:
    """Each edit of both benches, as a JPEG."""
    found = dict(zip(EDITS, copies(photo)[1:], strict=True))
    pixels = np.asarray(Image.open(photo).convert("RGB"), np.uint8)
    for name, edit in DEMO_EDITS.items():
        out = io.BytesIO()
        Image.fromarray(edit(pixels, np.random.default_rng([number, 1]))).save(out, "JPEG", quality=92)
        found[f"demo_{name}"] = out.getvalue()
    return found


class Asked:
    """A server with its door open. cpu_s, ready_s: until it was."""

    def __init__(self, lake: Path, cache: Path) -> None:
        begun = time.monotonic()
        self.server = Server(lake, cache, "--door")
        while not (state := self.server.get("/api/check").json())["ready"]:
            if time.monotonic() - begun > READY_S:
                raise TimeoutError(state["fault"])
            time.sleep(0.5)
        self.ready_s, self.ready_cpu_s = time.monotonic() - begun, self.cpu_s()

    def check(self, data: bytes) -> dict[str, Any]:
        answer = self.server.client.post("/api/check", content=data, headers=BINARY)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def cpu_s(self) -> float:
        """Of the server and its descendants, those that have ended too."""
        process = psutil.Process(self.server._process.pid)
        total = 0.0
        for one in (process, *process.children(recursive=True)):
            times = one.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
        return total


def taken(asked: Asked, photos: list[Path]) -> dict[str, float]:
    pictures = [enlarged(photos[n % len(photos)], n) for n in range(ASKED)]
    for data in pictures[:WARM]:
        asked.check(data)
    begun, times = asked.cpu_s(), []
    for data in pictures:
        at = time.perf_counter()
        asked.check(data)
        times.append(time.perf_counter() - at)
    return {
        "door_cpu_ms": round(1000 * (asked.cpu_s() - begun) / len(pictures), 1),
        "door_ms": round(1000 * float(np.median(times)), 1),
        "jpeg_mb": round(float(np.mean([len(data) for data in pictures])) / 1e6, 2),
    }


def told_of(asked: Asked, photos: list[Path]) -> dict[str, Any]:
    names = [*EDITS, *(f"demo_{name}" for name in DEMO_EDITS)]
    found, alike = dict.fromkeys(names, 0), dict.fromkeys(names, 0)
    missed: dict[str, list[str]] = {name: [] for name in names}
    near, others = 0, 0

    def one(number: int) -> None:
        nonlocal near, others
        photo = photos[number]
        own = {str(photo)} | {each["uri"] for each in asked.check(photo.read_bytes())["near"]}
        for name, data in edited(photo, number).items():
            answer = asked.check(data)
            told = [each["uri"] for each in (*answer["near"], *answer["exact"]["images"])]
            found[name] += str(photo) in told
            alike[name] += str(photo) in [each["uri"] for each in answer["look_alikes"]]
            near += len(told)
            others += len(set(told) - own)
            if str(photo) not in told:
                missed[name].append(photo.name)

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(one, range(len(photos))))
    count = len(photos)
    return {
        "found": {name: round(found[name] / count, 4) for name in names},
        "alike": {name: round(alike[name] / count, 4) for name in names if alike[name]},
        "others": round(others / max(1, near), 4),
        "missed": {name: sorted(which) for name, which in missed.items() if which},
    }


def measure(
    photos: Path,
    others: Path | None = None,
    vectors: int = VECTORS,
    work: Path | None = None,
    edits_of: int | None = None,
) -> dict[str, Any]:
    """What the module's docstring says. photos, others: folders. work: where the lake is made, kept if it is named; one
    that is there already is taken as it is. edits_of: photographs whose edits are asked for, by default all."""
    with tempfile.TemporaryDirectory(prefix="live-door-") as temporary:
        folder = work or Path(temporary)
        lake, cache = folder / "lake", folder / "cache"
        if not lake.exists():
            make(lake, [photos.resolve(), *([others.resolve()] if others else [])], vectors)
        asked = Asked(lake, cache)
        try:
            files = photographs(photos.resolve())
            told = {"vectors": vectors, "ready_s": round(asked.ready_s, 1), "ready_cpu_s": round(asked.ready_cpu_s, 1)}
            for name, pattern in (("evidence_bytes", "door-*"), ("index_bytes", "index-*")):
                size = sum(file.stat().st_size for found in cache.rglob(pattern) for file in found.iterdir())
                told[name] = round(size / vectors)
            return {**told, **taken(asked, files), **told_of(asked, files[:edits_of])}
        finally:
            asked.server.close()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.live_door")
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--others", type=Path)
    parser.add_argument("--vectors", type=int, default=VECTORS)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--edits-of", type=int)
    given = parser.parse_args(argv)
    sys.stdout.write(json.dumps(measure(given.photos, given.others, given.vectors, given.work, given.edits_of)) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
