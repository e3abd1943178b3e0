"""What each INPUT is: a folder, a shard, an inventory, or a manifest."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa
from pyspark.sql.types import (
    ArrayType,
    LongType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

from jobs.config import Catalog, Config, load
from jobs.errors import InputError
from jobs.inputs.inventory import Report, find_report
from jobs.inputs.layout import layout_pattern, owner_pattern
from udfs.errors import ImageError
from udfs.stores import fetch, listing, objects, parquet_rows, ranges, shards, uris
from udfs.stores.s3 import StoreError

MANIFEST_ENDINGS = {
    ".csv": "csv", ".csv.gz": "csv", ".parquet": "parquet", ".jsonl": "json", ".ndjson": "json", ".json": "json",
    ".jsonl.gz": "json",
}  # fmt: skip

ARCHIVES = ("zip", "gz", "tgz", "bz2", "xz", "zst", "7z", "rar")  # that may hold images, and are not read
REPORTED = re.compile(r"/thumbs/\d+-[0-9a-f]{12}\.(?:jpg|webp)$")  # of a report, whose pictures are nobody's images
LISTED = StructType(
    [
        StructField("uri", StringType(), False),
        StructField("relative", StringType(), False),
        StructField("source", StringType(), False),
        StructField("split", StringType()),
        StructField("label", StringType()),
        StructField("labels", ArrayType(StringType())),
        StructField("owner", StringType()),
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
    if not _is_folder(uri) and objects.exists(uri):
        what = (
            "a single picture: name its folder" if is_picture(uri) else "no kind of input that is read: name a folder"
        )
        raise InputError(
            f"{uri}: is {what}, an s3:// prefix, a .tar or .parquet file of images, or a manifest "
            f"({', '.join(MANIFEST_ENDINGS)})"
        )
    return Source(uri, "folder")


def is_picture(uri: str) -> bool:
    return shards.ending(uri) in load().catalog.extensions


def _kind_of_parquet(uri: str) -> str:
    """Whether a Parquet file, or a folder of them, holds images or the references of a manifest."""
    import pyarrow.parquet as pq

    is_folder = _is_folder(uri)
    try:
        names = (file.uri for batch in listing.list_files(uri) for file in batch) if is_folder else iter([uri])
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


@dataclass(frozen=True)
class Inputs:
    """Inputs that were looked at. leave_out: see check_inputs. label_separator: of the settings."""

    given: list[str]
    layout: str | None
    folders: list[Source]
    manifests: list[Source]
    leave_out: tuple[str, ...]
    shards: tuple[shards.File, ...] = ()
    reports: tuple[Report, ...] = ()
    owner: str | None = None
    label_separator: str | None = None


def check_inputs(
    config: Config, given: list[str], layout: str | None, leave_out: tuple[str, ...], owner: str | None = None
) -> Inputs:
    """Looks at the inputs before anything is started or written; needs no Spark.

    leave_out: URIs whose contents are never images (the lake, the report). Raises InputError, ConfigError."""
    if layout:
        layout_pattern(layout)
    if owner:
        owner_pattern(owner)
    sources = [find_source(one) for one in given]
    by_kind: dict[str, list[Source]] = {"folder": [], "shard": [], "inventory": [], "manifest": []}
    for source in sources:
        by_kind[source.kind if source.kind in by_kind else "manifest"].append(source)
    folders = by_kind["folder"]
    _refuse_overlap([source.uri for source in folders + by_kind["shard"]])
    for folder in folders:
        if next(images_of(folder, config.catalog, leave_out, Left()), None) is None:
            endings = config.catalog.extensions + config.catalog.shards
            raise InputError(f"{folder.uri} holds no image (endings: {', '.join(endings)})")
    return Inputs(
        given, layout, folders, by_kind["manifest"], leave_out,
        tuple(_single_shard(source.uri) for source in by_kind["shard"]),
        tuple(report for source in by_kind["inventory"] if (report := find_report(source.uri)) is not None),
        owner, config.catalog.label_separator,
    )  # fmt: skip


def _single_shard(uri: str) -> shards.File:
    try:
        return shards.File(uri, "", uri, *listing.stat(uri))
    except ImageError as error:
        raise InputError(f"{uri}: {error}") from error


@dataclass
class Left:
    """What a listing left out. files: number of those that are no image; archives: of them; archive: one of these.
    tables: folders of Delta tables, `/` at the end: their Parquet files are no inputs, for some of them are of versions
    long gone. unlisted: what could not be looked at."""

    files: int = 0
    archives: int = 0
    archive: str = ""
    tables: set[str] = field(default_factory=set)
    unlisted: listing.Unlisted = field(default_factory=listing.Unlisted)


def images_of(
    folder: Source, settings: Catalog, leave_out: tuple[str, ...], left: Left
) -> Iterator[tuple[listing.Listed, bool]]:
    """(file, whether it is a shard) of the files of a folder that are images or shards by their name."""
    endings = {extension.lower() for extension in settings.extensions}
    outside = below(leave_out)
    for batch in listing.list_files(folder.uri, unlisted=left.unlisted):
        for file in batch:
            if file.uri.startswith(outside) or REPORTED.search(file.uri):
                continue
            if "_delta_log/" in file.relative and (above := file.uri.partition("/_delta_log/"))[1]:
                left.tables.add(above[0] + "/")
            kind = shards.ending(file.relative)
            if kind in endings or kind in settings.shards:
                yield file, kind not in endings
            else:
                left.files += 1
                if kind in ARCHIVES:
                    left.archives += 1
                    left.archive = left.archive or file.uri


def below(leave_out: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(uri.rstrip("/") + "/" for uri in leave_out)


def _refuse_overlap(folders: list[str]) -> None:
    """Raises InputError where one folder is another or lies inside it: its images would be there twice."""
    for number, folder in enumerate(folders):
        for other in folders[:number] + folders[number + 1 :]:
            if (folder.rstrip("/") + "/").startswith(other.rstrip("/") + "/"):
                raise InputError(f"{folder} is given twice, the second time by {other}: name each image once")
