"""Catches a recall, an interval or an expectation that is not what it says."""

import numpy as np
import pytest
from pyspark.sql import Row

from jobs.duplicates.recall import _found as found_of
from udfs.vectors import recall


def test_interval_holds_the_truth() -> None:
    """An interval too narrow, as one that takes the neighbours of one image for independent would be."""
    generator = np.random.default_rng(0)
    inside = 0
    for _ in range(300):
        chance = np.clip(
            generator.normal(0.9, 0.2, 200), 0, 1
        )  # of one image all are found more easily than of another
        share = recall.share(generator.binomial(10, chance), np.full(200, 10))
        truth = float(np.clip(np.random.default_rng(1).normal(0.9, 0.2, 10**5), 0, 1).mean())
        inside += share.low <= truth <= share.high
    assert 0.9 <= inside / 300 <= 0.99


@pytest.mark.parametrize(("found", "total", "value"), [([10, 5], [10, 10], 0.75), ([3, 0], [3, 0], 1.0)])
def test_share(found: list[int], total: list[int], value: float) -> None:
    """A mean of means, or images without a pair that count."""
    share = recall.share(np.array(found), np.array(total))
    assert share.value == value
    assert 0 <= share.low <= value <= share.high <= 1
    assert share.of == sum(total)
    assert share.low < 1  # two images prove nothing


def test_nothing_to_find() -> None:
    """A division by zero, or certainty out of nothing."""
    assert recall.share(np.zeros(3, np.int64), np.zeros(3, np.int64)) == recall.Share(1.0, 0.0, 1.0, 0)
    assert recall.Share(0.96333, 0.95, 1.0, 7).text() == "96.33 % (95.00 % to 100.00 %)"


def test_expected_grows() -> None:
    """A chance that does not grow with the cosine and the probes and fall with the cells, or is no chance."""
    chances = [recall.expected(cosine, 64, 6, 256, draws=400) for cosine in (0.5, 0.8, 0.95)]
    assert chances == sorted(chances)
    assert recall.expected(0.5, 64, 2, 256, draws=400) < chances[0] < 1
    assert recall.expected(0.5, 1024, 6, 256, draws=400) < chances[0]
    assert recall.expected(1.0, 1024, 1, 256, draws=50) == 1.0
    assert recall.expected(0.0, 1024, 1, 256, draws=400) < 0.02


def test_as_near_is_as_good() -> None:
    """An alarm in a crowd, where any of thousands will do; and a farther one that counts, or one that counts twice."""
    true = Row(neighbour_ids=[1, 2, 3], cosines=[0.9, 0.8, 0.7])
    assert found_of(true, {1: 0.9, 2: 0.8, 3: 0.7}) == [True] * 3
    assert found_of(true, {1: 0.9, 9: 0.79995, 3: 0.7}) == [True] * 3
    assert found_of(true, {1: 0.9, 9: 0.75, 3: 0.7}) == [True, False, True]
    assert found_of(true, {9: 0.9}) == [True, False, False]
    assert found_of(true, {}) == [False] * 3
