"""Delta's transaction log: the version of a table without a query, and what the embedded engine commits by delta-rs."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from jobs.engines.base import Table
from jobs.errors import LakeError
from udfs.stores import objects, s3, uris

LOG = "_delta_log"
CHECKPOINT_EACH = 10  # commits, as Delta has it; delta-rs waits for 100, and to open a table reads all since the last
# Of tables that this writer may change: others change what a row, a file or a commit means.
HARMLESS_FEATURES = {"appendOnly", "invariants", "checkConstraints"}
MOST_READER, MOST_WRITER = 1, 3  # protocol versions without named features that hold nothing else
_REMOVED = "_removed"  # a column of a merge
NAMED_READER, NAMED_WRITER = 3, 7  # from which a table names its features


def version(path: str) -> int | None:
    """The newest version of the table at a canonical URI, None where there is none. Lists the log; no query."""
    newest = None
    last = _last_checkpoint(path)
    start = f"{max(last - 1, 0):020}" if last else ""
    for name in objects.list_names(uris.join(path, LOG), after=start):
        stem, dot, ending = name.partition(".")
        if dot and ending == "json" and len(stem) == 20 and stem.isdecimal():
            newest = max(newest or 0, int(stem))
    return newest if newest is not None else last


def _last_checkpoint(path: str) -> int | None:
    try:
        return int(json.loads(objects.read_small(uris.join(path, LOG, "_last_checkpoint")))["version"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def properties(table: Table) -> dict[str, str]:
    """What a table is created with, on any engine."""
    return {
        # Readers other than Spark know no deletion vectors (one gives wrong rows without a word).
        "delta.enableDeletionVectors": "false",
        "delta.checkpointInterval": str(CHECKPOINT_EACH),
        **{f"delta.constraints.{name}": condition for name, condition in table.checks.items()},
    }


def create(path: str, table: Table) -> None:
    """Writes commit 0 as Spark's Delta does, or nothing where there is one. delta-rs's own create() takes no CHECKs."""
    if not uris.is_s3(path):
        os.makedirs(uris.local_path(path), exist_ok=True)  # noqa: PTH103 (bytes)
    now = int(time.time() * 1000)
    actions: list[dict[str, Any]] = [
        {"commitInfo": {"timestamp": now, "operation": "CREATE TABLE", "engineInfo": "imagesieve"}},
        {"protocol": {"minReaderVersion": 1, "minWriterVersion": 3 if table.checks else 2}},
        {
            "metaData": {
                "id": str(uuid.uuid4()),
                "format": {"provider": "parquet", "options": {}},
                "schemaString": table.schema.json(),
                "partitionColumns": [],
                "configuration": properties(table),
                "createdTime": now,
            }
        },
    ]
    text = "".join(json.dumps(action, separators=(",", ":")) + "\n" for action in actions)
    objects.put_if_absent(uris.join(path, LOG, f"{0:020}.json"), text.encode())


@dataclass(frozen=True)
class File:
    """A Parquet file of a table. path: relative to it. modified_ms: since 1970."""

    path: str
    size_bytes: int
    modified_ms: int
    rows: int


def delta_table(path: str) -> Any:
    """deltalake's DeltaTable. Raises LakeError for a table with a feature that this writer does not know."""
    from deltalake import DeltaTable

    table = DeltaTable(spelled(path), storage_options=storage_options(path))
    protocol = table.protocol()
    features = {*(protocol.reader_features or ()), *(protocol.writer_features or ())}
    unknown = sorted(features - HARMLESS_FEATURES)
    reader, writer = protocol.min_reader_version, protocol.min_writer_version
    named = reader <= NAMED_READER and writer == NAMED_WRITER
    if unknown or not (named or (reader <= MOST_READER and writer <= MOST_WRITER)):
        what = ", ".join(unknown) or f"protocol {reader}/{writer}"
        raise LakeError(f"{path} uses Delta's {what}, which the embedded engine cannot write: --set spark.engine=spark")
    return table


def files_of(table: Any, path: str) -> dict[str, int | None]:
    """The canonical URIs of the files of a table as it was opened, each with the number of its rows, None where the log
    does not say. table: of delta_table(path)."""
    added = table.get_add_actions(flatten=True)  # paths as they stand in the log: relative, percent-encoded
    names = [uris.join(path, *unquote(name).split("/")) for name in added.column("path").to_pylist()]
    known = "num_records" in added.schema.names
    return dict(zip(names, added.column("num_records").to_pylist() if known else [None] * len(names), strict=True))


def commit(table: Any, files: Sequence[File], mode: str) -> None:
    """Makes these files part of a table, in one commit. mode: append or overwrite, which takes out all others. table:
    of delta_table."""
    from deltalake.transaction import AddAction

    actions = [
        AddAction(file.path, file.size_bytes, {}, file.modified_ms, True, json.dumps({"numRecords": file.rows}))
        for file in files
    ]
    table.create_write_transaction(actions, mode, table.schema())


def spelled(path: str) -> str:
    """A canonical URI as delta-rs takes it."""
    return path if uris.is_s3(path) else os.fsdecode(uris.local_path(path))


def storage_options(path: str) -> dict[str, str] | None:
    """What delta-rs needs to reach S3, from the same places as all else: fresh credentials at each call."""
    if not uris.is_s3(path):
        return None
    return {f"aws_{name}": value for name, value in s3.object_store_settings(renewed=True).items()}


def is_made(table: Any, once: tuple[str, int]) -> bool:
    """Whether a commit of this application and number, or a higher one, is there. table: of delta_table."""
    application, number = once
    return (table.transaction_version(application) or -1) >= number


def make(path: str, table: Table, rows: pa.Table, removed: pa.Table, new: bool, once: tuple[str, int]) -> None:
    """Upserts rows and removes keys, in one commit; nothing where a commit of this application and number, or a higher
    one, is there. rows: the columns of the table. removed: of its key, each at most once, and none that rows have too.
    Raises LakeError."""
    from deltalake import CommitProperties, Transaction, write_deltalake

    there = delta_table(path)
    if is_made(there, once):
        return
    properties = CommitProperties(app_transactions=[Transaction(*once)])
    if new and not removed.num_rows:
        write_deltalake(there, rows, mode="append", commit_properties=properties)
        return
    gone = removed.append_column(_REMOVED, pa.repeat(True, removed.num_rows))
    kept = rows.append_column(_REMOVED, pa.repeat(False, rows.num_rows))
    given = pa.concat_tables([kept, gone], promote_options="default")
    same = " AND ".join(f"there.{name} = given.{name}" for name in table.key)
    columns = {name: f"given.{name}" for name in table.schema.names}
    merge = there.merge(given, same, source_alias="given", target_alias="there", commit_properties=properties)
    merge.when_matched_delete(f"given.{_REMOVED}").when_matched_update(columns).when_not_matched_insert(
        columns, f"NOT given.{_REMOVED}"
    ).execute()
