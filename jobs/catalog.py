"""Catalog: lists the inputs, numbers the images, and finds what was added, changed and removed since the last run."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    DataType,
    DoubleType,
    FloatType,
    LongType,
    MapType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

from jobs import __version__
from jobs.config import Catalog, Config
from jobs.engines.base import of
from jobs.engines.choice import large_lake
from jobs.engines.frames import keep, map_batches, read_parquet, write_parquet
from jobs.errors import ConfigError, InputError
from jobs.inputs import members
from jobs.inputs.inventory import Report, find_report, stage_objects
from jobs.stage import Context, Counts, Stage, submitted
from jobs.tables import TABLES, dense_ids
from udfs.errors import ImageError
from udfs.stores import fetch, objects, parquet_rows, ranges, shards, uris
from udfs.stores.s3 import StoreError

JOB = "catalog"
MANIFEST_ENDINGS = {
    ".csv": "csv", ".csv.gz": "csv", ".parquet": "parquet", ".jsonl": "json", ".ndjson": "json", ".json": "json",
    ".jsonl.gz": "json",
}  # fmt: skip
OPTIONAL_COLUMNS = ("source", "split", "label", "shard", "shard_offset", "etag", "size_bytes", "modified_at")
NO_TEXT = (ArrayType, BinaryType, MapType, StructType)  # types that are no label
SETTINGS_MARK = "catalog_settings"  # in the lake's marker: what its images were last listed with
LISTED_PER_FILE = 200_000  # rows of one staged file: about 40 MB in the driver
LISTED = StructType(
    [
        StructField("uri", StringType(), False),
        StructField("relative", StringType(), False),
        StructField("source", StringType(), False),
        StructField("split", StringType()),
        StructField("label", StringType()),
        StructField("shard", StringType()),
        StructField("shard_offset", LongType()),
        StructField("size_bytes", LongType()),
        StructField("etag", StringType()),
        StructField("modified_at", TimestampType()),
    ]
)


@dataclass(frozen=True)
class Source:
    """One INPUT. kind: folder (local or an S3 prefix), shard (a tar or Parquet file with images in it), inventory (of
    S3), or a manifest: csv, json, parquet, delta."""

    uri: str
    kind: str


def find_source(given: str) -> Source:
    """What an INPUT of the command line is. Raises InputError where it is nothing that can be read."""
    try:
        uri = uris.canonical(given, base=os.getcwd())  # noqa: PTH109 (a text)
        uri = uri.rstrip("/") or "/"
    except ValueError as error:
        raise InputError(str(error)) from error
    for ending, kind in MANIFEST_ENDINGS.items():
        # Spark writes a Parquet "file" as a folder; any other ending names a manifest only where it is a file.
        if uri.lower().endswith(ending) and (kind == "parquet" or not _is_folder(uri)):
            _check_access(uri)
            if kind == "json" and uri.lower().endswith(".json") and find_report(uri) is not None:
                return Source(uri, "inventory")
            return Source(uri, _kind_of_parquet(uri) if kind == "parquet" else kind)
    _check_access(uri)
    if shards.is_shard(uri) and not _is_folder(uri):
        return Source(uri, "shard")
    if objects.has_any(uris.join(uri, "_delta_log")):
        return Source(uri, "delta")
    return Source(uri, "folder")


def _kind_of_parquet(uri: str) -> str:
    """Whether a Parquet file, or a folder of them, holds images or the references of a manifest."""
    import pyarrow.parquet as pq

    is_folder = _is_folder(uri)
    try:
        names = (file.uri for batch in fetch.list_files(uri) for file in batch) if is_folder else iter([uri])
        first = next((name for name in names if shards.is_parquet(name)), None)
        if first is None:
            return "parquet"
        with ranges.open_file(first, None, fetch.Limits(timeout_s=30.0)) as (file, _):
            schema = pq.read_schema(file)
    except (ImageError, OSError, pa.ArrowException):
        return "parquet"  # Spark will say what is wrong with it
    if "uri" in schema.names or parquet_rows.bytes_column(schema) is None:
        return "parquet"
    return "folder" if is_folder else "shard"


def _is_folder(uri: str) -> bool:
    return objects.has_any(uri)


def _check_access(uri: str) -> None:
    try:
        objects.check_access(uri)
    except StoreError as error:
        raise InputError(str(error)) from error


def layout_pattern(layout: str) -> tuple[str, list[str]]:
    """A regular expression for a layout such as {split}/{label}/*, and the columns of its groups.

    {name} stands for one level of the path, * for any text within a level, ** for any text.
    Raises ConfigError for a name other than split, label and source, or one given twice."""
    names: list[str] = []
    pattern = ""
    for part in re.split(r"(\{[^}]*\}|\*\*|\*)", layout):
        if part == "**":
            pattern += r"[\s\S]*"
        elif part == "*":
            pattern += "[^/]*"
        elif part.startswith("{") and part.endswith("}"):
            name = part[1:-1]
            if name not in ("split", "label", "source") or name in names:
                raise ConfigError(
                    f"--layout: {{{name}}} must be one of split, label, source, each once, got {layout!r}"
                )
            names.append(name)
            pattern += "([^/]+)"
        else:
            pattern += re.escape(part)
    if not names:
        raise ConfigError(f"--layout: must name at least one of {{split}}, {{label}}, {{source}}, got {layout!r}")
    return f"^{pattern}$", names


def with_layout(listed: DataFrame, layout: str) -> DataFrame:
    """split, label and source read from the relative path, where the path fits the layout. listed: LISTED."""
    pattern, names = layout_pattern(layout)
    for group, name in enumerate(names, start=1):
        found = F.regexp_extract("relative", pattern, group)
        listed = listed.withColumn(name, F.when(found != "", found).otherwise(F.col(name)))
    return listed


def read_manifest(spark: SparkSession, source: Source) -> DataFrame:
    """References of a manifest as LISTED, URIs in canonical form. Raises InputError for a missing or a bad uri."""
    try:
        rows = of(spark).read_source(source.uri, source.kind)
    except Exception as error:  # an engine's errors share no base class that says "cannot be read"
        lines = str(error).splitlines()
        told = next((line for line in lines if "Exception: " in line), lines[0])  # the first may name a method only
        raise InputError(f"{source.uri}: cannot be read as {source.kind} ({told.strip(': ')[:200]})") from error
    if "uri" not in rows.columns:
        raise InputError(f"{source.uri}: no column 'uri' (found: {', '.join(rows.columns) or 'none'})")
    if ("shard" in rows.columns) != ("shard_offset" in rows.columns):
        raise InputError(f"{source.uri}: the columns shard and shard_offset must be there both, or neither")
    types = {field.name: field.dataType for field in rows.schema}
    for name in ("source", "split", "label"):
        if isinstance(types.get(name), NO_TEXT):
            kind = types[name].simpleString()[:100]
            raise InputError(f"{source.uri}: the column {name!r} must be text or a number, is {kind}")
    base = source.uri if source.kind == "delta" else source.uri.rpartition("/")[0]

    def canonical(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            rows = batch.to_pylist()
            for row in rows:
                row["fault"] = _make_canonical(row, base)
            yield pa.RecordBatch.from_pylist(rows, schema=batch.schema.append(pa.field("fault", pa.string())))

    columns = [F.col("uri").cast("string").alias("uri")]
    for column in LISTED:
        if column.name in OPTIONAL_COLUMNS:
            value = _value(column, types) if column.name in types else F.lit(None)
            columns.append(value.cast(column.dataType).alias(column.name))
    given = rows.select(*columns)
    schema = StructType([*given.schema.fields, StructField("fault", StringType())])
    references = map_batches(given, canonical, schema)
    bad = references.where(F.col("fault").isNotNull()).select("fault").head()
    if bad is not None:
        raise InputError(f"{source.uri}: {bad['fault']}")
    return references.select(
        "uri",
        F.col("uri").alias("relative"),
        F.coalesce("source", F.lit(source.uri)).alias("source"),
        "split", "label", "shard", "shard_offset", "size_bytes", "etag", "modified_at",
    )  # fmt: skip


def _value(column: StructField, types: dict[str, DataType]) -> Column:
    """The given column as the wanted type, null where it is no such value; whole numbers as such where a text is
    wanted: pandas writes labels 0, 1, 2 beside a missing one as 0.0, 1.0, 2.0 and NaN. types: of the given columns."""
    if not (isinstance(column.dataType, StringType) and isinstance(types[column.name], FloatType | DoubleType)):
        return _try_cast(column.name, column.dataType)
    value, whole = F.col(column.name), _try_cast(column.name, LongType())
    known = F.when(~F.isnan(value), value)
    return F.when(whole.cast("double") == known, whole.cast("string")).otherwise(known.cast("string"))


def _try_cast(name: str, to: DataType) -> Column:
    """A column with one of our names as another type, null where that cannot be. Column.try_cast is of Spark 4.0."""
    return F.expr(f"try_cast(`{name}` AS {to.simpleString()})")


def _make_canonical(row: dict[str, Any], base: str) -> str | None:
    """Puts the URIs of one reference into canonical form. Returns what is wrong with it, or None."""
    if row["shard"] == "":
        row["shard"] = None
    given = row["uri"]
    for name in ("uri", "shard"):
        text = row[name]
        if name == "shard" and text is None:
            continue
        try:
            row[name] = uris.canonical(text or "", base=base)
        except ValueError:
            return f"{text!r} is not a path, a file: URI or an s3:// URI"
    if (row["shard"] is None) != (row["shard_offset"] is None):
        return f"{given!r} has only one of shard and shard_offset"
    if row["shard"] is not None and row["size_bytes"] is None and not shards.is_parquet(row["shard"]):
        return f"{given!r} lies in a tar and has no size_bytes"
    return None


def stat_missing(references: DataFrame, threads: int, limits: fetch.Limits) -> DataFrame:
    """Fills size, etag and time of references without an etag by asking the store; null where it does not answer,
    and then the embed stage finds out why. Of a member, etag and time are its shard's. references: LISTED."""

    def ask(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(threads) as pool:
            for batch in batches:
                rows = batch.to_pylist()
                wanted = [row for row in rows if row["etag"] is None]
                files = list({row["shard"] or row["uri"]: None for row in wanted})
                stats = dict(zip(files, pool.map(lambda uri: try_stat(uri, limits), files), strict=True))
                for row in wanted:
                    stat = stats[row["shard"] or row["uri"]]
                    if stat is None:
                        continue
                    row |= {"etag": stat.etag, "modified_at": stat.modified_at}
                    if row["shard"] is None:
                        row["size_bytes"] = stat.size_bytes
                yield pa.RecordBatch.from_pylist(rows, schema=batch.schema)

    return map_batches(references, ask, LISTED)


def try_stat(uri: str, limits: fetch.Limits) -> fetch.Stat | None:
    """What the store says of an object, or None where it says nothing."""
    try:
        return fetch.stat(uri, limits)
    except ImageError:
        return None


def changes(listed: DataFrame, images: DataFrame, first_id: int) -> DataFrame:
    """What has to be done to `images` so that it equals listed.

    listed: LISTED. images: the table. Returns the columns of `images`, `removed` BOOLEAN and `change` (added, changed:
    other bytes, relabelled: other label, split or source, removed). A removed image's id is never given out again."""
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
        .when(differ("source", "split", "label", "modified_at"), "relabelled"),
    ).where(F.col("change").isNotNull())
    names = TABLES["images"].schema.names
    out = known.withColumn("uri", F.coalesce("uri", "old_uri")).withColumn("source", F.coalesce("source", "old_source"))
    return (
        out.select(*names, "change")
        .unionByName(numbered.select(*names, F.lit("added").alias("change")))
        .withColumn("removed", F.col("change") == "removed")
    )


@dataclass(frozen=True)
class Inputs:
    """Inputs that were looked at. leave_out: see check_inputs."""

    given: list[str]
    layout: str | None
    folders: list[Source]
    manifests: list[Source]
    leave_out: tuple[str, ...]
    shards: tuple[shards.File, ...] = ()
    reports: tuple[Report, ...] = ()


def check_inputs(config: Config, given: list[str], layout: str | None, leave_out: tuple[str, ...]) -> Inputs:
    """Looks at the inputs before anything is started or written; needs no Spark.

    leave_out: URIs whose contents are never images (the lake, the report). Raises InputError, ConfigError."""
    if layout:
        layout_pattern(layout)
    sources = [find_source(one) for one in given]
    by_kind: dict[str, list[Source]] = {"folder": [], "shard": [], "inventory": [], "manifest": []}
    for source in sources:
        by_kind[source.kind if source.kind in by_kind else "manifest"].append(source)
    folders = by_kind["folder"]
    _refuse_overlap([source.uri for source in folders + by_kind["shard"]])
    for folder in folders:
        if next(_images(folder, config.catalog, leave_out, Left()), None) is None:
            endings = config.catalog.extensions + config.catalog.shards
            raise InputError(f"{folder.uri} holds no image (endings: {', '.join(endings)})")
    return Inputs(
        given, layout, folders, by_kind["manifest"], leave_out,
        tuple(_single_shard(source.uri) for source in by_kind["shard"]),
        tuple(report for source in by_kind["inventory"] if (report := find_report(source.uri)) is not None),
    )  # fmt: skip


def _single_shard(uri: str) -> shards.File:
    try:
        return shards.File(uri, "", uri, *fetch.stat(uri))
    except ImageError as error:
        raise InputError(f"{uri}: {error}") from error


def read_manifests(spark: SparkSession, inputs: Inputs) -> DataFrame | None:
    """The references of all manifests as LISTED, or None without one. Raises InputError before anything is written."""
    references: DataFrame | None = None
    for source in inputs.manifests:
        rows = read_manifest(spark, source)
        references = rows if references is None else references.unionByName(rows)
    if references is None:
        return None
    _refuse_twice(references)
    if references.isEmpty():
        raise InputError(f"{', '.join(source.uri for source in inputs.manifests)}: no reference in it")
    return references


@dataclass
class Left:
    """What a listing left out. files: number of those that are no image. tables: folders of Delta tables, `/` at the
    end: their Parquet files are no inputs, for some of them are of versions long gone."""

    files: int = 0
    tables: set[str] = field(default_factory=set)


def _images(
    folder: Source, settings: Catalog, leave_out: tuple[str, ...], left: Left
) -> Iterator[tuple[fetch.Listed, bool]]:
    """(file, whether it is a shard) of the files of a folder that are images or shards by their name."""
    endings = {extension.lower() for extension in settings.extensions}
    outside = _below(leave_out)
    for batch in fetch.list_files(folder.uri):
        for file in batch:
            if file.uri.startswith(outside):
                continue
            if "_delta_log/" in file.relative and (above := file.uri.partition("/_delta_log/"))[1]:
                left.tables.add(above[0] + "/")
            kind = shards.ending(file.relative)
            if kind in endings or kind in settings.shards:
                yield file, kind not in endings
            else:
                left.files += 1


def _below(leave_out: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(uri.rstrip("/") + "/" for uri in leave_out)


class _Stager:
    """Rows on their way to Parquet files of a folder of the lake's staging, in bounded memory."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._rows: list[shards.File] = []
        self._files = 0
        self.number = 0

    def add(self, row: shards.File) -> None:
        self._rows.append(row)
        self.number += 1
        if len(self._rows) >= LISTED_PER_FILE:
            self.flush()

    def flush(self) -> None:
        if not self._rows and self._files:
            return
        columns = list(zip(*self._rows, strict=True)) or [()] * len(shards.FILES)
        table = pa.table(
            [pa.array(values, field.type) for values, field in zip(columns, shards.FILES, strict=True)],
            schema=shards.FILES,
        )
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        objects.put(uris.join(self._folder, f"part-{self._files:06d}.parquet"), sink.getvalue().to_pybytes())
        self._files += 1
        self._rows.clear()


@dataclass(frozen=True)
class Listing:
    """What folders, shards and reports hold. images: LISTED. shards: members.FILES, `shard_count` of them. skipped:
    number of files that were neither. tables: see Left."""

    images: DataFrame
    shards: DataFrame
    shard_count: int
    skipped: int
    tables: tuple[str, ...]


def stage_listing(context: Context, inputs: Inputs) -> Listing:
    """Lists folders and prefixes into Parquet files under the lake's staging, in bounded memory, and has the reports of
    S3 Inventory read."""
    lake, left = context.lake, Left()
    places = lake.staging("listing"), lake.staging("shards")
    images, packed = _Stager(places[0]), _Stager(places[1])
    for source in inputs.folders:
        for file, is_shard in _images(source, context.config.catalog, inputs.leave_out, left):
            stager = packed if is_shard else images
            stager.add(shards.File(file.uri, file.relative, source.uri, *file[2:]))
    for shard in inputs.shards:
        packed.add(shard)
    for stager in (images, packed):
        stager.flush()
    listed, files = (read_parquet(lake.spark, place, members.FILES) for place in places)
    skipped, count = left.files, packed.number
    for number, report in enumerate(inputs.reports):
        staged = stage_objects(context, report, f"inventory-{number}", _below(inputs.leave_out))
        left.tables |= staged.tables
        listed = listed.unionByName(staged.found.where(~F.col("is_shard")).select(*members.FILES.names))
        files = files.unionByName(staged.found.where("is_shard").select(*members.FILES.names))
        skipped, count = skipped + staged.skipped, count + staged.shards
    nothing = {name: F.lit(None).cast(kind) for name, kind in
               (("split", "string"), ("label", "string"), ("shard", "string"), ("shard_offset", "long"))}  # fmt: skip
    return Listing(listed.withColumns(nothing).select(*LISTED.names), files, count, skipped, tuple(sorted(left.tables)))


def expand(context: Context, listing: Listing, images: DataFrame, same_settings: bool) -> tuple[DataFrame, int]:
    """The members of the listed shards as LISTED, and how many files in them are no images. Shards that are as they
    were are not opened where same_settings. images: the table."""
    files, before = listing.shards, None
    if same_settings:
        before = members.listed_before(files, images).select(*LISTED.names)
        files = files.join(before.select(F.col("shard").alias("uri")), "uri", "left_anti")
    found, skipped = members.list_shards(context, files, listing.shard_count, listing.tables)
    found = found.select(*LISTED.names)
    return (found if before is None else found.unionByName(before)), skipped


def stage_references(context: Context, references: DataFrame) -> DataFrame:
    """References with what the store says of them, staged so that it is asked once. references: LISTED."""
    config = context.config
    if config.catalog.stat:
        limits = fetch.Limits(config.embed.max_bytes, config.embed.timeout_s, config.embed.retries)
        references = stat_missing(references, config.embed.fetch_threads, limits)
    write_parquet(references, context.lake.staging("manifest"))
    return read_parquet(context.lake.spark, context.lake.staging("manifest"), LISTED)


def catalog(context: Context, inputs: Inputs, references: DataFrame | None) -> Counts:
    """Brings `images` in line with the inputs. Raises InputError before `images` is touched where too much would go."""
    lake, config = context.lake, context.config
    images = lake.read("images")
    settings = _digest(_settings(inputs, config))
    same_settings = lake.next_id(SETTINGS_MARK) == settings
    skipped = 0
    parts: list[DataFrame] = []
    if references is not None:
        parts.append(stage_references(context, references))
    if inputs.folders or inputs.shards or inputs.reports:
        listing = stage_listing(context, inputs)
        skipped = listing.skipped
        parts.append(listing.images)
        if listing.shard_count:
            found, others = expand(context, listing, images, same_settings)
            skipped += others
            parts.append(found)
    everything = functools.reduce(DataFrame.unionByName, parts)
    if len(inputs.given) > 1:
        _refuse_twice(everything)
    if inputs.layout:
        everything = with_layout(everything, inputs.layout)
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
    return {**counts, "wrote": int(bool(by_change))}


@dataclass(frozen=True)
class Given:
    """What the stage is to catalogue. references: of the manifests among the inputs."""

    inputs: Inputs
    references: DataFrame | None


def _refuse_overlap(folders: list[str]) -> None:
    """Raises InputError where one folder is another or lies inside it: its images would be there twice."""
    for number, folder in enumerate(folders):
        for other in folders[:number] + folders[number + 1 :]:
            if (folder.rstrip("/") + "/").startswith(other.rstrip("/") + "/"):
                raise InputError(f"{folder} is given twice, the second time by {other}: name each image once")


def _refuse_twice(references: DataFrame) -> None:
    twice = references.groupBy("uri").count().where("count > 1").orderBy("uri").head()
    if twice is not None:
        raise InputError(
            f"{json.dumps(twice['uri'], ensure_ascii=False)} is given {twice['count']} times: name each image once"
        )


def _settings(inputs: Inputs, config: Config) -> dict[str, Any]:
    """What decides which images the inputs hold and how they are labelled, beside the inputs themselves."""
    return {
        "inputs": inputs.given,
        "layout": inputs.layout,
        "extensions": config.catalog.extensions,
        "shards": config.catalog.shards,
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


STAGE = Stage(
    name=JOB,
    does="list the inputs and number the images",
    reads=(),
    writes=("images",),
    settings=lambda context: _settings(context.given[JOB].inputs, context.config),
    body=_catalog,
    always=lambda _: True,  # it always lists: only the store knows whether something changed
)


if __name__ == "__main__":
    sys.exit(submitted(JOB))
