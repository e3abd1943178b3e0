"""Images in the rows of a Parquet file: which column holds their bytes, how many there are, and row after row."""

import bisect
import contextlib
import itertools
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from udfs.errors import CORRUPT, EMPTY, NOT_FOUND, TOO_MANY_BYTES, ImageError
from udfs.stores import ranges
from udfs.stores.s3_objects import Limits, as_image_error
from udfs.stores.tar import MAX_LABEL, Member

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

# Names of the column with the bytes, the likeliest first: of Hugging Face, img2dataset, and what people write.
COLUMNS = ("image", "bytes", "image_bytes", "jpg", "jpeg", "png", "webp", "content", "data")
TOLD = ("source", "split", "label", "owner")  # columns of text that are told of an image
SETS = ("labels", "label")  # columns that may hold a list of labels, the likelier first
MOST_LABELS = 1000  # of an image; others are left out
MIN_ROWS = 10_000  # a file may claim more rows than it has bytes only up to here: nulls take next to nothing
MAX_FOOTER = 256 << 20  # bytes: about 100,000 row groups of 20 columns
BATCH_BYTES = 4 << 20  # decoded at once, as far as the footer says how long rows are
BATCH_ROWS = 256
_LISTED_ROWS = 65_536
_BUFFER = 1 << 20  # bytes of a column that are read at once: without it a column of a row group is read whole


def bytes_column(schema: "pa.Schema") -> str | None:
    """The path of the column that holds images: the first of COLUMNS that is binary or a struct with a binary field
    `bytes`; else the only such column of any name; else None."""
    import pyarrow as pa

    def is_binary(kind: "pa.DataType") -> bool:
        return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))

    found: dict[str, str] = {}
    for field in schema:
        if is_binary(field.type):
            found[field.name] = field.name
        elif pa.types.is_struct(field.type):
            inner = field.type.get_field_index("bytes")
            if inner >= 0 and is_binary(field.type.field(inner).type):
                found[field.name] = f"{field.name}.bytes"
    for name in COLUMNS:
        if name in found:
            return found[name]
    return next(iter(found.values())) if len(found) == 1 else None


def list_rows(file: BinaryIO) -> Iterator[Member]:
    """A row group's rows after another's, with the text of the columns of TOLD and the lists of one of SETS, which come
    before a label; none where no column holds images. Their bytes are not read. Raises ImageError (corrupt)."""
    with _explained(file), contextlib.closing(_open(file)) as parquet:
        schema = parquet.schema_arrow
        if bytes_column(schema) is None:
            return
        if parquet.metadata.num_rows > max(MIN_ROWS, _length(file)):
            raise ImageError(CORRUPT, f"{parquet.metadata.num_rows} rows in {_length(file)} bytes cannot be images")
        told = [name for name in TOLD if _is_text(schema, name)]
        several = next((name for name in SETS if _is_list(schema, name)), None)
        names = {name: _class_names(schema, name) for name in SETS}
        read = [*told, *([several] if several else [])]
        number = 0
        if not read:
            for number in range(parquet.metadata.num_rows):
                yield Member(str(number), number)
            return
        for batch in parquet.iter_batches(_LISTED_ROWS, columns=read, use_threads=False):
            nothing = [None] * batch.num_rows
            columns: dict[str, Sequence[Any]] = {name: _texts(batch.column(name), names.get(name)) for name in told}
            sets = _sets(batch.column(several), names[several]) if several else nothing
            given = zip(*(columns.get(name, nothing) for name in TOLD), sets, strict=True)
            for source, split, label, owner, labels in given:
                yield Member(str(number), number, None, source, split, label if labels is None else None, owner, labels)
                number += 1


