"""Manifests of S3 Batch Operations for the images that a clean set leaves out, and what moving them would save.

The format is S3BatchOperations_CSV_20180820 with the fields Bucket and Key: no header, keys percent-encoded, and all
objects of one bucket. Without a version the newest one of an object is meant. See "Specifying a manifest" in
https://docs.aws.amazon.com/AmazonS3/latest/userguide/batch-ops-create-job.html. A job takes one such file and, say,
tags its objects or copies them into another storage class in place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TextIO
from urllib.parse import quote

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.cleaning.files import staged
from jobs.cleaning.prices import Prices
from jobs.errors import ConfigError
from udfs.stores import objects, uris

GB = 1e9
KEYS = pa.schema([("uri", pa.string()), ("shard", pa.string())])
MOST_BUCKETS = 10_000  # what AWS lets an account have unasked


@dataclass(frozen=True)
class Bucket:
    """Whole objects of a bucket. bytes: of those of known size. billed: the same by storage class, each object counted
    with its min_bytes at least. unknown: objects of unknown size."""

    name: str
    objects: int
    bytes: int
    billed: dict[str, int]
    unknown: int


@dataclass(frozen=True)
class Move:
    """What moving objects into a storage class saves in a month and costs once, in US dollars."""

    usd_saved_per_month: float
    usd_once: float


def is_object() -> Column:
    """Whether an image is an object of its own in S3; a member of a shard cannot be moved without the others."""
    return F.col("uri").startswith("s3://") & F.col("shard").isNull()


def buckets(removed: DataFrame, prices: Prices) -> list[Bucket]:
    """What the removed images are in S3, by bucket. removed: uri, shard, size_bytes. Raises ConfigError."""
    known = F.col("size_bytes").isNotNull()
    sizes = [
        F.sum(F.when(known, F.greatest("size_bytes", F.lit(int(kind.min_bytes))))).alias(name)
        for name, kind in prices.s3_move.classes.items()
    ]
    rows = (
        removed.where(is_object())
        .groupBy(F.split_part("uri", F.lit("/"), F.lit(3)).alias("bucket"))
        .agg(F.count("*").alias("n"), F.sum("size_bytes").alias("bytes"), F.count("size_bytes").alias("known"), *sizes)
        .orderBy("bucket")
        .limit(MOST_BUCKETS + 1)
        .collect()
    )
    if len(rows) > MOST_BUCKETS:
        raise ConfigError(f"--batch-manifest: the images lie in more than {MOST_BUCKETS} buckets")
    return [
        Bucket(row["bucket"], row["n"], row["bytes"] or 0, {name: row[name] or 0 for name in prices.s3_move.classes},
               row["n"] - row["known"])
        for row in rows
    ]  # fmt: skip


def places(uri: str, found: list[Bucket]) -> dict[str, str]:
    """Bucket -> the manifest of its objects: uri itself, or, where there are several, its name with the bucket's."""
    if len(found) == 1:
        return {found[0].name: uri}
    stem, dot, ending = uri.rpartition(".")
    if not dot or "/" in ending:
        stem, ending = uri, "csv"
    return {bucket.name: f"{stem}.{bucket.name}.{ending}" for bucket in found}


def line(uri: str) -> str:
    """The line of an object. uri: canonical. AWS decodes keys as forms are, so a plus sign must not stand as it is."""
    bucket, key = uris.split_s3(uri)
    return f"{bucket},{quote(key, safe='/')}\n"


def write(folder: str, targets: Mapping[str, str]) -> None:
    """Writes the manifests. folder: staged rows with KEYS, sorted by uri. targets: see places. Raises StoreError."""
    for bucket, target in targets.items():
        with objects.replacing(target) as path, path.open("w", encoding="ascii", newline="\n") as file:
            _copy(folder, bucket, file)


def _copy(folder: str, bucket: str, file: TextIO) -> None:
    prefix = f"s3://{bucket}/"
    for table in staged(folder, KEYS):
        names = zip(table["uri"].to_pylist(), table["shard"].to_pylist(), strict=True)
        file.writelines(line(uri) for uri, shard in names if shard is None and uri.startswith(prefix))


def move(found: list[Bucket], name: str, prices: Prices) -> Move:
    """What it saves and costs to move all objects from S3 Standard into the class of this name, a job a bucket."""
    kind, count = prices.s3_move.classes[name], sum(bucket.objects for bucket in found)
    before = sum(bucket.bytes for bucket in found) / GB * prices.s3.storage_usd_per_gb_month
    known = count - sum(bucket.unknown for bucket in found)
    billed = sum(bucket.billed[name] for bucket in found) + known * kind.extra_bytes
    after = billed / GB * kind.usd_per_gb_month
    after += known * kind.extra_standard_bytes / GB * prices.s3.storage_usd_per_gb_month
    return Move(before - after, _jobs(found, prices) + count / 1000 * kind.copy_usd_per_1000)


def tagging(found: list[Bucket], prices: Prices) -> Move:
    """What it costs to put one tag on each object."""
    count = sum(bucket.objects for bucket in found)
    return Move(-count / 10_000 * prices.s3_move.tags_usd_per_10000_month,
                _jobs(found, prices) + count / 1000 * prices.s3_move.tag_usd_per_1000)  # fmt: skip


def _jobs(found: list[Bucket], prices: Prices) -> float:
    count = sum(bucket.objects for bucket in found)
    return len(found) * prices.s3_move.batch_usd_per_job + count / 1e6 * prices.s3_move.batch_usd_per_million


def told(found: list[Bucket], in_shards: int, prices: Prices) -> list[str]:
    """Lines for a person. in_shards: removed images that lie in shards in S3."""
    lines = []
    if in_shards:
        lines.append(
            f"{in_shards:,} removed images lie in shards: they cannot be moved alone, and are not in the manifest"
        )
    if not found:
        return [*lines, "no removed image is an object of its own in S3: no batch manifest"]
    count, size = sum(bucket.objects for bucket in found), sum(bucket.bytes for bucket in found)
    unknown = sum(bucket.unknown for bucket in found)
    lines.append(
        f"{count:,} objects, {size / GB:,.3f} GB in S3" + (f", {unknown:,} of unknown size" if unknown else "")
    )
    tags = tagging(found, prices)
    lines.append(f"  tagging them costs ${tags.usd_once:,.2f} once and ${-tags.usd_saved_per_month:,.2f} a month")
    for name, kind in prices.s3_move.classes.items():
        saves = move(found, name, prices)
        days = f"kept for {kind.min_days:.0f} days at least"
        if saves.usd_saved_per_month <= 0:
            lines.append(f"  moving them to {name} saves nothing: they are too small")
            continue
        months = saves.usd_once / saves.usd_saved_per_month
        lines.append(
            f"  moving them to {name} saves ${saves.usd_saved_per_month:,.2f} a month and costs ${saves.usd_once:,.2f} "
            f"once, paid back in {months:,.1f} months ({days})"
        )
    lines.append(f"  from S3 Standard, at the prices of conf/prices.yaml ({prices.region}, {prices.as_of}): check them")
    return lines
