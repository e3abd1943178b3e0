"""Catches splits that are not as large as was asked, and near-duplicates in two of them."""

import itertools
from collections.abc import Sequence

import pyarrow as pa
import pytest

from udfs.training import dealing
from udfs.training.shards import LISTED

THREE = (("train", 0.8), ("val", 0.1), ("test", 0.1))


def rows_of(components: Sequence[int | None], splits: Sequence[str | None] | None = None) -> pa.Table:
    """LISTED and `component` of an image for each component."""
    rows = [
        {"uri": f"/{n}.jpg", "split": split, "image_id": n, "sha256": "", "format": "jpeg", "component": component}
        for n, (component, split) in enumerate(zip(components, splits or [None] * len(components), strict=True))
    ]
    return pa.Table.from_pylist(rows, schema=LISTED.append(pa.field("component", pa.int64())))


def splits_of(how: dealing.Deal, table: pa.Table) -> list[str | None]:
    made = dealing.dealt(how)(iter(table.to_batches(max_chunksize=999)))
    found: list[str | None] = pa.Table.from_batches(made, schema=LISTED)["split"].to_pylist()
    return found


def test_shares() -> None:
    """What has a split keeps it."""
    components = [n // 4 if n % 2 else None for n in range(20_000)]
    table = rows_of(components, ["own" if n % 10 == 0 else None for n in range(20_000)])
    found = splits_of(dealing.deal(3, (("train", 0.75), ("val", 0.25)), 18_000, {}), table)
    assert [split == "own" for split in found] == [n % 10 == 0 for n in range(20_000)]
    rest = [split for split in found if split != "own"]
    assert abs(rest.count("train") / len(rest) - 0.75) < 0.02
    together: dict[int, set[str | None]] = {}
    for n in range(1, 20_000, 2):
        together.setdefault(n // 4, set()).add(found[n])
    assert all(len(splits) == 1 for splits in together.values())
    assert splits_of(dealing.deal(3, (), 18_000, {}), table).count(None) == 18_000


@pytest.mark.parametrize("seed", range(30))
def test_large_groups_do_not_break_the_shares(seed: int) -> None:
    """A group of a tenth of all, ten of a fiftieth, a hundred of a five-hundredth, and single images. Drawn like single
    images, the first alone would make `val` twice as large as was asked, or all of it."""
    sizes = dict(enumerate([1000, *[200] * 10, *[20] * 100]))
    components = [*itertools.chain.from_iterable([of] * size for of, size in sizes.items()), *[None] * 5000]
    found = splits_of(dealing.deal(seed, THREE, len(components), sizes), rows_of(components))
    for name, share in THREE:
        assert abs(found.count(name) / len(found) - share) < 0.02  # 5,000 drawn: five standard deviations
    for of in sizes:
        assert len({split for split, component in zip(found, components, strict=True) if component == of}) == 1
    assert found[0] == "train"  # alone it would be all of another split


def test_groups_too_large_for_every_split() -> None:
    """Of 100 images 60 are alike, and 40: each in a split of its own, and no division by nothing that is left."""
    found = splits_of(dealing.deal(1, (("a", 0.5), ("b", 0.5)), 100, {1: 60, 2: 40}), rows_of([1] * 60 + [2] * 40))
    assert sorted([set(found[:60]), set(found[60:])], key=str) == [{"a"}, {"b"}]


def test_the_seed_decides() -> None:
    sizes = dict.fromkeys(range(50), 20)
    deals = [dealing.deal(seed, THREE, 10_000, sizes) for seed in (1, 1, 2)]
    assert deals[0] == deals[1]
    assert deals[0] != deals[2]
