"""What the embed stage costs an image, at the default settings.

    python -m tests.bench.embed --photos DIR [--others DIR] [--small 2000] [--large 8000] [--versitygw PROGRAM]

prints one JSON line. DIR: photographs; they are repeated under other names, each with a few bytes appended.

- cpu_ms_per_image: user and system time of `imagesieve embed` with all its processes, as a slope between the two
  sizes. images_per_cpu_s is one by it. start_cpu_s: what is left at no image, most of it the JVM.
- worker_peak_mb: of one worker and its child, largest resident set of each; _small shows whether it grows.
- worker_ready_s: from the start of a worker's process to its first results.
- bytes_per_image: of the live files of `embeddings` and `features`, from images no two of which are alike: those of
  both folders (the repeated ones would be compressed too well).
- worker_cpu_ms: of a worker alone, as slopes, for images in files, in a tar and in Parquet, from the disk and from S3,
  and without the network (fetch, decode, hashes, properties). s3_rate is the worker's rate on single objects in S3 by
  that on files. The S3 server is versitygw where it is found, else moto; it has the other cores, and its own time is
  not counted.
- steps_ms, sum_ms, network_on: of tests.bench.embed_steps.
- cosine_min and same_nearest: of the vectors of --photos by this machine's default runtime and by torch in float32.
"""

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable

from tests import s3_server
from tests.bench import embed_steps, many, process_tree
from udfs.networks import models, preparation
from udfs.stores.cache import user_cache

ROOT = Path(__file__).resolve().parents[2]
BUCKET = "lake"
FEW, MORE = 300, 1500  # images of a worker alone
TRIES = 3
Reference = dict[str, object]


def command(*argv: str | Path) -> list[str]:
    return [sys.executable, "-m", "jobs.command", *map(str, argv)]


