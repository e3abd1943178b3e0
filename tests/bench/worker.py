"""What one worker needs for its images, without Spark: a process like Spark's, and the child that it works in.

    python -m tests.bench.worker --references FILE [--model GRAPH WEIGHTS]

prints one JSON line. FILE: JSON lines of uri, shard, shard_offset, size_bytes. The environment says where S3 is.
ready_s: from the start of the process to its first results. cpu_s: of both processes. peak_mb: of both, each at its
highest."""

import argparse
import json
import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from udfs import arrow
from udfs.children import pool
from udfs.images import rows as image_rows
from udfs.networks import models
from udfs.stores import fetch

BATCH = 64  # rows that Spark sends at once


def task(files: list[Path]) -> arrow.EmbedTask:
    """The task of the default settings on a CPU. files: of preparation.Prepared, none for no network."""
    model = models.find(models.DEFAULT)
    return arrow.EmbedTask(model, "openvino" if files else "", tuple(files), None, fetch.Limits(), 16, 0, 178_956_970)


def batches(references: list[dict[str, object]], dimension: int, with_model: bool) -> Iterator[pa.RecordBatch]:
    """references: fields of fetch.Reference. Returns batches of image_rows.PENDING."""
    vector = None if with_model else [1.0] + [0.0] * (dimension - 1)
    for start in range(0, len(references), BATCH):
        rows = [
            {
                **row,
                "image_id": number,
                "etag": None,
                "has_features": False,
                "attempt": 1,
                image_rows.GIVEN_VECTOR: vector,
            }
            for number, row in enumerate(references[start : start + BATCH], start)
        ]
        yield pa.RecordBatch.from_pylist(rows, schema=image_rows.PENDING)


def since_start_s() -> float:
    """Seconds since this process was started."""
    started_ticks = int(Path("/proc/self/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started_ticks / os.sysconf("SC_CLK_TCK")


def reached_kb(process: int) -> int:
    """The largest resident set that a process has had."""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


def measure(references: list[dict[str, object]], files: list[Path]) -> dict[str, object]:
    ready_s = None
    images = failed = 0
    given = task(files)
    work = arrow.embed_batches(lambda: given, 60.0, lambda _: None)
    for done in work(batches(references, given.model.dimension, bool(files))):
        if ready_s is None:
            ready_s = since_start_s()
        images += done.num_rows
        failed += done.num_rows - done.column("error").null_count
    # Not ru_maxrss: a process that was just forked has its parent's.
    peaks = [reached_kb(process) for process in (os.getpid(), *pool.children())]
    pool.close()
    own, child = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "images": images,
        "failed": failed,
        "cpu_s": own.ru_utime + own.ru_stime + child.ru_utime + child.ru_stime,
        "ready_s": ready_s,
        "peak_mb": sum(peaks) * 1024 / 1e6,
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.worker", description=__doc__)
    parser.add_argument("--references", type=Path, required=True)
    parser.add_argument("--model", type=Path, nargs=2, default=[], help="converted; else fetch, decode, measure only")
    given = parser.parse_args(argv)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])  # one core, as Spark gives it; servers use the others
    lines = given.references.read_text(encoding="utf-8").splitlines()
    print(json.dumps(measure([json.loads(line) for line in lines], given.model)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
