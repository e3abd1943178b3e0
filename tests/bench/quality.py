"""Do the measures of quality see what was spoilt? The figures behind their thresholds.

    python -m tests.bench.quality --photos DIR [--half tuning] [--peers] [--work DIR]

prints one JSON line. Each photograph is spoilt in graded steps (tests.bench.damage), saved as a JPEG or PNG file, and
read as the embed stage reads it; all files together are a lake, whose scores and issues are those of
jobs.findings.scores under the default settings. The thresholds were chosen on every other photograph by name, `tuning`;
the others, `measured`, are what is reported by default.

By kind of damage: `rank_within`: Spearman's correlation of the score with the step, none being step 0, negated, the
mean over the photographs; `rank_pooled`: over all photographs and steps at once. `recall`: share of the strongly spoilt
that got the issue of the kind; `false_share`: share of the undamaged that got it; `precision`: where the undamaged and
the strongly spoilt stand beside each other. `unharmed_false_share`: undamaged photographs with any issue of technical
quality at all, and `unharmed_any_share` with any issue of this module, odd sizes and grey pictures too, which some of
them are. `cpu_ms_per_image`: CPU time of one thread for the
undamaged files, the median of the lowest of three.

`--peers` adds cleanvision, installed with uv into an environment of its own: for each kind the share of the strongly
spoilt and of the undamaged that it flags as that, and as anything at all."""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from tests.bench import damage, peers, process_tree
from tests.bench.damage import KINDS, Kind
from udfs.images import decode, looks, medium, quality
from udfs.transforms.square import ANALYSIS_SIDE, FINER, opened

UNHARMED = "unharmed"
HALVES = ("tuning", "measured", "all")
MAX_PIXELS = 10**9
TRIES = 3  # of which the lowest counts: a busy machine slows some

# What cleanvision calls the kinds; it has no check for the others.
CLEANVISION_ISSUES = {
    "darker": "dark",
    "brighter": "light",
    "gaussian_blur": "blurry",
    "motion_blur": "blurry",
    "blown_up": "blurry",
    "smaller": "odd_size",
    "faded": "low_information",
    "covered": "low_information",
    "grey": "grayscale",
    "strip": "odd_aspect_ratio",
}
CLEANVISION = """
import sys
from cleanvision import Imagelab
if __name__ == "__main__":
    lab = Imagelab(data_path=sys.argv[1])
    lab.find_issues()
    lab.issues.to_json(sys.argv[2], orient="index")
"""


def features(data: bytes) -> dict[str, Any]:
    """The columns of `features` that the scores are made of, as the embed stage has them."""
    decoded, seen = opened(data, MAX_PIXELS)
    return {
        "width": decoded.width,
        "height": decoded.height,
        "medium": medium.medium(looks.small(seen), decoded.width, decoded.height),
        **quality.of_file(data, decoded, seen),
    }


def spoil_all(photos: dict[str, bytes], folder: Path) -> pd.DataFrame:
    """Writes each photograph as it is and spoilt in each step into the folder.

    Returns a row a file: image_id, file, photo, kind (UNHARMED or a name of KINDS), step (0 of UNHARMED), features."""
    rows: list[dict[str, Any]] = []

    def add(photo: str, kind: str, number: int, data: bytes, ending: str) -> None:
        file = f"{len(rows):06d}{ending}"
        (folder / file).write_bytes(data)
        rows.append(
            {"image_id": len(rows), "file": file, "photo": photo, "kind": kind, "step": number, **features(data)}
        )

    for photo, original in photos.items():
        add(photo, UNHARMED, 0, original, ".jpg")
        pixels = decode.decode(original, MAX_PIXELS, MAX_PIXELS).pixels
        for kind in KINDS.values():
            for number, step in enumerate(kind.steps, 1):
                add(photo, kind.name, number, *damage.spoilt(pixels, kind, step, photo))
    return pd.DataFrame(rows)


