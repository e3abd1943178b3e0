"""Asking: a search of a lake without a server: `imagesieve search`, and the same from Python."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from jobs.errors import ConfigError, InputError
from jobs.lakes import existing, named
from jobs.serve import gallery
from jobs.serve.columns import Coded
from jobs.serve.facets.states import States
from jobs.serve.filters import Filter, FilterError
from jobs.serve.searching import MAX_PIXELS, Searches
from jobs.serve.views import Views
from udfs.errors import ImageError
from udfs.stores import fetch, uris

COUNT = 20


@dataclass(frozen=True)
class Hit:
    """A picture that was found. score: its cosine, or how sure the network is, 0..1."""

    image_id: int
    uri: str
    label: str | None
    score: float


def search(
    lake: str, like: str | None = None, text: str | None = None, where: str = "", count: int = COUNT
) -> list[Hit]:
    """The pictures most alike one, or that show what a text names, the best first.

    lake: a canonical URI. like: an image_id of the lake, the URI of an image of it, or any image file. where: filters
    as the app has them in its address, such as "label=cat&issue=". Raises LakeError, InputError, ConfigError."""
    if (like is None) == (text is None):
        raise ConfigError("search: like or text, one of the two")
    at = gallery.versions(existing(lake))
    columns = gallery.opened(lake, at)
    searches = Searches(lake, at, columns, fetch.Limits(), MAX_PIXELS)
    searches.wait()
    undecided = Coded(np.zeros(columns.images, np.uint8), [()])
    views = Views(columns, lambda: (undecided, 0), searches.find, States(lake, at["issues"]).changed)
    try:
        wanted = ("words", text) if text is not None else _like(str(like), views)
        if wanted is None:
            wanted = ("picture", searches.put(_bytes_of(str(like))))
        view = replace(Filter.of_query(where), search=wanted)
        rows = views.rows(view, 0, count).tolist()
        alike = views.similarities(view)
    except FilterError as error:
        raise InputError(str(error)) from error
    label = columns.coded("label")
    return [Hit(int(columns.id[row]), columns.uri(row), label.told(row), round(float(alike[row]), 6)) for row in rows]


def _like(like: str, views: Views) -> tuple[str, str] | None:
    """The search by an image of the lake, or None where that is none."""
    columns = views.columns
    if like.isascii() and like.isdigit() and columns.rows_of([int(like)]):
        return "like", like
    try:
        uri = uris.canonical(like, base=str(Path.cwd()))
    except ValueError:
        return None
    found = np.flatnonzero(columns.containing(uri))
    same = [row for row in found.tolist() if columns.uri(row) == uri]
    return ("like", str(int(columns.id[same[0]]))) if same else None


def _bytes_of(like: str) -> bytes:
    try:
        return fetch.fetch(fetch.Reference(uris.canonical(like, base=str(Path.cwd()))), fetch.Limits())
    except ImageError as error:
        raise InputError(f"{like}: {error.code}: {error.detail}") from error
    except ValueError as error:
        raise InputError(f"{like}: {error}") from error


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        prog="imagesieve search",
        allow_abbrev=False,
        description="Finds pictures of a lake that are like one, or show what a text names.",
    )
    options.add_argument("--lake", required=True, metavar="URI", help="where the tables lie")
    what = options.add_mutually_exclusive_group(required=True)
    what.add_argument("--like", metavar="IMAGE", help="an image_id or URI of the lake, or any image file")
    what.add_argument("--text", help="what is to be seen, in nouns")
    options.add_argument("--where", default="", metavar="QUERY", help="filters, as the app has them in its address")
    options.add_argument("--count", type=int, default=COUNT, help="(default: %(default)s)")
    return options


def main(argv: Sequence[str]) -> int:
    """Prints score, image_id and URI of each. Raises RunError."""
    given = parser().parse_args(argv)
    if given.count < 1:
        raise ConfigError(f"--count: must be 1 or more, got {given.count}")
    for hit in search(named(given.lake), given.like, given.text, given.where, given.count):
        sys.stdout.write(f"{hit.score:.4f}  {hit.image_id:>10}  {hit.uri}\n")
    return 0
