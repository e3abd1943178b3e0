"""`imagesieve serve`: a lake in the browser."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import ipaddress
import os
import re
import secrets
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.errors import ConfigError

if TYPE_CHECKING:
    import uvicorn
    from starlette.routing import Route

    from jobs.serve.lake_app import App
    from jobs.serve.web.guard import Embedding

PORT = 8765
VARIANTS_MARK = "imagesieve-variants"
M_MMAP_THRESHOLD = -3  # of mallopt(3)
MOST_AT_ONCE = 128  # requests; more are told to come again


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        prog="imagesieve serve", allow_abbrev=False,
        description="Shows a lake in the browser: look, search, decide. It asks no other host, and tells nobody.",
    )  # fmt: skip
    options.add_argument(
        "--lake", required=True, metavar="URI", help="where the tables lie: a folder or an s3:// prefix"
    )
    options.add_argument("--port", type=int, help=f"(default: {PORT}, or a free one)")
    options.add_argument("--read-only", action="store_true", help="no decisions")
    options.add_argument("--user", help="whose decisions these are (default: the name of this account)")
    options.add_argument("--no-browser", action="store_true", help="print the address and open nothing")
    options.add_argument("--host", default="127.0.0.1", help="the address to listen at (default: %(default)s)")
    options.add_argument(
        "--allow-remote", action="store_true", help="other hosts than this one may ask; needs TLS files"
    )
    options.add_argument(
        "--embed", action="append", default=[], metavar="ORIGIN",
        help="a page of this origin may show the app inside it, such as http://localhost:8888; may be repeated",
    )  # fmt: skip
    options.add_argument(
        "--variants", metavar="PLACE",
        help="a folder or an s3:// prefix where variants of pictures are kept for a day (default: in memory alone)",
    )  # fmt: skip
    options.add_argument("--door", action="store_true", help="POST a picture to /api/check, to be told of it")
    options.add_argument(
        "--door-from", action="append", default=[], metavar="PREFIX",
        help="such as s3://bucket/incoming: pictures there may be named to the door by their URI; may be repeated",
    )  # fmt: skip
    options.add_argument("--token-file", metavar="FILE", help="with the token to ask for (default: a new one)")
    options.add_argument("--until-stdin-ends", action="store_true", help="end when who has started it does")
    options.add_argument("--tls-certificate", metavar="FILE")
    options.add_argument("--tls-key", metavar="FILE")
    return options


def main(argv: Sequence[str]) -> int:
    """Serves until it is interrupted. Raises RunError."""
    given = parser().parse_args(argv)
    tls = given.tls_certificate, given.tls_key
    _check_host(given.host, given.allow_remote, all(tls))
    try:
        import starlette  # noqa: F401
        import uvicorn
    except ImportError:
        raise ConfigError('serve needs more packages: pip install "imagesieve[serve]"') from None
    from jobs.lakes import named
    from jobs.serve.batches import account
    from jobs.serve.lake_app import App
    from jobs.serve.searching import MAX_PIXELS
    from jobs.serve.server import application
    from jobs.serve.web.connections import Connection
    from jobs.serve.web.guard import Guard
    from udfs.stores import fetch

    _return_memory()
    embedding = _embedding(given.embed)
    token = _token(given.token_file) if given.token_file else secrets.token_urlsafe(24)
    door = _door(given.door, given.door_from)
    lake = named(given.lake)
    listening = _listening(given.host, given.port)
    port = listening.getsockname()[1]
    try:
        app = App(
            lake, given.user or account(), given.read_only, fetch.Limits(), MAX_PIXELS, _variants(given.variants, lake)
        )
    except BaseException:
        listening.close()
        raise
    _fork_children()  # not before: it holds for the whole process
    shown = _bracketed("127.0.0.1" if given.host == "0.0.0.0" else given.host)  # noqa: S104 (compared, not bound)
    hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]", shown, socket.gethostname().lower())}
    guarded = Guard(application(app, door(app)), frozenset(hosts), token, port, all(tls), embedding)
    base = f"{'https' if all(tls) else 'http'}://{shown}:{port}"
    address = f"{base}/?token={token}"
    # Who has written the token into a file knows it, and logs shall not.
    told = [lake, f"{base}/" if given.token_file else address]
    _say([*told, f"inside another page: {base}{embedding.path}"] if embedding else told)
    if not given.no_browser:
        webbrowser.open(address)
    settings = uvicorn.Config(
        guarded, http=Connection, ws="none", log_level="error", access_log=False, server_header=False,
        date_header=False, lifespan="off", limit_concurrency=MOST_AT_ONCE, timeout_keep_alive=30,
        ssl_certfile=tls[0], ssl_keyfile=tls[1], timeout_graceful_shutdown=3,
    )  # fmt: skip
    server = uvicorn.Server(settings)
    if given.until_stdin_ends:
        threading.Thread(target=_end_with_stdin, args=[server], name="stdin", daemon=True).start()
    try:
        server.run(sockets=[listening])
    except KeyboardInterrupt:
        pass
    finally:
        app.close()
    return 0


def _say(lines: Sequence[str]) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in (*lines, "Ctrl-C ends it.")))
    sys.stdout.flush()


def _door(is_open: bool, given: Sequence[str]) -> Callable[[App], Sequence[Route]]:
    """What makes the routes of the door of an app; none where it is shut. Raises ConfigError."""
    from jobs.serve.door import sources
    from jobs.serve.door.routes import Gate

    prefixes = sources.prefixes(given)
    if prefixes and not is_open:
        raise ConfigError("--door-from: add --door")
    return lambda app: Gate(app, prefixes).routes() if is_open else ()


def _return_memory() -> None:
    """Arrays of four megabytes and more are given back to the system as soon as they are not needed; glibc would keep
    some for ever."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 4 << 20)


