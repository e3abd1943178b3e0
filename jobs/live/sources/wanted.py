"""Wanted: which objects belong into a lake, by their names: as a listing of its inputs would take them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_from_bytes

from jobs.engines import datasets, delta_log
from jobs.errors import ConfigError, InputError, LakeError
from jobs.inputs.sources import REPORTED, below, find_source
from udfs.stores import listing, shards, uris

FILE = "file://"
ELSEWHERE, NO_IMAGE, SHARD = "elsewhere", "no_image", "shard"


@dataclass(frozen=True)
class Catalogued:
    """What a lake was last listed with. inputs: as they were given then."""

    inputs: tuple[str, ...]
    extensions: frozenset[str]
    shards: frozenset[str]


@dataclass(frozen=True)
class Wanted:
    """Which objects are taken. places: canonical URIs that end in `/`. extensions, shards: endings, in lower case.
    leave_out: URIs that end in `/`, of what is never an image."""

    places: tuple[str, ...]
    extensions: frozenset[str]
    shards: frozenset[str]
    leave_out: tuple[str, ...]

    def why_not(self, uri: str) -> str:
        """ "" for one that is taken, else ELSEWHERE, NO_IMAGE, or SHARD: it holds images, and is for a whole run."""
        place = next((place for place in self.places if uri.startswith(place)), None)
        if place is None or uri.startswith(self.leave_out):
            return ELSEWHERE
        name = uri[len(place) :]
        if not name or name.endswith("/") or listing.is_hidden(name) or REPORTED.search(uri):
            return NO_IMAGE
        ending = shards.ending(name)
        if ending in self.extensions:
            return ""
        return SHARD if ending in self.shards else NO_IMAGE


def catalogued(lake: str) -> Catalogued:
    """lake: a canonical URI. Raises LakeError where nothing was ever listed."""
    import pyarrow.compute as pc

    if delta_log.version(uris.join(lake, "runs")) is None:
        raise LakeError(f"{lake}: nothing is catalogued: run `imagesieve run` first")
    runs = datasets.dataset(lake, "runs")
    listed = (pc.field("job") == "catalog") & (pc.field("status") == "done")
    # In two steps: a row's config is some kilobytes, its time eight bytes.
    newest = pc.max(runs.to_table(columns=["started_at"], filter=listed)["started_at"])
    if newest.as_py() is None:
        raise LakeError(f"{lake}: nothing is catalogued: run `imagesieve run` first")
    text = runs.to_table(columns=["config"], filter=listed & (pc.field("started_at") == newest))["config"][0].as_py()
    try:
        settings: dict[str, Any] = json.loads(text)["settings"]
        return Catalogued(
            tuple(map(str, settings["inputs"])),
            frozenset(str(one).lower() for one in settings["extensions"]),
            frozenset(map(str, settings["shards"])),
        )
    except (ValueError, KeyError, TypeError) as error:
        told = f"what it was catalogued with cannot be read ({error})"
        raise LakeError(f"{lake}: {told}: run `imagesieve run`") from error


def in_buckets(lake: str, prefixes: Sequence[str]) -> Wanted:
    """What of S3 is taken: below these prefixes, or those that the lake was made of.

    Raises ConfigError, LakeError, and InputError for an input of the lake's that cannot be looked at."""
    known = catalogued(lake)
    places = [_prefix(one) for one in prefixes]
    if not places:
        sources = [find_source(one) for one in known.inputs if one.lower().startswith(("s3:", "s3a:", "s3n:"))]
        places = [source.uri for source in sources if source.kind == "folder"]
    if not places:
        raise ConfigError(
            f"{lake} was not made of a prefix of S3 (but of {', '.join(known.inputs)[:200]}): name some with --prefix"
        )
    return Wanted(below(tuple(places)), known.extensions, known.shards, below((lake,)))


def in_folder(lake: str, folder: str) -> Wanted:
    """What of a local folder is taken. folder: as it was given. Raises ConfigError, InputError, LakeError."""
    known = catalogued(lake)
    try:
        root = uris.canonical(folder)
    except ValueError as error:
        raise ConfigError(f"--folder: {error}") from error
    if uris.is_s3(root):
        raise ConfigError(f"--folder: {folder} is on S3: --queue takes its events")
    if find_source(folder).kind != "folder":
        raise InputError(f"--folder: {folder} is no folder of images")
    own = below((lake,))
    if below((root,))[0].startswith(own):
        raise ConfigError(f"--folder: {folder} lies in the lake itself")
    return Wanted(spellings(root), known.extensions, known.shards, own)


def spellings(folder: str) -> tuple[str, ...]:
    """How URIs below a local folder begin, `/` at the end: those of names that are not UTF-8 are spelled in another
    way. folder: a canonical URI."""
    quoted = FILE + quote_from_bytes(uris.local_path(folder)).rstrip("/") + "/"
    return (quoted,) if folder.startswith(FILE) else (folder.rstrip("/") + "/", quoted)


def beyond(lake: str, wanted: Wanted) -> list[str]:
    """Places that no input of the lake covers: the next whole run takes out what came from there, unless it is told of
    them."""
    inputs: list[str] = []
    for one in catalogued(lake).inputs:
        try:
            uri = uris.canonical(one)
        except ValueError:
            continue
        inputs += below((uri,)) if uris.is_s3(uri) else spellings(uri)
    return [place for place in wanted.places if not place.startswith(tuple(inputs))]


def _prefix(given: str) -> str:
    try:
        uri = uris.canonical(given)
    except ValueError as error:
        raise ConfigError(f"--prefix: {error}") from error
    if not uris.is_s3(uri):
        raise ConfigError(f"--prefix: must be s3://bucket or s3://bucket/prefix, got {given!r}")
    return uri.rstrip("/")
