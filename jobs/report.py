"""Report: gathers what the pages show, a bounded number of images of each kind, and makes their thumbnails."""

from __future__ import annotations

import datetime
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, Row, Window
from pyspark.sql import functions as F
from pyspark.sql.types import BinaryType, LongType, StructField, StructType

from jobs import __version__, report_pages, tables
from jobs.issues import QUALITY
from jobs.report_pages import (
    Clusters,
    ClusterView,
    Failure,
    Failures,
    Finding,
    Gallery,
    Member,
    Picture,
    Stage,
    Summary,
)
from jobs.runs import Context, Counts, StageResult, run_stage
from jobs.tables import Lake
from udfs import arrow, fetch, objects, uris

JOB = "report"
BINS = 20  # of a histogram of scores
MEMBERS_SHOWN = 12  # of one cluster
THUMBNAILS = StructType([StructField("image_id", LongType(), False), StructField("webp", BinaryType())])
LEAK_PAIRS = 20  # pairs of splits that are told apart


def index_of(report_uri: str) -> str:
    """The first page of a report, as a person can open it."""
    return uris.join(report_uri, "index.html")


def worst(issues: DataFrame, count: int) -> list[Row]:
    """The rows with the lowest scores of each kind of issue, at most count of each."""
    order = Window.partitionBy("issue").orderBy("score", "image_id")
    return issues.withColumn("n", F.row_number().over(order)).where(F.col("n") <= count).orderBy("issue", "n").collect()


def largest_clusters(duplicates: DataFrame, count: int) -> list[Row]:
    """Members of the largest clusters, keeper first, at most MEMBERS_SHOWN of each."""
    sizes = (
        duplicates.where("is_keeper").select("cluster_id", "cluster_size").orderBy(F.desc("cluster_size"), "cluster_id")
    )
    order = Window.partitionBy("cluster_id").orderBy(F.desc("is_keeper"), F.desc("cosine_to_keeper"), "image_id")
    members = duplicates.join(sizes.limit(count).select("cluster_id"), "cluster_id", "left_semi")
    shown = members.withColumn("n", F.row_number().over(order)).where(F.col("n") <= MEMBERS_SHOWN)
    return shown.orderBy(F.desc("cluster_size"), "cluster_id", "n").collect()


def pictures(lake: Lake, ids: list[int], thumbnails: set[int]) -> dict[int, Picture]:
    """What the pages say of these images. ids: bounded by the settings of the report."""
    wanted = lake.spark.createDataFrame([(i,) for i in ids], "image_id bigint")
    rows = (
        lake.read("images").join(F.broadcast(wanted), "image_id")
        .join(lake.read("features").select("image_id", "width", "height"), "image_id", "left")
        .select("image_id", "uri", "split", "label", "width", "height")
        .collect()
    )  # fmt: skip
    return {
        row["image_id"]: Picture(
            row["image_id"], row["uri"], f"thumbs/{row['image_id']}.webp" if row["image_id"] in thumbnails else None,
            row["split"], row["label"], row["width"], row["height"],
        )
        for row in rows
    }  # fmt: skip


