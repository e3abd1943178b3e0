"""Rewriting: files of a table without some rows, as a new version, and old versions deleted to the last file.

No engine is needed: of each file the columns of a rule are read, and whole only files that hold what is erased."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.engines import delta_files, delta_log
from jobs.engines.delta_files import Added, names_of
from jobs.erasure.rules import Erased, Rule
from jobs.errors import LakeBusyError, LakeError
from udfs.albums import files as album_files
from udfs.albums import packs
from udfs.errors import ImageError
from udfs.stores import objects, ranges, uris
from udfs.stores.s3_objects import Limits

ROWS = 65_536  # read at once of the columns of a rule
GROUP_BYTES = 64 << 20  # of rows that are held to become a row group
WHOLE_ROWS = 4096  # likewise of whole rows: 21 MB of 1,280 numbers
TRIES = 5  # at a table to which others add rows meanwhile
MOST_COMMIT_BYTES = 256 << 20
BEING_WRITTEN_S = 60.0  # for which a file of such a table that no version names may be one that is being written
Check = Callable[[], None]


@dataclass(frozen=True)
class Done:
    """What became of a table. removed, changed: rows. version: the new one."""

    removed: int = 0
    changed: int = 0
    version: int | None = None


def rewrite(path: str, rule: Rule, erased: Erased, before: Callable[[Done], None]) -> Done:
    """Makes a version of a table without what is erased, in one commit, or none where there is nothing to do. path: a
    canonical URI. before: is called before the commit, with what that will do; raises where it must not be made. Raises
    LakeError, LakeBusyError where others always commit first."""
    for attempt in range(TRIES):
        version = delta_log.version(path)
        if version is None or not rule.looks:
            return Done(version=version)
        added, removed, rows_gone, rows_changed = [], [], 0, 0
        try:
            for name in names_of(path):
                new = _rewritten(path, name, rule, erased)
                if new is not None:
                    removed.append(name)
                    added += [new[0]] if new[0] is not None else []
                    rows_gone, rows_changed = rows_gone + new[1], rows_changed + new[2]
            if not removed:
                return Done(version=version)
            done = Done(rows_gone, rows_changed, version + 1)
            before(done)
            delta_files.commit(path, added, removed, version)
            return done
        except LakeBusyError:
            for file in added:
                objects.delete(_uri(path, file.path))
            if attempt == TRIES - 1:
                raise
            time.sleep(0.2 * 2**attempt)
    raise LakeBusyError(path)  # not reached


def _rewritten(path: str, name: str, rule: Rule, erased: Erased) -> tuple[Added | None, int, int] | None:
    """The file in place of one, None where no row is left; how many rows went, and how many of those that are left were
    changed. None where it holds nothing of what is erased."""
    with opened(_uri(path, name)) as file:
        touched = sum(int(np.count_nonzero(rule.touched(rows, erased))) for rows in batches(file, ROWS, rule.looks))
        if not touched:
            return None
        folder = unquote(name).rpartition("/")[0]
        new = f"{folder}/" * bool(folder) + f"part-{secrets.token_hex(8)}.parquet"
        total = file.metadata.num_rows
        left = 0
        bounds: list[int] = []
        with objects.replacing(_uri(path, quote(new))) as draft:
            schema = _plain(file.schema_arrow)
            is_album = schema.names == packs.ROWS.names
            made = album_files.opened(str(draft)) if is_album else pq.ParquetWriter(draft, schema, compression="zstd")
            with made as writer:
                for kept in _kept(file, rule, erased, packs.ROWS if is_album else schema):
                    writer.write_table(kept, row_group_size=kept.num_rows)
                    left += kept.num_rows
                    if is_album:
                        bounds += [kept["owner_key"][0].as_py(), kept["owner_key"][-1].as_py()]
            size = draft.stat().st_size
    gone = total - left
    if not left:
        objects.delete(_uri(path, quote(new)))
        return None, gone, 0
    ranges_of = {"owner_key": (min(bounds), max(bounds))} if bounds else {}
    return Added(quote(new), size, left, ranges_of), gone, touched - gone


def _kept(file: pq.ParquetFile, rule: Rule, erased: Erased, schema: pa.Schema) -> Iterator[pa.Table]:
    """The rows that are left, as row groups no larger than they were."""
    for group in range(file.num_row_groups):
        waiting: list[pa.Table] = []
        for batch in file.iter_batches(WHOLE_ROWS, row_groups=[group], use_threads=False):
            kept = rule.changed(pa.Table.from_batches([batch]).cast(schema), erased)
            if kept.num_rows:
                waiting.append(kept)
            if sum(rows.nbytes for rows in waiting) > GROUP_BYTES:
                yield pa.concat_tables(waiting)
                waiting = []
        if waiting:
            yield pa.concat_tables(waiting)


def _plain(schema: pa.Schema) -> pa.Schema:
    """Types as Delta has them. Old files of Spark keep times as INT96, which Arrow takes for nanoseconds; merges of
    delta-rs write texts as views, of which Arrow filters none."""
    return pa.schema([pa.field(column.name, _plain_type(column.type), column.nullable) for column in schema])


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_list(kind):
        item = kind.value_field
        return pa.list_(pa.field(item.name, _plain_type(item.type), item.nullable))
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", "UTC")
    if pa.types.is_string_view(kind):
        return pa.string()
    return pa.binary() if pa.types.is_binary_view(kind) else kind


def purge(path: str, check: Check, others_write: bool = False) -> tuple[int, int]:
    """Deletes all of a table but its newest version: files of older ones, files of none, and the log, which tells the
    least and greatest values of files. others_write: rows are added without a lease. Returns the version, and how many
    files went. May be ended anywhere and called again."""
    if delta_log.version(path) is None:
        return -1, 0
    check()
    version = delta_files.commit(path, (), ())
    delta_files.checkpoint(path)
    files = 0
    kept = {unquote(name) for name in names_of(path)}
    since = time.time()
    committed = _ever_named(path) if others_write else set()
    for name, _ in list(objects.list_below(path)):
        if _of_log(name) and not _is_later(name, version):
            files += _deleted(path, name)
    for name, modified in list(objects.list_below(path)):
        if name in kept or _of_log(name):
            continue
        if others_write and name not in committed:
            time.sleep(max(0.0, min(BEING_WRITTEN_S, modified + BEING_WRITTEN_S - time.time())))
            if modified > since - BEING_WRITTEN_S and name in {unquote(now) for now in names_of(path)}:
                continue
        check()
        files += _deleted(path, name)
    return version, files


def _ever_named(path: str) -> set[str]:
    """The files that the log has named: none of these is being written."""
    found = set()
    for name in objects.list_names(uris.join(path, delta_log.LOG)):
        if name.endswith(".json"):
            lines = objects.read_small(uris.join(path, delta_log.LOG, name), MOST_COMMIT_BYTES).splitlines()
            found |= {unquote(added["path"]) for line in lines if (added := json.loads(line).get("add"))}
    return found


def _of_log(name: str) -> bool:
    return name.startswith(f"{delta_log.LOG}/")


def _is_later(name: str, version: int) -> bool:
    """Whether a file of the log is needed to read this version, or one after it."""
    last = name.rpartition("/")[2]
    stem = last.partition(".")[0]
    return last == "_last_checkpoint" or (stem.isascii() and stem.isdigit() and int(stem) >= version)


def _deleted(path: str, name: str) -> int:
    objects.delete(uris.join(path, *name.split("/")))
    return 1


@contextmanager
def opened(uri: str) -> Iterator[pq.ParquetFile]:
    """A Parquet file. Raises LakeError where it cannot be read."""
    try:
        with ranges.open_file(uri, None, Limits()) as (file, _):
            yield pq.ParquetFile(file)
    except (ImageError, pa.ArrowException) as error:
        raise LakeError(f"{uri}: cannot be read ({error}): restore it, or delete the lake") from error


def batches(file: pq.ParquetFile, rows: int, columns: tuple[str, ...] | None = None) -> Iterator[pa.Table]:
    """The rows of a file, some at a time. columns: those, or all."""
    names = None if columns is None else list(columns)
    for batch in file.iter_batches(rows, columns=names, use_threads=False):
        yield pa.Table.from_batches([batch]).cast(_plain(batch.schema))


def _uri(path: str, name: str) -> str:
    """name: as the log spells it."""
    return uris.join(path, *unquote(name).split("/"))


def all_files(path: str) -> list[str]:
    """The canonical URIs of all Parquet files of a table's folder, of any version or none."""
    names = [name for name, _ in objects.list_below(path)]
    return [uris.join(path, *name.split("/")) for name in names if name.endswith(".parquet") and not _of_log(name)]


def rows_of(path: str, columns: tuple[str, ...], wanted: Callable[[pa.Table], Any]) -> list[dict[str, Any]]:
    """Rows of the newest version of a table, few of them. wanted: (n,) which."""
    if delta_log.version(path) is None:
        return []
    found: list[dict[str, Any]] = []
    for name in names_of(path):
        with opened(_uri(path, name)) as file:
            for rows in batches(file, ROWS, columns):
                found += rows.filter(pa.array(wanted(rows))).to_pylist()
    return found
