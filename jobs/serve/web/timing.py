"""Timing: how long the app itself took for an answer, apart from what lies between it and who asked."""

from __future__ import annotations

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Timed:
    """ASGI middleware that says in a header how long the app took, in milliseconds, until its answer began."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = time.perf_counter()

        async def timed(message: Message) -> None:
            if message["type"] == "http.response.start":
                took = f"app;dur={1000 * (time.perf_counter() - begun):.2f}"
                message["headers"] = [*message.get("headers", ()), (b"server-timing", took.encode())]
            await send(message)

        await self._app(scope, receive, timed)
