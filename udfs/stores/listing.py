"""What folders and prefixes hold, and the size and version of one file, without reading any."""

import os
import stat as modes
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from udfs.stores import ranges, s3, uris
from udfs.stores.s3_objects import Limits, S3Object

if TYPE_CHECKING:
    pass

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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


def stat(uri: str, limits: Limits | None = None) -> Stat:
    """Size and version of one image, by its canonical URI, without reading it. Raises as `fetch`."""
    limits = limits or Limits()
    if not uris.is_s3(uri):
        try:
            found = os.stat(uris.local_path(uri))  # noqa: PTH116 (bytes)
        except OSError as error:
            raise s3.image_error(error) from error
        if not modes.S_ISREG(found.st_mode):
            raise ranges.not_a_file(found.st_mode)
        return _stat(found)
    head = S3Object(uri, limits).head()
    return Stat(head.size, _unquoted(head.etag), head.modified_at.astimezone(UTC))


@dataclass
class Unlisted:
    """What a folder holds and could not be listed. links: how many lead nowhere, in a circle, or to a folder. folders:
    how many may not be read; first: one of them."""

    links: int = 0
    folders: int = 0
    first: str = ""


def list_files(root: str, batch: int = 1000, unlisted: Unlisted | None = None) -> Iterator[list[Listed]]:
    """Every file below root (a canonical URI of a folder or an S3 prefix), in lists of at most `batch`, in no order.

    A name that begins with `.`, of a file or of a folder above it, is hidden and left out (`.` and `..` in S3 keys are
    not hidden), as are S3's empty folder markers. Links to files are followed, links to folders are not. Memory is
    bounded by batch and the depth of the tree. A prefix without keys is an empty list. Raises StoreError where root
    does not exist or a part of it cannot be listed, so that nothing is lost silently: but for folders below it that may
    not be read, and links that lead nowhere or in a circle, where `unlisted` takes them."""
    if batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch}")
    found = _list_s3(root) if uris.is_s3(root) else _list_local(root, unlisted)
    listed: list[Listed] = []
    for one in found:
        listed.append(one)
        if len(listed) == batch:
            yield listed
            listed = []
    if listed:
        yield listed


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
                if not below or is_marker(key, size) or is_hidden(below):
                    continue
                modified_at = item["LastModified"].astimezone(UTC)
                yield Listed(f"s3://{bucket}/{key}", below, size, _unquoted(item.get("ETag")), modified_at)
    except Exception as error:
        if s3.is_aws_error(error):
            raise s3.store_error(root, error) from error
        raise


def is_hidden(below: str) -> bool:
    """Whether the name of a file or of a folder above it begins with `.`; below: the path from the folder listed."""
    return (below[0] == "." or "/." in below) and any(
        name.startswith(".") and name not in (".", "..") for name in below.split("/")
    )


def is_marker(key: str, size: int) -> bool:
    """Whether an object stands for a folder."""
    return size == 0 and key.endswith("/")


def _list_local(root: str, unlisted: Unlisted | None) -> Iterator[Listed]:
    top = uris.local_path(root)
    below = len(root.rstrip("/")) + 1 if root.startswith("/") else None  # in characters, as URIs are
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
                if unlisted is not None and not os.access(entry.path, os.R_OK | os.X_OK):
                    unlisted.folders += 1
                    unlisted.first = unlisted.first or uris.from_local_path(entry.path)
                    continue
                folders.append(_scan(entry.path))
                continue
            try:
                found = entry.stat()
            except OSError as error:
                if isinstance(error, FileNotFoundError) and (unlisted is None or not entry.is_symlink()):
                    continue  # removed since, or a link to nothing
                if unlisted is not None and entry.is_symlink():
                    unlisted.links += 1
                    continue
                raise s3.store_error(uris.from_local_path(entry.path), error) from error
            if modes.S_ISDIR(found.st_mode) and unlisted is not None:
                unlisted.links += 1
            if modes.S_ISREG(found.st_mode):
                uri = uris.from_local_path(entry.path)
                relative = uri[below:] if below and uri.startswith("/") else uris.relative(uri, root)
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
