"""Catches the least typical images of one subject called foreign, foreign ones that are not counted, and an interval
that does not hold them."""

import numpy as np
import pytest

from udfs.vectors.cosine import Values
from udfs.vectors.foreign_share import BINS, LEAST_IMAGES, STEP, Foreign, foreign_share


def found_in(deviations: Values) -> Foreign:
    bins = np.minimum((deviations / STEP).astype(np.int64), BINS - 1)
    found = foreign_share(np.bincount(bins, minlength=BINS).astype(np.int64))
    assert found is not None
    return found


def of_one_subject(seed: int, count: int, shape: float) -> Values:
    """Deviations with a Weibull tail of this shape: 2 is a normal distribution's, 1 an exponential one's."""
    values = np.random.default_rng(seed).weibull(shape, count)
    return np.asarray(1.1 * values, np.float64)


@pytest.mark.parametrize("count", [30, 300, 3000, 300_000])
@pytest.mark.parametrize("shape", [1.25, 1.5, 2.0])
def test_the_tail_of_one_subject_is_not_foreign(count: int, shape: float) -> None:
    """A tail that is called foreign because it is long, or because there are many images."""
    shown = []
    for seed in range(10):
        found = found_in(of_one_subject(seed, count, shape))
        assert 0 <= found.low <= found.share <= found.high <= 1
        assert np.isinf(found.beyond) == (found.low == 0)
        shown.append(found.low > 0)
    assert sum(shown) <= 1


@pytest.mark.parametrize("share", [0.005, 0.02, 0.05, 0.1])
@pytest.mark.parametrize("count", [400, 4000])
def test_what_stands_apart_is_counted(share: float, count: int) -> None:
    """An interval that misses the planted share, one that says nothing, and a limit that flags others or not these."""
    for seed in range(5):
        planted = round(share * count)
        own = of_one_subject(seed, count - planted, 1.6)
        far = np.random.default_rng(seed + 99).normal(9.0, 1.0, planted)
        found = found_in(np.concatenate([own, far]))
        assert 0 < found.low <= share <= found.high
        assert found.share == pytest.approx(share, abs=max(0.25 * share, 0.005))
        assert (far >= found.beyond).all()
        assert (own >= found.beyond).sum() <= max(2, 0.25 * planted)


def test_one_image_far_from_all() -> None:
    """A single picture that is found no more because one is few; one beyond the last bin."""
    for far in (9.0, 10 * BINS * STEP):
        found = found_in(np.append(of_one_subject(1, 1000, 1.6), far))
        assert found.low == pytest.approx(1 / 1001)
        assert 3 <= found.beyond <= min(far, (BINS - 1) * STEP)


def test_lakes_that_tell_nothing() -> None:
    """A fit of no spread or of no image that ends in an error, or finds something."""
    assert foreign_share(np.zeros(BINS, np.int64)) is None
    few = np.zeros(BINS, np.int64)
    few[900] = LEAST_IMAGES - 1
    assert foreign_share(few) is None
    for same in (0.0, 9.0, 10 * BINS * STEP):
        assert found_in(np.full(100, same)).low == 0
