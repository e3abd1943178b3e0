"""Tables of a lake as Arrow datasets, of which only what is asked for is read; neither Spark nor Sail is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobs.engines import delta_log
from udfs.stores import uris

if TYPE_CHECKING:
    import pyarrow.dataset as ds


def dataset(lake: str, table: str) -> ds.Dataset:
    """The newest version of a table that is there. lake: a canonical URI."""
    from deltalake import DeltaTable
    from pyarrow import fs

    path = uris.join(lake, table)
    whole = DeltaTable(delta_log.spelled(path), storage_options=delta_log.storage_options(path))
    # Arrow's own files where it has them: its threads let go of Python's after the interpreter has ended, and then
    # the process is aborted.
    own = None if uris.is_s3(path) else fs.SubTreeFileSystem(path, fs.LocalFileSystem())
    found: ds.Dataset = whole.to_pyarrow_dataset(filesystem=own)
    return found
