"""Images of AWS Lambda's events, and a handler that answers with what a network sees of one."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, unquote_plus

import numpy as np
from numpy.typing import NDArray

from udfs.errors import ImageError
from udfs.stores import fetch, uris
from udfs.transforms.variants import TYPES, Variant, variant

if TYPE_CHECKING:
    from imagesieve.transforms import Transform

MOST_BYTES, MOST_PIXELS = 64 << 20, 178_956_970  # of an image, as embed has them by default
MOST_ANSWER = 6_000_000  # bytes that Lambda lets through
Event = Mapping[str, Any]


class EventError(ValueError):
    """An event that names no image that may be read; one line."""


def of_event(transform: Transform, event: Event, prefixes: Sequence[str] = ()) -> NDArray[np.float32]:
    """transform() of the image of an event.

    event: {"image": base64}; {"uri": "s3://bucket/key"}; what a function URL or API Gateway makes of a POST whose body
    is an image; or a notification of S3, of which the first record counts. prefixes: s3:// prefixes under which objects
    may be read; none by default, for whoever may send events would else read whatever the function may. Raises
    EventError, ImageError, StoreError."""
    return transform(_image(event, prefixes))


def lambda_handler(
    transform: Transform,
    prefixes: Sequence[str] = (),
    answer: Callable[[NDArray[np.float32]], Mapping[str, Any]] | None = None,
) -> Callable[[Event, object], dict[str, Any]]:
    """A handler of AWS Lambda. answer: what is said of an array, as JSON can hold it, such as the classes of a network.
    Without it the array itself is: fingerprint, shape, dtype, and array in base64, C order, little-endian; of a network
    that sees so much that Lambda could not let it through, an error says so. What cannot be read is an answer with
    `error`; over HTTP with status 400."""

    def handler(event: Event, context: object) -> dict[str, Any]:
        try:
            array = of_event(transform, event, prefixes)
            told = dict(answer(array)) if answer is not None else _told(transform, array)
            status = 200
        except (EventError, ImageError) as error:
            told, status = {"error": str(error)}, 400
        if "requestContext" not in event:
            return told
        return {"statusCode": status, "headers": {"content-type": "application/json"}, "body": json.dumps(told)}

    return handler


def variant_handler(root: str, max_age_s: int = 86_400) -> Callable[[Event, object], dict[str, Any]]:
    """A handler for a function URL of AWS Lambda that answers GET /KEY?width=640&format=webp with a variant of the
    object root + KEY, for CloudFront to keep max_age_s seconds. root: an s3:// prefix that ends in /. Parameters are
    the fields of udfs.transforms.variants.Variant. Answers 400 for others, 404 where the object is no image that can be
    read, 413 where the variant is more than Lambda lets through. Raises ValueError for another root."""
    if not uris.split_s3(root)[0] or not root.endswith("/"):
        raise ValueError(f"root must be an s3:// prefix that ends in /, got {root!r}")

    def handler(event: Event, context: object) -> dict[str, Any]:
        try:
            how = Variant.of_query(event.get("queryStringParameters") or {})
        except ValueError as error:
            return _said(400, str(error))
        key = unquote(str(event.get("rawPath") or "/"))[1:]
        try:
            data = variant(fetch.fetch(fetch.Reference(root + key), fetch.Limits(MOST_BYTES)), how, MOST_PIXELS)
        except ImageError as error:
            return _said(404, error.code)
        if len(data) * 4 / 3 > MOST_ANSWER - 1000:
            return _said(413, f"{len(data)} bytes are more than Lambda answers with: ask for fewer pixels")
        headers = {"content-type": TYPES[how.format], "cache-control": f"public, max-age={max_age_s}"}
        body = base64.b64encode(data).decode()
        return {"statusCode": 200, "headers": headers, "isBase64Encoded": True, "body": body}

    return handler


def _said(status: int, text: str) -> dict[str, Any]:
    return {"statusCode": status, "headers": {"content-type": "text/plain", "cache-control": "no-store"}, "body": text}


def _told(transform: Transform, array: NDArray[np.float32]) -> dict[str, Any]:
    if array.nbytes * 4 / 3 > MOST_ANSWER - 1000:
        raise EventError(f"{array.nbytes} bytes are more than Lambda answers with: give lambda_handler an answer")
    data = base64.b64encode(array.astype("<f4", copy=False).tobytes()).decode()
    return {"fingerprint": transform.fingerprint, "shape": list(array.shape), "dtype": "float32", "array": data}


def _image(event: Event, prefixes: Sequence[str]) -> bytes | str:
    if "requestContext" in event:
        body = str(event.get("body") or "")
        return _decoded(body) if event.get("isBase64Encoded") else body.encode("latin-1", "replace")
    if isinstance(event.get("image"), str):
        return _decoded(event["image"])
    if isinstance(event.get("uri"), str):
        return _allowed(event["uri"], prefixes)
    try:
        found = event["Records"][0]["s3"]
        bucket, key = str(found["bucket"]["name"]), unquote_plus(str(found["object"]["key"]))
    except (KeyError, IndexError, TypeError):
        raise EventError("the event has neither image, uri, a body, nor a record of S3") from None
    return _allowed(f"s3://{bucket}/{key}", prefixes)


def _allowed(uri: str, prefixes: Sequence[str]) -> str:
    bucket, slash, key = uri.removeprefix("s3://").partition("/")
    if uris.is_s3(uri) and slash and "\0" not in uri:
        for prefix in prefixes:
            of, start = uris.split_s3(prefix)
            if bucket == of and key.startswith(start):
                return uri
    raise EventError(f"{uri!r:.200}: may not be read: it lies under none of the prefixes that this handler was given")


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise EventError(f"the image is not base64: {error}") from None
