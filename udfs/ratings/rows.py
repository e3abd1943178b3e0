"""Scores as an engine calls them: iterators of Arrow record batches around heads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from udfs.ratings.heads import Head
from udfs.vectors.cell_packs import vectors_of

BLOCK = 256  # rows that are multiplied together, always: the bits of a product depend on how many rows it has
SCORED = pa.schema(
    [
        pa.field("image_id", pa.int64(), False),
        pa.field("rating", pa.string(), False),
        pa.field("score", pa.float64(), False),
        pa.field("percentile", pa.float64(), False),
        pa.field("uncertainty", pa.float64()),
        pa.field("etag", pa.string()),
    ]
)
Batches = Iterator[pa.RecordBatch]


@dataclass(frozen=True)
class Scorer:
    """A head and the quantiles (k,) of its scores in the lake."""

    head: Head
    quantiles: NDArray[np.float64]


def percentiles(quantiles: NDArray[np.float64], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of the lake that scores lower, (n,) in [0, 1]; of scores that many share the middle of theirs.
    quantiles: (k,) ascending, of the shares 0 to 1 in steps of equal size."""
    last = max(len(quantiles) - 1, 1)
    low = np.searchsorted(quantiles, scores, "left")
    high = np.searchsorted(quantiles, scores, "right")
    between = np.interp(scores, quantiles, np.linspace(0, 1, len(quantiles)))
    return np.asarray(np.clip(np.where(high > low + 1, (low + high - 1) / 2 / last, between), 0.0, 1.0))


def score(scorers: Sequence[Scorer], properties: Sequence[str]) -> Callable[[Batches], Batches]:
    """Maps batches of (image_id, vector, etag, done ARRAY of places of scorers or null, properties) to SCORED."""
    names = pa.array([scorer.head.key for scorer in scorers], pa.string())

    def run(batches: Batches) -> Batches:
        for batch in batches:
            if batch.num_rows:
                yield from _scored(batch, scorers, names, properties)

    return run


def _scored(
    batch: pa.RecordBatch, scorers: Sequence[Scorer], names: pa.Array, properties: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    vectors = vectors_of(batch.column("vector"))
    done = batch.column("done")
    has = np.zeros((batch.num_rows, len(scorers)), bool)
    lengths = pc.fill_null(done.value_lengths(), 0).to_numpy(zero_copy_only=False)
    has[np.repeat(np.arange(batch.num_rows), lengths), done.flatten().to_numpy(zero_copy_only=False)] = True
    told = {name: batch.column(name).to_numpy(zero_copy_only=False).astype(np.float64) for name in properties}
    for place, scorer in enumerate(scorers):
        rows = np.flatnonzero(~has[:, place])
        if not len(rows):
            continue
        head = scorer.head
        found, unsure = np.empty(len(rows)), np.empty(len(rows))
        for start in range(0, len(rows), BLOCK):
            part = rows[start : start + BLOCK]
            block = np.zeros((BLOCK, vectors.shape[1]), np.float32)
            block[: len(part)] = vectors[part]
            measured = None
            if head.measured is not None:
                measured = np.full((BLOCK, len(head.measured.names)), np.nan)
                measured[: len(part)] = np.column_stack([told[name][part] for name in head.measured.names])
            scores, deviations = head.scores(block, measured)
            here = slice(start, start + len(part))
            found[here], unsure[here] = scores[: len(part)], deviations[: len(part)]
        picked = pa.array(rows)
        yield pa.RecordBatch.from_arrays(
            [
                batch.column("image_id").take(picked),
                names.take(pa.array(np.full(len(rows), place))),
                pa.array(found),
                pa.array(percentiles(scorer.quantiles, found)),
                pa.array(unsure, mask=np.isnan(unsure)),
                batch.column("etag").take(picked),
            ],
            schema=SCORED,
        )
