"""Catches changes of the inputs that are missed or made up, ids given twice, and manifests that are misread."""

from __future__ import annotations

import datetime
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pyspark.sql import functions as F

from jobs import catalog
from jobs.catalog import LISTED, Inputs, Source
from jobs.errors import InputError
from jobs.tables import TABLES

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

DAY = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
ODD_NAMES = ["a b.jpg", "train/o'cat/\"1\".jpg", "train/ねこ🐈/1.jpg", "train/a\nb/1\n2.jpg", "train/a,b/#%41?.jpg",
             "train/cat/deep/1.jpg", "train/ cat /1.jpg", r"train/a\b$1/1.jpg", "test/c\rd/x", "/x/1.jpg"]  # fmt: skip


def listed(spark: SparkSession, *rows: dict[str, Any]) -> DataFrame:
    usual = {"source": "/in", "etag": "e1", "size_bytes": 10, "modified_at": DAY}
    values = [{**usual, "relative": row["uri"].removeprefix("/in/"), **row} for row in rows]
    return spark.createDataFrame([tuple(row.get(name) for name in LISTED.names) for row in values], LISTED)


def images(spark: SparkSession, *rows: tuple[int, dict[str, Any]]) -> DataFrame:
    names = TABLES["images"].schema.names
    usual = {"source": "/in", "etag": "e1", "size_bytes": 10, "modified_at": DAY}
    values = [{**usual, "image_id": image_id, **row} for image_id, row in rows]
    return spark.createDataFrame([tuple(row.get(name) for name in names) for row in values], TABLES["images"].schema)


def todo(given: DataFrame, known: DataFrame, first_id: int) -> dict[str, tuple[str, int]]:
    """uri -> (change, image_id)."""
    found = catalog.changes(given, known, first_id)
    assert set(found.columns) == {*TABLES["images"].schema.names, "change", "removed"}
    rows = found.collect()
    assert all(row["removed"] == (row["change"] == "removed") for row in rows)
    assert len({row["image_id"] for row in rows}) == len(rows)
    return {row["uri"]: (row["change"], row["image_id"]) for row in rows}


def test_changes(spark: SparkSession) -> None:
    """An image read again for its label, one not read though its bytes changed, an id that moves or comes back."""
    later = DAY + datetime.timedelta(hours=1)
    known = images(
        spark,
        (0, {"uri": "/in/same"}), (1, {"uri": "/in/etag"}), (2, {"uri": "/in/size"}), (3, {"uri": "/in/label"}),
        (4, {"uri": "/in/split", "split": "train"}), (5, {"uri": "/in/time"}), (6, {"uri": "/in/gone"}),
        (7, {"uri": "/in/both"}), (8, {"uri": "/in/nulls", "etag": None, "size_bytes": None, "modified_at": None}),
        (9, {"uri": "/in/first etag", "etag": None}), (10, {"uri": "/in/source"}),
    )  # fmt: skip
    given = listed(
        spark,
        {"uri": "/in/same"}, {"uri": "/in/etag", "etag": "e2"}, {"uri": "/in/size", "size_bytes": 11},
        {"uri": "/in/label", "label": "cat"}, {"uri": "/in/split"}, {"uri": "/in/time", "modified_at": later},
        {"uri": "/in/both", "etag": "e2", "label": "cat"},
        {"uri": "/in/nulls", "etag": None, "size_bytes": None, "modified_at": None},
        {"uri": "/in/first etag"}, {"uri": "/in/source", "source": "web"},
        {"uri": "/in/new b"}, {"uri": "/in/new a"}, {"uri": "/in/Same"},
    )  # fmt: skip
    expected = {
        "/in/etag": ("changed", 1), "/in/size": ("changed", 2), "/in/label": ("relabelled", 3),
        "/in/split": ("relabelled", 4), "/in/time": ("relabelled", 5), "/in/gone": ("removed", 6),
        "/in/both": ("changed", 7), "/in/first etag": ("changed", 9), "/in/source": ("relabelled", 10),
        "/in/Same": ("added", 20), "/in/new a": ("added", 21), "/in/new b": ("added", 22),
    }  # fmt: skip
    assert todo(given, known, 20) == expected
    assert todo(given.repartition(5), known.repartition(3), 20) == expected


