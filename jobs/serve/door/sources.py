"""Sources: which pictures the door may be told to read, and how what is asked names them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from jobs.errors import ConfigError
from udfs.stores import uris

MOST_URI = 2048  # characters
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


class SourceError(ValueError):
    """A picture that the door does not read; one line. status: of HTTP."""

    def __init__(self, detail: str, status: int) -> None:
        super().__init__(detail)
        self.status = status


def prefixes(given: Sequence[str]) -> tuple[str, ...]:
    """The canonical prefixes of --door-from, each with a slash at its end. Raises ConfigError."""
    found = []
    for each in given:
        try:
            uri = _checked(each)
        except SourceError as error:
            raise ConfigError(f"--door-from {each[:200]}: {error}") from error
        found.append(uri.rstrip("/") + "/")
    return tuple(found)


def named(data: bytes) -> object:
    """What a body of JSON names: the value of `uri`, the one thing in it. Raises SourceError for what is no JSON."""
    try:
        asked = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise SourceError("the body is no JSON", 400) from error
    return asked.get("uri") if isinstance(asked, dict) and set(asked) == {"uri"} else None


def allowed(given: object, sources: Sequence[str]) -> str:
    """The canonical URI of a picture in S3 that lies under one of the prefixes. Raises SourceError."""
    if not isinstance(given, str):
        raise SourceError('the body must be a picture, or {"uri": "s3://bucket/key"}', 400)
    uri = _checked(given)
    if not any(uri.startswith(prefix) and uri != prefix for prefix in sources):
        raise SourceError("uri: it lies under no prefix that this door was opened for (--door-from)", 403)
    return uri


def _checked(given: str) -> str:
    if len(given) > MOST_URI or not given.lower().startswith(("s3://", "s3a://", "s3n://")):
        raise SourceError("uri: must be s3://bucket/key", 400)
    try:
        uri = uris.canonical(given)
        bucket, key = uris.split_s3(uri)
    except ValueError as error:
        raise SourceError("uri: must be s3://bucket/key", 400) from error
    # Some servers take these for steps, and so lead out of a prefix.
    if not _BUCKET.fullmatch(bucket) or {".", ".."} & set(key.split("/")) or not key.isprintable():
        raise SourceError("uri: must be s3://bucket/key", 400)
    return uri
