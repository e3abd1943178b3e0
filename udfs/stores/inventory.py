"""The files of an S3 Inventory report, CSV or Parquet: the objects that they list, as rows of Arrow.

Format: https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory-location.html. CSV has no header and its
keys are URL-encoded, those of Parquet are not."""

import contextlib
from collections.abc import Callable, Generator, Iterator
from datetime import UTC, datetime
from typing import Any, BinaryIO
from urllib.parse import unquote_plus

import pyarrow as pa

from udfs.errors import ImageError
from udfs.stores import listing, ranges, shards
from udfs.stores.s3_objects import Limits

ROWS_OUT = 10_000
_BLOCK = 1 << 20  # bytes of a CSV file that are taken apart at once
_READ = ("key", "size", "islatest", "isdeletemarker", "lastmodifieddate", "etag")
# An image or a shard; or, where uri is null, what is to be said of a file of the report: objects that are neither, a
# folder of a Delta table (see jobs.inputs.sources.Left), and why it cannot be read.
OBJECTS = pa.schema(
    [*shards.FILES, ("is_shard", pa.bool_()), ("skipped", pa.int64()), ("table", pa.string()), ("fault", pa.string())]
)


def column(name: str) -> str:
    """The one spelling of a column: `IsLatest` in CSV is `is_latest` in Parquet."""
    return name.strip().lower().replace("_", "")


def list_objects(
    source: str,
    names: tuple[str, ...] | None,
    endings: tuple[str, ...],
    shard_endings: tuple[str, ...],
    outside: tuple[str, ...],
    limits: Limits,
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Maps batches of (uri, size_bytes), each row a file of the report, to OBJECTS, in bounded memory.

    source: `s3://bucket` that the report is of. names: the columns of the CSV files; None: they are Parquet. endings,
    shard_endings: of images and of shards, lower case. outside: beginnings of URIs that are neither."""
    images, packed = frozenset(endings), frozenset(shard_endings)

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for file in batch.to_pylist():
                yield from listed(file["uri"], file["size_bytes"])

    def listed(uri: str, size: int | None) -> Iterator[pa.RecordBatch]:
        skipped, fault, tables = 0, None, set[str]()
        rows: list[dict[str, Any]] = []
        try:
            for key, size_bytes, modified_at, etag in _objects(uri, size, names, limits):
                kind = shards.ending(key)
                uri_of = f"{source}/{key}"
                if listing.is_marker(key, size_bytes) or listing.is_hidden(key) or uri_of.startswith(outside):
                    continue
                if "/_delta_log/" in uri_of:
                    tables.add(uri_of.partition("/_delta_log/")[0] + "/")
                if kind not in images and kind not in packed:
                    skipped += 1
                    continue
                rows.append(
                    {"uri": uri_of, "relative": key, "source": source, "size_bytes": size_bytes, "etag": etag,
                     "modified_at": modified_at, "is_shard": kind in packed}
                )  # fmt: skip
                if len(rows) == ROWS_OUT:
                    yield pa.RecordBatch.from_pylist(rows, schema=OBJECTS)
                    rows.clear()
        except ImageError as error:
            fault = f"{uri}: {error}"
        except (pa.ArrowException, OSError, ValueError) as error:
            fault = f"{uri}: not a file of an S3 Inventory report ({' '.join(str(error).split())[:300]})"
        rows += [{"skipped": 0, "table": table} for table in sorted(tables)]
        rows.append({"skipped": skipped, "fault": fault})
        yield pa.RecordBatch.from_pylist(rows, schema=OBJECTS)

    return run


def _objects(
    uri: str, size: int | None, names: tuple[str, ...] | None, limits: Limits
) -> Iterator[tuple[str, int, datetime | None, str | None]]:
    """(key, size, modified_at, etag) of the current version of each object; deleted ones are left out."""
    with ranges.open_file(uri, size, limits) as (file, _):
        batches = _parquet(file) if names is None else _csv(file, names)
        with contextlib.closing(batches):
            for batch in batches:
                columns = {column(name): batch.column(index) for index, name in enumerate(batch.schema.names)}
                nothing = pa.nulls(batch.num_rows)
                if "key" not in columns or "size" not in columns:
                    raise ValueError("no column for the key or the size")
                for key, length, latest, deleted, modified_at, etag in zip(
                    *(columns.get(name, nothing).to_pylist() for name in _READ), strict=True
                ):
                    if key is None or _said(latest) is False or _said(deleted) or length in (None, ""):
                        continue
                    plain = key if names is None else unquote_plus(key)
                    yield plain, int(length), _time(modified_at), (etag or "").strip('"') or None


def _csv(file: BinaryIO, names: tuple[str, ...]) -> Generator[pa.RecordBatch, None, None]:
    from pyarrow import csv

    spelt = [column(name) for name in names]
    stream: Any = pa.PythonFile(file, "r")
    start = file.read(2)
    file.seek(0)
    if start == b"\x1f\x8b":
        stream = pa.CompressedInputStream(stream, "gzip")
    elif not start:
        return
    wanted = [name for name in _READ if name in spelt]
    yield from csv.open_csv(
        stream,
        csv.ReadOptions(use_threads=False, block_size=_BLOCK, column_names=spelt),
        convert_options=csv.ConvertOptions(
            column_types=dict.fromkeys(wanted, pa.string()), include_columns=wanted, strings_can_be_null=False
        ),
    )


def _parquet(file: BinaryIO) -> Generator[pa.RecordBatch, None, None]:
    import pyarrow.parquet as pq

    parquet = pq.ParquetFile(file, pre_buffer=False, buffer_size=_BLOCK)
    names = [name for name in parquet.schema_arrow.names if column(name) in _READ]
    yield from parquet.iter_batches(ROWS_OUT, columns=names, use_threads=False)


def _said(value: object) -> bool | None:
    """A truth value of Parquet or of CSV; None where nothing is said."""
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.strip().lower())
    return None if value is None else bool(value)


def _time(value: object) -> datetime | None:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
