"""Catches runs of albums that pile up, or that are written again and again."""

from __future__ import annotations

import math

import pytest

from jobs.albums.runs import FACTOR, joined


@pytest.mark.parametrize(
    ("held", "new", "most", "again"),
    [
        ({}, 5, None, set()),
        ({1: 40}, 10, None, set()),  # by hand: 40 is four times 10
        ({1: 39}, 10, None, {1}),
        ({1: 1000, 2: 39}, 10, None, {2}),
        ({1: 195, 2: 40}, 10, None, {1, 2}),  # the later one is large enough, the earlier one is not
        ({1: 1000, 2: 100, 3: 30}, 0, None, {2, 3}),
        ({1: 1000, 2: 200, 3: 50}, 0, None, set()),
        ({1: 195, 2: 30}, 10, 100, {2}),
        ({1: 10, 2: 300, 3: 10}, 10, 100, {3}),  # none before one that is too large
        ({1: 30}, 10, 0, set()),
    ],
)
def test_the_rule(held: dict[int, int], new: int, most: int | None, again: set[int]) -> None:
    assert joined(held, new, most) == again


@pytest.mark.parametrize("most", [None, 3200])
def test_batches_make_few_runs_and_write_seldom(most: int | None) -> None:
    """More runs than a logarithm and the full ones, or pictures that are written more often than a logarithm."""
    new, batches, held, written = 10, 1000, {0: 100_000}, 0
    for number in range(1, batches + 1):
        size = new + sum(held.pop(run) for run in joined(held, new, most))
        held[number] = size
        written += size
        assert sum(held.values()) == 100_000 + new * number
        # Each run and all later ones together are FACTOR + 1 times the later ones; a full one is as large as it can be.
        full = 0.0 if most is None else new * number / (most * FACTOR / (FACTOR + 1))
        assert len(held) <= 2 + math.log(number, FACTOR + 1) + full
    # A picture comes into a run that is 1 + 1 / FACTOR times as large, or larger, each time.
    assert written <= new * batches * (1 + math.log(batches, 1 + 1 / FACTOR))
