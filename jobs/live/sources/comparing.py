"""Comparing: what a folder holds and what a lake knows of it, once, by a listing; where events are not enough."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from jobs.engines import datasets, delta_log
from jobs.live.sources.wanted import Wanted, spellings
from udfs.stores import listing, uris

_LISTED = pa.schema([("uri", pa.string()), ("etag", pa.string())])


@dataclass(frozen=True)
class Differences:
    """fresh: URIs that are new or have changed. gone: those that the lake has and the folders have not. known: number
    of the lake's images below them. unlisted: folders that could not be looked into; then nothing counts as gone."""

    fresh: list[str]
    gone: list[str]
    known: int
    unlisted: int


def compare(lake: str, roots: Sequence[str], wanted: Wanted) -> Differences:
    """roots: canonical URIs of local folders. Holds some 300 bytes an image. Raises StoreError where one is no folder
    that can be listed, so that a disk that is not there is not taken for an empty one; but below the place that is
    wanted a folder that is not there is an empty one."""
    unlisted = listing.Unlisted()
    tops = _topmost(roots)
    there = [root for root in tops if f"{root}/" in wanted.places or os.path.isdir(uris.local_path(root))]  # noqa: PTH112
    listed = pa.Table.from_batches([part for root in there for part in _listed(root, wanted, unlisted)], _LISTED)
    known = known_below(lake, tops)
    both = listed.join(known.rename_columns(["uri", "known"]), keys="uri", join_type="full outer")
    gone = pc.is_null(both["etag"])
    same = pc.fill_null(pc.equal(both["etag"], both["known"]), False)
    fresh = both.filter(pc.and_not(pc.invert(gone), same))["uri"].to_pylist()
    left = [] if unlisted.folders else both.filter(gone)["uri"].to_pylist()
    return Differences(sorted(fresh), sorted(left), known.num_rows, unlisted.folders)


def _topmost(roots: Sequence[str]) -> list[str]:
    """Without those that lie below others."""
    found: list[str] = []
    for root in sorted(roots, key=lambda root: root.rstrip("/") + "/"):
        if not found or not root.startswith(found[-1].rstrip("/") + "/"):
            found.append(root)
    return found


def known_below(lake: str, roots: Sequence[str]) -> pa.Table:
    """(uri, etag) of the lake's single images below canonical URIs of local folders."""
    if delta_log.version(uris.join(lake, "images")) is None:
        return _LISTED.empty_table()
    below: Any = None
    for root in roots:
        for start in spellings(root):
            # A range, not a pattern: files of the table are skipped by what they say of their first and last.
            part = (pc.field("uri") >= start) & (pc.field("uri") < start[:-1] + "0")  # which comes after "/"
            below = part if below is None else below | part
    images = datasets.dataset(lake, "images")
    return images.to_table(columns=_LISTED.names, filter=pc.field("shard").is_null() & below).cast(_LISTED)


def _listed(root: str, wanted: Wanted, unlisted: listing.Unlisted) -> Iterator[pa.RecordBatch]:
    for batch in listing.list_files(root, 10_000, unlisted):
        taken = [(file.uri, file.etag) for file in batch if not wanted.why_not(file.uri)]
        if taken:
            names, etags = zip(*taken, strict=True)
            yield pa.record_batch([pa.array(names, pa.string()), pa.array(etags, pa.string())], schema=_LISTED)
