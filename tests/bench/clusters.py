"""Clusters: what they find of planted edits, how long components take in either engine, and how long a person waits.

    python -m tests.bench.clusters --photos DIR [--without edits,group,components] [--vertices N] [--work DIR]

prints one JSON line. All seconds and milliseconds are CPU time of all processes that take part. DIR: photographs.

- edit_recall, edit_recall_by_kind, false_pair_share, false_pairs: of tests.bench.planted, by the table `duplicates`.
- group_levels: the same by udfs.vectors.similarity.group of the vectors of that lake, for each name of a threshold.
- group_ms: the median of GROUP_TRIES calls of group for 2,000 vectors of 512 numbers (250 pictures and seven edits of
  each) in a process with one thread; group_ms_by_album: also where no two are alike, and where all are one cluster.
- group_same_as_pipeline: whether the stage `clusters`, on these vectors under the same rule, finds the same keepers.
- components_s: of udfs.vectors.components for a random graph of N vertices and 0.6 N edges. components_spark_s: with
  the way from and to Spark; components_graphframes_s: by the other engine; components_same: whether they agree.
- chain_s, star_s, giant_s: both engines for a chain of N / 10 images, a star of as many leaves, and a graph of N
  vertices of which 90 % are one component; graphs_same: whether they agree on each.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable

from tests.bench import many, process_tree
from tests.bench.edits import EDITS
from tests.vectors import unit
from udfs.vectors.components import label_components
from udfs.vectors.cosine import Ids, Vectors
from udfs.vectors.similarity import MAX_ROWS, THRESHOLDS, group

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("edits", "group", "components")
PICTURES, EDITED, DIMENSION = 250, 8, 512
GROUP_TRIES = 15
COSINE = 0.75
ENGINES = ("scipy", "graphframes")


def album(name: str) -> Vectors:
    """2,000 vectors. edits: eight of each of 250 pictures, cosine about 0.86; alone: no two alike; one: all alike."""
    generator = np.random.default_rng(0)
    noise = generator.normal(size=(PICTURES * EDITED, DIMENSION))
    if name == "alone":
        return unit(noise)
    pictures = PICTURES if name == "edits" else 1
    middles = np.repeat(generator.normal(size=(pictures, DIMENSION)), len(noise) // pictures, axis=0)
    return unit((middles + 0.4 * noise)[generator.permutation(len(noise))])


def group_times() -> dict[str, float]:
    """Album -> median milliseconds of CPU of group in this process."""
    found = {}
    for name in ("edits", "alone", "one"):
        vectors = album(name)
        group(vectors, COSINE)
        times = []
        for _ in range(GROUP_TRIES):
            start = time.process_time()
            group(vectors, COSINE)
            times.append(time.process_time() - start)
        found[name] = round(statistics.median(times) * 1e3, 1)
    return found


def group_alone() -> dict[str, Any]:
    """group_times in a process of one thread."""
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    code = "import json; from tests.bench.clusters import group_times; print(json.dumps(group_times()))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **threads},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"group: {done.stderr.strip()[-500:]}")
    found: dict[str, float] = json.loads(done.stdout)
    return {"group_ms": found["edits"], "group_ms_by_album": found}


def same_as_pipeline(spark: "SparkSession", work: Path) -> bool:
    """Whether the stage and group keep the same images of the album of edits, and with the same cosines."""
    from jobs import clusters
    from tests.spark import small_lake

    vectors = album("edits")
    widths = np.random.default_rng(1).integers(600, 700, len(vectors)).tolist()
    pictures = [
        small_lake.Picture(row, tuple(vector), width=width)
        for row, (vector, width) in enumerate(zip(vectors.tolist(), widths, strict=True))
    ]
    plain = {"threshold": COSINE, "certain": COSINE, "margin": 0, "evidence": 0, "keeper_slack": 0}
    with small_lake.in_memory(spark, work, pictures, *(f"clusters.{k}={v}" for k, v in plain.items())) as context:
        context.lake.overwrite("neighbours", small_lake.nearest(spark, pictures))
        clusters.clusters(context)
        rows = context.lake.read("duplicates").select("image_id", "keeper_id", "cosine_to_keeper").collect()
    found = group(vectors, COSINE, widths, keeper_slack=0)
    size = np.bincount(found.keeper, minlength=len(vectors))[found.keeper]
    return {tuple(row) for row in rows} == {
        (row, int(found.keeper[row]), float(found.cosine[row])) for row in np.flatnonzero(size > 1).tolist()
    }


def group_levels(lake: Path) -> dict[str, Any]:
    """What group finds of the planted edits in a lake of tests.bench.planted, the larger of two images the better."""
    from tests.bench import planted

    images, features, embeddings = (
        DeltaTable(str(lake / name)).to_pyarrow_table(columns=columns)
        for name, columns in (
            ("images", ["image_id", "uri"]),
            ("features", ["image_id", "width", "height"]),
            ("embeddings", ["image_id", "vector"]),
        )
    )
    uris = dict(zip(images["image_id"].to_pylist(), images["uri"].to_pylist(), strict=True))
    pixels = {row["image_id"]: row["width"] * row["height"] for row in features.to_pylist()}
    embeddings = embeddings.sort_by("image_id").slice(0, MAX_ROWS - MAX_ROWS % (1 + len(EDITS)))
    ids = embeddings["image_id"].to_pylist()
    vectors = np.array(embeddings["vector"].to_pylist(), np.float32)
    places = [Path(uris[image]) for image in ids]
    photos = len({place.parent for place in places})
    found = {}
    for name in THRESHOLDS:
        clusters = group(vectors, name, [pixels[image] for image in ids]).cluster.tolist()
        members = [(place.parent.name, place.stem, cluster) for place, cluster in zip(places, clusters, strict=True)]
        found[name] = planted.score(members, photos)
    return found


def tree_cpu_s() -> float:
    """User and system time of this process and all below it, seconds."""
    ticks = 0
    for process in (os.getpid(), *process_tree.descendants(os.getpid())):
        try:
            stat = Path("/proc", str(process), "stat").read_bytes()
        except OSError:  # it has ended; its parent has its time now
            continue
        ticks += sum(int(field) for field in stat[stat.rindex(b")") + 2 :].split()[11:15])  # proc(5), 14 to 17
    return ticks / os.sysconf("SC_CLK_TCK")


def spread(vertices: Ids) -> Ids:
    """Ids that do not follow one another, each its own: odd multiplication modulo 2^62 is a bijection."""
    return np.asarray((vertices.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) % np.uint64(1 << 62), np.int64)


def graphs(vertices: int) -> dict[str, tuple[Ids, Ids]]:
    """Name -> ends of its edges."""
    generator = np.random.default_rng(0)
    tenth, most = vertices // 10, vertices * 9 // 10
    order = generator.permutation(tenth)
    sources, targets = (generator.integers(0, vertices, vertices * 6 // 10) for _ in range(2))
    nodes = np.arange(1, most)
    rest = np.arange(most, vertices - 1, 2)
    found = {
        "components": (sources[sources != targets], targets[sources != targets]),
        "chain": (order[:-1], order[1:]),
        "star": (np.full(tenth, tenth), np.arange(tenth)),
        # A random tree: each node hangs on one before it.
        "giant": (
            np.concatenate([nodes, rest]),
            np.concatenate([(generator.random(most - 1) * nodes).astype(np.int64), rest + 1]),
        ),
    }
    return {name: (spread(left), spread(right)) for name, (left, right) in found.items()}


def components(spark: "SparkSession", vertices: int, work: Path) -> dict[str, Any]:
    from jobs.duplicates.components import connected_components

    found: dict[str, Any] = {}
    same = {}
    label_components(np.arange(1), np.arange(1, 2))  # scipy is imported now, and not while it is measured
    for name, (sources, targets) in graphs(vertices).items():
        start = time.process_time()
        nodes, lowest = label_components(sources, targets)
        alone_s = time.process_time() - start
        pq.write_table(
            pa.table({"src": np.minimum(sources, targets), "dst": np.maximum(sources, targets)}),
            work / f"{name}.parquet",
        )
        edges = spark.read.parquet(str(work / f"{name}.parquet"))
        seconds, agree = {}, []
        for engine in ENGINES:
            start = tree_cpu_s()
            table = connected_components(edges, engine, 0, str(work / "checkpoints")).toArrow().sort_by("image_id")
            seconds[engine] = round(tree_cpu_s() - start, 2)
            agree.append(
                np.array_equal(table["image_id"].to_numpy(), nodes)
                and np.array_equal(table["component"].to_numpy(), lowest)
            )
        same[name] = all(agree)
        if name == "components":
            found |= {
                "components_s": round(alone_s, 3),
                "components_spark_s": seconds["scipy"],
                "components_graphframes_s": seconds["graphframes"],
            }
        else:
            found[f"{name}_s"] = seconds
    return {**found, "components_same": same.pop("components"), "graphs_same": same}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.clusters", description=__doc__)
    parser.add_argument("--photos", type=Path, help="folder of JPEG photographs, no two alike; for edits")
    parser.add_argument("--without", default="", help=f"parts left out, of {', '.join(PARTS)}")
    parser.add_argument("--vertices", type=int, default=1_000_000)
    parser.add_argument("--work", type=Path, help="where lakes and edges go; a temporary folder without it")
    given = parser.parse_args(argv)
    parts = [part for part in PARTS if part not in given.without.split(",")]
    if "edits" in parts and given.photos is None:
        parser.error("--photos is needed, or --without edits")
    found: dict[str, Any] = {"machine": process_tree.machine()}
    with tempfile.TemporaryDirectory(dir=given.work) as temporary:
        work = Path(temporary)
        if "edits" in parts:
            from tests.bench import planted

            many.photographs(given.photos)
            found |= planted.measure(given.photos, work / "planted")
            found["group_levels"] = group_levels(work / "planted" / "lake")
        if "group" in parts:
            found |= group_alone()
        if {"group", "components"} & set(parts):
            from jobs import config
            from jobs.engines.opening import open_engine

            # GraphFrames, which the components are compared with, needs Spark.
            with open_engine(config.load((), ["spark.engine=spark"])) as engine:
                if "group" in parts:
                    found["group_same_as_pipeline"] = same_as_pipeline(engine.spark, work / "lake")
                if "components" in parts:
                    found |= components(engine.spark, given.vertices, work)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
