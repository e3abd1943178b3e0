"""Clean: writes which images to keep, which to leave out and why, and corrected labels. It deletes nothing.

It only reads the tables and leaves no row in `runs`: the same lake under the same rules gives the same files. Sorted
rows are staged in the lake, so it holds the lease while it writes; a dry run needs neither."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs import tables
from jobs.cleaning import applying, batch_manifest, files, prices, rated, reviewed, training_set
from jobs.cleaning.batch_manifest import Bucket
from jobs.cleaning.rules import corrected, judged, without_common
from jobs.engines.frames import keep
from jobs.errors import ConfigError, InputError
from jobs.inputs.manifests import OPTIONAL_COLUMNS
from jobs.lakes import Lake, each_label
from jobs.progress import say
from jobs.stage import Asked, Context, Counts, Option, Ready, Stage, submitted
from jobs.tables import TABLES
from udfs.stores import fetch, objects, uris
from udfs.stores.s3 import StoreError
from udfs.training.containers import CONTAINERS

JOB = "clean"
SHOWN = 20  # splits and labels named in the summary
_KINDS = {
    "string": pa.string(), "bigint": pa.int64(), "timestamp": pa.timestamp("us", tz="UTC"),
    "array<string>": pa.list_(pa.string()),
}  # fmt: skip
# A manifest that the catalog reads again: URI, and all that it may say of an image.
KEPT = pa.schema(
    [(name, _KINDS[TABLES["images"].schema[name].dataType.simpleString()]) for name in ("uri", *OPTIONAL_COLUMNS)]
)
REMOVED = pa.schema(
    [("uri", pa.string()), ("split", pa.string()), ("label", pa.string()), ("issue", pa.string()),
     ("score", pa.float64()), ("evidence_uri", pa.string()), ("relation", pa.string()), ("issues", pa.string()),
     ("decided_by", pa.string()), ("labels", _KINDS["array<string>"])]
)  # fmt: skip
RELABELLED = pa.schema(
    [("uri", pa.string()), ("split", pa.string()), ("label", pa.string()), ("new_label", pa.string()),
     ("score", pa.float64()), ("confidence", pa.float64()), ("evidence_uri", pa.string()), ("decided_by", pa.string()),
     ("labels", _KINDS["array<string>"])]
)  # fmt: skip


@dataclass(frozen=True)
class Targets:
    """Where everything goes, as canonical URIs. manifest: None in a dry run that was given none."""

    manifest: str | None
    batch: str | None
    dry_run: bool = False
    how: str | None = None  # of applying.HOW
    to: str | None = None  # where that goes, a path
    shards: training_set.Target | None = None

    @property
    def files(self) -> list[str]:
        own = [] if self.manifest is None else [self.manifest, *_others(self.manifest)]
        return own + ([] if self.batch is None else [self.batch])


def check_targets(out: str | None, batch: str | None, dry_run: bool, needs_out: bool = True) -> Targets:
    """Looks at the arguments before anything is started. Raises ConfigError with all faults, InputError."""
    faults = [] if out or dry_run or not needs_out else ["--out: must name a file"]
    found: dict[str, str] = {}
    for option, given in (("--out", out), ("--batch-manifest", batch)):
        if not given:
            continue
        try:
            found[option] = uris.canonical(given, base=os.getcwd())  # noqa: PTH109 (a text)
            if uris.is_s3(found[option]) and not uris.split_s3(found[option])[1]:
                faults.append(f"{option}: must name an object, got {given!r}")
        except ValueError as error:
            faults.append(f"{option}: {error}")
    manifest = found.get("--out")
    if manifest is not None and files.ending_of(manifest) is None:
        faults.append(f"--out: must end in {', '.join(files.ENDINGS)}, got {out!r}")
    targets = Targets(manifest, found.get("--batch-manifest"), dry_run)
    if faults:
        raise ConfigError("; ".join(faults))
    if len(set(targets.files)) < len(targets.files):
        raise ConfigError(f"--batch-manifest: {batch!r} is a file of --out: name another")
    for uri in () if dry_run else targets.files:
        folder = uri.rpartition("/")[0] or "/"
        try:
            objects.check_access(folder, must_exist=False)
        except StoreError as error:
            raise InputError(str(error)) from error
        if not uris.is_s3(uri) and os.path.isdir(uris.local_path(uri)):  # noqa: PTH112 (bytes)
            raise InputError(f"{uri}: is a folder: name a file")
    return targets


def run(context: Context) -> Counts:
    """Judges all images and prints what becomes of them; writes the files unless it is a dry run.

    Raises ConfigError, InputError, LakeError, StoreError."""
    lake, rules = context.lake, context.config.clean
    targets: Targets = context.given[JOB]
    limits = fetch.Limits(context.config.embed.max_bytes, context.config.embed.timeout_s, context.config.embed.retries)
    if targets.shards is not None and targets.shards.replay is not None:
        with context.reporter.working(JOB):
            lines = training_set.write(lake, None, targets.shards, {}, limits)
        for line in lines:
            say(line)
        return {}
    _check_splits(lake, rules.never_from)
    _spare_inputs(lake, targets)
    rated.check(lake, rules)
    price_list = prices.load() if targets.batch else None
    with context.reporter.working(JOB):
        rules, common = without_common(lake, rules)
        rows = keep(judged(lake, rules))
        try:
            lines = summary(rows, lake)
            lines += [
                f"{count:,} images have {issue}, more than clean.max_share of all: no image goes for it"
                for issue, count in common.items()
            ]
            removed = rows.where(F.col("issue").isNotNull() & ~F.col("is_shard"))
            found: list[Bucket] = []
            if price_list is not None:
                found = batch_manifest.buckets(removed, price_list)
                in_shards = removed.where(F.col("uri").startswith("s3://") & ~batch_manifest.is_object()).count()
                lines += batch_manifest.told(found, in_shards, price_list)
            if not targets.dry_run and targets.manifest is not None:
                lines += write(lake, rows, targets, found)
            if not targets.dry_run and targets.shards is not None:
                lines += training_set.write(lake, rows, targets.shards, asdict(rules), limits)
                lake.clear_staging()
        finally:
            lake.engine.forget_all()
    for line in lines:
        say(line)
    if targets.dry_run:
        say("dry run: nothing was written")
    return {}


def write(lake: Lake, rows: DataFrame, targets: Targets, found: list[Bucket]) -> list[str]:
    """Writes the files, the manifest last. rows: see clean_rules.judged. Returns lines that name them."""
    if targets.manifest is None:
        return []
    images = rows.where(~F.col("is_shard"))
    stays = F.col("issue").isNull()
    others = _others(targets.manifest)
    parts = {
        others[0]: (REMOVED, images.where(~stays), ("shard",)),
        others[1]: (
            RELABELLED,
            images.where(stays & F.col("new_label").isNotNull()).withColumns(
                {"score": F.col("label_score"), "evidence_uri": F.col("label_evidence_uri")}
            ),
            (),
        ),
        targets.manifest: (KEPT, images.where(stays).withColumns(corrected()), ("issue",)),
    }
    lines = []
    for number, (uri, (schema, part, more)) in enumerate(parts.items()):
        folder = lake.staging(JOB, str(number))
        lake.engine.write_in_order(part.select(*schema.names, *more), "uri", folder)
        count = files.write(uri, folder, schema)
        lines.append(f"{count:>12,}  {uri}")
    if found and targets.batch is not None:
        places = batch_manifest.places(targets.batch, found)
        batch_manifest.write(lake.staging(JOB, "0"), places)
        lines += [f"{bucket.objects:>12,}  {places[bucket.name]}" for bucket in found]
    if targets.how is not None and targets.to is not None:
        rows_of = lake.staging(JOB, "0" if targets.how == applying.MOVE else "2")
        done = applying.apply(rows_of, targets.how, Path(targets.to))
        there = f", {done.there:,} were there" if done.there else ""
        elsewhere = f", {done.elsewhere:,} are no files of a folder" if done.elsewhere else ""
        lines.append(
            f"{done.done:>12,}  by {targets.how}, in {targets.to}{there}{elsewhere}: imagesieve unapply takes it back"
        )
    lake.clear_staging()
    return lines


def summary(rows: DataFrame, lake: Lake) -> list[str]:
    """Counts by issue, by split and label, and bytes, in lines for a person. rows: see clean_rules.judged."""
    images = rows.where(~F.col("is_shard"))
    goes = F.col("issue").isNotNull()
    counts = [
        F.count("*").alias("images"), F.count_if(goes).alias("removed"),
        F.count_if(F.col("new_label").isNotNull()).alias("corrected"),
        F.sum(F.when(goes, F.col("size_bytes"))).alias("bytes_removed"), F.sum("size_bytes").alias("bytes"),
    ]  # fmt: skip
    total = images.agg(*counts).head()
    if total is None or not total["images"]:
        return ["the lake holds no images"]
    number, removed = int(total["images"]), int(total["removed"])
    lines = [
        f"{number:,} images: {number - removed:,} to keep, {removed:,} to leave out, "
        f"{total['corrected']:,} labels to correct"
    ]
    by_issue = {row["issue"]: row for row in images.where(goes).groupBy("issue").agg(*counts).collect()}
    width = max(len(issue) for issue in tables.ISSUES)
    for issue in (reviewed.DECIDED, *tables.ISSUES, rated.LOW_RATING):
        if issue in by_issue:
            row = by_issue[issue]
            lines.append(f"  {issue.replace('_', ' '):<{width}} {row['images']:>12,}  {_size(row['bytes'])}")
    lines.append(f"bytes: {_size((total['bytes'] or 0) - (total['bytes_removed'] or 0))} kept, "
                 f"{_size(total['bytes_removed'])} left out")  # fmt: skip
    places = images.withColumn("label", each_label()).groupBy("split", "label").agg(*counts)
    if places.where("split IS NOT NULL OR label IS NOT NULL").head() is not None:
        order = [F.desc("removed"), F.desc("corrected"), F.asc("split"), F.asc("label")]
        found = places.orderBy(*order).limit(SHOWN + 1).collect()
        lines.append("by split and label: kept of all, labels corrected")
        for row in found[:SHOWN]:
            kept = f"{row['images'] - row['removed']:,} of {row['images']:,}"
            lines.append(f"  {_name(row['split'])} / {_name(row['label'])}: {kept}, {row['corrected']:,}")
        if len(found) > SHOWN:
            lines.append("  and others, of which no more images are left out")
    shards = rows.where("is_shard").count()
    if shards:
        lines.append(f"{shards:,} broken shards stand in no list: what could be read of them does")
    failed = lake.read("failures").join(images.where(~goes).select("image_id"), "image_id", "left_semi").count()
    if failed:
        lines.append(f"{failed:,} images to keep could not be read: the table failures says why")
    return lines


def _check_splits(lake: Lake, never_from: tuple[str, ...]) -> None:
    """Raises ConfigError for a protected split that the lake lacks: a slip there would cost what it is to protect."""
    if not never_from:
        return
    splits = lake.require("images").select("split").where("split IS NOT NULL").distinct()
    there = {row["split"] for row in splits.where(F.col("split").isin(*never_from)).collect()}
    missing = [name for name in never_from if name not in there]
    if missing:
        known = sorted(row["split"] for row in splits.limit(SHOWN).collect())
        raise ConfigError(
            f"clean.never_from: {', '.join(missing)} is no split of this lake (there are: {', '.join(known) or 'none'})"
        )


def _spare_inputs(lake: Lake, targets: Targets) -> None:
    """Raises ConfigError where a file to write is one of the lake's inputs: an image, a shard, or a manifest."""
    if not targets.files:
        return
    given = F.array("uri", "shard", "source")
    named = lake.require("images").where(F.arrays_overlap(given, F.array(*map(F.lit, targets.files)))).head()
    if named is not None:
        hit = next(uri for uri in targets.files if uri in (named["uri"], named["shard"], named["source"]))
        raise ConfigError(f"{hit} is an input of this lake: name another file")


