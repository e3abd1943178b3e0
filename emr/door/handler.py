"""The door of a lake as an AWS Lambda function behind its own URL: what jobs.serve.door says, to who is signed in.

Settings, of the environment: IMAGESIEVE_LAKE; IMAGESIEVE_DOOR_FROM, prefixes in S3 whose pictures may be named by their
URI, commas between them; IMAGESIEVE_CACHE, a folder of /tmp; IMAGESIEVE_BAKED, what the image holds for it (networks);
IMAGESIEVE_DOOR_BYTES, how much of the lake may be kept there."""

from __future__ import annotations

import base64
import binascii
import json
import os
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

from jobs.errors import RunError
from jobs.serve.door import answering, prepared, sources
from jobs.serve.door.answering import Door
from jobs.serve.door.sources import SourceError
from udfs.children import pool
from udfs.networks.models import ModelError
from udfs.stores import uris
from udfs.stores.s3 import StoreError

MOST_BYTES = 6 << 20  # of a request, which is what Lambda takes: larger pictures are named by their URI
KEPT_BYTES = 8 << 30
JSON = "application/json"

_lock = threading.Lock()
_open: Door | None = None


class _RefusedError(Exception):
    """One line. status: of HTTP."""

    def __init__(self, detail: str, status: int) -> None:
        super().__init__(detail)
        self.status = status


def handler(event: dict[str, Any], _context: object = None) -> dict[str, Any]:
    """Answers a request of a function URL (payload 2.0): POST a picture, or {"uri": "s3://bucket/key"} as JSON."""
    try:
        return _answer(_checked(event))
    except (_RefusedError, SourceError) as error:
        return _answer({"detail": str(error)}, error.status)
    except (RunError, ModelError, StoreError) as error:
        return _answer({"detail": " ".join(str(error).split())}, 503)
    except Exception:  # a fault of ours: told to the log, and no end of the function
        traceback.print_exc(file=sys.stderr)
        return _answer({"detail": "a fault of imagesieve; the function's log says more"}, 500)


def _checked(event: dict[str, Any]) -> dict[str, Any]:
    request = event.get("requestContext") or {}
    # The URL lets nobody in who is not signed in; a template that was changed would.
    if not (request.get("authorizer") or {}).get("iam"):
        raise _RefusedError("sign the request: this function's URL needs AuthType AWS_IAM", 403)
    if (request.get("http") or {}).get("method") != "POST":
        raise _RefusedError('POST a picture, or {"uri": "s3://bucket/key"}', 405)
    body = event.get("body") or ""
    if len(body) > 4 * MOST_BYTES // 3 + 4:
        raise _RefusedError(f"at most {MOST_BYTES} bytes: name the picture by its URI", 413)
    try:
        data = base64.b64decode(body, validate=True) if event.get("isBase64Encoded") else body.encode()
    except binascii.Error as error:
        raise _RefusedError("the body is no base64", 400) from error
    kind = str((event.get("headers") or {}).get("content-type", "")).partition(";")[0].strip().lower()
    if kind != JSON:
        return _door().check(data)
    prefixes = sources.prefixes([one for one in os.environ.get("IMAGESIEVE_DOOR_FROM", "").split(",") if one])
    return _door().check_at(sources.allowed(sources.named(data), prefixes))


def _door() -> Door:
    """Opened once in the life of the process."""
    global _open  # noqa: PLW0603 (one for a process, as Lambda has it)
    with _lock:
        if _open is None:
            _link_baked()
            pool.set_malloc()
            lake = uris.canonical(os.environ["IMAGESIEVE_LAKE"]).rstrip("/")
            _open = prepared.opened(lake, int(os.environ.get("IMAGESIEVE_DOOR_BYTES", KEPT_BYTES)))
        return _open


def _link_baked() -> None:
    """What the image holds stands in the cache as if it had been made there."""
    baked, cache = os.environ.get("IMAGESIEVE_BAKED"), os.environ.get("IMAGESIEVE_CACHE")
    if baked and cache:
        Path(cache).mkdir(parents=True, exist_ok=True)
        for each in Path(baked).iterdir():
            link = Path(cache) / each.name
            if not link.exists():
                link.symlink_to(each)


def _answer(value: dict[str, Any], status: int = 200) -> dict[str, Any]:
    text = answering.text(value) if status == 200 else json.dumps(value)
    return {"statusCode": status, "headers": {"content-type": JSON, "cache-control": "no-store"}, "body": text}
