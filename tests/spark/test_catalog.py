"""Catches changes of the inputs that are missed or made up, ids given twice, and manifests that are misread."""

from __future__ import annotations

import datetime
import gzip
import io
import json
import os
import re
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake
from pyspark.sql import functions as F

from jobs import catalog
from jobs.engines.frames import frame_of
from jobs.errors import InputError
from jobs.inputs import layout, listing, manifests, members, sources
from jobs.inputs.sources import LISTED, Inputs, Source
from jobs.stage import Context
from jobs.tables import TABLES
from tests.s3_server import S3Server
from tests.spark import small_lake
from udfs.errors import ImageError
from udfs.stores import fetch
from udfs.stores.listing import stat

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

DAY = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
ODD_NAMES = ["a b.jpg", "train/o'cat/\"1\".jpg", "train/ねこ🐈/1.jpg", "train/a\nb/1\n2.jpg", "train/a,b/#%41?.jpg",
             "train/cat/deep/1.jpg", "train/ cat /1.jpg", r"train/a\b$1/1.jpg", "test/c\rd/x", "/x/1.jpg"]  # fmt: skip


def listed(spark: SparkSession, *rows: dict[str, Any]) -> DataFrame:
    usual = {"source": "/in", "etag": "e1", "size_bytes": 10, "modified_at": DAY}
    values = [{**usual, "relative": row["uri"].removeprefix("/in/"), **row} for row in rows]
    return frame_of(spark, [tuple(row.get(name) for name in LISTED.names) for row in values], LISTED)


def images(spark: SparkSession, *rows: tuple[int, dict[str, Any]]) -> DataFrame:
    names = TABLES["images"].schema.names
    usual = {"source": "/in", "etag": "e1", "size_bytes": 10, "modified_at": DAY}
    values = [{**usual, "image_id": image_id, **row} for image_id, row in rows]
    return frame_of(spark, [tuple(row.get(name) for name in names) for row in values], TABLES["images"].schema)


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
    for given in ("{split}/{label}/*", "**/{label}/*", "{split}/{label}/*.jpg", "train/{label}/**"):
        pattern, names = layout.layout_pattern(given)
        rows = {row["relative"]: row for row in layout.with_layout(frame, given).collect()}
        assert len(rows) == len(ODD_NAMES)
        for name in ODD_NAMES:
            found = re.search(pattern, name)
            expected = found.groups() if found else (None,) * len(names)
            assert tuple(rows[name][column] for column in names) == expected, (layout, name)


def test_a_layout_keeps_what_it_does_not_name(spark: SparkSession) -> None:
    """The label of a manifest lost because the path does not fit."""
    frame = listed(spark, {"uri": "/in/x.jpg", "label": "cat", "split": "val"})
    (row,) = layout.with_layout(frame, "{label}/*").collect()
    assert (row["label"], row["split"], row["source"]) == ("cat", "val", "/in")


Read = dict[str, tuple[str | None, str | None, str]]


def read(spark: SparkSession, source: Source) -> Read:
    """uri -> (label, split, source) of a manifest."""
    rows = manifests.read_manifest(spark, source).collect()
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
        pq.write_table(pa.Table.from_pylist(rows), file)
    else:
        write_deltalake(str(tmp_path / "plain"), pa.Table.from_pylist(rows))  # which takes no [ in a path
        (tmp_path / "plain").rename(file)
    source = sources.find_source(str(file))
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
    frame = manifests.read_manifest(spark, source)
    assert frame.columns == LISTED.names
    rows = {Path(row["uri"]).name: row for row in frame.collect()}
    first, second = rows["a.jpg"], rows["b.jpg"]
    assert (first["size_bytes"], first["etag"], first["source"]) == (12, "e1", "web")
    assert first["modified_at"].astimezone(datetime.UTC) == DAY
    assert (second["size_bytes"], second["etag"], second["modified_at"]) == (None, None, None)
    assert second["source"] == source.uri


