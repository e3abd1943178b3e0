"""Catches an image that goes without need or stays without right, and files that differ or cannot be read again."""

from __future__ import annotations

import datetime
import hashlib
import json
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from jobs import clean
from jobs.cleaning import rules, training_set
from jobs.engines.frames import frame_of
from jobs.errors import ConfigError
from jobs.inputs import manifests, sources
from jobs.tables import TABLES
from tests import s3_server
from tests.spark import small_lake
from tests.spark.small_lake import SOME_DAY
from udfs.stores import objects
from udfs.training.shards import LISTED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import DataFrame, SparkSession

    from jobs.stage import Context

USUAL = {"string": "", "double": 0.5, "int": 100, "bigint": 0, "binary": bytearray(), "boolean": False}
ALL_ROWS = "clean.thresholds={{{}}}".format(", ".join(f"{name}: null" for name in ("dark", "near_duplicate")))
HOSTILE = (
    'a,b "c"\nd.jpg', "=1+1.jpg", " begins and ends .jpg ", "back\\slash.jpg", "tab\tand\rreturn.jpg",
    "naïve 猫 🐈.jpg", "100%41.jpg", "'quote'.jpg", "line\u2028separator.jpg", "#first.jpg", "null", "b+c d&e.jpg",
)  # fmt: skip


@dataclass(frozen=True)
class Image:
    """A row of images, and what the other tables say of it. cluster: the name of its keeper. content: its pixels."""

    name: str
    split: str | None = None
    label: str | None = None
    issues: dict[str, float] = field(default_factory=dict)
    cluster: str | None = None
    content: str | None = None
    cosine: float = 0.9
    width: int = 100
    size_bytes: int | None = 100_000
    days: int = 0
    suggests: tuple[str, float] | None = None  # label, confidence
    leaks: dict[str, str] = field(default_factory=dict)  # split there -> name of the image
    shard: str | None = None
    folder: str = "/in/"

    @property
    def uri(self) -> str:
        return (self.folder if self.shard is None else self.shard + "!/") + self.name


def frames(spark: SparkSession, images: list[Image]) -> dict[str, DataFrame]:
    """The tables that clean reads."""
    ids = {image.name: number for number, image in enumerate(images)}
    names = ("images", "features", "issues", "duplicates", "labels", "leaks", "failures", "reviews")
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for number, image in enumerate(images):
        base = {"image_id": number}
        rows["images"].append(
            base | {"uri": image.uri, "source": "/in", "split": image.split, "label": image.label, "shard": image.shard,
                    "shard_offset": None if image.shard is None else number, "size_bytes": image.size_bytes,
                    "etag": f"e{number}", "modified_at": SOME_DAY + datetime.timedelta(days=image.days)}
        )  # fmt: skip
        content = image.content or image.name
        rows["features"].append(base | {"pixel_hash": hashlib.md5(content.encode()).hexdigest(), "jpeg_quality": 90.0,
                                        "width": image.width})  # fmt: skip
        for issue, score in image.issues.items():
            wanted = image.suggests[0] if image.suggests and issue == "wrong_label" else None
            rows["issues"].append(base | {"issue": issue, "score": score, "suggestion": "review",
                                          "suggested_label": wanted, "evidence_id": 0})  # fmt: skip
        if image.suggests:
            rows["labels"].append(base | {"suggested_label": image.suggests[0], "flagged": True,
                                          "suggested_confidence": image.suggests[1]})  # fmt: skip
        if image.cluster is not None:
            keeper = next(other for other in images if other.name == image.cluster)
            exact = (keeper.content or keeper.name) == content
            rows["duplicates"].append(
                base | {"keeper_id": ids[image.cluster], "is_keeper": keeper is image, "cluster_size": 2,
                        "cluster_id": ids[image.cluster], "kind": "exact" if exact else "near",
                        "cosine_to_keeper": 1.0 if exact else image.cosine, "agreement": 1.0}
            )  # fmt: skip
        for there, name in image.leaks.items():
            rows["leaks"].append(base | {"between": "split", "here": image.split, "there": there, "kind": "near",
                                         "other_id": ids[name], "cosine": 0.9, "agreement": 1.0})  # fmt: skip
    found_tables = {}
    for name, found in rows.items():
        schema = TABLES[name].schema
        usual = {c.name: None if c.nullable else USUAL.get(c.dataType.simpleString()) for c in schema}
        found_tables[name] = frame_of(
            spark, [tuple({**usual, **row}[c] for c in schema.names) for row in found], schema
        )
    return found_tables


