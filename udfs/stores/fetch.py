"""Reads images from S3 and from folders, alone or out of shards: their bytes, many at once; their size and version; and
what a folder holds."""

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from udfs.errors import CORRUPT, TRUNCATED, ImageError
from udfs.stores import parquet_rows, ranges, shards, uris
from udfs.stores.listing import Listed, Stat, list_files, stat
from udfs.stores.s3_objects import Limits, S3Object, too_large

if TYPE_CHECKING:
    pass

__all__ = ["Limits", "Listed", "Reference", "Stat", "fetch", "fetch_all", "list_files", "stat"]

AHEAD_BYTES = 64 << 20  # how much `fetch_all` holds that is not yet asked for, besides the one asked for
# Members of a tar in S3 that follow one another are read by one request. What lies between two costs no more CPU than a
# request of its own would (see udfs.stores.ranges) and far less money; 8 MB are enough to make requests a small part of
# both, and eight of them fit into what may be held.
JOINT_GAP = 256 << 10
JOINT_BYTES = 8 << 20
JOINT_MEMBERS = 256  # what is taken from the source for one read, however small the members


class Reference(NamedTuple):
    """Where an image lies: in an object of its own, or in a shard. uri: canonical; that of a member only tells which.

    shard: the canonical URI of a tar or Parquet file. offset: of the member's data in a tar, the number of the row in a
    Parquet file. size_bytes: of the member; not needed for others."""

    uri: str
    shard: str | None = None
    offset: int | None = None
    size_bytes: int | None = None


def fetch(reference: Reference, limits: Limits) -> bytes:
    """The bytes of one image; maybe none at all.

    Its size is looked at before it is read; that of a row of a Parquet file, after. Raises ImageError: not_found,
    access_denied, too_many_bytes, timeout, fetch_failed, and of a shard truncated, corrupt, empty. Raises StoreError
    where there are no AWS credentials, which is no fault of the image."""
    if reference.shard is None:
        return _read_alone(reference.uri, limits)
    with contextlib.closing(_Rows(limits)) as rows:
        (result,) = _read_here([reference], limits, rows)
    if isinstance(result, ImageError):
        raise result
    return result


def fetch_all(source: Iterable[Reference], limits: Limits, threads: int = 32) -> Iterator[bytes | ImageError]:
    """As `fetch`, for each reference of source in its order, with the error in place of the bytes where there is one.

    References of one shard that follow one another are read together: members of a tar in S3 by one request where they
    lie near each other, rows of a Parquet file in one go. At most `threads` requests to S3 are in flight, at most twice
    as many reads are taken from source ahead of the caller, and of what has arrived at most AHEAD_BYTES are held, or
    the one read that is asked for. Files and Parquet rows are read by the calling thread as they are asked for: files
    read ahead by threads cost more CPU and came no sooner. Raises as `fetch`, but no ImageError."""
    if threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    pending: deque[_Read] = deque()
    window = _Window()
    todo = _together(source, limits)
    put_back: list[Reference] | None = None
    rows = _Rows(limits)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="fetch")
    begin = _starter(pool, window, limits)
    try:
        while True:
            while len(pending) < 2 * threads and (not pending or window.has_room()):
                group = put_back or next(todo, None)
                put_back = None
                if group is None:
                    break
                read = begin(group, not pending)
                if read is None:
                    put_back = group
                    break
                pending.append(read)
            if not pending:
                return
            read = pending.popleft()
            result = None if read.future is None else read.future.result()
            if result is None:  # a file, or an object put off because there was no room for it
                yield from _read_here(read.group, limits, rows)
            elif isinstance(result, bytes):
                window.release(len(result))
                yield result
            else:
                yield from _parts(read.group, result)
                window.release(read.size)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        rows.close()