def judged(spark: Any, table: pd.DataFrame) -> pd.DataFrame:
    """The table with the columns of `scores`, and `issues`, the set of the names of each image's issues."""
    from jobs import config
    from jobs.findings.formulas import QUALITY
    from jobs.findings.scores import quality_issues, quality_scores, share_in_colour, usual_sides

    given = spark.createDataFrame(table.drop(columns=["file", "photo", "kind", "step"]))
    limits = {issue: getattr(config.load().issues, issue) for issue in QUALITY}
    scores = quality_scores(given, usual_sides(given)).persist()
    in_colour = share_in_colour(scores, limits["grayscale"])
    found = quality_issues(scores, limits, in_colour).select("image_id", "issue").toPandas()
    issues = found.groupby("image_id")["issue"].agg(frozenset).to_dict()
    out = table.merge(scores.toPandas(), on="image_id")
    scores.unpersist()
    return out.assign(issues=[issues.get(image_id, frozenset()) for image_id in out["image_id"]])


def rank_correlation(steps: Any, scores: Any) -> float:
    """Spearman's, negated: 1 where the score falls with each step; 0 where it is always the same."""
    from scipy.stats import spearmanr

    return 0.0 if np.ptp(scores) == 0 else -float(spearmanr(steps, scores).statistic)


def of_kind(table: pd.DataFrame, kind: Kind) -> dict[str, float]:
    """The figures of one kind. table: of judged()."""
    graded = table[table["kind"].isin((UNHARMED, kind.name))]
    within = [rank_correlation(one["step"], one[kind.score]) for _, one in graded.groupby("photo")]
    strong = graded[graded["step"] > last_weak_step(kind)]
    hit = np.array([bool(issues & set(kind.issues)) for issues in strong["issues"]])
    false = np.array([bool(issues & set(kind.issues)) for issues in table[table["kind"] == UNHARMED]["issues"]])
    return {
        "rank_within": float(np.mean(within)),
        "rank_pooled": rank_correlation(graded["step"], graded[kind.score]),
        "recall": float(hit.mean()),
        "precision": float(hit.sum() / max(1, hit.sum() + false.sum())),
        "false_share": float(false.mean()),
    }


def last_weak_step(kind: Kind) -> int:
    """The number of the last step, counted from 1, that is not strong."""
    return kind.steps.index(kind.strong)


