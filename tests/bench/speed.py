"""What a run costs, stage by stage and beside fastdup: one JSON line of `python -m tests.bench.speed --photos DIR`.

    python -m tests.bench.speed --photos DIR [--labelled DIR] [--sizes 1000,4000,8000] [--parts fastdup,stages,small]

DIR of photos: JPEG photographs; larger sets are crops of them, resized back (tests.bench.engine_runs.crops): nearly
all of these have a near-duplicate.

- fastdup: run_to_fastdup, CPU of a whole run by fastdup's at each size, in turn with it; embed_to_fastdup, the slope of
  the stage embed by that of fastdup, between the smallest and the largest size.
- stages: stage_ms, CPU an image of each stage as a command of its own, as a slope between the same two sizes; start_s,
  what is left at no image, all stages together.
- small: SMALL_IMAGES small pictures, those of --labelled varied: run_cpu_s of a whole run, and what it says of its
  recall: recall_at_k, pair_recall and pair_recall_low.

CPU is user and system time of all processes of a run. fastdup is installed for that, in an environment of its own; its
licence allows non-commercial use only, and it is never shipped."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from deltalake import DeltaTable

from tests.bench import engine_runs, many, peers, process_tree

SIZES = "1000,4000,8000"
PARTS = ("fastdup", "stages", "small")
STAGES = ("catalog", "embed", "neighbours", "clusters", "labels", "content", "issues", "report")
SMALL_IMAGES = 60_000


def slope(costs: dict[int, float]) -> float:
    """Milliseconds an image between the smallest and the largest size. costs: seconds by size."""
    low, high = min(costs), max(costs)
    return (costs[high] - costs[low]) / (high - low) * 1000


def staged(folder: Path, lake: Path) -> dict[str, float]:
    """CPU seconds of each stage on a folder, each a command of its own."""
    found = {}
    for stage in STAGES:
        given = (str(folder),) if stage == "catalog" else ()
        found[stage] = engine_runs.ended(
            engine_runs.program(stage, *given, "--lake", str(lake), python=sys.executable)
        ).cpu_s
    return found


def beside_fastdup(folders: dict[int, Path], work: Path) -> dict[str, Any]:
    peer = peers.PEERS["fastdup"]
    python = peers.install(peer, work / "fastdup")
    (source,) = peer.programs.values()
    program = peers.peer_program(python, source, peer.environment)
    ours, theirs = {}, {}
    for size, folder in folders.items():
        with tempfile.TemporaryDirectory(dir=work) as scratch:
            theirs[size] = program(folder, size, Path(scratch)).cpu_s
        ours[size] = engine_runs.measured(folder, work / f"run-{size}").cpu_s
    return {
        "fastdup": peer.requirement,
        "run_to_fastdup": {str(size): round(ours[size] / theirs[size], 2) for size in folders},
        "cpu_s": {str(size): [round(ours[size], 1), round(theirs[size], 1)] for size in folders},
        "slope_ms": [round(slope(ours), 2), round(slope(theirs), 2)],
    }


def by_stage(folders: dict[int, Path], work: Path) -> dict[str, Any]:
    ends = {size: staged(folders[size], work / f"stages-{size}") for size in (min(folders), max(folders))}
    each = {stage: slope({size: costs[stage] for size, costs in ends.items()}) for stage in STAGES}
    starts = sum(costs for costs in ends[min(ends)].values()) - sum(each.values()) * min(ends) / 1000
    return {
        "stage_ms": {stage: round(cost, 2) for stage, cost in each.items()},
        "all_but_embed_ms": round(sum(cost for stage, cost in each.items() if stage != "embed"), 2),
        "start_s": round(starts, 1),
    }


def small(labelled: Path, work: Path) -> dict[str, Any]:
    folder, lake = work / "small", work / "small-lake"
    engine_runs.varied(sorted(labelled.glob("*/*")), folder, SMALL_IMAGES)
    run = engine_runs.measured(folder, lake, "--layout", "{label}/*")
    rows = DeltaTable(str(lake / "runs")).to_pyarrow_table().to_pylist()
    counts = json.loads(next(row["counts"] for row in rows if row["job"] == "neighbours"))
    names = ("recall_at_k", "pair_recall", "pair_recall_low", "probes", "fine_probes")
    said = [line for line in run.err.splitlines() if " neighbours " in line]
    return {"run_cpu_s": round(run.cpu_s, 1), **{name: counts.get(name) for name in names}, "said": said}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.speed")
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--labelled", type=Path)
    parser.add_argument("--sizes", default=SIZES, help="numbers of photographs")
    parser.add_argument("--parts", default="fastdup,stages", help=f"of {','.join(PARTS)}")
    options = parser.parse_args(argv)
    parts, sizes = options.parts.split(","), sorted(map(int, options.sizes.split(",")))
    if set(parts) - set(PARTS) or len(sizes) < 2 or ("small" in parts and options.labelled is None):
        parser.error(f"--parts is of {', '.join(PARTS)}; --sizes needs two or more; small needs --labelled")
    found: dict[str, Any] = {"machine": process_tree.machine()}
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        folders = {size: work / f"photos-{size}" for size in sizes} if set(parts) - {"small"} else {}
        for size, folder in folders.items():
            engine_runs.crops(many.photographs(options.photos), folder, size)
        if "fastdup" in parts:
            found |= beside_fastdup(folders, work)
        if "stages" in parts:
            found |= by_stage(folders, work)
        if "fastdup" in parts and "stages" in parts:
            found["embed_to_fastdup"] = round(found["stage_ms"]["embed"] / found["slope_ms"][1], 2)
        if "small" in parts:
            found["small"] = small(options.labelled, work)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
