"""Catches concepts and topics that depend on how the lake lies in partitions, and pages that duplicates fill."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pyspark.sql import functions as F

from jobs import config, content
from jobs.engines.frames import frame_of
from jobs.stage import Context
from jobs.tables import TABLES
from tests.conftest import spark_only
from tests.spark import small_lake
from tests.spark.small_lake import Picture, rows_of
from tests.vectors import unit
from udfs.networks import concepts
from udfs.networks.concepts import Classifier

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

DIMENSION = 16
NAMES = ("crane", "tench", "dock", "pug", "barn", "fig")
GROUPS = {"bird": 60, "fish": 30, "ship": 14}  # label of most of a group: its images
COPIES = 50  # of one ship, but for the first all redundant
CLASSIFIER = Classifier(NAMES, 3 * np.eye(len(NAMES), DIMENSION, dtype=np.float32), np.zeros(len(NAMES), np.float32))
TABLES_OF_STAGE = ("concepts", "topics", "topic_summaries")


def pictures() -> list[Picture]:
    """Groups around three directions, of which the classifier knows the names, then the copies of the last image."""
    generator = np.random.default_rng(0)
    found: list[Picture] = []
    for group, (label, size) in enumerate(GROUPS.items()):
        rows = unit(np.eye(DIMENSION)[group] + 0.4 + 0.05 * generator.normal(size=(size, DIMENSION)))
        for number, row in enumerate(rows.tolist()):
            given = None if number == 0 else "odd" if number == 1 else label
            found.append(Picture(len(found), tuple(row), label=given, norm=5.0 + number % 3))
    last = found[-1].but(content="copied")
    return [*found[:-1], last, *[last.but(image_id=last.image_id + number) for number in range(1, COPIES)]]


def run(context: Context, spark: SparkSession) -> dict[str, Any]:
    ships = [p for p in pictures() if p.content]
    rows = [(p.image_id, 0, "exact", ships[0].image_id, p is ships[0], 1.0, None, 1.0, COPIES, 0) for p in ships]
    tables: Any = context.lake
    tables.tables["duplicates"] = frame_of(
        spark, rows if len(context.lake.read("embeddings").head(1)) else [], TABLES["duplicates"].schema
    )
    return content.content(context)


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(concepts, "prepare", lambda model, cache: CLASSIFIER if "lite0" in model.key else None)


def test_what_the_images_show(spark: SparkSession, tmp_path: Path) -> None:
    """Concepts of another image, a topic made of copies, typical images that are copies or far from the centre, and
    names that are not those of the images."""
    with small_lake.in_memory(spark, tmp_path, pictures(), "content.topics=3", "content.concepts=2") as context:
        counts = run(context, spark)
        total = len(pictures())
        assert counts == {"in": total, "out": total, "failed": 0, "concepts": 2 * total, "topics": 3}
        named, placed, summed = (rows_of(context, name) for name in TABLES_OF_STAGE)
    logits = {p.image_id: 3 * (p.norm or 0) * np.array(p.vector)[: len(NAMES)] for p in pictures()}
    assert len(named) == 2 * total
    for image_id, rank, concept, confidence in named:
        place = np.argsort(-logits[image_id])[rank - 1]
        assert concept == NAMES[place]
        assert confidence == pytest.approx(np.exp(logits[image_id][place]) / np.exp(logits[image_id]).sum(), abs=1e-4)
    ships = GROUPS["ship"] - 1 + COPIES
    sizes = sorted(zip((ships, 60, 30), ("ship", "bird", "fish"), strict=True), reverse=True)
    names = dict(zip(GROUPS, NAMES, strict=False))
    distances = {image_id: (topic_id, distance) for image_id, topic_id, distance in placed}
    by_id = {p.image_id: p for p in pictures()}
    for (topic_id, images, typical, common, labels), (size, label) in zip(summed, sizes, strict=True):
        inside = [image_id for image_id, (topic, _) in distances.items() if topic == topic_id]
        assert images == len(inside) == size
        assert (common[0]["name"], common[0]["images"]) == (names[label], size)
        assert [tuple(one) for one in labels] == [(label, size - 2), ("odd", 1)]
        different = [i for i in inside if i not in range(by_id[max(by_id)].image_id - COPIES + 2, max(by_id) + 1)]
        expected = sorted(different, key=lambda i: (distances[i][1], by_id[i].uri))[:12]
        assert typical == expected
    assert [topic_id for topic_id, *_ in summed] == [1, 2, 3]


@pytest.mark.parametrize("seed", [1, 2])
def test_the_same_images_give_the_same_tables(spark: SparkSession, tmp_path: Path, seed: int) -> None:
    """A sample, numbers of topics or lists that depend on the order of rows or on partitions."""
    found = []
    for folder, shuffled in (("plain", None), ("other", seed)):
        (tmp_path / folder).mkdir()
        with small_lake.in_memory(spark, tmp_path / folder, pictures(), shuffled=shuffled) as context:
            run(context, spark)
            found.append([rows_of(context, name) for name in TABLES_OF_STAGE])
    assert found[0] == found[1]
    assert len(found[0][2]) == round((sum(GROUPS.values()) / 2) ** 0.5), "copies do not count"


def test_models_without_a_classifier(spark: SparkSession, tmp_path: Path) -> None:
    """No word about the missing concepts, or no topics either."""
    plain = [p.but(norm=None) for p in pictures()]
    with small_lake.in_memory(spark, tmp_path, plain, "content.topics=3") as context:
        counts = run(context, spark)
        assert counts["notes"] == [
            "concepts: the lengths of the vectors of efficientnet-lite0@imagenet-3 are not known; none were named"
        ]
        assert (counts["concepts"], counts["topics"]) == (0, 3)
        assert rows_of(context, "concepts") == []
        summed = rows_of(context, "topic_summaries", "images", "concepts")
        assert sorted(summed) == [(30, []), (60, []), (63, [])]


def test_imported_vectors(spark: SparkSession, tmp_path: Path) -> None:
    """Concepts of a classifier that was made for other vectors."""
    card = tmp_path / "card.yaml"
    card.write_text("models: {ours@1: {format: vectors, weights: /v, dimension: 16, licence: ours, source: us}}\n")
    with small_lake.in_memory(spark, tmp_path / "lake", [p.but(norm=None) for p in pictures()]) as context:
        tables: Any = context.lake
        tables.tables["embeddings"] = context.lake.read("embeddings").withColumn("model", F.lit("ours@1"))
        settings = config.load([str(card)], ["embed.model=ours@1"])
        counts = run(Context(context.lake, settings, context.reporter), spark)
        assert counts["notes"] == ["concepts: ours@1 has no classifier; none were named"]
        assert (counts["concepts"], counts["topics"]) == (0, 7)


def test_no_images_and_one(spark: SparkSession, tmp_path: Path) -> None:
    """A crash where nothing could be read, or where nothing can be learnt."""
    for folder, these in (("none", []), ("one", pictures()[:1])):
        (tmp_path / folder).mkdir()
        with small_lake.in_memory(spark, tmp_path / folder, these, "content.concepts=0") as context:
            tables: Any = context.lake
            tables.tables["duplicates"] = frame_of(spark, [], TABLES["duplicates"].schema)
            counts = content.content(context)
            assert (counts["in"], counts["out"], counts["topics"]) == (len(these), len(these), len(these))
            assert "notes" not in counts
            assert rows_of(context, "concepts") == []
            assert rows_of(context, "topics") == [(0, 1, pytest.approx(0, abs=1e-6))][: len(these)]


def test_labels_that_are_all_different_stay_few(spark: SparkSession) -> None:
    """A page that holds a name for each image; ties in any order."""
    many = spark.range(500).select(
        (F.col("id") % 2).cast("int").alias("topic_id"), F.col("id").cast("string").alias("name")
    )
    rows = {row["topic_id"]: row["found"] for row in content.common_names(many.repartition(5)).collect()}
    for topic_id, found in rows.items():
        expected = sorted(str(number) for number in range(topic_id, 500, 2))[: content.COMMON]
        assert [tuple(one) for one in found] == [(name, 1) for name in expected]


@spark_only
def test_no_task_sorts_a_whole_topic(spark: SparkSession, capsys: pytest.CaptureFixture[str]) -> None:
    """A window that brings a topic together before it is cut: a topic may be a tenth of the lake."""
    rows = spark.range(1000).select(
        (F.col("id") % 3).cast("int").alias("topic_id"), "id", (-F.col("id")).alias("distance")
    )
    found = content.first_of_topics(rows, [F.asc("distance")], 4, F.col("id"), F.col("id") > 0)
    found.explain()
    assert capsys.readouterr().out.count("WindowGroupLimit") == 2, "one before the exchange, one after"
    largest = {row["topic_id"]: row["found"] for row in found.collect()}
    assert largest == {topic: sorted(range(topic, 1000, 3), reverse=True)[:4] for topic in range(3)}


def test_topics_are_numbered_by_size() -> None:
    assert content._numbers([5, 9, 0, 9]) == [3, 1, 4, 2]
    assert Counter(content._numbers([1] * 4)) == Counter([1, 2, 3, 4])