def _others(manifest: str) -> tuple[str, str]:
    return files.beside(manifest, "removed"), files.beside(manifest, "relabelled")


def _size(size: int | None) -> str:
    return f"{(size or 0) / 1e6:,.1f} MB"


def _name(text: str | None) -> str:
    return "–" if text is None else " ".join(text.split())[:60]


def _prepare(asked: Asked) -> Ready:
    given = asked.arguments
    shards = _shards(asked)
    how, to = given.apply, given.to
    if (how is None) != (to is None or shards is not None):
        raise ConfigError("--apply and --to: one needs the other")
    targets = check_targets(given.out, given.batch_manifest, given.dry_run, needs_out=shards is None)
    if how is not None:
        folder = Path(to).absolute()
        applying.check_folder(folder, how, asked.lake)
        return Ready(replace(targets, how=how, to=str(folder)))
    return Ready(replace(targets, shards=shards), () if shards is None else (shards.to,))


def _shards(asked: Asked) -> training_set.Target | None:
    """What --write, --replay and what goes with them ask for. Raises ConfigError, InputError."""
    given = asked.arguments
    if given.write is None and given.replay is None:
        beside = {"--seed": given.seed, "--shard-images": given.shard_images, "--splits": given.splits}
        if named := [name for name, value in beside.items() if value is not None]:
            raise ConfigError(f"{', '.join(named)}: goes with --write")
        return None
    if given.to is None:
        raise ConfigError("--to: must name where the shards go")
    if given.apply is not None or (given.write is not None and given.replay is not None):
        raise ConfigError("--apply, --write and --replay: one of them at a time")
    if given.replay is not None:
        others = (given.seed, given.shard_images, given.splits, given.out, given.batch_manifest)
        if any(value is not None for value in others):
            raise ConfigError("--replay: takes all from its manifest; beside it goes --to alone")
        return training_set.check_replay(given.replay, given.to, asked.lake)
    size = training_set.SHARD_IMAGES if given.shard_images is None else given.shard_images
    return training_set.check(given.to, given.write, given.seed or 0, size, given.splits, asked.lake)


