"""Catches files of a clean set that depend on how their rows were staged, or that hold other texts than these."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from jobs.cleaning import files
from jobs.cleaning.files import ROWS
from udfs.stores import objects

SCHEMA = pa.schema([("uri", pa.string()), ("label", pa.string()), ("size_bytes", pa.int64())])
TEXTS = ["plain", 'a,"b"\n', "", None, "=1+1", "naïve 猫", " spaces ", "back\\slash", "\r\n", "\u2028"]


def stage(folder: Path, rows: list[dict[str, Any]], sizes: list[int]) -> str:
    """Parquet files of so many rows, as Spark names them, with a column more and row groups of few rows."""
    folder.mkdir()
    start = 0
    for number, size in enumerate(sizes):
        part = [{**row, "more": 1} for row in rows[start : start + size]]
        schema = SCHEMA.append(pa.field("more", pa.int64()))
        name = f"part-{number:05}-6f1c-c000.zstd.parquet"
        pq.write_table(pa.Table.from_pylist(part, schema), folder / name, row_group_size=7)
        start += size
    (folder / "_SUCCESS").touch()
    assert start == len(rows)
    return str(folder)


@pytest.mark.parametrize("ending", files.ENDINGS)
def test_the_same_rows_give_the_same_bytes(tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row groups that begin where Spark's files or batches do, a row that is lost or there twice at a seam."""
    monkeypatch.setattr(files, "ROWS", 100)
    rows = [{"uri": f"/{n:04}", "label": TEXTS[n % len(TEXTS)], "size_bytes": n if n % 3 else None} for n in range(450)]
    written = []
    for number, sizes in enumerate(([450], [0, 99, 1, 101, 249, 0], [200, 250], [13] * 34 + [8])):
        out = tmp_path / f"{number}{ending}"
        assert files.write(str(out), stage(tmp_path / str(number), rows, sizes), SCHEMA) == 450
        written.append(out.read_bytes())
    assert len(set(written)) == 1
    if ending == ".parquet":
        found = pq.ParquetFile(tmp_path / "0.parquet")
        assert [found.metadata.row_group(n).num_rows for n in range(found.num_row_groups)] == [100] * 4 + [50]
        assert found.read().to_pylist() == rows
    elif ending == ".csv":
        convert = pacsv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False)
        parse = pacsv.ParseOptions(newlines_in_values=True)
        read = pacsv.read_csv(tmp_path / "0.csv", parse_options=parse, convert_options=convert)
        assert [row["label"] for row in read.to_pylist()] == [row["label"] for row in rows]
    else:
        lines = (tmp_path / "0.jsonl").read_bytes().decode().split("\n")
        assert [json.loads(line) for line in lines[:-1]] == rows
        assert lines[-1] == ""
        assert "猫" in lines[5]


@pytest.mark.parametrize("ending", files.ENDINGS)
def test_no_rows(tmp_path: Path, ending: str) -> None:
    """A crash, or no file, where nothing is removed."""
    out = tmp_path / f"none{ending}"
    assert files.write(str(out), stage(tmp_path / "staged", [], [0]), SCHEMA) == 0
    assert out.exists()
    if ending == ".parquet":
        assert pq.read_table(out).schema.names == SCHEMA.names
    if ending == ".csv":
        assert out.read_text() == '"uri","label","size_bytes"\n'


def test_a_file_is_whole_or_as_it_was(tmp_path: Path) -> None:
    """A run that dies half-way and leaves half a manifest in place of a good one, or rubbish beside it."""
    out = tmp_path / "made" / "set.csv"
    with objects.replacing(str(out)) as path:
        path.write_text("good")

    def die() -> None:
        with objects.replacing(str(out)) as path:
            path.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        die()
    assert out.read_text() == "good"
    assert list(out.parent.iterdir()) == [out]


def test_names() -> None:
    """A file beside the manifest that is the manifest itself, and an ending that nobody reads again."""
    assert files.beside("/a.b/set.csv", "removed") == "/a.b/set.removed.csv"
    assert files.ending_of("s3://b/SET.JSONL") == ".jsonl"
    assert files.ending_of("/a/set.csv.gz") is None
    assert ROWS == 65_536  # another number gives other bytes for the same lake
