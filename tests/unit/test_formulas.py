"""Catches formulas that say of single pictures, in numpy, something else than of columns. Their values: in
tests/spark/test_scores.py."""

from __future__ import annotations

import numpy as np
import pytest

from jobs import config, tables
from jobs.findings import formulas
from jobs.findings.formulas import OF_ARRAYS, QUALITY, Sizes

LIMITS = {issue: getattr(config.load().issues, issue) for issue in QUALITY}
USUAL = {
    "width": 400.0, "height": 300.0, "brightness": 0.5, "brightness_p01": 0.05, "brightness_p05": 0.1,
    "brightness_p99": 0.9, "peak": 0.6, "clipped": 0.0, "clipped_colour": 0.0, "edge_frequency": 2.0, "noise": 3.0,
    "blockiness": 0.9, "jpeg_quality": 90.0, "flat_share": 0.25, "entropy": 7.0, "colourfulness": 40.0, "brisque": 20.0,
}  # fmt: skip


def issues_of(changed: dict[str, float], medium: str = "photograph", is_coloured: bool = True) -> set[str]:
    of = {name: np.float64(value) for name, value in {**USUAL, **changed}.items()}
    of["log_side"] = np.log(np.sqrt(of["width"] * of["height"]))
    found = formulas.scores(of, Sizes(np.log(np.sqrt(400 * 300)), np.log(4.0)), OF_ARRAYS)
    found["quality_score"] = formulas.quality_score(found, OF_ARRAYS)
    assert set(found) == set(tables.SCORES)
    assert all(0 <= value <= 1 for value in found.values())
    may = formulas.may_be_faulty(np.asarray(medium))
    raised = formulas.raised(found, LIMITS, may, np.bool_(is_coloured), OF_ARRAYS)
    return {issue for issue, there in raised.items() if there}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, set()),
        ({"brightness_p99": 0.1}, {tables.DARK, tables.LOW_CONTRAST}),
        ({"edge_frequency": 0.05}, {tables.BLURRY}),
        ({"width": 40_000.0, "height": 30_000.0}, {tables.ODD_SIZE}),
        ({"width": 4000.0, "height": 30.0}, {tables.ODD_ASPECT_RATIO}),
        ({"colourfulness": 0.0}, {tables.GRAYSCALE}),
    ],
)
def test_one_picture(changed: dict[str, float], expected: set[str]) -> None:
    """`~` of a bool of Python is true whatever it was."""
    assert issues_of(changed) == expected


def test_what_is_no_photograph_and_what_the_lake_is_like() -> None:
    assert issues_of({"edge_frequency": 0.05}, medium="drawing") == set()
    assert issues_of({"colourfulness": 0.0}, is_coloured=False) == set()