STAGE = Stage(
    name=JOB,
    does="write the clean set: what to keep, what to leave out and why, corrected labels; it deletes nothing",
    reads=("images", "features", "failures", "duplicates", "labels", "leaks", "issues", "reviews", "topics", "ratings"),
    writes=(),
    settings=lambda context: context.config.as_dict()["clean"],
    body=run,
    options=(
        Option(
            "--out",
            {
                "metavar": "MANIFEST",
                "help": "the file to write, .parquet, .csv or .jsonl; NAME.removed and NAME.relabelled go beside it",
            },
        ),
        Option(
            "--apply",
            {
                "choices": applying.HOW,
                "help": "also copy or link what is kept, or move what is left out, into the folder of --to; "
                "imagesieve unapply takes it back",
            },
        ),
        Option(
            "--write",
            {
                "choices": tuple(CONTAINERS),
                "help": "write what is kept as shards for training, shuffled, into --to; --out is not needed then",
            },
        ),
        Option(
            "--to",
            {"metavar": "FOLDER", "help": "where --apply or --write brings it; new, empty, or of the same before"},
        ),
        Option("--seed", {"type": int, "metavar": "N", "help": "of the order of the images in shards (default: 0)"}),
        Option(
            "--shard-images",
            {"type": int, "metavar": "N", "help": f"of a shard, about (default: {training_set.SHARD_IMAGES})"},
        ),
        Option(
            "--splits",
            {
                "metavar": "NAME=SHARE,…",
                "help": "splits into which images without one are dealt, such as train=0.9,val=0.1",
            },
        ),
        Option(
            "--replay",
            {"metavar": "MANIFEST", "help": "write a set again, byte for byte, by the training-set.json of it"},
        ),
        Option("--dry-run", {"action": "store_true", "help": "only print what would be done"}),
        Option(
            "--batch-manifest",
            {
                "metavar": "FILE",
                "help": "also write an S3 Batch Operations manifest of what is left out, and print what moving saves",
            },
        ),
    ),
    prepare=_prepare,
    recorded=False,
    only_reads=lambda targets: targets.dry_run,
)


if __name__ == "__main__":
    sys.exit(submitted(JOB))
