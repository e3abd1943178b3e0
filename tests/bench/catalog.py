"""CPU time of the catalog stage, as a slope between two sizes of manifest, and what each stage takes to start.

    python -m tests.bench.catalog --photos DIR [--small 50000] [--large 400000]

prints one JSON line. The manifests are Parquet and give uri, etag, size and time, so that no store is asked.
start_cpu_s: of each stage, in a process of its own, on a lake of the photographs; with some hundred of them next to all
of it is what starting takes."""

import argparse
import datetime
import json
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from emr.costs.stage_work import STAGES
from tests.bench import many, peers, process_tree

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 1800.0


def manifest(path: Path, count: int) -> Path:
    when = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    columns = {
        "uri": [f"s3://bucket/photos/{number // 1000:06d}/{number:09d}.jpg" for number in range(count)],
        "etag": [f"{number:032x}" for number in range(count)],
        "size_bytes": list(range(100_000, 100_000 + count)),
        "modified_at": [when] * count,
    }
    pq.write_table(pa.table(columns), path, row_group_size=50_000)
    return path


def stage(name: str, *more: str | Path) -> float:
    """CPU seconds of all processes."""
    command = [sys.executable, "-m", "jobs.command", name, *map(str, more)]
    return peers.checked(process_tree.run(command, cwd=ROOT, timeout_s=TIMEOUT_S)).cpu_s


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.catalog", description=__doc__)
    parser.add_argument("--photos", type=Path, required=True, help="folder of JPEG photographs")
    parser.add_argument("--small", type=int, default=50_000)
    parser.add_argument("--large", type=int, default=400_000)
    given = parser.parse_args(argv)
    sizes = (given.small, given.large)
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        manifests = [manifest(work / f"{size}.parquet", size) for size in sizes]
        used = [stage("catalog", path, "--lake", path.with_suffix(".lake")) for path in manifests]
        photos = many.make(given.photos, work / "photos", len(many.photographs(given.photos)))
        start = {
            name: round(stage(name, *([work / "photos"] if name == "catalog" else []), "--lake", work / "lake"), 1)
            for name in STAGES
        }
    slope = (used[1] - used[0]) / (sizes[1] - sizes[0])
    print(json.dumps({
        "machine": process_tree.machine(), "images": sizes, "cpu_s": [round(value, 1) for value in used],
        "cpu_ms": round(slope * 1000, 4), "photographs": len(photos), "start_cpu_s": start,
    }))  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
