"""How good the map is and what it takes: one JSON line of `python -m tests.bench.map --labelled DIR`.

DIR: a folder of images for each class. A run of it, then:

- agreement: the share of the AT nearest that have the image's label, in_vectors and on_map; trustworthiness (Venna &
  Kaski 2001) of the map for AT neighbours, 0..1.
- placed_on_map: the agreement of a fifth that was placed by the other four fifths, and of the same fifth laid out with
  them: laid_out_on_map.
- map_cpu_s of the command `map` alone and run_cpu_s of the whole run, start of the engine included in both; share: what
  laying out and placing take of the run, in the process that does it.
- place_cpu_ms: an image, by a sample of jobs.mapping.map.SAMPLE."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from deltalake import DeltaTable
from numpy.typing import NDArray
from sklearn.manifold import trustworthiness

from jobs.mapping.map import SAMPLE
from tests.bench import engine_runs, process_tree
from udfs.maps import reduction
from udfs.maps.layout import lay_out
from udfs.maps.placing import BLOCK, Anchors
from udfs.vectors.cell_packs import vectors_of

AT = 10
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


def measure(labelled: Path, work: Path) -> dict[str, Any]:
    lake = work / "lake"
    run = engine_runs.measured(labelled, lake, "--layout", "{label}/*")
    again = [sys.executable, "-W", "ignore", "-m", "imagesieve", "map", "--new-map", "--lake", str(lake)]
    alone = engine_runs.ended(again)

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

    many = Anchors(learnt, np.resize(learnt.of(vectors), (SAMPLE, learnt.axes.shape[1])), np.resize(whole, (SAMPLE, 2)))
    begun = time.process_time()
    for at in range(0, 8 * BLOCK, BLOCK):
        many.place(np.resize(vectors[at:], (BLOCK, vectors.shape[1])))
    return {
        "images": len(vectors),
        "agreement": {"in_vectors": agreement(vectors, labels), "on_map": agreement(points, labels)},
        "trustworthiness": round(float(trustworthiness(vectors, points, n_neighbors=AT, metric="cosine")), 4),
        "placed_on_map": agreement(placed, labels, rest),
        "laid_out_on_map": agreement(whole, labels, rest),
        "run_cpu_s": round(run.cpu_s, 1),
        "map_cpu_s": round(alone.cpu_s, 1),
        "lay_out_cpu_s": round(took, 2),
        "share": round(took / run.cpu_s, 4),
        "place_cpu_ms": round((time.process_time() - begun) / (8 * BLOCK) * 1000, 3),
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
