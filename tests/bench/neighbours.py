"""The neighbours stage on many vectors: what it finds, what it costs, how that grows, and faiss and MLlib beside it.

    python -m tests.bench.neighbours --photos DIR --others DIR [--small N] [--large N] [--set SECTION.KEY=VALUE]
                                     [--skip faiss,mllib,skew,copies] [--work DIR]

prints one JSON line. The vectors are those of tests.bench.many_vectors, made from the embeddings of the photographs and
of the other images; `structure` has the real vectors beside what is made of them. A lake of them is written as the
catalog and the embed stage leave one, and `imagesieve neighbours` runs on it as a user runs it.

- cpu_s: user and system time of all processes of that command, the start of the JVM included. cpu_ms_per_vector is that
  of the larger lake by its vectors, cpu_ms_slope the slope between the two; growth_50k_500k the one by the other.
- recall_at_10: share of the ten nearest, found by comparing QUERIES random vectors with all, that stand in their lists;
  with its 95 % confidence interval. pair_recall: of pairs of a query and any vector with at least that cosine, the
  share that stands in the list of either. pairs_in_exact_lists is what exact lists of the queries alone hold of them:
  1 at the duplicate threshold; at 0.8 many have more than ten such neighbours, which no list of ten can hold.
- skew_ratio: CPU time with a fifth of the vectors identical and a fifth nearly so, each an image with pixels of its
  own, by that without. A found neighbour counts as right where its cosine is at least that of the true tenth less 1e-4:
  in the crowd any of thousands is as good. `copies`: the same where the identical ones have the same pixels.
- faiss: IndexIVFFlat in a process of its own, installed from PyPI into an environment of its own, all vectors added and
  all searched. It has the number of lists of LISTS that costs it least, the fewest probes of a ladder with which its
  recall is at least ours, and one thread or as many as it likes, whichever takes it less CPU time: found on the
  queries (tried_on_queries), then measured on all vectors. cpu_ratio_to_faiss is our CPU time, JVM and all, by that
  of its training, adding and searching; neither its imports nor its reading of the vectors count.
- mllib: BucketedRandomProjectionLSH joined with itself for pairs over the threshold, of as many vectors as it can take
  within --mllib-seconds.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from deltalake import DeltaTable
from numpy.typing import NDArray

from tests.bench import many_vectors, peers, process_tree, vector_lake
from tests.bench.many import image_files
from tests.bench.many_vectors import Vectors
from udfs.networks import embedding, models, preparation
from udfs.stores.cache import user_cache

Ids = NDArray[np.int64]

ROOT = Path(__file__).resolve().parents[2]
QUERIES = 5000
K = 10
THRESHOLDS = (vector_lake.THRESHOLD, 0.8)
TIE = 1e-4
TIMEOUT_S = 3600.0
FAISS = peers.Peer("faiss-cpu==1.15.1", "MIT", {})
LISTS = (1024, 2048, 4096)
MLLIB_SIZES = (2000, 5000, 10_000, 20_000)
# It has one projection to a table, whose values for unit vectors of 256 numbers deviate by 1/16: a bucket of half of
# that, three times, finds most pairs over the threshold and still leaves out most others.
MLLIB_BUCKET, MLLIB_TABLES = 0.03, 3
PARTS = ("faiss", "mllib", "skew", "copies")


@dataclass(frozen=True)
class Truth:
    """Of some queries, row numbers in ascending order: their ten nearest and the cosines, both (q, K), nearest first,
    and for each threshold the pairs (p, 2) of a query and a vector at least that near."""

    queries: Ids
    nearest: Ids
    cosines: Vectors
    pairs: dict[float, Ids]


def real_vectors(paths: Sequence[Path], cache: Path | None) -> Vectors:
    """(n, 1280) embeddings of images before their projection. cache: a folder where they are kept, if any."""
    model = models.find(models.DEFAULT)
    told = "\n".join([model.fingerprint, *(f"{path} {path.stat().st_size}" for path in paths)])
    kept = cache / f"real-{hashlib.sha256(told.encode()).hexdigest()[:16]}.npy" if cache else None
    if kept and kept.exists():
        return np.asarray(np.load(kept), np.float32)
    from tests.bench.vectors import pooled

    prepared = preparation.prepare(model, user_cache())
    net = embedding.open_runtime(prepared.kind, model, prepared.files)
    found = pooled([path.read_bytes() for path in paths], net, model.input_side).astype(np.float32)
    if kept:
        np.save(kept, found)
    return found


def truth(vectors: Vectors, count: int = QUERIES, k: int = K, among: NDArray[np.bool_] | None = None) -> Truth:
    """By products of each of `count` random vectors with all. among: (n,) the vectors that pairs are looked for among,
    by default all."""
    queries = np.sort(np.random.default_rng(7).choice(len(vectors), min(count, len(vectors)), replace=False))
    nearest, best = np.empty((len(queries), k), np.int64), np.empty((len(queries), k), np.float32)
    pairs: dict[float, list[Ids]] = {threshold: [np.empty((0, 2), np.int64)] for threshold in THRESHOLDS}
    for at in range(0, len(queries), 100):
        rows = queries[at : at + 100]
        cosines = vectors[rows] @ vectors.T
        cosines[np.arange(len(rows)), rows] = -2
        found = np.argpartition(cosines, -k, axis=1)[:, -k:]
        near = np.take_along_axis(cosines, found, axis=1)
        order = np.argsort(-near, axis=1)
        nearest[at : at + 100] = np.take_along_axis(found, order, axis=1)
        best[at : at + 100] = np.take_along_axis(near, order, axis=1)
        if among is not None:
            cosines[:, ~among] = -2
            cosines[~among[rows]] = -2
        for threshold, of in pairs.items():
            left, right = np.nonzero(cosines >= threshold)
            of.append(np.column_stack([rows[left], right]))
    return Truth(queries, nearest, best, {threshold: np.concatenate(of) for threshold, of in pairs.items()})


def lists_of(lake: Path) -> tuple[Ids, Ids, NDArray[np.float64]]:
    """The table `neighbours` in order: image_id, neighbour_id, cosine."""
    table = DeltaTable(str(lake / "neighbours")).to_pyarrow_table(
        columns=["image_id", "rank", "neighbour_id", "cosine"]
    )
    images, ranks, others, cosines = (table[name].to_numpy() for name in table.column_names)
    order = np.lexsort((ranks, images))
    return images[order], others[order], cosines[order]


def interval(shares: NDArray[np.float64]) -> list[float]:
    """The 95 % confidence interval of their mean, by the normal approximation."""
    half = 1.96 * float(shares.std(ddof=1)) / len(shares) ** 0.5
    return [round(float(shares.mean()) - half, 4), round(float(shares.mean()) + half, 4)]


def hits(
    true: Truth, images: Ids, others: Ids, cosines: NDArray[np.float64], tie: float | None = None
) -> NDArray[np.float64]:
    """For each query the share of its nearest that its list holds. The other arguments: of lists_of.

    tie: where given, whatever is at most that much less near than the true k-th is one of the nearest."""
    begin = np.searchsorted(images, true.queries)
    end = np.searchsorted(images, true.queries, side="right")
    k = true.nearest.shape[1]
    shares = np.empty(len(true.queries))
    for at, (first, last) in enumerate(zip(begin, end, strict=True)):
        found = others[first:last][:k]
        if tie is None:
            right = np.isin(found, true.nearest[at]).sum()
        else:
            right = (cosines[first:last][:k] >= true.cosines[at, -1] - tie).sum()
        shares[at] = right / k
    return shares


def pair_shares(true: Truth, images: Ids, others: Ids, count: int) -> dict[str, float | None]:
    """For each threshold the share of the pairs that stand in the list of either; null where there are none.

    count: of all vectors."""
    known = np.sort(images * count + others)

    def listed(left: Ids, right: Ids) -> NDArray[np.bool_]:
        wanted = left * count + right
        at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
        return np.asarray(known[at] == wanted)

    found: dict[str, float | None] = {}
    for threshold, pairs in true.pairs.items():
        there = listed(pairs[:, 0], pairs[:, 1]) | listed(pairs[:, 1], pairs[:, 0])
        found[str(threshold)] = round(float(there.mean()), 5) if len(pairs) else None
    return found


def in_exact_lists(true: Truth) -> dict[str, float | None]:
    """For each threshold the share of the pairs that stands in exact lists of the queries: where it is 1 no pair is out
    of the reach of lists of that length; those of the others hold some of what is missing."""
    found: dict[str, float | None] = {}
    for threshold, pairs in true.pairs.items():
        of_query = np.bincount(np.searchsorted(true.queries, pairs[:, 0]), minlength=len(true.queries))
        held = np.minimum(of_query, true.nearest.shape[1]).sum()
        found[str(threshold)] = round(float(held / len(pairs)), 5) if len(pairs) else None
    return found


def stage(lake: Path, overrides: Sequence[str]) -> process_tree.Measured:
    """Runs the stage on a lake of vector_lake. Raises RuntimeError where it fails."""
    command = [sys.executable, "-m", "jobs.command", "neighbours", "--lake", str(lake)]
    command += ["--config", str(lake.with_suffix(".yaml"))]
    command += [word for override in overrides for word in ("--set", override)]
    measured = process_tree.run(command, cwd=ROOT, timeout_s=TIMEOUT_S)
    if measured.returncode or measured.killed:
        raise RuntimeError(f"the stage failed: {peers.last_line(measured.err)}")
    return measured


def counts_of(lake: Path) -> dict[str, Any]:
    """What the stage has said of itself in `runs`."""
    rows = DeltaTable(str(lake / "runs")).to_pyarrow_table(columns=["job", "counts"]).to_pylist()
    return next(dict(json.loads(row["counts"])) for row in rows if row["job"] == "neighbours")


def run_on(
    vectors: Vectors, lake: Path, overrides: Sequence[str], content: Ids | None = None
) -> tuple[dict[str, Any], tuple[Ids, Ids, NDArray[np.float64]]]:
    """The figures of the stage on these vectors, and the lists that it found. The lake is removed again."""
    vector_lake.write(lake, vectors, content)
    vector_lake.card(lake, vectors.shape[1])
    measured = stage(lake, overrides)
    figures = {
        "cpu_s": round(measured.cpu_s, 1),
        "wall_s": round(measured.wall_s, 1),
        "peak_mb": measured.peak_mb,
        "counts": counts_of(lake),
    }
    found = lists_of(lake)
    shutil.rmtree(lake)
    return figures, found


def against_faiss(vectors: Vectors, true: Truth, recall: float, work: Path) -> dict[str, Any]:
    """What IndexIVFFlat needs for that recall. Returns {"failed": why} where it was not measured."""
    file, answers = work / "vectors.npy", work / "truth.npz"
    np.save(file, vectors)
    np.savez(answers, queries=true.queries, nearest=true.nearest)
    program = ROOT / "tests" / "bench" / "faiss_ivf.py"

    def search(python: Path, threads: int, lists: str, *probes: str) -> dict[str, Any]:
        given = [str(file), str(answers), str(K), str(recall), str(threads), lists, *probes]
        command = [str(python), str(program), *given]
        return dict(json.loads(peers.checked(process_tree.run(command, cwd=work, timeout_s=TIMEOUT_S)).out))

    try:
        python = peers.install(FAISS, work / "faiss")
        single = search(python, 1, ",".join(map(str, LISTS)))
        tried = [one for one in single["searches"] if one["recall"] >= recall]
        if not tried:
            return {"failed": f"no number of probes reached a recall of {recall}", "tried": single["searches"]}
        lists = str(min(tried, key=lambda one: float(one["cpu_s"]))["lists"])
        tried += search(python, 0, lists)["searches"]
        best = min(tried, key=lambda one: float(one["cpu_s"]))
        whole = search(python, best["threads"], str(best["lists"]), str(best["probes"]))["searches"][0]
    except (peers.NotMeasuredError, OSError) as error:
        return {"failed": str(error)}
    finally:
        file.unlink()
    return {"version": single["version"], **whole, "tried_on_queries": tried}


def against_mllib(source: many_vectors.Source, seconds: float, work: Path) -> dict[str, Any]:
    """The join of more and more vectors until its time is over."""
    program, file, found = ROOT / "tests" / "bench" / "mllib_join.py", work / "some.npy", work / "pairs.npy"
    settings = {"threshold": THRESHOLDS[0], "bucket_length": MLLIB_BUCKET, "tables": MLLIB_TABLES}
    runs: list[dict[str, Any]] = []
    left = seconds
    for count in MLLIB_SIZES:
        vectors = many_vectors.make(source, count)
        np.save(file, vectors)
        given = [str(file), str(THRESHOLDS[0]), str(MLLIB_BUCKET), str(MLLIB_TABLES), str(found)]
        try:
            command = [sys.executable, str(program), *given]
            measured = peers.checked(process_tree.run(command, cwd=work, timeout_s=max(left, 1.0)))
        except subprocess.TimeoutExpired:
            runs.append({"vectors": count, "failed": f"not done in the {left:.0f} s that were left"})
            break
        except peers.NotMeasuredError as error:
            runs.append({"vectors": count, "failed": str(error)})
            break
        pairs = np.load(found)
        true = truth(vectors, count).pairs[THRESHOLDS[0]]
        share = pair_shares(
            Truth(np.arange(0), np.empty((0, K), np.int64), np.empty((0, K), np.float32), {THRESHOLDS[0]: true}),
            pairs[:, 0], pairs[:, 1], count,
        )  # fmt: skip
        runs.append(
            {
                "vectors": count,
                "cpu_s": round(measured.cpu_s, 1),
                "wall_s": round(measured.wall_s, 1),
                "cpu_ms_per_vector": round(measured.cpu_s / count * 1e3, 2),
                "pair_recall": share[str(THRESHOLDS[0])],
            }
        )
        left -= measured.wall_s
    return {"settings": settings, "runs": runs}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.neighbours", description=__doc__.partition("\n")[0])
    parser.add_argument("--photos", type=Path, required=True, help="folder of JPEG photographs, no two alike")
    parser.add_argument("--others", type=Path, help="folder of further JPEG images, no two alike")
    parser.add_argument("--small", type=int, default=50_000, metavar="N", help="vectors of the smaller lake")
    parser.add_argument("--large", type=int, default=500_000, metavar="N", help="vectors of the larger lake")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="SECTION.KEY=VALUE")
    parser.add_argument("--skip", default="", help=f"parts to leave out, of {','.join(PARTS)}")
    parser.add_argument("--mllib-seconds", type=float, default=180.0, metavar="S", help="wall time that MLlib is given")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="existing folder; the embeddings of the images are kept there")
    given = parser.parse_args(argv)
    skipped = {name for name in given.skip.split(",") if name}
    if unknown := sorted(skipped - set(PARTS)):
        parser.error(f"--skip: no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    if not 0 < given.small < given.large:
        parser.error("--small must be more than 0 and less than --large")
    machine = process_tree.machine()
    paths = image_files(given.photos) + (image_files(given.others) if given.others else [])
    source = many_vectors.fit(real_vectors(paths, given.work))
    results: dict[str, Any] = {
        "machine": machine,
        "vectors": [given.small, given.large],
        "dimension": source.real.shape[1],
        "seed": given.seed,
        "settings": given.overrides,
    }
    with tempfile.TemporaryDirectory(dir=given.work, prefix="neighbours-") as name:
        work = Path(name)
        vectors = many_vectors.make(source, given.small, given.seed)
        structure = {"real": many_vectors.structure(source.real), "small": many_vectors.structure(vectors)}
        small_run, small_lists = run_on(vectors, work / "small", given.overrides)
        small_true = truth(vectors)
        small_run["recall_at_10"] = round(float(hits(small_true, *small_lists).mean()), 4)
        small_run["pair_recall_by_threshold"] = pair_shares(small_true, *small_lists[:2], given.small)

        vectors = many_vectors.make(source, given.large, given.seed)
        structure |= {"large": many_vectors.structure(vectors)}
        # As many as the real ones: their distances depend on their number.
        structure["large_thinned"] = many_vectors.structure(vectors[: len(source.real)])
        large_run, lists = run_on(vectors, work / "large", given.overrides)
        true = truth(vectors)
        shares = hits(true, *lists)
        recall, pair_recall = float(shares.mean()), pair_shares(true, *lists[:2], given.large)
        results |= {
            "recall_at_10": round(recall, 4),
            "recall_interval": interval(shares),
            "pair_recall": pair_recall[str(THRESHOLDS[0])],
            "pair_recall_by_threshold": pair_recall,
            "pairs_in_exact_lists": in_exact_lists(true),
            "pairs": {str(threshold): len(pairs) for threshold, pairs in true.pairs.items()},
            "cpu_ms_per_vector": round(large_run["cpu_s"] / given.large * 1e3, 4),
            "cpu_ms_slope": round((large_run["cpu_s"] - small_run["cpu_s"]) / (given.large - given.small) * 1e3, 4),
            "growth_50k_500k": round(large_run["cpu_s"] / small_run["cpu_s"], 2),
            "small": small_run,
            "large": large_run,
            "structure": structure,
        }
        if "faiss" not in skipped:
            results["faiss"] = beside = against_faiss(vectors, true, recall, work)
            results["cpu_ratio_to_faiss"] = (
                None if "failed" in beside else round(large_run["cpu_s"] / beside["cpu_s"], 3)
            )
        crowded, kind = many_vectors.skewed(vectors, seed=given.seed)
        del vectors, lists, true
        if "skew" not in skipped:
            skew_run, lists = run_on(crowded, work / "skew", given.overrides)
            true = truth(crowded, among=kind == 0)
            shares = hits(true, *lists, tie=TIE)
            of = kind[true.queries]
            skew_run["recall_at_10"] = {
                name: round(float(shares[of == number].mean()), 4)
                for number, name in enumerate(("others", "identical", "nearly_identical"))
            }
            skew_run["pair_recall_of_others"] = pair_shares(true, *lists[:2], given.large)
            results["skew_ratio"] = round(skew_run["cpu_s"] / large_run["cpu_s"], 3)
            results["skew_wall_ratio"] = round(skew_run["wall_s"] / large_run["wall_s"], 3)
            results["skew"] = skew_run
            del lists, true
        if "copies" not in skipped:
            content = np.arange(len(crowded))
            content[kind == 1] = np.flatnonzero(kind == 1)[0]
            copies_run, _ = run_on(crowded, work / "copies", given.overrides, content)
            results["copies"] = copies_run
        del crowded
        if "mllib" not in skipped:
            results["mllib"] = against_mllib(source, given.mllib_seconds, work)
    print(json.dumps(results))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
