"""Parquet files of the embedded engine: read and written by Sail, and what Sail would read otherwise than it says."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from functools import reduce
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import ArrayType, StringType, StructType, TimestampType

from jobs.engines import delta_log, sorted_files
from jobs.engines.sail_types import arrow_schema, ddl, told
from udfs.stores import fetch, listing, objects, ranges, uris

ORDERED_ROWS = 8192  # in a batch of the files that are merged
_PATTERN = re.compile(r"[\[\]{}*?\\]")  # Sail takes these for a pattern, whatever is said to it


class Files:
    """Reads and writes in one session. folder: of the server, for files of this run."""

    def __init__(self, spark: SparkSession, folder: Path) -> None:
        self.spark = spark
        self._folder = folder
        self._kinds: dict[str, str] = {}  # by file; see _alike

    def through_file(self, table: pa.Table, schema: StructType | str) -> DataFrame:
        """Not by createDataFrame: see ddl."""
        file = self._folder / f"rows-{secrets.token_hex(8)}.parquet"
        pq.write_table(table, file)
        if isinstance(schema, str):
            return self.spark.read.schema(schema).parquet(str(file))
        return told(self.spark.read.schema(ddl(schema)).parquet(str(file)), schema)

    def read(self, files: Sequence[str], schema: StructType) -> DataFrame:
        if not files:
            return self.through_file(arrow_schema(schema).empty_table(), schema)
        reader = self.spark.read.schema(ddl(schema))
        parts = [told(reader.parquet(*map(self._spelled, alike)), schema) for alike in self._alike(files, schema)]
        return reduce(DataFrame.unionByName, parts)

    def _alike(self, files: Sequence[str], schema: StructType) -> list[list[str]]:
        """The files, those apart that Sail takes for others than the rest and refuses beside them: with times as INT96,
        which it reads without a zone (Spark wrote them, as long as nobody told it otherwise), and with lists of another
        type of text (it writes them as views, Arrow does not)."""
        times = any(isinstance(column.dataType, TimestampType) for column in schema)
        kinds = ((column.name, column.dataType) for column in schema)
        lists = [
            name for name, kind in kinds if isinstance(kind, ArrayType) and isinstance(kind.elementType, StringType)
        ]
        if len(files) < 2 or not (times or lists):
            return [list(files)]
        alike: dict[str, list[str]] = {}
        for file in files:
            if file not in self._kinds:
                with ranges.open_file(file, None, fetch.Limits()) as (stream, _):
                    known = pq.ParquetFile(stream)
                    footer, types = known.metadata.schema, known.schema_arrow
                    old = any(footer.column(n).physical_type == "INT96" for n in range(len(footer)))
                    self._kinds[file] = f"{old} {[str(types.field(name).type) for name in lists]}"
            alike.setdefault(self._kinds[file], []).append(file)
        return list(alike.values())

    def replace(self, frame: DataFrame, folder: str) -> None:
        """As write, in place of what lies there."""
        objects.delete_below(folder)
        self.write(frame, folder)

    def write(self, frame: DataFrame, folder: str) -> None:
        if not uris.is_s3(folder):
            # Sail makes none for no rows, and what is not there is to be told from what is empty.
            os.makedirs(uris.local_path(folder), exist_ok=True)  # noqa: PTH103 (bytes)
        frame.write.mode("append").parquet(self._spelled(folder))

    def write_in_order(self, frame: DataFrame, key: str, folder: str) -> None:
        # Sail deals the batches of a sorted frame to four files in turn.
        parts = self._folder / f"sorted-{secrets.token_hex(8)}"
        self.replace(frame.orderBy(key), str(parts))
        objects.delete_below(folder)
        sources = (pq.ParquetFile(file).iter_batches(ORDERED_ROWS) for file in sorted(parts.glob("*.parquet")))
        with objects.replacing(uris.join(folder, "part-000000.parquet")) as file:
            writer: pq.ParquetWriter | None = None
            for table in sorted_files.merged(sources, key):
                writer = writer or pq.ParquetWriter(file, table.schema, compression="zstd")
                writer.write_table(table)
            if writer is None:  # no row
                writer = pq.ParquetWriter(file, to_arrow_schema(frame.schema), compression="zstd")
            writer.close()
        shutil.rmtree(parts)

    def read_source(self, uri: str, kind: str) -> DataFrame:
        if kind == "delta":
            return self._foreign_delta(uri)
        reader, path = self.spark.read, self._spelled(uri)
        if not objects.exists(uri) and not objects.has_any(uri):
            raise FileNotFoundError(uri)
        if kind == "csv":
            frame = reader.option("header", True).option("multiLine", True).option("escape", '"').csv(path)
        else:
            frame = reader.format(kind).load(path)
        _ = frame.schema  # what cannot be read is said now
        return frame

    def _foreign_delta(self, uri: str) -> DataFrame:
        """A user's Delta table as Parquet of this run: only delta-rs knows its partitions and deletion vectors."""
        from deltalake import DeltaTable

        source = DeltaTable(delta_log.spelled(uri), storage_options=delta_log.storage_options(uri))
        reader = source.to_pyarrow_dataset().scanner(batch_size=8192).to_reader()
        file = self._folder / f"table-{secrets.token_hex(4)}.parquet"
        with pq.ParquetWriter(file, reader.schema, compression="zstd") as writer:
            for batch in reader:
                writer.write_batch(batch)
        return self.spark.read.parquet(str(file))

    def _spelled(self, uri: str) -> str:
        """A canonical URI as Sail reads it: by a link of a plain name where it would take the name for a pattern."""
        if uris.is_s3(uri) or not _PATTERN.search(uri):
            return uri
        parts = uri.split("/")
        last = max(number for number, part in enumerate(parts) if _PATTERN.search(part))
        odd, rest = "/".join(parts[: last + 1]), parts[last + 1 :]
        suffix = "".join(Path(_PATTERN.sub("_", odd)).suffixes)
        link = self._folder / f"link-{hashlib.sha256(odd.encode()).hexdigest()[:16]}{suffix}"
        if not link.is_symlink():
            link.symlink_to(odd)
        return "/".join([str(link), *rest])


def written(folder: str, part: str) -> Iterator[delta_log.File]:
    """The Parquet files of a folder that was written, by their footers. part: its place in its table."""
    for file in parquet_files(folder):
        with ranges.open_file(file.uri, file.size_bytes, fetch.Limits()) as (stream, _):
            rows = pq.read_metadata(stream).num_rows
        modified = int(file.modified_at.timestamp() * 1000) if file.modified_at else 0
        yield delta_log.File(f"{part}/{file.relative}", file.size_bytes, modified, rows)


def parquet_files(folder: str) -> Iterator[listing.Listed]:
    """Raises StoreError where a local folder is not there. On S3 there is none without a file."""
    if uris.is_s3(folder) and not objects.has_any(folder):
        return
    for batch in listing.list_files(folder):
        yield from (file for file in batch if file.uri.endswith(".parquet"))
