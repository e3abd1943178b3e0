"""Issues: says what is wrong with each image, with a score in [0, 1], low = bad, and the image that is the reason.

Raw properties become scores, scores become issues: a threshold moves without an image being read again."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import reduce
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs import embed, tables
from jobs.duplicates.near_rules import near_rule
from jobs.engines.frames import batch_rows, keep
from jobs.findings import leaks, outliers
from jobs.findings.common import Common, without_common
from jobs.findings.detected import release_issues, text_issues
from jobs.findings.formulas import QUALITY
from jobs.findings.label_issues import conflict_issues, wrong_label_issues
from jobs.findings.label_sets import wrong_set_issues
from jobs.findings.rows import issue_rows, unlike
from jobs.findings.scores import Sides, quality_issues, quality_scores, share_in_colour, usual_sides
from jobs.findings.unread import SPOILT, UNREAD
from jobs.inputs.members import is_broken_shard
from jobs.pages.format import written_out
from jobs.stage import Context, Counts, Stage, submitted
from jobs.tables import TABLES
from udfs.images.relation_names import SAME_PIXELS, UNLIKE
from udfs.vectors.near_rule import NearRule

JOB = "issues"
ARROW_ROWS = 512  # in a batch: 2.6 MB of 1,280 numbers
SHOWN = 100  # characters of a split that a note repeats
USUAL = "usual"  # of the counts of a run
LIMITED = (*QUALITY, tables.OUTLIER, tables.CLASS_OUTLIER, tables.NEEDS_RELEASE, tables.MOSTLY_TEXT)


@dataclass(frozen=True)
class Usual:
    """What is usual in a lake, by which each of its images is judged: what comes between two runs is judged by it too.

    sides: of scores.usual_sides. in_colour: of scores.share_in_colour."""

    sides: Sides
    in_colour: float
    common: Common

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return dict(json.loads(json.dumps(asdict(self))))

    @staticmethod
    def of(found: Mapping[str, Any]) -> Usual:
        """What as_dict() has written."""
        q1, median, q3 = found["sides"]
        places = tuple((issue, place, name) for issue, place, name in found["common"]["places"])
        return Usual((q1, median, q3), found["in_colour"], Common(tuple(found["common"]["everywhere"]), places))


def unreadable_issues(failures: DataFrame, images: DataFrame) -> DataFrame:
    """corrupted: the bytes are no image, or are damaged; to be removed. unread: the image may be good; to be looked at,
    and the detail says what would read it.

    A broken shard stands for all that could not be read of it, but most of it may be good: it is to be looked at."""
    failed = failures.where(F.col("stage") == embed.JOB).select("image_id", "error")
    rows = failed.join(images.select("image_id", is_broken_shard().alias("is_shard")), "image_id")
    spoilt = rows.where(F.col("error").isin(*SPOILT)).withColumns(
        {"issue": F.lit(tables.CORRUPTED), "score": F.lit(0.0)}
    )
    remedy = F.coalesce(*(F.when(F.col("error") == code, F.lit(text)) for code, text in UNREAD.items()))
    unread = rows.where(F.col("error").isin(*UNREAD)).withColumns(
        {"issue": F.lit(tables.UNREAD), "score": F.lit(0.0), "detail": remedy}
    )
    parts = (
        issue_rows(spoilt.where(~F.col("is_shard")), "remove"),
        issue_rows(spoilt.where("is_shard"), "review"),
        issue_rows(unread, "review"),
    )
    return reduce(DataFrame.unionByName, parts)


def damaged_issues(features: DataFrame) -> DataFrame:
    """Files that are not as they should be though all their pixels are there; the detail says what is odd."""
    odd = features.where(F.col("damage").isNotNull()).select(
        "image_id", F.lit(tables.DAMAGED).alias("issue"), F.lit(0.0).alias("score"), F.col("damage").alias("detail")
    )
    return issue_rows(odd, "review")


def duplicate_issues(copies: DataFrame, duplicates: DataFrame) -> DataFrame:
    """exact_duplicate: an image with the same pixels as a better one, its representative. near_duplicate: a
    representative that its cluster does not keep. The evidence is the better one; the score is that of `unlike`;
    the detail says how they differ (docs/copies.md)."""
    exact = copies.where(F.col("image_id") != F.col("representative_id")).select(
        "image_id",
        F.lit(tables.EXACT_DUPLICATE).alias("issue"),
        F.lit(0.0).alias("score"),
        F.col("representative_id").alias("evidence_id"),
        F.lit(1.0).alias("cosine"),
        F.lit(SAME_PIXELS).alias("detail"),
    )
    representatives = copies.where(F.col("image_id") == F.col("representative_id")).select("image_id")
    near = (
        duplicates.where(~F.col("is_keeper"))
        .join(representatives, "image_id", "left_semi")
        .select(
            "image_id",
            F.lit(tables.NEAR_DUPLICATE).alias("issue"),
            unlike(F.col("cosine_to_keeper"), F.col("agreement")).alias("score"),
            F.col("keeper_id").alias("evidence_id"),
            F.col("cosine_to_keeper").alias("cosine"),
            F.col("relation").alias("detail"),
        )
    )
    return issue_rows(exact.unionByName(near), "remove")


def look_alike_issues(look_alikes: DataFrame, rule: NearRule) -> DataFrame:
    """Images that are nearly copies of another and show something else: another text, part or colour. look_alikes: the
    table. Those that only the network takes for alike, and whose pixels have nothing in common, are none, nor are those
    that the network is not certain of: they are like one another as many are."""
    rows = look_alikes.where((F.col("relation") != UNLIKE) & (F.col("cosine") >= rule.surest)).select(
        "image_id",
        F.lit(tables.LOOK_ALIKE).alias("issue"),
        unlike(F.col("cosine"), F.col("agreement")).alias("score"),
        F.col("other_id").alias("evidence_id"),
        "cosine",
        F.col("relation").alias("detail"),
    )
    return issue_rows(rows, "review")


def issues(context: Context) -> Counts:
    """Writes `scores`, `leaks` and `issues` anew from the other tables."""
    lake, config = context.lake, context.config
    images = lake.require("images")
    of_model = lake.require("embeddings").where(F.col("model") == config.embed.model)
    embeddings = of_model.select("image_id", "vector")
    neighbours = lake.require("neighbours")
    duplicates = keep(lake.require("duplicates"))
    labels = lake.read("labels")
    copies = keep(lake.require("copies"))
    limits = config.issues
    try:
        with batch_rows(lake.spark, ARROW_ROWS):
            scored = copies.count()
            measured, notes = outliers.measured(embeddings, images, copies, duplicates, scored)
            near = outliers.nearness(neighbours, duplicates).withColumnRenamed("image_id", "representative_id")
            values = keep(
                copies.select("image_id", "representative_id")
                .join(near, "representative_id", "left")
                .join(measured, "image_id")
            )
            sides = usual_sides(lake.read("features"))
            quality = quality_scores(lake.read("features"), sides)
            scores = keep(quality.join(outliers.outlier_scores(values), "image_id"))
            foreign = outliers.foreign(scores, duplicates)
            in_colour = share_in_colour(scores, limits.grayscale)
            lake.overwrite("scores", scores.select(*TABLES["scores"].schema.names))
            total, leaky, told = _places(images)
            if leaky:
                lake.overwrite("leaks", _leaks(leaky, copies, duplicates, images, embeddings))
            else:
                lake.empty("leaks")
        wrong = labels.where("flagged").select("image_id")
        alike = lake.read("look_alikes")
        parts = [
            quality_issues(scores, {issue: getattr(limits, issue) for issue in QUALITY}, in_colour),
            unreadable_issues(lake.read("failures"), images),
            damaged_issues(lake.read("features")),
            duplicate_issues(copies, duplicates),
            look_alike_issues(alike, near_rule(config)),
            outliers.outlier_issues(scores, limits.outlier, foreign),
            outliers.class_outlier_issues(scores, limits.class_outlier, wrong, images, neighbours),
            wrong_label_issues(labels),
            wrong_set_issues(lake.read("label_sets")),
            conflict_issues(duplicates, images),
            leaks.leak_issues(lake.read("leaks")),
            release_issues(lake.read("detections"), limits.needs_release),
            text_issues(lake.read("detections"), limits.mostly_text),
        ]
        rows, usual, common = without_common(reduce(DataFrame.unionByName, parts), images, alike, limits.common_share)
        lake.overwrite("issues", rows)
        found = (
            lake.read("issues").agg(F.count("*").alias("issues"), F.countDistinct("image_id").alias("images")).head()
        )
        notes += [*outliers.told(foreign), *told, *usual]
        return {
            "in": total, "out": scored, "failed": lake.read("failures").where(F.col("stage") == embed.JOB).count(),
            "issues": found["issues"] if found else 0, "images_with_issues": found["images"] if found else 0,
            USUAL: Usual(sides, in_colour, common).as_dict(), **outliers.numbers(foreign),
            **({"notes": notes} if notes else {}),
        }  # fmt: skip
    finally:
        lake.engine.forget_all()


def _places(images: DataFrame) -> tuple[int, list[str], list[str]]:
    """How many images there are; which of `split` and `source` have more than one value, so that there may be leaks;
    and what there is to say."""
    spans = [F.struct(F.min(name).alias("first"), F.max(name).alias("last")).alias(name) for name in leaks.ISSUE]
    row = images.agg(F.count("*").alias("images"), *spans).head()
    if row is None:
        return 0, [], []
    several = [name for name in leaks.ISSUE if row[name]["first"] != row[name]["last"]]
    only = row[leaks.SPLIT]["first"]
    told = []
    if only is not None and leaks.SPLIT not in several:
        told.append(f"leaks: all images are in one split ({written_out(only[:SHOWN])}): none can be found")
    return row["images"], several, told


def _leaks(
    several: list[str], copies: DataFrame, duplicates: DataFrame, images: DataFrame, embeddings: DataFrame
) -> DataFrame:
    """The rows of `leaks`. several: what has more than one value."""
    pairs = [leaks.pairs_between(duplicates, copies, images, between) for between in several]
    return leaks.with_cosines(reduce(DataFrame.unionByName, pairs), embeddings)


def _settings(context: Context) -> dict[str, Any]:
    limits = {issue: getattr(context.config.issues, issue) for issue in LIMITED}
    return {"model": context.config.embed.model, "common_share": context.config.issues.common_share, **limits}


STAGE = Stage(
    name=JOB,
    does="say what is wrong with each image",
    reads=(
        "images",
        "features",
        "failures",
        "embeddings",
        "detections",
        "copies",
        "neighbours",
        "duplicates",
        "look_alikes",
        "labels",
        "label_sets",
    ),
    writes=("scores", "leaks", "issues"),
    settings=_settings,
    body=issues,
)


if __name__ == "__main__":
    sys.exit(submitted(JOB))
