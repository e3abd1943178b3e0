"""Sets of labels as Spark calls them: iterators of Arrow record batches around the model of udfs/labels/sets.py."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from udfs.labels import sets
from udfs.labels.rows import DIGITS, Step
from udfs.labels.sets import SetModel, Sets
from udfs.vectors.cell_packs import vectors_of

MISSING = 5  # labels of an image, not given, that are told at most
LEAST_MISSING = 0.05  # probability that one holds, from which it is

ASKED = ("image_id", "fold", "labels", "vector")  # labels: a list, none of it twice
JUDGED = pa.schema(
    [
        pa.field("image_id", pa.int64(), False),
        pa.field("label", pa.string(), False),
        pa.field("given", pa.bool_(), False),
        pa.field("probability", pa.float64(), False),
        pa.field("probability_wrong", pa.float64(), False),
    ]
)


def sets_of(
    table: pa.Table | pa.RecordBatch, names: pa.StringArray, weights: NDArray[np.float64] | None = None
) -> Sets:
    """table: columns of ASKED. names: of the classes; other labels count for nothing. weights: (n,) of each image."""
    lists = table["labels"]
    if isinstance(lists, pa.ChunkedArray):
        lists = lists.combine_chunks()
    classes = pc.fill_null(pc.index_in(lists.flatten(), value_set=names), -1).to_numpy(zero_copy_only=False)
    rows = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False).astype(np.int64)
    known = classes >= 0
    return Sets(
        vectors_of(table["vector"]),
        sets.of_lists(rows[known], classes[known].astype(np.int64), (len(lists), len(names))),
        np.asarray(table["fold"].to_numpy(), np.int32),
        np.ones(len(lists)) if weights is None else weights,
    )


def judged(model: SetModel, names: list[str]) -> Step:
    """Maps ASKED to JUDGED: of each image all its labels that are among names, and the MISSING of the others that are
    likeliest to hold."""

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        words = pa.array(names, pa.string())
        for batch in batches:
            start = 0
            for part in sets_of(batch, words).parts() if batch.num_rows else ():
                yield _judged(batch["image_id"].slice(start, len(part)), model, part, words)
                start += len(part)

    return run


def _judged(ids: pa.Array, model: SetModel, part: Sets, words: pa.StringArray) -> pa.RecordBatch:
    given, holds = model.judge(part)
    holds = np.round(holds, DIGITS)
    chosen = given.copy()
    rows, classes = np.nonzero(~given & (holds >= LEAST_MISSING))
    order = np.lexsort((classes, -holds[rows, classes], rows))
    rows, classes = rows[order], classes[order]
    first = np.arange(len(rows)) - np.searchsorted(rows, rows) < MISSING
    chosen[rows[first], classes[first]] = True
    rows, classes = np.nonzero(chosen)
    told, is_given = holds[rows, classes], given[rows, classes]
    columns = [
        ids.take(pa.array(rows)),
        words.take(pa.array(classes)),
        pa.array(is_given),
        pa.array(told),
        pa.array(np.round(np.where(is_given, 1 - told, told), DIGITS)),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=JUDGED)
