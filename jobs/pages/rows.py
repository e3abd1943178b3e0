"""What the report shows, read from the tables: of each kind a bounded number of rows, whatever the size of the lake."""

from __future__ import annotations

import datetime
import functools
import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

from pyspark.sql import Column, DataFrame, Row, Window
from pyspark.sql import functions as F

from jobs import __version__, tables
from jobs.config import Config
from jobs.engines.frames import frame_of, small
from jobs.findings.formulas import QUALITY as QUALITY_SCORES
from jobs.findings.rows import unlike
from jobs.lakes import Lake
from jobs.pages.texts import COPIES, LABELS
from jobs.pages.texts import ISSUES as TEXTS
from jobs.pages.values import OTHER_SPLITS, Leaks, Picture, Stage, Summary, Vote

ALL_SCORES = (*tables.SCORES, *tables.OUTLIER_SCORES)
BINS = 20  # of a histogram of scores
MEMBERS_SHOWN = 8  # of one cluster
PAIRS_SHOWN = 64  # pairs of splits, and as many of sources, of which leaks are counted
SPLITS_SHOWN = 8


def summarise(lake: Lake, config: Config, order: Sequence[str]) -> Summary:
    """The numbers of the first page. order: the names of the stages that come before it."""
    images, issues = lake.read("images"), lake.read("issues")
    by_issue = {row["issue"]: row["count"] for row in issues.groupBy("issue").count().collect()}
    found = suggestions(issues, images)
    embeddings, failures = lake.read("embeddings"), lake.read("failures")
    total = rows_of(
        images=images,
        embedded=embeddings.where(F.col("model") == config.embed.model),
        failed=failures.select("image_id").distinct(),
    )
    return Summary(
        lake=lake.uri,
        created_at=datetime.datetime.now(datetime.UTC),
        version=__version__,
        images=total["images"],
        embedded=total["embedded"],
        failed=total["failed"],
        model=config.embed.model,
        issues={issue: by_issue.get(issue, 0) for issue in tables.ISSUES},
        with_issues=found["with_issues"],
        removable=found["removable"],
        removable_bytes=found["removable_bytes"],
        relabel=found["relabel"],
        review=found["review"],
        leaks=leaks(lake.read("leaks")),
        splits=splits(images, total["images"]),
        histograms=histograms(lake.read("scores")),
        thresholds=thresholds(config),
        stages=last_stages(lake, order),
    )


def rows_of(**frames: DataFrame) -> dict[str, int]:
    """The number of rows of each, in one action."""
    counts = [frame.agg(F.count("*").alias("rows")).select(F.lit(name), "rows") for name, frame in frames.items()]
    return dict(map(tuple, functools.reduce(DataFrame.union, counts).collect()))


def suggestions(issues: DataFrame, images: DataFrame) -> Row:
    """One row: images with any issue, by what is suggested, and the bytes of the removable ones.

    review: images to look at for what they are, not for being copies or for their label, which have pages of their own.
    """
    to_look_at = [
        issue
        for issue, text in TEXTS.items()
        if text.theme not in (LABELS, COPIES) and issue not in tables.WITHOUT_PICTURE
    ]
    by_image = issues.groupBy("image_id").agg(
        F.max((F.col("suggestion") == "remove").cast("int")).alias("remove"),
        F.max((F.col("suggestion") == "relabel").cast("int")).alias("relabel"),
        F.max(((F.col("suggestion") == "review") & F.col("issue").isin(to_look_at)).cast("int")).alias("review"),
    )
    sized = by_image.join(images.select("image_id", "size_bytes"), "image_id", "left")
    return sized.agg(
        F.count("*").alias("with_issues"),
        F.coalesce(F.sum("remove"), F.lit(0)).alias("removable"),
        F.coalesce(F.sum("relabel"), F.lit(0)).alias("relabel"),
        F.coalesce(F.sum("review"), F.lit(0)).alias("review"),
        F.sum(F.when(F.col("remove") == 1, F.col("size_bytes"))).alias("removable_bytes"),
    ).collect()[0]


def splits(images: DataFrame, total: int) -> dict[str | None, int]:
    """split -> images: the SPLITS_SHOWN largest and, where there are more, the rest as OTHER_SPLITS."""
    largest = images.groupBy("split").count().orderBy(F.desc("count"), "split").limit(SPLITS_SHOWN).collect()
    found: dict[str | None, int] = {row["split"]: row["count"] for row in largest}
    rest = total - sum(found.values())
    return {**found, OTHER_SPLITS: found.get(OTHER_SPLITS, 0) + rest} if rest > 0 else found


def leaks(found: DataFrame) -> list[Leaks]:
    """The PAIRS_SHOWN pairs of splits and of sources with most leaks. found: the table `leaks`."""
    counted = found.groupBy("between", "here", "there").agg(
        F.count_if(F.col("kind") == "exact").alias("exact"), F.count_if(F.col("kind") == "near").alias("near")
    )
    order = Window.partitionBy("between").orderBy(F.desc(F.col("exact") + F.col("near")), "here", "there")
    rows = counted.withColumn("n", F.row_number().over(order)).where(F.col("n") <= PAIRS_SHOWN)
    return [
        Leaks(row["between"], row["here"], row["there"], row["exact"], row["near"])
        for row in rows.orderBy("between", "n").collect()
    ]


