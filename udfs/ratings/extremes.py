"""Of each rating the highest, the lowest and the least sure scores of a part of a table: as few rows as are asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Batches = Iterator[pa.RecordBatch]
BEST, WORST, UNSURE = "best", "worst", "unsure"
SIDES = (BEST, WORST, UNSURE)
EXTREMES = pa.schema(
    [
        pa.field("rating", pa.string(), False),
        pa.field("side", pa.string(), False),
        pa.field("image_id", pa.int64(), False),
        pa.field("score", pa.float64(), False),
        pa.field("percentile", pa.float64(), False),
        pa.field("uncertainty", pa.float64()),
        pa.field("rank_by", pa.float64(), False),
    ]
)


def extremes(probability: Mapping[str, bool], count: int) -> Callable[[Batches], Batches]:
    """Maps batches of (image_id, rating, score, percentile, uncertainty) to EXTREMES, of each rating and side at most
    `count` rows of all batches, those of the highest rank_by, of equal ones the lowest image_id.

    probability: of each rating that is wanted, whether it is one; the least sure are then those nearest to one half, of
    others those of the largest uncertainty, if it is known."""

    def run(batches: Batches) -> Batches:
        kept: dict[tuple[str, str], pa.Table] = {}
        for batch in batches:
            for rating in pc.unique(batch.column("rating")).to_pylist():
                if rating in probability:
                    own = pa.Table.from_batches([batch.filter(pc.equal(batch.column("rating"), rating))])
                    for side in SIDES:
                        _merge(kept, rating, side, own, probability[rating], count)
        for table in kept.values():
            yield from table.to_batches()

    return run


def _merge(
    kept: dict[tuple[str, str], pa.Table], rating: str, side: str, own: pa.Table, is_probability: bool, count: int
) -> None:
    scores = own["score"].to_numpy()
    if side == UNSURE:
        rank_by = -np.abs(scores - 0.5) if is_probability else own["uncertainty"].to_numpy()
    else:
        rank_by = scores if side == BEST else -scores
    there = np.flatnonzero(np.isfinite(rank_by))
    order = there[np.lexsort((own["image_id"].to_numpy()[there], -rank_by[there]))][:count]
    if not len(order):
        return
    chosen = own.take(pa.array(order))
    columns = {**{name: chosen[name] for name in EXTREMES.names if name in chosen.column_names},
               "side": pa.array([side] * len(order)), "rank_by": pa.array(rank_by[order])}  # fmt: skip
    new = pa.table([columns[name] for name in EXTREMES.names], schema=EXTREMES)
    before = kept.get((rating, side))
    both = new if before is None else pa.concat_tables([before, new])
    order = np.lexsort((both["image_id"].to_numpy(), -both["rank_by"].to_numpy()))[:count]
    kept[rating, side] = both.take(pa.array(order)).combine_chunks()
