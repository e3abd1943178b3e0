"""Catches an image whose row depends on how the work is dealt out: threads, batches, isolation, where its bytes lie."""

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import simplejpeg

from tests.e2e import images
from udfs import arrow, image_pass
from udfs.children import pool
from udfs.children.messages import ROW, Board
from udfs.images import rows as image_rows
from udfs.networks import models, preparation, weight_files
from udfs.stores import fetch

MODEL = models.find(models.DEFAULT)
PICTURES = {f"{number:02d}.jpg": images.jpeg(images.picture(number)) for number in range(9)}
BAD = {"03-bad.jpg": b"no image at all", "07-cut.jpg": PICTURES["07.jpg"][:200]}
ALL = dict(sorted({**PICTURES, **BAD}.items()))


@pytest.fixture(scope="module")
def openvino(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    return preparation.prepare(MODEL, tmp_path_factory.mktemp("models")).files


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return images.write(tmp_path_factory.mktemp("pass"), ALL)


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    with (tmp_path / "board").open("w+b") as file:
        file.truncate(1 << 10)
        yield Board(file.fileno())


def task(files: tuple[Path, ...], kind: str = "openvino", decode_threads: int = 0) -> arrow.EmbedTask:
    return arrow.EmbedTask(MODEL, kind, files, None, fetch.Limits(), 4, decode_threads, 10**8)


def given(references: list[tuple[str, str | None, int | None, int | None]], vector: Any = None) -> Iterator[Any]:
    """Batches of 4, numbered as udfs.children.isolation does."""
    for start in range(0, len(references), 4):
        rows = [
            {"uri": uri, "shard": shard, "shard_offset": offset, "size_bytes": size, "image_id": 100 + start + at,
             "etag": "e", "has_features": False, "attempt": 1, image_rows.GIVEN_VECTOR: vector, ROW: start + at}
            for at, (uri, shard, offset, size) in enumerate(references[start : start + 4])
        ]  # fmt: skip
        yield pa.RecordBatch.from_pylist(rows, schema=image_rows.PENDING.append(pa.field(ROW, pa.int64())))


def files_of(folder: Path) -> list[tuple[str, str | None, int | None, int | None]]:
    return [(str(folder / name), None, None, len(data)) for name, data in ALL.items()]


def rows(work: arrow.EmbedTask, batches: Iterator[Any], board: Board) -> dict[int, dict[str, Any]]:
    """What the pass gives, by image_id; fails where an image comes twice."""
    found: dict[int, dict[str, Any]] = {}
    for batch in image_pass.embed(work)(batches, board):
        assert batch.schema == image_rows.EMBEDDED.append(pa.field(ROW, pa.int64()))
        for row in batch.to_pylist():
            assert row["image_id"] == 100 + row.pop(ROW)
            assert row["image_id"] not in found
            found[row["image_id"]] = row
    return found


def test_each_image_is_a_row_or_an_error(openvino: tuple[Path, ...], folder: Path, board: Board) -> None:
    """A bad image that loses its neighbours in the batch; a vector that is not of length 1; a row left on the board."""
    found = rows(task(openvino), given(files_of(folder)), board)
    assert [row["error"] for _, row in sorted(found.items())] == [
        {"03-bad.jpg": "not_an_image", "07-cut.jpg": "truncated"}.get(name) for name in ALL
    ]
    for row in found.values():
        if row["error"]:
            assert row["vector"] is row["norm"] is None
            assert row["sha256"] is None
        else:
            vector = np.array(row["vector"], np.float32)
            assert vector.shape == (MODEL.dimension,)
            assert abs(np.linalg.norm(vector) - 1) < 1e-3
            assert row["norm"] > 1.5, "that of the network, not of the vector"
            assert (vector == vector.astype(np.float16)).all()
            assert (row["width"], row["height"], row["format"], row["etag"]) == (96, 72, "jpeg", "e")
            assert len(row["thumbnail"]) == 32 * 32
    assert board.rows() == {}


@pytest.mark.parametrize("decode_threads", [1, 3])
def test_threads_change_nothing(decode_threads: int, openvino: tuple[Path, ...], folder: Path, board: Board) -> None:
    """Vectors that go to the wrong image where some of a batch failed, or rows that depend on the order."""
    plain = rows(task(openvino), given(files_of(folder)), board)
    assert rows(task(openvino, decode_threads=decode_threads), given(files_of(folder)), board) == plain


def test_batches_of_a_gpu_change_nothing(folder: Path, board: Board) -> None:
    """The path of a GPU, several images a call and two calls in flight, against one image at a time."""
    files = (weight_files.weights_file(MODEL, folder),)
    pytest.importorskip("torch")
    plain = rows(task(files, "torch-fp32"), given(files_of(folder)), board)
    assert rows(task(files, "torch-fp32", 2), given(files_of(folder)), board) == plain


def test_shards_give_what_files_give(openvino: tuple[Path, ...], folder: Path, board: Board, tmp_path: Path) -> None:
    """Bytes of another member, or cut ones."""
    with tarfile.open(tmp_path / "all.tar", "w") as archive:
        for name in ALL:
            archive.add(folder / name, name)
    with tarfile.open(tmp_path / "all.tar") as archive:
        members = [(f"x!/{one.name}", str(tmp_path / "all.tar"), one.offset_data, one.size) for one in archive]
    pq.write_table(pa.table({"image": list(ALL.values())}), tmp_path / "all.parquet", row_group_size=3)
    in_rows = [(f"y!/{row}", str(tmp_path / "all.parquet"), row, None) for row in range(len(ALL))]
    plain = rows(task(openvino), given(files_of(folder)), board)
    assert rows(task(openvino), given(members), board) == plain  # type: ignore[arg-type]
    assert rows(task(openvino), given(in_rows), board) == plain  # type: ignore[arg-type]


def test_given_vectors_take_the_place_of_a_network(folder: Path, board: Board) -> None:
    """An image without a usable vector that passes for embedded; features that differ from those of a network."""
    vector = [3.0, *[0.0] * (MODEL.dimension - 1)]
    found = rows(task((), ""), given(files_of(folder), vector), board)
    good = [row for row in found.values() if not row["error"]]
    assert len(good) == len(PICTURES)
    assert all(row["vector"] == [1.0, *vector[1:]] and row["norm"] is None and row["sha256"] for row in good)
    none = rows(task((), ""), given(files_of(folder)), board)
    assert sorted({row["error"] for row in none.values()}) == ["no_vector", "not_an_image", "truncated"]


def test_the_whole_way_through_a_child(openvino: tuple[Path, ...], folder: Path, board: Board) -> None:
    """What the child of udfs.children.isolation says, as Spark sees it: without the numbers of rows, and counted."""
    plain = rows(task(openvino), given(files_of(folder)), board)
    counted: list[int] = []
    without = (batch.select(image_rows.PENDING.names) for batch in given(files_of(folder)))
    found: dict[int, dict[str, Any]] = {}
    for batch in arrow.embed_batches(lambda: task(openvino), 60, counted.append)(without):
        assert batch.schema == image_rows.EMBEDDED
        found |= {row["image_id"]: row for row in batch.to_pylist()}
    pool.close()
    assert found == plain
    assert sum(counted) == len(ALL)


def test_thumbnails(folder: Path) -> None:
    """A bad image that takes the thumbnails of a page with it."""
    references = pa.schema([*image_rows.REFERENCE, ("image_id", pa.int64())])
    batches = [batch.select(references.names) for batch in given(files_of(folder))]
    made = arrow.thumbnail_batches(arrow.ThumbnailTask(fetch.Limits(), 4, 10**8, 48), 60)(iter(batches))
    found = {row["image_id"]: row["jpeg"] for batch in made for row in batch.to_pylist()}
    pool.close()
    assert [data is None for _, data in sorted(found.items())] == [name in BAD for name in ALL]
    assert all(max(simplejpeg.decode_jpeg(data).shape) == 48 for data in found.values() if data is not None)
