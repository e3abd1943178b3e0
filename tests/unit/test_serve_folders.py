"""Catches a folder of the app that holds other pictures than those under it, or counts them wrongly."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from pyspark.sql.pandas.types import to_arrow_schema

from jobs.serve import gallery
from jobs.serve.batches import DecisionError
from jobs.serve.columns import Columns
from jobs.serve.decisions import Decisions
from jobs.serve.facets import folders as folders_module
from jobs.serve.facets.folders import Folders
from jobs.serve.facets.uri_order import uri_order
from jobs.serve.rules import safe_folders
from jobs.tables import TABLES

URIS = [
    "/a/b/2.jpg", "/a/b/10.jpg", "/a/b.jpg", "/a/b/c/1.jpg", "/a/bb/1.jpg", "/a/é/1.jpg", "/a/zz.jpg", "/a/b!/1.jpg",
    "/a/b/c/2.jpg", "/a/b/d/e/1.jpg", "/a/%/1.jpg", "/a/b/a.tar/m/1.jpg", "/a/b/x.jpg",
]  # fmt: skip


def columns_of(folder: Path, uris: list[str]) -> Columns:
    """A gallery of images with these URIs and nothing else."""
    schema = to_arrow_schema(TABLES["images"].schema)
    rows = [{"image_id": number, "uri": uri, "source": "/a"} for number, uri in enumerate(uris)]
    write_deltalake(str(folder / "lake" / "images"), pa.Table.from_pylist(rows, schema=schema))
    lake = str(folder / "lake")
    return gallery.opened(lake, gallery.versions(lake))


@pytest.fixture
def columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Columns:
    monkeypatch.setenv("IMAGESIEVE_CACHE", str(tmp_path / "cache"))
    return columns_of(tmp_path, URIS)


def expected(folder: str, uris: list[str]) -> tuple[dict[str, int], int]:
    """The folders in one with how many pictures lie in each, and how many lie in it itself."""
    under = [uri.removeprefix(folder).split("/") for uri in uris if uri.startswith(folder)]
    return dict(Counter(parts[0] for parts in under if len(parts) > 1)), sum(len(parts) == 1 for parts in under)


@pytest.mark.parametrize("folder", ["/a/", "/a/b/", "/a/b/c/", "/a/b/d/", "/a/none/"])
@pytest.mark.parametrize("kept", [None, [0, 3, 4, 6, 9], []])
def test_a_level(columns: Columns, folder: str, kept: list[int] | None) -> None:
    """A name that only begins alike, pictures between folders, and a view that holds some."""
    folders = Folders(columns)
    rows = None if kept is None else np.array(kept, np.int32)
    level = folders.level(folder, rows)
    inside, here = expected(folder, URIS if kept is None else [URIS[row] for row in kept])
    assert (dict(level.folders), level.here) == (inside, here)
    assert level.images == sum(inside.values()) + here
    assert folders.root == "/a/"
    assert folders.level("", rows) == folders.level("/a/", rows)
    assert np.flatnonzero(folders.holding(folder)).tolist() == [
        row for row, uri in enumerate(URIS) if uri.startswith(folder)
    ]
    assert folders.counted(np.ones(len(URIS), np.bool_), [folder]) == [sum(uri.startswith(folder) for uri in URIS)]


def test_a_level_of_many(columns: Columns, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of very many that keeps the app busy, and does not say that it left some out."""
    monkeypatch.setattr(folders_module, "MOST", 3)
    level = Folders(columns).level("/a/", None)
    assert level.uncounted
    assert len(level.folders) == 3
    monkeypatch.setattr(folders_module, "SHOWN", 1)
    assert Folders(columns).level("/a/b/", None, "A").folders == [("a.tar", 1)]
    assert Folders(columns).level("/a/b/", None).more == 2


def test_folders_of_random_uris(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk of the order that ends between two folders."""
    monkeypatch.setenv("IMAGESIEVE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("jobs.serve.facets.uri_order.ROWS", 7)
    draw = np.random.default_rng(0)
    uris = sorted({"s3://b/" + "/".join("xyz"[i] for i in draw.integers(0, 3, draw.integers(1, 5))) + f"{n}.jpg"
                   for n in range(300)})  # fmt: skip
    draw.shuffle(uris)
    columns = columns_of(tmp_path, uris)
    order, starts = uri_order(columns.folder, len(uris))
    ordered = [uris[row] for row in order]
    assert ordered == sorted(uris, key=str.encode)
    dirs = [uri.rpartition("/")[0] for uri in ordered]
    assert starts.tolist() == [0, *(n for n in range(1, len(dirs)) if dirs[n] != dirs[n - 1])]
    for folder in ("s3://b/", "s3://b/x/", "s3://b/y/z/"):
        level = Folders(columns).level(folder, None)
        assert (dict(level.folders), level.here) == expected(folder, uris)


def test_no_images() -> None:
    """A lake of nothing."""
    assert [values.tolist() for values in uri_order(Path("/nowhere"), 0)] == [[], []]


def test_safe_folders(columns: Columns, tmp_path: Path) -> None:
    """A folder that was marked and is not told, a later picture that nobody counts, and a mark that was taken back."""
    decisions = Decisions(str(tmp_path / "lake"), columns.images, columns.rows_of_ids)
    try:
        folders = Folders(columns)
        rows = np.flatnonzero(folders.holding("/a/b/c/"))[:1]
        batch = decisions.decide(columns.id[rows], "keep", "anna", note=safe_folders.note_of("/a/b/c/"))
        decisions.decide([0], "keep", "ben", note="nice")
        told: list[dict[str, Any]] = safe_folders.safe(folders, decisions)
        assert [{**each, "at": None} for each in told] == [
            {"folder": "/a/b/c/", "by": "anna", "at": None, "kept": 1, "undecided": 1}
        ]
        decisions.undo("anna", batch.batch_id)
        assert safe_folders.safe(folders, decisions) == []
        for folder in ("/a/b", "/" * 3000):
            with pytest.raises(DecisionError, match="folder"):
                safe_folders.note_of(folder)
    finally:
        decisions.close()
