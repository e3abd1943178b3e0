"""References that a user's table lists, in canonical form."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
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
    NullType,
    StringType,
    StructField,
    StructType,
)

from jobs.engines.base import of
from jobs.engines.frames import map_batches, read_parquet, write_parquet
from jobs.errors import InputError
from jobs.inputs import csv_text, set_columns
from jobs.inputs.sources import LISTED, Inputs, Source
from jobs.progress import say
from jobs.stage import Context
from udfs.errors import ImageError
from udfs.stores import fetch, listing, shards, uris

OPTIONAL_COLUMNS = (
    "source", "split", "label", "labels", "owner", "shard", "shard_offset", "etag", "size_bytes", "modified_at",
)  # fmt: skip

FOR_URI = ("path", "file_name", "filename", "filepath", "file_path", "image", "image_path")  # where there is no `uri`
MIXED = "Json error: "  # of a column that holds lists in one line and texts in another
REPLACED = "\N{REPLACEMENT CHARACTER}"
NO_TEXT = (ArrayType, BinaryType, MapType, StructType)  # types that are no label


def read_manifest(spark: SparkSession, source: Source, label_separator: str | None = None) -> DataFrame:
    """References of a manifest as LISTED, URIs in canonical form. label_separator: what stands between several labels
    in a text. Raises InputError for a missing or a bad uri."""
    if source.kind == "csv":
        csv_text.check_header(source.uri)
    try:
        rows = of(spark).read_source(source.uri, source.kind)
    except Exception as error:  # an engine's errors share no base class that says "cannot be read"
        lines = str(error).splitlines()
        told = next((line for line in lines if "Exception: " in line), lines[0])  # the first may name a method only
        raise InputError(f"{source.uri}: cannot be read as {source.kind} ({told.strip(': ')[:200]})") from error
    rows = set_columns.with_sets(source.uri, _with_our_names(source.uri, rows), label_separator)
    if "uri" not in rows.columns:
        raise InputError(
            f"{source.uri}: no column 'uri', and none or several of {', '.join(FOR_URI)} "
            f"(found: {', '.join(rows.columns) or 'none'})"
        )
    if ("shard" in rows.columns) != ("shard_offset" in rows.columns):
        raise InputError(f"{source.uri}: the columns shard and shard_offset must be there both, or neither")
    types = {field.name: field.dataType for field in rows.schema}
    for name in ("source", "split", "label", "owner"):
        if isinstance(types.get(name), NO_TEXT):
            kind = types[name].simpleString()[:100]
            raise InputError(f"{source.uri}: the column {name!r} must be text or a number, is {kind}")
    in_text = isinstance(types.get(set_columns.NAME), StringType)
    base = source.uri if source.kind == "delta" else source.uri.rpartition("/")[0]

    def canonical(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            rows = batch.to_pylist()
            for row in rows:
                row["fault"] = _make_canonical(row, base) or set_columns.made_of(row, in_text, label_separator)
            yield pa.RecordBatch.from_pylist(rows, schema=batch.schema.append(pa.field("fault", pa.string())))

    columns = [F.col("uri").cast("string").alias("uri")]
    for column in LISTED:
        if column.name in OPTIONAL_COLUMNS:
            if column.name == set_columns.NAME:  # which may hold null until made_of
                value = set_columns.value(source.uri, types.get(column.name, NullType()))
            else:
                value = (_value(column, types) if column.name in types else F.lit(None)).cast(column.dataType)
            columns.append(value.alias(column.name))
    given = rows.select(*columns)
    schema = StructType([*given.schema.fields, StructField("fault", StringType())])
    references = map_batches(given, canonical, schema)
    _refuse_faults(references, source)
    return references.select(
        "uri",
        F.col("uri").alias("relative"),
        F.coalesce("source", F.lit(source.uri)).alias("source"),
        "split", "label", "labels", "owner", "shard", "shard_offset", "size_bytes", "etag", "modified_at",
    )  # fmt: skip


def _refuse_faults(references: DataFrame, source: Source) -> None:
    """Raises InputError with the first fault. references: with `fault`."""
    try:
        bad = references.where(F.col("fault").isNotNull()).select("fault").head()
    except Exception as error:  # the embedded engine reads on from the lines that told it the types of the columns
        _, found, told = str(error).partition(MIXED)
        if not found:
            raise
        raise InputError(f"{source.uri}: cannot be read as json ({told.splitlines()[0].strip()[:200]})") from error
    if bad is not None:
        replaced = source.kind == "csv" and REPLACED in bad["fault"]
        raise InputError(f"{source.uri}: {(csv_text.not_utf8(source.uri) if replaced else None) or bad['fault']}")


def _with_our_names(uri: str, rows: DataFrame) -> DataFrame:
    """Columns that are ours but for case and blanks get our names; one that usually holds a path is taken for `uri`."""
    for ours in ("uri", *OPTIONAL_COLUMNS):
        alike = [name for name in rows.columns if name.strip().lower() == ours]
        if len(alike) > 1:
            raise InputError(f"{uri}: the columns {' and '.join(map(repr, alike))} are both {ours!r}")
        if alike and alike != [ours]:
            rows = rows.withColumnRenamed(alike[0], ours)
    paths = [name for name in rows.columns if name.strip().lower() in FOR_URI]
    if "uri" not in rows.columns and len(paths) == 1:
        say(f"{uri}: the column {paths[0]!r} is taken for 'uri'")
        rows = rows.withColumnRenamed(paths[0], "uri")
    return rows


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
    texts = (row[name] or "" for name in ("uri", "source", "split", "label", "owner"))
    if any(REPLACED in (text or "") for text in (*texts, *(row["labels"] or ()))):
        return f"{given!r} holds {REPLACED!r}, which stands for letters that could not be read"
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


def try_stat(uri: str, limits: fetch.Limits) -> listing.Stat | None:
    """What the store says of an object, or None where it says nothing."""
    try:
        return listing.stat(uri, limits)
    except ImageError:
        return None


def read_manifests(spark: SparkSession, inputs: Inputs) -> DataFrame | None:
    """The references of all manifests as LISTED, or None without one. Raises InputError before anything is written."""
    references: DataFrame | None = None
    for source in inputs.manifests:
        rows = read_manifest(spark, source, inputs.label_separator)
        references = rows if references is None else references.unionByName(rows)
    if references is None:
        return None
    refuse_twice(references)
    if references.isEmpty():
        raise InputError(f"{', '.join(source.uri for source in inputs.manifests)}: no reference in it")
    return references


def stage_references(context: Context, references: DataFrame) -> DataFrame:
    """References with what the store says of them, staged so that it is asked once. references: LISTED."""
    config = context.config
    if config.catalog.stat:
        limits = fetch.Limits(config.embed.max_bytes, config.embed.timeout_s, config.embed.retries)
        references = stat_missing(references, config.embed.fetch_threads, limits)
    write_parquet(references, context.lake.staging("manifest"))
    return read_parquet(context.lake.spark, context.lake.staging("manifest"), LISTED)


def refuse_twice(references: DataFrame) -> None:
    twice = references.groupBy("uri").count().where("count > 1").orderBy("uri").head()
    if twice is not None:
        raise InputError(
            f"{json.dumps(twice['uri'], ensure_ascii=False)} is given {twice['count']} times: name each image once"
        )
