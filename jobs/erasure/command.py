"""`imagesieve forget`: deletes what a lake knows of a person's pictures."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from jobs import config
from jobs.erasure import suppression
from jobs.erasure.forgetting import Asked, forget
from jobs.errors import ConfigError, InputError, LakeBusyError
from jobs.lakes import existing, named
from jobs.lease import LeaseHeld, LeaseLost, acquire, new_run_id
from udfs.stores import uris
from udfs.stores.s3 import StoreError


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        prog="imagesieve forget",
        allow_abbrev=False,
        description="Deletes all that a lake knows of some pictures, from old versions of its tables too. Pictures "
        "themselves are not touched. It cannot be taken back.",
    )
    options.add_argument("--lake", required=True, metavar="URI", help="where the tables lie")
    options.add_argument(
        "--owner", action="append", default=[], metavar="ID", help="all pictures of an owner; may be repeated"
    )
    options.add_argument("--uri", action="append", default=[], metavar="URI", help="one picture; may be repeated")
    options.add_argument(
        "--image-id", action="append", default=[], type=int, metavar="N", help="one picture; may be repeated"
    )
    options.add_argument(
        "--may-return", action="store_true", help="pictures that an input still lists come back with the next run"
    )
    options.add_argument(
        "--allow-all-again", action="store_true",
        help="instead: whatever was forgotten so far may come back with the next run",
    )  # fmt: skip
    config.add_options(options)
    return options


def main(argv: Sequence[str]) -> int:
    """Prints what is done, and where the receipt lies. Raises RunError."""
    given = parser().parse_args(argv)
    settings = config.load(given.config, given.overrides)
    asked = _asked(given)
    if given.allow_all_again == bool(asked.owners or asked.uris or asked.ids):
        raise ConfigError("forget: name at least one of --owner, --uri, --image-id, or --allow-all-again alone")
    try:
        lake = existing(named(given.lake))
        with acquire(lake, new_run_id(), settings.lease.ttl_s) as lease:
            if given.allow_all_again:
                suppression.allow_again(lake)
                return 0
            place = forget(lake, asked, lease, given.may_return, _say)
    except (LeaseHeld, LeaseLost) as error:
        raise LakeBusyError(str(error)) from error
    except StoreError as error:
        raise InputError(str(error)) from error
    _say(f"receipt: {place}")
    return 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _asked(given: argparse.Namespace) -> Asked:
    try:
        named_uris = frozenset(uris.canonical(uri, base=str(Path.cwd())) for uri in given.uri)
    except ValueError as error:
        raise ConfigError(f"--uri: {error}") from error
    if "" in given.owner:
        raise ConfigError("--owner: must not be empty")
    return Asked(frozenset(given.owner), named_uris, frozenset(given.image_id))
