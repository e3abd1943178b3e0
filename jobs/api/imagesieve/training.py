"""The images of a lake or of a clean set for training: a dataset that a DataLoader of torch takes as it is."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

if TYPE_CHECKING:
    from imagesieve.transforms import Transform

FETCH_THREADS = 16  # requests of one worker in flight
COLUMNS = ("uri", "shard", "shard_offset", "size_bytes", "split", "label", "labels")
UNLABELLED = -1
Item = tuple[NDArray[np.float32], int | NDArray[np.float32]]
_LIST = pa.list_(pa.string())


class Images:
    """Images and the numbers of their labels, read and prepared as they are asked for.

    transform: of imagesieve.transforms.load. source: a lake, of which images that could not be read are left out, or a
    file that `clean` wrote (.parquet, .csv, .jsonl), or any such table with a column uri. split: of these images alone.
    classes: the labels in the order of their numbers; else those of all splits of the source, by the alphabet.

    An item is ((3, side, side) float32, number of its label; UNLABELLED where it has none). Where any image of the
    source has several labels, it is (C,) float32 in place of the number: 1 for each label of the image, 0 for others,
    and UNLABELLED all over where nothing is known of its labels. A batch is fetched at
    once, what lies side by side in a shard by one read. The references are held in memory, about 100 bytes each.
    Workers may be forked or spawned: each makes its own connections, and lets OpenCV start no threads. An image that
    cannot be read raises ImageError, which names it. Raises LakeError, ValueError for a source without a uri."""

    def __init__(
        self,
        transform: Transform,
        source: str | os.PathLike[str],
        split: str | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        rows = _rows(os.fspath(source))
        self.transform = transform
        self.classes = (
            list(classes)
            if classes is not None
            else sorted({*rows["label"].drop_null().to_pylist(), *_flat(rows["labels"]).to_pylist()})
        )
        has_sets = rows["labels"].null_count < len(rows)
        if split is not None:
            rows = rows.filter(pc.equal(rows["split"], split))
        self._labels = self._numbers(rows["label"])
        self._sets = self._numbered(rows["labels"]) if has_sets else None
        self._rows = rows.drop_columns(["split", "label", "labels"]).combine_chunks()
        self._process = os.getpid()

    def __len__(self) -> int:
        return int(self._rows.num_rows)

    def __getitem__(self, index: int) -> Item:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Item]:
        """What DataLoader asks for a batch by."""
        from udfs.errors import ImageError
        from udfs.stores import fetch

        self._alone()
        taken = self._rows.take(pa.array([_place(index, len(self)) for index in indices], pa.int64())).to_pylist()
        references = [
            fetch.Reference(row["uri"], row["shard"], row["shard_offset"], row["size_bytes"]) for row in taken
        ]
        limits = fetch.Limits(self.transform.max_bytes)
        items: list[Item] = []
        fetched = fetch.fetch_all(references, limits, min(FETCH_THREADS, max(1, len(references))))
        for index, reference, data in zip(indices, references, fetched, strict=True):
            try:
                if isinstance(data, ImageError):
                    raise data
                items.append((self.transform(data), self._target(index)))
            except ImageError as error:
                raise ImageError(error.code, f"{reference.uri}: {error.detail}") from error
        return items

    def _numbers(self, labels: pa.ChunkedArray) -> NDArray[np.int32]:
        """The places of texts among the classes, UNLABELLED of others and of null."""
        found = pc.fill_null(pc.index_in(labels, value_set=pa.array(self.classes, pa.string())), UNLABELLED)
        return np.asarray(found.combine_chunks().to_numpy(zero_copy_only=False), np.int32)

    def _numbered(self, lists: pa.ChunkedArray) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.bool_]]:
        """The numbers of the labels of all lists, one after another, where each begins and the last ends, and which
        lists are there."""
        lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
        there = pc.is_valid(lists).to_numpy()
        return self._numbers(_flat(lists)), np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]), there

    def _target(self, index: int) -> int | NDArray[np.float32]:
        index = _place(index, len(self))
        if self._sets is None:
            return int(self._labels[index])
        numbers, ends, there = self._sets
        own = numbers[ends[index] : ends[index + 1]] if there[index] else self._labels[index : index + 1]
        own = own[own >= 0]
        if not there[index] and not len(own):
            return np.full(len(self.classes), UNLABELLED, np.float32)
        target = np.zeros(len(self.classes), np.float32)
        target[own] = 1
        return target

    def _alone(self) -> None:
        """In a worker: the threads that OpenCV had before a fork are not there any more."""
        if self._process != os.getpid():
            import cv2

            cv2.setNumThreads(0)
            self._process = os.getpid()


def _place(index: int, count: int) -> int:
    if not -count <= index < count:
        raise IndexError(f"{index}: there are {count} images")
    return index % count


def _rows(source: str) -> pa.Table:
    """COLUMNS of all images, by their ids or in the order of the file."""
    if source.endswith((".parquet", ".csv", ".jsonl")):
        return _complete(_of_file(source), source)
    from imagesieve.tables import open as open_lake

    lake = open_lake(source)
    rows = lake.arrow("images", ["image_id", *COLUMNS]).sort_by("image_id")
    if "failures" in lake.tables:
        failed = lake.arrow("failures", ["image_id"])["image_id"]
        rows = rows.filter(pc.invert(pc.is_in(rows["image_id"], value_set=failed.combine_chunks())))
    return rows.select(list(COLUMNS))


def _of_file(source: str) -> pa.Table:
    import pyarrow.csv as pacsv
    import pyarrow.json as pajson
    import pyarrow.parquet as pq

    from udfs.stores import objects, uris

    from_here = uris.canonical(source, base=os.getcwd())  # noqa: PTH109 (a text)
    data = pa.BufferReader(objects.read_small(from_here, MOST_BYTES))
    if source.endswith(".parquet"):
        return pq.read_table(data)
    if source.endswith(".jsonl"):
        return pajson.read_json(data)
    texts = {name: pa.string() for name in ("uri", "shard", "split", "label", "labels")}
    return pacsv.read_csv(
        data,
        parse_options=pacsv.ParseOptions(newlines_in_values=True),
        convert_options=pacsv.ConvertOptions(
            column_types={**texts, "shard_offset": pa.int64(), "size_bytes": pa.int64()},
            strings_can_be_null=True, quoted_strings_can_be_null=False, null_values=[""],
        ),
    )  # fmt: skip


MOST_BYTES = 4 << 30  # of a file of references


def _complete(rows: pa.Table, source: str) -> pa.Table:
    """The table with COLUMNS alone, null where it has none."""
    if "uri" not in rows.column_names:
        raise ValueError(f"{source}: no column 'uri' (found: {', '.join(rows.column_names) or 'none'})")
    types: dict[str, Any] = {"shard_offset": pa.int64(), "size_bytes": pa.int64()}
    columns = {}
    for name in COLUMNS:
        kind = _LIST if name == "labels" else types.get(name, pa.string())
        if name not in rows.column_names:
            columns[name] = pa.chunked_array([pa.nulls(len(rows), kind)])
        elif name == "labels" and pa.types.is_string(rows[name].type):
            texts = rows[name].to_pylist()
            columns[name] = pa.chunked_array([[json.loads(text) if text else None for text in texts]], kind)
        else:
            columns[name] = rows[name].cast(kind)
    return pa.table(columns)


def _flat(lists: pa.ChunkedArray) -> pa.ChunkedArray:
    return pa.chunked_array([chunk.flatten() for chunk in lists.chunks], pa.string())
