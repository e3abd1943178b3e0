"""CPU time of the stages after the neighbours, a vector, as a slope between two sizes of lake.

    python -m tests.bench.stages --photos DIR --others DIR [--small N] [--large N] [--work DIR]

prints one JSON line. The lakes are those of tests.bench.neighbours; `clusters` and `issues` run on them as a user runs
them, after `neighbours`, which is not counted. No image is there to be read.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tests.bench import many_vectors, peers, process_tree, vector_lake
from tests.bench.many import image_files
from tests.bench.neighbours import ROOT, TIMEOUT_S, real_vectors, stage

JOBS = ("clusters", "issues")


def measured(job: str, lake: Path) -> process_tree.Measured:
    command = [sys.executable, "-m", "jobs.command", job, "--lake", str(lake)]
    command += ["--config", str(lake.with_suffix(".yaml"))]
    return peers.checked(process_tree.run(command, cwd=ROOT, timeout_s=TIMEOUT_S))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.stages")
    parser.add_argument("--photos", type=Path, required=True, help="folder of JPEG photographs, no two alike")
    parser.add_argument("--others", type=Path, required=True, help="folder of JPEG images of few subjects")
    parser.add_argument("--small", type=int, default=20_000)
    parser.add_argument("--large", type=int, default=100_000)
    parser.add_argument("--work", type=Path, help="folder in which the embeddings of the images are kept")
    options = parser.parse_args(argv)
    paths = [*image_files(options.photos), *image_files(options.others)]
    source = many_vectors.fit(real_vectors(paths, options.work))
    sizes = (options.small, options.large)
    used: dict[str, list[float]] = {job: [] for job in JOBS}
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            lake = Path(folder) / str(size)
            vector_lake.write(lake, many_vectors.make(source, size))
            vector_lake.card(lake, many_vectors.DIMENSION)
            stage(lake, [])
            for job in JOBS:
                used[job].append(round(measured(job, lake).cpu_s, 1))
    slopes = {job: round((large - small) / (sizes[1] - sizes[0]) * 1000, 4) for job, (small, large) in used.items()}
    print(json.dumps({"images": sizes, "cpu_s": used, "cpu_ms_slope": slopes}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