def test_merged_changes_leave_nothing_to_do(spark: SparkSession) -> None:
    """A change that is found again at every run, and rows of changed images that still hold the old values."""
    known = images(spark, (0, {"uri": "/in/a"}), (1, {"uri": "/in/b"}), (2, {"uri": "/in/c"}))
    given = listed(spark, {"uri": "/in/b", "etag": "e2", "label": "x"}, {"uri": "/in/c"}, {"uri": "/in/d"})
    found = catalog.changes(given, known, 3)
    names = TABLES["images"].schema.names
    untouched = known.join(found.select("image_id"), "image_id", "left_anti")
    after = untouched.select(*names).unionByName(found.where(~F.col("removed")).select(*names))
    values = {row["uri"]: (row["image_id"], row["etag"], row["label"]) for row in after.collect()}
    assert values == {"/in/b": (1, "e2", "x"), "/in/c": (2, "e1", None), "/in/d": (3, "e1", None)}
    assert todo(given, after, 4) == {}


def test_an_image_that_comes_back_gets_a_new_id(spark: SparkSession) -> None:
    """The id of a removed image given to another: its old findings would be taken for the new one's."""
    assert todo(listed(spark, {"uri": "/in/a"}), images(spark), 7) == {"/in/a": ("added", 7)}


def test_layout_in_spark_is_layout_in_python(spark: SparkSession) -> None:
    """A path on which Java's regular expressions differ from Python's: a newline, a quote, an emoji."""
    frame = listed(spark, *({"uri": f"/in/{name}", "relative": name} for name in ODD_NAMES))
    for layout in ("{split}/{label}/*", "**/{label}/*", "{split}/{label}/*.jpg", "train/{label}/**"):
        pattern, names = catalog.layout_pattern(layout)
        rows = {row["relative"]: row for row in catalog.with_layout(frame, layout).collect()}
        assert len(rows) == len(ODD_NAMES)
        for name in ODD_NAMES:
            found = re.search(pattern, name)
            expected = found.groups() if found else (None,) * len(names)
            assert tuple(rows[name][column] for column in names) == expected, (layout, name)


def test_a_layout_keeps_what_it_does_not_name(spark: SparkSession) -> None:
    """The label of a manifest lost because the path does not fit."""
    frame = listed(spark, {"uri": "/in/x.jpg", "label": "cat", "split": "val"})
    (row,) = catalog.with_layout(frame, "{label}/*").collect()
    assert (row["label"], row["split"], row["source"]) == ("cat", "val", "/in")


Read = dict[str, tuple[str | None, str | None, str]]


def read(spark: SparkSession, source: Source) -> Read:
    """uri -> (label, split, source) of a manifest."""
    rows = catalog.read_manifest(spark, source).collect()
    assert all(row["relative"] == row["uri"] for row in rows)
    return {row["uri"]: (row["label"], row["split"], row["source"]) for row in rows}


NAMES = ["a b.jpg", 'say "hi", twice.jpg', "two\nlines.jpg", "ねこ🐈.jpg", "50%41#1?.jpg", " led by a space.jpg"]


@pytest.mark.parametrize("kind", ["csv", "json", "parquet", "delta"])
def test_every_kind_of_manifest(spark: SparkSession, tmp_path: Path, kind: str) -> None:
    """A name cut or unescaped on its way, a relative path joined to the wrong folder, a column that is not taken."""
    folder = tmp_path / ("a 1 b" if kind == "csv" else "a [1] {b}")  # CSV over several lines takes a path for a pattern
    folder.mkdir()
    rows: list[dict[str, Any]] = [
        {"uri": name, "label": f"l {number}", "split": "train"} for number, name in enumerate(NAMES)
    ]
    rows += [{"uri": "/abs/1.jpg", "label": "x", "split": None}, {"uri": "s3a://b/k%41", "label": None, "split": None}]
    file = folder / {"csv": "m.csv", "json": "m.jsonl", "parquet": "m.parquet", "delta": "m"}[kind]
    if kind == "csv":
        quoted = ['"' + row["uri"].replace('"', '""') + f'",{row["label"] or ""},{row["split"] or ""}' for row in rows]
        file.write_text("uri,label,split\n" + "\n".join(quoted) + "\n", encoding="utf-8")
    elif kind == "json":
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif kind == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(rows), file)
    else:
        spark.createDataFrame(rows, "uri string, label string, split string").write.format("delta").save(str(file))
    source = catalog.find_source(str(file))
    assert source == Source(str(file), kind)
    base = file if kind == "delta" else folder
    expected: Read = {f"{base}/{name}": (f"l {n}", "train", str(file)) for n, name in enumerate(NAMES)}
    expected |= {"/abs/1.jpg": ("x", None, str(file)), "s3://b/k%41": (None, None, str(file))}
    assert read(spark, source) == expected


