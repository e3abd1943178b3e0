"""One list of nearest neighbours for each image, out of those that were found in several places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from udfs.vectors import packs
from udfs.vectors.cell_packs import MERGED, NOBODY, ROWS_AT_ONCE, Batches, Step
from udfs.vectors.cosine import DECIMALS, Ids, Values

ID_BITS = 43  # of an image_id: 8.8e12 images
STEP_BITS = 21  # of a cosine in steps of the last decimal: there are 2 million


@dataclass(frozen=True)
class Pairs:
    """Neighbours of rows. (n,) each: rows and others int64, other_keys int64 that order equally near others, cosines
    float64 rounded to the decimals of udfs.vectors.cosine."""

    rows: Ids
    others: Ids
    other_keys: Ids
    cosines: Values


def merged(pairs: Pairs, k: int) -> Pairs:
    """The k nearest others of each row, each once: by row, then cosine, then key, then id.

    A pair may be there any number of times, always with the same cosine. rows: 0 to less than 2**20, in any order."""
    # Sorts of one whole number each, which numpy does several times faster than np.lexsort of four.
    rows = pairs.rows
    order = np.argsort((rows << ID_BITS) + pairs.others)
    first = np.ones(len(order), bool)
    first[1:] = (rows[order][1:] != rows[order][:-1]) | (pairs.others[order][1:] != pairs.others[order][:-1])
    order = order[first]
    steps = np.round((1.0 - pairs.cosines[order]) * 10**DECIMALS).astype(np.int64)
    places = (rows[order] << STEP_BITS) + steps
    nearer = np.argsort(places)
    order, places = order[nearer], places[nearer]
    same = np.flatnonzero(places[1:] == places[:-1])
    tied = np.union1d(same, same + 1)
    order[tied] = order[tied][np.lexsort((pairs.others[order[tied]], pairs.other_keys[order[tied]], places[tied]))]
    rows = rows[order]
    order = order[np.arange(len(rows)) - np.searchsorted(rows, rows) < k]
    return Pairs(pairs.rows[order], pairs.others[order], pairs.other_keys[order], pairs.cosines[order])


def merge_lists(k: int) -> Step:
    """Maps LISTS, ordered by place, to MERGED: one row for each image, its k nearest of all lists, nearest first."""

    def run(batches: Batches) -> Batches:
        for _, parts in packs.by_place(batches):
            ids, first, rows = np.unique(packs.joined(parts["ids"], np.int64), return_index=True, return_inverse=True)
            keys = packs.joined(parts["keys"], np.int64)[first]
            cells = packs.joined(parts["cells"], np.int32)[first]
            others = packs.joined(parts["others"], np.int64, k)
            row, slot = np.nonzero(others != NOBODY)
            pairs = Pairs(
                rows[row],
                others[row, slot],
                packs.joined(parts["other_keys"], np.int64, k)[row, slot],
                packs.joined(parts["cosines"], np.float64, k)[row, slot],
            )
            parts.clear()
            best = merged(pairs, k)
            ends = np.concatenate([[0], np.cumsum(np.bincount(best.rows, minlength=len(ids)))]).astype(np.int32)
            lists = [
                pa.ListArray.from_arrays(pa.array(ends), pa.array(values), type=MERGED.field(name).type)
                for name, values in (("neighbour_ids", best.others), ("cosines", best.cosines))
            ]
            table = pa.Table.from_arrays([pa.array(ids), pa.array(keys), pa.array(cells), *lists], schema=MERGED)
            yield from table.to_batches(max_chunksize=ROWS_AT_ONCE)

    return run


def as_lists(count: int, k: int, pairs: Pairs) -> dict[str, NDArray[Any]]:
    """(count, k) others, other_keys and cosines; NOBODY where there are fewer. pairs: by row, nearest first."""
    others, keys = np.full((count, k), NOBODY, np.int64), np.zeros((count, k), np.int64)
    cosines = np.zeros((count, k), np.float64)
    slots = np.arange(len(pairs.rows)) - np.searchsorted(pairs.rows, pairs.rows)
    others[pairs.rows, slots], keys[pairs.rows, slots] = pairs.others, pairs.other_keys
    cosines[pairs.rows, slots] = pairs.cosines
    return {"others": others, "other_keys": keys, "cosines": cosines}
