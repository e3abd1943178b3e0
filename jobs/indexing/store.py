"""The index in a lake: under LAKE/vector-index files that never change, named by their digests, and index.json, which
says which of them are the index. It is written last, so that nobody ever sees half an index."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from jobs.indexing import segments, space
from jobs.indexing.reading import SOURCES
from jobs.indexing.segments import Segment
from jobs.indexing.space import Space
from udfs.stores import objects, s3, uris
from udfs.stores.cache import user_cache
from udfs.stores.s3 import StoreError

FOLDER = "vector-index"
MANIFEST = "index.json"
LAYOUT = 1  # of the files: one of another number is made anew
MOST_MANIFEST_BYTES = 1 << 20
MOST_FILE_BYTES = 1 << 42
MOST_SEGMENTS = 64
NAME = re.compile(r"^[a-z]{1,16}-[0-9a-f]{32}\.np[yz]$")
_CLOSED = ConfigDict(extra="forbid", strict=True)


T = TypeVar("T")


class BrokenIndexError(ValueError):
    """What lies in the lake is no index: one line."""


@dataclass(frozen=True, config=_CLOSED)
class File:
    """name: in FOLDER. sha256: of its bytes, lower case."""

    name: Annotated[str, Field(pattern=NAME.pattern)]
    bytes: Annotated[int, Field(ge=0, le=MOST_FILE_BYTES)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True, config=_CLOSED)
class Part:
    """A segment. files: by the names of segments.files_of. alive: (images,) bool, None where all are."""

    images: Annotated[int, Field(ge=0)]
    files: dict[str, File]
    alive: File | None = None


@dataclass(frozen=True, config=_CLOSED)
class Recall:
    """at_10: the share of the ten nearest that was found of `queries` pictures, with low..high the interval of 95 %,
    when the index was made anew of `images`."""

    at_10: Annotated[float, Field(ge=0, le=1)]
    low: Annotated[float, Field(ge=0, le=1)]
    high: Annotated[float, Field(ge=0, le=1)]
    queries: int
    images: int


@dataclass(frozen=True, config=_CLOSED)
class Manifest:
    """model: name@revision of the vectors. tables: their versions. images: that are alive. made_of: how many there were
    when it was made anew."""

    layout: int
    model: str
    has_classes: bool
    tables: dict[str, int | None]
    images: int
    made_of: int
    space: File
    parts: Annotated[list[Part], Field(max_length=MOST_SEGMENTS)]
    recall: Recall | None = None

    def files(self) -> Iterator[File]:
        yield self.space
        for part in self.parts:
            yield from part.files.values()
            if part.alive is not None:
                yield part.alive

    @property
    def digest(self) -> str:
        """Of all that decides an answer."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


_MANIFEST = TypeAdapter(Manifest)


def read(lake: str) -> Manifest | None:
    """The manifest of a lake's index; None where there is none, or one of another layout. Raises BrokenIndexError,
    StoreError."""
    place = uris.join(lake, FOLDER, MANIFEST)
    try:
        data = objects.read_small(place, MOST_MANIFEST_BYTES)
        given = json.loads(data)
        if isinstance(given, dict) and given.get("layout") != LAYOUT:
            return None
        found = _MANIFEST.validate_json(data)
    except FileNotFoundError:
        return None
    except (ValidationError, ValueError, RecursionError) as error:
        told = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise BrokenIndexError(f"{place}: cannot be read ({told}): remove it, and run `imagesieve index`") from error
    wanted = set(segments.files_of(found.has_classes))
    if set(found.tables) != set(SOURCES) or any(set(part.files) != wanted for part in found.parts):
        raise BrokenIndexError(f"{place}: names other files: remove it, and run `imagesieve index`")
    return found


def is_there(lake: str) -> bool:
    """Raises StoreError."""
    return objects.exists(uris.join(lake, FOLDER, MANIFEST))


