"""Shards: files that hold many images, tar archives and Parquet files; what they hold, as rows of Arrow."""

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, NamedTuple

import pyarrow as pa

from udfs.errors import CORRUPT, TRANSIENT, TRUNCATED, ImageError
from udfs.stores import parquet_rows, ranges, tar, uris
from udfs.stores.s3_objects import Limits
from udfs.stores.tar import Member

KINDS = ("tar", "parquet")  # endings
ROWS_OUT = 10_000  # of one batch: a few MB
_EXPLAINED = 100_000  # members looked at to say what is wrong with a shard

FILES = pa.schema(
    [("uri", pa.string()), ("relative", pa.string()), ("source", pa.string()), ("size_bytes", pa.int64()),
     ("etag", pa.string()), ("modified_at", pa.timestamp("us", tz="UTC"))]
)  # fmt: skip


class File(NamedTuple):
    """A row of FILES: an image or a shard as a listing gives it. relative: its raw path below source."""

    uri: str
    relative: str
    source: str
    size_bytes: int | None
    etag: str | None
    modified_at: datetime | None


# An image in one; or, where uri is null, what is to be said of a shard: files in it that are no images, whether a name
# may stand in it twice, why the store did not let it be read; or a label and the name of the images that it is of.
MEMBERS = pa.schema(
    [*FILES, ("split", pa.string()), ("label", pa.string()), ("labels", pa.list_(pa.string())), ("owner", pa.string()),
     ("shard", pa.string()), ("shard_offset", pa.int64()), ("skipped", pa.int64()), ("repeats", pa.bool_()),
     ("fault", pa.string()), ("label_of", pa.string())]
)  # fmt: skip
_OF_STORE = ("not_found", *TRANSIENT)


def ending(name: str) -> str:
    """What stands behind the last dot of a name's last part, in lower case; nothing without a dot."""
    base = name.rpartition("/")[2]
    return base.rpartition(".")[2].lower() if "." in base else ""


def is_parquet(uri: str) -> bool:
    return ending(uri) == "parquet"


def is_shard(uri: str) -> bool:
    return ending(uri) in KINDS


def list_members(
    uri: str, size: int | None, limits: Limits, is_image: Callable[[str], bool], skip: Callable[[], None]
) -> Iterator[Member]:
    """The images of a shard, as udfs.stores.tar.list_tar and udfs.stores.parquet_rows.list_rows. size: bytes, where it
    is known.

    Raises ImageError also where the store does not let it be read."""
    with ranges.open_file(uri, size, limits) as (file, found):
        if not is_parquet(uri):
            yield from tar.list_tar(file, found, is_image, skip)
            return
        empty = True
        for member in parquet_rows.list_rows(file):
            empty = False
            yield member
        if empty:
            skip()


def why(uri: str, limits: Limits) -> ImageError:
    """What is wrong with a shard that could not be listed, or not to its end: then it stands for itself as an image."""
    members = list_members(uri, None, limits, lambda _: True, lambda: None)
    try:
        for number, _ in enumerate(members):
            if number == _EXPLAINED:
                break
    except ImageError as error:
        return error
    return ImageError(CORRUPT, "a shard that could not be listed to its end, not an image")


def member_uri(shard: str, name: str) -> str:
    """The URI of a member, for people and as a key: nothing is read by it."""
    return uris.join(shard + "!", name)


def expand(
    endings: tuple[str, ...], limits: Limits, outside: tuple[str, ...] = ()
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Maps batches of FILES, each row a shard, to MEMBERS, in bounded memory: after the members of a shard one row that
    tells what is to be said of it. A shard that is broken stands among its members itself, as an image that cannot be
    read. endings: of images, lower case. outside: beginnings of URIs of files that are no images: of tables."""
    wanted = frozenset(endings)

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for row in batch.to_pylist():
                yield from _expand(row, wanted, limits, outside)

    return run


def _expand(
    row: dict[str, Any], endings: frozenset[str], limits: Limits, outside: tuple[str, ...]
) -> Iterator[pa.RecordBatch]:
    shard, above = row["uri"], row["relative"] + "/" if row["relative"] else ""
    skipped, fault, repeats = 0, None, tar.Repeats()
    rows: list[dict[str, Any]] = []

    def skip() -> None:
        nonlocal skipped
        skipped += 1

    if outside and shard.startswith(outside):
        yield _batch([{"shard": shard, "skipped": 1, "repeats": False}])
        return
    try:
        members = list_members(shard, row["size_bytes"], limits, lambda name: ending(name) in endings, skip)
        for name, offset, size, source, split, label, owner, labels in members:
            if offset == tar.APART:
                rows.append({"shard": shard, "label": label, "label_of": above + name})
                continue
            if size is not None:  # rows of a Parquet file are numbers
                repeats.add(name)
            rows.append(
                {"uri": member_uri(shard, name), "relative": above + name, "source": source or row["source"],
                 "size_bytes": size, "etag": row["etag"], "modified_at": row["modified_at"], "split": split,
                 "label": label, "labels": labels, "owner": owner, "shard": shard, "shard_offset": offset}
            )  # fmt: skip
            if len(rows) == ROWS_OUT:
                yield _batch(rows)
                rows.clear()
    except ImageError as error:
        if error.code in _OF_STORE or error.code == TRUNCATED:
            fault = str(error)
        else:
            rows.append({**row, "relative": row["relative"] or shard})
    rows.append({"shard": shard, "skipped": skipped, "repeats": repeats.any(), "fault": fault})
    yield _batch(rows)


def _batch(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(rows, schema=MEMBERS)
