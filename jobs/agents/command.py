"""`imagesieve mcp`: a lake for agents, by the Model Context Protocol over stdin and stdout."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence

from jobs.errors import ConfigError

NAME = re.compile(r"[\w.@-]{1,60}", re.ASCII)


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        prog="imagesieve mcp", allow_abbrev=False,
        description="Lets an agent look into a lake, as a server of the Model Context Protocol over stdin and stdout.",
    )  # fmt: skip
    options.add_argument("--lake", required=True, metavar="URI", help="where the tables lie")
    options.add_argument("--allow-decisions", action="store_true", help="it may decide, too; else it only looks")
    options.add_argument("--name", default="mcp", help="decisions are recorded as of agent:NAME (default: %(default)s)")
    options.add_argument(
        "--files", action="append", default=[], metavar="FOLDER",
        help="pictures in this folder may be searched by; may be given several times (default: none)",
    )  # fmt: skip
    return options


def main(argv: Sequence[str]) -> int:
    """Serves until stdin ends. Raises RunError."""
    given = parser().parse_args(argv)
    if not NAME.fullmatch(given.name):
        raise ConfigError(f"--name: letters, digits and . _ - @, at most 60, got {given.name[:80]!r}")
    try:
        import mcp  # noqa: F401
    except ImportError:
        raise ConfigError('mcp needs more packages: pip install "imagesieve[mcp]"') from None
    from jobs.agents import folders
    from jobs.agents.asked import Asked
    from jobs.agents.tools import server
    from jobs.lakes import named
    from jobs.serve.batches import agent
    from jobs.serve.lake_app import App
    from jobs.serve.searching import MAX_PIXELS
    from udfs.children import pool
    from udfs.stores import fetch

    try:
        files = folders.resolved(given.files)
    except ValueError as error:
        raise ConfigError(f"--files: {error}") from error
    pool.set_malloc()
    app = App(named(given.lake), agent(given.name), not given.allow_decisions, fetch.Limits(), MAX_PIXELS)
    try:
        server(Asked(app, files), given.allow_decisions).run("stdio")
    except KeyboardInterrupt:
        pass
    finally:
        app.close()
    return 0
