"""How many images are foreign to a lake: more deviate far than the tail of the lake's own images lets one expect.

The deviations of images of one subject have a tail too, so the most deviant of them are no finding. What it would hold
of a lake without foreign images is told by the middle of the deviations, as an empirical null (Efron 2004, Large-scale
simultaneous hypothesis testing): a Weibull tail whose scale is fitted there. What lies beyond it is counted as by
Meinshausen and Rice 2006, Estimating the proportion of false null hypotheses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from udfs.vectors.cosine import Values

Counts = NDArray[np.int64]

STEP = 0.01  # robust standard deviations, of a bin of deviations
BINS = 5000  # the last one has all that deviate more
FITTED = (0.6, 0.9)  # quantiles between which the tail is fitted: up to a tenth may be foreign
# Shapes of the tail: 1 falls as an exponential distribution's does, 2 as a normal one's. Of lakes of one subject it
# lies between; a heavy one gives the lower end of the interval and decides what is flagged, a light one the upper end.
HEAVY, USUAL, LIGHT = 1.25, 1.5, 2.0
EXPECTED = 0.015 * 10.0 ** (np.arange(24) / 2)  # images beyond the places at which an excess is looked for
LEVEL = 0.05  # of each end of the interval, over all places
LEVELS = LEVEL / 2.0 ** np.arange(1, 25)  # of these places: the furthest, where one image is an excess, has most
MOST_OWN = 0.2  # share of the flagged that may be the lake's own by the heavy tail
ROUNDS = 3  # of leaving out what is surely foreign and fitting the tail to the rest
LEAST_IMAGES = 20
APART = 3.0  # robust standard deviations: what deviates less is not foreign, whatever the tail


@dataclass(frozen=True)
class Foreign:
    """share: of the images that stand apart as foreign ones do, low and high: an interval that holds it, all 0..1.
    beyond: the deviation from which on images are flagged, infinite where none can be shown to be foreign."""

    share: float
    low: float
    high: float
    beyond: float


@dataclass(frozen=True)
class _Tail:
    """Of the images that deviate by `start` or more, `images` are expected beyond a deviation t as
    images * exp(-(t^shape - start^shape) / scale). error: the relative standard error of the scale."""

    shape: float
    start: float
    images: float
    scale: float
    error: float

    @classmethod
    def fitted(cls, middles: Values, counts: Counts, shape: float) -> _Tail:
        """By maximum likelihood, what lies above the upper quantile of FITTED censored."""
        up_to = np.cumsum(counts)
        first, last = (min(int(np.searchsorted(up_to, share * up_to[-1])), BINS - 2) for share in FITTED)
        last = max(last, first + 1)
        start, end = middles[first] ** shape, middles[last] ** shape
        fitted, above = int(up_to[last] - up_to[first]), int(up_to[-1] - up_to[last])
        inside = slice(first + 1, last + 1)
        excess = float(counts[inside] @ (middles[inside] ** shape - start)) + above * (end - start)
        scale = max(excess, STEP) / max(fitted, 1)
        return cls(shape, float(middles[first]), float(fitted + above), scale, max(fitted, 1) ** -0.5)

    def expected(self, beyond: Values, errors: float) -> Values:
        """Images expected beyond so many deviations, with the scale so many standard errors above the fitted one."""
        scale = self.scale * (1 + self.error) ** errors
        over = np.maximum(beyond**self.shape - self.start**self.shape, 0)
        return np.asarray(self.images * np.exp(-over / scale), np.float64)

    def place(self, expected: Values, errors: float) -> Values:
        """The deviations beyond which so many are expected."""
        scale = self.scale * (1 + self.error) ** errors
        over = np.maximum(np.log(self.images / expected), 0) * scale
        return np.asarray((self.start**self.shape + over) ** (1 / self.shape), np.float64)


def foreign_share(counts: Counts) -> Foreign | None:
    """counts: (BINS,) int64 images, no two duplicates, by their deviation in robust standard deviations, in bins of
    STEP. Returns None for fewer than LEAST_IMAGES, which tell nothing."""
    total = int(counts.sum())
    if total < LEAST_IMAGES:
        return None
    middles = np.asarray((np.arange(BINS) + 0.5) * STEP, np.float64)
    beyond = total - np.cumsum(counts) + counts  # images of this bin and those above it
    left, sure, found = counts, -1, Foreign(0.0, 0.0, 0.0, np.inf)
    for _ in range(ROUNDS):
        found, more = _excess(counts, left, beyond, middles)
        if more <= sure:
            break
        sure = more
        left = np.minimum(counts, np.maximum(0, total - sure - (np.cumsum(counts) - counts)))
    return found


def _quantile(share: Any, mean: NDArray[Any]) -> Values:
    """Of Poisson distributions, as scipy.stats.poisson.ppf, which takes half a second to import."""
    from scipy.special import pdtr, pdtrik

    found = np.ceil(pdtrik(share, mean))
    before = np.maximum(found - 1, 0)
    return np.asarray(np.where(pdtr(before, mean) >= share, before, found), np.float64)


def _excess(counts: Counts, own: Counts, beyond: Counts, middles: Values) -> tuple[Foreign, int]:
    """What there is beyond the tail of `own`, the images but those surely foreign; and how many are so at least."""
    total = int(counts.sum())
    heavy, usual, light = (_Tail.fitted(middles, own, shape) for shape in (HEAVY, USUAL, LIGHT))

    def seen(places: Values) -> Counts:
        bins = np.ceil(places / STEP - 0.5).astype(np.int64)
        return np.where(bins < BINS, beyond[np.minimum(bins, BINS - 1)], 0)

    limit = np.array([APART])
    wanted = EXPECTED[heavy.images / 5 > EXPECTED]
    places = np.append(limit, np.maximum(heavy.place(wanted, 1.0), APART))
    at_random = np.append(np.inf, _quantile(1 - LEVELS[: len(wanted)], heavy.expected(places[1:], 1.0)))
    excess = seen(places) - at_random
    sure = max(0, int(excess[1:].max(initial=0)))
    at = places[[int(np.argmax(excess)) if sure else 0]]
    share = max(sure, float((seen(at) - usual.expected(at, 0.0))[0]))
    most = float((_quantile(1 - LEVEL, seen(limit) + 1) - light.expected(limit, -1.0))[0])
    few = (middles >= APART) & (counts > 0) & (heavy.expected(middles, 1.0) <= MOST_OWN * beyond)
    from_here = float(middles[np.argmax(few)] - STEP / 2) if sure and few.any() else np.inf
    share, low, high = (min(max(value, 0.0) / total, 1.0) for value in (share, sure, max(most, share)))
    return Foreign(share, low, high, from_here), sure
