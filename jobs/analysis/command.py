"""`imagesieve views`: the SQL of the views over a lake, for one engine, to be run there."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from jobs.analysis.views import ENGINES, script
from jobs.errors import ConfigError


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        prog="imagesieve views", allow_abbrev=False,
        description="Prints the SQL that makes views over the tables of a lake. It runs nothing and writes nothing.",
    )  # fmt: skip
    options.add_argument("--lake", required=True, metavar="URI", help="where the tables lie: a folder or s3:// prefix")
    options.add_argument("--for", required=True, choices=ENGINES, dest="engine", help="whose SQL it is to be")
    return options


def main(argv: Sequence[str]) -> int:
    """Raises RunError."""
    given = parser().parse_args(argv)
    from jobs.lakes import existing, named

    try:
        sys.stdout.write(script(given.engine, existing(named(given.lake))))
    except ValueError as error:
        raise ConfigError(f"--for {given.engine}: {error}") from error
    return 0
