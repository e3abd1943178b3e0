"""`imagesieve check`: what a lake would say of a picture, without a server; the same from Python."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from jobs.errors import InputError, LakeError
from jobs.lakes import existing, named
from jobs.serve import gallery
from jobs.serve.door import answering, prepared
from jobs.serve.door.answering import Door
from jobs.serve.searching import MAX_PIXELS, Searches
from udfs.errors import ACCESS_DENIED, FETCH_FAILED, NOT_FOUND, TIMEOUT
from udfs.networks.models import ModelError
from udfs.stores import fetch, uris
from udfs.stores.s3 import StoreError

NOT_THERE = (NOT_FOUND, ACCESS_DENIED, TIMEOUT, FETCH_FAILED)  # of these nothing is known of the picture


def check(lake: str, picture: str | bytes) -> dict[str, Any]:
    """What the lake would say of a picture: see docs/door.md. lake: a canonical URI. picture: a path, an s3:// URI, or
    the bytes of an image file. Nothing is written to the lake. Raises LakeError, InputError."""
    try:
        door = _door(lake, tuple(sorted(gallery.versions(existing(lake)).items())))
        if isinstance(picture, bytes):
            return door.check(picture)
        answer = door.check_at(uris.canonical(picture, base=str(Path.cwd())))
    except ModelError as error:
        raise LakeError(str(error)) from error
    except StoreError as error:
        raise InputError(str(error)) from error
    except ValueError as error:
        raise InputError(f"{picture[:200]!r}: {error}") from error
    if answer["error"] and answer["error"]["code"] in NOT_THERE:
        raise InputError(f"{picture[:200]}: {answer['error']['code']}: {answer['error']['detail']}")
    return answer


def prepare(lake: str) -> str:
    """Keeps under the lake what a door elsewhere needs, and returns where. Raises LakeError, InputError."""
    at = gallery.versions(existing(lake))
    try:
        return prepared.put(lake, at, _door(lake, tuple(sorted(at.items()))))
    except (ModelError, StoreError) as error:
        raise LakeError(str(error)) from error


@lru_cache(1)
def _door(lake: str, versions: tuple[tuple[str, int | None], ...]) -> Door:
    """Kept while the lake stays as it is: to open it takes seconds."""
    at = dict(versions)
    columns = gallery.opened(lake, at)
    searches = Searches(lake, at, columns, fetch.Limits(), MAX_PIXELS)
    door = answering.opened(lake, at, columns, searches)
    searches.wait()
    return door


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        prog="imagesieve check", allow_abbrev=False,
        description="Says as JSON what a lake would say of a picture that it does not have; writes nothing to it.",
    )  # fmt: skip
    what = options.add_mutually_exclusive_group(required=True)
    what.add_argument("picture", nargs="?", metavar="FILE|URI", help="an image file, or s3://bucket/key")
    what.add_argument("--prepare", action="store_true", help="keep under the lake what a door elsewhere needs")
    options.add_argument("--lake", required=True, metavar="URI", help="where the tables lie")
    return options


def main(argv: Sequence[str]) -> int:
    """Raises RunError, InputError where the picture cannot be read from where it lies."""
    given = parser().parse_args(argv)
    lake = named(given.lake)
    sys.stdout.write((prepare(lake) if given.prepare else answering.text(check(lake, given.picture))) + "\n")
    return 0
