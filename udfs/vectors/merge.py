"""One list of nearest neighbours for each image, out of those that were found in several places."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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
