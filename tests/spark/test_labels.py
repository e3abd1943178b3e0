"""Catches labels that are wrong and not found, right and blamed, or judged by what has seen them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import functions as F

from jobs import labels
from jobs.duplicates.copies import content_key
from jobs.engines.frames import frame_of
from jobs.errors import InputError
from jobs.findings import label_classes, label_issues
from jobs.inputs import manifests, sources
from jobs.pages.format import portion
from jobs.tables import TABLES
from tests.spark import small_lake
from tests.spark.small_lake import Picture
from tests.vectors import unit
from udfs.labels import rows as label_rows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pyspark.sql import DataFrame, SparkSession

    from jobs.stage import Context, Counts

ANIMALS = ("cat", "dog", "eel")
NONE = ", so none could be judged"
NAMED = "image_id LONG, uri STRING, label STRING, labels ARRAY<STRING>"


def animals(count: int = 40, names: Sequence[str] = ANIMALS, seed: int = 0) -> list[Picture]:
    """count pictures of each class, well apart, by turns."""
    generator = np.random.default_rng(seed)
    middles = 3 * np.eye(len(names), 16)
    vectors = unit(
        middles[np.arange(count * len(names)) % len(names)] + generator.normal(size=(count * len(names), 16)) / 2
    )
    return [
        Picture(n, tuple(vector.tolist()), label=names[n % len(names)], split=("train", "test")[n % 5 == 0])
        for n, vector in enumerate(vectors)
    ]


def clusters_of(spark: SparkSession, clusters: Sequence[Sequence[int]]) -> DataFrame:
    """The table `duplicates` with these clusters, each of which keeps its first image."""
    rows = [
        (image_id, number, "near", members[0], image_id == members[0], 1.0 if image_id == members[0] else 0.9,
         None, 1.0, len(members), number)
        for number, members in enumerate(clusters)
        for image_id in members
    ]  # fmt: skip
    return frame_of(spark, rows, TABLES["duplicates"].schema)


@contextmanager
def stage(
    spark: SparkSession, folder: Path, pictures: Sequence[Picture], *overrides: str,
    clusters: Sequence[Sequence[int]] = (), shuffled: int | None = None,
) -> Iterator[tuple[Context, Counts]]:  # fmt: skip
    """The lake of the pictures after the stage, and its counts."""
    with small_lake.in_memory(spark, folder, pictures, *overrides, shuffled=shuffled) as context:
        tables: dict[str, DataFrame] = context.lake.tables  # type: ignore[attr-defined]
        tables |= {"neighbours": small_lake.nearest(spark, pictures), "duplicates": clusters_of(spark, clusters)}
        counts = labels.labels(context)
        assert counts["in"] == counts["out"] + counts["failed"]
        yield context, counts


def relabelled(pictures: Sequence[Picture], wrong: dict[int, str | None]) -> list[Picture]:
    return [p.but(label=wrong.get(p.image_id, p.label)) for p in pictures]


def test_wrong_labels_are_found_with_the_right_one_and_a_neighbour_that_has_it(
    spark: SparkSession, tmp_path: Path
) -> None:
    pictures = animals()
    wrong: dict[int, str | None] = {0: "dog", 1: "eel", 50: "cat"}
    truth = {p.image_id: p.label for p in pictures}
    with stage(spark, tmp_path, relabelled(pictures, wrong)) as (context, counts):
        found = {row["image_id"]: row for row in context.lake.read("labels").collect()}
        issues = label_issues.wrong_label_issues(context.lake.read("labels")).collect()
        classes = small_lake.rows_of(context, "classes")
        confusions = small_lake.rows_of(context, "confusions")
    assert len(found) == len(pictures)
    assert {image_id for image_id, row in found.items() if row["flagged"]} == set(wrong)
    assert set(sorted(found, key=lambda n: found[n]["score"])[:3]) == set(wrong)
    assert all(row["probability_wrong"] == pytest.approx(1 - row["score"], abs=1e-9) for row in found.values())
    for image_id, label in wrong.items():
        row = found[image_id]
        assert (row["label"], row["suggested_label"]) == (label, truth[image_id])
        assert row["score"] < 0.5 < row["suggested_confidence"]
        assert row["neighbour_share"] < 0.2
        assert row["evidence_id"] != image_id
        assert found[row["evidence_id"]]["label"] == truth[image_id]
    assert {(row["image_id"], row["suggestion"], row["suggested_label"]) for row in issues} == {
        (image_id, "relabel", truth[image_id]) for image_id in wrong
    }
    assert {(row[0], row[1]): row[2] for row in confusions} == {("dog", "cat"): 1, ("eel", "dog"): 1, ("cat", "eel"): 1}
    by_class = {(row[0], row[1]): row[2:] for row in classes}
    assert by_class[("dog", "test")][:3] == (9, 1, None)  # image 0 and every 15th from 5
    for name in ANIMALS:
        noise, low, high, *accuracies = by_class[(name, "train")][3:]
        assert low <= noise < high
        assert noise == pytest.approx(1 / 40, abs=0.01)
        assert by_class[(name, "test")][3:] == by_class[(name, "train")][3:]
        assert all(0.9 < accuracy <= 1 for accuracy in accuracies)
    assert sum(row[2] for row in classes) == len(pictures)
    assert (counts["labelled"], counts["judged_classes"], counts["flagged"]) == (120, 3, 3)


def test_the_tables_do_not_depend_on_partitions_or_order(spark: SparkSession, tmp_path: Path) -> None:
    pictures = relabelled(animals(20), {3: "dog", 7: None})
    seen = []
    for shuffled in (None, 4):
        with stage(spark, tmp_path / str(shuffled), pictures, shuffled=shuffled) as (context, _):
            seen.append([small_lake.rows_of(context, name) for name in labels.WRITTEN])
    assert seen[0] == seen[1]


def test_images_of_a_cluster_are_in_one_fold_and_do_not_vote_for_one_another(
    spark: SparkSession, tmp_path: Path
) -> None:
    """An image with nine near-copies, all of a wrong label: by themselves they would prove it right."""
    pictures = animals(60)
    first = np.array(pictures[0].vector)
    copies = [
        Picture(500 + n, tuple(unit([first + 0.01 * np.eye(16)[n]])[0].tolist()), label="dog", split="train")
        for n in range(9)
    ]
    cluster = [0, *(p.image_id for p in copies)]
    all_pictures = [*relabelled(pictures, {0: "dog"}), *copies]
    with stage(spark, tmp_path, all_pictures, clusters=[cluster]) as (context, _):
        grouped = labels.grouped_images(
            context.lake.read("copies"), context.lake.read("images"), context.lake.read("duplicates")
        )
        rows = [(name, number, label_classes.SAMPLE_PARTS) for number, name in enumerate(ANIMALS)]
        numbers = frame_of(spark, rows, "label STRING, class INT, parts INT")
        asked = labels.asked_images(grouped, numbers, context.lake.read("neighbours"), 5).collect()
        found = {row["image_id"]: row for row in context.lake.read("labels").collect()}
    assert len({row["fold"] for row in asked if row["image_id"] in cluster}) == 1
    assert len({row["fold"] for row in asked}) == 5
    near = next(row for row in asked if row["image_id"] == 0)
    assert [votes for id_, votes in zip(near["near_ids"], near["near_votes"], strict=True) if id_ in cluster] == [0] * 9
    assert set(sorted(found, key=lambda n: found[n]["score"])[: len(cluster)]) == set(cluster)
    assert all(found[image_id]["suggested_label"] == "cat" for image_id in cluster)


def test_copies_are_judged_by_the_neighbours_of_their_representative(spark: SparkSession, tmp_path: Path) -> None:
    pictures = animals(20)
    copied = pictures[0].but(content="same", width=2000)
    copy = copied.but(image_id=900, width=100, label="dog")
    with stage(spark, tmp_path, [copied, *pictures[1:], copy], clusters=[[0, 900]]) as (context, _):
        rows = {row["image_id"]: row for row in context.lake.read("labels").collect()}
        images, duplicates = context.lake.read("images"), context.lake.read("duplicates")
        conflicts = label_issues.conflict_issues(duplicates, images).collect()
    assert rows[0]["neighbour_share"] > 0.7
    assert rows[900]["neighbour_share"] < 0.3
    assert (rows[0]["flagged"], rows[900]["flagged"]) == (False, True)
    assert {(row["image_id"], row["evidence_id"], row["suggestion"]) for row in conflicts} == {
        (0, 900, "review"), (900, 0, "review")
    }  # fmt: skip


def test_in_a_cluster_of_many_labels_each_image_is_told_the_best_of_another(spark: SparkSession) -> None:
    rows = [(n, f"/{n}", f"label {n % 7}") for n in range(70)] + [(70, "/70", None), (71, "/71", " ")]
    images = frame_of(spark, [(*row, None) for row in rows], NAMED)
    duplicates = clusters_of(spark, [list(range(72)), []])
    found = {row["image_id"]: row for row in label_issues.conflict_issues(duplicates, images).collect()}
    assert set(found) == set(range(70))
    for image_id, row in found.items():
        assert row["evidence_id"] == (1 if image_id % 7 == 0 else 0), image_id  # 0 is the keeper; 1 the next by its URI
        assert row["score"] == pytest.approx(0.1)
    same = clusters_of(spark, [[0, 7, 14]])
    assert label_issues.conflict_issues(same, images).isEmpty()


def test_copies_with_other_sets_of_labels_contradict_each_other(spark: SparkSession) -> None:
    """An empty set says something, a label is as a set of it alone, and what is not known contradicts nothing."""
    sets = {0: ("cat", "dog"), 1: ("cat", "dog"), 2: ("cat",), 3: (), 5: None}
    rows = [(n, f"/{n}", None, names) for n, names in sets.items()] + [(4, "/4", "cat", None)]
    images = frame_of(spark, rows, NAMED)
    for cluster, told in (((0, 1), set()), ((2, 4), set()), ((0, 5), set()), ((0, 2), {0, 2}), ((2, 3), {2, 3}),
                          ((0, 4), {0, 4})):  # fmt: skip
        found = label_issues.conflict_issues(clusters_of(spark, [list(cluster)]), images).collect()
        assert {row["image_id"] for row in found} == told, cluster


def test_small_classes_are_left_out_and_said(spark: SparkSession, tmp_path: Path) -> None:
    pictures = relabelled(animals(30), {1: "rare\x1b[2J", 4: "few", 7: "few"})
    with stage(spark, tmp_path, pictures, "labels.min_images=5") as (context, counts):
        classes = {(row[0], row[1]): row[4] for row in small_lake.rows_of(context, "classes")}
        judged = {row["label"] for row in context.lake.read("labels").collect()}
    assert judged == set(ANIMALS)
    assert classes[("few", "train")] == "fewer than 5 different images"
    assert classes[("cat", "train")] is None
    assert counts["notes"][0] == ("labels: 2 of 5 classes left out, fewer than 5 different images (few, rare\\x1b[2J)")


def test_copies_do_not_make_a_class_large(spark: SparkSession, tmp_path: Path) -> None:
    """Twelve images of one cluster cannot be cross-validated: all are in one fold."""
    pictures = [*animals(20), *(Picture(500 + n, (0.0,) * 15 + (1.0,), label="logo") for n in range(12))]
    with stage(spark, tmp_path, pictures, clusters=[list(range(500, 512))]) as (context, counts):
        assert "logo" not in {row["label"] for row in context.lake.read("labels").collect()}
    assert "1 of 4 classes left out, fewer than 10 different images (logo)" in counts["notes"][0]


def test_a_class_whose_images_are_all_in_one_fold_is_left_out_and_the_others_judged(
    spark: SparkSession, tmp_path: Path
) -> None:
    pictures = animals(12)
    twins = [Picture(500 + n, (0.0,) * 15 + (1.0,), label="pair", content=f"pair {n}") for n in range(40)]
    with small_lake.in_memory(spark, tmp_path / "folds", twins) as context:
        fold = F.pmod(F.xxhash64(F.lit("fold"), content_key()), F.lit(5))
        by_fold: dict[int, list[int]] = {}
        for row in context.lake.read("features").select("image_id", fold.alias("fold")).collect():
            by_fold.setdefault(row["fold"], []).append(row["image_id"])
    chosen = next(ids[:2] for ids in by_fold.values() if len(ids) > 1)
    pictures += [p for p in twins if p.image_id in chosen]
    with stage(spark, tmp_path / "stage", pictures, "labels.min_images=2") as (context, counts):
        assert {row["label"] for row in context.lake.read("labels").collect()} == set(ANIMALS)
    assert f"1 of 4 classes left out, {label_classes.SEEN_TOGETHER} (pair)" in counts["notes"][0]


def test_the_largest_classes_are_judged_where_there_are_too_many(spark: SparkSession, tmp_path: Path) -> None:
    sizes = {"cat": 15, "dog": 14, "eel": 13}
    taken: dict[str, int] = {}
    pictures = []
    for p in animals(15):
        taken[p.label or ""] = taken.get(p.label or "", 0) + 1
        if taken[p.label or ""] <= sizes[p.label or ""]:
            pictures.append(p)
    with stage(spark, tmp_path, pictures, "labels.max_classes=2") as (context, counts):
        assert {row["label"] for row in context.lake.read("labels").collect()} == {"cat", "dog"}
    assert counts["notes"][0] == "labels: 1 of 3 classes left out, more than 2 classes are larger (eel)"


def _first(pictures: Sequence[Picture], label: Any) -> list[Picture]:
    return [p.but(label=label(p) if callable(label) else label) for p in pictures]


@pytest.mark.parametrize(
    ("label", "split", "note"),
    [
        (None, None, "labels: no image has one, so none was judged"),
        (" ", None, "labels: no image has one, so none was judged"),
        ("\u202ecat", None, "labels: all 36 images have the label \\u202ecat" + NONE),
        (lambda p: f"of its own {p.image_id}", None, "labels: each of the 36 images has a label of its own" + NONE),
        (lambda p: f"of three {p.image_id // 3}", None, "labels: fewer than two classes are left" + NONE),
        (lambda p: "most" if p.image_id < 30 else "few", None, "labels: fewer than two classes are left" + NONE),
        (None, "train", "labels: no image has one, so none was judged"),  # the issues say what one split means
    ],
)  # fmt: skip
def test_labels_that_cannot_be_judged_are_a_clear_word(
    spark: SparkSession, tmp_path: Path, label: Any, split: str | None, note: str
) -> None:
    pictures = [p.but(split=split) for p in _first(animals(12), label)]
    with stage(spark, tmp_path, pictures) as (context, counts):
        assert note in counts["notes"]
        assert not [told for told in counts["notes"] if "split" in told]
        assert all(context.lake.read(name).isEmpty() for name in ("labels", "confusions"))
        assert label_issues.wrong_label_issues(context.lake.read("labels")).isEmpty()


def test_images_without_a_label_and_imbalance_are_said(spark: SparkSession, tmp_path: Path) -> None:
    pictures = [p for p in animals(120) if p.label != "eel" and not (p.label == "dog" and p.image_id > 35)]
    pictures = relabelled(pictures, {0: None, 3: " ", 6: "dog"})
    with stage(spark, tmp_path, pictures, "labels.folds=2") as (context, counts):
        rows = {row["image_id"]: row for row in context.lake.read("labels").collect()}
    assert not {0, 3} & set(rows)
    assert rows[6]["flagged"]
    assert counts["notes"][0] == f"labels: 2 of {len(pictures)} images have none"
    assert counts["notes"][-1] == "labels: cat and dog are confused most (1 image)"
    large = [p for p in animals(120) if p.label == "cat" or p.image_id < 33]
    with stage(spark, tmp_path / "large", large, "labels.min_images=10") as (_, counts):
        assert "labels: the largest class has 120 images, the smallest 11: 11 to 1" in counts["notes"]


def test_a_sample_judges_all(spark: SparkSession, tmp_path: Path) -> None:
    """Of 1,800 images 1,000 are drawn; a wrong label among the others is found all the same."""
    wrong = {n: ANIMALS[(n + 1) % 3] for n in range(0, 1800, 100)}
    pictures = relabelled(animals(600), {**wrong})
    with stage(spark, tmp_path, pictures, "labels.sample_images=1000") as (context, counts):
        rows = context.lake.read("labels").orderBy("score").collect()
        sizes = np.array([600] * 3)
        drawn = label_classes.Classes(["a", "b", "c"], sizes, sizes).numbered(context.lake, 1000)
        parts = [row["parts"] for row in drawn.collect()]
    assert counts["labelled"] == 1800
    assert parts == [pytest.approx(10**6 / 1.8, abs=1)] * 3
    assert {row["image_id"] for row in rows[: len(wrong)]} == set(wrong)
    assert sum(row["flagged"] for row in rows[: len(wrong)]) > len(wrong) / 2
    assert not any(row["flagged"] for row in rows[len(wrong) :])


def test_long_vectors_are_shortened(spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from udfs.labels import model as label_model

    monkeypatch.setattr(label_model, "MOST_DIMENSIONS", 12)
    with stage(spark, tmp_path, relabelled(animals(), {0: "dog"})) as (context, _):
        assert len(labels._vectors(context).first()["vector"]) == 12  # type: ignore[index]
        assert 0 in {row["image_id"] for row in context.lake.read("labels").where("flagged").collect()}


@pytest.mark.parametrize("wish", ["balanced", "precise", "thorough", "0.5"])
def test_flags_are_as_many_as_was_wished(spark: SparkSession, tmp_path: Path, wish: str) -> None:
    """Classes that cannot be told apart in each image: whoever wants all that are wrong gets right ones too."""
    generator = np.random.default_rng(4)
    pictures = [p.but(vector=_blurred(p, generator)) for p in animals(100)]
    wrong = {n: ANIMALS[(n + 1) % 3] for n in range(0, 300, 10)}
    option = f"labels.precision={wish}" if wish == "0.5" else f"labels.flag={wish}"
    with stage(spark, tmp_path, relabelled(pictures, {**wrong}), option) as (context, counts):
        rows = context.lake.read("labels").collect()
    flagged = {row["image_id"]: row["probability_wrong"] for row in rows if row["flagged"]}
    caution = 1.0 if wish == "thorough" else counts["wrong"]["caution"]
    order = np.sort([row["probability_wrong"] for row in rows])[::-1]
    order = caution * order / (1 - (1 - caution) * order)
    expected, everything = order[: len(flagged)].sum(), order.sum()
    precision, recall = expected / len(flagged), expected / everything
    assert 0 < caution <= 1
    assert 10 < len(flagged) < 150
    assert min(flagged.values()) >= max(row["probability_wrong"] for row in rows if not row["flagged"])
    if wish == "thorough":
        assert recall >= 0.9
    if wish == "precise":
        assert 0.9 <= precision < 0.97
    if wish == "0.5":
        assert 0.5 <= precision < 0.56
    if wish == "balanced":
        best = (2 * np.cumsum(order) / (np.arange(1, 301) + everything)).max()
        assert 2 * expected / (len(flagged) + everything) == pytest.approx(best, abs=0.01)
    assert counts["wrong"]["low"] <= 0.1 <= counts["wrong"]["high"]
    told = f"labels: {portion(counts['wrong']['share'])} are wrong by estimate, between "
    assert any(note.startswith(told) for note in counts["notes"])


def _blurred(picture: Picture, generator: np.random.Generator) -> tuple[float, ...]:
    vector = np.array(picture.vector) + generator.normal(size=16) * 0.3
    return tuple(unit([vector])[0].tolist())


def test_clean_labels_are_told_so(spark: SparkSession, tmp_path: Path) -> None:
    with stage(spark, tmp_path, animals(60)) as (context, counts):
        rows = small_lake.rows_of(context, "classes")
    assert (counts["wrong"]["low"], counts["flagged"]) == (0.0, 0)
    assert 0 < counts["wrong"]["high"] < 0.05
    assert any(note.startswith("labels: none can be shown to be wrong (at most ") for note in counts["notes"])
    assert all(row[6] == 0 for row in rows)


def test_names_of_a_hierarchy_very_unequal_classes_and_labels_that_are_unknown(
    spark: SparkSession, tmp_path: Path
) -> None:
    """A name with a slash is one name; images of an unknown label are neither judged nor counted as wrong."""
    names = ("animal/cat", "animal/dog", "vehicle/car")
    pictures = [p for p in animals(300, names) if p.label != "animal/dog" or p.image_id < 36]  # 12 of it
    wrong = {0: "animal/dog", 3: "vehicle/car", 2: "animal/cat", 7: None, 5: " "}
    with stage(spark, tmp_path, relabelled(pictures, wrong)) as (context, counts):
        rows = {row["image_id"]: row for row in context.lake.read("labels").collect()}
        classes = {row[0]: row for row in small_lake.rows_of(context, "classes") if row[1] == "train"}
    assert len(rows) == len(pictures) - 2
    assert {n for n, row in rows.items() if row["flagged"]} == {0, 3, 2}
    assert [rows[n]["suggested_label"] for n in (0, 3, 2)] == ["animal/cat", "animal/cat", "vehicle/car"]
    assert classes[None][5:] == (None,) * 6
    assert counts["labelled"] == len(rows)


def test_the_schema_of_what_is_judged_is_that_of_the_table() -> None:
    names = set(label_rows.JUDGED.names) - {"confident_label"} | {"flagged"}
    assert names == set(TABLES["labels"].schema.names)


def test_labels_of_other_types_in_a_manifest(spark: SparkSession, tmp_path: Path) -> None:
    """Whole numbers beside a missing one, which pandas writes as 1.0 and NaN; what is no label at all is refused."""
    uris = [f"/{number}.jpg" for number in range(4)]
    for number, (given, expected) in enumerate(
        (
            ([1.0, math.nan, None, 2.5], ["1", None, None, "2.5"]),
            ([1, 20, None, -3], ["1", "20", None, "-3"]),
            ([True, False, None, True], ["true", "false", None, "true"]),
        )
    ):
        file = tmp_path / f"{number}.parquet"
        pq.write_table(pa.table({"uri": uris, "label": pa.array(given, from_pandas=False)}), file)
        rows = manifests.read_manifest(spark, sources.Source(str(file), "parquet")).orderBy("uri").collect()
        assert [row["label"] for row in rows] == expected
    for name, value in (("label", {"name": "cat"}), ("split", ["cat", "dog"]), ("split", b"train")):
        file = tmp_path / f"bad {name} {type(value).__name__}.parquet"
        pq.write_table(pa.table({"uri": uris[:1], name: [value]}), file)
        with pytest.raises(InputError, match=f"the column '{name}' must be text or a number, is (struct|array|binary)"):
            manifests.read_manifest(spark, sources.Source(str(file), "parquet"))
