"""Rows with the same keys as one table, from batches in which they stand one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

import numpy as np
import pyarrow as pa

Batches = Iterable[pa.RecordBatch]


def grouped(batches: Batches, keys: tuple[str, ...]) -> Iterator[pa.Table]:
    """The rows of each group, in their order. batches: ordered by the keys, columns of whole numbers without nulls.

    Raises pyarrow.ArrowInvalid for a null."""
    group: tuple[int, ...] | None = None
    parts: list[pa.RecordBatch] = []
    for batch in batches:
        if not batch.num_rows:
            continue
        values = np.stack([batch.column(key).to_numpy() for key in keys])
        changes = np.flatnonzero((values[:, 1:] != values[:, :-1]).any(axis=0)) + 1
        for start, end in pairwise([0, *changes.tolist(), batch.num_rows]):
            here = tuple(values[:, start].tolist())
            if here != group and parts:
                yield pa.Table.from_batches(parts)
                parts = []
            group = here
            parts.append(batch.slice(start, end - start))
    if parts:
        yield pa.Table.from_batches(parts)


def of_each_group(
    keys: tuple[str, ...], run: Callable[[pa.Table], pa.Table]
) -> Callable[[Batches], Iterator[pa.RecordBatch]]:
    """Maps batches, ordered by the keys, to those that run makes of each group."""

    def apply(batches: Batches) -> Iterator[pa.RecordBatch]:
        for table in grouped(batches, keys):
            yield from run(table).to_batches()

    return apply
