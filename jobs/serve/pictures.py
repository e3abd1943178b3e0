"""Pictures: small and large ones of images where they lie, decoded in a child process, the small ones kept.

No byte of an image file reaches the server's own process or a browser: what the child makes is a JPEG of its pixels."""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Future

import pyarrow as pa

from jobs.serve.recent import Recent
from udfs import arrow
from udfs.images.rows import REFERENCE
from udfs.stores import fetch
from udfs.transforms.variants import Variant

THUMBNAIL_SIDE, MEDIUM_SIDE, LARGE_SIDE = 320, 768, 2048  # pixels at most
KEPT_BYTES = 96 << 20  # of small pictures
TOGETHER = 16  # that a child gets at once
WORKERS = 2
HANG_S = 60.0  # that one picture may take
FETCH_THREADS = 8

Reference = tuple[str, str | None, int | None, int | None]
Asked = tuple[Reference, int | Variant]


class Pictures:
    """Makes pictures. max_pixels, limits: of what is read and decoded."""

    def __init__(self, limits: fetch.Limits, max_pixels: int) -> None:
        self._limits, self._max_pixels = limits, max_pixels
        self._kept: Recent[bytes | None] = Recent(KEPT_BYTES, lambda made: len(made or b""))
        self._asked: dict[Asked, Future[bytes | None]] = {}
        self._queue: queue.LifoQueue[Asked | None] = queue.LifoQueue()  # what is looked at now first
        self._lock = threading.Lock()
        self._workers = [threading.Thread(target=self._work, name="pictures", daemon=True) for _ in range(WORKERS)]
        for worker in self._workers:
            worker.start()

    def small(self, reference: Reference) -> bytes | None:
        """A JPEG of at most THUMBNAIL_SIDE pixels; None where the image cannot be read. Raises what has kept the
        decoder from its work."""
        return self._kept.get(reference, lambda: self._asked_for(reference, THUMBNAIL_SIDE).result())

    def kept(self, reference: Reference) -> bytes | None:
        """As small(), but None too where it is not made yet; never waits."""
        return self._kept.kept(reference)

    def medium(self, reference: Reference) -> bytes | None:
        """A JPEG of at most MEDIUM_SIDE pixels; None where the image cannot be read."""
        return self._asked_for(reference, MEDIUM_SIDE).result()

    def large(self, reference: Reference) -> bytes | None:
        """A JPEG of at most LARGE_SIDE pixels; None where the image cannot be read."""
        return self._asked_for(reference, LARGE_SIDE).result()

    def variant(self, reference: Reference, how: Variant) -> bytes | None:
        """The file of a variant; None where the image cannot be read."""
        return self._asked_for(reference, how).result()

    def close(self) -> None:
        for _ in self._workers:
            self._queue.put(None)

    def _asked_for(self, reference: Reference, how: int | Variant) -> Future[bytes | None]:
        with self._lock:
            asked = self._asked.get((reference, how))
            if asked is None:
                asked = self._asked[reference, how] = Future()
                self._queue.put((reference, how))
            return asked

    def _work(self) -> None:
        while (first := self._queue.get()) is not None:
            group, later = [first], list[Asked | None]()
            while len(group) < TOGETHER:
                try:
                    more = self._queue.get_nowait()
                except queue.Empty:
                    break
                if more is None or more[1] != first[1]:
                    later.append(more)
                    break
                group.append(more)
            for each in later:
                self._queue.put(each)
            self._make(group)

    def _make(self, group: list[Asked]) -> None:
        task = arrow.ThumbnailTask(self._limits, FETCH_THREADS, self._max_pixels, group[0][1])
        rows = [dict(zip(REFERENCE.names, reference, strict=True)) for reference, _ in group]
        schema = REFERENCE.append(pa.field("image_id", pa.int64()))
        batch = pa.RecordBatch.from_pylist([{**row, "image_id": n} for n, row in enumerate(rows)], schema=schema)
        made: dict[int, bytes | None] = {}
        fault: Exception | None = None
        try:
            for done in arrow.thumbnail_batches(task, HANG_S)(iter([batch])):
                made |= {row["image_id"]: row["jpeg"] for row in done.to_pylist()}
        except Exception as error:  # of the machine or the store, not of the images: they are asked for again
            fault = error
        for number, asked in enumerate(group):
            with self._lock:
                future = self._asked.pop(asked)
            if number in made:
                future.set_result(made[number])
            else:
                future.set_exception(fault or RuntimeError("the decoder said nothing"))
