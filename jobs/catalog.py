"""Catalog: lists the inputs, numbers the images, and finds what was added, changed and removed since the last run."""

from __future__ import annotations

import functools
import hashlib
import json
import sys
from dataclasses import dataclass
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs import __version__
from jobs.config import Config
from jobs.engines.choice import large_lake
from jobs.engines.frames import keep
from jobs.erasure.suppression import without_forgotten
from jobs.errors import InputError
from jobs.inputs.layout import with_layout, with_owner
from jobs.inputs.listing import expand, stage_listing
from jobs.inputs.manifests import read_manifests, refuse_twice, stage_references
from jobs.inputs.sources import Inputs, Left, check_inputs
from jobs.lakes import dense_ids
from jobs.pages import place
from jobs.stage import Asked, Context, Counts, Option, Ready, Stage, submitted
from jobs.tables import TABLES

JOB = "catalog"
SETTINGS_MARK = "catalog_settings"  # in the lake's marker: what its images were last listed with


def changes(listed: DataFrame, images: DataFrame, first_id: int) -> DataFrame:
    """What has to be done to `images` so that it equals listed.

    listed: LISTED. images: the table. Returns the columns of `images`, `removed` BOOLEAN and `change` (added, changed:
    other bytes, relabelled: other label, split, source or owner, removed). A removed image's id is never given out
    again."""
    old = images.select("image_id", *[F.col(c).alias(f"old_{c}") for c in images.columns if c != "image_id"])
    joined = listed.join(old, listed["uri"] == old["old_uri"], "full_outer")
    fresh = joined.where(F.col("old_uri").isNull()).drop("image_id")
    numbered, _ = dense_ids(fresh, ["relative", "uri"], first_id, "image_id")

    def differ(*names: str) -> Column:
        condition = F.lit(False)
        for name in names:
            condition = condition | ~F.col(name).eqNullSafe(F.col(f"old_{name}"))
        return condition

    kept = joined.where(F.col("old_uri").isNotNull())
    known = kept.withColumn(
        "change",
        F.when(F.col("uri").isNull(), "removed")
        .when(differ("etag", "size_bytes", "shard", "shard_offset"), "changed")
        .when(differ("source", "split", "label", "labels", "owner", "modified_at"), "relabelled"),
    ).where(F.col("change").isNotNull())
    names = TABLES["images"].schema.names
    out = known.withColumn("uri", F.coalesce("uri", "old_uri")).withColumn("source", F.coalesce("source", "old_source"))
    return (
        out.select(*names, "change")
        .unionByName(numbered.select(*names, F.lit("added").alias("change")))
        .withColumn("removed", F.col("change") == "removed")
    )


def catalog(context: Context, inputs: Inputs, references: DataFrame | None) -> Counts:
    """Brings `images` in line with the inputs. Raises InputError before `images` is touched where too much would go."""
    lake, config = context.lake, context.config
    images = lake.read("images")
    settings = _digest(_settings(inputs, config))
    same_settings = lake.next_id(SETTINGS_MARK) == settings
    everything, skipped, notes = _listed(context, inputs, references, images, same_settings)
    total = everything.count()
    if total == 0:
        raise InputError(f"{', '.join(inputs.given)}: no image in it")
    newest = images.agg(F.max("image_id").alias("newest"), F.count("*").alias("known")).head()
    known = int(newest["known"]) if newest else 0
    first_id = max(lake.next_id("next_image_id"), int(newest["newest"]) + 1 if newest and known else 0)
    todo = keep(changes(everything, images, first_id))
    try:
        by_change = {row["change"]: row["count"] for row in todo.groupBy("change").count().collect()}
        removed = by_change.get("removed", 0)
        if known and removed > config.catalog.max_removed_share * known:
            raise InputError(
                f"{removed} of the lake's {known} images are not in the input: if that is meant, "
                "--set catalog.max_removed_share=1; if not, name all inputs of this lake"
            )
        if by_change:
            # Of a lake left by a run that was killed from here on it is not known with what settings it was made.
            lake.mark(**{"next_image_id": first_id + by_change.get("added", 0), SETTINGS_MARK: 0})
            if known:
                lake.merge("images", todo.drop("change"))
            else:
                lake.append("images", todo)
        if by_change or not same_settings:
            lake.mark(**{SETTINGS_MARK: settings})
    finally:
        lake.engine.forget(todo)
        lake.clear_staging()
    size = lake.read("images").agg(F.count("*"), F.sum(F.col("size_bytes").cast("double"))).collect()[0]
    counts = {"in": total, "out": size[0], "failed": 0, "skipped_files": skipped}
    counts["megabytes"] = round((size[1] or 0) / 1e6)
    counts |= {name: by_change.get(name, 0) for name in ("added", "changed", "relabelled", "removed")}
    return {**counts, "notes": notes, "wrote": int(bool(by_change))}


