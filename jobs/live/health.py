"""Health: whether a watch lives and is ready, and its figures, over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from jobs.errors import ConfigError
from jobs.live.figures import Figures

TIMEOUT_S = 5.0  # of one request


@contextmanager
def serving(figures: Figures, host: str, port: int) -> Iterator[int]:
    """Answers GET /live, /ready and /metrics while inside: 200, or 503 with the reason. Yields the port; 0: a free one.

    Raises ConfigError where it cannot listen there."""
    try:
        server = _Server((host, port), type("Handler", (_Handler,), {"figures": figures}))
    except (OSError, OverflowError) as error:
        raise ConfigError(f"--health: cannot listen at {host}:{port}: {error}") from error
    thread = threading.Thread(target=server.serve_forever, name="health", daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 16

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever breaks off is not worth a line."""


class _Handler(BaseHTTPRequestHandler):
    figures: Figures
    timeout = TIMEOUT_S
    server_version = "imagesieve"
    sys_version = ""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._answer(200, self.figures.text())
        elif path in ("/live", "/ready"):
            why = self.figures.not_live() if path == "/live" else self.figures.not_ready()
            self._answer(503 if why else 200, (why or "ok") + "\n")
        else:
            self._answer(404, "GET /live, /ready or /metrics\n")

    def _answer(self, status: int, text: str) -> None:
        body = text.encode("utf-8", "replace")
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Whoever looks every few seconds is not worth a line each."""
