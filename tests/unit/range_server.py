"""A small S3 server for tests: objects in memory, ranges, and a record of what was asked for."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import pytest

from tests import s3_server


class Store:
    """objects: by key of the bucket `b`. asked: (key, first byte, length) of each GET, in order. short: keys of which
    an answer has one byte less than asked for."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.asked: list[tuple[str, int, int]] = []
        self.heads = 0
        self.short: set[str] = set()
        self.lock = threading.Lock()


@contextmanager
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A store that the environment of this process points at."""
    store = Store()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            with store.lock:
                store.heads += 1
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, *, with_body: bool) -> None:
            key = unquote(self.path.partition("?")[0]).removeprefix("/b/")
            data = store.objects.get(key)
            if data is None:
                self._send(404, b"<Error><Code>NoSuchKey</Code></Error>" if with_body else b"", [])
                return
            asked = self.headers.get("Range")
            if asked is None:
                self._send(200, data if with_body else b"", [("Content-Length", str(len(data)))])
                return
            start, end = (int(part) for part in asked.removeprefix("bytes=").split("-"))
            with store.lock:
                store.asked.append((key, start, end - start + 1))
            if start >= len(data):
                self._send(416, b"<Error><Code>InvalidRange</Code></Error>", [])
                return
            part = data[start : end + 1]
            part = part[:-1] if key in store.short else part
            self._send(206, part, [("Content-Range", f"bytes {start}-{start + len(part) - 1}/{len(data)}")])

        def _send(self, status: int, body: bytes, extra: list[tuple[str, str]]) -> None:
            self.send_response(status)
            for name, value in [*extra, ("ETag", '"e"'), ("Last-Modified", formatdate(0, usegmt=True))]:
                self.send_header(name, value)
            if not any(name == "Content-Length" for name, _ in extra):
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_args: object) -> None:
            """A client that hangs up is part of the test."""

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02), daemon=True).start()
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name, value in s3_server.environment(f"http://127.0.0.1:{server.server_address[1]}").items():
        monkeypatch.setenv(name, value)
    try:
        yield store
    finally:
        server.shutdown()
        server.server_close()
