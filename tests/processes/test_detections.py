"""Catches a picture that ends a detector's process and takes others with it, or that is not told of."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from udfs import arrow, errors
from udfs.children import pool
from udfs.children.messages import ROW, Batches, Board
from udfs.detection.detectors import FACES, TEXT
from udfs.images.rows import DETECTED, LOOKED_FOR
from udfs.stores import fetch

OUT = DETECTED.append(pa.field(ROW, pa.int64()))


class Dying(arrow.DetectTask):
    """Sees nothing, and dies of what is called bad."""

    def open(self) -> Callable[[Batches, Board], Batches]:
        return self._work

    def _work(self, batches: Batches, board: Board) -> Batches:
        for batch in batches:
            for row in batch.to_pylist():
                with board.at(row[ROW]):
                    if row["uri"] == "bad":
                        os.kill(os.getpid(), signal.SIGSEGV)
                seen = [{"detector": name, "found": 0, "share": 0.0, "width": 0} for name in row["wanted"]]
                yield pa.RecordBatch.from_pylist([{**row, "seen": seen}], schema=OUT)


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    yield
    pool.close()


def test_a_picture_that_kills_costs_itself_alone() -> None:
    names = ["a", "bad", "c", "d"]
    wanted = [[FACES], [FACES, TEXT], [TEXT], []]
    rows = [
        {"uri": uri, "image_id": number, "etag": "e", "again": False, "wanted": of}
        for number, (uri, of) in enumerate(zip(names, wanted, strict=True))
    ]
    task = Dying(((FACES, (Path("x"),)),), fetch.Limits(1, 1.0, 0), 1, 1)
    told: list[int] = []
    run = arrow.detect_batches(lambda: task, 30.0, told.append)
    found = pa.Table.from_batches(
        run(iter([pa.RecordBatch.from_pylist(rows, schema=LOOKED_FOR)])), DETECTED
    ).to_pylist()
    assert sum(told) == len(rows)
    assert sorted(row["image_id"] for row in found) == [0, 1, 2, 3]
    for row in found:
        assert [one["detector"] for one in row["seen"]] == wanted[row["image_id"]]
        error = errors.CRASHED if row["image_id"] == 1 else None
        assert all((one["error"], one["found"]) == (error, None if error else 0) for one in row["seen"])
        assert (row["etag"], row["again"]) == ("e", False)
