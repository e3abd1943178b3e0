"""What the stage `index` takes of vectors of 1,280 numbers, with classes: one JSON line.

    python -m tests.bench.index

- cpu_ms: an image, the slope of `index` between SIZES images, all processes; start_cpu_s: of the command without them.
- index_bytes: an image, of all files, at the larger size. told_recall: as the command measured it."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from jobs.indexing import store
from tests.bench import engine_runs, map, process_tree, serve

SIZES = (20_000, 50_000)
DIMENSION = 1280


def index(lake: Path) -> float:
    """CPU seconds of the command."""
    command = [sys.executable, "-W", "ignore", "-m", "imagesieve", "index", "--lake", str(lake)]
    return engine_runs.ended(command).cpu_s


def measure(work: Path) -> dict[str, Any]:
    vectors = serve.vectors_of_subjects(SIZES[0], DIMENSION)
    lakes = [map.made(work / str(size), vectors, size) for size in SIZES]
    small, large = (index(lake) for lake in lakes)
    kept = store.read(str(lakes[1]))
    assert kept is not None
    assert kept.recall is not None
    each = (large - small) / (SIZES[1] - SIZES[0])
    return {
        "cpu_ms": round(1000 * each, 3), "start_cpu_s": round(small - each * SIZES[0], 1),
        "index_bytes": round(sum(file.bytes for file in kept.files()) / kept.images),
        "told_recall": kept.recall.at_10,
    }  # fmt: skip


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder))
    print(json.dumps({"machine": process_tree.machine(), **found}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