def histograms(scores: DataFrame) -> dict[str, list[int]]:
    """Images by score, in BINS equal bins over [0, 1], for each column of `scores`."""
    columns = [
        F.explode(F.array(*[F.struct(F.lit(name).alias("score"), F.col(name).alias("value")) for name in ALL_SCORES]))
    ]
    values = scores.select(*columns).select("col.*").where(F.col("value").isNotNull())
    bins = values.groupBy(
        "score", F.least(F.lit(BINS - 1), F.floor(F.col("value") * BINS)).cast("int").alias("bin")
    ).count()
    found: dict[str, list[int]] = {}
    for row in bins.collect():
        found.setdefault(row["score"], [0] * BINS)[row["bin"]] = row["count"]
    return {name: found[name] for name in ALL_SCORES if name in found}


def thresholds(config: Config) -> dict[str, float]:
    """score -> where an issue begins."""
    found = {score: getattr(config.issues, issue) for issue, score in QUALITY_SCORES.items()}
    by_distance = {"outlier_score": tables.OUTLIER, "class_outlier_score": tables.CLASS_OUTLIER}
    return {**found, **{score: getattr(config.issues, issue) for score, issue in by_distance.items()}}


def last_stages(lake: Lake, order: Sequence[str]) -> list[Stage]:
    """The newest row of `runs` of each stage, in that order."""
    newest = (
        lake.read("runs").groupBy("job").agg(F.max_by(F.struct("seconds", "counts", "status"), "ended_at").alias("r"))
    )
    rows = {row["job"]: row["r"] for row in newest.collect()}
    return [
        _stage(job, rows[job]["seconds"], json.loads(rows[job]["counts"]), rows[job]["status"])
        for job in order
        if job in rows
    ]


def _stage(job: str, seconds: float, counts: dict[str, Any], status: str) -> Stage:
    """counts: as the stage wrote them, "notes" being lines for a person."""
    numbers = {name: value for name, value in counts.items() if isinstance(value, int)}
    return Stage(job, seconds, numbers, status, [str(note) for note in counts.get("notes", ())])


def worst(issues: DataFrame, count: int) -> list[Row]:
    """The rows with the lowest scores of each kind of issue, at most count of each."""
    order = Window.partitionBy("issue").orderBy("score", "image_id")
    return issues.withColumn("n", F.row_number().over(order)).where(F.col("n") <= count).orderBy("issue", "n").collect()


def votes(labels: DataFrame, rows: Iterable[Row]) -> dict[int, Vote]:
    """What speaks against the labels of these rows of `issues`, by image. labels: the table."""
    ids = [(row["image_id"],) for row in rows if row["issue"] == tables.WRONG_LABEL]
    if not ids:
        return {}
    wanted = frame_of(labels.sparkSession, ids, "image_id bigint")
    found = labels.join(small(wanted), "image_id").collect()
    return {
        row["image_id"]: Vote(row["confidence"], row["suggested_confidence"], row["neighbour_share"]) for row in found
    }


def _unlike_keeper() -> Column:
    """How little a member of a cluster is like its keeper."""
    return unlike(F.col("cosine_to_keeper"), F.col("agreement"))


def largest_clusters(duplicates: DataFrame, count: int) -> list[Row]:
    """Members of the largest clusters, keeper first, at most MEMBERS_SHOWN of each."""
    sizes = (
        duplicates.where("is_keeper").select("cluster_id", "cluster_size").orderBy(F.desc("cluster_size"), "cluster_id")
    )
    order = Window.partitionBy("cluster_id").orderBy(F.desc("is_keeper"), _unlike_keeper(), "image_id")
    members = duplicates.join(sizes.limit(count).select("cluster_id"), "cluster_id", "left_semi")
    shown = members.withColumn("n", F.row_number().over(order)).where(F.col("n") <= MEMBERS_SHOWN)
    return shown.orderBy(F.desc("cluster_size"), "cluster_id", "n").collect()


def _thumb(image_id: int, etag: str, side: int) -> str:
    return f"thumbs/{image_id}-{hashlib.sha256(f'{side} {etag}'.encode()).hexdigest()[:12]}.jpg"


def pictures(lake: Lake, ids: list[int], side: int) -> dict[int, Picture]:
    """What the pages say of these images, with the thumbnail that each is to have, named after the image's bytes and
    size. ids: bounded by the settings of the report. side: of thumbnails, in pixels."""
    wanted = frame_of(lake.spark, [(i,) for i in ids], "image_id bigint")
    rows = (
        lake.read("images").join(small(wanted), "image_id")
        .join(lake.read("features").select("image_id", "width", "height"), "image_id", "left")
        .withColumn("label", F.coalesce("label", F.array_join("labels", ", ")))
        .select("image_id", "uri", "split", "label", "source", "etag", "width", "height")
        .collect()
    )  # fmt: skip
    return {
        row["image_id"]: Picture(
            row["image_id"], row["uri"], _thumb(row["image_id"], row["etag"], side),
            row["split"], row["label"], row["width"], row["height"], row["source"],
        )
        for row in rows
    }  # fmt: skip