def cpu_ms(files: Sequence[bytes]) -> dict[str, float]:
    """Medians over the files, of each the lowest of TRIES: what the detail takes; properties; both."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)

    def median(work: Callable[[int], Any], count: int) -> float:
        times = []
        for number in range(count):
            tries = []
            for _ in range(TRIES):
                start = time.thread_time()
                work(number)
                tries.append(time.thread_time() - start)
            times.append(min(tries))
        return 1000 * float(np.median(times))

    found = [opened(data, MAX_PIXELS) for data in files]
    plain = median(lambda i: decode.decode(files[i], round(FINER * ANALYSIS_SIDE), MAX_PIXELS), len(files))
    detail = median(
        lambda i: decode.decode(files[i], round(FINER * ANALYSIS_SIDE), MAX_PIXELS, detail=True), len(files)
    )
    properties = median(lambda i: quality.of_file(files[i], *found[i]), len(files))
    cv2.setNumThreads(before)
    return {"detail": detail - plain, "properties": properties, "total": detail - plain + properties}


def cleanvision(table: pd.DataFrame, folder: Path, work: Path) -> dict[str, Any]:
    """The same shares of cleanvision, on the undamaged and the strongly spoilt, or why there are none."""
    peer = peers.PEERS["cleanvision"]
    about = {"version": peer.requirement.partition("==")[2], "licence": peer.licence}
    last_weak = table["kind"].map({UNHARMED: -1, **{name: last_weak_step(kind) for name, kind in KINDS.items()}})
    chosen = table[table["step"] > last_weak]
    images, result, program = work / "strong", work / "cleanvision.json", work / "program.py"
    images.mkdir()
    for file in chosen["file"]:
        (images / file).hardlink_to(folder / file)
    program.write_text(CLEANVISION, encoding="utf-8")
    try:
        python = peers.install(peer, work / "cleanvision")
    except peers.NotMeasuredError as error:
        return {**about, "failed": str(error)}
    done = process_tree.run([str(python), str(program), str(images), str(result)], None, work, peers.TIMEOUT_S)
    if done.returncode:
        return {**about, "failed": peers.last_line(done.err or done.out)}
    said = {Path(path).name: flags for path, flags in json.loads(result.read_text(encoding="utf-8")).items()}
    # Exact and near duplicates are no matter of quality: the photographs are there many times.
    flagged = [
        {name[3:-6] for name, is_so in said[file].items() if is_so is True and not name.endswith("duplicates_issue")}
        for file in chosen["file"]
    ]
    chosen = chosen.assign(flags=pd.Series(flagged, index=chosen.index))

    def share(rows: pd.DataFrame, issue: str | None) -> float | None:
        return None if issue == "" else float(np.mean([(issue in f) if issue else bool(f) for f in rows["flags"]]))

    unharmed = chosen[chosen["kind"] == UNHARMED]
    kinds = {}
    for kind in KINDS:
        issue, strong = CLEANVISION_ISSUES.get(kind, ""), chosen[chosen["kind"] == kind]
        kinds[kind] = {
            "recall": share(strong, issue),
            "false_share": share(unharmed, issue),
            "recall_as_anything": share(strong, None),
        }
    return {**about, "kinds": kinds, "unharmed_any_share": share(unharmed, None)}


def measure(photos: Path, work: Path, spark: Any, half: str = "measured", peer: bool = False) -> dict[str, Any]:
    """photos: a folder of JPEG photographs. work: an empty folder for the spoilt ones. half: one of HALVES.
    peer: whether cleanvision is measured too. Returns what the module's docstring says."""
    from jobs.findings.formulas import QUALITY
    from jobs.tables import GRAYSCALE, ODD_ASPECT_RATIO, ODD_SIZE

    files = damage.photographs(photos)
    chosen = {
        name: data for at, (name, data) in enumerate(files.items()) if half == "all" or at % 2 == HALVES.index(half)
    }
    folder = work / "files"
    folder.mkdir()
    table = judged(spark, spoil_all(chosen, folder))
    unharmed = table[table["kind"] == UNHARMED]
    technical = set(QUALITY) - {ODD_SIZE, ODD_ASPECT_RATIO, GRAYSCALE}
    found: dict[str, Any] = {
        "photos": len(chosen),
        "half": half,
        "kinds": {name: of_kind(table, kind) for name, kind in KINDS.items()},
        "unharmed_false_share": float(np.mean([bool(issues & technical) for issues in unharmed["issues"]])),
        "unharmed_any_share": float(np.mean([bool(issues) for issues in unharmed["issues"]])),
        "unharmed_issues": unharmed["issues"].explode().value_counts().to_dict(),
        "cpu_ms_per_image": cpu_ms(list(chosen.values())),
    }
    if peer:
        found["cleanvision"] = cleanvision(table, folder, work)
    return {name: rounded(value) for name, value in found.items()}


def rounded(value: Any) -> Any:
    """The same with numbers of four decimals."""
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    return round(value, 4) if isinstance(value, float) else value


def main(argv: list[str] | None = None) -> int:
    from jobs import config
    from jobs.engines.opening import open_engine

    parser = argparse.ArgumentParser(prog="python -m tests.bench.quality")
    parser.add_argument("--photos", type=Path, required=True, help="folder of JPEG photographs")
    parser.add_argument("--half", choices=HALVES, default="measured", help="which photographs are reported")
    parser.add_argument("--peers", action="store_true", help="measure cleanvision too, which is installed for that")
    parser.add_argument("--work", type=Path, help="existing folder for images and environments, removed again")
    options = parser.parse_args(argv)
    with open_engine(config.load()) as engine, tempfile.TemporaryDirectory(dir=options.work, prefix="quality-") as work:
        print(json.dumps(measure(options.photos, Path(work), engine.spark, options.half, options.peers)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
