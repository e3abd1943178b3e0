"""Catches packs that do not come back as they went, and files in which more is read for an owner than need be."""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jobs.albums.reading import Albums
from jobs.engines import delta_files, delta_log
from jobs.tables import TABLES
from tests.vectors import unit
from udfs.albums import files, packs
from udfs.albums.packs import FACTS, Pictures
from udfs.albums.taken import taken_at
from udfs.vectors.similarity import near_pairs

DIMENSION = 32


def pictures(ids: list[int], seed: int = 0, gone: tuple[int, ...] = ()) -> Pictures:
    generator = np.random.default_rng(seed)
    uris = [f"s3://b/{n}/ \n\u00e9".encode() * (n % 3) for n in ids]
    facts = np.zeros(len(ids), FACTS)
    facts["image_id"], facts["mark"], facts["uri_bytes"] = ids, 7 + seed, [len(uri) for uri in uris]
    facts["mark"][np.isin(ids, gone)] = packs.MARK_GONE
    there = int((facts["mark"] != packs.MARK_GONE).sum())
    base = unit(generator.normal(size=(3, DIMENSION)))
    vectors = unit(base[generator.integers(0, 3, there)] + 0.1 * generator.normal(size=(there, DIMENSION)))
    return Pictures(facts, uris, vectors.astype(np.float16).reshape(there, DIMENSION)).compared()


def test_packs_come_back() -> None:
    """Columns that are cut at the wrong bytes."""
    for given in (pictures([3, 5, 9], gone=(5,)), pictures([1], gone=(1,)), pictures(list(range(50)))):
        back = packs.unpacked(*packs.packed(given))
        assert np.array_equal(back.facts, given.facts)
        assert back.uris == given.uris
        assert np.array_equal(back.vectors, given.vectors) or not given.vectors.size
        assert back.pairs is not None
        assert given.pairs is not None
        for name in ("left", "right", "product"):
            assert np.array_equal(getattr(back.pairs, name), getattr(given.pairs, name))
    with pytest.raises(ValueError, match="length"):
        packs.unpacked(pictures([3, 4]).facts.tobytes(), b"", b"", b"")


def test_the_last_run_counts() -> None:
    """A picture as an older run told it, one that is gone, pairs that name other rows."""
    old, new = pictures(list(range(40)), seed=0), pictures([3, 39, 50, 7, 60], seed=1, gone=(7,))
    found = packs.newest([(1, old), (2, new)])
    assert found.ids.tolist() == [n for n in range(40) if n != 7] + [50, 60]
    by_id = {int(i): row for i, row in zip(old.ids, old.vectors, strict=True)}
    there = new.facts["mark"] != packs.MARK_GONE
    by_id |= {int(i): row for i, row in zip(new.ids[there], new.vectors, strict=True)}
    assert np.array_equal(found.vectors, np.stack([by_id[int(i)] for i in found.ids]))
    assert found.pairs is not None
    wide = found.vectors.astype(np.float32)
    want = near_pairs(wide, packs.LEAST)
    assert want is not None
    pairs = {(int(a), int(b)) for a, b in zip(found.pairs.left, found.pairs.right, strict=True)}
    assert pairs == {(int(a), int(b)) for a, b in zip(want.left, want.right, strict=True)}
    assert len(pairs) == len(found.pairs.left)


@pytest.mark.parametrize("gone", [True, False])
def test_a_pack_of_several_is_read_as_they_were(gone: bool) -> None:
    """Runs that are joined into something else than what they told: with vectors of others, without what is gone."""
    parts = [(4, pictures([3, 9, 70], seed=2, gone=(9,))), (1, pictures(list(range(40)), seed=0)),
             (2, pictures([3, 39, 50, 7, 60], seed=1, gone=(7,)))]  # fmt: skip
    joined = packs.merged(parts, gone)
    told = {int(fact["image_id"]): int(fact["mark"]) for fact in joined.facts}
    assert {one for one, mark in told.items() if mark == packs.MARK_GONE} == ({7, 9} if gone else set())
    assert list(told) == sorted(told)
    want, found = packs.newest(parts), packs.newest([(5, joined.compared())])
    assert np.array_equal(found.facts, want.facts)
    assert found.uris == want.uris
    assert np.array_equal(found.vectors, want.vectors)
    nothing = packs.merged([(1, pictures([4], gone=(4,)))], gone)
    assert len(nothing) == int(gone)
    assert not len(nothing.vectors)


@pytest.mark.parametrize("size", [7, 300])
def test_little_more_than_the_album_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Row groups that hold many owners, an owner in two files of whom one is not found, statistics that lie."""
    monkeypatch.setattr(files, "GROUP_BYTES", 4096)
    monkeypatch.setattr(files, "FILE_GROUPS", 8)
    monkeypatch.setattr(files, "FILE_BYTES", 60_000)
    path = str(tmp_path / "lake" / "albums")
    delta_log.create(path, TABLES["albums"])
    writer = files.Writer(path, 1)
    added: list[pa.RecordBatch] = []
    owners = sorted((f"owner {n}" for n in range(60)), key=packs.key_of)
    for number, owner in enumerate(owners):
        ids = list(range(1000 * number, 1000 * number + (size if number == 30 else 20)))
        for part, start in enumerate(range(0, len(ids), 50)):
            pack = pictures(ids[start : start + 50], number)
            added += writer.add(packs.key_of(owner), owner, 1, part, "m", pack)
    rows = pa.Table.from_batches([*added, *writer.close()]).to_pylist()
    assert len(rows) > 3
    delta_files.commit(
        path,
        [delta_files.Added(r["path"], r["size_bytes"], r["rows"], {"owner_key": (r["low"], r["high"])}) for r in rows],
        (),
    )
    for row in rows:
        assert pq.ParquetFile(f"{path}/{row['path']}").metadata.num_row_groups <= 9
    albums = Albums(str(tmp_path / "lake"))
    for number, owner in enumerate(owners):
        found = albums.album(owner).pictures
        assert found.ids.tolist() == list(range(1000 * number, 1000 * number + (size if number == 30 else 20)))


@pytest.mark.parametrize(
    ("told", "more", "expected"),
    [
        ("2021:05:06 07:08:09", {}, "2021-05-06T07:08:09+00:00"),
        ("2021:05:06 07:08:09", {0x9291: "25", 0x9011: "+02:30"}, "2021-05-06T04:38:09.250000+00:00"),
        ("2021-05-06 07:08:09", {0x9011: "x"}, "2021-05-06T07:08:09+00:00"),
        ("0000:00:00 00:00:00", {}, None),
        ("    :  :     :  :  ", {}, None),
        ("2021:13:06 07:08:09", {}, None),
        ("9999:12:31 23:59:59", {}, None),
    ],
)
@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
def test_when_a_picture_was_taken(
    tmp_path: Path, kind: str, told: str, more: dict[int, str], expected: str | None
) -> None:
    """A time of another zone, a camera that was never set, an EXIF block that is not where it usually is."""
    image, exif = Image.new("RGB", (20, 20)), Image.Exif()
    exif[0x0112] = 1
    exif.get_ifd(0x8769).update({0x9003: told, **more})
    file = tmp_path / f"x.{kind}"
    image.save(file, kind, exif=exif)
    found = taken_at(file.read_bytes(), kind)
    assert found == (None if expected is None else datetime.datetime.fromisoformat(expected))
    image.save(file, kind)
    assert taken_at(file.read_bytes(), kind) is None
    assert taken_at(file.read_bytes()[:40], kind) is None