@contextmanager
def made(spark: SparkSession, folder: Path, images: list[Image]) -> Iterator[Context]:
    with small_lake.in_memory(spark, folder, []) as context:
        tables_of(context).update(frames(spark, images))
        yield context


def tables_of(context: Context) -> dict[str, DataFrame]:
    lake = context.lake
    assert isinstance(lake, small_lake.MemoryLake)
    return lake.tables


# A cluster in one split, one over two splits whose keeper is in train, copies among near-duplicates, and single images.
LAKE = [
    Image("keeper", "train", cluster="keeper", width=200, days=2, size_bytes=10),
    Image("edit", "train", cluster="keeper", days=1, size_bytes=500_000),
    Image("first edit", "train", cluster="keeper", cosine=0.6, days=3),
    Image("leaked", "train", cluster="leaked", width=200, leaks={"test": "tested"}),
    Image("tested", "test", cluster="leaked", leaks={"train": "leaked"}),
    Image("tested again", "test", cluster="leaked", content="tested", days=1, leaks={"train": "leaked"}),
    Image("a dark one", "train", cluster="a dark one", issues={"dark": 0.05, "blurry": 0.5}, width=300),
    Image("light copy", "train", cluster="a dark one", issues={"near_duplicate": 0.1}),
    Image("seen", "train", cluster="seen", leaks={"test": "seen dark"}),
    Image("seen dark", "test", cluster="seen", content="seen", issues={"dark": 0.0}, leaks={"train": "seen"}),
    Image("nearly dark", "test", issues={"dark": 0.25}),
    Image("broken", None, issues={"corrupted": 0.0}),
    Image("broken.tar", None, issues={"corrupted": 0.0}),
    Image("mistaken", "train", "cat", issues={"wrong_label": 0.1}, suggests=("dog", 0.95)),
    Image("doubtful", "train", "cat", issues={"wrong_label": 0.1}, suggests=("dog", 0.5)),
    Image("held out", "test", "cat", issues={"wrong_label": 0.1, "dark": 0.0}, suggests=("dog", 0.95)),
    Image("plain", "val", "dog"),
]
REMOVE = "clean.remove=[corrupted, exact_duplicate, near_duplicate, leak, dark]"
RULES = (ALL_ROWS, REMOVE, "clean.max_share=1")
ALWAYS = {"broken": "corrupted"}
DARK = {"a dark one": "dark", "seen dark": "dark", "nearly dark": "dark", "held out": "dark"}
EDITS = {"edit": "near_duplicate", "first edit": "near_duplicate"}
LEAKS = {"leaked": "leak", "tested again": "exact_duplicate"}


@pytest.fixture(scope="module")
def lake(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Context]:
    with made(spark, tmp_path_factory.mktemp("clean"), LAKE) as context:
        yield context


