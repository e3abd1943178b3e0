"""`imagesieve compact`: joins small files of a lake's tables, and deletes old versions where that is asked for."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from jobs import config
from jobs.errors import ConfigError, InputError, LakeBusyError
from jobs.lakes import existing, named, settle
from jobs.lease import LeaseHeld, LeaseLost, acquire, new_run_id
from jobs.upkeep import compacting
from udfs.stores.s3 import StoreError


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        prog="imagesieve compact",
        allow_abbrev=False,
        description="Joins small files of a lake's tables, which many batches leave. No row changes.",
    )
    options.add_argument("--lake", required=True, metavar="URI", help="where the tables lie")
    options.add_argument(
        "--keep-days", type=int, metavar="N",
        help="also delete what only versions older than N days need, 1 at least; default: nothing is deleted",
    )  # fmt: skip
    config.add_options(options)
    return options


def main(argv: Sequence[str]) -> int:
    """Prints what was done, a line for each table. Raises RunError."""
    given = parser().parse_args(argv)
    settings = config.load(given.config, given.overrides)
    if given.keep_days is not None and given.keep_days < 1:
        raise ConfigError("--keep-days: must be 1 at least")
    try:
        lake = existing(named(given.lake))
        with acquire(lake, new_run_id(), settings.lease.ttl_s) as lease:
            lease.check()
            settle(lake)
            joined = compacting.join_all(lake, lease.check)
            gone = compacting.delete_all_old(lake, given.keep_days, lease.check) if given.keep_days else {}
    except (LeaseHeld, LeaseLost) as error:
        raise LakeBusyError(str(error)) from error
    except StoreError as error:
        raise InputError(str(error)) from error
    for name, files in joined.items():
        _say(f"{name}: {files.before:,} files, now {files.after:,}")
    for name, count in gone.items():
        _say(f"{name}: {count:,} files of old versions deleted")
    if not joined and not gone:
        _say("nothing to do")
    return 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
