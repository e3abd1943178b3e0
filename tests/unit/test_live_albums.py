"""Catches a batch that lays albums out wrong: a picture of another run or another model, runs that pile up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from jobs.albums.reading import Albums
from jobs.albums.runs import runs_of
from jobs.engines import delta_files, delta_log
from jobs.errors import InputError, LakeError
from jobs.live import albums
from jobs.tables import TABLES
from tests.s3_server import S3Server
from tests.vectors import unit
from udfs.albums.packs import MARK_GONE
from udfs.stores import uris

Told = dict[int, tuple[str, bytes]]  # mark as text, and vector, by image_id


def given(owner: str, ids: Sequence[int], seed: int, gone: bool = False) -> pa.Table:
    vectors = unit(np.random.default_rng(seed).normal(size=(len(ids), 16))).astype(np.float16)
    rows = [
        {"owner": owner, "image_id": one, "mark": MARK_GONE, "by_camera": 0}
        if gone
        else {"owner": owner, "image_id": one, "mark": 100 * seed + one, "taken": one, "by_camera": 1, "quality": 0.5,
              "uri": f"s3://b/{one} \u00e9.jpg", "vector": vector.astype(np.float32).tolist()}
        for one, vector in zip(ids, vectors, strict=True)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=albums.GIVEN)


def bring(lake: str, *parts: pa.Table, model: str = "m") -> None:
    table = uris.join(lake, "albums")
    made = albums.laid_out(table, model, pa.concat_tables(parts))
    delta_files.commit(table, made.added, made.removed)


def told(lake: str, owner: str) -> Told:
    found = Albums(lake).album(owner).pictures
    marks = found.facts["mark"].tolist()
    return {
        one: (f"{mark} {uri.decode()}", vector.tobytes())
        for one, mark, uri, vector in zip(found.ids.tolist(), marks, found.uris, found.vectors, strict=True)
    }


def follows(lake: str) -> None:
    """Batches into a lake, and what its albums then must be."""
    delta_log.create(uris.join(lake, "albums"), TABLES["albums"])
    bring(lake, given("anna", range(2000), 1), given("ben", [900], 1))
    first = set(runs_of(uris.join(lake, "albums"))[1])
    want = told(lake, "anna")
    bring(lake, given("anna", [5, 3000], 2), given("zoe", [400, 401], 2))
    assert len(runs_of(uris.join(lake, "albums"))) == 2
    bring(lake, given("anna", [7], 3), given("ben", [901], 3), given("zoe", [400], 3, gone=True))
    bring(lake, given("anna", [3000], 4, gone=True), given("zoe", [402], 4))
    runs = runs_of(uris.join(lake, "albums"))
    assert set(runs) == {1, 4}
    assert set(runs[1]) == first
    found = told(lake, "anna")
    assert found.keys() == want.keys()
    assert {one for one in found if found[one] != want[one]} == {5, 7}
    assert [found[5][0][:3], found[7][0][:3]] == ["205", "307"]
    assert (set(told(lake, "ben")), set(told(lake, "zoe"))) == ({900, 901}, {401, 402})
    bring(lake, given("zoe", [401, 402], 5, gone=True))
    with pytest.raises(InputError, match="zoe"):
        told(lake, "zoe")


def test_batches_lay_albums_out(tmp_path: Path) -> None:
    """A picture twice, or as an older run told it; one that is gone and comes back when runs are joined; a large run
    that is written again for a small one."""
    follows(str(tmp_path))


def test_batches_lay_albums_out_on_s3(s3: S3Server) -> None:
    """The same where files are objects."""
    follows(f"s3://{s3.bucket}/batches/lake")


def test_batches_that_only_remove_do_not_pile_up(tmp_path: Path) -> None:
    """Files of a few numbers each, for each of which an album needs a request."""
    lake = str(tmp_path)
    delta_log.create(f"{lake}/albums", TABLES["albums"])
    bring(lake, given("anna", range(2000), 1))
    for one in range(12):
        bring(lake, given("anna", [one], 2, gone=True))
        assert len(runs_of(f"{lake}/albums")) <= 2
    assert set(told(lake, "anna")) == set(range(12, 2000))


def test_runs_of_other_vectors_are_left(tmp_path: Path) -> None:
    """Vectors of two models in one pack."""
    lake = str(tmp_path)
    delta_log.create(f"{lake}/albums", TABLES["albums"])
    bring(lake, given("anna", range(3), 1), model="old")
    bring(lake, given("anna", range(3), 2))
    assert set(runs_of(f"{lake}/albums")) == {1, 2}
    assert {text[:2] for text, _ in told(lake, "anna").values()} == {"20"}


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    """A batch that is refused for what the lake is at fault of, or that loses what was in the file."""
    lake = str(tmp_path)
    delta_log.create(f"{lake}/albums", TABLES["albums"])
    bring(lake, given("anna", range(3), 1))
    [name] = runs_of(f"{lake}/albums")[1]
    file = tmp_path / "albums" / name
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(LakeError, match="run `imagesieve albums`"):
        bring(lake, given("anna", range(3), 2))