def make_thumbnails(context: Context, ids: list[int]) -> dict[int, bytes]:
    """WebP thumbnails of these images, made by the executors: an image is hostile until it is decoded."""
    lake, config = context.lake, context.config
    spark = lake.spark
    wanted = spark.createDataFrame([(i,) for i in ids], "image_id bigint")
    todo = lake.read("images").join(F.broadcast(wanted), "image_id").select("image_id", *arrow.REFERENCE.names)
    limits = fetch.Limits(config.embed.max_bytes, config.embed.timeout_s, config.embed.retries)
    embed = config.embed
    task = arrow.ThumbnailTask(limits, embed.fetch_threads, embed.max_pixels, config.report.thumbnail_side)
    work = arrow.thumbnail_batches(task, embed.decode_timeout_s)
    tasks = max(1, min(spark.sparkContext.defaultParallelism, len(ids) // 16))
    made = todo.repartition(tasks).mapInArrow(work, THUMBNAILS)  # type: ignore[arg-type]
    made = made.where(F.col("webp").isNotNull())
    return {row["image_id"]: bytes(row["webp"]) for row in made.collect()}


def histograms(scores: DataFrame) -> dict[str, list[int]]:
    """Images by score, in BINS equal bins over [0, 1], for each column of `scores`."""
    columns = [
        F.explode(
            F.array(*[F.struct(F.lit(name).alias("score"), F.col(name).alias("value")) for name in tables.SCORES])
        )
    ]
    values = scores.select(*columns).select("col.*").where(F.col("value").isNotNull())
    bins = values.groupBy(
        "score", F.least(F.lit(BINS - 1), F.floor(F.col("value") * BINS)).cast("int").alias("bin")
    ).count()
    found: dict[str, list[int]] = {}
    for row in bins.collect():
        found.setdefault(row["score"], [0] * BINS)[row["bin"]] = row["count"]
    return {name: found[name] for name in tables.SCORES if name in found}


def summarise(context: Context) -> tuple[Summary, list[Row], dict[str, int]]:
    """The first page. Returns (summary, rows of failures to show, failures by code)."""
    lake, config = context.lake, context.config
    images, issues, failures = lake.read("images"), lake.read("issues"), lake.read("failures")
    by_issue = {row["issue"]: row["count"] for row in issues.groupBy("issue").count().collect()}
    by_suggestion = {
        row["suggestion"]: row["images"]
        for row in issues.groupBy("suggestion").agg(F.countDistinct("image_id").alias("images")).collect()
    }
    removable = issues.where("suggestion = 'remove'").select("image_id").distinct().join(images, "image_id")
    removable_bytes = (removable.agg(F.sum("size_bytes")).head() or [None])[0]
    evidence = images.select(F.col("image_id").alias("evidence_id"), F.col("split").alias("there"))
    leaks = (
        issues.where(F.col("issue") == tables.LEAK)
        .join(images.select("image_id", "split"), "image_id").join(evidence, "evidence_id")
        .groupBy("split", "there").count().orderBy(F.desc("count")).limit(LEAK_PAIRS).collect()
    )  # fmt: skip
    by_label = images.groupBy("label").count().orderBy(F.desc("count"), "label").limit(report_pages.TOP_LABELS)
    labelled = images.join(
        F.broadcast(by_label.select(F.col("label").alias("top"))), F.col("label").eqNullSafe(F.col("top"))
    )
    labels: dict[str | None, dict[str | None, int]] = {}
    for row in labelled.groupBy("label", "split").count().orderBy("label", "split").collect():
        labels.setdefault(row["label"], {})[row["split"]] = row["count"]
    with_issues = issues.select("image_id").distinct()
    label_issues = labelled.join(with_issues, "image_id", "left_semi").groupBy("label").count().collect()
    codes = {row["error"]: row["count"] for row in failures.groupBy("error").count().orderBy("error").collect()}
    shown = failures.orderBy("error", "image_id").limit(config.report.images_per_issue).collect()
    total = images.count()
    failed = failures.select("image_id").distinct().count()
    summary = Summary(
        lake=lake.uri,
        created_at=datetime.datetime.now(datetime.UTC),
        version=__version__,
        images=total,
        embedded=lake.read("embeddings").where(F.col("model") == config.embed.model).count(),
        failed=failed,
        model=config.embed.model,
        issues={issue: by_issue.get(issue, 0) for issue in tables.ISSUES},
        with_issues=with_issues.count(),
        removable=by_suggestion.get("remove", 0),
        removable_bytes=removable_bytes,
        relabel=by_suggestion.get("relabel", 0),
        review=by_suggestion.get("review", 0),
        leaks={(row["split"], row["there"]): row["count"] for row in leaks},
        splits={row["split"]: row["count"] for row in images.groupBy("split").count().collect()},
        labels=labels,
        labels_total=images.select("label").distinct().count(),
        label_issues={row["label"]: row["count"] for row in label_issues},
        histograms=histograms(lake.read("scores")),
        thresholds={score: getattr(config.issues, issue) for issue, score in QUALITY.items()},
        stages=last_stages(lake),
    )
    return summary, shown, codes


def last_stages(lake: Lake) -> list[Stage]:
    """The newest row of `runs` of each stage, in the order of the stages."""
    newest = Window.partitionBy("job").orderBy(F.desc("ended_at"))
    rows = lake.read("runs").withColumn("n", F.row_number().over(newest)).where("n = 1").collect()
    order = {"catalog": 0, "embed": 1, "neighbours": 2, "clusters": 3, "issues": 4, JOB: 5}
    rows = sorted((row for row in rows if row["job"] != JOB), key=lambda row: order.get(row["job"], 9))
    return [Stage(row["job"], row["seconds"], json.loads(row["counts"]), row["status"]) for row in rows]


def _cosines(lake: Lake, rows: list[Row]) -> dict[tuple[int, int], float]:
    """Cosines of the outliers shown with their evidence; duplicates tell theirs by the score."""
    pairs = [
        (row["image_id"], row["evidence_id"])
        for row in rows
        if row["issue"] == tables.OUTLIER and row["evidence_id"] is not None
    ]
    if not pairs:
        return {}
    wanted = lake.spark.createDataFrame(pairs, "image_id bigint, neighbour_id bigint")
    found = lake.read("neighbours").join(F.broadcast(wanted), ["image_id", "neighbour_id"]).collect()
    return {(row["image_id"], row["neighbour_id"]): row["cosine"] for row in found}


def write(context: Context, report_uri: str) -> Counts:
    """Writes the report's folder. Counts thumbnails: in = made + those of images that could not be read again."""
    lake, config = context.lake, context.config
    lake.require("issues", "issues")
    summary, failure_rows, codes = summarise(context)
    rows = worst(lake.read("issues").where(F.col("issue") != tables.CORRUPTED), config.report.images_per_issue)
    clusters = largest_clusters(lake.read("duplicates"), config.report.images_per_issue)
    totals = lake.read("duplicates").where("is_keeper").count()
    visible = {row["image_id"] for row in rows} | {row["evidence_id"] for row in rows if row["evidence_id"] is not None}
    visible |= {row["image_id"] for row in clusters}
    thumbnails = make_thumbnails(context, sorted(visible)) if visible else {}
    known = pictures(lake, sorted(visible | {row["image_id"] for row in failure_rows}), set(thumbnails))
    cosines = _cosines(lake, rows)
    galleries = []
    for issue in tables.ISSUES:
        total = summary.issues.get(issue, 0)
        found = [_finding(row, known, cosines) for row in rows if row["issue"] == issue]
        if found:
            galleries.append(Gallery(issue, total, found))
    views: dict[int, list[Row]] = {}
    for row in clusters:
        views.setdefault(row["cluster_id"], []).append(row)
    cluster_views = [
        ClusterView(
            number, members[0]["kind"], members[0]["cluster_size"],
            [Member(known[m["image_id"]], m["cosine_to_keeper"], m["is_keeper"]) for m in members],
        )
        for number, members in views.items()
    ]  # fmt: skip
    failures = [
        Failure(known[row["image_id"]], row["error"], row["detail"] or None, row["stage"], row["attempt"])
        for row in failure_rows
        if row["image_id"] in known
    ]
    _publish(
        report_uri,
        thumbnails,
        lambda folder: report_pages.write_report(
            folder, summary, galleries, Clusters(totals, cluster_views) if cluster_views else None,
            Failures(sum(codes.values()), codes, failures) if failures else None, per_page=config.report.per_page,
        ),
    )  # fmt: skip
    return {"in": len(visible), "out": len(thumbnails), "failed": len(visible) - len(thumbnails)}


def _finding(row: Row, known: dict[int, Picture], cosines: dict[tuple[int, int], float]) -> Finding:
    evidence = known.get(row["evidence_id"]) if row["evidence_id"] is not None else None
    cosine: float | None = None
    if evidence is not None:
        is_copy = row["issue"] in (tables.EXACT_DUPLICATE, tables.NEAR_DUPLICATE, tables.LEAK)
        cosine = 1 - row["score"] if is_copy else cosines.get((row["image_id"], row["evidence_id"]))
    return Finding(known[row["image_id"]], row["score"], row["suggestion"], row["suggested_label"], evidence, cosine)


def _publish(report_uri: str, thumbnails: dict[int, bytes], pages: Any) -> None:
    """Writes thumbnails and pages into a folder, by way of a temporary one where the report is to lie on S3."""
    if not uris.is_s3(report_uri):
        folder = Path(os.fsdecode(uris.local_path(report_uri)))
        _write_folder(folder, thumbnails, pages)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        _write_folder(folder, thumbnails, pages)
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                objects.put(uris.join(report_uri, *file.relative_to(folder).parts), file.read_bytes())


def _write_folder(folder: Path, thumbnails: dict[int, bytes], pages: Any) -> None:
    thumbs = folder / "thumbs"
    thumbs.mkdir(parents=True, exist_ok=True)
    wanted = {f"{image_id}.webp": data for image_id, data in thumbnails.items()}
    for old in thumbs.glob("*.webp"):
        if old.name not in wanted:
            old.unlink()
    for name, data in wanted.items():
        (thumbs / name).write_bytes(data)
    pages(folder)


def run(context: Context, report_uri: str) -> StageResult:
    inputs = ("images", "failures", "duplicates", "scores", "issues")
    settings = {"report": report_uri, **context.config.as_dict()["report"]}
    # A report that somebody deleted is written again.
    deleted = not objects.exists(index_of(report_uri))
    return run_stage(context, JOB, inputs, settings, lambda c: write(c, report_uri), always=deleted)


def main(argv: list[str]) -> int:
    from jobs.command import main as command

    return command([JOB, *argv])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
