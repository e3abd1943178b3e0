"""Labels as Spark calls them: iterators of Arrow record batches around the label model."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from udfs.labels.classifier import NOBODY, Examples
from udfs.labels.model import LabelModel
from udfs.vectors.cell_packs import vectors_of

Step = Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]
DIGITS = 6  # decimals that are kept: the last bits of a product differ between processors

# Of an image with a label: near_* are lists of equal length, its neighbours that have a label too, nearest first.
ASKED = ("image_id", "class", "fold", "near_ids", "near_classes", "near_votes", "vector")
JUDGED = pa.schema(
    [
        pa.field("image_id", pa.int64(), False),
        pa.field("label", pa.string(), False),
        pa.field("confidence", pa.float64()),
        pa.field("neighbour_share", pa.float64()),
        pa.field("score", pa.float64(), False),
        pa.field("probability_wrong", pa.float64(), False),
        pa.field("suggested_label", pa.string(), False),
        pa.field("suggested_confidence", pa.float64(), False),
        pa.field("confident_label", pa.string()),
        pa.field("evidence_id", pa.int64()),
    ]
)


def padded(lists: pa.Array | pa.ChunkedArray, nothing: int) -> NDArray[np.int64]:
    """(n, longest) the numbers of each list from the left, `nothing` where it has ended. A null is an empty list."""
    if isinstance(lists, pa.ChunkedArray):
        lists = lists.combine_chunks()
    lengths = np.asarray(lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False), np.int64)
    found = np.full((len(lists), int(lengths.max(initial=0))), nothing, np.int64)
    rows = np.repeat(np.arange(len(lists)), lengths)
    places = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    found[rows, places] = lists.flatten().to_numpy(zero_copy_only=False)
    return found


def examples_of(table: pa.Table | pa.RecordBatch) -> Examples:
    """table: columns of ASKED. A neighbour without a vote is known, but not asked."""
    classes = padded(table["near_classes"], NOBODY)
    votes = np.where(padded(table["near_votes"], 0) == 1, classes, NOBODY)
    return Examples(
        vectors_of(table["vector"]),
        np.asarray(table["class"].to_numpy(), np.int32),
        np.asarray(table["fold"].to_numpy(), np.int32),
        votes.astype(np.int32),
    )


def judged(model: LabelModel, names: list[str], typical: NDArray[np.int64]) -> Step:
    """Maps ASKED to JUDGED. names: the label of each class. typical: (C,) an image_id for each class: the evidence
    where no neighbour has the suggested label."""

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        words = pa.array(names, pa.string())
        for batch in batches:
            if batch.num_rows:
                yield _judged(batch, model, words, typical)

    return run


def _judged(
    batch: pa.RecordBatch, model: LabelModel, words: pa.StringArray, typical: NDArray[np.int64]
) -> pa.RecordBatch:
    images = examples_of(batch)
    found = model.judge(images)
    near, ids = padded(batch["near_classes"], NOBODY), padded(batch["near_ids"], -1)
    has_it = near == found.likely[:, None]
    evidence = typical[found.likely]
    rows = np.flatnonzero(has_it.any(axis=1))
    evidence[rows] = ids[rows, has_it[rows].argmax(axis=1)]
    share = np.round(found.agreeing / np.maximum(found.voting, 1), DIGITS)
    score = np.round(np.clip(found.score, 0.0, 1.0), DIGITS)
    columns = [
        batch["image_id"],
        words.take(pa.array(images.classes)),
        np.round(found.confidence, DIGITS),
        pa.array(share, mask=found.voting == 0),
        score,
        np.round(1 - score, DIGITS),
        words.take(pa.array(found.likely)),
        np.round(found.likely_confidence, DIGITS),
        words.take(pa.array(found.confident, mask=found.confident == NOBODY)),
        pa.array(evidence),
    ]
    return pa.RecordBatch.from_arrays(
        [pa.array(column).cast(field.type) for column, field in zip(columns, JUDGED, strict=True)], schema=JUDGED
    )


def projected(matrix: NDArray[np.float32]) -> Step:
    """Maps (image_id, vector) to shorter vectors. matrix: of udfs.labels.model.projection."""

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            short = (
                vectors_of(batch["vector"]) @ matrix if batch.num_rows else np.empty((0, matrix.shape[1]), np.float32)
            )
            ends = pa.array(np.arange(len(short) + 1, dtype=np.int32) * matrix.shape[1])
            lists = pa.ListArray.from_arrays(ends, pa.array(short.ravel()))
            yield pa.RecordBatch.from_arrays([batch["image_id"], lists], names=["image_id", "vector"])

    return run
