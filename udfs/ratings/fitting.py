"""Fits a head to judgements of pictures whose vectors are known, and says what it is worth on new pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from udfs.ratings import crossval, linear, measures
from udfs.ratings.heads import WAYS, Head, Layer, Measured, Sureness, ranked
from udfs.ratings.linear import BETTER, PICKED, RATING, Examples, Linear, Numbers
from udfs.ratings.measures import Figure
from udfs.ratings.space import Space
from udfs.vectors.cosine import Vectors

LEAST = {RATING: 8, PICKED: 8, BETTER: 8}  # judgements
LEAST_OF_A_KIND = 3  # picked, and not picked
LEAST_FOR_MEASURED = 60  # judgements from which it is tried whether properties of the picture help
CURVE = (0.25, 0.5, 0.75, 1.0)  # shares of the judgements
CURVE_DRAWS = 4


class TooFewError(ValueError):
    """Judgements that nothing can be learnt from; the message says what is missing."""


@dataclass(frozen=True)
class Judged:
    """Judgements of one kind. vectors: (n, d) float32 of the pictures; others: of the worse of each pair. near: as
    vectors, the mean of each picture and its neighbours in the lake, or None. properties: (n, p) of Space.names, or
    None. targets, weights: (n,). groups: (n, 2), see Examples. base: (n,) raw scores of a head that is known, in units
    of its spread over the lake, or None."""

    kind: str
    vectors: Vectors
    targets: Numbers
    weights: Numbers
    groups: NDArray[np.int64]
    others: Vectors | None = None
    near: Vectors | None = None
    other_near: Vectors | None = None
    properties: Numbers | None = None
    other_properties: Numbers | None = None

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class CurvePoint:
    """What a share of the judgements reaches: the mean of some draws, and where it may lie."""

    judgements: int
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Fitted:
    """A head and what held-out folds say of it. curve: of the first of the figures. doubled: what it may reach with
    twice the judgements, by the curve. strength: that was chosen. near, measured: whether neighbours and properties
    helped. held: (n,) held-out raw scores."""

    head: Head
    figures: list[Figure]
    curve: list[CurvePoint]
    doubled: float
    strength: float
    near: bool
    measured: bool
    held: Numbers


def check_judged(judged: Judged) -> None:
    """Raises TooFewError: too few, or all of one kind."""
    count, least = len(judged), LEAST[judged.kind]
    if count < least:
        raise TooFewError(f"{count} judgements: at least {least} are needed")
    if judged.kind == PICKED:
        yes = int((judged.targets > 0.5).sum())
        few, what = min((yes, "picked"), (count - yes, "not picked"))
        if few < LEAST_OF_A_KIND:
            raise TooFewError(f"{few} pictures are {what}: at least {LEAST_OF_A_KIND} of each kind are needed")
    if judged.kind == RATING and np.ptp(judged.targets) == 0:
        raise TooFewError(f"all ratings are {judged.targets[0]:g}: pictures of other ratings are needed")
    if len(np.unique(judged.groups)) < LEAST_OF_A_KIND:
        raise TooFewError("the pictures are copies of one another: different ones are needed")


def fit(judged: Judged, space: Space, key: str, model: str, base: Head | None = None) -> Fitted:
    """Fits a head. base: a head of the same model and kind, that this one is held to but for what the judgements say.
    Raises TooFewError."""
    check_judged(judged)
    centre, unit = _units(judged)
    examples, variants = _examples(judged, space, centre, unit, base)
    repeats = crossval.repeats_for(examples)
    strengths = [crossval.choose(one.rows, one.asked, examples, repeats) for one in variants]
    held = [
        crossval.held_out(replace(examples, rows=one.rows), one.asked, strength, repeats)
        for one, strength in zip(variants, strengths, strict=True)
    ]
    losses = [crossval.loss(examples, one.scores) for one in held]
    best = _best(examples, variants, held, losses)
    chosen, strength = variants[best], strengths[best]
    examples = replace(examples, rows=chosen.rows)
    found = linear.fit(examples, strength, sure=True)
    calibrated = unit * held[best].mean + centre
    head = _head(found, space, judged.kind, key, model, centre, unit, base, chosen)
    if judged.kind == PICKED:
        slope, shift = crossval.calibrated(examples, held[best])
        head, calibrated = _scaled(head, slope, shift), slope * held[best].mean + shift
    figures = measures.figures(examples, held[best])
    curve = _curve(examples, chosen.asked, strength, figures)
    return Fitted(head, figures, curve, _doubled(curve), strength, chosen.near, chosen.measured, calibrated)


@dataclass(frozen=True)
class Variant:
    """What may be learnt from. rows: (n, k) that are learnt from; asked: (n, k) of the same pictures as they are
    scored. near: whether neighbours have their say; measured: properties. turn: (d, k) that made k numbers of d, or
    None."""

    rows: Numbers
    asked: Numbers
    near: bool = False
    measured: bool = False
    turn: Numbers | None = None


def _best(examples: Examples, variants: list[Variant], held: list[crossval.HeldOut], losses: list[float]) -> int:
    """The variant of the least loss; neighbours where these are no more than one standard error above it, for what they
    say is said by many."""
    best = int(np.argmin(losses))
    most = losses[best] + crossval.standard_error(examples, held[best].scores)
    near = [place for place, one in enumerate(variants) if one.near and losses[place] <= most]
    return near[0] if near else best


def _units(judged: Judged) -> tuple[float, float]:
    """Mean and spread of ratings, so that one strength means the same in all units."""
    if judged.kind != RATING:
        return 0.0, 1.0
    centre = float(np.average(judged.targets, weights=judged.weights))
    return centre, float(np.sqrt(np.average((judged.targets - centre) ** 2, weights=judged.weights)))


def _examples(
    judged: Judged, space: Space, centre: float, unit: float, base: Head | None
) -> tuple[Examples, list[Variant]]:
    """The examples by their vectors alone, and all that may be learnt from."""

    def rows_of(vectors: Vectors, others: Vectors | None) -> Numbers:
        rows = space.rows(vectors)
        return rows if others is None else rows - space.rows(others)

    own = rows_of(judged.vectors, judged.others)
    known = np.zeros(len(judged))
    if base is not None:
        known = base.raw(judged.vectors, judged.properties)
        if judged.others is not None:
            known = known - base.raw(judged.others, judged.other_properties)
        known = (known - centre) / unit if judged.kind == RATING else known
    variants = [Variant(own, own)]
    if judged.near is not None and judged.kind != RATING:
        near = rows_of(judged.near, judged.other_near)
        if space.shared is None:
            variants.append(Variant(near, own, near=True))
        else:
            variants.append(Variant((own + near) / 2 @ space.shared, own @ space.shared, near=True, turn=space.shared))
    if (
        space.places is not None
        and judged.properties is not None
        and len(judged) >= LEAST_FOR_MEASURED
        and base is None
    ):
        told = ranked(judged.properties, space.places)
        if judged.other_properties is not None:
            told = told - ranked(judged.other_properties, space.places)
        both = np.hstack([own, told])
        variants.append(Variant(both, both, measured=True))
    weights = judged.weights / judged.weights.mean()
    targets = (judged.targets - centre) / unit
    return Examples(judged.kind, own, targets, weights, known, judged.groups), variants


def _head(
    found: Linear, space: Space, kind: str, key: str, model: str, centre: float, unit: float, base: Head | None,
    variant: Variant,
) -> Head:  # fmt: skip
    dimension = len(space.mean)
    turned = found.weights[:dimension] if variant.turn is None else variant.turn @ found.weights
    weights = turned * unit / space.scale
    offset = found.offset * unit + centre - float(weights @ space.mean.astype(np.float64))
    measured = None
    if variant.measured and space.places is not None:
        measured = Measured(space.names, space.places, (found.weights[dimension:] * unit).astype(np.float32))
    if base is not None:
        weights = weights + base.layers[0].weights[0].astype(np.float64)
        offset += float(base.layers[0].bias[0]) - centre
        measured = base.measured
    layer = Layer(weights.astype(np.float32)[None], np.array([offset], np.float32))
    return Head(key, kind, model, (layer,), measured=measured, sureness=_sureness(found, space, unit, variant.turn))


def _scaled(head: Head, slope: float, shift: float) -> Head:
    """The head whose log-odds are slope * those of this one + shift."""
    layer, sure, measured = head.layers[0], head.sureness, head.measured
    scaled = Layer(layer.weights * np.float32(slope), layer.bias * np.float32(slope) + np.float32(shift))
    if measured is not None:
        measured = replace(measured, weights=measured.weights * np.float32(slope))
    if sure is not None:
        square = slope**2
        sure = replace(
            sure, wide=sure.wide * square, flat=sure.flat * square, least=sure.least * square,
            ways=sure.ways * np.float32(slope),
        )  # fmt: skip
    return replace(head, layers=(scaled,), sureness=sure, measured=measured)


def _sureness(found: Linear, space: Space, unit: float, turn: Numbers | None) -> Sureness:
    """The ways of which most was learnt, and of the others their mean; where rows were turned, the ways in which scores
    are still unsure, and of the others their mean."""
    if found.known_ways is None:
        raise ValueError("fitted without its variances")
    rows = space.rows(space.sample[:2048])
    if turn is not None:
        return _turned_sureness(found, found.known_ways, space, unit, turn, rows)
    dimension = len(space.mean)
    whole = np.vstack([found.known_ways[:dimension], found.known_ways[-1:]])
    told = np.square(rows @ whole[:-1] + whole[-1])
    order = np.argsort(-told.mean(axis=0), kind="stable")
    kept, left = whole[:, order[:WAYS]], told[:, order[WAYS:]].sum(axis=1)
    exact = found.wide * np.square(rows).sum(axis=1) + found.flat - told.sum(axis=1)
    return Sureness(
        found.wide * unit**2, (found.flat - float(left.mean())) * unit**2, space.mean, space.scale,
        (kept * unit).astype(np.float32), float(np.maximum(np.quantile(exact, 0.01), 0.0)) * unit**2,
    )  # fmt: skip


def _turned_sureness(
    found: Linear, known_ways: Numbers, space: Space, unit: float, turn: Numbers, rows: Numbers
) -> Sureness:
    """The posterior covariance of few numbers by its own directions."""
    count = turn.shape[1]
    prior = np.append(np.full(count, found.wide), found.flat)
    values, ways = np.linalg.eigh(np.diag(prior) - known_ways @ known_ways.T)
    whole = ways * np.sqrt(np.maximum(values, 0.0))
    told = np.square(rows @ turn @ whole[:-1] + whole[-1])
    order = np.argsort(-told.mean(axis=0), kind="stable")
    kept, left = whole[:, order[:WAYS]], told[:, order[WAYS:]].sum(axis=1)
    back = np.vstack([turn @ kept[:-1], kept[-1:]])
    return Sureness(
        0.0, float(left.mean()) * unit**2, space.mean, space.scale, (back * unit).astype(np.float32), adds=True
    )


def _curve(examples: Examples, asked: Numbers, strength: float, figures: list[Figure]) -> list[CurvePoint]:
    """The first of the figures for shares of the judgements, at the same strength; each the mean of CURVE_DRAWS."""
    if not figures:
        return []
    measure = measures.MEASURES[figures[0].name]
    points = []
    for share in CURVE[:-1]:
        count = math.ceil(share * len(examples))
        if count < LEAST[examples.kind]:
            continue
        values = []
        for draw in range(CURVE_DRAWS):
            some = np.random.default_rng(draw).permutation(len(examples))[:count]
            part = examples.of(some)
            if examples.kind == PICKED and np.ptp(part.targets) == 0:
                continue
            scores = crossval.held_out(part, asked[some], strength, 1).mean
            there = ~np.isnan(scores)
            if there.sum() >= LEAST_OF_A_KIND:
                values.append(measure(part.targets[there], scores[there]))
        if values:
            value = float(np.mean(values))
            of_count = measures.figure_at(figures[0].name, value, examples.targets, count)
            points.append(CurvePoint(count, value, *of_count))
    first = figures[0]
    return [*points, CurvePoint(len(examples), first.value, first.low, first.high)]


def _doubled(curve: list[CurvePoint]) -> float:
    """What twice the judgements may reach: what is missing to 1 falls as a power of their number (Cortes et al., NIPS
    1993), by least squares of its logarithm, never worse than now."""
    if not curve:
        return math.nan
    now = curve[-1]
    if len(curve) < 2:
        return now.value
    counts = np.log([point.judgements for point in curve])
    missing = np.log([max(1 - point.value, 1e-4) for point in curve])
    power = min(float(np.polyfit(counts, missing, 1)[0]), 0.0)
    return 1 - (1 - now.value) * 2**power
