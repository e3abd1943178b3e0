"""The executor functions as Spark calls them: iterators of Arrow record batches, one signature for every stage."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from udfs import alignment, decode, embedding, fetch, hashing, models, quality
from udfs.errors import ImageError

Batches = Iterator[pa.RecordBatch]
ROWS_OUT = 64  # of one batch of embeddings: 330 KB
FEATURES = pa.schema(
    [
        ("sha256", pa.string()),
        ("pixel_hash", pa.string()),
        ("perceptual_hash", pa.int64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("format", pa.string()),
        ("thumbnail", pa.binary()),
        *[(name, pa.float64()) for name in quality.PROPERTIES],
    ]
)
# What the job says of an image to be read, beside its uri: handed on as it is.
HANDED_ON = pa.schema(
    [("image_id", pa.int64()), ("etag", pa.string()), ("has_features", pa.bool_()), ("attempt", pa.int32())]
)
EMBEDDED = pa.schema(
    [
        *HANDED_ON,
        *FEATURES,
        ("vector", pa.list_(pa.float32())),
        ("error", pa.string()),
        ("detail", pa.string()),
    ]
)


@functools.cache
def runtime(kind: str, model: str, files: tuple[str, ...], device: int | None) -> embedding.Runtime:
    """The runtime of this worker process, opened once. kind, model, files: of models.Prepared. device: of CUDA."""
    cv2.setNumThreads(1)  # Spark runs one worker a core
    return embedding.open_runtime(kind, models.find(model), tuple(Path(file) for file in files), device)


def embed_batches(
    open_runtime: Callable[[], embedding.Runtime],
    limits: fetch.Limits,
    fetch_threads: int,
    max_pixels: int,
    side: int,
    count: Callable[[int], Any],
) -> Callable[[Batches], Batches]:
    """Reads, decodes and embeds images: bytes are fetched once and decoded once, pixels stay in the worker.

    open_runtime: gives the worker's runtime. side: of the model's square input, pixels. count: told how many are done.
    The function returned maps batches of uri and HANDED_ON to EMBEDDED: of each image either its features and vector,
    or an error and its detail."""

    def run(batches: Batches) -> Batches:
        net = open_runtime()
        rows: list[dict[str, Any]] = []
        for given, data in _fetched(batches, HANDED_ON.names, limits, fetch_threads):
            rows.append({**given, **_embed_one(data, net, max_pixels, side)})
            if len(rows) == ROWS_OUT:
                yield pa.RecordBatch.from_pylist(rows, schema=EMBEDDED)
                count(len(rows))
                rows.clear()
        if rows:
            yield pa.RecordBatch.from_pylist(rows, schema=EMBEDDED)
            count(len(rows))

    return run


def _fetched(
    batches: Batches, names: list[str], limits: fetch.Limits, threads: int
) -> Iterator[tuple[dict[str, Any], bytes | ImageError]]:
    """The named columns of each row and the bytes of its uri, in order; requests run ahead across batches."""
    waiting: deque[dict[str, Any]] = deque()

    def uris() -> Iterator[str]:
        for batch in batches:
            for uri, row in zip(batch.column("uri").to_pylist(), batch.select(names).to_pylist(), strict=True):
                waiting.append(row)
                yield uri

    for data in fetch.fetch_all(uris(), limits, threads):
        yield waiting.popleft(), data


def _embed_one(data: bytes | ImageError, net: embedding.Runtime, max_pixels: int, side: int) -> dict[str, Any]:
    """One row of EMBEDDED but for what is handed on."""
    try:
        if isinstance(data, ImageError):
            raise data
        decoded = decode.decode(data, side, max_pixels)
    except ImageError as error:
        return {"error": error.code, "detail": error.detail}
    pixels = decoded.pixels
    return {
        "sha256": hashing.sha256(data),
        "pixel_hash": hashing.pixel_hash(pixels, decoded.width, decoded.height),
        "perceptual_hash": hashing.perceptual_hash(pixels),
        "width": decoded.width,
        "height": decoded.height,
        "format": decoded.format,
        "thumbnail": alignment.thumbnail(pixels).tobytes(),
        **quality.properties(pixels),
        # One image at a time: a vector must not depend on which images share its batch.
        "vector": net.embed(embedding.fit(pixels, side)[np.newaxis])[0],
    }


def thumbnail_batches(
    limits: fetch.Limits, fetch_threads: int, max_pixels: int, side: int
) -> Callable[[Batches], Batches]:
    """Maps batches of (image_id, uri) to (image_id, webp: the image in at most side x side pixels, or null)."""
    schema = pa.schema([("image_id", pa.int64()), ("webp", pa.binary())])

    def run(batches: Batches) -> Batches:
        for given, data in _fetched(batches, ["image_id"], limits, fetch_threads):
            row = {**given, "webp": _thumbnail(data, max_pixels, side)}
            yield pa.RecordBatch.from_pylist([row], schema=schema)

    return run


def _thumbnail(data: bytes | ImageError, max_pixels: int, side: int) -> bytes | None:
    import io

    from PIL import Image

    if isinstance(data, ImageError):
        return None
    try:
        decoded = decode.decode(data, side, max_pixels)
    except ImageError:
        return None
    picture = Image.fromarray(decoded.pixels)
    picture.thumbnail((side, side))
    sink = io.BytesIO()
    picture.save(sink, "webp", quality=80)
    return sink.getvalue()
