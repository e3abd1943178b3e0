"""Wrong labels planted among right ones: how well they are found, beside cleanlab's Datalab, and what that costs.

    python -m tests.bench.labels --labelled DIR [--small N] [--large N] [--skip datalab,cpu] [--work DIR]

prints one JSON line. DIR holds a folder of JPEG images for each label. They are catalogued, embedded and clustered as a
user does it, once. Then a share of the labels is made wrong in the table `images`, and the stage `labels` judges all.

- symmetric: another label, each as likely. similar: the label of the class that looks most alike: the one whose mean
  vector has the highest cosine with its own, after the mean of all classes is taken away.
- label_ap: average precision of the images by their score, against which of them were made wrong; of SEEDS the mean.
  Labels of the data set that were wrong before count as right. datalab_ap: the same of label_score of
  Datalab(data, label_name).find_issues(features=vectors), cleanlab's defaults, on the vectors of the lake. cleanlab is
  under the AGPL: installed by uv into an environment of its own and measured, never shipped.
- suggestion_accuracy: of the images that were made wrong and are flagged, the share whose suggested label is the one
  they had. flag_precision, flag_recall, flag_f1: of the flag against what was made wrong. f1_ratio: by the highest F1
  that any threshold of the score gives. estimate: of how many labels are wrong. inside: share of the seeds whose
  interval holds how many are. thorough_recall, precise_precision: with labels.flag=thorough, labels.precision=0.9.
- calibration: over all cases in ten bins of probability_wrong, the share that was made wrong less the probability;
  calibration_by_noise: the largest of these of each noise, bins of LEAST_BIN images or more.
- clean: the labels as they are: flagged share, estimate and interval.
- sets: of the vectors without the engine (tests/bench/label_noise.py): few images, unequal classes, many classes.
- bars: what must hold, each with whether it does.
- cpu_ms_per_image: CPU time of `imagesieve labels` with all its processes, as a slope between lakes of two sizes, whose
  vectors are made from those of DIR: a mixture of two of one label and as much noise. cpu_ms_by_stage: of the stage
  `issues` too.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from deltalake import DeltaTable
from numpy.typing import NDArray

from tests.bench import label_noise, peers, process_tree, vector_lake
from tests.bench.label_noise import KINDS, Labels, average_precision, most_alike, spoilt
from tests.bench.many_vectors import Vectors, unit

ROOT = Path(__file__).resolve().parents[2]
SHARES = (0.05, 0.10, 0.20, 0.40)
SEEDS = (11, 12)
PARTS = ("datalab", "cpu", "sets")
MEASURED = ("labels", "issues")  # stages
COLUMNS = ("score", "probability_wrong", "suggested_label", "flagged")
LEAST_BIN = 40  # images
TIMEOUT_S = 3600.0
CLEANLAB = peers.Peer("cleanlab[datalab]==2.9.0", "AGPL-3.0", {})
# Gets an .npz of vectors (n, d) and given labels (m, n), and writes the scores (m, n).
DATALAB = """
import sys
import numpy as np
from cleanlab import Datalab
given = np.load(sys.argv[1])
scores = []
for labels in given["labels"]:
    lab = Datalab(data={"label": labels.tolist()}, label_name="label", verbosity=0)
    lab.find_issues(features=given["vectors"])
    scores.append(lab.get_issues("label")["label_score"].to_numpy())
