"""CPU time of the search inside one cell, a vector, by the numbers in it and the vectors in the cell.

    python -m tests.bench.cell_search --photos DIR --others DIR [--work DIR]

prints one JSON line. The vectors are those of tests.bench.many_vectors, of 256 numbers and turned into a space of
1,280, which leaves their cosines as they are. One thread in one process, without Spark:
udfs.vectors.search.nearest_among.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from tests.bench import many_vectors
from tests.bench.many import image_files
from tests.bench.neighbours import real_vectors
from udfs.vectors.search import nearest_among

SIZES = (20_000, 50_000)  # of 50,000 images of 1,280 numbers, all probes counted, is a cell of the default layout
DIMENSIONS = (256, 1280)
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def microseconds(vectors: many_vectors.Vectors, fine_probes: int) -> float:
    """CPU time a vector of one search."""
    started = time.process_time()
    nearest_among(vectors, np.ones(len(vectors), bool), 10, 8192, fine_probes)
    return (time.process_time() - started) / len(vectors) * 1e6


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.cell_search")
    parser.add_argument("--photos", type=Path, required=True, help="folder of JPEG photographs, no two alike")
    parser.add_argument("--others", type=Path, required=True, help="folder of JPEG images of few subjects")
    parser.add_argument("--fine-probes", type=int, default=16)
    parser.add_argument("--work", type=Path, help="folder in which the embeddings of the images are kept")
    options = parser.parse_args(argv)
    if any(os.environ.get(name) != value for name, value in ONE_THREAD.items()):  # read when numpy is imported
        command = [sys.executable, "-m", "tests.bench.cell_search", *(argv if argv is not None else sys.argv[1:])]
        return subprocess.run(command, env={**os.environ, **ONE_THREAD}, check=False).returncode
    paths = [*image_files(options.photos), *image_files(options.others)]
    source = many_vectors.fit(real_vectors(paths, options.work))
    turned = np.linalg.qr(np.random.default_rng(0).standard_normal((max(DIMENSIONS), many_vectors.DIMENSION)))[0]
    found: dict[str, dict[str, float]] = {}
    for size in SIZES:
        vectors = many_vectors.make(source, size)
        for dimension in DIMENSIONS:
            given = vectors if dimension == many_vectors.DIMENSION else (vectors @ turned.T).astype(np.float32)
            found.setdefault(str(dimension), {})[str(size)] = round(microseconds(given, options.fine_probes), 1)
    print(json.dumps({"search_us_per_vector": found, "fine_probes": options.fine_probes}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
