"""The members of a tar archive: where their data lie, without reading them."""

import tarfile
from array import array
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple, cast

import numpy as np

from udfs.errors import CORRUPT, ImageError

MAX_HEADER = 1 << 20  # bytes read to come from one member to the next; an extended header of more is no image's
MAX_GLOBALS = 100  # different keys of PAX global headers
MAX_NAME = 4096  # characters, as a path has at most
MAX_LABEL = 200  # characters
APART = -1  # the offset of a label without an image beside it
MAX_GROUP = 64  # images that wait for the label that may stand behind them
_BLOCK = 512


class Member(NamedTuple):
    """One image of a shard. offset: of its data in a tar, number of its row in a Parquet file. size_bytes: None where
    it is not known. source, split, label, owner: as the shard says, None where it does not; labels: several."""

    name: str
    offset: int
    size_bytes: int | None = None
    source: str | None = None
    split: str | None = None
    label: str | None = None
    owner: str | None = None
    labels: list[str] | None = None


def list_tar(file: BinaryIO, size: int, is_image: Callable[[str], bool], skip: Callable[[], None]) -> Iterator[Member]:
    """The images of a tar archive in their order; of one that breaks off, those up to there, and then ImageError.

    file: of size bytes; only headers and labels are read. is_image: of a name. skip: called for every other member but
    folders. Only regular files count, whose name has no part that begins with `.`. The label is the text of a
    neighbouring member of the same name with the ending `.cls`, as in WebDataset: a name ends at the first dot of its
    last part. A label that stands apart from its image comes as a member of that name with the offset APART. Holds
    nothing that grows with the archive. Raises ImageError (corrupt)."""
    group: list[Member] = []
    key, label, fault = None, None, None
    members = _members(file, size)
    while True:
        try:
            info = next(members, None)
        except ImageError as error:
            info, fault = None, error
        if info is None:
            break
        name = _plain(info.name)
        if info.isdir():
            continue
        if not info.isreg() or info.issparse() or not _is_usable(name):
            skip()
            continue
        folder, slash, base = name.rpartition("/")
        stem, _, ending = base.partition(".")
        if (now := folder + slash + stem) != key or len(group) == MAX_GROUP:
            yield from _labelled(key, group, label)
            group.clear()
            label = label if now == key else None
            key = now
        if ending.lower() == "cls":
            label = _label(file, info)
        elif is_image(name):
            group.append(Member(name, info.offset_data, info.size))
        else:
            skip()
    yield from _labelled(key, group, label)
    if fault is not None:
        raise fault


class Repeats:
    """Finds out whether a name stood twice in an archive, by 8 bytes a name."""

    def __init__(self) -> None:
        self._hashes = array("q")

    def add(self, name: str) -> None:
        self._hashes.append(hash(name))

    def any(self) -> bool:
        """Whether any did; once in a while also where none did."""
        hashes = np.frombuffer(self._hashes, np.int64)
        return len(hashes) > 1 and bool((np.diff(np.sort(hashes)) == 0).any())


class _Headers:
    """What tarfile reads from: a file of which it gets no more than MAX_HEADER bytes for one member, since it takes the
    lengths of extended headers, and how many there are, as the archive says."""

    mode = "rb"

    def __init__(self, file: BinaryIO) -> None:
        self.left = MAX_HEADER
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        self.left -= size
        if size < 0 or self.left < 0:
            raise tarfile.ReadError("absurdly long headers")
        return self._file.read(size)


def _members(file: BinaryIO, size: int) -> Iterator[tarfile.TarInfo]:
    headers = _Headers(file)
    archive: tarfile.TarFile | None = None
    at, number = -1, 0
    try:
        while True:
            headers.left = MAX_HEADER
            if archive is None:
                archive = tarfile.TarFile(fileobj=cast(BinaryIO, headers), encoding="utf-8", errors="backslashreplace")
            info = archive.next()
            if info is None:
                break
            archive.members.clear()  # type: ignore[attr-defined]
            # Lengths can be negative, and lead back.
            if info.size < 0 or archive.offset <= at or len(archive.pax_headers) > MAX_GLOBALS:
                raise tarfile.ReadError("impossible header")
            at = archive.offset
            if info.isreg() and not info.issparse() and info.offset_data + info.size > size:
                raise tarfile.ReadError("unexpected end of data")
            yield info
            number += 1
        # tarfile takes a broken header for the end. An archive may lack the two blocks of zeros at its end.
        file.seek(archive.offset)
        last = file.read(_BLOCK)
        if last.strip(b"\0") or len(last) not in (0, _BLOCK):
            raise tarfile.ReadError("no header")
    except (ImageError, GeneratorExit):
        raise
    except Exception as error:  # of hostile headers tarfile raises what its parsing happens to raise
        if isinstance(error, OSError) and not isinstance(error, tarfile.TarError):
            raise
        where = f"after {number} members, at byte {archive.offset if archive else 0}"
        raise ImageError(CORRUPT, f"not a whole tar archive: {error} {where}") from error


def _plain(name: str) -> str:
    """A member's name without what says nothing: `./`, a leading or doubled `/`."""
    if "./" in name or "//" in name or name.startswith("/"):
        return "/".join(part for part in name.split("/") if part not in ("", "."))
    return name


def _is_usable(name: str) -> bool:
    return bool(name) and len(name) <= MAX_NAME and "\0" not in name and name[0] != "." and "/." not in name


def _label(file: BinaryIO, info: tarfile.TarInfo) -> str | None:
    if info.size > 8 * MAX_LABEL:
        return None
    file.seek(info.offset_data)
    return file.read(info.size).decode("utf-8", "replace").strip()[:MAX_LABEL] or None


def _labelled(key: str | None, group: list[Member], label: str | None) -> Iterator[Member]:
    for member in group:
        yield member if label is None else member._replace(label=label)
    if not group and key is not None and label is not None:
        yield Member(key, APART, label=label)
