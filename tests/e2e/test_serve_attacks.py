"""Catches a client of this machine that ends the app, or keeps others from it, without knowing the token."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from jobs.serve import command
from jobs.serve.web import connections
from tests.bench import serve_lake
from tests.e2e import apps
from tests.e2e.apps import AppProcess

ASKING = 1000  # at once


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppProcess]:
    folder = tmp_path_factory.mktemp("attacked")
    serve_lake.write(folder / "lake", 400, labels=7)
    with apps.serving(folder / "lake", folder / "cache") as found:
        yield found


def status_of(connection: socket.socket) -> int:
    """0 where it was closed with no answer."""
    try:
        answer = connection.recv(64)
    except OSError:
        return 0
    return int(answer.split(b" ")[1]) if answer else 0


def test_a_thousand_at_once(app: AppProcess) -> None:
    """More connections than it takes: each is answered or told to come again, and it lives."""

    def ask(_: int) -> int:
        with app.connected() as connection:
            connection.sendall(app.head("/api/facets"))
            return status_of(connection)

    with ThreadPoolExecutor(ASKING) as pool:
        told = Counter(pool.map(ask, range(ASKING)))
    assert set(told) <= {200, 503, 0}
    assert told[200] >= 1
    assert app.lives()


def test_those_that_say_nothing_go(app: AppProcess) -> None:
    """As many silent connections as it takes would keep everybody out."""
    silent = [app.connected() for _ in range(command.MOST_AT_ONCE + 20)]
    for number, connection in enumerate(silent):
        if number % 2:
            connection.sendall(b"GET /api/lake HTTP/1.1\r\nx: ")  # and no more of it
    begun = time.monotonic()
    while time.monotonic() - begun < connections.HEAD_S + 20:
        if all(status_of(connection) == 0 for connection in silent):
            break
    assert time.monotonic() - begun < connections.HEAD_S + 10
    for connection in silent:
        connection.close()
    assert app.lives()


def test_a_head_without_an_end(app: AppProcess) -> None:
    before = app.bytes_used()
    with app.connected() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nx: ")
        sent = 0
        try:
            while sent < 200 << 20:
                sent += connection.send(b"a" * (1 << 16))
        except OSError:
            pass
    assert sent < 100 << 20
    assert app.bytes_used() - before < 50 << 20
    assert app.lives()


def test_the_refused_keep_no_connection(app: AppProcess) -> None:
    """A body that never ends, of one who does not know the token."""
    with app.connected() as connection:
        host = f"{app.place[0]}:{app.place[1]}"
        head = f"POST /api/decide HTTP/1.1\r\nhost: {host}\r\nx-imagesieve: 1\r\ncontent-length: 999999999\r\n\r\n"
        connection.sendall(head.encode())
        answer = b""
        while part := connection.recv(1 << 16):
            answer += part
    assert answer.startswith(b"HTTP/1.1 401")
    assert app.lives()


def test_a_long_body_of_one_who_knows_passes(app: AppProcess) -> None:
    """The bound of a head is not one of bodies."""
    body = b" " * (1 << 20) + b'{"ids": [1], "decision": "keep"}'
    head = app.head("/api/decide").replace(b"GET", b"POST").replace(b"\r\n\r\n", b"\r\nx-imagesieve: 1\r\n")
    with app.connected() as connection:
        connection.sendall(head + f"content-length: {len(body)}\r\n\r\n".encode() + body)
        assert status_of(connection) == 200
