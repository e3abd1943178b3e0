"""Reads images from S3 and from folders: their bytes, many at once; their size and version; and what a folder holds."""

import os
import stat as modes
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from udfs import s3, uris
from udfs.errors import FETCH_FAILED, TOO_MANY_BYTES, ImageError
from udfs.s3 import StoreError

if TYPE_CHECKING:
    from obstore.store import S3Store

AHEAD_BYTES = 64 << 20  # how much `fetch_all` holds that is not yet asked for, besides the one asked for
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Limits:
    """max_bytes: of one image. timeout_s: of one read from S3 with all its retries. retries: of one read from S3."""

    max_bytes: int = 100_000_000
    timeout_s: float = 60.0
    retries: int = 5


class Stat(NamedTuple):
    """What tells one version of an image from the next. modified_at: in UTC; None where it is beyond a datetime."""

    size_bytes: int
    etag: str | None
    modified_at: datetime | None


class Listed(NamedTuple):
    """One file of a folder. relative: its raw path below the folder, with `/`."""

    uri: str
    relative: str
    size_bytes: int
    etag: str | None
    modified_at: datetime | None


def fetch(uri: str, limits: Limits) -> bytes:
    """The bytes of one image, by its canonical URI; maybe none at all.

    Its size is looked at before it is read. Raises ImageError: not_found, access_denied, too_many_bytes, timeout,
    fetch_failed. Raises StoreError where there are no AWS credentials, which is no fault of the image."""
    if not uris.is_s3(uri):
        return _read_file(uri, limits.max_bytes)
    bucket, key = uris.split_s3(uri)
    data = _read_object(s3.store(bucket, limits.timeout_s, limits.retries), bucket, key, limits, _always)
    return b"" if data is None else data


def fetch_all(source: Iterable[str], limits: Limits, threads: int = 32) -> Iterator[bytes | ImageError]:
    """As `fetch`, for each URI of source in its order, with the error in place of the bytes where there is one.

    At most `threads` requests to S3 are in flight, at most twice as many URIs are taken from source ahead of the
    caller, and of what has arrived at most AHEAD_BYTES are held. Files are read by the calling thread as they are asked
    for: read ahead by threads they cost more CPU and came no sooner. Raises as `fetch`, but no ImageError."""
    if threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    pending: deque[tuple[str, Future[bytes | ImageError | None] | None]] = deque()
    window = _Window()
    stores: dict[str, S3Store] = {}
    todo = iter(source)
    more = True
    pool = ThreadPoolExecutor(threads, thread_name_prefix="fetch")
    try:
        while True:
            while more and len(pending) < 2 * threads and (not pending or window.has_room()):
                uri = next(todo, None)
                if uri is None:
                    more = False
                elif uris.is_s3(uri):
                    bucket, key = uris.split_s3(uri)
                    if bucket not in stores:
                        stores[bucket] = s3.store(bucket, limits.timeout_s, limits.retries)
                    window.begin()
                    pending.append((uri, pool.submit(_ahead, stores[bucket], bucket, key, limits, window)))
                else:
                    pending.append((uri, None))
            if not pending:
                return
            uri, future = pending.popleft()
            result = None if future is None else future.result()
            if result is None:  # a file, or an object put off because there was no room for it
                yield _outcome(uri, limits)
            else:
                if isinstance(result, bytes):
                    window.release(len(result))
                yield result
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def stat(uri: str, limits: Limits | None = None) -> Stat:
    """Size and version of one image, by its canonical URI, without reading it. Raises as `fetch`."""
    limits = limits or Limits()
    if not uris.is_s3(uri):
        try:
            found = os.stat(uris.local_path(uri))  # noqa: PTH116 (bytes)
        except OSError as error:
            raise s3.image_error(error) from error
        if not modes.S_ISREG(found.st_mode):
            raise _not_a_file(found.st_mode)
        return _stat(found)
    bucket, key = uris.split_s3(uri)
    import obstore

    try:
        if s3.has_path(key):
            meta = obstore.head(s3.store(bucket, limits.timeout_s, limits.retries), key)
            return Stat(meta["size"], _unquoted(meta["e_tag"]), meta["last_modified"].astimezone(UTC))
        head = s3.client(limits.timeout_s / 2, limits.retries).head_object(Bucket=bucket, Key=key)
        return Stat(head["ContentLength"], _unquoted(head.get("ETag")), head["LastModified"].astimezone(UTC))
    except StoreError:
        raise
    except Exception as error:
        raise _as_image_error(error) from error


def list_files(root: str, batch: int = 1000) -> Iterator[list[Listed]]:
    """Every file below root (a canonical URI of a folder or an S3 prefix), in lists of at most `batch`, in no order.

    A name that begins with `.`, of a file or of a folder above it, is hidden and left out (`.` and `..` in S3 keys are
    not hidden), as are S3's empty folder markers. Links to files are followed, links to folders are not. Memory is
    bounded by batch and the depth of the tree. Raises StoreError where root does not exist or a part of it cannot be
    listed, so that nothing is lost silently; a prefix without keys is an empty list."""
    if batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch}")
    found = _list_s3(root) if uris.is_s3(root) else _list_local(root)
    listed: list[Listed] = []
    for one in found:
        listed.append(one)
        if len(listed) == batch:
            yield listed
            listed = []
    if listed:
        yield listed


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


def _ahead(store: "S3Store", bucket: str, key: str, limits: Limits, window: _Window) -> bytes | ImageError | None:
    """In a thread of the pool: an object's bytes, counted by the window; None where they did not fit in."""
    admitted = 0

    def admit(size: int) -> bool:
        nonlocal admitted
        fits = window.admit(size)
        admitted = size if fits else 0
        return fits

    try:
        data = _read_object(store, bucket, key, limits, admit)
    except ImageError as error:
        window.release(admitted)
        return error
    else:
        if data is not None:
            window.release(admitted - len(data))
        return data
    finally:
        window.end()


