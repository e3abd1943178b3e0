"""Nearest: the neighbours of images that are new or lost one, and who of the others gets a nearer neighbour by them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.live.shelf import UNKNOWN, Shelf
from udfs.vectors.merge import Pairs
from udfs.vectors.search import SLACK, WIDER

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Candidates:
    """Pairs of rows of the shelf, one after another: the lists of `rows` are to be looked at for `others`."""

    rows: Rows
    others: Rows


def candidates(shelf: Shelf, asking: Rows, fresh: NDArray[np.bool_], k: int) -> Candidates:
    """What may be among the k nearest. asking: (q,) rows whose neighbours are wanted. fresh: (q,) which of them are
    new: they may be nearer to any other image than its last neighbour. All that rounding could hide is there too."""
    asked = shelf.vectors(asking)
    kept: list[list[tuple[Rows, NDArray[np.float32]]]] = [[] for _ in asking]
    nothing = np.empty(0, np.int64)
    rows, others = [nothing], [nothing]
    for first, which, products in shelf.compare(asked):
        here = np.arange(first, first + len(products))
        own = asking[which] - first
        itself = np.flatnonzero((own >= 0) & (own < len(products)))
        products[own[itself], itself] = UNKNOWN
        news = np.flatnonzero(fresh[which])
        if len(news):
            left, right = np.nonzero(products[:, news] >= (shelf.least[here] - np.float32(SLACK))[:, np.newaxis])
            there = products[left, news[right]] > UNKNOWN
            rows.append(here[left[there]])
            others.append(asking[which[news[right[there]]]])
        width = min(k + WIDER, len(products))
        best = np.argpartition(products, len(products) - width, axis=0)[len(products) - width :]
        values = np.take_along_axis(products, best, axis=0)
        for column, place in enumerate(which.tolist()):
            kept[place].append((here[best[:, column]], values[:, column]))
    for row, parts in zip(asking.tolist(), kept, strict=True):
        if parts:
            found = np.concatenate([part[0] for part in parts])
            values_of = np.concatenate([part[1] for part in parts])
            found, values_of = found[values_of > UNKNOWN], values_of[values_of > UNKNOWN]
            if len(found) > k:
                lowest = np.partition(values_of, len(values_of) - k)[len(values_of) - k]
                found = found[values_of >= lowest - np.float32(SLACK)]
            rows.append(np.full(len(found), row))
            others.append(found)
    return Candidates(np.concatenate(rows), np.concatenate(others))


def with_cosines(shelf: Shelf, found: Candidates) -> Pairs:
    """The pairs as ids, each once, with the cosines that the table has: its ids, those of the others, their keys."""
    rows, others = np.unique(np.stack([found.rows, found.others], axis=1), axis=0).T
    return Pairs(shelf.ids[rows], shelf.ids[others], shelf.keys[others], shelf.cosines(rows, others))
