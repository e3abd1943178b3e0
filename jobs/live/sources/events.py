"""Events: which objects a message speaks of, whichever way S3 has sent it.

S3's own notifications, direct or through SNS (in its envelope, or raw), and EventBridge's. A message names objects and
no more is taken from it: messages come twice, late and in any order, and of a bucket with versions a removal may be
that of an old version, of a marker, or of the object. What an object is like is asked of the store (looking.py); so
neither `sequencer` nor `versionId` is needed to tell which of two messages is right.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

MAX_BYTES = 1 << 20  # of a message: the most that SQS takes
MAX_KEY = 1024  # bytes of a key, UTF-8: S3's own limit
ENVELOPES = 2  # of SNS, one in the other
SHOWN = 80  # characters of a text that is told
_BUCKET = re.compile(r"[A-Za-z0-9._-]{1,255}")
_BYTES = ("ObjectCreated:", "ObjectRemoved:", "LifecycleExpiration:")  # events by which the bytes of a key change
_DETAILS = ("Object Created", "Object Deleted")
# Names of S3's events: letters, digits and a part behind a colon. Others that S3 may come to send say nothing of bytes.
_NAME = re.compile(r"(?:s3:)?[A-Za-z]{3,60}(?::[A-Za-z*]{1,60})?")


class NotAnEventError(ValueError):
    """A message that says nothing about objects; why, on one line."""


@dataclass(frozen=True)
class Told:
    """What a message says. uris: canonical, of the objects whose bytes changed, each once, in its order. others: number
    of its events that are of something else: tags, access, a test."""

    uris: tuple[str, ...]
    others: int = 0


def read(body: str) -> Told:
    """The objects that a message speaks of. Raises NotAnEventError."""
    return _told(_json(body), ENVELOPES)


def _told(given: Mapping[str, Any], envelopes: int) -> Told:
    if given.get("Type") == "Notification" and "Message" in given:
        if not envelopes:
            raise NotAnEventError("a message of SNS in one of SNS in one of SNS")
        return _told(_json(given["Message"]), envelopes - 1)
    if given.get("Event") == "s3:TestEvent":
        return Told((), 1)
    if "Records" in given:
        return _of_records(given["Records"])
    if "detail-type" in given:
        return _of_detail(given)
    if given.get("Type") in ("SubscriptionConfirmation", "UnsubscribeConfirmation"):
        raise NotAnEventError(f"a {given['Type']} of SNS, to be seen to by a person")
    raise NotAnEventError(f"no event of S3: its keys are {_shown(', '.join(map(str, list(given)[:8])) or 'none')}")


def _of_records(records: object) -> Told:
    if not isinstance(records, list) or not records:
        raise NotAnEventError("Records is no list of events")
    found: dict[str, None] = {}
    others = 0
    for record in records:
        name = _mapping(record, "a record").get("eventName")
        if record.get("eventSource") != "aws:s3" or not isinstance(name, str) or not _NAME.fullmatch(name):
            source = _shown(record.get("eventSource"))
            raise NotAnEventError(f"a record that is no event of S3: {_shown(name)} of {source}")
        if not name.removeprefix("s3:").startswith(_BYTES):
            others += 1
            continue
        what = _mapping(record.get("s3"), "s3")
        key = _mapping(what.get("object"), "s3.object").get("key")
        try:
            key = unquote_plus(key, errors="strict") if isinstance(key, str) else key
        except UnicodeDecodeError:
            raise NotAnEventError(f"a key that is not UTF-8: {_shown(key)}") from None
        found[_uri(_mapping(what.get("bucket"), "s3.bucket").get("name"), key)] = None
    return Told(tuple(found), others)


def _of_detail(given: Mapping[str, Any]) -> Told:
    kind = given["detail-type"]
    if given.get("source") != "aws.s3" or not isinstance(kind, str):
        raise NotAnEventError(f"an event of {_shown(given.get('source'))}, not of aws.s3")
    if kind not in _DETAILS:
        return Told((), 1)
    detail = _mapping(given.get("detail"), "detail")
    # Unlike S3's own messages this one has the key as it is.
    key = _mapping(detail.get("object"), "detail.object").get("key")
    return Told((_uri(_mapping(detail.get("bucket"), "detail.bucket").get("name"), key),))


def _uri(bucket: object, key: object) -> str:
    if not isinstance(bucket, str) or not _BUCKET.fullmatch(bucket):
        raise NotAnEventError(f"no name of a bucket: {_shown(bucket)}")
    if not isinstance(key, str) or not key or "\0" in key:
        raise NotAnEventError(f"no key: {_shown(key)}")
    try:
        size = len(key.encode())
    except UnicodeEncodeError:  # a lone surrogate, which JSON can spell
        raise NotAnEventError(f"a key that is not UTF-8: {_shown(key)}") from None
    if size > MAX_KEY:
        raise NotAnEventError(f"a key of {size} bytes, and S3 has none of more than {MAX_KEY}")
    return f"s3://{bucket}/{key}"


def _json(text: object) -> Mapping[str, Any]:
    if not isinstance(text, str):
        raise NotAnEventError(f"no text: {_shown(text)}")
    if len(text) > MAX_BYTES:
        raise NotAnEventError(f"{len(text)} characters, more than {MAX_BYTES}")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: also a number of thousands of digits
        raise NotAnEventError(f"not JSON: {_shown(error)}") from None
    return _mapping(found, "the message")


def _mapping(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise NotAnEventError(f"{where} is no object of JSON")
    return value


def _shown(value: object) -> str:
    """On one line, and short: it comes from whoever may send to the queue."""
    text = ascii(str(value)) if isinstance(value, str | Exception) else type(value).__name__
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"