def _outcome(uri: str, limits: Limits) -> bytes | ImageError:
    try:
        return fetch(uri, limits)
    except ImageError as error:
        return error


def _always(_size: int) -> bool:
    return True


def _read_object(store: "S3Store", bucket: str, key: str, limits: Limits, admit: Callable[[int], bool]) -> bytes | None:
    """An object's bytes. admit is asked once its size is known and nothing of it is read; None where it says no."""
    import obstore

    try:
        if s3.has_path(key):
            answer = obstore.get(store, key)
            size = answer.meta["size"]  # its Content-Length: more than that is not read, less is an error
            if size > limits.max_bytes:
                raise _too_large(size, limits.max_bytes)
            return answer.bytes().to_bytes() if admit(size) else None
        found = s3.client(limits.timeout_s / 2, limits.retries).get_object(Bucket=bucket, Key=key)
        with found["Body"] as body:
            if found["ContentLength"] > limits.max_bytes:
                raise _too_large(found["ContentLength"], limits.max_bytes)
            return bytes(body.read()) if admit(found["ContentLength"]) else None
    except (ImageError, StoreError):
        raise
    except Exception as error:
        raise _as_image_error(error) from error


def _as_image_error(error: Exception) -> ImageError:
    """The ImageError for an error of obstore, boto3 or the system; any other error is a bug and is raised again."""
    from obstore.exceptions import BaseError

    if isinstance(error, BaseError | OSError) or s3.is_aws_error(error):
        return s3.image_error(error)
    raise error


def _read_file(uri: str, max_bytes: int) -> bytes:
    path = uris.local_path(uri)
    try:
        # Looked at before it is opened: opening alone can hang on a pipe and act on a device.
        mode = os.stat(path).st_mode  # noqa: PTH116 (bytes)
        if not modes.S_ISREG(mode):
            raise _not_a_file(mode)
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            found = os.fstat(file)
            if not modes.S_ISREG(found.st_mode):
                raise _not_a_file(found.st_mode)
            if found.st_size > max_bytes:
                raise _too_large(found.st_size, max_bytes)
            return _read_to_end(file, found.st_size, max_bytes)
        finally:
            os.close(file)
    except OSError as error:
        raise s3.image_error(error) from error


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
        raise _too_large(total, max_bytes)
    return b"".join(parts)


def _list_s3(root: str) -> Iterator[Listed]:
    bucket, prefix = uris.split_s3(root)
    if prefix and not prefix.endswith("/"):
        prefix += "/"
    try:
        pages = s3.client(timeout_s=30.0, retries=9).get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=bucket, Prefix=prefix):
            for item in page.get("Contents", ()):
                key, size = item["Key"], item["Size"]
                below = key[len(prefix) :]
                if not below or (size == 0 and key.endswith("/")) or _is_hidden(below):
                    continue
                modified_at = item["LastModified"].astimezone(UTC)
                yield Listed(f"s3://{bucket}/{key}", below, size, _unquoted(item.get("ETag")), modified_at)
    except Exception as error:
        if s3.is_aws_error(error):
            raise s3.store_error(root, error) from error
        raise


def _is_hidden(below: str) -> bool:
    return (below[0] == "." or "/." in below) and any(
        name.startswith(".") and name not in (".", "..") for name in below.split("/")
    )


def _list_local(root: str) -> Iterator[Listed]:
    top = uris.local_path(root)
    below = len(top.rstrip(b"/")) + 1
    folders: list[Any] = []  # open ones, from the top down to the one that is read
    try:
        folders.append(_scan(top))
        while folders:
            entry = next(folders[-1], None)
            if entry is None:
                folders.pop().close()
                continue
            if entry.name.startswith(b"."):
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(_scan(entry.path))
                continue
            try:
                found = entry.stat()
            except FileNotFoundError:  # removed since, or a link to nothing
                continue
            except OSError as error:
                raise s3.store_error(uris.from_local_path(entry.path), error) from error
            if modes.S_ISREG(found.st_mode):
                uri = uris.from_local_path(entry.path)
                relative = uri[below:] if uri.startswith("/") else uris.relative(uri, root)
                yield Listed(uri, relative, *_stat(found))
    finally:
        for folder in folders:
            folder.close()


def _scan(path: bytes) -> Any:
    try:
        return os.scandir(path)
    except OSError as error:
        raise s3.store_error(uris.from_local_path(path), error) from error


def _stat(found: os.stat_result) -> Stat:
    try:
        modified_at = _EPOCH + timedelta(microseconds=found.st_mtime_ns // 1000)
    except OverflowError:
        modified_at = None
    return Stat(found.st_size, f"{found.st_mtime_ns:x}-{found.st_size:x}", modified_at)


def _unquoted(etag: str | None) -> str | None:
    return None if etag is None else etag.strip('"')


def _too_large(size: int, max_bytes: int) -> ImageError:
    return ImageError(TOO_MANY_BYTES, f"{size} bytes, more than {max_bytes}")


def _not_a_file(mode: int) -> ImageError:
    for kind, test in _KINDS.items():
        if test(mode):
            return ImageError(FETCH_FAILED, f"{kind}, not a file")
    return ImageError(FETCH_FAILED, "not a regular file")


_KINDS: dict[str, Callable[[int], bool]] = {
    "a folder": modes.S_ISDIR,
    "a pipe": modes.S_ISFIFO,
    "a socket": modes.S_ISSOCK,
    "a device": lambda mode: modes.S_ISCHR(mode) or modes.S_ISBLK(mode),
}
