"""Catches a comparison of lakes that overlooks a row, a flag, a number or a whole table, or heeds a rounding."""

from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import write_deltalake

from tests.lake_compare import differences, same

ROWS = [
    {"image_id": 1, "issue": "dark", "score": 0.25, "evidence_id": None, "suggestion": "review"},
    {"image_id": 2, "issue": "leak", "score": 0.5, "evidence_id": 1, "suggestion": "review"},
]


def lake(folder: Path, *rows: dict[str, Any], table: str = "issues") -> Path:
    write_deltalake(str(folder / table), pa.Table.from_pylist(list(rows)), mode="overwrite")
    return folder


def test_the_same_rows_in_another_order(tmp_path: Path) -> None:
    a, b = lake(tmp_path / "a", *ROWS), lake(tmp_path / "b", *ROWS[::-1])
    assert differences(a, b) == {}


def test_what_differs_is_told(tmp_path: Path) -> None:
    a = lake(tmp_path / "a", *ROWS)
    changed = {"evidence_id": 3, "suggestion": "remove", "score": 0.5001}
    for number, (column, value) in enumerate(changed.items()):
        b = lake(tmp_path / str(number), ROWS[0], {**ROWS[1], column: value})
        assert [line.split()[-4].rstrip(":") for line in differences(a, b)["issues"]] == [column]
    assert differences(a, lake(tmp_path / "fewer", ROWS[0]))["issues"] == ["only in a: (2, 'leak')"]
    lake(a, {"image_id": 1}, table="features")
    assert list(differences(a, lake(tmp_path / "c", *ROWS))) == ["features"]


def test_rounding() -> None:
    assert same(0.1 + 0.2, 0.3, 1e-12)
    assert not same(0.3, 0.3 + 1e-9, 1e-12)
    assert same([0.5, None], [0.5 + 1e-7, None], 1e-5)
    assert not same(1, 2, 1.0)  # a whole number is an id or a count
    assert not same(None, 0.0, 1.0)
    assert same(float("nan"), float("nan"), 1e-12)