class Rows:
    """The images of one Parquet file, held open; cheap where they are asked for in the order of the file."""

    def __init__(self, uri: str, limits: Limits) -> None:
        self.uri = uri
        self._limits = limits
        self._stack = contextlib.ExitStack()
        self._parquet: pq.ParquetFile | None = None
        self._unusable: ImageError | None = None
        self._one_by_one: set[int] = set()  # row groups with a broken page
        self._broken: dict[int, tuple[int, ImageError]] = {}  # row group: from which row on, why
        self._group = -1
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._first = 0  # row number of the batch
        self._values: Any = ()

    def close(self) -> None:
        self._batches, self._values, self._parquet, self._group = iter(()), (), None, -1
        self._stack.close()

    def read(self, number: int) -> bytes:
        """The bytes of a row. Raises ImageError: empty, too_many_bytes, corrupt, not_found (no such row), and as
        udfs.stores.s3_objects.S3Object. Raises StoreError without credentials."""
        if self._unusable is not None:
            raise self._unusable
        if self._parquet is None:
            self._open()
        if not 0 <= number < self._starts[-1]:
            raise ImageError(NOT_FOUND, f"row {number} of {self._starts[-1]}")
        group = bisect.bisect_right(self._starts, number) - 1
        broken_from, error = self._broken.get(group, (self._starts[-1], None))
        if error is not None and number >= broken_from:
            raise error
        try:
            self._go_to(group, number)
        except ImageError as error:
            if error.code == CORRUPT and group not in self._one_by_one:
                # The rows before the broken page are there, if they are not read together with those in it.
                self._one_by_one.add(group)
                self._group = -1
                return self.read(number)
            self._broken[group] = max(self._first, self._starts[group]), error
            self._group, self._values = -1, ()
            raise
        value = self._values[number - self._first]
        data = value.as_buffer() if value.is_valid else None
        if data is None or data.size == 0:
            raise ImageError(EMPTY, "nothing in the row")
        if data.size > self._limits.max_bytes:
            raise ImageError(TOO_MANY_BYTES, f"{data.size} bytes, more than {self._limits.max_bytes}")
        return bytes(data.to_pybytes())

    def _open(self) -> None:
        try:
            self._file, _ = self._stack.enter_context(ranges.open_file(self.uri, None, self._limits))
            with _explained(self._file):
                parquet = _open(self._file)
                path = bytes_column(parquet.schema_arrow)
                if path is None:
                    raise ImageError(CORRUPT, "no column of the Parquet file holds images")
                self._path = path
                metadata = parquet.metadata
                counts = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
                self._starts = [0, *itertools.accumulate(counts)]
                if any(count < 0 for count in counts):
                    raise ImageError(CORRUPT, "a row group of less than no rows")
                self._parquet = parquet
        except ImageError as error:
            self._unusable = error
            raise

    def _go_to(self, group: int, number: int) -> None:
        """Makes the batch one that holds the row."""
        with _explained(self._file):
            if group != self._group or number < self._first:
                self._begin(group)
            while number >= self._first + len(self._values):
                self._first += len(self._values)
                self._values = ()  # not held while the next is read
                batch = next(self._batches, None)
                if batch is None:
                    raise ImageError(CORRUPT, f"row group {group} has fewer rows than the footer says")
                self._values = _bytes_of(batch)

    def _begin(self, group: int) -> None:
        if self._parquet is None:
            raise ValueError("not open")
        metadata = self._parquet.metadata.row_group(group)
        rows, length = max(1, metadata.num_rows), 0
        for index in range(metadata.num_columns):
            column = metadata.column(index)
            if column.path_in_schema == self._path:
                length = max(0, column.total_uncompressed_size)
                start = column.data_page_offset
                if column.has_dictionary_page:
                    start = min(start, column.dictionary_page_offset)
                if isinstance(self._file, ranges.RangeFile) and start >= 0:
                    self._file.announce(start, start + max(0, column.total_compressed_size))
        size = max(1, min(BATCH_ROWS, BATCH_BYTES * rows // max(1, length))) if group not in self._one_by_one else 1
        self._group, self._first, self._values = group, self._starts[group], ()
        self._batches = self._parquet.iter_batches(size, row_groups=[group], columns=[self._path], use_threads=False)


def _length(file: BinaryIO) -> int:
    return file.seek(0, 2)


def _open(file: BinaryIO) -> "pq.ParquetFile":
    import pyarrow.parquet as pq

    end = _length(file)
    file.seek(max(0, end - 8))
    tail = file.read(8)
    if tail[4:] != b"PAR1":
        raise ImageError(CORRUPT, "not a Parquet file: no footer at its end")
    if (length := int.from_bytes(tail[:4], "little")) > MAX_FOOTER:
        raise ImageError(CORRUPT, f"a Parquet footer of {length} bytes")
    return pq.ParquetFile(
        file, pre_buffer=False, buffer_size=_BUFFER, thrift_string_size_limit=MAX_FOOTER,
        thrift_container_size_limit=10_000_000,
    )  # fmt: skip


@contextlib.contextmanager
def _explained(file: BinaryIO) -> Iterator[None]:
    """Makes ImageErrors of pyarrow's; where the store had failed beneath it, the store's."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        beneath = getattr(file, "error", None)
        if isinstance(beneath, ImageError):
            raise beneath from error
        if isinstance(error, OSError) and error.errno is not None:
            raise as_image_error(error) from error
        raise ImageError(CORRUPT, f"not readable as Parquet: {error}") from error


def _bytes_of(batch: "pa.RecordBatch") -> "pa.Array":
    import pyarrow as pa
    import pyarrow.compute as pc

    column = batch.column(0)
    return pc.struct_field(column, "bytes") if pa.types.is_struct(column.type) else column


def _is_text(schema: "pa.Schema", name: str) -> bool:
    """Whether there is one column of this name whose values can be said as a text."""
    return len(schema.get_all_field_indices(name)) == 1 and _is_sayable(schema.field(name).type)


def _is_list(schema: "pa.Schema", name: str) -> bool:
    """Whether there is one column of this name that holds lists of such values."""
    import pyarrow as pa

    if len(schema.get_all_field_indices(name)) != 1:
        return False
    kind = schema.field(name).type
    return (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and _is_sayable(kind.value_type)


def _is_sayable(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind)
        or pa.types.is_boolean(kind) or pa.types.is_floating(kind)
    )  # fmt: skip


def _texts(column: "pa.Array", names: list[str] | None) -> list[str | None]:
    """Values as texts of at most MAX_LABEL characters, blank ones as None. names: what whole numbers stand for."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if names is not None and pa.types.is_integer(column.type):
        return [
            None if value is None or value < 0 else names[value] if value < len(names) else str(value)
            for value in column.to_pylist()
        ]
    if pa.types.is_floating(column.type):  # pandas writes labels 0, 1, 2 beside a missing one so
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    texts = pc.utf8_trim_whitespace(pc.cast(column, pa.string()))
    return [text or None for text in pc.utf8_slice_codeunits(texts, 0, MAX_LABEL).to_pylist()]


def _sets(column: "pa.Array", names: list[str] | None) -> list[list[str] | None]:
    """Lists of texts, in order, none twice, at most MOST_LABELS; None where there is no list. names: see _texts."""
    texts = _texts(column.flatten(), names)
    found: list[list[str] | None] = []
    at = 0
    for size in column.value_lengths().to_pylist():
        found.append(None if size is None else sorted({text for text in texts[at : at + size] if text})[:MOST_LABELS])
        at += size or 0
    return found


def _class_names(schema: "pa.Schema", column: str) -> list[str] | None:
    """What the numbers of a column stand for, from a ClassLabel of Hugging Face, or a list of these; None without."""
    told = (schema.metadata or {}).get(b"huggingface")
    if told is None:
        return None
    try:
        feature = json.loads(told)["info"]["features"][column]
        feature = feature[0] if isinstance(feature, list) else feature.get("feature", feature)
        names = feature["names"]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    return [name.strip()[:MAX_LABEL] for name in names]
