"""Changes: what of a lake an index does not hold yet, and what it holds that is gone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.indexing.reading import Ids, Known


@dataclass(frozen=True)
class Held:
    """The pictures of a segment. ids, keys: (n,). alive: (n,), False for those that are gone or have changed since."""

    ids: Ids
    keys: Ids
    alive: NDArray[np.bool_]


@dataclass(frozen=True)
class Change:
    """fresh: ascending ids of pictures that are new, or have another content. alive: of each segment, as in Held, as it
    is now."""

    fresh: Ids
    alive: list[NDArray[np.bool_]]

    @property
    def dead(self) -> int:
        return sum(int(np.count_nonzero(~alive)) for alive in self.alive)


def change(known: Known, segments: Sequence[Held]) -> Change:
    """What has changed since these segments were written."""
    found = np.zeros(len(known.ids), np.bool_)
    alive = []
    for held in segments:
        now, there = held.alive.copy(), np.zeros(len(held.ids), np.bool_)
        if len(known.ids):
            at = np.minimum(np.searchsorted(known.ids, held.ids), len(known.ids) - 1)
            there = (known.ids[at] == held.ids) & (known.keys[at] == held.keys)
            found[at[now & there]] = True
        alive.append(now & there)
    return Change(known.ids[~found], alive)
