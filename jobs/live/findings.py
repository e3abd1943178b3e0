"""Findings of a batch: scores and issues of what was read, and of what now has other copies than before.

What is usual in the lake is what it was at the last whole run, so that what came before and after is judged alike.
Issues that hold an image against the lake as a whole, outliers and wrong labels, are left to that run."""

from __future__ import annotations

from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame

from jobs import embed, tables
from jobs.config import Config
from jobs.duplicates.near_rules import near_rule
from jobs.engines.frames import to_arrow
from jobs.findings import leaks
from jobs.findings.common import without
from jobs.findings.formulas import QUALITY
from jobs.findings.label_issues import conflict_issues
from jobs.findings.scores import quality_issues, quality_scores
from jobs.issues import Usual, damaged_issues, duplicate_issues, look_alike_issues, unreadable_issues
from jobs.live.draft import Draft
from jobs.live.known import ids_of

OF_THE_PICTURE = (*QUALITY, tables.CORRUPTED, tables.UNREAD, tables.DAMAGED)
OF_PAIRS = (
    tables.EXACT_DUPLICATE,
    tables.NEAR_DUPLICATE,
    tables.LOOK_ALIKE,
    tables.LABEL_CONFLICT,
    tables.LEAK,
    tables.SOURCE_OVERLAP,
)


def find(
    draft: Draft, config: Config, usual: Usual, good: pa.Table, read: set[int], gone: set[int], others: set[int]
) -> None:
    """Brings `scores` and `issues` in line. good: the features of what was read well. read: all that was read. gone:
    ids of what was removed or read anew. others: ids of images with other copies, look-alikes or leaks than before."""
    known = draft.known
    ids = read | gone | others
    parts, scores = _of_pairs(draft, config, ids), pa.table({})
    if good.num_rows:
        features = draft.frame(good)
        scored = quality_scores(features, usual.sides)
        scores = to_arrow(scored)
        limits = {issue: getattr(config.issues, issue) for issue in QUALITY}
        parts += [quality_issues(draft.frame(scores), limits, usual.in_colour), damaged_issues(features)]
    _scores(draft, scores, gone, set(ids_of(good).tolist()))
    failures = known.of_images("failures", read)
    images = draft.frame(known.of_images("images", ids))
    if failures.num_rows:
        parts.append(unreadable_issues(draft.frame(failures), images))
    old = known.of_images("issues", ids)
    found = to_arrow(without(reduce(DataFrame.unionByName, parts), images, usual.common))
    kinds, of = old["issue"].to_pylist(), ids_of(old).tolist()
    # What a picture alone has stays where it was not read again; what the whole lake has, where it is the same picture.
    stays = [
        one not in read | gone if kind in OF_THE_PICTURE else kind not in OF_PAIRS and one not in gone
        for one, kind in zip(of, kinds, strict=True)
    ]
    kept = old.filter(pa.array(stays, pa.bool_()))
    draft.replace("issues", old, pa.concat_tables([kept, found.cast(old.schema)]))


def _of_pairs(draft: Draft, config: Config, ids: set[int]) -> list[DataFrame]:
    """Rows of `issues` of these images that rest on another one."""
    known = draft.known
    copies, alike = known.of_images("copies", ids), known.of_images("look_alikes", ids)
    own = known.of_images("duplicates", ids)
    whole = known.rows("duplicates", "cluster_id", set(own["cluster_id"].to_pylist()))
    clusters, images = draft.frame(whole), known.of_images("images", ids_of(whole))
    wanted = draft.frame(pa.table({"image_id": pa.array(sorted(ids), pa.int64())}))
    conflicts = conflict_issues(clusters, draft.frame(images)).join(wanted, "image_id", "left_semi")
    return [
        duplicate_issues(draft.frame(copies), draft.frame(own)),
        look_alike_issues(draft.frame(alike), near_rule(config)),
        conflicts,
        leaks.leak_issues(draft.frame(known.of_images("leaks", ids))),
    ]


def _scores(draft: Draft, scores: pa.Table, gone: set[int], good: set[int]) -> None:
    """Brings `scores` in line. gone: ids of images that had some. good: of those that have some now."""
    rows = []
    if scores.num_rows:
        nothing = pa.nulls(scores.num_rows, pa.float64())
        for name in tables.OUTLIER_SCORES:
            scores = scores.append_column(name, nothing)
        rows = scores.to_pylist()
    draft.put("scores", rows or None, draft.keys_in_lake("scores", gone - good), new=not gone)


def failure_rows(read: pa.Table, at: object) -> pa.Table:
    """The rows of `failures` of what could not be read. read: EMBEDDED."""
    bad = read.filter(pc.is_valid(read["error"]))
    return pa.table(
        {
            "image_id": bad["image_id"],
            "stage": pa.repeat(embed.JOB, bad.num_rows),
            "error": bad["error"],
            "detail": bad["detail"],
            "attempt": bad["attempt"],
            "at": pa.array([at] * bad.num_rows, pa.timestamp("us", "UTC")),
            "etag": bad["etag"],
        }
    )
