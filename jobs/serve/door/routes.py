"""Routes of the door: POST /api/check gets a picture, or names one, and is told what the lake would say of it."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jobs.errors import RunError
from jobs.serve.door import answering, sources
from jobs.serve.door.answering import Door
from jobs.serve.door.sources import SourceError
from jobs.serve.lake_app import App, NotReadyError
from udfs.stores.s3 import StoreError

MOST_BYTES = 64 << 20  # of a picture; less where the lake reads less
MOST_JSON = 16 << 10
BODY_S = 30.0  # in which a body has to be there
AT_ONCE = 2 * (os.cpu_count() or 1)  # pictures
AGAIN_S = 60.0  # between looks at whether the lake has changed
JSON = "application/json"


class Gate:
    """The door of an app, opened in a thread, and again when the lake has changed. sources: of sources.prefixes."""

    def __init__(self, app: App, prefixes: Sequence[str]) -> None:
        self._app, self._sources = app, tuple(prefixes)
        self._door: Door | None = None
        self._fault, self._busy = "", 0
        self._of: object = None
        self._ended = threading.Event()
        threading.Thread(target=self._look_after, name="door", daemon=True).start()

    def routes(self) -> list[Route]:
        return [
            Route("/api/check", self._check, methods=["POST"]),
            Route("/api/check", self._state, methods=["GET"]),
        ]

    def close(self) -> None:
        self._ended.set()

    def _look_after(self) -> None:
        while not self._ended.is_set():
            try:
                if self._door is not None:
                    self._app.refresh()
                now = self._app.open
                if now is not self._of:
                    door = answering.opened(self._app.uri, now.at, now.columns, now.searches)
                    now.searches.wait()
                    self._door, self._of, self._fault = door, now, ""
            except NotReadyError as error:
                self._fault = str(error)
            except Exception as error:  # whoever asks is told; it may pass
                self._fault = " ".join(str(error).split()) or type(error).__name__
            self._ended.wait(AGAIN_S if self._door is not None else 0.5)

    async def _state(self, request: Request) -> Response:
        door = self._door
        told = {"ready": door is not None, "fault": self._fault or None}
        return _json({**told, "images": door.columns.images if door else None})

    async def _check(self, request: Request) -> Response:
        door = self._door
        if door is None:
            return _refused(self._fault or "the door is being opened", 503)
        if self._busy >= AT_ONCE:
            return _refused(f"{AT_ONCE} pictures are being looked at: come again", 429)
        self._busy += 1
        try:
            return await self._checked(door, request)
        except SourceError as error:
            return _refused(str(error), error.status)
        except TimeoutError:
            return _refused(f"the body was not there within {BODY_S:g} s", 408)
        finally:
            self._busy -= 1

    async def _checked(self, door: Door, request: Request) -> Response:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() == JSON:
            uri = sources.allowed(sources.named(await _body(request, MOST_JSON)), self._sources)
            return await run_in_threadpool(_answered, door.check_at, uri)
        data = await _body(request, min(MOST_BYTES, door.settings.max_bytes))
        return await run_in_threadpool(_answered, door.check, data)


async def _body(request: Request, most: int) -> bytes:
    """Raises SourceError where it is longer, before it is read where the request says so, and TimeoutError."""
    told = request.headers.get("content-length", "")
    if told.isascii() and told.isdigit() and int(told[:19]) > most:
        raise SourceError(f"at most {most} bytes", 413)
    data = bytearray()
    async with asyncio.timeout(BODY_S):
        async for part in request.stream():
            data += part
            if len(data) > most:
                raise SourceError(f"at most {most} bytes", 413)
    return bytes(data)


def _answered(ask: Any, given: Any) -> Response:
    begun = time.perf_counter()
    try:
        answer = _json(ask(given))
    except StoreError as error:
        return _refused(str(error), 502)
    except RunError as error:
        return _refused(str(error), 503)
    except Exception:  # a fault of ours: told to who looks at the server, and no end of it
        traceback.print_exc(file=sys.stderr)
        return _refused("a fault of imagesieve; the server's own output says more", 500)
    answer.headers["server-timing"] = f"check;dur={1000 * (time.perf_counter() - begun):.2f}"
    return answer


def _json(value: Any, status: int = 200) -> Response:
    data = answering.text(value).encode("utf-8", "replace")
    return Response(data, status, headers={"cache-control": "no-store"}, media_type=JSON)


def _refused(detail: str, status: int) -> Response:
    """Who is refused before the body was read keeps no connection."""
    answer = _json({"detail": detail}, status)
    if status in (408, 413, 429, 503):
        answer.headers["connection"] = "close"
    if status in (429, 503):
        answer.headers["retry-after"] = "1"
    return answer
