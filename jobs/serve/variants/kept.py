"""Kept variants: in memory, and in a folder or below an s3:// prefix, each for a lifetime and within a bound.

A name is IMAGE_ID/DIGEST.FORMAT, so that all that is kept of one image can be found and deleted. Below an s3:// prefix
a lifecycle rule of the bucket ends their lives, and no bound holds."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from jobs.serve.pictures import Reference
from jobs.serve.recent import Recent
from udfs.stores import objects, uris
from udfs.stores.s3 import StoreError
from udfs.transforms.variants import Variant

LIFETIME_S = 24 * 3600.0
MEMORY_BYTES = 64 << 20
FOLDER_BYTES = 1 << 30
MOST_BYTES = 64 << 20  # of one variant


class Kept:
    """place: a folder or an s3:// prefix, canonical; None: memory alone. lifetime_s: after which one is made anew; of
    those on S3, by the rule of the bucket. says: gets one line where the place could not be used; the variant is made
    and answered all the same."""

    def __init__(
        self,
        place: str | None,
        lifetime_s: float = LIFETIME_S,
        folder_bytes: int = FOLDER_BYTES,
        says: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._place, self._lifetime_s, self._folder_bytes, self._says = place, lifetime_s, folder_bytes, says
        self._recent: Recent[tuple[float, bytes] | None] = Recent(MEMORY_BYTES, lambda one: len(one[1]) if one else 0)
        self._lock = threading.Lock()
        self._written = 0  # bytes since the folder was last looked at

    def get(self, image_id: int, reference: Reference, how: Variant, make: Callable[[], bytes | None]) -> bytes | None:
        """The file of a variant, made by make unless it is kept; None where make says so, which is not kept."""
        name = _name(image_id, reference, how)
        period = int(time.time() / self._lifetime_s)  # one in memory lives to the end of its period at most

        def found() -> tuple[float, bytes] | None:
            data = self._read(name)
            if data is None and (data := make()) is not None:
                self._write(name, data)
            return None if data is None else (time.time(), data)

        one = self._recent.get((name, period), found)
        return None if one is None else one[1]

    def _read(self, name: str) -> bytes | None:
        if self._place is None:
            return None
        try:
            if not uris.is_s3(self._place):
                path = self._path(name)
                if time.time() - path.stat().st_mtime > self._lifetime_s:
                    path.unlink(missing_ok=True)
                    return None
            return objects.read_small(uris.join(self._place, name), MOST_BYTES)
        except FileNotFoundError:
            return None
        except (StoreError, OSError) as error:
            self._says(f"a kept variant cannot be read: {error}")
            return None

    def _write(self, name: str, data: bytes) -> None:
        if self._place is None:
            return
        try:
            objects.put(uris.join(self._place, name), data)
        except StoreError as error:
            self._says(f"a variant cannot be kept: {error}")
            return
        if not uris.is_s3(self._place):
            with self._lock:
                self._written += len(data)
                if self._written > self._folder_bytes // 16:
                    self._written = 0
                    self._bound()

    def _bound(self) -> None:
        """Deletes what has outlived its time, and then the oldest, until the folder holds fifteen sixteenths of what
        it may."""
        files = []
        for path in Path(os.fsdecode(uris.local_path(str(self._place)))).glob("*/*.*"):
            with suppress(FileNotFoundError):
                stat = path.stat()
                files.append((stat.st_mtime, stat.st_size, path))
        total = sum(size for _, size, _ in files)
        for modified, size, path in sorted(files):
            is_old = time.time() - modified > self._lifetime_s
            if not is_old and total <= self._folder_bytes * 15 // 16:
                break
            path.unlink(missing_ok=True)
            total -= size
            with suppress(OSError):
                path.parent.rmdir()  # where it was the last

    def _path(self, name: str) -> Path:
        return Path(os.fsdecode(uris.local_path(uris.join(str(self._place), name))))


def _name(image_id: int, reference: Reference, how: Variant) -> str:
    digest = hashlib.sha256(repr((reference, how.key)).encode()).hexdigest()[:32]
    return f"{image_id}/{digest}.{how.format}"