def _listed(
    context: Context, inputs: Inputs, references: DataFrame | None, images: DataFrame, same_settings: bool
) -> tuple[DataFrame, int, list[str]]:
    """What the inputs hold, as LISTED, without what is to stay forgotten; how many files are no images; and what is to
    be said. images: the table."""
    skipped, notes = 0, []
    parts: list[DataFrame] = []
    if references is not None:
        parts.append(stage_references(context, references))
    if inputs.folders or inputs.shards or inputs.reports:
        listing = stage_listing(context, inputs)
        skipped, notes = listing.skipped, _notes(listing.left)
        parts.append(listing.images)
        if listing.shard_count:
            found, others = expand(context, listing, images, same_settings)
            skipped += others
            parts.append(found)
    everything = functools.reduce(DataFrame.unionByName, parts)
    if len(inputs.given) > 1:
        refuse_twice(everything)
    if inputs.layout:
        everything = with_layout(everything, inputs.layout)
    if inputs.owner:
        everything = with_owner(everything, inputs.owner)
    kept = without_forgotten(context.lake, everything)
    if kept is not None:
        left_out = everything.count() - kept.count()
        if left_out:
            again = "imagesieve forget --allow-all-again takes them in"
            notes.append(f"catalog: {left_out:,} images are left out, for they were forgotten: {again}")
        everything = kept
    return everything, skipped, notes


def _notes(left: Left) -> list[str]:
    """What of the inputs could not be looked at, for a person."""
    notes, unlisted = [], left.unlisted
    if left.archives:
        what = "archive is" if left.archives == 1 else "archives are"
        notes.append(f"catalog: {left.archives:,} {what} not read ({left.archive}): unpack it, or make a .tar of it")
    if unlisted.folders:
        what = "folder" if unlisted.folders == 1 else "folders"
        notes.append(f"catalog: {unlisted.folders:,} {what} could not be listed ({unlisted.first}): grant the right to")
    if unlisted.links:
        notes.append(f"catalog: {unlisted.links:,} links were not followed: nowhere, in a circle, or to a folder")
    return notes


@dataclass(frozen=True)
class Given:
    """What the stage is to catalogue. references: of the manifests among the inputs."""

    inputs: Inputs
    references: DataFrame | None


def _settings(inputs: Inputs, config: Config) -> dict[str, Any]:
    """What decides which images the inputs hold and how they are labelled, beside the inputs themselves."""
    return {
        "inputs": inputs.given,
        "layout": inputs.layout,
        "owner": inputs.owner,
        "extensions": config.catalog.extensions,
        "shards": config.catalog.shards,
        "label_separator": config.catalog.label_separator,
    }


def _digest(settings: dict[str, Any]) -> int:
    """A number for settings and this version, never 0."""
    text = json.dumps({**settings, "version": __version__}, sort_keys=True)
    return int(hashlib.sha256(text.encode()).hexdigest()[:12], 16) + 1


def _catalog(context: Context) -> Counts:
    given: Given = context.given[JOB]
    counts = catalog(context, given.inputs, given.references)
    line = large_lake(context.lake.engine.name, counts["out"], counts["megabytes"], context.config.spark)
    if line:
        context.reporter.say(line)
    return counts


def _prepare(asked: Asked) -> Ready:
    """Looks at the inputs; the report is none, nor is the lake. Raises InputError, ConfigError."""
    given = asked.arguments
    inputs = check_inputs(asked.config, given.inputs, given.layout, (asked.lake, place.report_uri(asked)), given.owner)
    return Ready(inputs, tuple(source.uri for source in inputs.manifests))


STAGE = Stage(
    name=JOB,
    does="list the inputs and number the images",
    reads=(),
    writes=("images",),
    settings=lambda context: _settings(context.given[JOB].inputs, context.config),
    body=_catalog,
    always=lambda _: True,  # it always lists: only the store knows whether something changed
    options=(
        Option(
            "inputs",
            {
                "nargs": "+",
                "metavar": "INPUT",
                "help": "a folder or s3:// prefix, a tar or Parquet file of images, an S3 Inventory (…/manifest.json), "
                "or a manifest (CSV, Parquet, JSON lines, Delta)",
            },
        ),
        Option("--layout", {"help": "reads columns from paths, such as '{split}/{label}/*'"}),
        Option(
            "--owner",
            {"metavar": "PATTERN", "help": "whose an image is, read from its path, such as 'users/{owner}/**'"},
        ),
        place.OPTION,
    ),
    prepare=_prepare,
    connect=lambda spark, inputs: Given(inputs, read_manifests(spark, inputs)),
    begins=True,
)


if __name__ == "__main__":
    sys.exit(submitted(JOB))
