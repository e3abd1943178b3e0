"""How many images the inputs hold, and how large they are: from a bounded look, or from an S3 Inventory report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from emr.clients import Clients, asking
from jobs.errors import InputError
from udfs.stores import fetch, inventory, listing, shards, uris

PAGES = 20  # of 1,000 keys each: a few seconds
SAMPLE_BYTES = 64 << 20  # of an inventory's file that is read here, at most


@dataclass(frozen=True)
class Count:
    """images: None where the look did not tell. bytes_per_image: of those that were seen. text: how it came about, for
    a person."""

    images: float | None
    bytes_per_image: float | None
    text: str
    seen: float = 0.0


def count(clients: Clients, inputs: Sequence[str], endings: Sequence[str]) -> Count:
    """Of all inputs together. endings: of image files, lower case.

    Raises InputError for an input with nothing that could be an image, AwsError where S3 does not answer."""
    images, total, weight, whys = 0.0, 0.0, 0.0, []
    known = True
    for uri in inputs:
        told = _inventory(uri, endings) if uri.endswith(".json") else _listing(clients, uri, endings)
        known = known and told.images is not None
        images += told.images or 0.0
        weight += told.images or told.seen
        total += (told.images or told.seen) * (told.bytes_per_image or 0.0)
        whys.append(told.text)
    text = "; ".join(dict.fromkeys(whys))
    return Count(images if known else None, total / weight if weight else None, text)


def _listing(clients: Clients, uri: str, endings: Sequence[str]) -> Count:
    bucket, key = uris.split_s3(uri)
    found, size, others, packed, more = 0, 0, 0, 0, False
    with asking(uri):
        pages = (
            clients.get("s3")
            .get_paginator("list_objects_v2")
            .paginate(Bucket=bucket, Prefix=_prefix(clients, bucket, key))
        )
        for number, page in enumerate(pages, start=1):
            for item in page.get("Contents", ()):
                name = item["Key"]
                if listing.is_marker(name, item["Size"]) or listing.is_hidden(name):
                    continue
                kind = shards.ending(name)
                if kind in endings:
                    found, size = found + 1, size + item["Size"]
                elif kind in ("tar", "parquet", "csv", "json", "jsonl"):
                    packed += 1
                else:
                    others += 1
            if number == PAGES and page.get("IsTruncated"):
                more = True
                break
    if not found and not packed and not more:
        what = f"{others} objects, none of them an image" if others else "nothing below this prefix"
        raise InputError(f"{uri}: {what}: check its spelling")
    mean = size / found if found else None
    if more:
        return Count(None, mean, f"more than {found:,}, by a listing that was cut short", found)
    if packed:
        return Count(None, mean, f"{found:,} by a listing, and those of {packed:,} shards or manifests", found)
    return Count(float(found), mean, f"{found:,} by a listing")


def _prefix(clients: Clients, bucket: str, key: str) -> str:
    """As the catalog reads it: a folder, or one object."""
    if not key or key.endswith("/"):
        return key
    answer = clients.get("s3").list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1)
    first = answer.get("Contents", [{}])[0].get("Key")
    return key if first == key else key + "/"


def _inventory(uri: str, endings: Sequence[str]) -> Count:
    """By the smallest file of the report: images in each of its bytes, times the bytes of all files."""
    from jobs.inputs.inventory import find_report

    report = find_report(uri)
    sizes = [(size, file) for file, size in report.files if size] if report else []
    if report is None or not sizes or len(sizes) < len(report.files):
        return Count(None, None, "not told by this manifest")
    size, file = min(sizes)
    if size > SAMPLE_BYTES:
        return Count(None, None, "an S3 Inventory with files too large to sample")
    work = inventory.list_objects(report.source, report.names, tuple(endings), (), (), fetch.Limits(timeout_s=60.0))
    row = pa.RecordBatch.from_pylist([{"uri": file, "size_bytes": size}])
    found, total = 0, 0.0
    for batch in work(iter([row])):
        for told in batch.to_pylist():
            if told["fault"]:
                raise InputError(str(told["fault"]))
            if told["uri"] is not None:
                found, total = found + 1, total + told["size_bytes"]
    if not found:
        return Count(None, None, "an S3 Inventory without an image in its smallest file")
    images = found * sum(size for size, _ in sizes) / size
    exact = len(sizes) == 1
    text = (
        f"{found:,} by the S3 Inventory"
        if exact
        else f"about {images:,.0f}, by one file of the S3 Inventory's {len(sizes)}"
    )
    return Count(float(images), total / found, text)
