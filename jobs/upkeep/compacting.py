"""Compacting: small files of a table joined, and what only old versions need deleted.

No engine is needed. What a version says is the same before and after: rows keep their values and their order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jobs.engines import delta_log
from jobs.errors import LakeBusyError
from jobs.tables import TABLES
from udfs.stores import uris

TARGET_BYTES = 128 << 20  # of a file; those that are near it are left as they are
GROUP_BYTES = 64 << 20  # of rows that are read at once
LEAST_GROUP, GROUP_ROWS = 4096, 1 << 20
LEAST_FILES = 2
# `albums` lie by owner, and each run and batch joins them itself; `reviews` are joined by the app that writes them.
JOINED_ELSEWHERE = ("albums", "reviews")
HOURS = 24
Check = Callable[[], None]


@dataclass(frozen=True)
class Joined:
    """files of a table, before and after."""

    before: int
    after: int


def join_all(lake: str, check: Check, least: int = LEAST_FILES) -> dict[str, Joined]:
    """Joins the small files of every table that has some. lake: a canonical URI, held by a lease. check: raises where
    the lease is lost. least: files of a table that are worth it. Returns the tables that changed. Raises LakeError,
    LakeBusyError."""
    found = {}
    for name in TABLES:
        check()
        if name not in JOINED_ELSEWHERE and (joined := _join(uris.join(lake, name), least)) is not None:
            found[name] = joined
    return found


def delete_all_old(lake: str, days: int, check: Check) -> dict[str, int]:
    """Deletes files that no version of the last days needs, and those that no version names and that are older. lake,
    check: see join_all. days: 1 at least, so that nothing is deleted that is being read or written. Returns how many
    files of each table went. Raises ValueError, LakeError."""
    if days < 1:
        raise ValueError(f"{days} days: must be 1 at least")
    found = {}
    for name in TABLES:
        check()
        path = uris.join(lake, name)
        if delta_log.version(path) is None:
            continue
        table = delta_log.delta_table(path)
        gone = table.vacuum(days * HOURS, dry_run=False, enforce_retention_duration=False, full=True)
        table.create_checkpoint()
        table.cleanup_metadata()
        if gone:
            found[name] = len(gone)
    return found


def _join(path: str, least: int) -> Joined | None:
    """Joins the small files of a table; None where there is nothing to do."""
    from deltalake import WriterProperties
    from deltalake.exceptions import CommitFailedError

    if delta_log.version(path) is None:
        return None
    table = delta_log.delta_table(path)
    sizes = table.get_add_actions(flatten=True).column("size_bytes").to_pylist()
    if sum(size < TARGET_BYTES for size in sizes) < least:
        return None
    properties = WriterProperties(compression="ZSTD", max_row_group_size=_group_rows(table))
    try:
        told = table.optimize.compact(
            target_size=TARGET_BYTES, max_concurrent_tasks=1, writer_properties=properties
        )  # fmt: skip
    except CommitFailedError as error:
        raise LakeBusyError(f"{path}: another process has written: run the same command again") from error
    if not told["numFilesRemoved"]:
        return None
    return Joined(len(sizes), len(sizes) - told["numFilesRemoved"] + told["numFilesAdded"])


def _group_rows(table: Any) -> int:
    """Rows of a row group: of vectors few, so that a reader holds little of them at once."""
    added = table.get_add_actions(flatten=True)
    known: list[int | None] = added.column("num_records").to_pylist() if "num_records" in added.schema.names else []
    sizes: list[int] = added.column("size_bytes").to_pylist()
    return max(LEAST_GROUP, min(GROUP_ROWS, GROUP_BYTES * sum(rows or 0 for rows in known) // max(sum(sizes), 1)))
