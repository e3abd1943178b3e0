"""Files that are each sorted by one column, as one sorted stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.compute as pc


def merged(sources: Iterable[Iterator[pa.RecordBatch]], key: str) -> Iterator[pa.Table]:
    """Tables that hold all rows of the sources, in the order of key, in memory of two batches of each source.

    Each source: in that order. key: a column of texts or numbers without nulls."""
    heads: list[tuple[pa.RecordBatch, Iterator[pa.RecordBatch]]] = []
    for source in sources:
        _next(heads, source)
    while heads:
        # Up to the least of the last keys nothing more can come.
        bound = min((head.column(key)[-1] for head, _ in heads), key=lambda value: value.as_py())
        parts, old = [], heads
        heads = []
        for head, source in old:
            ready = pc.sum(pc.less_equal(head.column(key), bound)).as_py()
            parts.append(head.slice(0, ready))
            if ready < head.num_rows:
                heads.append((head.slice(ready), source))
            else:
                _next(heads, source)
        yield pa.Table.from_batches(parts).sort_by(key)


def _next(heads: list[tuple[pa.RecordBatch, Iterator[pa.RecordBatch]]], source: Iterator[pa.RecordBatch]) -> None:
    batch = next((batch for batch in source if batch.num_rows), None)
    if batch is not None:
        heads.append((batch, source))
