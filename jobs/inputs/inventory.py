"""An S3 Inventory report as an input: what its manifest.json says, and the objects that it lists, staged."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema
from pyspark.sql.types import LongType, StringType, StructField, StructType

from jobs.engines.frames import frame_of, map_batches, read_parquet, write_parquet
from jobs.errors import InputError
from jobs.stage import Context
from udfs.errors import ImageError
from udfs.stores import fetch, inventory, objects, ranges
from udfs.stores.s3 import StoreError

MAX_MANIFEST = 64 << 20  # bytes of a manifest.json: about 300,000 files
MAX_TASKS = 4096
OBJECTS = from_arrow_schema(inventory.OBJECTS)
_FILE = StructType([StructField("uri", StringType(), False), StructField("size_bytes", LongType())])


@dataclass(frozen=True)
class Report:
    """source: `s3://bucket` that was listed. names: columns of CSV files, None for Parquet. files: URIs and sizes."""

    uri: str
    source: str
    names: tuple[str, ...] | None
    files: tuple[tuple[str, int | None], ...]


@dataclass(frozen=True)
class Objects:
    """What a report lists. found: images and `shards` shards, as OBJECTS. skipped: number of others. tables: folders of
    Delta tables, `/` at the end."""

    found: DataFrame
    shards: int
    skipped: int
    tables: set[str]


def find_report(uri: str) -> Report | None:
    """What a .json file says where it is the manifest of an S3 Inventory report, else None. Needs no Spark.

    Raises InputError for one that cannot be used."""
    try:
        with ranges.open_file(uri, None, fetch.Limits(timeout_s=30.0)) as (file, _):
            if b'"sourceBucket"' not in file.read(4096):
                return None
        told = json.loads(objects.read_small(uri, MAX_MANIFEST))
    except (ImageError, StoreError, OSError) as error:
        raise InputError(f"{uri}: {error}") from error
    except (ValueError, RecursionError):
        return None  # JSON lines, or what Spark will say of it
    if not isinstance(told, dict) or not told.keys() & {"files", "fileSchema", "fileFormat", "destinationBucket"}:
        return None
    try:
        return _report(uri, told)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{uri}: not the manifest of an S3 Inventory report ({error!r})") from error


def _report(uri: str, told: dict[str, Any]) -> Report:
    kind = str(told["fileFormat"]).upper()
    if kind not in ("CSV", "PARQUET"):
        raise InputError(f"{uri}: an S3 Inventory report in {kind}: set it up to be written as CSV or Parquet")
    schema = str(told["fileSchema"])
    if kind == "CSV":
        names = [name.strip() for name in schema.split(",")]
    else:
        names = re.findall(r"(?:required|optional)\s+\w+\s+(\w+)", schema)
    missing = [name for name in ("Key", "Size") if name.lower() not in map(inventory.column, names)]
    if missing:
        raise InputError(f"{uri}: an S3 Inventory report without {' and '.join(missing)} (columns: {', '.join(names)})")
    bucket = str(told["destinationBucket"]).removeprefix("arn:").rpartition(":")[2]
    files = tuple((f"s3://{bucket}/{file['key']}", file.get("size")) for file in told["files"])
    if not files:
        raise InputError(f"{uri}: an S3 Inventory report that lists no file")
    if not all(isinstance(size, int | None) for _, size in files):
        raise TypeError("size")
    try:
        objects.check_access(files[0][0])
    except StoreError as error:
        raise InputError(str(error)) from error
    return Report(uri, f"s3://{told['sourceBucket']}", tuple(names) if kind == "CSV" else None, files)


def stage_objects(context: Context, report: Report, name: str, outside: tuple[str, ...]) -> Objects:
    """Reads a report on the executors. name: of the place where it is staged. outside: beginnings of URIs left out.

    Raises InputError where a file of the report cannot be read."""
    lake, config = context.lake, context.config
    files = frame_of(lake.spark, report.files, _FILE)
    files = files.repartition(lake.engine.tasks(min(len(report.files), MAX_TASKS)))
    limits = fetch.Limits(config.embed.max_bytes, config.embed.timeout_s, config.embed.retries)
    work = inventory.list_objects(
        report.source, report.names, tuple(ending.lower() for ending in config.catalog.extensions),
        config.catalog.shards, outside, limits,
    )  # fmt: skip
    write_parquet(map_batches(files, work, OBJECTS), lake.staging(name))
    staged = read_parquet(lake.spark, lake.staging(name), OBJECTS)
    told = staged.agg(
        F.sum("skipped"), F.collect_set("table"), F.min("fault"), F.count_if(F.coalesce("is_shard", F.lit(False)))
    ).head()
    skipped, tables, fault, shards = told or (0, [], None, 0)
    if fault is not None:
        raise InputError(fault)
    return Objects(staged.where(F.col("uri").isNotNull()), shards, int(skipped or 0), set(tables))
