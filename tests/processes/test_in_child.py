"""Catches columns and types that an engine would take for nulls, and batches larger than a function was promised."""

from pathlib import Path

import pyarrow as pa
import pytest

from udfs.children import in_child

SCHEMA = pa.schema([("n", pa.int64()), ("v", pa.list_(pa.float32()))])


def batch(rows: int, extra: bool = False) -> pa.RecordBatch:
    columns = [pa.array(range(rows), pa.int64()), pa.array([[1.0]] * rows, pa.list_(pa.float32()))]
    names = ["n", "v"]
    if extra:
        columns, names = [*columns, pa.array(range(rows))], [*names, in_child.NUMBER]
    return pa.RecordBatch.from_arrays(columns, names=names)


@pytest.mark.parametrize("extra", [False, True])
def test_batches_are_cut_and_the_order_is_not_seen(extra: bool) -> None:
    found = list(in_child.sliced([batch(7, extra), batch(0, extra), batch(2, extra)], 3))
    assert [one.num_rows for one in found] == [3, 3, 1, 0, 2]
    assert {tuple(one.schema.names) for one in found} == {("n", "v")}
    assert [n for one in found for n in one.column("n").to_pylist()] == [*range(7), *range(2)]


def test_the_same_types_pass() -> None:
    inner = pa.list_(pa.field("item", pa.float32(), nullable=False))
    given = pa.RecordBatch.from_arrays([pa.array([1], pa.int64()), pa.array([[1.0]], inner)], names=["n", "v"])
    assert in_child.checked(given, SCHEMA, "f").schema == SCHEMA


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (pa.record_batch([pa.array([1])], names=["n"]), "f gave the columns n, not n, v"),
        (batch(1).rename_columns(["n", "w"]), "f gave the columns n, w, not n, v"),
        (batch(1).set_column(0, "n", pa.array([1], pa.int32())), "f gave int32 for n, not int64"),
        (batch(1).set_column(1, "v", pa.array([[1.0]], pa.list_(pa.float64()))), "f gave list<item: double> for v"),
    ],
)
def test_others_are_an_error(given: pa.RecordBatch, told: str) -> None:
    with pytest.raises(TypeError, match=told):
        in_child.checked(given, SCHEMA, "f")


def test_counts_from_many_places(tmp_path: Path) -> None:
    file = tmp_path / "count"
    file.touch()
    for number in (3, 0, 4):
        in_child.Count(str(file))(number)
    assert file.stat().st_size == 7
