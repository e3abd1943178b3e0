"""One object of S3, read whatever its key: by obstore, or by boto3 where obstore would ask for another key."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from udfs.errors import FETCH_FAILED, TOO_MANY_BYTES, ImageError
from udfs.stores import s3, uris
from udfs.stores.s3 import StoreError


@dataclass(frozen=True)
class Limits:
    """max_bytes: of one image. timeout_s: of one read from S3 with all its retries. retries: of one read from S3."""

    max_bytes: int = 100_000_000
    timeout_s: float = 60.0
    retries: int = 5


class Head(NamedTuple):
    """etag: as the server spells it, in quotes."""

    size: int
    etag: str | None
    modified_at: datetime.datetime


class S3Object:
    """Its methods raise ImageError: not_found, access_denied, timeout, fetch_failed; StoreError without credentials."""

    def __init__(self, uri: str, limits: Limits) -> None:
        """uri: canonical. Raises StoreError without credentials."""
        self._bucket, self._key = uris.split_s3(uri)
        self._limits = limits
        self._by_obstore = s3.by_obstore(self._key)
        if self._by_obstore:
            self._store = s3.store(self._bucket, limits.timeout_s, limits.retries)
        else:
            self._client = s3.client(limits.timeout_s / 2, limits.retries)

    def head(self) -> Head:
        """What the server says of it, without reading it."""
        import obstore

        with _as_image_error():
            if self._by_obstore:
                meta = obstore.head(self._store, self._key)
                return Head(int(meta["size"]), meta["e_tag"], meta["last_modified"])
            found = self._client.head_object(Bucket=self._bucket, Key=self._key)
            return Head(int(found["ContentLength"]), found.get("ETag"), found["LastModified"])

    def whole(self, admit: Callable[[int], bool] = lambda _: True) -> bytes | None:
        """Its bytes. admit is asked once its size is known and nothing of it is read; None where it says no.

        Also raises ImageError for more than max_bytes."""
        import obstore

        with _as_image_error():
            if self._by_obstore:
                answer = obstore.get(self._store, self._key)
                size = answer.meta["size"]  # its Content-Length: more than that is not read, less is an error
                self._check(size)
                return answer.bytes().to_bytes() if admit(size) else None
            found = self._client.get_object(Bucket=self._bucket, Key=self._key)
            with found["Body"] as body:
                self._check(found["ContentLength"])
                return bytes(body.read()) if admit(found["ContentLength"]) else None

    def part(self, start: int, length: int) -> memoryview:
        """Bytes start … start + length - 1 by one GET; fewer where it ends before, none at its end."""
        import obstore

        if length <= 0:
            return memoryview(b"")
        try:
            with _as_image_error():
                if self._by_obstore:
                    data = memoryview(obstore.get_range(self._store, self._key, start=start, length=length))
                else:
                    wanted = f"bytes={start}-{start + length - 1}"
                    found = self._client.get_object(Bucket=self._bucket, Key=self._key, Range=wanted)
                    with found["Body"] as body:
                        data = memoryview(body.read(length + 1))
        except ImageError as error:
            if error.__cause__ is not None and _is_beyond_the_end(error.__cause__):
                return memoryview(b"")
            raise
        if len(data) > length:  # a server that does not know ranges
            raise ImageError(FETCH_FAILED, f"{len(data)} bytes came for a range of {length}")
        return data

    def _check(self, size: int) -> None:
        if size > self._limits.max_bytes:
            raise too_large(size, self._limits.max_bytes)


def too_large(size: int, max_bytes: int) -> ImageError:
    return ImageError(TOO_MANY_BYTES, f"{size} bytes, more than {max_bytes}")


def as_image_error(error: Exception) -> ImageError:
    """The ImageError for an error of obstore, boto3 or the system; any other error is a bug and is raised again."""
    from obstore.exceptions import BaseError

    if isinstance(error, BaseError | OSError) or s3.is_aws_error(error):
        return s3.image_error(error)
    raise error


@contextlib.contextmanager
def _as_image_error() -> Iterator[None]:
    try:
        yield
    except (ImageError, StoreError):
        raise
    except Exception as error:
        raise as_image_error(error) from error


def _is_beyond_the_end(error: BaseException) -> bool:
    from obstore.exceptions import GenericError

    # obstore has no kind of error for it.
    said = isinstance(error, GenericError) and "status code: 416 " in str(error)[:1000]
    return said or (isinstance(error, Exception) and s3.aws_code(error)[1] == 416)
