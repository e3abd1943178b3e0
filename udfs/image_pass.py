"""One pass over images: each is fetched once and decoded once; hashes, properties and the embedding come of that.

This runs in the child of udfs.children.isolation. Fetching runs ahead of decoding, and decoding ahead of a GPU, each by
a bounded number of images. Pixels never leave this process."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import cv2
import numpy as np
import pyarrow as pa
import simplejpeg
from numpy.typing import NDArray

from udfs.albums.taken import taken_at
from udfs.children.messages import ROW, Batches, Board
from udfs.errors import NO_VECTOR, ImageError
from udfs.images import alignment, decode, hashing, looks, medium, quality
from udfs.images.rows import EMBEDDED, GIVEN_VECTOR, HANDED_ON, REFERENCE, THUMBNAILS
from udfs.images.scaling import resized
from udfs.networks import embedding, models
from udfs.stores import fetch
from udfs.transforms import square
from udfs.transforms.fingerprint import fingerprint
from udfs.transforms.variants import Variant, variant
from udfs.vectors import foreign

if TYPE_CHECKING:
    from udfs.arrow import EmbedTask, ThumbnailTask

THUMBNAIL_QUALITY = 80  # of JPEG
ROWS_OUT = 64  # of one batch of results: about 200 KB
_AHEAD = 2  # images decoded ahead, for each thread that decodes

Row = dict[str, Any]
Fetched = Iterator[tuple[Row, bytes | ImageError]]
T = TypeVar("T")


@dataclass(frozen=True)
class Prepared:
    """One image, decoded. features: the columns of FEATURES. square: (side, side, 3) uint8, input of the network, or
    None where there is no network."""

    features: Row
    square: NDArray[np.uint8] | None


def embed(task: EmbedTask) -> Callable[[Batches, Board], Batches]:
    """Opens the network of the task and returns what embeds with it: see arrow.EmbedTask and messages.Task."""
    cv2.setNumThreads(1)  # Spark runs one worker a core
    net = None
    if task.kind:
        net = embedding.open_runtime(task.kind, task.model, task.files, task.device, task.alone)

    def run(batches: Batches, board: Board) -> Batches:
        fetched = fetched_rows(batches, [*HANDED_ON.names, GIVEN_VECTOR, ROW], task.limits, task.fetch_threads)
        if net is None:
            rows = _with_given_vectors(task, fetched, board)
        else:
            rows = _with_computed_vectors(task, fetched, board, net)
        yield from in_batches(rows, EMBEDDED)

    return run


def thumbnails(task: ThumbnailTask) -> Callable[[Batches, Board], Batches]:
    """What makes the thumbnails of a report: see arrow.ThumbnailTask and messages.Task."""
    cv2.setNumThreads(1)

    def rows(fetched: Fetched, board: Board) -> Iterator[Row]:
        for given, data in fetched:
            with board.at(given[ROW]):
                jpeg = None if isinstance(data, ImageError) else _shown(data, task.max_pixels, task.how)
            yield {**given, "jpeg": jpeg}

    def run(batches: Batches, board: Board) -> Batches:
        fetched = fetched_rows(batches, ["image_id", ROW], task.limits, task.fetch_threads)
        yield from in_batches(rows(fetched, board), THUMBNAILS)

    return run


def _with_computed_vectors(task: EmbedTask, fetched: Fetched, board: Board, net: embedding.Runtime) -> Iterator[Row]:
    """Rows with vectors of the network, a batch of it at a time. On a GPU the next is decoded meanwhile."""

    def prepare(item: tuple[Row, bytes | ImageError]) -> tuple[Row, Prepared | ImageError]:
        given, data = item
        with board.at(given[ROW]):
            return given, _prepared(data, task.max_pixels, task.model)

    transform = fingerprint(task.model)
    prepared = (
        _mapped(prepare, fetched, task.decode_threads, net.batch) if task.decode_threads else map(prepare, fetched)
    )
    waiting: deque[tuple[list[tuple[Row, Prepared | ImageError]], Callable[[], embedding.Embedded]]] = deque()
    for group in _groups(prepared, net.batch):
        good = [done for _, done in group if isinstance(done, Prepared)]
        waiting.append((group, net.submit(_stacked(good)) if good else _no_vectors))
        if len(waiting) > 1:
            yield from _with_vectors(*waiting.popleft(), transform)
    while waiting:
        yield from _with_vectors(*waiting.popleft(), transform)


def _with_given_vectors(task: EmbedTask, fetched: Fetched, board: Board) -> Iterator[Row]:
    """Rows with the vectors that came with them."""
    for given, data in fetched:
        with board.at(given[ROW]):
            done = _prepared(data, task.max_pixels, None)
        row = _row(given, done)
        if isinstance(done, Prepared):
            try:
                row = _with_vector(given, done, foreign.check_vector(given[GIVEN_VECTOR], task.model.dimension))
            except ImageError as error:
                row = _row(given, error)
        yield row


def fetched_rows(batches: Batches, names: list[str], limits: fetch.Limits, threads: int) -> Fetched:
    """The named columns of each row and the bytes of its image, in order; requests run ahead across batches."""
    waiting: deque[Row] = deque()

    def references() -> Iterator[fetch.Reference]:
        for batch in batches:
            where = (batch.column(name).to_pylist() for name in REFERENCE.names)
            for reference, row in zip(zip(*where, strict=True), batch.select(names).to_pylist(), strict=True):
                waiting.append(row)
                yield fetch.Reference(*reference)

    for data in fetch.fetch_all(references(), limits, threads):
        yield waiting.popleft(), data


def _prepared(data: bytes | ImageError, max_pixels: int, model: models.Model | None) -> Prepared | ImageError:
    """model: whose network sees the image, or None."""
    if isinstance(data, ImageError):
        return data
    try:
        known = square.opened(data, max_pixels)
        seen = None if model is None else square.square(data, model, max_pixels, known)
    except ImageError as error:
        return error
    return Prepared(_features(data, *known), seen)


def _features(data: bytes, decoded: decode.Decoded, seen: NDArray[np.uint8]) -> Row:
    small = looks.small(seen)
    thumbnail = alignment.thumbnail(small)
    return {
        "sha256": hashing.sha256(data),
        "pixel_hash": hashing.pixel_hash(decoded.pixels, decoded.width, decoded.height, decoded.more),
        "perceptual_hash": hashing.perceptual_hash(thumbnail),
        "width": decoded.width,
        "height": decoded.height,
        "format": decoded.format,
        "damage": decoded.damage or None,
        "medium": medium.medium(small, decoded.width, decoded.height),
        "thumbnail": thumbnail.tobytes(),
        "look": looks.look(small),
        "taken_at": taken_at(data, decoded.format),
        **quality.of_file(data, decoded, seen),
    }


def _row(given: Row, done: Prepared | ImageError) -> Row:
    """A row of EMBEDDED without its vector and norm."""
    if isinstance(done, ImageError):
        return {**given, "error": done.code, "detail": done.detail}
    return {**given, **done.features}


def _with_vectors(
    group: list[tuple[Row, Prepared | ImageError]], wait: Callable[[], embedding.Embedded], transform: str
) -> Iterator[Row]:
    embedded = wait()
    found = zip(embedded.vectors, embedded.norms.tolist(), strict=True)
    for given, done in group:
        yield _with_vector(given, done, *next(found), transform) if isinstance(done, Prepared) else _row(given, done)


def _with_vector(
    given: Row, done: Prepared, vector: NDArray[np.float32], norm: float | None = None, transform: str | None = None
) -> Row:
    """A row of EMBEDDED. norm: that the network's vector had. transform: the fingerprint of what the network was given.
    Both None where it was imported."""
    if not np.isfinite(vector).all():
        return _row(given, ImageError(NO_VECTOR, "the network overflowed"))
    return {**_row(given, done), "vector": _stored(vector), "norm": norm, "transform": transform}


def _stored(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vector as it is kept, float32 of the precision of float16: half the bytes once they are compressed, and no
    cosine moves by more than 0.001."""
    return vector.astype(np.float16).astype(np.float32)


