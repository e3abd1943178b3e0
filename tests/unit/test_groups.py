"""Catches rows that end up in another group, or a group that is cut where a batch ends."""

from itertools import groupby

import numpy as np
import pyarrow as pa
import pytest

from udfs.groups import grouped, of_each_group


def batches(keys: list[tuple[int, int]], rows: int) -> list[pa.RecordBatch]:
    """The keys and a running number, in batches of so many rows."""
    columns = [pa.array([key[0] for key in keys], pa.int64()), pa.array([key[1] for key in keys], pa.int32())]
    whole: pa.Table = pa.table([*columns, pa.array(range(len(keys)), pa.int64())], ["a", "b", "n"])
    return list(whole.to_batches(max_chunksize=rows))


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 1000])
def test_like_itertools(rows: int) -> None:
    """A boundary that is missed where the first or the second key alone changes, or where a batch ends."""
    rng = np.random.default_rng(rows)
    keys = sorted((int(a), int(b)) for a, b in rng.integers(-2, 4, (200, 2)))
    empty = pa.RecordBatch.from_pylist([], schema=batches(keys, rows)[0].schema)
    found = [table.to_pydict() for table in grouped([empty, *batches(keys, rows), empty], ("a", "b"))]
    expected = [(key, [n for n, _ in group]) for key, group in groupby(enumerate(keys), lambda row: row[1])]
    assert [((table["a"][0], table["b"][0]), table["n"]) for table in found] == expected
    assert all(len(set(table["a"])) == 1 and len(set(table["b"])) == 1 for table in found)


def test_large_numbers_stay_apart() -> None:
    """Keys that are compared as floating-point numbers."""
    keys = [(2**62, 0), (2**62 + 1, 0)]
    assert [table.num_rows for table in grouped(batches(keys, 10), ("a", "b"))] == [1, 1]


def test_a_null_is_refused() -> None:
    """A null key that is taken for a number."""
    batch = pa.RecordBatch.from_pydict({"a": pa.array([1, None], pa.int64())})
    with pytest.raises(pa.ArrowInvalid):
        list(grouped([batch], ("a",)))


def test_what_is_made_of_each() -> None:
    """A group that gives no rows, and one that gives several."""
    run = of_each_group(("a",), lambda table: table.slice(0, 0) if table["a"][0].as_py() == 1 else table)
    out = pa.Table.from_batches(run(batches([(0, 0), (1, 0), (1, 1), (2, 0), (2, 0)], 2)))
    assert out["n"].to_pylist() == [0, 3, 4]
