"""Catches a version that is not the newest, and tables that another writer's features make unsafe to write."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.engines import delta_log
from jobs.engines.sail_types import arrow_schema
from jobs.errors import LakeError
from jobs.tables import TABLES

TABLE = TABLES["centres"]


def table(folder: Path) -> str:
    path = str(folder / "centres")
    delta_log.create(path, TABLE)
    return path


def added(path: str, name: str, rows: int) -> delta_log.File:
    file = Path(path) / name
    file.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table({"cell": pa.array(range(rows), pa.int32())}), file)
    return delta_log.File(name, file.stat().st_size, 0, rows)


def test_versions_and_files(tmp_path: Path) -> None:
    path = str(tmp_path / "centres")
    assert delta_log.version(path) is None
    delta_log.create(path, TABLE)
    delta_log.create(path, TABLE)  # nothing more
    assert delta_log.version(path) == 0
    odd = "a b/ü #+é.parquet"
    delta_log.commit(delta_log.delta_table(path), [added(path, odd, 3)], "append")
    delta_log.commit(delta_log.delta_table(path), [added(path, "c/d.parquet", 2)], "append")
    assert delta_log.version(path) == 2
    assert delta_log.files_of(delta_log.delta_table(path), path) == {f"{path}/{odd}": 3, f"{path}/c/d.parquet": 2}
    delta_log.commit(delta_log.delta_table(path), [], "overwrite")
    assert (delta_log.version(path), delta_log.files_of(delta_log.delta_table(path), path)) == (3, {})


def test_the_newest_after_a_checkpoint(tmp_path: Path) -> None:
    path = table(tmp_path)
    for number in range(12):
        delta_log.commit(delta_log.delta_table(path), [added(path, f"{number}/x.parquet", 1)], "append")
    delta_log.delta_table(path).create_checkpoint()
    assert delta_log.version(path) == 12
    log = Path(path) / "_delta_log"
    for name in list(log.glob("0*.json")):
        name.unlink()  # as a log that is cleaned up: the checkpoint alone is left
    assert delta_log.version(path) == 12
    (log / "_last_checkpoint").write_text("no JSON")
    assert delta_log.version(path) is None or delta_log.version(path) == 12


def test_few_commits_are_read_to_open_a_table(tmp_path: Path) -> None:
    """A table whose every opening reads up to a hundred files, on S3 a request each."""
    path = table(tmp_path)
    for number in range(2 * delta_log.CHECKPOINT_EACH):
        rows = pa.Table.from_pylist([{"cell": number, "vector": [0.0]}], schema=arrow_schema(TABLE.schema))
        nothing = rows.select(list(TABLE.key)).slice(0, 0)
        delta_log.make(path, TABLE, rows, nothing, new=number % 2 == 0, once=("test", number + 1))
    told = json.loads((Path(path) / "_delta_log" / "_last_checkpoint").read_text())
    assert (delta_log.version(path) or 0) - told["version"] < delta_log.CHECKPOINT_EACH
    assert delta_log.delta_table(path).to_pyarrow_table().num_rows == 2 * delta_log.CHECKPOINT_EACH


@pytest.mark.parametrize(
    "protocol",
    [
        {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["deletionVectors"],
         "writerFeatures": ["deletionVectors"]},
        {"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": ["rowTracking", "domainMetadata"]},
        {"minReaderVersion": 1, "minWriterVersion": 4},
        {"minReaderVersion": 2, "minWriterVersion": 5},
    ],
)  # fmt: skip
def test_other_features_are_refused(tmp_path: Path, protocol: dict[str, object]) -> None:
    path = table(tmp_path)
    commit = Path(path) / "_delta_log" / f"{1:020}.json"
    commit.write_text(json.dumps({"protocol": protocol}) + "\n")
    with pytest.raises(LakeError, match="cannot write"):
        delta_log.delta_table(path)


def test_named_features_that_hold_nothing_else_are_taken(tmp_path: Path) -> None:
    path = table(tmp_path)
    named = {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": [], "writerFeatures": ["checkConstraints"]}
    (Path(path) / "_delta_log" / f"{1:020}.json").write_text(json.dumps({"protocol": named}) + "\n")
    assert delta_log.delta_table(path).version() == 1
