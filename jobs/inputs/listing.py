"""What folders, shards and inventories hold, staged in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.engines.frames import read_parquet
from jobs.inputs import members
from jobs.inputs.inventory import stage_objects
from jobs.inputs.sources import LISTED, Inputs, Left, below, images_of
from jobs.stage import Context
from udfs.stores import objects, shards, uris

LISTED_PER_FILE = 200_000  # rows of one staged file: about 40 MB in the driver


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
    number of files that were neither. tables, left: see Left."""

    images: DataFrame
    shards: DataFrame
    shard_count: int
    skipped: int
    tables: tuple[str, ...]
    left: Left


def stage_listing(context: Context, inputs: Inputs) -> Listing:
    """Lists folders and prefixes into Parquet files under the lake's staging, in bounded memory, and has the reports of
    S3 Inventory read."""
    lake, left = context.lake, Left()
    places = lake.staging("listing"), lake.staging("shards")
    images, packed = _Stager(places[0]), _Stager(places[1])
    for source in inputs.folders:
        for file, is_shard in images_of(source, context.config.catalog, inputs.leave_out, left):
            stager = packed if is_shard else images
            stager.add(shards.File(file.uri, file.relative, source.uri, *file[2:]))
    for shard in inputs.shards:
        packed.add(shard)
    for stager in (images, packed):
        stager.flush()
    listed, files = (read_parquet(lake.spark, place, members.FILES) for place in places)
    skipped, count = left.files, packed.number
    for number, report in enumerate(inputs.reports):
        staged = stage_objects(context, report, f"inventory-{number}", below(inputs.leave_out))
        left.tables |= staged.tables
        listed = listed.unionByName(staged.found.where(~F.col("is_shard")).select(*members.FILES.names))
        files = files.unionByName(staged.found.where("is_shard").select(*members.FILES.names))
        skipped, count = skipped + staged.skipped, count + staged.shards
    nothing = {name: F.lit(None).cast(kind) for name, kind in
               (("split", "string"), ("label", "string"), ("labels", "array<string>"), ("owner", "string"),
                ("shard", "string"), ("shard_offset", "long"))}  # fmt: skip
    return Listing(
        listed.withColumns(nothing).select(*LISTED.names),
        files,
        count,
        skipped,
        tuple(sorted(left.tables)),
        left,
    )


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
