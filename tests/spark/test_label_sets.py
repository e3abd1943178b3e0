"""Catches sets of labels that are misread, lost on their way through the tables, or judged wrongly."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import catalog, labels
from jobs.engines.frames import frame_of
from jobs.errors import InputError
from jobs.findings import label_sets
from jobs.inputs import manifests, sources
from jobs.inputs.sources import LISTED
from jobs.tables import TABLES
from tests.conftest import sail_only
from tests.spark import small_lake
from tests.spark.small_lake import Picture
from tests.unit.test_set_model import planted
from udfs.labels import set_rows

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession

    from jobs.stage import Counts

NAMES = [f"c{number}" for number in range(8)]
Rows = list[dict[str, Any]]


def read(spark: SparkSession, file: Path, separator: str | None = None) -> dict[str, list[str] | None]:
    kind = {"jsonl": "json"}.get(file.suffix[1:], file.suffix[1:])
    rows = manifests.read_manifest(spark, sources.Source(str(file), kind), separator).collect()
    assert all(row["label"] is None for row in rows)
    return {row["uri"][1:]: row["labels"] for row in rows}


def written(file: Path, rows: Rows) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_lists_of_a_manifest_are_sets_in_order(spark: SparkSession, tmp_path: Path) -> None:
    """Of Parquet and JSON alike; an empty list is none of the classes, null is not known."""
    given = [["dog", "cat", "dog", " ", None, " cat "], [], None, ["b"]]
    expected = {"0": ["cat", "dog"], "1": [], "2": None, "3": ["b"]}
    for name in ("label", "labels"):
        table = pa.table({"uri": ["/0", "/1", "/2", "/3"], name: pa.array(given, pa.list_(pa.string()))})
        pq.write_table(table, tmp_path / f"{name}.parquet")
        assert read(spark, tmp_path / f"{name}.parquet") == expected
        lines = [{"uri": f"/{n}", name: one} for n, one in enumerate(given)]
        assert read(spark, written(tmp_path / f"{name}.jsonl", lines)) == expected
    numbers = pa.table({"uri": ["/0", "/1"], "label": pa.array([[7, 10], None], pa.list_(pa.int64()))})
    pq.write_table(numbers, tmp_path / "numbers.parquet")
    assert read(spark, tmp_path / "numbers.parquet") == {"0": ["10", "7"], "1": None}


@sail_only
def test_lists_and_texts_in_one_column_are_one_clear_line(spark: SparkSession, tmp_path: Path) -> None:
    """Spark takes all of such a column for text."""
    mixed: list[Rows] = [
        [{"uri": "/0", "label": "a"}, {"uri": "/1", "label": ["b"]}], [{"uri": "/0", "labels": ["a", True]}]
    ]  # fmt: skip
    for lines in mixed:
        with pytest.raises(InputError, match=r"bad\.jsonl: cannot be read as json \(.*label") as caught:
            read(spark, written(tmp_path / "bad.jsonl", lines))
        assert "\n" not in str(caught.value)


def test_texts_of_a_manifest_are_sets_by_a_separator_or_as_json(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("uri,label\n/0,dog|cat|\n/1,\n/2,b\n")
    assert read(spark, tmp_path / "a.csv", "|") == {"0": ["cat", "dog"], "1": None, "2": ["b"]}
    (tmp_path / "b.csv").write_text('uri,labels\n/0,"[""d|og"", ""cat""]"\n/1,[]\n/2,\n')
    assert read(spark, tmp_path / "b.csv") == {"0": ["cat", "d|og"], "1": [], "2": None}
    (tmp_path / "e.csv").write_text('uri,labels\n/0,"[7, null, "" "", ""cat"", 7]"\n/1,a/b|[c]\n/2," "\n/3,|\n')
    assert read(spark, tmp_path / "e.csv", "|") == {"0": ["7", "cat"], "1": ["[c]", "a/b"], "2": None, "3": []}
    (tmp_path / "c.csv").write_text("uri,label\n/0,dog|cat\n")
    plain = manifests.read_manifest(spark, sources.Source(str(tmp_path / "c.csv"), "csv")).collect()
    assert [(row["label"], row["labels"]) for row in plain] == [("dog|cat", None)]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([{"uri": "/0", "label": [0.5, 1]}], "must hold lists of texts or whole numbers, is array<double>"),
        ([{"uri": "/0", "label": [["cat"]]}], "must hold lists of texts or whole numbers, is array<array<string>>"),
        ([{"uri": "/0", "label": [{"name": "cat"}]}], "must hold lists of texts or whole numbers, is array<struct<"),
        ([{"uri": "/0", "labels": 7}], "is bigint: name it `label` where it is one label an image"),
        ([{"uri": "/0", "labels": "cat;dog"}], "'/0': its labels ('cat;dog') are no list of JSON: say what stands"),
        ([{"uri": "/0", "labels": '["cat", 0.5]'}], "are no list of JSON"),
        ([{"uri": "/0", "labels": '["cat", true]'}], "are no list of JSON"),
        ([{"uri": "/0", "labels": '["half of a pair \\ud800"]'}], "are no list of JSON"),
        ([{"uri": "/0", "labels": '{"cat": 1}'}], "are no list of JSON"),
        ([{"uri": "/0", "labels": json.dumps(["cat"] * 10_000 + [str(n) for n in range(10_000)])}], "10,001 labels"),
        ([{"uri": "/0", "labels": "[" * 100_000}], "are no list of JSON"),
        ([{"uri": "/0", "label": ["x" * 2**20]}], "'/0' has a label of 1,048,576 characters: at most 500"),
        ([{"uri": "/0", "label": [str(n) for n in range(1001)]}], "'/0' has 1,001 labels: at most 1,000"),
        ([{"uri": "/0", "label": "a", "labels": ["b"]}], "'/0' has a label and a list of labels: give one of them"),
        ([{"uri": "/0", "label": ["a"], "labels": ["b"]}], "the columns 'label' and 'labels' both hold several labels"),
    ],
)
def test_what_is_no_set_of_labels_is_one_clear_line(
    spark: SparkSession, tmp_path: Path, rows: Rows, told: str
) -> None:  # fmt: skip
    with pytest.raises(InputError) as caught:
        read(spark, written(tmp_path / "bad.jsonl", rows))
    text = str(caught.value)
    assert told in text
    assert "\n" not in text
    assert len(text) < 500


def test_other_labels_of_a_set_are_a_change(spark: SparkSession) -> None:
    usual = {"source": "/in", "etag": "e", "size_bytes": 1, "relative": ""}
    old = {"a": ["x", "y"], "b": None, "c": ["x"], "d": ["x"], "e": []}
    new = {"a": ["x", "y"], "b": ["x"], "c": ["y"], "d": None, "e": []}
    rows = [{**usual, "uri": uri, "labels": names} for uri, names in new.items()]
    known = [{**usual, "image_id": n, "uri": uri, "labels": names} for n, (uri, names) in enumerate(old.items())]
    listed = frame_of(spark, [tuple(row.get(name) for name in LISTED.names) for row in rows], LISTED)
    schema = TABLES["images"].schema
    images = frame_of(spark, [tuple(row.get(name) for name in schema.names) for row in known], schema)
    found = catalog.changes(listed, images, 9).collect()
    assert {(row["uri"], row["change"]) for row in found} == {(uri, "relabelled") for uri in "bcd"}
    assert {row["uri"]: row["labels"] for row in found} == {uri: new[uri] for uri in "bcd"}


def pictures_of(count: int = 400) -> tuple[list[Picture], dict[int, tuple[set[str], set[str]]]]:
    """Pictures of planted sets, and of those that are spoilt what is too much and what is missing."""
    vectors, truth = planted(count, noise=0.8)
    sets = {n: {NAMES[c] for c in np.flatnonzero(row)} for n, row in enumerate(truth)}
    wrong: dict[int, tuple[set[str], set[str]]] = {}
    for number, n in enumerate(range(0, count, 10)):
        others = [name for name in NAMES if name not in sets[n]]
        if number % 2 and sets[n]:
            wrong[n] = (set(), {sorted(sets[n])[number % len(sets[n])]})
        else:
            wrong[n] = ({others[number % len(others)]}, set())
        sets[n] = (sets[n] | wrong[n][0]) - wrong[n][1]
    pictures = [
        Picture(n, tuple(map(float, vectors[n])), labels=tuple(sorted(sets[n])), split=("train", "test")[n % 5 == 0])
        for n in range(count)
    ]
    return pictures, wrong


def judged(
    spark: SparkSession, folder: Path, pictures: list[Picture], *overrides: str, shuffled: int | None = None
) -> tuple[Counts, dict[str, list[tuple[Any, ...]]]]:
    """Counts of the stage, and the rows of its tables and of the issues."""
    with small_lake.in_memory(spark, folder, pictures, *overrides, shuffled=shuffled) as context:
        tables: Any = context.lake.tables  # type: ignore[attr-defined]
        tables["neighbours"] = small_lake.nearest(spark, pictures)
        tables["duplicates"] = frame_of(spark, [], TABLES["duplicates"].schema)
        counts = labels.labels(context)
        rows = {name: small_lake.rows_of(context, name) for name in labels.WRITTEN}
        issues = label_sets.wrong_set_issues(context.lake.read("label_sets"))
        return counts, {**rows, "issues": sorted(map(tuple, issues.collect()))}


def test_labels_that_are_too_much_or_missing_are_found(spark: SparkSession, tmp_path: Path) -> None:
    pictures, wrong = pictures_of()
    counts, rows = judged(spark, tmp_path, pictures)
    given = {(p.image_id, name) for p in pictures for name in p.labels or ()}
    assert {row[:2] for row in rows["label_sets"] if row[2]} == given
    assert all(row[4] for row in rows["label_sets"] if not row[2])
    names = TABLES["issues"].schema.names
    issues = {row[0]: dict(zip(names, row, strict=True)) for row in rows["issues"]}
    hits = set(issues) & set(wrong)
    assert len(hits) > 0.8 * len(wrong)
    assert len(hits) > 0.8 * len(issues)
    right = 0
    for n in hits:
        much, missing = (", ".join(sorted(part)) for part in wrong[n])
        told = f"probably not: {much}" if much else f"missing: {missing}"
        right += issues[n]["detail"] == told
        assert issues[n]["score"] < 0.5
        assert (issues[n]["suggestion"], issues[n]["suggested_label"]) == ("review", None)
    assert right > 0.9 * len(hits)
    assert (counts["sets"], counts["judged_set_classes"], counts["flagged_sets"]) == (400, 8, len(issues))
    assert any("in the sets of 400 images" in note and "wrong by estimate" in note for note in counts["notes"])
    assert rows["labels"] == rows["confusions"] == []
    sizes = {(name, split): 0 for name in NAMES for split in ("train", "test")}
    for p in pictures:
        for name in p.labels or ():
            sizes[name, p.split or ""] += 1
    empty = sum(not p.labels for p in pictures)
    assert {row[:2]: row[2] for row in rows["classes"] if row[0] is not None} == sizes
    assert sum(row[2] for row in rows["classes"] if row[0] is None) == empty > 0
    assert sum(row[3] for row in rows["classes"]) == sum(row[2] and row[4] for row in rows["label_sets"])


def test_an_issue_names_few_labels(spark: SparkSession) -> None:
    rows = [(0, f"a{n:03}", True, 0.1 + n / 1000, True) for n in range(200)]
    rows += [(0, "b", False, 0.8, True), (1, "c, d", False, 0.95, True), (1, "e", True, 0.9, False)]
    table = frame_of(spark, rows, TABLES["label_sets"].schema)
    found = {row["image_id"]: row for row in label_sets.wrong_set_issues(table).collect()}
    first = ", ".join(f"a{n:03}" for n in range(label_sets.NAMED))
    assert found[0]["detail"] == f"probably not: {first}, …; missing: b"
    assert found[1]["detail"] == "missing: c, d"
    assert [found[n]["score"] for n in (0, 1)] == pytest.approx([0.1, 0.05])


def test_the_tables_of_sets_do_not_depend_on_partitions_or_order(spark: SparkSession, tmp_path: Path) -> None:
    pictures, _ = pictures_of(200)
    found = [judged(spark, tmp_path / str(n), pictures, shuffled=n)[1] for n in (1, 2)]
    assert found[0] == found[1]


def test_sets_beside_single_labels_change_nothing_of_these(spark: SparkSession, tmp_path: Path) -> None:
    """Classes of either are told once, and a class is left out only where neither could be judged."""
    generator = np.random.default_rng(3)
    middles = 3 * np.eye(2, 24)
    single = [
        Picture(1000 + n, tuple((middles[n % 2] + generator.normal(size=24) / 2).tolist()), label=("c0", "rare")[n % 2])
        for n in range(60)
    ]
    several = [p.but(labels=(*(p.labels or ()), "rare")) if p.image_id < 5 else p for p in pictures_of(200)[0]]
    alone = judged(spark, tmp_path / "one", single)[1]
    counts, both = judged(spark, tmp_path / "both", single + several)
    assert [row[:2] for row in both["labels"]] == [row[:2] for row in alone["labels"]]
    assert {row[0] for row in both["label_sets"]} <= set(range(200))
    whole = {row[0]: row[4] for row in both["classes"]}
    assert whole["rare"] is None
    assert (counts["labelled"], counts["sets"]) == (60, 200)


def test_few_images_of_a_class_and_no_class_at_all(spark: SparkSession, tmp_path: Path) -> None:
    pictures, _ = pictures_of(60)
    counts, rows = judged(spark, tmp_path / "few", pictures, "labels.min_images=1000")
    assert rows["label_sets"] == []
    assert counts["judged_set_classes"] == 0
    assert any("could be judged" in note for note in counts["notes"])
    assert {row[4] for row in rows["classes"] if row[0]} == {"fewer than 1,000 different images"}
    everywhere = [p.but(labels=("photo", *(p.labels or ()))) for p in pictures]
    _, rows = judged(spark, tmp_path / "all", everywhere, "labels.min_images=4")
    assert {row[4] for row in rows["classes"] if row[0] == "photo"} == {"too few different images in the sample"}
    assert "photo" not in {row[1] for row in rows["label_sets"]}
    assert rows["label_sets"]
    empty = [p.but(labels=()) for p in pictures]
    counts, rows = judged(spark, tmp_path / "none", empty)
    assert rows["label_sets"] == []
    assert sum(row[2] for row in rows["classes"]) == 60


def test_the_sample_is_bounded_and_weighs_what_is_drawn_seldom(spark: SparkSession, tmp_path: Path) -> None:
    pictures, _ = pictures_of(3000)
    with small_lake.in_memory(spark, tmp_path, pictures) as context:
        tables: Any = context.lake.tables  # type: ignore[attr-defined]
        tables["duplicates"] = frame_of(spark, [], TABLES["duplicates"].schema)
        grouped = labels.grouped_images(
            context.lake.read("copies"), context.lake.read("images"), context.lake.read("duplicates")
        )
        from pyspark.sql import functions as F

        from jobs.findings.label_classes import Classes, class_sizes

        asked = grouped.withColumn("fold", F.lit(0))
        classes = Classes.of(class_sizes(asked.withColumn("label", F.explode("labels"))), 2, 100)
        sample = label_sets.drawn(
            context.lake, asked, context.lake.read("embeddings").select("image_id", "vector"), classes, 500
        )
    sizes = np.array([sum(name in (p.labels or ()) for p in pictures) for name in classes.names])
    told = sample.given.T @ sample.weights * (3000 / sample.weights.sum())
    assert 300 < len(sample) < 900
    assert np.allclose(told, sizes, rtol=0.3)
    assert len(np.unique(sample.weights.round(6))) > 2


def test_the_schema_of_what_is_judged_is_that_of_the_table() -> None:
    assert {*set_rows.JUDGED.names} - {"probability_wrong"} | {"flagged"} == set(TABLES["label_sets"].schema.names)