np.save(sys.argv[2], np.array(scores))
"""


class StageLake:
    """A lake whose labels can be changed, and the stage on it, in a session of its own. For `with`."""

    def __init__(self, path: Path, *configs: str) -> None:
        """configs: files of settings."""
        self._path, self._configs, self._stack = path, configs, ExitStack()

    def __enter__(self) -> "StageLake":
        from jobs import config, lakes, lease
        from jobs.engines.opening import open_engine
        from jobs.progress import Reporter
        from jobs.stage import Context

        settings = config.load(self._configs)
        spark = self._stack.enter_context(open_engine(settings)).spark
        held = self._stack.enter_context(lease.acquire(str(self._path), "bench"))
        self._context = Context(lakes.Lake(spark, str(self._path), "bench", held), settings, Reporter())
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def judged(self, image_ids: Labels, labels: list[str]) -> "StageResult":
        """What the stage says where these are the labels of the images."""
        from jobs import labels as job
        from jobs.engines.frames import frame_of
        from udfs.labels import share as label_share

        lake = self._context.lake
        rows = list(zip(image_ids.tolist(), labels, strict=True))
        given = frame_of(lake.spark, rows, "image_id LONG, label STRING")
        relabelled = lake.read("images").drop("label").join(given, "image_id").localCheckpoint()
        lake.overwrite("images", relabelled)
        counts = job.STAGE.run(self._context).counts
        found = lake.read("labels").orderBy("image_id").toPandas()
        if found["image_id"].tolist() != sorted(image_ids.tolist()):
            raise ValueError("not all images were judged")
        order = np.argsort(np.argsort(image_ids))
        columns = {name: found[name].to_numpy()[order] for name in COLUMNS}
        wrong = columns["probability_wrong"].astype(float)
        bins = np.minimum((wrong * label_share.BINS).astype(int), label_share.BINS - 1)
        images = np.bincount(bins, minlength=label_share.BINS).astype(np.int64)
        sums = np.bincount(bins, wrong, minlength=label_share.BINS).astype(np.float64)
        known = label_share.Estimate(**counts["wrong"])
        flags = {str(wish): bins >= label_share.threshold(images, sums, wish, known) for wish in ("thorough", 0.9)}
        return StageResult(columns, known, flags)


@dataclass(frozen=True)
class StageResult:
    """columns: COLUMNS of the table `labels`. known: how many labels are wrong. flags: by other wishes."""

    columns: dict[str, NDArray[Any]]
    known: Any
    flags: dict[str, NDArray[np.bool_]]


def command(*arguments: str) -> process_tree.Measured:
    whole = [sys.executable, "-m", "jobs.command", *arguments]
    return peers.checked(process_tree.run(whole, cwd=ROOT, timeout_s=TIMEOUT_S))


def embedded_lake(labelled: Path, lake: Path) -> tuple[Labels, Vectors, list[str]]:
    """Makes the lake where it is not there yet. Returns image ids, vectors and labels."""
    if not lake.exists():
        command("catalog", str(labelled), "--lake", str(lake), "--layout", "**/{label}/*")
        for job in ("embed", "neighbours", "clusters"):
            command(job, "--lake", str(lake))
    rows = DeltaTable(str(lake / "embeddings")).to_pyarrow_table(columns=["image_id", "vector"]).sort_by("image_id")
    images = DeltaTable(str(lake / "images")).to_pyarrow_table(columns=["image_id", "uri"])
    uris = dict(zip(images["image_id"].to_pylist(), images["uri"].to_pylist(), strict=True))
    ids = rows["image_id"].to_numpy()
    vectors = np.array(rows["vector"].to_pylist(), np.float32)
    return ids, vectors, [Path(uris[number]).parent.name for number in ids.tolist()]


def datalab_scores(vectors: Vectors, given: list[list[str]], work: Path) -> NDArray[np.float64]:
    """(m, n) label_score of Datalab for m sets of labels. Raises peers.NotMeasuredError."""
    python = peers.install(CLEANLAB, work / "cleanlab")
    np.savez(work / "given.npz", vectors=vectors, labels=np.array(given))
    (work / "datalab.py").write_text(DATALAB, encoding="utf-8")
    done = subprocess.run(
        [str(python), "datalab.py", "given.npz", "scores.npy"], cwd=work, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise peers.NotMeasuredError(peers.last_line(done.stderr))
    return np.asarray(np.load(work / "scores.npy"), np.float64)


def many_labelled(vectors: Vectors, labels: Labels, count: int, seed: int = 0) -> tuple[Vectors, Labels]:
    """count vectors like those that are given, and their labels."""
    generator = np.random.default_rng(seed)
    first = generator.integers(0, len(vectors), count)
    order = np.argsort(labels, kind="stable")
    starts, sizes = np.searchsorted(labels[order], labels), np.bincount(labels)
    second = order[starts[first] + (generator.random(count) * sizes[labels[first]]).astype(np.int64)]
    found = np.empty((count, vectors.shape[1]), np.float32)
    for at in range(0, count, 8192):
        rows = slice(at, at + 8192)
        noise = unit(np.abs(generator.standard_normal((len(first[rows]), vectors.shape[1]), np.float32)))
        found[rows] = unit(vectors[first[rows]] + vectors[second[rows]] + noise)
    return found, labels[first]


def cpu_slope(vectors: Vectors, labels: Labels, sizes: tuple[int, int], work: Path) -> dict[str, Any]:
    """Of `imagesieve labels`, and of the stage `issues` after it, on lakes of made vectors, 5 % of whose labels are
    wrong."""
    alike = most_alike(vectors, labels)
    used: dict[str, list[float]] = {job: [] for job in MEASURED}
    peak = 0.0
    for size in sizes:
        lake = work / f"lake-{size}"
        made, own = many_labelled(vectors, labels, size)
        given = spoilt(own, "symmetric", 0.05, alike, seed=1)
        vector_lake.write(lake, made, labels=[f"class {number}" for number in given.tolist()])
        config = ("--lake", str(lake), "--config", str(vector_lake.card(lake, vectors.shape[1])))
        for job in ("neighbours", "clusters"):
            command(job, *config)
        for job in MEASURED:
            measured = command(job, *config)
            used[job].append(round(measured.cpu_s, 1))
            if job == "labels":
                peak = max(measured.peak_mb.values(), default=0.0)
    slopes = {job: round((large - small) / (sizes[1] - sizes[0]) * 1000, 3) for job, (small, large) in used.items()}
    return {
        "cpu_ms_per_image": slopes["labels"], "cpu_ms_by_stage": slopes, "cpu_s": used, "lake_images": list(sizes),
        "peak_mb_of_one_process": peak,
    }  # fmt: skip


def measure(
    labelled: Path, work: Path, sizes: tuple[int, int] = (20_000, 80_000), skip: tuple[str, ...] = ()
) -> dict[str, Any]:
    """labelled: a folder of images for each label. work: a folder for lakes, some GB. skip: of PARTS."""
    ids, vectors, truth_names = embedded_lake(labelled, work / "labelled-lake")
    names, truth = np.unique(truth_names, return_inverse=True)
    alike = most_alike(vectors, truth)
    cases = [(kind, share, seed) for kind in KINDS for share in SHARES for seed in SEEDS]
    given = [spoilt(truth, *case[:2], alike, case[2]) for case in cases]
    texts = [names[labels].tolist() for labels in given]
    ours, parts = [], []
    with StageLake(work / "labelled-lake") as lake:
        untouched = lake.judged(ids, list(truth_names))
        for text in texts:
            ours.append(lake.judged(ids, text))
    found: dict[str, Any] = {
        "images": len(ids), "classes": len(names), "seeds": list(SEEDS),
        "alike": {str(name): str(names[other]) for name, other in zip(names, alike, strict=True)},
        "clean": {
            "flagged": round(float(np.mean(untouched.columns["flagged"])), 4),
            **{name: getattr(untouched.known, name) for name in ("share", "low", "high")},
        },
    }  # fmt: skip
    scores: NDArray[np.float64] | None = None
    if "datalab" not in skip:
        try:
            scores = datalab_scores(vectors, texts, work)
        except (peers.NotMeasuredError, OSError) as error:
            found["datalab_failed"] = str(error)
    bins: list[tuple[NDArray[Any], NDArray[Any]]] = []
    for number, labels in enumerate(given):
        wrong, own = labels != truth, ours[number]
        part = of_case(own, wrong)
        both = own.columns["flagged"].astype(bool) & wrong
        part["suggestion_accuracy"] = float(np.mean(own.columns["suggested_label"][both] == names[truth][both]))
        part["inside"] = float(own.known.low <= wrong.mean() <= own.known.high)
        bins.append((own.columns["probability_wrong"].astype(float), wrong))
        if scores is not None:
            part["datalab_ap"] = average_precision(scores[number], wrong)
        parts.append(part)
    for name in parts[0]:
        found[name] = {
            kind: {
                f"{share:.2f}": round(
                    float(np.mean([p[name] for p, c in zip(parts, cases, strict=True) if c[:2] == (kind, share)])), 4
                )
                for share in SHARES
            }
            for kind in KINDS
        }
    found["calibration"] = [round(gap, 3) for gap in pooled(bins)]
    found["calibration_by_noise"] = {
        f"{kind} {share:.2f}": round(
            max(map(abs, pooled([b for b, c in zip(bins, cases, strict=True) if c[:2] == (kind, share)]))), 3
        )
        for kind in KINDS for share in SHARES
    }  # fmt: skip
    if "sets" not in skip:
        found["sets"] = label_noise.measure(vectors, truth)
    if scores is not None:
        found["ratio"] = {
            kind: {
                share: round(found["label_ap"][kind][share] / found["datalab_ap"][kind][share], 3)
                for share in found["label_ap"][kind]
            }
            for kind in KINDS
        }
    if "cpu" not in skip:
        found |= cpu_slope(vectors, truth, sizes, work)
    found["bars"] = bars(found)
    return found


def of_case(own: StageResult, wrong: NDArray[np.bool_]) -> dict[str, float]:
    score, flagged = own.columns["score"].astype(float), own.columns["flagged"].astype(bool)
    both, thorough, precise = flagged & wrong, own.flags["thorough"], own.flags["0.9"]
    f1 = 2 * both.sum() / (flagged.sum() + wrong.sum())
    order = np.argsort(score, kind="stable")
    best = (2 * np.cumsum(wrong[order]) / (np.arange(1, len(order) + 1) + wrong.sum())).max()
    return {
        "label_ap": average_precision(score, wrong),
        "flag_precision": both.sum() / max(flagged.sum(), 1),
        "flag_recall": both.sum() / wrong.sum(),
        "flag_f1": f1,
        "f1_ratio": f1 / best,
        "estimate": own.known.share,
        "thorough_recall": (thorough & wrong).sum() / wrong.sum(),
        "precise_precision": (precise & wrong).sum() / max(precise.sum(), 1),
    }


def pooled(cases: list[tuple[NDArray[np.float64], NDArray[np.bool_]]]) -> list[float]:
    """Of (probability, wrong) of some cases together in ten bins the share that is wrong less the probability; 0 where
    there are fewer than LEAST_BIN images."""
    probability, wrong = (np.concatenate(column) for column in zip(*cases, strict=True))
    bins = np.minimum((10 * probability).astype(int), 9)
    chosen = [bins == number for number in range(10)]
    return [float(wrong[c].mean() - probability[c].mean()) if c.sum() >= LEAST_BIN else 0.0 for c in chosen]


# What the ranking was before labels and noise were learnt together, by the same command: the mean of SEEDS.
BEFORE = {
    "symmetric": {"0.05": 0.797, "0.10": 0.864, "0.20": 0.915}, "similar": {"0.05": 0.576, "0.10": 0.653, "0.20": 0.697}
}  # fmt: skip


def bars(found: dict[str, Any]) -> dict[str, bool]:
    noises = [(kind, f"{share:.2f}") for kind in KINDS for share in SHARES]
    told = {kind_share: float(found["estimate"][kind_share[0]][kind_share[1]]) for kind_share in noises}
    gains = [found["label_ap"][kind][share] - ap for kind, of in BEFORE.items() for share, ap in of.items()]
    return {
        "ap_gains_0.03": float(np.mean(gains)) >= 0.03,
        "ap_nowhere_lower": min(gains) >= 0,
        "f1_ratio_0.95": all(found["f1_ratio"][kind][share] >= 0.95 for kind, share in noises),
        "estimate_in_7_of_8": sum(
            abs(one - float(share)) <= (0.25 * float(share) if float(share) >= 0.04 else 0.01)
            for (_, share), one in told.items()
        ) >= 7,
        "calibrated": max(map(abs, found["calibration"])) <= 0.07,
        "calibrated_in_each_noise": max(found["calibration_by_noise"].values()) <= 0.07,
        "clean_flagged_0.01": found["clean"]["flagged"] <= 0.01,
        "clean_interval_holds_0": found["clean"]["low"] <= 0,
        "thorough_recall_0.85": all(found["thorough_recall"][kind]["0.10"] >= 0.85 for kind in KINDS),
        "precision_0.9": all(0.85 <= found["precise_precision"][kind][share] <= 0.95 for kind, share in noises),
    }  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.labels")
    parser.add_argument("--labelled", type=Path, required=True, help="folder with a folder of JPEG images a label")
    parser.add_argument("--small", type=int, default=20_000)
    parser.add_argument("--large", type=int, default=80_000)
    parser.add_argument("--skip", default="", help=f"comma-separated: {', '.join(PARTS)}")
    parser.add_argument("--work", type=Path, help="folder in which the lakes are kept")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as scratch:
        work = options.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        skip = tuple(part for part in options.skip.split(",") if part)
        print(json.dumps(measure(options.labelled, work, (options.small, options.large), skip)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
