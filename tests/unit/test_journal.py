"""Catches a change of several tables that is made in part, or twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from jobs.engines import delta_files, delta_log, journal
from jobs.engines.journal import FileChange, change
from jobs.errors import ContractError
from jobs.tables import TABLES
from udfs.stores import objects

EDGES, NEIGHBOURS = TABLES["edges"], TABLES["neighbours"]
LEAK = {"image_id": 1, "between": "split", "here": "a", "there": "b", "other_id": 2, "kind": "near", "cosine": 0.9,
        "agreement": 0.8}  # fmt: skip


def rows(lake: Path, name: str) -> list[dict[str, Any]]:
    table = DeltaTable(str(lake / name)).to_pyarrow_dataset().to_table()
    return sorted(table.to_pylist(), key=str)


def edge(one: int, other: int) -> dict[str, int]:
    return {"image_id": one, "other_id": other}


def near(one: int, rank: int, other: int, cosine: float) -> dict[str, Any]:
    return {"image_id": one, "rank": rank, "neighbour_id": other, "cosine": cosine}


def test_rows_are_added_replaced_and_removed(tmp_path: Path) -> None:
    """A row that stays though its key went, or stands beside the one that replaces it."""
    lake = str(tmp_path)
    first = [near(1, 1, 2, 0.5), near(1, 2, 3, 0.4), near(2, 1, 1, 0.5)]
    journal.write(lake, 1, {"neighbours": change(NEIGHBOURS, first, new=True)}, {"next_image_id": 7}, TABLES)
    assert journal.settle(lake, TABLES) == {"next_image_id": 7}
    journal.forget(lake)
    made = change(NEIGHBOURS, [near(1, 1, 4, 0.9), near(4, 1, 1, 0.9)], [{"image_id": 1, "rank": 2}])
    journal.write(lake, 2, {"neighbours": made, "edges": change(EDGES, [edge(1, 4)], new=True)}, {}, TABLES)
    assert journal.settle(lake, TABLES) == {}
    journal.forget(lake)
    assert rows(tmp_path, "neighbours") == [near(1, 1, 4, 0.9), near(2, 1, 1, 0.5), near(4, 1, 1, 0.9)]
    assert rows(tmp_path, "edges") == [edge(1, 4)]
    assert journal.settle(lake, TABLES) is None


def test_nothing_is_made_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that are added again by a run that goes on."""
    lake, real = str(tmp_path), delta_log.make
    for name in ("edges", "neighbours"):
        delta_log.create(f"{lake}/{name}", TABLES[name])
    entry = {
        "edges": change(EDGES, [edge(1, 2)], new=True),
        "neighbours": change(NEIGHBOURS, [near(1, 1, 2, 0.5)], new=True),
    }
    journal.write(lake, 1, entry, {"next_cluster_id": 3}, TABLES)

    def second_fails(path: str, *given: Any) -> None:
        if path.endswith("neighbours"):
            raise OSError("no space left")
        real(path, *given)

    with monkeypatch.context() as patch:
        patch.setattr(delta_log, "make", second_fails)
        with pytest.raises(OSError, match="no space"):
            journal.settle(lake, TABLES)
    assert journal.settle(lake, TABLES) == {"next_cluster_id": 3}
    assert journal.settle(lake, TABLES) == {"next_cluster_id": 3}  # until it is forgotten
    assert (rows(tmp_path, "edges"), len(rows(tmp_path, "neighbours"))) == ([edge(1, 2)], 1)


def test_files_become_part_of_a_table_once(tmp_path: Path) -> None:
    """Files that are added again by a run that goes on, or without those that they replace."""
    lake, table = str(tmp_path), str(tmp_path / "albums")

    def file(run: int) -> delta_files.Added:
        return delta_files.Added(f"run-{run}/a.parquet", 7, 1, {"owner_key": (run, run + 1)})

    journal.write(lake, 1, {}, {}, TABLES, {"albums": FileChange((file(1), file(2)))})
    for _ in range(2):
        assert journal.settle(lake, TABLES) == {}
    assert sorted(delta_files.names_of(table)) == ["run-1/a.parquet", "run-2/a.parquet"]
    assert delta_log.version(table) == 1
    journal.write(lake, 2, {}, {}, TABLES, {"albums": FileChange((file(3),), ("run-2/a.parquet",))})
    for _ in range(2):
        journal.settle(lake, TABLES)
    assert sorted(delta_files.names_of(table)) == ["run-1/a.parquet", "run-3/a.parquet"]
    assert delta_log.version(table) == 2
    added = delta_log.delta_table(table).get_add_actions(flatten=True)
    keys = [added.column(f"{end}.owner_key").to_pylist() for end in ("min", "max")]
    assert sorted(zip(*keys, strict=True)) == [(1, 2), (3, 4)]


def test_what_was_not_written_whole_is_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of an entry that is taken for one."""
    lake = str(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(objects, "put", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            journal.write(lake, 1, {"edges": change(EDGES, [edge(1, 2)], new=True)}, {}, TABLES)
    assert journal.settle(lake, TABLES) is None
    journal.write(lake, 1, {"edges": change(EDGES, [edge(3, 4)], new=True)}, {}, TABLES)
    journal.settle(lake, TABLES)
    assert rows(tmp_path, "edges") == [edge(3, 4)]


@pytest.mark.parametrize(
    ("name", "row", "told"),
    [
        ("edges", edge(4, 3), "edges: 1 rows break in_order"),
        ("edges", {"image_id": 4, "other_id": None}, "edges: 1 rows lack other_id"),
        ("neighbours", near(1, 1, 2, 1.5), "neighbours: 1 rows break cosine_in_range"),
        ("leaks", {**LEAK, "between": "day and night"}, "leaks: 1 rows break between_known"),
        ("leaks", {**LEAK, "other_id": 1}, "leaks: 1 rows break not_itself"),
    ],
)
def test_what_a_table_would_refuse_never_counts(tmp_path: Path, name: str, row: dict[str, Any], told: str) -> None:
    """A change that counts and can never be made: the lake would be stuck with it."""
    made = {name: change(TABLES[name], [row], new=True)}
    with pytest.raises(ContractError, match=told):
        journal.write(str(tmp_path), 1, made, {}, TABLES)
    assert journal.settle(str(tmp_path), TABLES) is None
