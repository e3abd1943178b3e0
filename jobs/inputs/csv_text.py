"""What a CSV manifest is before an engine reads it: its encoding, its separator, its columns."""

from __future__ import annotations

import csv
import gzip
import io
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, cast

from jobs.errors import InputError
from udfs.errors import ImageError
from udfs.stores import ranges
from udfs.stores.s3_objects import Limits

HEAD = 1 << 20  # bytes in which the first line must end
_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"\x1f\x8b": "gzip"}
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}


def check_header(uri: str) -> None:
    """Raises InputError for another encoding, another separator than the comma, and two columns of one name."""
    with _opened(uri) as file:
        head = file.read(HEAD)
    mark = next((name for start, name in _MARKS.items() if head.startswith(start)), None)
    if mark is not None:
        raise InputError(f"{uri}: is {mark}, save it as UTF-8" + (" or name it .csv.gz" if mark == "gzip" else ""))
    line = head.removeprefix(b"\xef\xbb\xbf").split(b"\n", 1)[0].decode("utf-8", "replace").rstrip("\r")
    names = next(csv.reader([line]), [])
    other = next((words for mark, words in _SEPARATORS.items() if len(names) == 1 and mark in names[0]), None)
    if other is not None:
        raise InputError(f"{uri}: its columns stand between {other}: separate them by commas")
    twice = [name for name, count in Counter(name.strip().lower() for name in names).items() if count > 1]
    if twice:
        raise InputError(f"{uri}: has the column {twice[0]!r} twice")


def not_utf8(uri: str) -> str | None:
    """The first line and byte of a file that are no UTF-8, for a person; None where all are."""
    with _opened(uri) as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return (
                    f"line {number}, byte {error.start + 1} is no UTF-8 (0x{line[error.start]:02x}): save it as UTF-8"
                )
    return None


@contextmanager
def _opened(uri: str) -> Iterator[IO[bytes]]:
    """Raises InputError where it cannot be read."""
    try:
        with ranges.open_file(uri, None, Limits()) as (file, _):
            stream = io.BufferedReader(cast(io.RawIOBase, file))
            yield cast(IO[bytes], gzip.GzipFile(fileobj=stream)) if uri.lower().endswith(".gz") else stream
    except (ImageError, OSError, EOFError) as error:
        raise InputError(f"{uri}: cannot be read ({' '.join(str(error).split())[:200]})") from error
