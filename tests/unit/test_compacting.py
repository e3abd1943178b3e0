"""Catches rows that compacting loses, turns round or doubles, and files that it deletes too early."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from jobs.engines import delta_files, delta_log
from jobs.engines.sail_types import arrow_schema
from jobs.errors import ConfigError, LakeBusyError, LakeError
from jobs.lakes import mark
from jobs.lease import acquire
from jobs.tables import TABLES
from jobs.upkeep import command, compacting

DAY_S = 86_400


def nothing() -> None:
    """Of a lease that holds."""


def lake_of(root: Path, batches: int = 30) -> str:
    """A lake whose table `topics` has come in batches of three rows."""
    lake = str(root / "lake")
    mark(lake)
    path, table = f"{lake}/topics", TABLES["topics"]
    delta_log.create(path, table)
    for batch in range(batches):
        rows = [row(3 * batch + n) for n in range(3)]
        write_deltalake(path, pa.Table.from_pylist(rows, schema=arrow_schema(table.schema)), mode="append")
    return lake


def row(number: int) -> dict[str, Any]:
    return {
        name: {"string": str(number), "bigint": number, "int": number, "double": 0.5, "boolean": True}[kind]
        for name, kind in ((c.name, c.dataType.simpleString()) for c in TABLES["topics"].schema)
    }


def ids(lake: str) -> list[int]:
    found: list[int] = DeltaTable(f"{lake}/topics").to_pyarrow_table()["image_id"].to_pylist()
    return found


def test_rows_stay_as_they_are_and_files_become_few(tmp_path: Path) -> None:
    lake = lake_of(tmp_path)
    before = DeltaTable(f"{lake}/topics").to_pyarrow_table()
    assert compacting.join_all(lake, nothing) == {"topics": compacting.Joined(30, 1)}
    after = DeltaTable(f"{lake}/topics").to_pyarrow_table()
    key = [(name, "ascending") for name in TABLES["topics"].key]
    assert after.sort_by(key).equals(before.sort_by(key))
    assert DeltaTable(f"{lake}/topics", version=30).to_pyarrow_table().num_rows == 90
    assert compacting.join_all(lake, nothing) == {}


def test_few_files_are_left_alone_where_that_is_said(tmp_path: Path) -> None:
    lake = lake_of(tmp_path, batches=4)
    assert compacting.join_all(lake, nothing, least=5) == {}
    assert compacting.join_all(lake, nothing, least=4) == {"topics": compacting.Joined(4, 1)}


def test_row_groups_of_long_rows_hold_few(tmp_path: Path) -> None:
    """Of vectors a group of a million rows would be gigabytes."""
    lake, table = str(tmp_path / "lake"), TABLES["embeddings"]
    mark(lake)
    path = f"{lake}/embeddings"
    delta_log.create(path, table)
    schema = arrow_schema(table.schema)
    for batch in range(2):
        vectors = pa.array([[n / 7 + m for m in range(1280)] for n in range(5000)], pa.list_(pa.float32()))
        named = {
            "image_id": pa.array(range(5000 * batch, 5000 * (batch + 1))), "model": pa.array(["m"] * 5000),
            "vector": vectors,
        }  # fmt: skip
        columns = [named.get(field.name, pa.nulls(5000)).cast(field.type) for field in schema]
        write_deltalake(path, pa.Table.from_arrays(columns, schema=schema), mode="append")
    assert compacting.join_all(lake, nothing)["embeddings"].after == 1
    (name,) = delta_files.names_of(path)
    footer = pq.ParquetFile(f"{path}/{name}").metadata
    assert footer.num_rows == 10_000
    assert max(footer.row_group(n).total_byte_size for n in range(footer.num_row_groups)) < 2 * compacting.GROUP_BYTES
    assert compacting.LEAST_GROUP < 10_000


def test_what_is_old_goes_and_nothing_else(tmp_path: Path) -> None:
    """Files of versions of the last days, those that are being written, and what is there now stay."""
    lake = lake_of(tmp_path)
    folder = Path(lake) / "topics"
    compacting.join_all(lake, nothing)
    assert compacting.delete_all_old(lake, 1, nothing) == {}
    stray, fresh = folder / "part-of-a-run-that-died.parquet", folder / "part-being-written.parquet"
    for file in (stray, fresh):
        file.write_bytes(b"rows")
    os.utime(stray, (time.time() - 3 * DAY_S,) * 2)
    assert compacting.delete_all_old(lake, 1, nothing) == {"topics": 1}
    assert not stray.exists()
    assert fresh.exists()
    assert sorted(ids(lake)) == list(range(90))
    with pytest.raises(ValueError, match="0 days"):
        compacting.delete_all_old(lake, 0, nothing)


def test_a_lost_lease_stops_before_the_next_table(tmp_path: Path) -> None:
    lake = lake_of(tmp_path)

    def lost() -> None:
        raise LakeBusyError("lost")

    with pytest.raises(LakeBusyError, match="lost"):
        compacting.join_all(lake, lost)
    assert len(delta_files.names_of(f"{lake}/topics")) == 30


def test_the_command_says_what_it_did_in_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lake = lake_of(tmp_path)
    assert command.main(["--lake", lake, "--keep-days", "7"]) == 0
    assert capsys.readouterr().out == "topics: 30 files, now 1\n"
    assert command.main(["--lake", lake]) == 0
    assert capsys.readouterr().out == "nothing to do\n"
    with pytest.raises(ConfigError, match="--keep-days: must be 1 at least"):
        command.main(["--lake", lake, "--keep-days", "0"])
    with pytest.raises(LakeError, match="no lake yet"):
        command.main(["--lake", str(tmp_path / "none")])
    with acquire(lake, "another", 60), pytest.raises(LakeBusyError, match="another"):
        command.main(["--lake", lake])
