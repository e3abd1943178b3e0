"""Catches extremes of a rating that depend on how its table is cut, or are not those of all rows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from udfs.ratings.extremes import BEST, UNSURE, WORST, extremes

COUNT = 5


def table() -> pa.Table:
    draw = np.random.default_rng(0)
    rows = 600
    return pa.table(
        {
            "image_id": pa.array(draw.permutation(rows)),
            "rating": pa.array(draw.choice(["taste@1", "steps@1", "other@1", "gone@1"], rows)),
            "score": pa.array(draw.integers(0, 40, rows) / 40),  # many are equal
            "percentile": pa.array(draw.random(rows)),
            "uncertainty": pa.array(draw.random(rows)),
        }
    ).set_column(4, "uncertainty", pa.array([None if i % 7 == 0 else i / rows for i in range(rows)], pa.float64()))


def found(given: pa.Table, size: int) -> dict[tuple[str, str], list[int]]:
    run = extremes({"taste@1": True, "steps@1": False, "other@1": False}, COUNT)
    rows = pa.Table.from_batches(list(run(iter(given.to_batches(size))))).to_pylist()
    chosen: dict[tuple[str, str], list[int]] = {}
    for row in rows:
        chosen.setdefault((row["rating"], row["side"]), []).append(row["image_id"])
    return chosen


def test_they_are_those_of_all_rows_however_these_are_cut() -> None:
    given = table()
    frame = given.to_pandas()
    chosen = found(given, 600)
    assert found(given, 7) == chosen == found(given.take(np.random.default_rng(1).permutation(600)), 31)
    assert {rating for rating, _ in chosen} == {"taste@1", "steps@1", "other@1"}
    for rating in ("taste@1", "steps@1"):
        own = frame[frame["rating"] == rating]
        best = own.sort_values(["score", "image_id"], ascending=[False, True])["image_id"][:COUNT].tolist()
        worst = own.sort_values(["score", "image_id"])["image_id"][:COUNT].tolist()
        assert chosen[rating, BEST] == best
        assert chosen[rating, WORST] == worst
    taste, steps = (frame[frame["rating"] == name] for name in ("taste@1", "steps@1"))
    near_half = taste.assign(doubt=(taste["score"] - 0.5).abs()).sort_values(["doubt", "image_id"])["image_id"]
    assert chosen["taste@1", UNSURE] == near_half[:COUNT].tolist()
    widest = steps.dropna().sort_values(["uncertainty", "image_id"], ascending=[False, True])["image_id"]
    assert chosen["steps@1", UNSURE] == widest[:COUNT].tolist()


def test_a_rating_without_uncertainty_has_no_unsure_ones() -> None:
    given = table().set_column(4, "uncertainty", pa.nulls(600, pa.float64()))
    assert ("steps@1", UNSURE) not in found(given, 100)
    assert ("taste@1", UNSURE) in found(given, 100)
