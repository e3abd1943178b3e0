"""How many labels are wrong, how sure that is, and from which probability on an image is to be flagged.

The noise that was learnt is made so many times as strong and the classifier's mixture is fitted anew (profile
likelihood; without noise, the better of that and the classifier of the labels as they are; where that is likelier by
NATS, none is wrong). The share is that of the highest likelihood, its interval where that falls by at most NATS, times
what the folds of the cross-validation differ more than chance. An interval that holds 0 says that the labels could be
right one and all, and the classifier merely unsure.

The probability that a label is wrong is that of the likeliest noise. What a classifier cannot tell looks like wrong
labels, so flags that promise to be right follow the odds of a noise two standard errors less."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from udfs.labels.classifier import Mixture, Noises, Stack, stronger
from udfs.labels.noise import Probabilities

# Of an interval of 95 % it is 1.92, were the model right: on sets of clean labels it tells 2.7 from none.
NATS = 4.0
CAUTION_NATS = 2.0  # by which a log-likelihood falls two standard errors from its highest
STEP = 1.4  # between the strengths of noise that are tried
MOST_TIMES = 4.0
SHARES = np.concatenate([[0.0], np.geomspace(1e-4, 0.5, 50), 1 - np.geomspace(0.5, 1e-3, 20)[1:]])  # tried of a class
BALANCED, PRECISE, THOROUGH = "balanced", "precise", "thorough"  # wishes
PRECISE_AT, THOROUGH_AT = 0.9, 0.9  # expected precision, and recall
BINS = 1000  # of the probability that a label is wrong
# Where no label can be shown to be wrong: the share that is flagged at most beside what is SURELY wrong, and the
# estimate from which it is merely that there are few images, and this does not hold.
UNSHOWN, SURELY, UNSURE = 0.01, 0.9, 0.03


@dataclass(frozen=True)
class Estimate:
    """A share of labels that are wrong, and an interval in which it lies with 95 % or more. caution: in (0, 1], by
    which the odds that a label is wrong are multiplied before flags are chosen that promise to be right."""

    share: float
    low: float
    high: float
    caution: float = 1.0


@dataclass(frozen=True)
class Profile:
    """times: how many times the noise that was learnt is likeliest; share: of labels that are wrong by it; shown:
    whether that is no less likely, by what the interval allows, than that no label is wrong; low, high: the interval.
    mixture: that is likeliest at times. cautious: two standard errors below times. nats: by which the likelihood falls
    at the ends, were it known."""

    times: float
    share: float
    shown: bool
    low: float
    high: float
    cautious: float
    mixture: Mixture
    nats: float


def profile(stack: Stack, noise: Noises, mixture: Mixture, folds: NDArray[np.int32], null: float) -> Profile:
    """stack: of the images of these folds. mixture: where the likeliest is looked for first. null: the loss of
    a classifier that was fitted to the labels as they are, for which none is wrong."""
    known: dict[float, tuple[float, Mixture]] = {}

    def loss(times: float) -> float:
        if times not in known:
            nearest = min(known, key=lambda one: abs(one - times), default=None)
            start = mixture if nearest is None else known[nearest][1]
            value, found = stack.fitted(stronger(noise, max(times, 1e-6)), start)
            value *= stack.total
            known[times] = (min(value, null) if not times else value), found
        return known[times][0]

    # The lowest of three with another on each side, then that of the parabola through them.
    best = 1.0
    while best / STEP > 1 / 60 and loss(best / STEP) < loss(best):
        best /= STEP
    while best * STEP < MOST_TIMES and loss(best * STEP) < loss(best):
        best *= STEP
    left, right = loss(best / STEP) - loss(best), loss(best * STEP) - loss(best)
    bend = left + right
    if left > 0 and right > 0:
        loss(best * STEP ** (0.5 * (left - right) / bend))
    best = min(known, key=loss)
    scored = stack.scores(stronger(noise, best), known[best][1])
    allowed = NATS * _dispersion(scored, folds)
    rise = {"at": loss(best)}

    def end(towards: float) -> float:
        """Where the loss has risen by what is allowed, between the best and this one, or this one."""
        if loss(towards) - rise["at"] <= allowed:
            return towards
        inner, outer = best, towards
        for _ in range(6):
            # The root of the rise is nearly linear.
            low, high = (max(loss(one) - rise["at"], 0.0) ** 0.5 for one in (inner, outer))
            share = (allowed**0.5 - low) / max(high - low, 1e-12)
            middle: float = inner + min(max(share, 0.1), 0.9) * (outer - inner)
            risen = loss(middle) - rise["at"]
            if abs(risen - allowed) < 0.1 * allowed:
                return middle
            inner, outer = (middle, outer) if risen < allowed else (inner, middle)
        return outer

    low, high = end(0.0), end(MOST_TIMES)
    shown = null > rise["at"] - allowed
    # The root of the rise is nearly linear. Where the interval ends at 0, so large a part of what is left.
    cautious = best - (best - low) * (CAUTION_NATS / NATS) ** 0.5
    nats = max(allowed, _fall(scored, high / best))
    share = float(np.dot(scored[2], 1 - scored[0]) / scored[2].sum())
    return Profile(best, share, shown, low, high, cautious, known[best][1], nats)


def _fall(scored: tuple[Probabilities, Probabilities, Probabilities], times: float) -> float:
    """By how much the log-likelihood falls with so many times the noise, while scale and weight stay."""
    score, kept, weights = scored
    right = score * np.maximum(1 - times * (1 - kept), 0) / kept
    return -float(np.dot(weights, np.log(np.maximum(right + times * (1 - score), 1e-300))))


def _dispersion(scored: tuple[Probabilities, Probabilities, Probabilities], folds: NDArray[np.int32]) -> float:
    """How many times more than chance the folds differ in how many labels they call wrong, 1 at least. scored: of
    Stack.scores."""
    score, kept, weights = scored
    # The slope of each image's log-likelihood as the noise becomes stronger.
    slopes = weights * ((1 - score) - score * (1 - kept) / kept)
    count = int(folds.max()) + 1
    by_fold = np.bincount(folds, slopes, minlength=count)
    chance = float((slopes**2).sum())
    if count < 3 or chance <= 0:
        return 1.0
    return max(1.0, float(((by_fold - by_fold.mean()) ** 2).sum() * count / (count - 1) / chance))


def of_classes(
    classes: NDArray[np.int32], scores: Probabilities, count: int, nats: float
) -> tuple[Probabilities, Probabilities, Probabilities]:
    """(C,) shares of wrong labels among the images of each given label, and the ends of their intervals.

    Of the images with a label a share is wrong, and each looks as its score says: the likelihood of shares of such a
    mixture. scores: (n,) probability that the label is right. nats: by which it falls at the ends."""
    members = np.bincount(classes, minlength=count)
    wrong = np.bincount(classes, 1 - scores, minlength=count) / np.maximum(members, 1)
    told = np.clip(wrong, 1e-6, 1 - 1e-6)[classes]
    rights, wrongs = scores / (1 - told), (1 - scores) / told
    likely = np.empty((len(SHARES), count))
    for number, share in enumerate(SHARES):
        ratio = np.maximum((1 - share) * rights + share * wrongs, 1e-300)
        likely[number] = np.bincount(classes, np.log(ratio), minlength=count)
    best = likely.argmax(axis=0)
    fallen = likely[best, np.arange(count)] - likely
    within = fallen <= nats
    low, high = within.argmax(axis=0), len(SHARES) - 1 - within[::-1].argmax(axis=0)
    shares = np.clip(wrong, SHARES[low], SHARES[high])
    return shares, SHARES[low], SHARES[high]


def threshold(images: NDArray[np.int64], wrong: Probabilities, wish: str | float, known: Estimate) -> int:
    """The first bin of the probability that a label is wrong whose images are to be flagged, BINS for none of them.

    images, wrong: (BINS,) how many images lie in a bin, and the sum of their probabilities. wish: one of three, or a
    precision. known: of all these images."""
    if wish != THOROUGH:
        wrong = _cautious(images, wrong, known.caution)
    most, expected = np.cumsum(images[::-1])[::-1], np.cumsum(wrong[::-1])[::-1]
    total = float(expected[0])
    if not most[0] or total <= 0:
        return BINS
    precision = expected / np.maximum(most, 1)
    if wish == BALANCED:
        gain = 2 * expected / (most + total)
        first = int(np.flatnonzero(gain == gain.max())[-1])
    elif wish == THOROUGH:
        first = int(np.flatnonzero(expected >= THOROUGH_AT * total)[-1])
    else:
        wanted = PRECISE_AT if wish == PRECISE else float(wish)
        reached = np.flatnonzero((precision >= wanted) & (most > 0))
        first = int(reached[0]) if len(reached) else BINS
    if known.low <= 0 and known.share < UNSURE:
        few = np.flatnonzero(most <= UNSHOWN * most[0])
        first = max(first, min(int(few[0]) if len(few) else BINS, int(SURELY * BINS)))
    return first


def _cautious(images: NDArray[np.int64], wrong: Probabilities, caution: float) -> Probabilities:
    """The sums of the probabilities of each bin, where their odds are so many times as high."""
    probability = np.minimum(wrong / np.maximum(images, 1), 1.0)
    return images * caution * probability / (1 - (1 - caution) * probability)