def local(lake: str, file: File) -> Path:
    """A file of the index on this machine: where it lies, or from S3 by way of the cache, its digest checked. Raises
    FileNotFoundError where another run has taken it away, BrokenIndexError, StoreError."""
    place = uris.join(lake, FOLDER, file.name)
    if not uris.is_s3(lake):
        path = Path(os.fsdecode(uris.local_path(place)))
        if path.stat().st_size != file.bytes:
            raise BrokenIndexError(f"{place}: has another size: run `imagesieve index --new-index`")
        return path
    path = cache_of(lake) / file.name
    if not path.exists() or path.stat().st_size != file.bytes:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = path.with_name(f".{os.getpid()}-{path.name}")
        try:
            _download(place, draft)
            if digest_of(draft) != file.sha256:
                raise BrokenIndexError(f"{place}: has other bytes: run `imagesieve index --new-index`")
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    return path


def forget_others(lake: str, manifest: Manifest) -> None:
    """Takes out of the cache what an index of a lake no longer has; who has it mapped keeps it."""
    named = {file.name for file in manifest.files()}
    if uris.is_s3(lake) and cache_of(lake).is_dir():
        for path in cache_of(lake).iterdir():
            if path.name not in named and NAME.fullmatch(path.name):
                path.unlink(missing_ok=True)


def open_space(lake: str, manifest: Manifest) -> Space:
    """Raises as local()."""
    if manifest.space.bytes > space.MOST_BYTES:
        raise BrokenIndexError(f"{lake}: {manifest.space.bytes} bytes of a space are too many")
    return _checked(lambda: space.load(local(lake, manifest.space)))


def open_part(lake: str, part: Part, of: Space) -> Segment:
    """Raises as local()."""
    found = _checked(lambda: segments.opened({name: local(lake, file) for name, file in part.files.items()}, of))
    if found.images != part.images:
        raise BrokenIndexError(f"{lake}: a segment of {found.images} pictures, not {part.images}")
    return found


def open_array(lake: str, file: File) -> Any:
    """A single array, mapped. Raises as local()."""
    return _checked(lambda: segments.mapped(local(lake, file)))


def put(lake: str, name: str, file: Path) -> File:
    """Keeps a file; nothing names it yet. Raises StoreError."""
    digest = digest_of(file)
    kept = File(f"{name}-{digest[:32]}{file.suffix}", file.stat().st_size, digest)
    with objects.replacing(uris.join(lake, FOLDER, kept.name)) as draft:
        shutil.copyfile(file, draft)
    return kept


def name(lake: str, manifest: Manifest) -> None:
    """Makes these files the index of a lake, and takes away all others. Raises StoreError."""
    objects.put(uris.join(lake, FOLDER, MANIFEST), json.dumps(asdict(manifest), indent=1).encode())
    _sweep(lake, {file.name for file in manifest.files()})


def remove(lake: str) -> bool:
    """Takes the index away; whether there was any. Raises StoreError."""
    place = uris.join(lake, FOLDER, MANIFEST)
    was = objects.exists(place)
    objects.delete(place)
    _sweep(lake, set())
    return was


def digest_of(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sweep(lake: str, kept: set[str]) -> None:
    """Takes away files that nothing names: of runs that were killed, or of an index that is no more."""
    for file in objects.list_small(uris.join(lake, FOLDER)):
        if file not in kept and file != MANIFEST:
            objects.delete(uris.join(lake, FOLDER, file))


def cache_of(lake: str) -> Path:
    """Where files of a lake's index on S3 are kept on this machine."""
    return user_cache() / FOLDER / hashlib.sha256(lake.encode()).hexdigest()[:16]


def _download(uri: str, path: Path) -> None:
    bucket, key = uris.split_s3(uri)
    try:
        s3.client(timeout_s=60.0).download_file(bucket, key, str(path))
    except Exception as error:
        if s3.is_aws_error(error) and s3.aws_code(error)[1] == 404:
            raise FileNotFoundError(uri) from error
        if s3.is_aws_error(error) or isinstance(error, OSError):
            raise s3.store_error(uri, error) from error
        raise


def _checked(work: Callable[[], T]) -> T:
    try:
        return work()
    except (BrokenIndexError, StoreError, FileNotFoundError):
        raise
    except (ValueError, OSError) as error:
        raise BrokenIndexError(f"{' '.join(str(error).split())}: run `imagesieve index --new-index`") from error
