"""Commits to Delta's log of files that were written beside an engine: some come, some go, in one version."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jobs.engines import delta_log
from jobs.errors import LakeBusyError
from udfs.stores import objects, uris


@dataclass(frozen=True)
class Added:
    """A Parquet file. path: relative to the table's folder, of plain letters. ranges: the least and the greatest value
    of some columns."""

    path: str
    size_bytes: int
    rows: int
    ranges: Mapping[str, tuple[int, int]] = field(default_factory=dict)


def commit(
    path: str,
    added: Sequence[Added],
    removed: Collection[str],
    after: int | None = None,
    once: tuple[str, int] | None = None,
) -> int:
    """Makes a version in which these files are there and those are not. path: a table's canonical URI. removed: as the
    log spells them. after: the version that this was made of, the newest where it is None. once: an application and a
    number of it, which the version tells. Returns the version.

    What it commits holds no value of a row but the ranges. Raises LakeBusyError where there is a later version."""
    if after is None:
        after = delta_log.version(path)
    now = int(time.time() * 1000)
    version = 0 if after is None else after + 1
    actions: list[dict[str, Any]] = [
        {"commitInfo": {"timestamp": now, "operation": "WRITE", "operationParameters": {}, "engineInfo": "imagesieve"}}
    ]
    if once is not None:
        actions.append({"txn": {"appId": once[0], "version": once[1], "lastUpdated": now}})
    for name in removed:
        actions.append({"remove": {"path": name, "deletionTimestamp": now, "dataChange": True}})
    for file in added:
        stats = {
            "numRecords": file.rows,
            "minValues": {name: low for name, (low, _) in file.ranges.items()},
            "maxValues": {name: high for name, (_, high) in file.ranges.items()},
            "nullCount": dict.fromkeys(file.ranges, 0),
        }
        told = {"path": file.path, "partitionValues": {}, "size": file.size_bytes, "modificationTime": now}
        actions.append({"add": {**told, "dataChange": True, "stats": json.dumps(stats, separators=(",", ":"))}})
    text = "".join(json.dumps(action, separators=(",", ":")) + "\n" for action in actions)
    if not objects.put_if_absent(uris.join(path, delta_log.LOG, f"{version:020}.json"), text.encode()):
        raise LakeBusyError(f"{path}: another process has written version {version}: run the same command again")
    return version


def names_of(path: str) -> list[str]:
    """The files of the newest version of a table, as the log spells them."""
    names: list[str] = delta_log.delta_table(path).get_add_actions(flatten=True).column("path").to_pylist()
    return names


def checkpoint(path: str) -> None:
    """Writes the newest version of a table as one file of the log."""
    delta_log.delta_table(path).create_checkpoint()


def checkpoint_at(path: str, version: int) -> None:
    """The same where this version, the newest, is one of those of which there is to be such a file."""
    if version and version % delta_log.CHECKPOINT_EACH == 0:
        checkpoint(path)
