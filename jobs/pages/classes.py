"""What the report says of labels, read from the tables: a bounded number of classes, and of pairs that are confused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from jobs.engines.frames import frame_of, small
from jobs.lakes import Lake, each_label
from jobs.pages.values import OTHER_SPLITS, Class, Classes, Confusion, Finding, LeftOut, Picture

LARGEST = 100  # classes shown with their counts, and of the smallest
SMALLEST = 20
PAIRS = 24  # of confused labels
REASONS = 10  # why classes were left out
NOISE = ("noise", "noise_low", "noise_high")
ACCURACY = ("accuracy", "accuracy_corrected", "accuracy_without")
WRONG = ("share", "low", "high")  # of the count `wrong` of the stage


@dataclass(frozen=True)
class ClassRows:
    """Classes, whose confusions still lack their examples: (image, evidence) of each, in their order."""

    classes: Classes
    examples: list[tuple[int, int | None] | None]

    @property
    def image_ids(self) -> set[int]:
        return {i for example in self.examples if example is not None for i in example if i is not None}

    def shown(self, known: Mapping[int, Picture]) -> Classes:
        """With the examples as pictures."""
        pairs = [
            replace(pair, example=None if example is None else _example(example, known))
            for pair, example in zip(self.classes.confusions, self.examples, strict=True)
        ]
        return replace(self.classes, confusions=pairs)


def _example(ids: tuple[int, int | None], known: Mapping[int, Picture]) -> Finding | None:
    image_id, evidence_id = ids
    if image_id not in known:
        return None
    return Finding(known[image_id], None, evidence=None if evidence_id is None else known.get(evidence_id))


def class_rows(lake: Lake, splits: Iterable[str | None], counts: Mapping[str, Any]) -> ClassRows | None:
    """The state of the labels; None where no image has one. splits: those told apart. counts: of the stage labels."""
    counted = lake.read("classes")
    by_label = counted.groupBy("label").agg(
        F.sum("images").alias("images"), F.sum("flagged").alias("flagged"), F.max("why_left_out").alias("why"),
        *(F.max(name).alias(name) for name in (*NOISE, *ACCURACY)),
    )  # fmt: skip
    named = by_label.where(F.col("label").isNotNull())
    total = named.agg(
        F.count("*").alias("labels"), F.max("images").alias("biggest"), F.min("images").alias("smallest"),
        F.percentile("images", F.lit(0.5)).alias("median"), F.sum("flagged").alias("flagged"),
    ).collect()[0]  # fmt: skip
    if not total["labels"]:
        return None
    known_splits = [split for split in splits if split is not None]
    split = F.when(F.col("split").isNull() | F.col("split").isin(known_splits), F.col("split")).otherwise(
        F.lit(OTHER_SPLITS)
    )
    by_split = counted.groupBy(split.alias("split")).agg(F.sum("images").alias("images"))
    given = None
    if counts.get("sets"):  # an image counts for each of its labels there
        given = counted.agg(F.sum("images")).collect()[0][0]
        seen = lake.read("images").join(lake.read("features").select("image_id"), "image_id", "left_semi")
        by_split = seen.groupBy(split.alias("split")).agg(F.count("*").alias("images"))
    of_split = {row["split"]: row["images"] for row in by_split.collect()}
    left_out = (
        named.where(F.col("why").isNotNull()).groupBy("why")
        .agg(F.count("*").alias("classes"), F.sum("images").alias("images"))
        .orderBy(F.desc("classes"), "why").limit(REASONS).collect()
    )  # fmt: skip
    confusions = lake.read("confusions")
    pairs = confusions.orderBy(F.desc("images"), "label", "other_label").limit(PAIRS).collect()
    classes = Classes(
        total["labels"],
        _classes(lake, counted, by_label, split),
        total["biggest"],
        total["median"],
        total["smallest"],
        of_split,
        total["flagged"],
        [LeftOut(row["why"], row["classes"], row["images"]) for row in left_out],
        [Confusion(row["label"], row["other_label"], row["images"], row["share"]) for row in pairs],
        confusions.count(),
        _three(counts.get("wrong", {}), WRONG),
        given,
        counts.get("wrong_in_sets", {}).get("share"),
    )
    return ClassRows(classes, _examples(lake.read("labels"), pairs))


def _classes(lake: Lake, counted: DataFrame, by_label: DataFrame, split: Column) -> list[Class]:
    """The largest and the smallest classes, and the images without a label."""
    named = by_label.where(F.col("label").isNotNull())
    largest = named.orderBy(F.desc("images"), "label").limit(LARGEST)
    smallest = named.orderBy("images", "label").limit(SMALLEST)
    rows = {
        row["label"]: row for row in largest.union(smallest).union(by_label.where(F.col("label").isNull())).collect()
    }
    shown = frame_of(lake.spark, [(label,) for label in rows], "top string")
    same = F.col("label").eqNullSafe(F.col("top"))
    in_split: dict[str | None, dict[str | None, int]] = {}
    of_shown = counted.join(small(shown), same).groupBy("label", split.alias("split"))
    for row in of_shown.agg(F.sum("images").alias("images")).collect():
        in_split.setdefault(row["label"], {})[row["split"]] = row["images"]
    troubled = lake.read("issues").select("image_id").distinct()
    labelled = lake.read("images").select("image_id", each_label().alias("label")).join(small(shown), same)
    by_issue = labelled.join(troubled, "image_id", "left_semi").groupBy("label").count().collect()
    with_issues = {row["label"]: row["count"] for row in by_issue}
    return [
        Class(
            label, in_split.get(label, {}), row["flagged"], with_issues.get(label, 0), row["why"],
            _three(row.asDict(), NOISE), _three(row.asDict(), ACCURACY),
        )
        for label, row in rows.items()
    ]  # fmt: skip


def _three(values: Mapping[str, Any], names: tuple[str, str, str]) -> tuple[float, float, float] | None:
    one, two, three = (values.get(name) for name in names)
    return None if one is None or two is None or three is None else (one, two, three)


def _examples(labels: DataFrame, pairs: list[Row]) -> list[tuple[int, int | None] | None]:
    """(image, evidence) of the clearest label of each pair of confused labels, a flagged one first, or None."""
    if not pairs:
        return []
    named = [(row["label"], row["other_label"]) for row in pairs]
    wanted = frame_of(labels.sparkSession, named, "label string, suggested_label string")
    clearest = F.min(F.struct(~F.col("flagged"), "score", "image_id", "evidence_id")).alias("first")
    rows = labels.join(small(wanted), ["label", "suggested_label"])
    found = {
        (row["label"], row["suggested_label"]): (row["first"]["image_id"], row["first"]["evidence_id"])
        for row in rows.groupBy("label", "suggested_label").agg(clearest).collect()
    }
    return [found.get((row["label"], row["other_label"])) for row in pairs]