def embedded(folders: list[Path], lake: Path) -> process_tree.Measured:
    """Catalogues folders, then measures `imagesieve embed` of them."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    listed = subprocess.run(
        command("catalog", *folders, "--lake", lake), env=env, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        raise RuntimeError(f"catalog: {listed.stderr.strip()[-500:]}")
    measured = process_tree.run(command("embed", "--lake", lake), env=env, cwd=ROOT)
    if measured.returncode:
        raise RuntimeError(f"embed: {measured.err.strip()[-500:]}")
    return measured


def live_bytes(lake: Path, table: str) -> int:
    """Of the files that the newest version of a table consists of."""
    actions = DeltaTable(str(lake / table)).get_add_actions(flatten=True)
    return sum(pa.table(actions).column("size_bytes").to_pylist())


def rows_of(lake: Path, table: str) -> int:
    return int(DeltaTable(str(lake / table)).to_pyarrow_dataset().count_rows())


def network() -> list[str]:
    """What tells a worker to use the default model."""
    prepared = preparation.prepare(models.find(models.DEFAULT), user_cache())
    return ["--model", *map(str, prepared.files)]


def worker_run(references: list[Reference], work: Path, env: dict[str, str], *more: str) -> dict[str, Any]:
    listing = work / "references.jsonl"
    listing.write_text("".join(json.dumps(one) + "\n" for one in references), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.worker", "--references", str(listing), *more],
        env={**os.environ, **env, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"worker: {done.stderr.strip()[-500:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    if found["images"] != len(references) or found["failed"]:
        raise RuntimeError(f"worker: {found} of {len(references)} references")
    return found


def worker_slope(references: list[Reference], work: Path, env: dict[str, str], *more: str) -> float:
    """CPU milliseconds an image of a worker alone: of the lowest of TRIES runs at each size, as others disturb."""
    few, all_ = (
        min(worker_run(references[:count], work, env, *more)["cpu_s"] for _ in range(TRIES))
        for count in (FEW, len(references))
    )
    return float((all_ - few) / (len(references) - FEW) * 1e3)


def reference(uri: str, shard: Path | None, offset: int | None, size: int | None) -> Reference:
    return {"uri": uri, "shard": shard and str(shard), "shard_offset": offset, "size_bytes": size}


def files(paths: list[Path]) -> list[Reference]:
    return [reference(str(path), None, None, path.stat().st_size) for path in paths]


def in_tar(paths: list[Path], shard: Path) -> list[Reference]:
    with tarfile.open(shard, "w") as archive:
        for path in paths:
            archive.add(path, path.name)
    with tarfile.open(shard) as archive:
        return [reference(f"{shard}!/{one.name}", shard, one.offset_data, one.size) for one in archive]


def in_parquet(paths: list[Path], shard: Path) -> list[Reference]:
    table = pa.table({"image": pa.array([path.read_bytes() for path in paths], pa.binary())})
    pq.write_table(table, shard, row_group_size=256, compression="none")
    return [reference(f"{shard}!/{row}", shard, row, None) for row in range(len(paths))]


def moved(references: list[Reference], folder: Path) -> list[Reference]:
    """The same references where the folder lies in the bucket."""

    def place(uri: object) -> object:
        return None if uri is None else str(uri).replace(f"{folder}/", f"s3://{BUCKET}/", 1)

    return [{**one, "uri": place(one["uri"]), "shard": place(one["shard"])} for one in references]


@contextmanager
def versitygw(program: str, folder: Path) -> Iterator[dict[str, str]]:
    """versitygw over a folder whose sub-folders are the buckets. Gives the environment of its clients."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    serve = [program, "--port", f"127.0.0.1:{port}", "--access", "test", "--secret", "test", "--quiet"]
    process = subprocess.Popen([*serve, "posix", str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        others = sorted(os.sched_getaffinity(0))[1:]
        if others:  # the first one is the worker's
            os.sched_setaffinity(process.pid, others)
        ends = time.monotonic() + 30
        while time.monotonic() < ends and process.poll() is None:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2).close()
                break
            except urllib.error.HTTPError:  # it answers, if only to refuse
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        yield s3_server.environment(f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait()


@contextmanager
def s3(program: str | None, folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """A server with the files of folder / BUCKET in its bucket: (its name, environment of its clients)."""
    if program:
        with versitygw(program, folder) as env:
            yield "versitygw", env
        return
    with s3_server.serve(BUCKET) as server:
        client = server.client()
        for path in sorted((folder / BUCKET).rglob("*")):
            if path.is_file():
                client.upload_file(str(path), BUCKET, str(path.relative_to(folder / BUCKET)))
        yield "moto", server.env


def workers(paths: list[Path], program: str | None, work: Path) -> dict[str, Any]:
    """CPU milliseconds an image of a worker alone, for each way in which images may lie."""
    folder = work / "buckets" / BUCKET
    folder.mkdir(parents=True)
    singles = [folder / path.name for path in paths]
    for path, single in zip(paths, singles, strict=True):
        shutil.copy(path, single)
    kinds = {
        "files": files(singles),
        "tar": in_tar(singles, folder / "all.tar"),
        "parquet": in_parquet(singles, folder / "all.parquet"),
    }
    model = network()
    worker_run(kinds["files"], work, {}, *model)  # the files come into memory
    found = {kind: worker_slope(references, work, {}, *model) for kind, references in kinds.items()}
    found["files_without_model"] = worker_slope(kinds["files"], work, {})
    small, large = (worker_run(kinds["files"][:count], work, {}, *model) for count in (FEW, MORE))
    with s3(program, work / "buckets") as (name, env):
        for kind, references in kinds.items():
            found[f"s3_{kind}"] = worker_slope(moved(references, folder), work, env, *model)
    return {
        "worker_cpu_ms": {kind: round(value, 2) for kind, value in found.items()},
        "cpu_ms_without_model": round(found["files_without_model"], 2),
        "s3_server": name,
        "s3_rate": round(found["files"] / found["s3_files"], 3),
        "worker_ready_s": round(large["ready_s"], 2),
        "worker_peak_mb": round(large["peak_mb"]),
        "worker_peak_mb_small": round(small["peak_mb"]),
    }


def against_torch(photos: list[Path]) -> dict[str, Any]:
    """The default runtime and torch in float32 on the same decoded photographs."""
    from udfs.images import decode
    from udfs.networks import embedding
    from udfs.transforms.square import FINER

    model = models.find(models.DEFAULT)
    fast = preparation.prepare(model, user_cache())
    exact = preparation.prepare(model, user_cache(), "torch-fp32")
    decoded = (decode.decode(path.read_bytes(), round(FINER * model.input_side), 10**9) for path in photos)
    squares = [embedding.fit(one.pixels, model.input_side) for one in decoded]
    pixels = np.stack(squares)
    mine, reference = (embedding.open_runtime(one.kind, model, one.files).embed(pixels) for one in (fast, exact))
    cosines = (mine * reference).sum(axis=1)
    nearest = []
    for vectors in (mine, reference):
        all_pairs = vectors @ vectors.T
        np.fill_diagonal(all_pairs, -2)
        nearest.append(all_pairs.argmax(axis=1))
    return {
        "cosine_min": round(float(cosines.min()), 4),
        "same_nearest": round(float((nearest[0] == nearest[1]).mean()), 4),
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.embed", description=__doc__)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--others", type=Path, help="further images, for bytes_per_image")
    parser.add_argument("--small", type=int, default=2000)
    parser.add_argument("--large", type=int, default=8000)
    parser.add_argument("--versitygw", default=shutil.which("versitygw"), help="the S3 server; moto without it")
    parser.add_argument("--work", type=Path, help="where the images and lakes go; a temporary folder without it")
    given = parser.parse_args(argv)
    photos = many.photographs(given.photos)
    found: dict[str, Any] = {"machine": process_tree.machine(), "images": [given.small, given.large]}
    network()  # converted now, and not while it is measured
    found |= embed_steps.steps(photos, models.DEFAULT)
    with tempfile.TemporaryDirectory(dir=given.work) as temporary:
        work = Path(temporary)
        measured = []
        for count in (given.small, given.large):
            images = work / f"images-{count}"
            paths = many.make(given.photos, images, count)
            measured.append(embedded([images], work / f"lake-{count}"))
            if rows_of(work / f"lake-{count}", "embeddings") != count:
                raise RuntimeError(f"not all of {count} images were embedded")
        small, large = measured
        slope = (large.cpu_s - small.cpu_s) / (given.large - given.small)
        found |= {
            "cpu_ms_per_image": round(slope * 1e3, 2),
            "images_per_cpu_s": round(1 / slope, 1),
            "cpu_s": [round(small.cpu_s, 1), round(large.cpu_s, 1)],
            "start_cpu_s": round(small.cpu_s - slope * given.small, 1),
            "images_per_s": round((given.large - given.small) / (large.wall_s - small.wall_s), 1),
            "stage_peak_mb": {"small": small.peak_mb, "large": large.peak_mb},
        }
        found |= workers(paths[:MORE], given.versitygw, work)
        lake = work / "lake-unlike"
        embedded([one for one in (given.photos, given.others) if one], lake)
        rows = rows_of(lake, "embeddings")
        found["bytes_per_image"] = {
            "images": rows,
            **{table: round(live_bytes(lake, table) / rows) for table in ("embeddings", "features")},
        }
        found |= against_torch(photos)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
