"""Evidence: what is kept of each picture of a lake so that another can be held against it without reading the lake.

A folder of files that are mapped, in the order of the gallery's rows; two of them, `vectors.bin` and `looks.bin`, are
large and read a row at a time, from the folder or from S3."""

from __future__ import annotations

import json
import os
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from udfs.images.starts import SIDE as THUMBNAIL_SIDE
from udfs.stores import uris
from udfs.stores.s3_objects import Limits, S3Object
from udfs.vectors.cosine import Vectors

META = "door.json"
LAYOUT = 1  # of the folder: another number makes all anew
LARGE = ("vectors.bin", "looks.bin")
THUMBNAIL = THUMBNAIL_SIDE**2  # bytes, before each look
HASH_BYTES, SHA_BYTES = 16, 32
AT_ONCE = 8  # requests to S3
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Facts:
    """What is usual in a lake. median, usual: of formulas.Sizes. is_coloured: whether most of it is. common: issues
    that so many have that the lake is like that."""

    median: float
    usual: float
    is_coloured: bool
    common: tuple[str, ...]


class Evidence:
    """A folder that is open. elsewhere: a canonical URI where the LARGE files lie, if not in it.

    Of each row: hashes (n, HASH_BYTES) and sha256 (n, SHA_BYTES) uint8, zeros where the picture was not read;
    perceptual_hash int64; ninth, tenth: cosines of these neighbours, NaN where it has fewer; representative: the row of
    the best one of equal pixels; keeper: the row of what its cluster keeps, -1 where it is in none; squeezed bool."""

    def __init__(self, folder: Path, elsewhere: str | None = None) -> None:
        self.folder = folder
        meta: dict[str, Any] = json.loads((folder / META).read_text(encoding="utf-8"))
        self.images: int = meta["images"]
        self.dimension: int = meta["dimension"]
        self.facts = Facts(**{**meta["facts"], "common": tuple(meta["facts"]["common"])})
        self.at: dict[str, int | None] = meta["at"]
        load: Callable[[str], NDArray[Any]] = lambda name: np.load(  # noqa: E731
            folder / f"{name}.npy", mmap_mode="r" if self.images else None, allow_pickle=False
        )
        self.hashes, self.sha256 = load("hashes"), load("sha256")
        self.perceptual_hash, self.ninth, self.tenth = load("perceptual_hash"), load("ninth"), load("tenth")
        self.representative, self.keeper, self.squeezed = load("representative"), load("keeper"), load("squeezed")
        self._by_hash, self._firsts = load("by_hash"), load("firsts")
        self._has_vector, self._starts, self._sizes = load("has_vector"), load("look_starts"), load("look_sizes")
        places = [uris.join(elsewhere, name) if elsewhere else str(folder.resolve() / name) for name in LARGE]
        self._vectors, self._looks = (_reader(place) for place in places)

    def exact(self, pixel_hash: str, most: int) -> tuple[int, Rows]:
        """How many pictures have equal pixels, and the first rows of these. pixel_hash: hexadecimal digits."""
        first, second = (int(pixel_hash[at : at + HASH_BYTES], 16) for at in (0, HASH_BYTES))
        low, high = (int(np.searchsorted(self._firsts, np.uint64(first), side)) for side in ("left", "right"))

        def half(place: int) -> int:
            return int.from_bytes(self.hashes[self._by_hash[place], HASH_BYTES // 2 :].tobytes())

        places = range(low, high)
        low, high = low + bisect_left(places, second, key=half), low + bisect_right(places, second, key=half)
        return high - low, np.sort(np.asarray(self._by_hash[low : min(high, low + most)], np.int64))

    def vectors(self, rows: Rows) -> Vectors:
        """(n, d) float32 of rows that have one; others are zeros."""
        length = 2 * self.dimension
        found = np.zeros((len(rows), self.dimension), np.float16)
        there = np.flatnonzero(self._has_vector[rows])
        parts = self._vectors([(length * int(rows[place]), length) for place in there.tolist()])
        for place, part in zip(there.tolist(), parts, strict=True):
            found[place] = np.frombuffer(part, np.float16)
        return found.astype(np.float32)

    def looks(self, rows: Rows) -> list[tuple[bytes, bytes] | None]:
        """The thumbnail and the look of each; None where it has none."""
        sizes = self._sizes[rows]
        there = np.flatnonzero(sizes > 0)
        wanted = [(int(self._starts[rows[place]]), int(sizes[place])) for place in there.tolist()]
        found: list[tuple[bytes, bytes] | None] = [None] * len(rows)
        for place, part in zip(there.tolist(), self._looks(wanted), strict=True):
            found[place] = part[:THUMBNAIL], part[THUMBNAIL:]
        return found


Read = Callable[[Sequence[tuple[int, int]]], list[bytes]]  # maps starts and lengths to bytes


def _reader(place: str) -> Read:
    if uris.is_s3(place):
        stored = S3Object(place, Limits())
        pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="evidence")
        return lambda parts: list(pool.map(lambda part: bytes(stored.part(*part)), parts))
    file = Path(os.fsdecode(uris.local_path(place))).open("rb", buffering=0)  # noqa: SIM115 (open as long as the reader is)

    def read(parts: Sequence[tuple[int, int]]) -> list[bytes]:
        return [os.pread(file.fileno(), length, start) for start, length in parts]

    return read
