"""Dealing images without a split to splits by shares: near-duplicates of one another go together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from udfs.children.messages import Batches
from udfs.training.shards import LISTED, PLACE_BITS, drawn

Shares = Sequence[tuple[str, float]]
LARGE = 0.001  # share of the images from which on a component is placed by its size, so there are at most 1,000


@dataclass(frozen=True)
class Deal:
    """How images are dealt. shares: (name, its part of what is drawn, of any sum); nothing is dealt where there are
    none. placed: the split of each large component."""

    seed: int
    shares: Shares
    placed: Mapping[int, str]


def deal(seed: int, shares: Shares, images: int, sizes: Mapping[int, int]) -> Deal:
    """images: how many are to be dealt. sizes: images of each component of more than LARGE of them.

    Drawn like all others, one large component in the wrong place would turn a share of 0.7 into 0.8. So these come
    first, the largest first: each into a split that is drawn among those with room for twice its size, by their room,
    or, where there is none, into that with the most room. The others are drawn by the room that is left."""
    room = {name: share * images for name, share in shares}
    placed = {}
    for component in sorted(sizes, key=lambda one: (-sizes[one], one)):
        size = sizes[component]
        wide = [(name, left) for name, left in room.items() if left >= 2 * size]
        name = _at(wide, _chance(seed, f"component {component}")) if wide else max(room, key=lambda one: room[one])
        placed[component] = name
        room[name] -= size
    left = [(name, max(0.0, one)) for name, one in room.items()]
    return Deal(seed, left if any(one for _, one in left) else shares, placed)


def dealt(how: Deal) -> Callable[[Batches], Batches]:
    """Maps batches of LISTED and `component` to LISTED: what has no split is dealt out."""

    def run(batches: Batches) -> Batches:
        for batch in batches:
            splits = batch.column("split").to_pylist()
            keys = zip(batch.column("component").to_pylist(), batch.column("uri").to_pylist(), strict=True)
            for number, (split, (component, uri)) in enumerate(zip(splits, keys, strict=True)):
                if split is None and how.shares:
                    key = f"uri {uri}" if component is None else f"component {component}"
                    splits[number] = how.placed.get(component) or _at(how.shares, _chance(how.seed, key))
            rest = batch.select(LISTED.names).set_column(
                LISTED.get_field_index("split"), "split", pa.array(splits, pa.string())
            )
            yield pa.RecordBatch.from_arrays([rest.column(f.name).cast(f.type) for f in LISTED], schema=LISTED)

    return run


def _chance(seed: int, key: str) -> float:
    """0..1, which looks random and is always the same."""
    return drawn(seed, "split", key) / (1 << PLACE_BITS)


def _at(shares: Shares, chance: float) -> str:
    """The name in whose stretch of all shares a chance of 0..1 lies."""
    at = chance * sum(share for _, share in shares)
    for name, share in shares:
        at -= share
        if at < 0:
            return name
    return shares[-1][0]  # by rounding
