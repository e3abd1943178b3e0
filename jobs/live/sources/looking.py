"""Looking: what objects are like now, asked of the store; whatever messages have said of them, this is so."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from jobs.live.changes import Change
from udfs.errors import NOT_FOUND, ImageError
from udfs.stores import listing, uris
from udfs.stores.s3_objects import Limits

THREADS = 16


@dataclass(frozen=True)
class Looked:
    """changes: of the objects that the store answered for, in their order. faults: of the others, why, on one line."""

    changes: tuple[Change, ...]
    faults: Mapping[str, str]


def look(objects: Sequence[str], limits: Limits) -> Looked:
    """objects: canonical URIs, no two alike. One request each, and none of the bytes. Raises StoreError where there are
    no credentials."""
    if not objects:
        return Looked((), {})
    with ThreadPoolExecutor(min(THREADS, len(objects)), thread_name_prefix="looking") as pool:
        answers = list(pool.map(lambda uri: _one(uri, limits), objects))
    faults = {uri: answer for uri, answer in zip(objects, answers, strict=True) if isinstance(answer, str)}
    return Looked(tuple(answer for answer in answers if isinstance(answer, Change)), faults)


def _one(uri: str, limits: Limits) -> Change | str:
    try:
        found = listing.stat(uri, limits)
    except ImageError as error:
        if error.code == NOT_FOUND or (not uris.is_s3(uri) and not os.path.isfile(uris.local_path(uri))):  # noqa: PTH113
            return Change(uri, removed=True)  # the second: a folder or a pipe has taken the name
        return " ".join(f"{uri}: {error}".split())[:300]
    return Change(uri, False, found.etag, found.size_bytes, found.modified_at)
