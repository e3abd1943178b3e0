"""The app inside a notebook: a server in a process of its own that ends with the kernel, and a frame that shows it."""

from __future__ import annotations

import atexit
import contextlib
import html
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from jobs.errors import ConfigError, LakeError, MachineError, RunError

START_S = 60.0  # that a server may take to say where it listens
END_S = 10.0  # and to end, before it is killed
NOTEBOOK_PORT = 8888  # of a notebook server of which nothing is known
_KINDS: dict[int, type[RunError]] = {kind.exit_code: kind for kind in (ConfigError, LakeError, MachineError)}
_HOST = re.compile(r"[a-z0-9.-]+")
_MARK = "inside another page: "
_running: dict[tuple[str, ...], Server] = {}
_lock = threading.Lock()


class Shown:
    """The app of a lake. In a notebook it is shown in place. url: for a tab of the browser, until it is closed."""

    def __init__(self, server: Server, query: str, height: int) -> None:
        self.url = server.url + (f"?{query}" if query else "")
        self._server, self._height = server, height

    def __repr__(self) -> str:
        return f"Shown({self.url!r})"

    def _repr_html_(self) -> str:
        url = html.escape(self.url)
        return (
            f'<iframe src="{url}" width="100%" height="{self._height}" style="border:0" title="imagesieve" '
            f'referrerpolicy="no-referrer"></iframe><div><a href="{url}" target="_blank" rel="noreferrer">'
            "in a tab of its own</a></div>"
        )

    def close(self) -> None:
        """Ends the server, and with it all that it shows."""
        self._server.close()


class Server:
    """`imagesieve serve` in a process of its own, which ends when this one does, however that ends. arguments: of the
    command. Raises RunError where it does not start."""

    def __init__(self, arguments: Sequence[str]) -> None:
        with tempfile.TemporaryFile("w+b") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "imagesieve", "serve", "--until-stdin-ends", *arguments],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
                start_new_session=True,  # an interrupt of a cell is not for it
            )  # fmt: skip
            self.url, self.owner = "", os.getpid()
            reading = threading.Thread(target=self._read, daemon=True)
            reading.start()
            reading.join(START_S)
            if not self.url:
                self.close()
                said.seek(0)
                lines = said.read()[-20_000:].decode(errors="replace").splitlines()
                kind = _KINDS.get(self._process.returncode, MachineError)
                raise kind(lines[-1].removeprefix("imagesieve: ") if lines else "the app did not start")

    @property
    def is_there(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()  # which it waits for
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            text = line.decode(errors="replace").strip()
            if text.startswith(_MARK):
                self.url = text.removeprefix(_MARK)
                return


def show(lake: str, query: str, height: int, origins: Sequence[str], is_read_only: bool) -> Shown:
    """Shows a lake by a server that is there, or a new one. lake: canonical. query: of the app's address. origins: of
    the notebook's page, found where there are none. Raises RunError."""
    from jobs.serve.filters import Filter, FilterError

    try:
        Filter.of_query(query)
    except FilterError as error:
        raise ConfigError(f"show: {error}") from error
    if not 100 <= height <= 10_000:
        raise ConfigError(f"show: height must be 100..10000 pixels, got {height}")
    arguments = ["--lake", lake, "--port", "0", "--no-browser"]
    arguments += [part for origin in origins or notebook_origins() for part in ("--embed", origin)]
    arguments += ["--read-only"] if is_read_only else []
    with _lock:
        server = _running.get(tuple(arguments))
        if server is None or not server.is_there:
            server = _running[tuple(arguments)] = Server(arguments)
    return Shown(server, query, height)


def query_of(where: str, filters: dict[str, Any]) -> str:
    """A query of the app's address from one and filters by name, each a value or a list. Raises ConfigError."""
    from jobs.serve.filters import CHANGES, FACETS, SEARCHES

    known = {*FACETS, *SEARCHES, *CHANGES, "score", "text", "cluster", "folder", "sort"} - {"picture"}
    pairs = []
    for name, value in filters.items():
        if name not in known:
            raise ConfigError(f"show: no filter {name!r}; there are {', '.join(sorted(known))}")
        pairs += [(name, str(each)) for each in (value if isinstance(value, list | tuple) else [value])]
    return "&".join(part for part in (where, urlencode(pairs)) if part)


def notebook_origins() -> list[str]:
    """Origins of the page of the notebook server that has started this kernel, else of one at its usual port."""
    scheme, port, names = "http", NOTEBOOK_PORT, {"localhost", "127.0.0.1"}
    parent = os.environ.get("JPY_PARENT_PID", "")
    with contextlib.suppress(ImportError, OSError, ValueError, KeyError, TypeError):
        from jupyter_core.paths import jupyter_runtime_dir  # which every kernel has

        told = json.loads((Path(jupyter_runtime_dir()) / f"jpserver-{int(parent)}.json").read_text(encoding="utf-8"))
        address = urlsplit(str(told["url"]))
        if address.scheme in ("http", "https"):
            scheme, port = address.scheme, int(told["port"])
            names |= {address.hostname} if address.hostname and _HOST.fullmatch(address.hostname) else set()
    return [f"{scheme}://{name}:{port}" for name in sorted(names)]


@atexit.register
def _close_all() -> None:
    for server in _running.values():
        if server.owner == os.getpid() and server.is_there:  # not in a fork
            server.close()