def _no_vectors() -> embedding.Embedded:
    return embedding.Embedded(np.empty((0, 0), np.float32), np.empty(0, np.float32))


def _stacked(images: list[Prepared]) -> NDArray[np.uint8]:
    """(n, side, side, 3) uint8."""
    return np.stack([image.square for image in images if image.square is not None])


def _mapped(work: Callable[[T], Any], items: Iterable[T], threads: int, more: int) -> Iterator[Any]:
    """work of each item, in order, by threads that are at most `more` + 2 items a thread ahead of the caller."""
    waiting: deque[Future[Any]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > _AHEAD * threads + more:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _groups(items: Iterable[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while group := list(islice(rest, size)):
        yield group


def in_batches(rows: Iterator[Row], schema: pa.Schema) -> Batches:
    """Rows as record batches of at most ROWS_OUT, with the column ROW."""
    out = schema.append(pa.field(ROW, pa.int64()))
    for group in _groups(rows, ROWS_OUT):
        columns = []
        for field in out:
            values = [row.get(field.name) for row in group]
            columns.append(_lists(values) if field.name == "vector" else pa.array(values, field.type))
        yield pa.RecordBatch.from_arrays(columns, schema=out)


def _lists(vectors: list[NDArray[np.float32] | None]) -> pa.Array:
    """Vectors of one length, or None, as lists of float32, without a Python object for each number."""
    there = [vector is not None for vector in vectors]
    lengths = [0 if vector is None else len(vector) for vector in vectors]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    found = [vector for vector in vectors if vector is not None]
    values = pa.array(np.concatenate(found) if found else np.empty(0, np.float32), pa.float32())
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=pa.array([not one for one in there]))


def _shown(data: bytes, max_pixels: int, how: int | Variant) -> bytes | None:
    try:
        if isinstance(how, Variant):
            return variant(data, how, max_pixels)
        pixels = decode.decode(data, how, max_pixels).pixels
    except ImageError:
        return None
    scale = how / max(pixels.shape[:2])
    if scale < 1:
        height, width = (max(1, round(of * scale)) for of in pixels.shape[:2])
        pixels = resized(pixels, width, height)
    # A sixteenth of the time of WebP, for a fifth more bytes.
    made: bytes = simplejpeg.encode_jpeg(pixels, quality=THUMBNAIL_QUALITY, colorsubsampling="420")
    return made
