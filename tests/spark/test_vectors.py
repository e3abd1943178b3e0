"""Imported vectors: what is read, and what is refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from pyspark.sql import SparkSession

from jobs.errors import InputError
from jobs.inputs import vectors
from tests.s3_server import S3Server
from udfs.networks.models import Model

ROWS = {"/images/a.jpg": [1.0, 2.0, 3.0], "/images/b c.jpg": [0.5, 0.0, -1.0]}


def model(weights: object) -> Model:
    return Model("mine", "1", "vectors", 224, 3, "none", "me", str(weights))


def table(kind: pa.DataType | None = None, **columns: Any) -> pa.Table:
    """A table of ROWS, or of these columns. kind: of the column vector."""
    values = {"uri": list(ROWS), "vector": list(ROWS.values()), **columns}
    names = {"vector": kind or pa.list_(pa.float32())}
    return pa.table({name: pa.array(column, names.get(name)) for name, column in values.items()})


def found(spark: SparkSession, weights: object) -> dict[str, list[float] | None]:
    rows = vectors.read_vectors(spark, model(weights)).collect()
    read = {row["uri"]: row["vector"] for row in rows}
    assert len(read) == len(rows)
    return read


def refusal(spark: SparkSession, weights: object) -> str:
    with pytest.raises(InputError) as caught:
        vectors.read_vectors(spark, model(weights))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "kind",
    [pa.list_(pa.float32()), pa.list_(pa.float64()), pa.list_(pa.float32(), 3), pa.large_list(pa.float32())],
    ids=str,
)
def test_parquet(spark: SparkSession, tmp_path: Path, kind: pa.DataType) -> None:
    """A type of list that Spark reads as another, or another type than float in what comes out."""
    pq.write_table(table(kind, more=[1, 2]), tmp_path / "v.parquet")
    read = vectors.read_vectors(spark, model(tmp_path / "v.parquet"))
    assert read.schema.simpleString() == "struct<uri:string,vector:array<float>>"
    assert found(spark, tmp_path / "v.parquet") == ROWS


def test_a_folder_of_any_name_and_a_delta_table(spark: SparkSession, tmp_path: Path) -> None:
    """A folder that is taken for another kind by its name, or whose name is taken for a pattern."""
    folder = tmp_path / "vectors [1]"
    folder.mkdir()
    pq.write_table(table().slice(0, 1), folder / "1.parquet")
    pq.write_table(table().slice(1, 1), folder / "2.parquet")
    assert found(spark, folder) == ROWS
    delta = tmp_path / "v.parquet"
    write_deltalake(str(delta), table().slice(0, 2))
    assert found(spark, f"{delta}/") == ROWS
    DeltaTable(str(delta)).delete("uri LIKE '%a.jpg'")
    assert list(found(spark, delta)) == ["/images/b c.jpg"]  # the files of both rows are still there


def test_s3(spark: SparkSession, tmp_path: Path, s3: S3Server) -> None:
    """Vectors beside the images of a bucket."""
    pq.write_table(table(uri=["a.jpg", "s3a://lake/b.jpg"]), tmp_path / "v.parquet")
    s3.client().upload_file(str(tmp_path / "v.parquet"), s3.bucket, "imported/v.parquet")
    assert set(found(spark, f"s3://{s3.bucket}/imported/v.parquet")) == {"s3://lake/imported/a.jpg", "s3://lake/b.jpg"}


def test_uris_are_spelt_as_the_catalog_does(spark: SparkSession, tmp_path: Path) -> None:
    """Vectors that find no image because a URI is written in another way."""
    given = ["/images/./x//a.jpg", "file:///images/b%20c.jpg", "s3a://bucket/a b", "pics/d.jpg", "/s.tar!/a/b.jpg"]
    pq.write_table(table(uri=given, vector=[[1.0]] * 5), tmp_path / "v.parquet")
    expected = {"/images/x/a.jpg", "/images/b c.jpg", "s3://bucket/a b", f"{tmp_path}/pics/d.jpg", "/s.tar!/a/b.jpg"}
    assert set(found(spark, tmp_path / "v.parquet")) == expected


def test_vectors_that_are_no_use_are_left_to_the_embed_stage(spark: SparkSession, tmp_path: Path) -> None:
    """A run that stops for one bad vector, or an image whose vector is dropped without a row in failures."""
    bad: list[Any] = [None, [], [1.0, None, 2.0], [1e300, 0.0, 0.0]]
    names = [f"/{number}" for number in range(len(bad))]
    pq.write_table(table(pa.list_(pa.float64()), uri=names, vector=bad), tmp_path / "v.parquet")
    read = found(spark, tmp_path / "v.parquet")
    assert (read["/0"], read["/1"], read["/2"]) == (None, [], [1.0, None, 2.0])
    assert np.isinf((read["/3"] or [])[0])


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda: table().select(["uri"]), "no column 'vector' (found: uri)"),
        (lambda: table().rename_columns(["path", "vector"]), "no column 'uri' (found: path, vector)"),
        (lambda: table(pa.list_(pa.int32()), vector=[[1], [2]]), "must be an array of float or double, is array<int>"),
        (lambda: table(pa.binary(), vector=[b"1", b"2"]), "must be an array of float or double, is binary"),
        (lambda: table(uri=[1, 2]), "the column 'uri' must be text, is bigint"),
        (lambda: table(uri=["/a", None]), "None is not a path, a file: URI or an s3:// URI"),
        (lambda: table(uri=["/a", "http://x/b"]), "'http://x/b' is not a path, a file: URI or an s3:// URI"),
        (lambda: table(uri=["/x/a.jpg", "file:///x/../x/a.jpg"]), '"/x/a.jpg" has 2 vectors: give each image one'),
    ],
)  # fmt: skip
def test_tables_that_are_refused(spark: SparkSession, tmp_path: Path, made: Callable[[], pa.Table], told: str) -> None:
    """Whole numbers taken for an embedding; an image that gets one of two vectors at random; a traceback of Spark."""
    columns = made()
    pq.write_table(columns, tmp_path / "v.parquet")
    line = refusal(spark, tmp_path / "v.parquet")
    assert line.startswith(f"{tmp_path / 'v.parquet'}: ")
    assert told in line


def test_what_is_no_table_is_named(spark: SparkSession, tmp_path: Path) -> None:
    """A traceback for a path that is misspelt, a folder of images, or a file of another format."""
    assert "check its spelling" in refusal(spark, tmp_path / "none.parquet")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.jpg").write_bytes(b"\xff\xd8 no table")
    assert "cannot be read as parquet" in refusal(spark, tmp_path / "pictures")
    (tmp_path / "v.parquet").write_bytes(b"PAR1 cut")
    assert "cannot be read as parquet" in refusal(spark, tmp_path / "v.parquet")
