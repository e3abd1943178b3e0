"""How good the map is and what it takes: one JSON line.

    OPENBLAS_THREAD_TIMEOUT=4 python -m tests.bench.map --labelled DIR

DIR: a folder of images for each class. A run of it, then:

- agreement: the share of the AT nearest that have the image's label, in_vectors and on_map; trustworthiness (Venna &
  Kaski 2001) of the map for AT neighbours, 0..1.
- placed_on_map: the agreement of a fifth that was placed by the other four fifths, and of the same fifth laid out with
  them: laid_out_on_map.
- map_cpu_s of the command `map` alone and run_cpu_s of the whole run, start of the engine included in both; share: what
  laying out takes of the run (lay_out_cpu_s), with threads that do not spin, as in a run.
- cpu_ms: an image, the slope of `map --new-map` between SIZES images, which are those of DIR with noise."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from numpy.typing import NDArray
from sklearn.manifold import trustworthiness

from jobs import __version__
from jobs.lakes import LAKE_FORMAT, MARKER
from tests.bench import engine_runs, process_tree
from udfs.maps import reduction
from udfs.maps.layout import lay_out
from udfs.maps.placing import Anchors
from udfs.networks import models
from udfs.vectors.cell_packs import vectors_of

AT = 10
SIZES = (20_000, 50_000)  # more than are laid out
TOGETHER = 5000
Single = NDArray[np.float32]


def agreement(points: Single, labels: NDArray[np.int64], rows: NDArray[np.int64] | None = None) -> float:
    """Among all rows, or of some of them."""
    asked = np.arange(len(points)) if rows is None else rows
    near = np.empty((len(asked), AT), np.int64)
    for at in range(0, len(asked), 500):
        some = asked[at : at + 500]
        apart = (points**2).sum(axis=1) - 2 * points[some] @ points.T
        apart[np.arange(len(some)), some] = np.inf
        near[at : at + 500] = np.argpartition(apart, AT, axis=1)[:, :AT]
    return round(float((labels[near] == labels[asked][:, np.newaxis]).mean()), 4)


def new_map(lake: Path) -> float:
    """CPU seconds of the command."""
    command = [sys.executable, "-W", "ignore", "-m", "imagesieve", "map", "--new-map", "--lake", str(lake)]
    return engine_runs.ended(command).cpu_s


def made(lake: Path, vectors: Single, count: int) -> Path:
    """A lake of vectors alone."""
    lake.mkdir()
    (lake / MARKER).write_text(json.dumps({"format": LAKE_FORMAT, "version": __version__}), encoding="utf-8")
    draw = np.random.default_rng(0)
    kind = pa.list_(pa.field("element", pa.float32(), nullable=False))
    for first in range(0, count, TOGETHER):
        ids = np.arange(first, min(first + TOGETHER, count))
        rows = vectors[ids % len(vectors)] + draw.normal(scale=0.005, size=(len(ids), vectors.shape[1]))
        rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        ends = pa.array(np.arange(len(ids) + 1) * rows.shape[1], pa.int32())
        lists = pa.ListArray.from_arrays(ends, pa.array(rows.ravel()), type=kind)
        one = pa.array(np.ones(len(ids), np.float32))
        embeddings = {"image_id": ids, "model": [models.DEFAULT] * len(ids), "vector": lists, "norm": one}
        embeddings["transform"] = pa.nulls(len(ids), pa.string())
        keys = draw.integers(0, 1 << 60, len(ids))
        copies = {"image_id": ids, "representative_id": ids, "content_key": keys}
        for name, columns in (("embeddings", embeddings), ("copies", copies)):
            write_deltalake(str(lake / name), pa.table(columns), mode="append")
    return lake


def measure(labelled: Path, work: Path) -> dict[str, Any]:
    lake = work / "lake"
    run = engine_runs.measured(labelled, lake, "--layout", "{label}/*")
    alone = new_map(lake)

    def table(name: str, *columns: str) -> Any:
        return DeltaTable(str(lake / name)).to_pyarrow_table(columns=["image_id", *columns]).sort_by("image_id")

    vectors = vectors_of(table("embeddings", "vector")["vector"])
    named = table("images", "label").join(table("embeddings").select(["image_id"]), "image_id", join_type="inner")
    labels = np.unique(named.sort_by("image_id")["label"].to_numpy(zero_copy_only=False), return_inverse=True)[1]
    places = table("map", "x", "y")
    points = np.stack([places["x"].to_numpy(), places["y"].to_numpy()], axis=1)

    begun = time.process_time()
    learnt = reduction.learn(vectors)
    whole = lay_out(learnt.of(vectors))
    took = time.process_time() - begun
    mixed = np.random.default_rng(0).permutation(len(vectors))
    first, rest = np.split(mixed, [4 * len(mixed) // 5])
    part = reduction.learn(vectors[first])
    rows = part.of(vectors[first])
    placed = np.empty_like(whole)
    placed[first] = lay_out(rows)
    placed[rest] = Anchors(part, rows, placed[first]).place(vectors[rest])

    small, large = (new_map(made(work / str(size), vectors, size)) for size in SIZES)
    return {
        "images": len(vectors),
        "agreement": {"in_vectors": agreement(vectors, labels), "on_map": agreement(points, labels)},
        "trustworthiness": round(float(trustworthiness(vectors, points, n_neighbors=AT, metric="cosine")), 4),
        "placed_on_map": agreement(placed, labels, rest),
        "laid_out_on_map": agreement(whole, labels, rest),
        "run_cpu_s": round(run.cpu_s, 1),
        "map_cpu_s": round(alone, 1),
        "lay_out_cpu_s": round(took, 2),
        "share": round(took / run.cpu_s, 4),
        "cpu_ms": round((large - small) / (SIZES[1] - SIZES[0]) * 1000, 3),
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.map")
    parser.add_argument("--labelled", type=Path, required=True, help="a folder of images for each class")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(options.labelled, Path(folder))
    print(json.dumps({"machine": process_tree.machine(), **found}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