def _check_host(host: str, allow_remote: bool, has_tls: bool) -> None:
    try:
        is_own = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_own = False
    if not is_own and not (allow_remote and has_tls):
        raise ConfigError(
            f"--host {host}: other hosts could ask; add --allow-remote, --tls-certificate and --tls-key if they may"
        )


def _listening(host: str, port: int | None) -> socket.socket:
    """A socket at the port; without one at PORT, or at a free one where that is taken. Raises ConfigError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for tried in [port] if port is not None else [PORT, 0]:
        found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind((host, tried))
        except (OSError, OverflowError) as error:
            found.close()
            fault: Exception = error
            continue
        found.listen(256)
        return found
    raise ConfigError(f"--port: cannot listen at {host}:{port}: {fault}")


def _variants(given: str | None, lake: str) -> str | None:
    """Where variants are kept. Raises ConfigError: what lies there besides would be deleted with them."""
    from udfs.stores import objects, uris

    if given is None:
        return None
    try:
        place = uris.canonical(given, base=os.getcwd()).rstrip("/")  # noqa: PTH109 (a text)
        objects.check_access(place, must_exist=False)
        if place == lake or place.startswith(f"{lake}/") or lake.startswith(f"{place}/"):
            raise ConfigError(f"--variants {given}: must be apart from the lake")
        if not uris.is_s3(place) and objects.has_any(place) and not objects.exists(uris.join(place, VARIANTS_MARK)):
            raise ConfigError(f"--variants {given}: is not empty, and was not made for variants: name another folder")
        objects.put(uris.join(place, VARIANTS_MARK), b"imagesieve serve --variants\n")
    except ValueError as error:
        raise ConfigError(f"--variants: {error}") from error
    return place


def _embedding(given: Sequence[str]) -> Embedding | None:
    from jobs.serve.web.guard import Embedding, origins

    try:
        return Embedding(secrets.token_urlsafe(24), origins(given)) if given else None
    except ValueError as error:
        raise ConfigError(f"--embed: {error}") from error


def _token(file: str) -> str:
    """The token in a file that nobody else may read. Raises ConfigError."""
    try:
        path = Path(file)
        text, mode = path.read_text(encoding="ascii").strip(), path.stat().st_mode
    except (OSError, ValueError) as error:
        raise ConfigError(f"--token-file {file}: cannot be read ({error})") from error
    if mode & 0o077:
        raise ConfigError(f"--token-file {file}: others may read it: chmod 600")
    if not re.fullmatch(r"[A-Za-z0-9_-]{32,256}", text):
        raise ConfigError(f"--token-file {file}: must hold 32 to 256 of A-Z a-z 0-9 _ -, and nothing else")
    return text


def _end_with_stdin(server: uvicorn.Server) -> None:
    while os.read(0, 4096):
        pass
    server.should_exit = True


def _fork_children() -> None:
    """Children of the decoder start in hundredths of a second."""
    from udfs.children import forks, pool

    pool.set_malloc()
    if forks.can_fork():
        pool.start_by(forks.ForkServer())


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
