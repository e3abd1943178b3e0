"""Catches shards that depend on more than the images and the seed, and one that is left half written."""

import hashlib
import json
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.e2e import images
from udfs.errors import ImageError
from udfs.stores import fetch, objects
from udfs.training import shards
from udfs.training.shards import LISTED, PLACED, ShardTask, Split

SPLITS = (Split(None, "all", 0, 3), Split("val", "val", 3, 1))


def listed(folder: Path, count: int = 40) -> pa.Table:
    rows = []
    for n in range(count):
        data = images.jpeg(images.picture(n))
        path = folder / f"{n}.jpg"
        path.write_bytes(data)
        rows.append({"uri": str(path), "split": "val" if n % 5 == 0 else None, "label": f"c{n % 3}" if n % 4 else None,
                     "image_id": n, "sha256": hashlib.sha256(data).hexdigest(), "format": "jpeg"})  # fmt: skip
    return pa.Table.from_pylist(rows, schema=LISTED)


def placed(table: pa.Table, seed: int = 1) -> pa.Table:
    batches = shards.places(seed, SPLITS)(iter(table.to_batches(max_chunksize=7)))
    return pa.Table.from_batches(batches, schema=PLACED)


def task(to: Path, write: str = "webdataset") -> ShardTask:
    return ShardTask(str(to), write, SPLITS, ("c0", "c1", "c2"), fetch.Limits())


def parts(table: pa.Table) -> dict[int, pa.Table]:
    return {part: table.filter(pa.compute.equal(table["part"], part)) for part in set(table["part"].to_pylist())}


def written(table: pa.Table, work: ShardTask) -> dict[str, dict[str, Any]]:
    found = [shards.shard_writer(work)(rows).to_pylist()[0] for rows in parts(table).values()]
    return {row["name"]: row for row in found}


@pytest.mark.parametrize("write", ["webdataset", "parquet"])
def test_order_of_rows_changes_nothing(write: str, tmp_path: Path) -> None:
    """A shard whose bytes depend on how rows are dealt to tasks."""
    (tmp_path / "in").mkdir()
    table = listed(tmp_path / "in")
    one = written(placed(table), task(tmp_path / "one", write))
    other = written(placed(table.take(list(range(39, -1, -1)))), task(tmp_path / "other", write))
    assert one == other
    assert sum(row["images"] for row in one.values()) == 40
    assert one["val/val-000000." + ("tar" if write == "webdataset" else "parquet")]["images"] == 8
    assert written(placed(table, 2), task(tmp_path / "third", write)) != one
    for name, row in one.items():
        assert hashlib.sha256((tmp_path / "one" / name).read_bytes()).hexdigest() == row["sha256"]


def test_labels_and_images_without(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    written(placed(listed(tmp_path / "in")), task(tmp_path / "tar"))
    written(placed(listed(tmp_path / "in")), task(tmp_path / "parquet", "parquet"))
    with tarfile.open(tmp_path / "tar" / "val" / "val-000000.tar") as tar:
        names = tar.getnames()
        assert "000000000000.cls" not in names
        assert tar.extractfile("000000000005.cls").read() == b"2"  # type: ignore[union-attr]
        assert {(member.mtime, member.uid) for member in tar.getmembers()} == {(0, 0)}
    rows = {row["image_id"]: row for row in pq.read_table(tmp_path / "parquet" / "val").to_pylist()}
    assert (rows[0]["label"], rows[0]["label_number"]) == (None, None)
    assert (rows[5]["label"], rows[5]["label_number"]) == ("c2", 2)


def test_what_was_written_stays_and_what_was_not_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard that is written twice, or that counts as written when it was cut off."""
    (tmp_path / "in").mkdir()
    table = placed(listed(tmp_path / "in"))
    whole = written(table, task(tmp_path / "whole"))
    calls = 0
    put = objects.put

    def failing(uri: str, data: bytes) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        put(uri, data)

    monkeypatch.setattr(objects, "put", failing)
    with pytest.raises(KeyboardInterrupt):
        written(table, task(tmp_path / "set"))
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "set").rglob("*.tar")}
    assert len(times) == 3, "the third is written, and not known to be"
    assert written(table, task(tmp_path / "set")) == whole
    same = [path for path, at in times.items() if path.stat().st_mtime_ns == at]
    assert len(same) == 2


def test_a_store_that_does_not_answer_leaves_no_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    table = placed(listed(tmp_path / "in"))
    monkeypatch.setattr(fetch, "fetch_all", lambda given, *_: (ImageError("timeout", "x") for _ in given))
    rows = written(table, task(tmp_path / "set"))
    assert all("timeout" in row["fault"] and row["images"] is None for row in rows.values())
    assert not [path for path in (tmp_path / "set").rglob("*") if path.is_file()]


def test_changed_and_missing_are_named(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    table = placed(listed(tmp_path / "in"))
    (tmp_path / "in" / "5.jpg").write_bytes(images.jpeg(images.picture(99)))
    (tmp_path / "in" / "10.jpg").unlink()
    row = written(table, task(tmp_path / "set"))["val/val-000000.tar"]
    assert (row["images"], row["left_out"], row["fault"]) == (6, 2, None)
    told = json.loads(Path(shards.record_of(str(tmp_path / "set"), row["name"])).read_text())["left_out"]
    assert sorted((Path(one["uri"]).name, one["why"]) for one in told) == [
        ("10.jpg", "not_found"),
        ("5.jpg", "changed"),
    ]


def test_shards_are_of_one_size() -> None:
    """Places that are not drawn evenly. 10,000 into 20: each within five standard deviations of 500."""
    splits = (replace(SPLITS[0], parts=20),)
    table = pa.Table.from_pylist(
        [{"uri": f"s3://b/{n:06d}.jpg", "image_id": n, "sha256": "", "format": "jpeg"} for n in range(10_000)],
        schema=LISTED,
    )
    found = pa.Table.from_batches(shards.places(7, splits)(iter(table.to_batches())), schema=PLACED)["part"].to_pylist()
    assert all(abs(found.count(part) - 500) < 5 * 22 for part in range(20))
