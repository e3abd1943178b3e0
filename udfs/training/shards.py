"""One shard of a training set: its images in their order, whole or not at all; and the places of images in shards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from udfs.children.messages import Batches
from udfs.errors import TRANSIENT, ImageError
from udfs.stores import fetch, objects, uris
from udfs.stores.s3 import StoreError
from udfs.training.containers import CONTAINERS, Sample

CHANGED = "changed"  # the bytes are not those that the lake has seen
FETCH_THREADS = 16
PLACE_BITS = 60
# What `clean` lists of an image that goes into a shard.
LISTED = pa.schema(
    [
        ("uri", pa.string()), ("shard", pa.string()), ("shard_offset", pa.int64()), ("size_bytes", pa.int64()),
        ("split", pa.string()), ("label", pa.string()), ("labels", pa.list_(pa.string())), ("image_id", pa.int64()),
        ("sha256", pa.string()), ("format", pa.string()),
    ]
)  # fmt: skip
PLACED = LISTED.append(pa.field("part", pa.int64())).append(pa.field("place", pa.int64()))
WRITTEN = pa.schema(
    [
        ("part", pa.int64()), ("name", pa.string()), ("split", pa.string()), ("images", pa.int64()),
        ("bytes", pa.int64()), ("sha256", pa.string()), ("left_out", pa.int64()), ("fault", pa.string()),
    ]
)  # fmt: skip


@dataclass(frozen=True)
class Split:
    """A split of a training set. folder: its name as a file's. first: the number of its first part. parts: shards."""

    split: str | None
    folder: str
    first: int
    parts: int


@dataclass(frozen=True)
class ShardTask:
    """What writes shards. to: the canonical URI of the set. write: of CONTAINERS. classes: the labels, in the order of
    their numbers. limits: of what is read."""

    to: str
    write: str
    splits: tuple[Split, ...]
    classes: tuple[str, ...]
    limits: fetch.Limits


def drawn(seed: int, what: str, key: str) -> int:
    """A number of PLACE_BITS bits that looks random and is always the same."""
    digest = hashlib.sha256(f"{seed}\0{what}\0{key}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") >> (64 - PLACE_BITS)


def places(seed: int, splits: Sequence[Split]) -> Callable[[Batches], Batches]:
    """Maps batches of LISTED to PLACED: the shard of each image, drawn, and its place in it, drawn too. So an image's
    place depends on its uri, the seed and the number of shards alone, and a shard has as many images as the others but
    for the chance of a draw."""
    of = {split.split: split for split in splits}

    def run(batches: Batches) -> Batches:
        for batch in batches:
            found = [drawn(seed, "place", uri) for uri in batch.column("uri").to_pylist()]
            here = [of[split] for split in batch.column("split").to_pylist()]
            parts = [one.first + (place * one.parts >> PLACE_BITS) for one, place in zip(here, found, strict=True)]
            columns = [batch.column(name).cast(LISTED.field(name).type) for name in LISTED.names]
            numbers = [pa.array(parts, pa.int64()), pa.array(found, pa.int64())]
            yield pa.RecordBatch.from_arrays([*columns, *numbers], schema=PLACED)

    return run


def shard_writer(task: ShardTask) -> Callable[[pa.Table], pa.Table]:
    """Maps PLACED of one part to its row of WRITTEN. A shard that is there is not written again. An image that is not
    there any more, or not as the lake has seen it, is left out, counted and named; where one cannot be read now and may
    be later, or the shard cannot be written, there is none, and `fault` says why."""
    numbers = {label: number for number, label in enumerate(task.classes)}

    def run(rows: pa.Table) -> pa.Table:
        rows = rows.sort_by([("place", "ascending"), ("uri", "ascending")])
        part = rows["part"][0].as_py()
        split = next(one for one in reversed(task.splits) if one.first <= part)
        ending = CONTAINERS[task.write][0]
        name = f"{split.folder}/{split.folder}-{part - split.first:06d}.{ending}"
        row = {"part": part, "name": name, "split": split.split}
        try:
            told = _known(task, name) or _written(task, name, rows, numbers)
            row |= {**{key: told[key] for key in _TOLD}, "left_out": len(told["left_out"])}
        except StoreError as error:
            row["fault"] = str(error)
        return pa.Table.from_pylist([row], schema=WRITTEN)

    return run


_TOLD = ("images", "bytes", "sha256")


def record_of(to: str, name: str) -> str:
    """Where what is known of a written shard stands, until the set is whole."""
    return uris.join(to, "_parts", f"{name.replace('/', '!')}.json")


def _known(task: ShardTask, name: str) -> dict[str, Any] | None:
    """Of a shard that was written before: its record is written after it."""
    try:
        told: dict[str, Any] = json.loads(objects.read_small(record_of(task.to, name)))
    except FileNotFoundError:
        return None
    return told


def _written(task: ShardTask, name: str, rows: pa.Table, numbers: Mapping[str, int]) -> dict[str, Any]:
    left_out: list[dict[str, str]] = []
    images = 0
    with objects.replacing(uris.join(task.to, *name.split("/"))) as path:
        container = CONTAINERS[task.write][1](path)
        for sample in _samples(task, rows, numbers, left_out):
            container.add(sample)
            images += 1
        container.close()
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = path.stat().st_size
    told = {"images": images, "bytes": size, "sha256": digest, "left_out": left_out}
    objects.put(record_of(task.to, name), json.dumps(told).encode())
    return told


def _samples(
    task: ShardTask, rows: pa.Table, numbers: Mapping[str, int], left_out: list[dict[str, str]]
) -> Iterator[Sample]:
    listed = rows.to_pylist()
    references = [fetch.Reference(row["uri"], row["shard"], row["shard_offset"], row["size_bytes"]) for row in listed]
    for row, data in zip(listed, fetch.fetch_all(references, task.limits, FETCH_THREADS), strict=True):
        if isinstance(data, ImageError):
            if data.code in TRANSIENT:
                raise StoreError(f"{row['uri']}: {data}")
            left_out.append({"uri": row["uri"], "why": data.code})
        elif hashlib.sha256(data).hexdigest() != row["sha256"]:
            left_out.append({"uri": row["uri"], "why": CHANGED})
        else:
            label = row["label"]
            number = None if label is None else numbers[label]
            yield Sample(
                row["image_id"], row["uri"], data, row["format"], row["sha256"], label, number, row["labels"],
                row["split"],
            )  # fmt: skip