def outcome(lake: Context, *overrides: str) -> tuple[dict[str, str], dict[str, str]]:
    """(name -> issue of what goes, name -> corrected label)."""
    context = small_lake.with_settings(lake, *RULES, *overrides)
    rows = rules.judged(context.lake, context.config.clean).where(~F.col("is_shard")).collect()
    assert len(rows) == len(LAKE) - 1
    gone = {row["uri"][4:]: row["issue"] for row in rows if row["issue"]}
    return gone, {row["uri"][4:]: row["new_label"] for row in rows if row["new_label"]}


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ((), {**ALWAYS, **DARK, **EDITS, **LEAKS}),
        (("clean.thresholds={dark: 0.1}",), {**ALWAYS, **DARK, **EDITS, **LEAKS, "nearly dark": None}),
        # The dark one stays, so that its lighter copy goes; of the far edit nothing counts.
        (
            ("clean.thresholds={dark: 0, near_duplicate: 0.2}",),
            {**ALWAYS, "edit": "near_duplicate", "light copy": "near_duplicate", **LEAKS, "seen": "leak"},
        ),
        (("clean.never_from=[train]",),
         {**ALWAYS, "nearly dark": "dark", "held out": "dark", "seen dark": "leak", "tested": "leak",
          "tested again": "leak"}),
        (("clean.never_from=[train, test]",), ALWAYS),
        (("clean.leaks=[train, test]",),
         {**ALWAYS, **DARK, **EDITS, "tested": "leak", "tested again": "leak", "seen dark": "leak"}),
        (("clean.keep=oldest",),
         {**ALWAYS, **DARK, "keeper": "near_duplicate", "first edit": "near_duplicate", **LEAKS}),
        (("clean.keep=first",),
         {**ALWAYS, **DARK, "keeper": "near_duplicate", "first edit": "near_duplicate", **LEAKS}),
        (("clean.keep=largest",), {**ALWAYS, **DARK, **EDITS, **LEAKS}),
        (("clean.remove=[exact_duplicate]",), {"tested again": "exact_duplicate", "seen": "exact_duplicate"}),
        (("clean.remove=[near_duplicate]",), {**EDITS, "light copy": "near_duplicate", "leaked": "near_duplicate"}),
        (("clean.remove=[leak]",), {"leaked": "leak", "seen": "leak"}),
        (("clean.remove=[]",), {}),
        (("clean.remove=[wrong_label]",), {"doubtful": "wrong_label"}),
        (("clean.remove=[wrong_label]", "clean.relabel=false"),
         {"mistaken": "wrong_label", "doubtful": "wrong_label", "held out": "wrong_label"}),
    ],
)  # fmt: skip
def test_what_goes(lake: Context, overrides: tuple[str, ...], expected: dict[str, str | None]) -> None:
    """A rule that takes too much or too little; two images that go for one another, so that none is left; a test set
    that shrinks for its copies in train; a protected split that loses an image."""
    gone, _ = outcome(lake, *overrides)
    assert gone == {name: issue for name, issue in expected.items() if issue}


def test_labels(lake: Context) -> None:
    """A label corrected without confidence, in a protected split, of an image that goes, or against the rules."""
    assert outcome(lake)[1] == {"mistaken": "dog"}
    assert outcome(lake, "clean.min_confidence=0.4", "clean.thresholds={dark: 0}")[1] == {
        "mistaken": "dog", "doubtful": "dog", "held out": "dog",
    }  # fmt: skip
    protected = ("clean.never_from=[test]", "clean.min_confidence=0.4")
    assert outcome(lake, *protected)[1] == {"mistaken": "dog", "doubtful": "dog"}
    assert outcome(lake, "clean.relabel=false")[1] == {}
    assert outcome(lake, "clean.thresholds={wrong_label: 0.1}")[1] == {}


def test_what_people_decide_comes_before_the_rules(lake: Context, tmp_path: Path) -> None:
    """A decision that the rules overrule, one taken back or replaced that still counts, a note taken for one, copies
    that go for an image which goes too, and a row that does not say whose decision it is."""
    ids = {image.name: number for number, image in enumerate(LAKE)}
    made = [  # name, decision, label
        ("keeper", "remove", None), ("keeper", "keep", None), ("first edit", "keep", None), ("edit", "remove", None),
        ("a dark one", "keep", None), ("plain", "remove", None), ("doubtful", "relabel", "horse"),
        ("mistaken", "keep", None), ("seen dark", "skip", None), ("tested", "remove", None), ("tested", "note", None),
        ("light copy", "remove", None), ("held out", "keep", None), ("held out", "remove", None),
    ]  # fmt: skip
    reviews = [
        {"review_id": f"r{n:02}", "batch_id": f"b{n:02}", "image_id": ids[name], "decision": decision, "label": label,
         "by": "anna", "at": SOME_DAY + datetime.timedelta(minutes=n)}
        for n, (name, decision, label) in enumerate(made)
    ]  # fmt: skip
    taken_back = next(row for row in reviews if row["image_id"] == ids["light copy"])
    reviews.append({**taken_back, "review_id": "r99", "batch_id": "b99", "decision": "undo",
                    "undoes": taken_back["batch_id"]})  # fmt: skip
    schema = TABLES["reviews"].schema
    before = dict(tables_of(lake))
    rows = [tuple({"note": None, "undoes": None, **row}[c] for c in schema.names) for row in reviews]
    tables_of(lake)["reviews"] = frame_of(lake.lake.spark, rows, schema)
    try:
        gone, labels = outcome(lake)
        run(lake, out=tmp_path / "clean.jsonl")
    finally:
        tables_of(lake).update(before)
    # `tested` goes, so `leaked` does for its copy; `a dark one` stays, so its copy goes, whose removal was taken back.
    assert gone == {
        **ALWAYS, "seen dark": "dark", "nearly dark": "dark", "edit": "decided", "plain": "decided",
        "tested": "decided", "held out": "decided", "light copy": "near_duplicate", "leaked": "near_duplicate",
    }  # fmt: skip
    assert labels == {"doubtful": "horse"}
    removed = {row["uri"][4:]: row["decided_by"] for row in read(tmp_path / "clean.removed.jsonl")}
    assert removed["plain"] == "anna"
    assert removed["seen dark"] is None
    assert [row["decided_by"] for row in read(tmp_path / "clean.relabelled.jsonl")] == ["anna"]


