"""One pass over stored vectors: the topic and the concepts of each image, as iterators of Arrow batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from udfs.networks.concepts import Classifier, likeliest
from udfs.vectors.cell_packs import vectors_of
from udfs.vectors.cosine import Vectors
from udfs.vectors.topics import Topics

BLOCK = 256  # rows that are multiplied together, always: the bits of a product depend on how many rows it has

# place: of the topic's centre. concepts: most confident first; none where there is no classifier.
CONCEPT = pa.struct([("concept", pa.string()), ("confidence", pa.float64())])
DESCRIBED = pa.schema(
    [("image_id", pa.int64()), ("place", pa.int32()), ("distance", pa.float64()), ("concepts", pa.list_(CONCEPT))]
)
Batches = Iterator[pa.RecordBatch]


def seen(classifier: Classifier | None, vectors: Vectors, norms: NDArray[np.float32]) -> NDArray[np.float32]:
    """The rows that topics are made of, (n, d) float32: what the classifier says, which is nearer to what people see in
    an image than its vector is; without one the vectors."""
    return vectors if classifier is None else classifier.logits(vectors, norms)


def describe(topics: Topics, classifier: Classifier | None, count: int) -> Callable[[Batches], Batches]:
    """Maps batches of (image_id, vector, norm) to DESCRIBED. count: concepts of an image."""
    count = min(count, len(classifier.names)) if classifier else 0
    names = pa.array(classifier.names if classifier else (), pa.string())

    def run(batches: Batches) -> Batches:
        for batch in batches:
            vectors = vectors_of(batch.column("vector")) if batch.num_rows else np.empty((0, 1), np.float32)
            norms = batch.column("norm").to_numpy(zero_copy_only=False).astype(np.float32)
            size = len(vectors)
            places, distances = np.empty(size, np.int32), np.empty(size, np.float64)
            found, confidences = np.empty((size, count), np.int64), np.empty((size, count), np.float64)
            for here, rows in _blocks(classifier, vectors, norms):
                at = here.start
                place, distance = topics.nearest(rows)
                places[here], distances[here] = place[: here.stop - at], distance[: here.stop - at]
                if count:
                    best, confidence = likeliest(rows, count)
                    found[here], confidences[here] = best[: here.stop - at], confidence[: here.stop - at]
            yield pa.RecordBatch.from_arrays(
                [batch.column("image_id"), pa.array(places), pa.array(distances), _lists(names, found, confidences)],
                schema=DESCRIBED,
            )

    return run


def named(
    classifier: Classifier, vectors: Vectors, norms: NDArray[np.float32], count: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The concepts of images without their topics, bit for bit those of `describe`. vectors: (n, d). norms: (n,).
    count: of an image, at most one for each class.

    Returns (n, count) places in the classifier's names and their confidence, 0..1, highest first."""
    found, confidences = np.empty((len(vectors), count), np.int64), np.empty((len(vectors), count), np.float64)
    for here, rows in _blocks(classifier, vectors, norms):
        best, confidence = likeliest(rows, count)
        found[here], confidences[here] = best[: here.stop - here.start], confidence[: here.stop - here.start]
    return found, confidences


def _blocks(
    classifier: Classifier | None, vectors: Vectors, norms: NDArray[np.float32]
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """BLOCK rows of seen() at a time, and which images they are of; what is beyond these is of none."""
    for at in range(0, len(vectors), BLOCK):
        here = slice(at, min(at + BLOCK, len(vectors)))
        yield here, seen(classifier, _filled(vectors[here]), _filled(norms[here]))


def _filled(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The rows and zeros up to BLOCK."""
    if len(rows) == BLOCK:
        return rows
    filled = np.zeros((BLOCK, *rows.shape[1:]), np.float32)
    filled[: len(rows)] = rows
    return filled


def _lists(names: pa.Array, found: NDArray[np.int64], confidences: NDArray[np.float64]) -> pa.Array:
    """Lists of CONCEPT. found, confidences: (n, count)."""
    size, count = found.shape
    rows = pa.StructArray.from_arrays(
        [names.take(pa.array(found.ravel())), pa.array(confidences.ravel())], fields=list(CONCEPT)
    )
    ends = pa.array(np.arange(size + 1, dtype=np.int32) * count)
    return pa.ListArray.from_arrays(ends, rows, type=DESCRIBED.field("concepts").type)
