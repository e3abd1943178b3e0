"""Files of packs: Parquet in which the packs of an owner lie together, so that few bytes are read for one of them."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from udfs.albums import packs
from udfs.albums.packs import FACTS, KEY_BITS, MARK_GONE, UNKNOWN, Pictures
from udfs.stores import objects, uris

GROUP_BYTES = 32 << 10  # that close a row group: as much is read for an owner with fewer pictures
FILE_GROUPS = 48  # row groups that close a file: what its footer tells of each, some 500 bytes, is read as well
FILE_BYTES = 32 << 20
BUCKET_IMAGES = 16_384  # that one call holds in memory, about: 84 MB of 1,280 numbers
BUCKET, SHARE = "bucket", "share"  # columns that deal pictures to files; see written
# Pictures on their way to a file; without a vector where they are gone.
GIVEN = ("owner", "image_id", "mark", "taken", "by_camera", "quality", "uri", "vector")
FILES = pa.schema(
    [
        pa.field("path", pa.string(), False),  # below the table's folder
        pa.field("size_bytes", pa.int64(), False),
        pa.field("rows", pa.int64(), False),
        pa.field("images", pa.int64(), False),
        pa.field("low", pa.int64(), False),  # keys of owners
        pa.field("high", pa.int64(), False),
    ]
)
Batches = Iterator[pa.RecordBatch]


def buckets(images: int) -> int:
    """The bits of a key by which so many pictures are dealt to buckets."""
    return min(KEY_BITS - 1, max(0, -(-images // BUCKET_IMAGES) - 1).bit_length())


def folder_of(run: int) -> str:
    """Where the files of a run lie, below the table's folder."""
    return f"run-{run:010d}"


def run_of(path: str) -> int:
    """The run whose file that is, by its path below the table's folder."""
    return int(path.partition("/")[0].removeprefix("run-"))


def written(table: str, run: int, model: str, pack_images: int) -> Callable[[Batches], Batches]:
    """Maps pictures, (BUCKET, SHARE, *GIVEN), those of the same bucket and share together, to the files that were
    written of them: FILES. table: the canonical URI of its folder. pack_images: of one
    row, at most."""

    def files(batches: Batches) -> Batches:
        for rows in _together(batches):
            writer, share = Writer(table, run), int(rows[SHARE][0].as_py())
            for owner, pictures in albums_of(rows):
                yield from writer.add_album(owner, share, model, pictures, pack_images)
            yield from writer.close()

    return files


def _together(batches: Batches) -> Iterator[pa.Table]:
    """The rows of each bucket and share."""
    waiting: list[pa.RecordBatch] = []
    last: tuple[Any, Any] | None = None
    for batch in batches:
        if not batch.num_rows:
            continue
        columns = [batch.column(name).to_numpy(zero_copy_only=False) for name in (BUCKET, SHARE)]
        change = np.flatnonzero((columns[0][1:] != columns[0][:-1]) | (columns[1][1:] != columns[1][:-1])) + 1
        for start, end in itertools.pairwise([0, *change.tolist(), batch.num_rows]):
            here = columns[0][start], columns[1][start]
            if waiting and here != last:
                yield pa.Table.from_batches(waiting)
                waiting = []
            waiting.append(batch.slice(start, end - start))
            last = here
    if waiting:
        yield pa.Table.from_batches(waiting)


def albums_of(rows: pa.Table) -> Iterator[tuple[str, Pictures]]:
    """Each owner and the pictures, in the order in which files hold them, without pairs. rows: GIVEN, in any order."""
    owners = rows["owner"].to_pylist()
    keys = {owner: packs.key_of(owner) for owner in set(owners)}
    own = np.array([keys[owner] for owner in owners], np.int64)
    ids = rows["image_id"].to_numpy()
    order = np.lexsort((ids, np.array(owners, object).astype(str), own))
    rows = rows.take(pa.array(order)).combine_chunks()
    facts = _facts(rows)
    names = [(uri or "").encode("utf-8", "surrogatepass") for uri in rows["uri"].to_pylist()]
    vectors = _vectors(rows["vector"], facts["mark"] != MARK_GONE)
    before = np.concatenate([[0], np.cumsum(facts["mark"] != MARK_GONE)])
    sorted_owners = [owners[row] for row in order.tolist()]
    for owner, group in itertools.groupby(range(len(sorted_owners)), key=sorted_owners.__getitem__):
        places = list(group)
        start, end = places[0], places[-1] + 1
        yield owner, Pictures(facts[start:end], names[start:end], vectors[before[start] : before[end]])


