"""Parts of a Parquet file by as few requests as can be: its footer, then the bytes of some columns at once."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from udfs.stores import uris
from udfs.stores.ranges import Placed
from udfs.stores.s3_objects import Limits, S3Object

TAIL = 24 << 10  # bytes that are asked for first: most footers of albums are shorter
_MAGIC = b"PAR1"


class Parts(Placed):
    """A file of a known size of which only what was fetched is read, or what a reader asks for beyond. requests,
    fetched: how many, and bytes. Raises ImageError, OSError."""

    def __init__(self, uri: str, size: int, limits: Limits) -> None:
        super().__init__(size)
        self._object = S3Object(uri, limits) if uris.is_s3(uri) else None
        self._path = None if uris.is_s3(uri) else Path(os.fsdecode(uris.local_path(uri)))
        self._held: list[tuple[int, bytes]] = []
        self.requests = self.fetched = 0

    def fetch(self, start: int, end: int) -> None:
        """Brings the bytes start … end - 1, by one request, unless they are there."""
        if self._find(start, end - start) is None:
            self._held.append((start, self._asked(start, end - start)))

    def metadata(self) -> pq.FileMetaData:
        """The footer. Raises ValueError where the file has none."""
        self.fetch(max(0, self._size - TAIL), self._size)
        end = self._bytes(self._size - 8, 8)
        length = int.from_bytes(end[:4], "little")
        if end[4:] != _MAGIC or length + 12 > self._size:
            raise ValueError("not a Parquet file")
        self.fetch(self._size - 8 - length, self._size)
        return pq.read_metadata(pa.BufferReader(_MAGIC + self._bytes(self._size - 8 - length, length) + end))

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._size - self._at)
        data = self._bytes(self._at, left if size < 0 else min(size, left))
        self._at += len(data)
        return data

    def _bytes(self, start: int, length: int) -> bytes:
        found = self._find(start, length)
        return self._asked(start, length) if found is None else found

    def _find(self, start: int, length: int) -> bytes | None:
        for begin, data in self._held:
            if begin <= start and start + length <= begin + len(data):
                return data[start - begin : start - begin + length]
        return None

    def _asked(self, start: int, length: int) -> bytes:
        self.requests += 1
        self.fetched += length
        if self._object is not None:
            data = bytes(self._object.part(start, length))
        elif self._path is not None:
            with self._path.open("rb", buffering=0) as file:
                data = os.pread(file.fileno(), length, start)
        if len(data) != length:
            raise ValueError("the file is shorter than the log tells")
        return data


def spans(metadata: pq.FileMetaData, groups: list[int], first: int) -> tuple[int, int, int]:
    """Where the bytes of some row groups that lie side by side begin, where those of the column `first` of the first of
    them begin, and where all end."""
    columns = [metadata.row_group(group).column(n) for group in groups for n in range(metadata.num_columns)]
    starts = [_start(column) for column in columns]
    ends = [start + column.total_compressed_size for start, column in zip(starts, columns, strict=True)]
    return min(starts), _start(metadata.row_group(groups[0]).column(first)), max(ends)


def _start(column: pq.ColumnChunkMetaData) -> int:
    dictionary = column.dictionary_page_offset
    return int(column.data_page_offset if dictionary is None else min(dictionary, column.data_page_offset))