def read(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]]
    if path.suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    elif path.suffix == ".parquet":
        rows = pq.read_table(path).to_pylist()
    else:
        options = pacsv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False)
        parse = pacsv.ParseOptions(newlines_in_values=True)
        rows = pacsv.read_csv(path, parse_options=parse, convert_options=options).to_pylist()
    return rows


def run(context: Context, *overrides: str, out: Path, batch: str | None = None, dry_run: bool = False) -> None:
    changed = small_lake.with_settings(context, *RULES, *overrides)
    clean.run(replace(changed, given={clean.JOB: clean.check_targets(str(out), batch, dry_run)}))


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_files(lake: Context, tmp_path: Path, ending: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that lacks an image, has it twice, is not sorted, or differs from run to run or by the partitions; a dry
    run that writes; and a summary that does not add up."""
    out = tmp_path / "set" / f"clean.{ending}"
    run(lake, out=out, dry_run=True)
    said = capsys.readouterr().out
    assert not out.parent.exists()
    assert "16 images: 7 to keep, 9 to leave out, 1 labels to correct" in said
    assert "dry run" in said
    run(lake, "clean.max_share=0.19", out=out, dry_run=True)
    rare = capsys.readouterr().out
    assert "4 images have dark, more than clean.max_share of all: no image goes for it" in rare
    assert "16 images: 9 to keep, 7 to leave out" in rare
    run(lake, out=out)
    assert capsys.readouterr().out.startswith(said.partition("dry run")[0])
    kept = [row["uri"] for row in read(out)]
    removed = read(tmp_path / "set" / f"clean.removed.{ending}")
    assert (
        kept
        == sorted(kept)
        == ["/in/" + n for n in ("doubtful", "keeper", "light copy", "mistaken", "plain", "seen", "tested")]
    )
    assert len(removed) == 9
    whys = {row["uri"]: (row["issue"], row["score"], row["evidence_uri"], row["issues"]) for row in removed}
    assert whys["/in/leaked"] == ("leak", pytest.approx(0.1), "/in/tested", "leak")
    assert whys["/in/edit"] == ("near_duplicate", pytest.approx(0.1), "/in/keeper", "near_duplicate")
    assert whys["/in/tested again"] == ("exact_duplicate", 0.0, "/in/tested", "exact_duplicate")
    (corrected,) = read(tmp_path / "set" / f"clean.relabelled.{ending}")
    assert (corrected["uri"], corrected["label"], corrected["new_label"]) == ("/in/mistaken", "cat", "dog")
    assert {row["uri"]: row["label"] for row in read(out)}["/in/mistaken"] == "dog"
    files = {path: path.read_bytes() for path in out.parent.iterdir()}
    assert len(files) == 3
    tables = dict(tables_of(lake))
    tables_of(lake).update({name: rows.repartition(3, "image_id") for name, rows in tables.items()})
    run(lake, out=out)
    tables_of(lake).update(tables)
    assert {path: path.read_bytes() for path in out.parent.iterdir()} == files


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_the_manifest_is_read_again(spark: SparkSession, tmp_path: Path, ending: str) -> None:
    """A name that CSV or JSON spoils, a member of a shard that is not found again, a number or a time that changes."""
    images = [Image(name, split=name, label=name) for name in HOSTILE]
    images += [Image(f"member {n}.jpg", shard="/in/a,b.tar") for n in range(3)]
    images += [
        Image("row", shard="/in/rows.parquet", size_bytes=None),
        Image("object.jpg", folder="s3://bucket/a b+c/"),
    ]
    out = tmp_path / f"clean.{ending}"
    columns = [name for name in TABLES["images"].schema.names if name != "image_id"]
    with made(spark, tmp_path / "lake", images) as context:
        run(context, out=out)
        expected = [tuple(row) for row in context.lake.read("images").select(*columns).collect()]
    again = manifests.read_manifest(spark, sources.find_source(str(out))).select(*columns)
    assert sorted((tuple(row) for row in again.collect()), key=repr) == sorted(expected, key=repr)


def test_no_input_is_written_over(lake: Context, tmp_path: Path) -> None:
    """A manifest that the lake was made from, or an image, that the clean set replaces."""
    images, source = lake.lake.read("images"), tmp_path / "all.csv"
    tables_of(lake)["images"] = images.withColumn("source", F.lit(str(source)))
    with pytest.raises(ConfigError, match="is an input of this lake"):
        run(lake, out=source)
    tables_of(lake)["images"] = images
    with pytest.raises(ConfigError, match=r"tset is no split of this lake \(there are: test, train, val\)"):
        run(lake, "clean.never_from=[tset, train]", out=tmp_path / "clean.csv")
    assert list(tmp_path.iterdir()) == []


def test_batch_manifests(
    spark: SparkSession, tmp_path: Path, s3: s3_server.S3Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """A key that AWS would read as another one, a shard that goes for one of its members, and objects of two buckets in
    one file. The files lie in S3."""
    dark = {"dark": 0.0}
    images = [Image(name, issues=dark, folder="s3://one/in/") for name in ("b+c d&e.jpg", 'a,b"\n.jpg', "é.jpg")]
    images += [Image("kept.jpg", folder="s3://one/in/"), Image("local.jpg", issues=dark)]
    images += [Image("m.jpg", issues=dark, shard="s3://one/in/a.tar")]
    with made(spark, tmp_path / "lake", images) as context:
        targets = clean.check_targets("s3://lake/clean/set.jsonl", str(tmp_path / "batch.csv"), False)
        clean.run(replace(small_lake.with_settings(context, *RULES), given={clean.JOB: targets}))
    said = capsys.readouterr().out
    lines = (tmp_path / "batch.csv").read_text().splitlines()
    assert lines == ["one,in/a%2Cb%22%0A.jpg", "one,in/b%2Bc%20d%26e.jpg", "one,in/%C3%A9.jpg"]
    assert "1 removed images lie in shards" in said
    assert "3 objects" in said
    assert objects.list_small("s3://lake/clean") == ["set.jsonl", "set.relabelled.jsonl", "set.removed.jsonl"]
    assert json.loads(objects.read_small("s3://lake/clean/set.jsonl"))["uri"] == "s3://one/in/kept.jpg"
    images.append(Image("other.jpg", issues=dark, folder="s3://two/"))
    with made(spark, tmp_path / "lake", images) as context:
        run(context, out=tmp_path / "set.csv", batch=str(tmp_path / "moved"))
    assert (tmp_path / "moved.two.csv").read_text() == "two,other.jpg\n"
    assert len((tmp_path / "moved.one.csv").read_text().splitlines()) == 3
    with made(spark, tmp_path / "lake", images[4:5]) as context:
        run(context, out=tmp_path / "set.csv", batch=str(tmp_path / "none"))
    assert "no batch manifest" in capsys.readouterr().out
    assert not list(tmp_path.glob("none*"))


def test_images_without_a_split_follow_their_near_duplicates(spark: SparkSession) -> None:
    """A near-duplicate of a test image that is dealt to the training set, or one that is lost on the way."""
    splits = {0: "test", 1: None, 2: None, 3: None, 4: "val", 5: "train", 6: None}
    rows = [{"image_id": n, "uri": f"/{n}", "split": split} for n, split in splits.items()]
    frame = frame_of(spark, [tuple(map(row.get, LISTED.names)) for row in rows], from_arrow_schema(LISTED))
    component = frame_of(
        spark, [(0, 7), (1, 7), (2, 8), (4, 9), (5, 9), (6, 9), (50, 8)], "image_id: bigint, component: bigint"
    )
    settled = training_set.settled(frame, component).collect()
    found = {row["image_id"]: (row["split"], row["component"]) for row in settled}
    assert found == {
        0: ("test", 7), 1: ("test", 7), 2: (None, 8), 3: (None, None), 4: ("val", 9), 5: ("train", 9), 6: ("train", 9)
    }  # fmt: skip
