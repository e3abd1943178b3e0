"""Catches rows lost or mixed up on their way in packs."""

import numpy as np
import pyarrow as pa
import pytest

from tests.vectors import families
from udfs.vectors import packs


@pytest.mark.parametrize("pack_bytes", [1, 1000, 10**6])
@pytest.mark.parametrize("rounded", [True, False])
def test_there_and_back(monkeypatch: pytest.MonkeyPatch, pack_bytes: int, rounded: bool) -> None:
    """A row that is lost, in another place, or beside another's vector; and numbers that were rounded on the way."""
    monkeypatch.setattr(packs, "PACK_BYTES", pack_bytes)
    vectors = families(0, 200)
    vectors[100:] = vectors[100:].astype(np.float16)
    ids, places = np.arange(200), np.random.default_rng(1).integers(0, 5, 200)
    halves = [slice(0, 100), slice(100, 200)] if rounded else [slice(0, 200)]
    batches = [packs.pack(places[half], {"ids": ids[half], "vectors": packs.halved(vectors[half])}) for half in halves]
    rows = sorted((row for batch in batches for row in batch.to_pylist()), key=lambda row: row["place"])
    found = {}
    for place, parts in packs.by_place([pa.RecordBatch.from_pylist(rows, batches[0].schema)]):
        assert place not in found
        here = packs.joined(parts["ids"], np.int64)
        sizes = [len(part) // 8 for part in parts["ids"]]
        np.testing.assert_array_equal(packs.whole(parts["vectors"], sizes, 32), vectors[here])
        found[place] = sorted(here.tolist())
    assert found == {place: np.flatnonzero(places == place).tolist() for place in range(5)}


def test_halved_only_without_loss() -> None:
    """Vectors that a user gave rounded in silence, or ours sent at twice the bytes."""
    vectors = families(1, 40)
    assert packs.halved(vectors).dtype == np.float32
    assert packs.halved(vectors.astype(np.float16).astype(np.float32)).dtype == np.float16


@pytest.mark.parametrize("count", [1, 4, 7, 256])
def test_place_names_are_different(count: int) -> None:
    """Two places of one name: their images would be searched together. tests/spark looks at the partitions."""
    assert len(set(packs.place_names(count).tolist())) == count


def test_nothing_to_pack() -> None:
    """A crash on an empty batch."""
    batch = packs.pack(np.empty(0, np.int32), {"ids": np.empty(0, np.int64)})
    assert batch.num_rows == 0
    assert list(packs.by_place([batch])) == []
