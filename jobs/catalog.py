"""Catalog: lists the inputs, numbers the images, and finds what was added, changed and removed since the last run."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import LongType, StringType, StructField, StructType, TimestampType

from jobs.config import Config
from jobs.errors import ConfigError, InputError
from jobs.runs import Context, Counts, StageResult, run_stage
from jobs.tables import TABLES, dense_ids, literal, read_parquet
from udfs import fetch, objects, uris
from udfs.errors import ImageError
from udfs.s3 import StoreError

JOB = "catalog"
MANIFEST_ENDINGS = {
    ".csv": "csv", ".csv.gz": "csv", ".parquet": "parquet", ".jsonl": "json", ".ndjson": "json", ".json": "json",
    ".jsonl.gz": "json",
}  # fmt: skip
OPTIONAL_COLUMNS = ("source", "split", "label", "etag", "size_bytes", "modified_at")
LISTED_PER_FILE = 200_000  # rows of one staged file: about 40 MB in the driver
LISTED = StructType(
    [
        StructField("uri", StringType(), False),
        StructField("relative", StringType(), False),
        StructField("source", StringType(), False),
        StructField("split", StringType()),
        StructField("label", StringType()),
        StructField("size_bytes", LongType()),
        StructField("etag", StringType()),
        StructField("modified_at", TimestampType()),
    ]
)
_STAGED = pa.schema(
    [("uri", pa.string()), ("relative", pa.string()), ("source", pa.string()), ("size_bytes", pa.int64()),
     ("etag", pa.string()), ("modified_at", pa.timestamp("us", tz="UTC"))]
)  # fmt: skip


@dataclass(frozen=True)
class Source:
    """One INPUT. kind: folder (local or an S3 prefix), csv, json, parquet or delta."""

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
            return Source(uri, kind)
    _check_access(uri)
    if objects.has_any(uris.join(uri, "_delta_log")):
        return Source(uri, "delta")
    return Source(uri, "folder")


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
    reader, path = spark.read, literal(source.uri)
    try:
        if source.kind == "csv":
            rows = reader.option("header", True).option("multiLine", True).option("escape", '"').csv(path)
        elif source.kind == "json":
            rows = reader.json(path)
        elif source.kind == "parquet":
            rows = reader.parquet(path)
        else:
            rows = reader.format(source.kind).load(source.uri)
    except Exception as error:  # Spark's errors share no base class that says "cannot be read"
        lines = str(error).splitlines()
        told = next((line for line in lines if "Exception: " in line), lines[0])  # the first may name a method only
        raise InputError(f"{source.uri}: cannot be read as {source.kind} ({told.strip(': ')[:200]})") from error
    if "uri" not in rows.columns:
        raise InputError(f"{source.uri}: no column 'uri' (found: {', '.join(rows.columns) or 'none'})")
    base = source.uri if source.kind == "delta" else source.uri.rpartition("/")[0]

    def canonical(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            texts = batch.column(0).to_pylist()
            found: list[str | None] = []
            for text in texts:
                try:
                    found.append(uris.canonical(text, base=base) if text else None)
                except ValueError:
                    found.append(None)
            yield pa.RecordBatch.from_arrays(
                [pa.array(texts, pa.string()), pa.array(found, pa.string()), *batch.columns[1:]],
                names=["given", "uri", *batch.schema.names[1:]],
            )

    columns = [F.col("uri").cast("string").alias("uri")]
    for field in LISTED:
        if field.name in OPTIONAL_COLUMNS:
            value = F.col(field.name).try_cast(field.dataType) if field.name in rows.columns else F.lit(None)
            columns.append(value.cast(field.dataType).alias(field.name))
    given = rows.select(*columns)
    schema = StructType([StructField("given", StringType()), *given.schema.fields])
    references = given.mapInArrow(canonical, schema)  # type: ignore[arg-type]
    bad = references.where(F.col("uri").isNull()).select("given").head()
    if bad is not None:
        raise InputError(f"{source.uri}: {bad['given']!r} is not a path, a file: URI or an s3:// URI")
    return references.select(
        "uri",
        F.col("uri").alias("relative"),
        F.coalesce("source", F.lit(source.uri)).alias("source"),
        "split", "label", "size_bytes", "etag", "modified_at",
    )  # fmt: skip


def stat_missing(references: DataFrame, threads: int, limits: fetch.Limits) -> DataFrame:
    """Fills size, etag and time of references without an etag by asking the store; null where it does not answer,
    and then the embed stage finds out why. references: LISTED."""

    def ask(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(threads) as pool:
            for batch in batches:
                rows = batch.to_pylist()
                wanted = [row for row in rows if row["etag"] is None]
                for row, stat in zip(wanted, pool.map(lambda row: try_stat(row["uri"], limits), wanted), strict=True):
                    if stat is not None:
                        row |= {"size_bytes": stat.size_bytes, "etag": stat.etag, "modified_at": stat.modified_at}
                yield pa.RecordBatch.from_pylist(rows, schema=batch.schema)

    return references.mapInArrow(ask, LISTED)  # type: ignore[arg-type]


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
        .when(differ("etag", "size_bytes"), "changed")
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


def check_inputs(config: Config, given: list[str], layout: str | None, leave_out: tuple[str, ...]) -> Inputs:
    """Looks at the inputs before anything is started or written; needs no Spark.

    leave_out: URIs whose contents are never images (the lake, the report). Raises InputError, ConfigError."""
    if layout:
        layout_pattern(layout)
    sources = [find_source(one) for one in given]
    folders = [source for source in sources if source.kind == "folder"]
    _refuse_overlap([folder.uri for folder in folders])
    for folder in folders:
        if next(_images(folder, config.catalog.extensions, leave_out, []), None) is None:
            raise InputError(f"{folder.uri} holds no image (endings: {', '.join(config.catalog.extensions)})")
    return Inputs(given, layout, folders, [source for source in sources if source.kind != "folder"], leave_out)


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


def _images(
    folder: Source, extensions: tuple[str, ...], leave_out: tuple[str, ...], skipped: list[str]
) -> Iterator[fetch.Listed]:
    """The files of a folder that are images by their name. skipped: gets the relative names of the others, the first
    million of them."""
    endings = {extension.lower() for extension in extensions}
    outside = tuple(uri.rstrip("/") + "/" for uri in leave_out)
    for batch in fetch.list_files(folder.uri):
        for file in batch:
            if file.uri.startswith(outside):
                continue
            name = file.relative.rpartition("/")[2]
            if "." in name and name.rpartition(".")[2].lower() in endings:
                yield file
            elif len(skipped) < 1_000_000:
                skipped.append(file.relative)


def stage_listing(context: Context, inputs: Inputs) -> tuple[DataFrame, int]:
    """Lists folders and prefixes into Parquet files under the lake's staging, in bounded memory.

    Returns (LISTED, number of files that were no image)."""
    number = 0
    folder = context.lake.staging("listing")
    rows: list[dict[str, object]] = []
    skipped: list[str] = []

    def flush() -> None:
        nonlocal number
        table = pa.Table.from_pylist(rows, schema=_STAGED)
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        objects.put(uris.join(folder, f"part-{number:06d}.parquet"), sink.getvalue().to_pybytes())
        number += 1
        rows.clear()

    for source in inputs.folders:
        for file in _images(source, context.config.catalog.extensions, inputs.leave_out, skipped):
            rows.append(
                {"uri": file.uri, "relative": file.relative, "source": source.uri, "size_bytes": file.size_bytes,
                 "etag": file.etag, "modified_at": file.modified_at}
            )  # fmt: skip
            if len(rows) >= LISTED_PER_FILE:
                flush()
    flush()
    nothing = F.lit(None).cast("string")
    staged = StructType([column for column in LISTED if column.name in _STAGED.names])
    listed = read_parquet(context.lake.spark, folder, staged).withColumns({"split": nothing, "label": nothing})
    return listed.select(*LISTED.names), len(skipped)


def stage_references(context: Context, references: DataFrame) -> DataFrame:
    """References with what the store says of them, staged so that it is asked once. references: LISTED."""
    config = context.config
    if config.catalog.stat:
        limits = fetch.Limits(config.embed.max_bytes, config.embed.timeout_s, config.embed.retries)
        references = stat_missing(references, config.embed.fetch_threads, limits)
    references.write.mode("overwrite").parquet(context.lake.staging("manifest"))
    return read_parquet(context.lake.spark, context.lake.staging("manifest"), LISTED)


def catalog(context: Context, inputs: Inputs, references: DataFrame | None) -> Counts:
    """Brings `images` in line with the inputs. Raises InputError before `images` is touched where too much would go."""
    lake, config = context.lake, context.config
    skipped = 0
    parts: list[DataFrame] = []
    if references is not None:
        parts.append(stage_references(context, references))
    if inputs.folders:
        listed, skipped = stage_listing(context, inputs)
        parts.append(listed)
    everything = parts[0] if len(parts) == 1 else parts[0].unionByName(parts[1])
    if len(inputs.given) > 1:
        _refuse_twice(everything)
    if inputs.layout:
        everything = with_layout(everything, inputs.layout)
    total = everything.count()
    images = lake.read("images")
    newest = images.agg(F.max("image_id").alias("newest"), F.count("*").alias("known")).head()
    known = int(newest["known"]) if newest else 0
    first_id = max(lake.next_id("next_image_id"), int(newest["newest"]) + 1 if newest and known else 0)
    todo = changes(everything, images, first_id).persist()
    try:
        by_change = {row["change"]: row["count"] for row in todo.groupBy("change").count().collect()}
        removed = by_change.get("removed", 0)
        if known and removed > config.catalog.max_removed_share * known:
            raise InputError(
                f"{removed} of the lake's {known} images are not in the input: if that is meant, "
                "--set catalog.max_removed_share=1; if not, name all inputs of this lake"
            )
        if by_change:
            lake.mark(next_image_id=first_id + by_change.get("added", 0))
            if known:
                lake.merge("images", todo.drop("change"))
            else:
                lake.append("images", todo)
    finally:
        todo.unpersist()
        lake.clear_staging()
    counts = {"in": total, "out": lake.read("images").count(), "failed": 0, "skipped_files": skipped}
    counts |= {name: by_change.get(name, 0) for name in ("added", "changed", "relabelled", "removed")}
    return {**counts, "wrote": int(bool(by_change))}


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


def run(context: Context, inputs: Inputs, references: DataFrame | None) -> StageResult:
    """The whole stage. It always lists: only the store knows whether something changed."""
    settings = {"inputs": inputs.given, "layout": inputs.layout}
    return run_stage(context, JOB, (), settings, lambda c: catalog(c, inputs, references), always=True)


def main(argv: list[str]) -> int:
    from jobs.command import main as command

    return command([JOB, *argv])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