class _Window:
    """Bytes held and to be expected. An object's size is known only when its answer begins, so the largest of the
    latest sizes stands for each that is still on its way; where that was too low, the object is put off."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held = 0
        self._in_flight = 0
        self._expected = 0.0

    def has_room(self) -> bool:
        with self._lock:
            return self._held + (self._in_flight + 1) * self._expected <= AHEAD_BYTES

    def reserve(self, size: int, *, even_so: bool) -> bool:
        """Counts what will come, of a size known before it is asked for, if there is room for it or even so."""
        with self._lock:
            fits = self._held + self._in_flight * self._expected + size <= AHEAD_BYTES
            if fits or even_so:
                self._held += size
            return fits or even_so

    def begin(self) -> None:
        with self._lock:
            self._in_flight += 1

    def admit(self, size: int) -> bool:
        with self._lock:
            self._expected = max(float(size), 0.95 * self._expected)
            if self._held + size > AHEAD_BYTES:
                return False
            self._held += size
            return True

    def end(self) -> None:
        with self._lock:
            self._in_flight -= 1

    def release(self, size: int) -> None:
        with self._lock:
            self._held -= size


def _ahead(found: S3Object, window: _Window) -> bytes | ImageError | None:
    """In a thread of the pool: an object's bytes, counted by the window; None where they did not fit in."""
    admitted = 0

    def admit(size: int) -> bool:
        nonlocal admitted
        fits = window.admit(size)
        admitted = size if fits else 0
        return fits

    try:
        data = found.whole(admit)
    except ImageError as error:
        window.release(admitted)
        return error
    else:
        if data is not None:
            window.release(admitted - len(data))
        return data
    finally:
        window.end()


class _Read(NamedTuple):
    """What is read together. size: bytes that it takes of the window, 0 where it counts itself."""

    group: list[Reference]
    size: int
    future: "Future[bytes | memoryview | ImageError | None] | None"


def _starter(
    pool: ThreadPoolExecutor, window: _Window, limits: Limits
) -> "Callable[[list[Reference], bool], _Read | None]":
    """A function that begins to read a group, where a thread of the pool has to; None where the window has no room for
    it. Its second argument: begin even so."""

    def begin(group: list[Reference], even_so: bool) -> _Read | None:
        first = group[0]
        if first.shard is None:
            if not uris.is_s3(first.uri) or shards.is_shard(first.uri):
                return _Read(group, 0, None)
            found = S3Object(first.uri, limits)
            window.begin()
            return _Read(group, 0, pool.submit(_ahead, found, window))
        size = _span(group) if _is_joint(first) and _fault(first, limits) is None else 0
        if not size:
            return _Read(group, 0, None)
        if not window.reserve(size, even_so=even_so):
            return None
        return _Read(group, size, pool.submit(_range_ahead, first.shard, first.offset or 0, size, limits))

    return begin