def _facts(rows: pa.Table) -> NDArray[np.void]:
    facts = np.zeros(rows.num_rows, FACTS)
    facts["image_id"] = rows["image_id"].to_numpy()
    facts["mark"] = rows["mark"].to_numpy()
    facts["taken"] = rows["taken"].fill_null(UNKNOWN).to_numpy()
    facts["by_camera"] = rows["by_camera"].to_numpy()
    facts["quality"] = rows["quality"].fill_null(np.nan).to_numpy()
    facts["uri_bytes"] = [len((uri or "").encode("utf-8", "surrogatepass")) for uri in rows["uri"].to_pylist()]
    return facts


def _vectors(column: pa.ChunkedArray, there: NDArray[np.bool_]) -> NDArray[np.float16]:
    """(number of those that are there, d)."""
    count = int(np.count_nonzero(there))
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return flat.astype(np.float16).reshape(count, -1) if count else np.empty((0, 0), np.float16)


class Writer:
    """Files of a run that are written one after another. Row groups end between owners where they can."""

    def __init__(self, table: str, run: int) -> None:
        self._table, self._run = table, run
        self._rows: list[tuple[Any, ...]] = []
        self._waiting = 0  # bytes of these
        self._last: str | None = None
        self._groups: list[list[tuple[Any, ...]]] = []
        self._bytes = 0

    def add_album(self, owner: str, share: int, model: str, pictures: Pictures, most: int) -> Batches:
        """Adds an owner's pictures as packs of so many at most, compared; yields what files were written. share: of an
        owner whose pictures several write, which of them this is."""
        before = np.concatenate([[0], np.cumsum(pictures.facts["mark"] != MARK_GONE)])
        for part, start in enumerate(range(0, len(pictures), most)):
            end = min(start + most, len(pictures))
            vectors = pictures.vectors[before[start] : before[end]]
            pack = Pictures(pictures.facts[start:end], pictures.uris[start:end], vectors).compared()
            yield from self.add(packs.key_of(owner), owner, self._run, share << 16 | part, model, pack)

    def add(self, key: int, owner: str, run: int, part: int, model: str, pack: Pictures) -> Batches:
        """Adds a row; yields what files were written."""
        if owner != self._last and self._waiting >= GROUP_BYTES:
            self._end_group()
            if len(self._groups) >= FILE_GROUPS or self._bytes >= FILE_BYTES:
                yield self._file()
        columns = packs.packed(pack)
        self._rows.append((key, owner, run, part, model, *columns, len(pack)))
        self._waiting += sum(len(column or b"") for column in columns)
        self._last = owner
        if self._waiting >= FILE_BYTES:  # of one owner
            self._end_group()
            yield self._file()

    def close(self) -> Batches:
        """Yields the last file, where there is one."""
        self._end_group()
        if self._groups:
            yield self._file()

    def _end_group(self) -> None:
        if self._rows:
            self._groups.append(self._rows)
            self._bytes += self._waiting
        self._rows, self._waiting = [], 0

    def _file(self) -> pa.RecordBatch:
        groups, self._groups, self._bytes = self._groups, [], 0
        path = f"{folder_of(self._run)}/{groups[0][0][0]:016d}-{secrets.token_hex(8)}.parquet"
        uri = uris.join(self._table, *path.split("/"))
        with objects.replacing(uri) as file:
            write_groups(str(file), (table_of([row[:-1] for row in group]) for group in groups))
            size = file.stat().st_size
        rows = [row for group in groups for row in group]
        told = (path, size, len(rows), sum(row[-1] for row in rows), rows[0][0], rows[-1][0])
        return pa.RecordBatch.from_arrays(
            [pa.array([value], field.type) for value, field in zip(told, FILES, strict=True)], schema=FILES
        )


def table_of(rows: list[tuple[Any, ...]]) -> pa.Table:
    """Rows of ROWS as a table."""
    columns = zip(*rows, strict=True)
    return pa.table(
        [pa.array(values, field.type) for values, field in zip(columns, packs.ROWS, strict=True)], schema=packs.ROWS
    )


def write_groups(file: str, groups: Iterator[pa.Table]) -> None:
    """Writes tables of ROWS as the row groups of a file."""
    with opened(file) as writer:
        for group in groups:
            writer.write_table(group, row_group_size=max(1, group.num_rows))


def opened(file: str) -> pq.ParquetWriter:
    """A file of ROWS to be written. Vectors are hardly smaller when they are compressed."""
    plain = ("vectors", "pairs", "facts")
    compression = {name: "none" if name in plain else "zstd" for name in packs.ROWS.names}
    return pq.ParquetWriter(
        file, packs.ROWS, compression=compression, use_dictionary=False, write_statistics=["owner_key"],
        store_schema=False,
    )  # fmt: skip
