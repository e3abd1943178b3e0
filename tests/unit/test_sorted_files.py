"""Catches rows that are lost, doubled or out of order where sorted files become one."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest

from jobs.engines.sorted_files import merged


def batches(values: list[str], sizes: list[int]) -> Iterator[pa.RecordBatch]:
    start = 0
    for size in [*sizes, len(values)]:
        part = values[start : start + size]
        yield pa.record_batch([pa.array(part, pa.string()), pa.array(range(start, start + len(part)))], ["key", "n"])
        start += size


@pytest.mark.parametrize("seed", range(30))
def test_any_files_become_one(seed: int) -> None:
    draw = np.random.default_rng(seed)
    sources, keys = [], []
    for _ in range(draw.integers(0, 6)):
        # Few different keys: whole batches of one key, and keys that go on over the end of a batch.
        own = sorted(chr(97 + number) * 2 for number in draw.integers(0, draw.integers(1, 9), draw.integers(0, 60)))
        keys += own
        sources.append(batches(own, [int(size) for size in draw.integers(0, 9, 12)]))
    found = [table.column("key").to_pylist() for table in merged(sources, "key")]
    assert [key for part in found for key in part] == sorted(keys)


def test_two_batches_of_each_are_held() -> None:
    taken = 0

    def source() -> Iterator[pa.RecordBatch]:
        nonlocal taken
        for number in range(100):
            taken += 1
            yield pa.record_batch([pa.array([number])], ["key"])

    first = next(merged([source(), source()], "key"))
    assert (first.num_rows, taken) == (2, 4)
