"""Catches maps that tear groups apart, differ from run to run, or depend on how images are dealt to batches."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from tests.unit.test_topics import groups
from udfs.maps import reduction, repulsion
from udfs.maps.layout import lay_out
from udfs.maps.placing import PLACED, Anchors, place

SIZES = [300, 150, 80, 40]
Single = NDArray[np.float32]


def laid_out(rows: Single) -> tuple[Anchors, Single]:
    learnt = reduction.learn(rows)
    points = lay_out(learnt.of(rows))
    return Anchors(learnt, learnt.of(rows), points), points


def neighbours_of_own_kind(points: Single, which: NDArray[np.int64]) -> float:
    """The share of the five nearest that are of the same group."""
    apart = ((points[:, np.newaxis] - points) ** 2).sum(axis=2)
    np.fill_diagonal(apart, np.inf)
    return float((which[np.argsort(apart, axis=1)[:, :5]] == which[:, np.newaxis]).mean())


@pytest.mark.parametrize(("spread", "error"), [(0.1, 0.25), (3.0, 0.1), (40.0, 0.1)])
@pytest.mark.parametrize("work", [repulsion._by_pairs, repulsion._by_grid])
def test_repulsion_is_the_sum_over_all_pairs(
    work: Callable[[Single], tuple[Single, float]], spread: float, error: float
) -> None:
    """A kernel that is another, a grid on which a point gets the place of its neighbour."""
    points = np.random.default_rng(0).normal(scale=spread, size=(1000, 2)).astype(np.float32)
    apart = points[:, np.newaxis].astype(np.float64) - points
    near = 1 / (1 + (apart**2).sum(axis=2))
    expected = (apart * (near**2)[:, :, np.newaxis]).sum(axis=1)
    push, total = work(points)
    error = 1e-4 if work is repulsion._by_pairs else error
    assert total == pytest.approx(near.sum() - len(points), rel=error)
    assert np.linalg.norm(push - expected) < error * np.linalg.norm(expected)


def test_groups_stay_together() -> None:
    """A layout that is no better than chance, or that leaves the square."""
    rows, which = groups(SIZES, 0.05)
    _, points = laid_out(rows)
    assert points.dtype == np.float32
    assert neighbours_of_own_kind(points, which) > 0.99
    assert points.min() >= 0
    assert points.max() <= 1
    assert np.ptp(points[:, 0]) == pytest.approx(1, abs=1e-6)
    assert np.ptp(points[:, 1]) <= np.ptp(points[:, 0])


def test_the_same_sample_gives_the_same_map() -> None:
    rows, _ = groups([50, 50])
    assert np.array_equal(laid_out(rows)[1], laid_out(rows.copy())[1])


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 17])
def test_few_images(count: int) -> None:
    """A crash, a NaN, or all of several different images at one place."""
    rows = np.eye(24, dtype=np.float32)[:count]
    points = laid_out(rows)[1] if count else lay_out(rows)
    assert points.shape == (count, 2)
    assert np.isfinite(points).all()
    assert len(np.unique(points, axis=0)) == count


def test_images_that_are_all_alike() -> None:
    points = laid_out(np.tile(np.eye(24, dtype=np.float32)[0], (40, 1)))[1]
    assert np.array_equal(points, np.full((40, 2), 0.5, np.float32))


def test_vectors_of_two_numbers() -> None:
    """Fewer axes than are wanted."""
    turn = np.linspace(0, 6, 60)
    rows = np.stack([np.cos(turn), np.sin(turn)], axis=1).astype(np.float32)
    assert np.isfinite(laid_out(rows)[1]).all()


def test_the_highest() -> None:
    """A value that its group hides."""
    values = np.random.default_rng(0).normal(size=(30, 3001)).astype(np.float32)
    found = reduction._highest(values, 15)
    assert np.array_equal(np.sort(found, axis=1), np.sort(np.argsort(values, axis=1)[:, -15:], axis=1))


def test_others_are_placed_where_their_like_is() -> None:
    """Images that lie between groups, and copies of one of the sample that lie apart from it."""
    rows, which = groups(SIZES, 0.05)
    anchors, points = laid_out(rows[:400])
    placed = anchors.place(rows[400:])
    own = np.argmin(((placed[:, np.newaxis] - points) ** 2).sum(axis=2), axis=1)
    assert (which[:400][own] == which[400:]).mean() > 0.99
    assert np.array_equal(anchors.place(rows[:20]), points[:20])


@pytest.mark.parametrize("batch", [1, 7, 300])
def test_the_size_of_batches_changes_nothing(batch: int) -> None:
    rows, _ = groups([300, 200])
    anchors, _ = laid_out(rows[:300])
    schema = pa.schema([("image_id", pa.int64()), ("vector", pa.list_(pa.float32()))])

    def found(size: int) -> pa.Table:
        batches = [
            pa.record_batch([pa.array(range(at, min(at + size, 500))), pa.array(list(rows[at : at + size]))], schema)
            for at in range(0, 500, size)
        ]
        empty = pa.record_batch([pa.array([], pa.int64()), pa.array([], schema.field(1).type)], schema)
        return pa.Table.from_batches(place(anchors)(iter([empty, *batches])), PLACED)

    assert found(batch).equals(found(500))
