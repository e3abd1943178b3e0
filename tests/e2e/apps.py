"""The app of a lake as a process of its own, asked over HTTP."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2 as httpx
import psutil

from tests.e2e import lakes


class AppProcess:
    """place: host and port."""

    def __init__(self, lake: Path | str, cache: Path, *more: str, **environment: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "imagesieve", "serve", "--lake", str(lake), "--no-browser", "--port", "0", *more],
            env=lakes.clean_environment(IMAGESIEVE_CACHE=str(cache), **environment),
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        address = urlsplit(next(line.strip() for line in self._process.stdout if line.startswith("http")))
        self.place = (address.hostname or "", address.port or 0)
        self._token = parse_qs(address.query)["token"][0]
        self.client = httpx.Client(
            base_url=f"http://{self.place[0]}:{self.place[1]}", timeout=60,
            headers={"authorization": f"Bearer {self._token}", "x-imagesieve": "1"},
        )  # fmt: skip

    def get(self, path: str) -> Any:
        """What JSON is answered. Raises httpx.HTTPStatusError."""
        answer = self.client.get(path)
        answer.raise_for_status()
        return answer.json()

    def lives(self) -> bool:
        """Whether it answers one who knows the token, and has its lake open."""
        for _ in range(100):
            try:
                if self.get("/api/lake")["ready"]:
                    return True
            except (httpx.TransportError, httpx.HTTPStatusError):
                pass
            time.sleep(0.2)
        return False

    def connected(self) -> socket.socket:
        return socket.create_connection(self.place, timeout=20)

    def head(self, path: str = "/api/lake") -> bytes:
        """A request as bytes."""
        host = f"{self.place[0]}:{self.place[1]}"
        return f"GET {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {self._token}\r\n\r\n".encode()

    def bytes_used(self) -> int:
        return int(psutil.Process(self._process.pid).memory_info().rss)

    def close(self) -> None:
        self.client.close()
        self._process.terminate()
        self._process.wait()


@contextmanager
def serving(lake: Path | str, cache: Path, *more: str, **environment: str) -> Iterator[AppProcess]:
    """An app that has its lake open, until the block ends."""
    app = AppProcess(lake, cache, *more, **environment)
    try:
        assert app.lives()
        yield app
    finally:
        app.close()