class _Rows:
    """The Parquet file that is open."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._open: parquet_rows.Rows | None = None

    def of(self, shard: str) -> parquet_rows.Rows:
        if self._open is None or self._open.uri != shard:
            self.close()
            self._open = parquet_rows.Rows(shard, self._limits)
        return self._open

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None


def _together(source: Iterable[Reference], limits: Limits) -> Iterator[list[Reference]]:
    """The references in their order; those to be read together in one list. One that lies in no shard comes as soon as
    it is there."""
    group: list[Reference] = []
    end = 0
    for one in source:
        if group and not (one.shard == group[0].shard and len(group) < JOINT_MEMBERS and _joins(group, end, one)):
            yield group
            group = []
        if one.shard is None or _fault(one, limits) is not None:
            if group:
                yield group
                group = []
            yield [one]
            continue
        group.append(one)
        end = _end(one)
    if group:
        yield group


def _joins(group: list[Reference], end: int, one: Reference) -> bool:
    """Whether a read of the group, whose last member ends at end, should take in one of the same shard too."""
    if not _is_joint(one):
        return True
    start = one.offset or 0
    return 0 <= start - end <= JOINT_GAP and _end(one) - (group[0].offset or 0) <= JOINT_BYTES


def _is_joint(one: Reference) -> bool:
    """Whether one lies in a tar in S3."""
    return one.shard is not None and uris.is_s3(one.shard) and not shards.is_parquet(one.shard)


def _end(one: Reference) -> int:
    return (one.offset or 0) + (one.size_bytes or 0)


def _span(group: list[Reference]) -> int:
    """Bytes of one read of a group of members of a tar."""
    return _end(group[-1]) - (group[0].offset or 0)


def _fault(one: Reference, limits: Limits) -> ImageError | None:
    """What is wrong with a reference into a shard before anything is read."""
    if one.offset is None or one.offset < 0:
        return ImageError(CORRUPT, "no place in the shard")
    if shards.is_parquet(str(one.shard)):
        return None
    if one.size_bytes is None or one.size_bytes < 0:
        return ImageError(CORRUPT, "no length in the shard")
    return too_large(one.size_bytes, limits.max_bytes) if one.size_bytes > limits.max_bytes else None


def _range_ahead(shard: str, start: int, length: int, limits: Limits) -> memoryview | ImageError:
    """In a thread of the pool."""
    try:
        return S3Object(shard, limits).part(start, length)
    except ImageError as error:
        return error


def _parts(group: list[Reference], data: memoryview | ImageError) -> Iterator[bytes | ImageError]:
    """The members of a group out of what was read from the first one's offset on."""
    for one in group:
        if isinstance(data, ImageError):
            yield data
            continue
        begin = (one.offset or 0) - (group[0].offset or 0)
        part = bytes(data[begin : _end(one) - (group[0].offset or 0)])
        yield part if len(part) == one.size_bytes else _cut(one, len(part))


def _read_here(group: list[Reference], limits: Limits, rows: _Rows) -> Iterator[bytes | ImageError]:
    """Reads a group by this thread."""
    first = group[0]
    if first.shard is None:
        try:
            yield _read_alone(first.uri, limits)
        except ImageError as error:
            yield error
    elif (fault := _fault(first, limits)) is not None:
        yield fault
    elif shards.is_parquet(first.shard):
        for one in group:
            try:
                yield rows.of(first.shard).read(one.offset or 0)
            except ImageError as error:
                yield error
    elif uris.is_s3(first.shard):
        yield from _parts(group, _range_ahead(first.shard, first.offset or 0, _span(group), limits))
    else:
        yield from _local_members(first.shard, group)


def _local_members(shard: str, group: list[Reference]) -> Iterator[bytes | ImageError]:
    done = 0
    try:
        with ranges.open_local(shard) as (file, size):
            for one in group:
                there = max(0, min(one.size_bytes or 0, size - (one.offset or 0)))
                data = ranges.read_at(file, one.offset or 0, there) if there == one.size_bytes else b""
                done += 1
                yield data if len(data) == one.size_bytes else _cut(one, there)
    except ImageError as error:
        for _ in group[done:]:
            yield error


def _cut(one: Reference, there: int) -> ImageError:
    return ImageError(TRUNCATED, f"{there} of {one.size_bytes} bytes: the shard ends before the image does")


def _read_alone(uri: str, limits: Limits) -> bytes:
    if shards.is_shard(uri):
        raise shards.why(uri, limits)
    if not uris.is_s3(uri):
        return _read_file(uri, limits.max_bytes)
    return S3Object(uri, limits).whole() or b""


def _read_file(uri: str, max_bytes: int) -> bytes:
    with ranges.open_local(uri) as (file, size):
        if size > max_bytes:
            raise too_large(size, max_bytes)
        return _read_to_end(file, size, max_bytes)


def _read_to_end(file: int, size: int, max_bytes: int) -> bytes:
    """All bytes of an open file that may grow meanwhile. size: what it had; a byte more is asked for to see it."""
    data = os.read(file, min(size, max_bytes) + 1)
    if len(data) == size:
        return data
    parts = [data]
    total = len(data)
    while data and total <= max_bytes:
        data = os.read(file, min(1 << 20, max_bytes + 1 - total))
        parts.append(data)
        total += len(data)
    if total > max_bytes:
        raise too_large(total, max_bytes)
    return b"".join(parts)
