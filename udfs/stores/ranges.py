"""Parts of files and objects: one range by one request, and a file to read and seek in, read ahead where it pays.

Costs: a GET of S3 costs $4e-7, as much as 36 ms of a vCPU at $0.04 an hour, and takes as much CPU as 300 KB more of an
answer that is being read (photographs of 110 KB: 0.44 ms each by a request of its own, 0.10 ms by one for many).
"""

import contextlib
import io
import os
import stat as modes
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, BinaryIO, cast

from udfs.errors import FETCH_FAILED, TRUNCATED, ImageError
from udfs.stores import s3, uris
from udfs.stores.s3_objects import Limits, S3Object

AHEAD = 8 << 20  # bytes of one request of a file that is read on and on; at most two are held
FIRST = 64 << 10  # bytes of a request after a jump: a tar header, or a Parquet footer


def not_a_file(mode: int) -> ImageError:
    """What is to be said of a path that is no regular file. mode: st_mode."""
    kind = next((kind for kind, test in _KINDS.items() if test(mode)), None)
    return ImageError(FETCH_FAILED, f"{kind}, not a file" if kind else "not a regular file")


@contextlib.contextmanager
def open_local(uri: str) -> Iterator[tuple[int, int]]:
    """(descriptor, size in bytes) of a regular file, open while inside. Raises ImageError, also for OSErrors inside."""
    path = uris.local_path(uri)
    try:
        # Looked at before it is opened: opening alone can hang on a pipe and act on a device.
        mode = os.stat(path).st_mode  # noqa: PTH116 (bytes)
        if not modes.S_ISREG(mode):
            raise not_a_file(mode)
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            found = os.fstat(file)
            if not modes.S_ISREG(found.st_mode):
                raise not_a_file(found.st_mode)
            yield file, found.st_size
        finally:
            os.close(file)
    except OSError as error:
        raise s3.image_error(error) from error


def read_at(file: int, start: int, length: int) -> bytes:
    """length bytes of an open file from start on, fewer where it ends before."""
    data = os.pread(file, length, start)
    if len(data) in (0, length):
        return data
    parts = [data]
    while data and (missing := length - sum(map(len, parts))):
        data = os.pread(file, missing, start + length - missing)
        parts.append(data)
    return b"".join(parts)


@contextlib.contextmanager
def open_file(uri: str, size: int | None, limits: Limits) -> "Iterator[tuple[BinaryIO, int]]":
    """(file to read and seek in, its size in bytes), local or in S3, open while inside.

    size: of an object, where it is known. Reading it raises ImageError; a local file also OSError. A file from S3 is a
    RangeFile."""
    if not uris.is_s3(uri):
        with open_local(uri) as (file, found), os.fdopen(os.dup(file), "rb") as stream:
            yield stream, found
        return
    if size is None:
        size = S3Object(uri, limits).head().size
    opened = RangeFile(uri, size, limits)
    with contextlib.closing(opened):
        yield cast(BinaryIO, opened), size


class Placed(io.RawIOBase):
    """A file of a known size to read and seek in. Whoever reads moves _at on."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size, self._at = size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"seek to {base + offset}")
        self._at = base + offset
        return self._at


class RangeFile(Placed):
    """An S3 object of a known size as a file. What is asked for after a jump is asked for alone; where reading goes on,
    requests double up to AHEAD, and then the next is on its way while one is read. Raises as S3Object; the latest
    such error is kept in `error`, for a library that puts its own in its place."""

    def __init__(self, uri: str, size: int, limits: Limits) -> None:
        super().__init__(size)
        self._object = S3Object(uri, limits)
        self._start = 0  # of what is held
        self._held = memoryview(b"")
        self._chunk = FIRST
        self._known_end = 0
        self._next: tuple[int, Future[memoryview]] | None = None
        self._pool: ThreadPoolExecutor | None = None
        self.error: ImageError | None = None

    def announce(self, start: int, end: int) -> None:
        """Says that bytes start … end - 1 will all be read, in order: from there on requests are large at once."""
        self._at_most(start)
        self._chunk, self._known_end = AHEAD, min(end, self._size)

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        data = self._some(len(view))
        view[: len(data)] = data
        return len(data)

    def read(self, size: int | None = -1) -> bytes:
        """All of size bytes but at the end of the object."""
        missing = self._size - self._at if size is None or size < 0 else min(size, self._size - self._at)
        parts: list[memoryview] = []
        while missing > 0:
            data = self._some(missing)
            if not data:
                break
            parts.append(data)
            missing -= len(data)
        return bytes(parts[0]) if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        self._held, self._next = memoryview(b""), None
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
        super().close()

    def _at_most(self, start: int) -> None:
        """Lets go of a request under way that nobody will read."""
        if self._next is not None and not self._next[0] <= start < self._next[0] + AHEAD:
            self._next[1].cancel()
            self._next = None

    def _some(self, wanted: int) -> memoryview:
        """Some of the bytes from here on, at least one but at the end; moves on."""
        if self._at >= self._size or wanted <= 0:
            return memoryview(b"")
        if not self._start <= self._at < self._start + len(self._held):
            self._fill(wanted)
        begin = self._at - self._start
        data = self._held[begin : begin + wanted]
        self._at += len(data)
        return data

    def _fill(self, wanted: int) -> None:
        end = self._start + len(self._held)
        announced = self._at < self._known_end
        if not announced:
            # A jump no longer than what the last request took is reading on.
            on = end <= self._at <= end + self._chunk and end > 0
            self._chunk = min(2 * self._chunk, AHEAD) if on else FIRST
        self._held = memoryview(b"")  # before the next is there: at most two are held
        self._at_most(self._at)
        try:
            if self._next is not None:
                (start, future), self._next = self._next, None
                self._start, self._held = start, future.result()
            if not self._start <= self._at < self._start + len(self._held):
                length = max(wanted, self._chunk) if not announced else self._chunk
                stop = min(self._at + min(length, AHEAD), self._known_end if announced else self._size)
                self._start, self._held = self._at, self._object.part(self._at, stop - self._at)
                if len(self._held) < stop - self._at:
                    raise ImageError(TRUNCATED, f"{self._size} bytes long when it was listed, shorter now")
        except ImageError as error:
            self.error = error
            raise
        if self._chunk == AHEAD:
            self._read_ahead(self._start + len(self._held), self._known_end if announced else self._size)

    def _read_ahead(self, start: int, end: int) -> None:
        if start >= end:
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="ahead")
        length = min(AHEAD, end - start)
        self._next = start, self._pool.submit(self._object.part, start, length)


_KINDS: dict[str, Callable[[int], bool]] = {
    "a folder": modes.S_ISDIR,
    "a pipe": modes.S_ISFIFO,
    "a socket": modes.S_ISSOCK,
    "a device": lambda mode: modes.S_ISCHR(mode) or modes.S_ISBLK(mode),
}
