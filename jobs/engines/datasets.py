"""Tables of a lake as Arrow datasets, of which only what is asked for is read; neither Spark nor Sail is needed."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jobs.engines import delta_log
from udfs.stores import uris

if TYPE_CHECKING:
    import pyarrow.dataset as ds

OPEN_S = 600.0  # for which one stays open: credentials of S3 end


def dataset(lake: str, table: str, version: int | None = None) -> ds.Dataset:
    """A table that is there, as it is now or was at a version. lake: a canonical URI. Raises what delta-rs raises where
    the version is gone; that its files are gone shows when they are read, as FileNotFoundError."""
    from deltalake import DeltaTable
    from pyarrow import fs

    path = uris.join(lake, table)
    whole = DeltaTable(delta_log.spelled(path), version=version, storage_options=delta_log.storage_options(path))
    # Arrow's own files where it has them: its threads let go of Python's after the interpreter has ended, and then
    # the process is aborted.
    own = None if uris.is_s3(path) else fs.SubTreeFileSystem(path, fs.LocalFileSystem())
    found: ds.Dataset = whole.to_pyarrow_dataset(filesystem=own)
    return found


def scanner(table: ds.Dataset, file: ds.Fragment, columns: list[str], where: ds.Expression, **more: Any) -> ds.Scanner:
    """Reads one file of a table by the table's schema: one that a merge of delta-rs has written names other types of
    text than its table, which no filter fits. file: of table.get_fragments(). more: of ds.Fragment.scanner."""
    return file.scanner(schema=table.schema, columns=columns, filter=where, **more)


class Opened:
    """The tables of a lake at some versions, None where one is not there. They stay open for OPEN_S: opening one reads
    its log."""

    def __init__(self, lake: str, at: Mapping[str, int | None]) -> None:
        self.lake, self.at = lake, at
        self._open: dict[str, tuple[float, ds.Dataset]] = {}
        self._lock = threading.Lock()

    def get(self, table: str) -> ds.Dataset | None:
        """None where the table is not there."""
        version = self.at.get(table)
        if version is None:
            return None
        with self._lock:
            since, found = self._open.get(table, (0.0, None))
            if found is None or time.monotonic() - since > OPEN_S:
                found = dataset(self.lake, table, version)
                self._open[table] = time.monotonic(), found
            return found
