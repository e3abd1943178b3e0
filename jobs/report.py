"""Report: gathers what the pages show, a bounded number of images of each kind, and makes their thumbnails."""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from pyspark.sql import Row
from pyspark.sql import functions as F
from pyspark.sql.types import BinaryType, LongType, StructField, StructType

from jobs import tables
from jobs.engines.frames import frame_of, small
from jobs.pages import classes as report_classes
from jobs.pages import marks as report_marks
from jobs.pages import place, render
from jobs.pages import ratings as report_ratings
from jobs.pages import rows as report_rows
from jobs.pages import topics as report_topics
from jobs.pages.values import Clusters, ClusterView, Failure, Failures, Finding, Gallery, Member, Picture, Vote
from jobs.rating import report_maps
from jobs.rating import store as rating_store
from jobs.stage import Context, Counts, Ready, Stage, submitted
from udfs import arrow
from udfs.images import rows as image_rows
from udfs.stores import fetch, objects, uris

JOB = "report"
THUMBS = "thumbs"  # a folder of the report
THUMBNAILS = StructType([StructField("image_id", LongType(), False), StructField("jpeg", BinaryType())])


def make_thumbnails(context: Context, ids: list[int]) -> dict[int, bytes]:
    """JPEG thumbnails of these images, made by the executors: an image is hostile until it is decoded."""
    lake, config = context.lake, context.config
    wanted = frame_of(lake.spark, [(i,) for i in ids], "image_id bigint")
    todo = lake.read("images").join(small(wanted), "image_id").select("image_id", *image_rows.REFERENCE.names)
    limits = fetch.Limits(config.embed.max_bytes, config.embed.timeout_s, config.embed.retries)
    embed = config.embed
    task = arrow.ThumbnailTask(limits, embed.fetch_threads, embed.max_pixels, config.report.thumbnail_side)
    work = arrow.thumbnail_batches(task, embed.decode_timeout_s)
    tasks = max(1, min(lake.engine.cores, len(ids) // 4))
    made = lake.engine.map_batches(todo.repartition(tasks), work, THUMBNAILS, isolated=True)
    made = made.where(F.col("jpeg").isNotNull())
    return {row["image_id"]: bytes(row["jpeg"]) for row in made.collect()}


def write(context: Context, report_uri: str) -> Counts:
    """Writes the report's folder; thumbnails that an earlier report has left are used again. Counts them: in = there +
    those of images that could not be read again."""
    lake, settings = context.lake, context.config.report
    issues, failures = lake.require("issues"), lake.read("failures")
    summary = report_rows.summarise(lake, context.config, [name for name in context.order if name != JOB])
    codes = {row["error"]: row["count"] for row in failures.groupBy("error").count().collect()}
    failure_rows = failures.orderBy("error", "image_id").limit(settings.images_per_issue).collect()
    rows = report_rows.worst(issues.where(~F.col("issue").isin(*tables.WITHOUT_PICTURE)), settings.images_per_issue)
    clusters = report_rows.largest_clusters(lake.read("duplicates"), settings.images_per_issue)
    clusters_total = lake.read("duplicates").where("is_keeper").count()
    topics = report_topics.topic_rows(lake, settings.topics, settings.topic_images)
    judged = context.history.last_done("labels")
    classes = report_classes.class_rows(lake, summary.splits, judged["counts"] if judged else {})
    kept = rating_store.all_of(lake.uri)
    ratings = report_ratings.rating_rows(
        lake, kept, settings.rating_images, settings.rating_maps, report_maps.without(context, kept)
    )
    visible = {row["image_id"] for row in rows} | {row["evidence_id"] for row in rows if row["evidence_id"] is not None}
    visible |= {row["image_id"] for row in clusters}
    visible |= ratings.image_ids | topics.image_ids | (classes.image_ids if classes else set())
    ids = sorted(visible | {row["image_id"] for row in failure_rows})
    known = report_rows.pictures(lake, ids, settings.thumbnail_side) if ids else {}
    there = {f"{THUMBS}/{name}" for name in objects.list_names(uris.join(report_uri, THUMBS))}
    missing = [image_id for image_id in sorted(visible & known.keys()) if known[image_id].thumb not in there]
    made = make_thumbnails(context, missing) if missing else {}
    without = known.keys() - visible | (set(missing) - made.keys())
    thumbnails = {str(known[image_id].thumb): jpeg for image_id, jpeg in made.items()}
    known |= {image_id: replace(known[image_id], thumb=None) for image_id in without}
    shown = {picture.thumb for picture in known.values()}
    votes = report_rows.votes(lake.read("labels"), rows)
    marks, drawn = report_marks.marks(lake, rows, there, settings.thumbnail_side)
    thumbnails |= drawn
    shown |= set(marks.values())
    galleries = []
    for issue in tables.ISSUES:
        found = [
            _finding(row, known, votes, marks) for row in rows if row["issue"] == issue and row["image_id"] in known
        ]
        if found:
            galleries.append(Gallery(issue, summary.issues.get(issue, 0), found))
    failed = [
        Failure(known[row["image_id"]], row["error"], row["detail"] or None, row["stage"], row["attempt"])
        for row in failure_rows
        if row["image_id"] in known
    ]
    _publish(
        report_uri,
        thumbnails,
        lambda folder: render.write_report(
            folder,
            summary,
            galleries,
            Clusters(clusters_total, _cluster_views(clusters, known)) if clusters else None,
            Failures(sum(codes.values()), codes, failed) if failed else None,
            topics.shown(known),
            classes.shown(known) if classes else None,
            ratings.shown(known, report_maps.make(context, ratings.to_map, kept)),
            per_page=settings.per_page,
        ),
    )
    for name in there - shown:
        if render.THUMB.fullmatch(name):
            objects.delete(uris.join(report_uri, *name.split("/")))
    previews = len(shown - {None} - set(marks.values()))
    return {"in": len(visible), "out": previews, "failed": len(visible) - previews}


def _finding(row: Row, known: dict[int, Picture], votes: dict[int, Vote], marks: dict[tuple[int, str], str]) -> Finding:
    """row: of `issues`."""
    return Finding(
        known[row["image_id"]],
        row["score"],
        row["suggestion"],
        row["suggested_label"],
        known.get(row["evidence_id"]) if row["evidence_id"] is not None else None,
        row["cosine"],
        row["detail"],
        votes.get(row["image_id"]) if row["issue"] == tables.WRONG_LABEL else None,
        marks.get((row["image_id"], row["issue"])),
    )


def _cluster_views(rows: list[Row], known: dict[int, Picture]) -> list[ClusterView]:
    """rows: of largest_clusters."""
    members: dict[int, list[Row]] = {}
    for row in rows:
        members.setdefault(row["cluster_id"], []).append(row)
    return [
        ClusterView(
            number, of[0]["kind"], of[0]["cluster_size"],
            [
                Member(known[m["image_id"]], m["cosine_to_keeper"], m["is_keeper"], m["relation"])
                for m in of if m["image_id"] in known
            ],
        )
        for number, of in members.items()
    ]  # fmt: skip


def _publish(report_uri: str, thumbnails: dict[str, bytes], pages: Any) -> None:
    """Writes thumbnails, by their paths, and pages, by way of a temporary folder where the report is to lie on S3."""
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


def _write_folder(folder: Path, thumbnails: dict[str, bytes], pages: Any) -> None:
    (folder / THUMBS).mkdir(parents=True, exist_ok=True)
    for name, data in thumbnails.items():
        (folder / name).write_bytes(data)
    pages(folder)


def _settings(context: Context) -> dict[str, Any]:
    return {"report": context.given[JOB], **context.config.as_dict()["report"]}


def _is_deleted(context: Context) -> bool:
    """A report that somebody deleted is written again."""
    return not objects.exists(place.index_of(context.given[JOB]))


STAGE = Stage(
    name=JOB,
    does="write the HTML report",
    reads=("images", "features", "embeddings", "failures", "duplicates", "leaks", "labels", "confusions", "classes",
           "topics", "topic_summaries", "scores", "issues", "ratings"),
    writes=(),
    settings=_settings,
    body=lambda context: write(context, context.given[JOB]),
    always=_is_deleted,
    options=(place.OPTION,),
    prepare=lambda asked: Ready(place.report_uri(asked)),
)  # fmt: skip


if __name__ == "__main__":
    sys.exit(submitted(JOB))