def manifest(folder: Path, text: str) -> Source:
    file = folder / "m.csv"
    file.write_text(text)
    return Source(str(file), "csv")


def test_columns_that_a_manifest_may_have(spark: SparkSession, tmp_path: Path) -> None:
    """A number that is no number, which ends the run; a time or a size that is dropped; columns in another order."""
    source = manifest(
        tmp_path,
        "note,size_bytes,uri,etag,source,modified_at\nx,12,a.jpg,e1,web,2024-01-01T00:00:00Z\ny,many,b.jpg,,,soon\n",
    )
    frame = catalog.read_manifest(spark, source)
    assert frame.columns == LISTED.names
    rows = {Path(row["uri"]).name: row for row in frame.collect()}
    first, second = rows["a.jpg"], rows["b.jpg"]
    assert (first["size_bytes"], first["etag"], first["source"]) == (12, "e1", "web")
    assert first["modified_at"].astimezone(datetime.UTC) == DAY
    assert (second["size_bytes"], second["etag"], second["modified_at"]) == (None, None, None)
    assert second["source"] == source.uri


def test_a_manifest_without_uris_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    """A line that does not say what is wrong: it names the columns that are there."""
    with pytest.raises(InputError, match=r"no column 'uri' \(found: path, label\)"):
        catalog.read_manifest(spark, manifest(tmp_path, "path,label\na.jpg,x\n"))
    with pytest.raises(InputError, match=r"no column 'uri' \(found: none\)"):
        catalog.read_manifest(spark, manifest(tmp_path, ""))
    file = tmp_path / "m.parquet"
    file.write_text("no parquet")
    with pytest.raises(InputError, match="cannot be read as parquet"):
        catalog.read_manifest(spark, Source(str(file), "parquet"))


@pytest.mark.parametrize("bad", ["http://host/a.jpg", '""', "s3:///key"])
def test_a_uri_that_is_none_is_refused(spark: SparkSession, tmp_path: Path, bad: str) -> None:
    """A reference dropped in silence."""
    with pytest.raises(InputError, match="is not a path, a file: URI or an s3:// URI"):
        catalog.read_manifest(spark, manifest(tmp_path, f"uri,label\na.jpg,x\n{bad},y\n"))


def test_manifests_together(spark: SparkSession, tmp_path: Path) -> None:
    """An image given twice under two spellings, and manifests that name nothing."""
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    first = manifest(tmp_path / "1", "uri,label\na.jpg,x\n")

    def together(*sources: Source) -> DataFrame | None:
        return catalog.read_manifests(spark, Inputs([], None, [], list(sources), ()))

    both = together(first, manifest(tmp_path / "2", "uri,split\na.jpg,train\n"))
    assert both is not None
    assert {row["uri"] for row in both.collect()} == {f"{tmp_path}/1/a.jpg", f"{tmp_path}/2/a.jpg"}
    again = manifest(tmp_path / "2", f"uri\nb.jpg\nfile://{tmp_path}/1/./a.jpg\n")
    with pytest.raises(InputError, match=re.escape(f'"{tmp_path}/1/a.jpg" is given 2 times')):
        together(first, again)
    with pytest.raises(InputError, match="no reference in it"):
        together(manifest(tmp_path / "2", "uri\n"))
    assert together() is None