@pytest.mark.parametrize("name", ["path", "file_name", "filename", "filepath", "image", "image_path", "URI", " uri"])
def test_what_others_call_uri(
    spark: SparkSession, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A label that is lost in silence for its capital letter or a blank, and a name that is taken without a word."""
    frame = manifests.read_manifest(spark, manifest(tmp_path, f"{name}, Label\na.jpg,cat\n"))
    assert [(Path(row["uri"]).name, row["label"]) for row in frame.collect()] == [("a.jpg", "cat")]
    told = capsys.readouterr().out
    assert (f"the column {name!r} is taken for 'uri'" in told) == (name.strip().lower() != "uri")


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"uri,label,label\na.jpg,x,y\n", "has the column 'label' twice"),
        (b"uri,label, Label\na.jpg,x,y\n", "has the column 'label' twice"),
        (b"uri;label\na.jpg;x\n", "semicolons"),
        (b"uri\tlabel\na.jpg\tx\n", "tabs"),
        ("uri,label\na.jpg,x\n".encode("utf-16"), "UTF-16"),
        (b"uri,label\na.jpg,x\nb.jpg,caf\xe9\n", r"line 3, byte 10 is no UTF-8 \(0xe9\)"),
    ],
)
def test_a_csv_that_would_be_misread(spark: SparkSession, tmp_path: Path, data: bytes, told: str) -> None:
    """A letter that is replaced, and a label that is dropped, without a word."""
    (tmp_path / "m.csv").write_bytes(data)
    with pytest.raises(InputError, match=told):
        manifests.read_manifest(spark, Source(str(tmp_path / "m.csv"), "csv"))


def test_a_manifest_without_uris_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    """A line that does not say what is wrong: it names the columns that are there."""
    with pytest.raises(InputError, match=r"no column 'uri'.*\(found: place, label\)"):
        manifests.read_manifest(spark, manifest(tmp_path, "place,label\na.jpg,x\n"))
    with pytest.raises(InputError, match=r"no column 'uri'.*\(found: path, image\)"):
        manifests.read_manifest(spark, manifest(tmp_path, "path,image\na.jpg,b.jpg\n"))
    with pytest.raises(InputError, match=r"no column 'uri'.*\(found: none\)"):
        manifests.read_manifest(spark, manifest(tmp_path, ""))
    file = tmp_path / "m.parquet"
    file.write_text("no parquet")
    with pytest.raises(InputError, match="cannot be read as parquet"):
        manifests.read_manifest(spark, Source(str(file), "parquet"))


@pytest.mark.parametrize("bad", ["http://host/a.jpg", '""', "s3:///key"])
def test_a_uri_that_is_none_is_refused(spark: SparkSession, tmp_path: Path, bad: str) -> None:
    """A reference dropped in silence."""
    with pytest.raises(InputError, match="is not a path, a file: URI or an s3:// URI"):
        manifests.read_manifest(spark, manifest(tmp_path, f"uri,label\na.jpg,x\n{bad},y\n"))


def test_manifests_together(spark: SparkSession, tmp_path: Path) -> None:
    """An image given twice under two spellings, and manifests that name nothing."""
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    first = manifest(tmp_path / "1", "uri,label\na.jpg,x\n")

    def together(*sources: Source) -> DataFrame | None:
        return manifests.read_manifests(spark, Inputs([], None, [], list(sources), ()))

    both = together(first, manifest(tmp_path / "2", "uri,split\na.jpg,train\n"))
    assert both is not None
    assert {row["uri"] for row in both.collect()} == {f"{tmp_path}/1/a.jpg", f"{tmp_path}/2/a.jpg"}
    again = manifest(tmp_path / "2", f"uri\nb.jpg\nfile://{tmp_path}/1/./a.jpg\n")
    with pytest.raises(InputError, match=re.escape(f'"{tmp_path}/1/a.jpg" is given 2 times')):
        together(first, again)
    with pytest.raises(InputError, match="no reference in it"):
        together(manifest(tmp_path / "2", "uri\n"))
    assert together() is None


# Shards


def tar_of(files: dict[str, bytes], *again: str) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for name, data in [*files.items(), *((name, b"again") for name in again)]:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return sink.getvalue()


def parquet_of(**columns: list[Any]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def catalogued(
    context: Context, *given: str | Path, layout: str | None = None, leave_out: tuple[str, ...] = ()
) -> dict[str, int]:
    """What the stage counts."""
    inputs = sources.check_inputs(context.config, [str(one) for one in given], layout, leave_out)
    references = manifests.read_manifests(context.lake.spark, inputs)
    return catalog.catalog(context, inputs, references)


Images = dict[str, dict[str, Any]]


def images_of(context: Context) -> Images:
    rows = [row.asDict() for row in context.lake.read("images").collect()]
    assert len({row["uri"] for row in rows}) == len(rows)
    assert len({row["image_id"] for row in rows}) == len(rows)
    assert all((row["shard"] is None) == (row["shard_offset"] is None) for row in rows)
    return {row["uri"]: row for row in rows}


def bytes_of(row: dict[str, Any]) -> bytes:
    reference = fetch.Reference(row["uri"], row["shard"], row["shard_offset"], row["size_bytes"])
    return fetch.fetch(reference, fetch.Limits(1_000_000, 5.0, 1))


def mixed_folder(root: Path) -> dict[str, bytes]:
    """Writes images alone and in shards, and other things. Returns name below root -> bytes of each image."""
    first = {"a.jpg": b"1", "cat/b.jpg": b"22", "cat/b.cls": b"x", "c.txt": b"no"}
    write = {
        "alone.jpg": b"0",
        "train/1.tar": tar_of(first, "a.jpg"),
        "train/2.tar": tar_of({"./a.png": b"333"}),
        "p.parquet": parquet_of(image=[b"4", b"55"], label=["l", None]),
        "table.parquet": parquet_of(n=[1]),
        "3.tar.gz": b"\x1f\x8b",
        "delta/_delta_log/0.json": b"{}",
        "delta/part-0.parquet": parquet_of(image=[b"old version"]),
        ".hidden/1.tar": tar_of({"a.jpg": b"no"}),
    }
    for name, data in write.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return {
        "alone.jpg": b"0", "train/1.tar!/a.jpg": b"1", "train/1.tar!/cat/b.jpg": b"22", "train/2.tar!/a.png": b"333",
        "p.parquet!/0": b"4", "p.parquet!/1": b"55",
    }  # fmt: skip


def test_a_folder_with_shards(spark: SparkSession, tmp_path: Path) -> None:
    """Members lost, made up or of a wrong place; one name twice that makes two rows of one URI; a shard that is listed
    again though it did not change, or not though it did; ids that move."""
    root = tmp_path / "in"
    expected = mixed_folder(root)
    with small_lake.on_disk(spark, tmp_path / "lake") as context:
        counts = catalogued(context, root)
        # c.txt, table.parquet, 3.tar.gz, 0.json and the Parquet file of the Delta table
        assert (counts["in"], counts["added"], counts["skipped_files"]) == (7, 7, 5)
        found = images_of(context)
        (again,) = set(found) - {f"{root}/{name}" for name in expected}
        assert again == f"{root}/train/1.tar!/a.jpg!{found[again]['shard_offset']}"
        assert {name: bytes_of(found[f"{root}/{name}"]) for name in expected} == expected
        assert bytes_of(found[again]) == b"again"
        assert {name.removeprefix(f"{root}/"): row["label"] for name, row in found.items() if row["label"]} == {
            "train/1.tar!/cat/b.jpg": "x", "p.parquet!/0": "l",
        }  # fmt: skip
        member = found[f"{root}/train/1.tar!/cat/b.jpg"]
        version = stat(f"{root}/train/1.tar")
        assert (member["etag"], member["modified_at"].astimezone(datetime.UTC)) == (version.etag, version.modified_at)
        assert (member["shard"], member["size_bytes"], member["source"]) == (f"{root}/train/1.tar", 2, str(root))
        assert found[f"{root}/p.parquet!/1"]["size_bytes"] is None

        # The second shard now holds nonsense, but looks as before: it must not be opened. The first has changed.
        second, times = root / "train/2.tar", (root / "train/2.tar").stat()
        second.write_bytes(b"\xff" * times.st_size)
        os.utime(second, ns=(times.st_atime_ns, times.st_mtime_ns))
        (root / "train/1.tar").write_bytes(tar_of({"0.jpg": b"new", "cat/b.jpg": b"moved"}))
        counts = catalogued(context, root)
        assert {name: counts[name] for name in ("in", "added", "changed", "relabelled", "removed")} == {
            "in": 6, "added": 1, "changed": 1, "relabelled": 0, "removed": 2,
        }  # fmt: skip
        now = images_of(context)
        assert bytes_of(now[f"{root}/train/1.tar!/cat/b.jpg"]) == b"moved"
        assert {uri: row["image_id"] for uri, row in now.items() if uri in found} == {
            uri: row["image_id"] for uri, row in found.items() if uri in now
        }
        assert now[f"{root}/train/1.tar!/0.jpg"]["image_id"] == 7
        # With other settings every shard is opened: the nonsense is found, and stands for itself from then on.
        for _ in range(2):
            counts = catalogued(context, root, layout="{split}/**")
            now = images_of(context)
            broken = now[str(second)]
            assert (counts["in"], broken["shard"], broken["split"]) == (6, None, "train")
            assert now[f"{root}/train/1.tar!/cat/b.jpg"]["split"] == "train"
        assert counts["wrote"] == 0
        with pytest.raises(ImageError, match="corrupt: not a whole tar archive"):
            bytes_of(broken)


def test_shards_as_inputs(spark: SparkSession, tmp_path: Path) -> None:
    """A Parquet file of images taken for a manifest, or the reverse; members of a single archive that fit no layout."""
    expected = mixed_folder(tmp_path)
    (tmp_path / "m.parquet").write_bytes(parquet_of(uri=["alone.jpg"], image=[b"thumbnail"]))
    (tmp_path / "rows.parquet").mkdir()
    (tmp_path / "rows.parquet" / "part-0.parquet").write_bytes(parquet_of(jpg=[b"7"]))
    (tmp_path / "refs.parquet").mkdir()
    (tmp_path / "refs.parquet" / "part-0.parquet").write_bytes(parquet_of(uri=["../alone.jpg"]))
    kinds = {"train/1.tar": "shard", "p.parquet": "shard", "rows.parquet": "folder", "m.parquet": "parquet",
             "refs.parquet": "parquet", "table.parquet": "parquet"}  # fmt: skip
    assert {name: sources.find_source(str(tmp_path / name)).kind for name in kinds} == kinds
    given = [tmp_path / name for name in ("train/1.tar", "p.parquet", "rows.parquet", "m.parquet")]
    with small_lake.on_disk(spark, tmp_path / "lake") as context:
        catalogued(context, *given, layout="{label}/*.jpg")
        found = images_of(context)
        assert len(found) == 7
        assert bytes_of(found[f"{tmp_path}/p.parquet!/1"]) == expected["p.parquet!/1"]
        assert bytes_of(found[f"{tmp_path}/rows.parquet/part-0.parquet!/0"]) == b"7"
        row = found[f"{tmp_path}/train/1.tar!/cat/b.jpg"]
        assert (row["label"], row["source"]) == ("cat", f"{tmp_path}/train/1.tar")
        with pytest.raises(InputError, match="is given twice"):
            catalogued(context, tmp_path / "train", tmp_path / "train/1.tar")


def test_folders_without_images_in_their_shards(spark: SparkSession, tmp_path: Path) -> None:
    """An empty lake made in silence, and shards listed though they are switched off."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "t.tar").write_bytes(tar_of({"a.txt": b""}))
    (tmp_path / "in" / "p.parquet").write_bytes(parquet_of(n=[1]))
    with small_lake.on_disk(spark, tmp_path / "lake") as context:
        with pytest.raises(InputError, match="/in: no image in it"):
            catalogued(context, tmp_path / "in")
        (tmp_path / "in" / "t.tar").write_bytes(tar_of({"a.jpg": b"1"}))
        with pytest.raises(InputError, match=r"holds no image .*heif"):
            catalogued(small_lake.with_settings(context, "catalog.shards=[]"), tmp_path / "in")
        counts = catalogued(small_lake.with_settings(context, "catalog.shards=[tar]"), tmp_path / "in")
        assert (counts["in"], counts["skipped_files"]) == (1, 1)


def test_members_in_a_manifest(spark: SparkSession, tmp_path: Path) -> None:
    """A place in a shard that is dropped on its way, or half of one that is taken for a whole."""
    (tmp_path / "s.tar").write_bytes(tar_of({"a.jpg": b"one", "b.jpg": b"two"}))
    text = "uri,shard,shard_offset,size_bytes\ns.tar!/b.jpg,s.tar,1536,3\nalone.jpg,,,\np!/3,/d/p.parquet,3,\n"
    source = manifest(tmp_path, text)
    references = manifests.read_manifest(spark, source)
    staged = manifests.stat_missing(references, 2, fetch.Limits())
    rows = {row["uri"]: row.asDict() for row in staged.collect()}
    one = rows[f"{tmp_path}/s.tar!/b.jpg"]
    assert (one["shard"], one["shard_offset"], one["size_bytes"]) == (f"{tmp_path}/s.tar", 1536, 3)
    assert one["etag"] == stat(f"{tmp_path}/s.tar").etag
    assert bytes_of(one) == b"two"
    assert rows[f"{tmp_path}/alone.jpg"]["shard"] is None
    assert rows[f"{tmp_path}/p!/3"]["shard"] == "/d/p.parquet"
    for bad, why in (
        ("uri,shard\na.jpg,s.tar\n", "must be there both"),
        ("uri,shard_offset\na.jpg,3\n", "must be there both"),
        ("uri,shard,shard_offset\na.jpg,s.tar,\n", "only one of shard and shard_offset"),
        ("uri,shard,shard_offset\na.jpg,,7\n", "only one of shard and shard_offset"),
        ("uri,shard,shard_offset\na.jpg,s.tar,7\n", "has no size_bytes"),
        ("uri,shard,shard_offset,size_bytes\na.jpg,http://x/s.tar,7,7\n", "is not a path"),
    ):
        with pytest.raises(InputError, match=why):
            manifests.read_manifest(spark, manifest(tmp_path, bad))


def test_a_member_that_moved_has_changed(spark: SparkSession) -> None:
    """Features of an image kept for the bytes of another."""
    place = {"shard": "/in/s.tar", "shard_offset": 512}
    row = {"uri": "/in/row", "shard": "/in/p.parquet", "shard_offset": 1}
    known = images(
        spark,
        (0, {"uri": "/in/same", **place}),
        (1, {"uri": "/in/moved", **place}),
        (2, {"uri": "/in/packed"}),
        (3, row),
    )
    given = listed(
        spark,
        {"uri": "/in/same", **place}, {"uri": "/in/moved", "shard": "/in/s.tar", "shard_offset": 1024},
        {"uri": "/in/packed", **place}, {**row, "shard": "/in/q.parquet"},
    )  # fmt: skip
    assert todo(given, known, 4) == {uri: ("changed", number) for number, uri in
                                     ((1, "/in/moved"), (2, "/in/packed"), (3, "/in/row"))}  # fmt: skip


def test_shards_in_s3(spark: SparkSession, s3: S3Server, tmp_path: Path) -> None:
    """A shard that can be listed in a folder but not in S3; one that is gone taken for one without images."""
    put = s3.client().put_object
    shard = tar_of({f"{number}.jpg": bytes([number]) * 100 for number in range(50)})
    put(Bucket=s3.bucket, Key="shards/a b/%41.tar", Body=shard)
    put(Bucket=s3.bucket, Key="shards//odd.tar", Body=shard)
    put(Bucket=s3.bucket, Key="shards/p.parquet", Body=parquet_of(image=[b"1", b"2"]))
    put(Bucket=s3.bucket, Key="shards/alone.jpg", Body=b"0")
    root = f"s3://{s3.bucket}/shards"
    with small_lake.on_disk(spark, tmp_path / "lake") as context:
        assert catalogued(context, root)["in"] == 103
        found = images_of(context)
        assert bytes_of(found[f"{root}/a b/%41.tar!/7.jpg"]) == b"\7" * 100
        assert bytes_of(found[f"{root}//odd.tar!/49.jpg"]) == b"\x31" * 100
        assert bytes_of(found[f"{root}/p.parquet!/1"]) == b"2"
        references = [fetch.Reference(row["uri"], row["shard"], row["shard_offset"], row["size_bytes"])
                      for row in found.values()]  # fmt: skip
        assert not any(isinstance(result, ImageError) for result in fetch.fetch_all(references, fetch.Limits()))
        inputs = sources.check_inputs(context.config, [root], "{split}/*", ())
        s3.client().delete_object(Bucket=s3.bucket, Key="shards//odd.tar")
        staged = listing.stage_listing(context, inputs)
        gone = staged.shards.limit(1).withColumn("uri", F.lit(f"{root}/gone.tar"))
        with pytest.raises(InputError, match=r"gone.tar: cannot be listed now \(not_found"):
            members.list_shards(context, gone, 1, ())


# S3 Inventory


def report(s3: S3Server, kind: str, schema: str, *files: bytes, **other: Any) -> str:
    """Puts an inventory report into the bucket. Returns the URI of its manifest."""
    put = s3.client().put_object
    names = [f"reports/data/{kind}-{number}.{kind.lower()}" for number in range(len(files))]
    for name, data in zip(names, files, strict=True):
        put(Bucket=s3.bucket, Key=name, Body=data)
    told = {
        "sourceBucket": s3.bucket,
        "destinationBucket": f"arn:aws:s3:::{s3.bucket}",
        "version": "2016-11-30",
        "fileFormat": kind,
        "fileSchema": schema,
        "files": [{"key": name, "size": len(data), "MD5checksum": ""} for name, data in zip(names, files, strict=True)],
        **other,
    }
    put(Bucket=s3.bucket, Key=f"reports/{kind}/manifest.json", Body=json.dumps(told, indent=1).encode())
    return f"s3://{s3.bucket}/reports/{kind}/manifest.json"


CSV_SCHEMA = "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, LastModifiedDate, ETag, StorageClass"
PARQUET_SCHEMA = (
    "message s3.inventory { required binary bucket (UTF8); required binary key (UTF8); optional binary version_id "
    "(UTF8); optional boolean is_latest; optional boolean is_delete_marker; optional int64 size; optional int64 "
    "last_modified_date (TIMESTAMP_MILLIS); optional binary e_tag (UTF8); }"
)
INVENTORY: list[tuple[str, bool, bool, int | None]] = [  # key, is latest, is delete marker, size
    ("inv/a b.jpg", True, False, 1), ("inv/c+d%41,\"é\".jpg", True, False, 2), ("inv/old.jpg", False, False, 3),
    ("inv/gone.jpg", True, True, None), ("inv/.x/h.jpg", True, False, 4), ("inv/n.txt", True, False, 5),
    ("inv/f.jpg/", True, False, 0), ("lake/t.jpg", True, False, 6), ("inv/cat/s.tar", True, False, 10240),
    ("inv/t/_delta_log/0.json", True, False, 2), ("inv/t/v.parquet", True, False, 9),
]  # fmt: skip


def inventory_file(bucket: str, kind: str) -> bytes:
    if kind == "Parquet":
        time = pa.array([DAY] * len(INVENTORY), pa.timestamp("ms", tz="UTC"))
        keys, latest, deleted, sizes = ([row[column] for row in INVENTORY] for column in range(4))
        return parquet_of(
            bucket=[bucket] * len(keys), key=keys, version_id=[None] * len(keys), is_latest=latest,
            is_delete_marker=deleted, size=sizes, last_modified_date=time, e_tag=["e"] * len(keys),
        )  # fmt: skip
    lines = [
        [bucket, quote_plus(key, safe="/"), "", str(latest).lower(), str(deleted).lower(),
         "" if size is None else str(size), "2024-01-01T00:00:00.000Z", "e", "STANDARD"]
        for key, latest, deleted, size in INVENTORY
    ]  # fmt: skip
    text = "".join(",".join(f'"{value}"' for value in line) + "\n" for line in lines)
    return gzip.compress(text.encode())


@pytest.mark.parametrize("kind", ["CSV", "Parquet"])
def test_inventory(spark: SparkSession, s3: S3Server, tmp_path: Path, kind: str) -> None:
    """A key left encoded or decoded twice, a version that is not current, a shard that is not opened."""
    s3.client().put_object(Bucket=s3.bucket, Key="inv/cat/s.tar", Body=tar_of({"m.jpg": b"member"}))
    schema = CSV_SCHEMA if kind == "CSV" else PARQUET_SCHEMA
    uri = report(s3, kind, schema, inventory_file(s3.bucket, kind))
    assert sources.find_source(uri) == Source(uri, "inventory")
    bucket = f"s3://{s3.bucket}"
    with small_lake.on_disk(spark, tmp_path / "lake") as context:
        counts = catalogued(context, uri, layout="inv/{label}/**", leave_out=(f"{bucket}/lake",))
        found = images_of(context)
        assert counts["skipped_files"] == 3  # n.txt, 0.json, v.parquet
    assert {name.removeprefix(bucket): row["label"] for name, row in found.items()} == {
        "/inv/a b.jpg": None, '/inv/c+d%41,"é".jpg': None, "/inv/cat/s.tar!/m.jpg": "cat",
    }  # fmt: skip
    one = found[f"{bucket}/inv/a b.jpg"]
    assert (one["source"], one["size_bytes"], one["etag"]) == (bucket, 1, "e")
    assert one["modified_at"].astimezone(datetime.UTC) == DAY
    assert bytes_of(found[f"{bucket}/inv/cat/s.tar!/m.jpg"]) == b"member"


def test_inventories_that_cannot_be_used(spark: SparkSession, s3: S3Server, tmp_path: Path) -> None:
    """A stack trace in place of one line that says what to do; a JSON manifest taken for a report."""
    bad = [
        (report(s3, "ORC", "struct<key:string>", b""), "in ORC: set it up to be written as CSV or Parquet"),
        (report(s3, "CSV", "Bucket, VersionId", b""), r"without Key and Size \(columns: Bucket, VersionId\)"),
        (report(s3, "Parquet", "message s3.inventory { required binary key (UTF8); }", b""), "without Size"),
    ]
    for uri, why in bad:
        with pytest.raises(InputError, match=why):
            sources.find_source(uri)
    uri = report(s3, "CSV", CSV_SCHEMA)
    with pytest.raises(InputError, match="lists no file"):
        sources.find_source(uri)
    uri = report(s3, "CSV", CSV_SCHEMA, b"", destinationBucket="arn:aws:s3:::no-such-bucket")
    with pytest.raises(InputError, match=r"no-such-bucket/.*the bucket does not exist"):
        sources.find_source(uri)
    uri = report(s3, "CSV", CSV_SCHEMA, b"", files=7)
    with pytest.raises(InputError, match="not the manifest of an S3 Inventory report"):
        sources.find_source(uri)
    with small_lake.on_disk(spark, tmp_path / "lake") as context:
        for kind, data, why in (
            ("CSV", gzip.compress(b'"b","k.jpg","","true","false","1"\n'), "not a file of an S3 Inventory report"),
            ("CSV", inventory_file(s3.bucket, "CSV")[:60], "CSV-0.csv: not a file of an S3 Inventory report"),
            ("Parquet", b"PAR1", "not a file of an S3 Inventory report"),
            ("CSV", b"", "no image in it"),
        ):
            uri = report(s3, kind, CSV_SCHEMA if kind == "CSV" else PARQUET_SCHEMA, data)
            with pytest.raises(InputError, match=why) as caught:
                catalogued(context, uri)
            assert "\n" not in str(caught.value)
        assert context.lake.read("images").count() == 0
    plain = tmp_path / "m.json"
    plain.write_text('{"uri": "a.jpg", "sourceBucket": "b"}\n{"uri": "b.jpg", "sourceBucket": "b"}\n')
    assert sources.find_source(str(plain)) == Source(str(plain), "json")
    plain.write_text('{"uri": "a.jpg", "sourceBucket": "b"}\n')
    assert sources.find_source(str(plain)) == Source(str(plain), "json")
