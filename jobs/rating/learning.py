"""Learning a rating from a file of judgements: the head, what it is worth, and what a person is told of both."""

from __future__ import annotations

import datetime
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from jobs import __version__
from jobs.errors import InputError
from jobs.rating import picks_file, store
from jobs.rating.picks_file import Picks
from jobs.rating.vectors import Ids, LakeRows
from udfs.ratings import fitting, measures, raters
from udfs.ratings.fitting import Fitted, Judged, TooFewError
from udfs.ratings.heads import Head
from udfs.ratings.linear import BETTER, PICKED, RATING
from udfs.ratings.measures import Figure

MOST = 20_000  # judgements that a fit looks at: 200 MB of 1,280 numbers
UNITS = {RATING: "as rated", PICKED: "probability of being picked", BETTER: "log-odds of being the better of two"}


@dataclass(frozen=True)
class Learnt:
    """A head, what it was learnt from, and lines for a person. judged: image_ids."""

    head: Head
    fitted: Fitted
    lines: list[str]
    judged: Ids


def judged(picks: Picks, lake: LakeRows, names: tuple[str, ...]) -> Judged:
    """The judgements with what the lake knows of their images. names: of properties."""
    own = _pictures(picks.ids, lake, names)
    groups = lake.clusters(picks.ids), lake.clusters(picks.others)
    if picks.kind != BETTER:
        vectors, near, properties = own
        return Judged(
            picks.kind, vectors, picks.targets, picks.weights, np.column_stack(groups), None, near, None, properties
        )
    others = _pictures(picks.others, lake, names)
    return Judged(
        picks.kind, own[0], picks.targets, picks.weights, _joined(np.column_stack(groups)), others[0],
        own[1] if others[1] is not None else None, others[1], own[2], others[2],
    )  # fmt: skip


def _pictures(ids: Any, lake: LakeRows, names: tuple[str, ...]) -> tuple[Any, Any, Any]:
    known, vectors = lake.vectors(ids)
    own = vectors[np.searchsorted(known, ids)]
    return own, lake.near(ids, own), lake.properties(ids, names) if names else None


def _joined(groups: Any) -> Any:
    """The components of pairs where these are many and small; else the groups as they are. groups: (n, 2)."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    names, places = np.unique(groups, return_inverse=True)
    places = places.reshape(groups.shape)
    links = coo_array((np.ones(len(places)), (places[:, 0], places[:, 1])), shape=(len(names), len(names)))
    _, component = connected_components(links, directed=False)
    of_pair = component[places[:, 0]]
    if np.bincount(of_pair).max() <= 0.1 * len(of_pair):
        return np.column_stack([of_pair, of_pair])
    return groups


def learn(lake: LakeRows, name: str, file: Path, base: str | None, licence: str, source: str) -> Learnt:
    """Fits a head to a file of judgements. base: a rating of the lake. licence, source: of the judgements, as the user
    has them. Raises InputError."""
    key = store.next_key(lake.lake, name)
    known = None if base is None else store.find(lake.lake, base).head
    picks = picks_file.read(file, lake)
    if known is not None:
        check_base(known, picks.kind, lake.model)
    picks = _bounded(picks)
    space = lake.space()
    if not len(space.sample):
        raise InputError(f"{lake.lake}: has no vectors of {lake.model}")
    names = space.names
    if known is not None:
        names = known.measured.names if known.measured is not None else ()
    given = judged(picks, lake, names)
    try:
        fitted = fitting.fit(given, space, key, lake.model, known)
    except TooFewError as error:
        raise InputError(f"{file}: {error}") from error
    head = fitted.head
    lines = [f"{key}: {len(picks):,} judgements, {_how(fitted)}", *(f"note: {note}" for note in picks.notes)]
    lines += _told(fitted, given, lake, picks)
    if picks.names and len(picks.names) > 1:
        personal = raters.fit(given, picks.raters, picks.names, fitted, space)
        head = replace(head, raters=personal.raters)
        lines.append(f"{len(picks.names):,} raters: held-out loss {personal.gained:.1%} lower with a head of their own")
    about = {
        "units": UNITS[picks.kind], "judgements": len(picks), "picks_sha256": picks.digest,
        "base": known.key if known else None,
        "licence": licence, "source": source, "imagesieve": __version__, "lake": lake.lake,
        "made_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), "strength": fitted.strength,
        "neighbours": fitted.near, "noise": _noise(given, fitted),
        "figures": {one.name: asdict(one) for one in fitted.figures},
        "learning_curve": [asdict(point) for point in fitted.curve],
        "doubled": None if np.isnan(fitted.doubled) else fitted.doubled,
    }  # fmt: skip
    return Learnt(replace(head, about=about), fitted, lines, np.union1d(picks.ids, picks.others))


def check_base(base: Head, kind: str, model: str) -> None:
    """Raises InputError for a head that another cannot begin with."""
    if base.model != model:
        raise InputError(f"{base.key} is for vectors of {base.model}, the lake's are of {model}")
    if not base.linear or base.kind != kind:
        raise InputError(f"{base.key} is a head of {base.kind}, and these judgements are of {kind}: no base for them")


def _bounded(picks: Picks) -> Picks:
    if len(picks) <= MOST:
        return picks
    some = np.sort(np.random.default_rng(0).permutation(len(picks))[:MOST])
    notes = [*picks.notes, f"{MOST:,} of {len(picks):,} judgements are learnt from, drawn by chance"]
    return Picks(
        picks.kind, picks.ids[some], picks.others[some], picks.targets[some], picks.weights[some], picks.raters[some],
        picks.names, picks.digest, notes,
    )  # fmt: skip


def _noise(given: Judged, fitted: Fitted) -> float:
    if given.kind != RATING:
        return 1.0
    return float(np.sqrt(np.nanmean((given.targets - fitted.held) ** 2)))


def _how(fitted: Fitted) -> str:
    more = [
        text for text, there in (("their neighbours", fitted.near), ("measured properties", fitted.measured)) if there
    ]
    return f"by vectors{' and ' + ' and '.join(more) if more else ''}, strength {fitted.strength:g}"


def _told(fitted: Fitted, given: Judged, lake: LakeRows, picks: Picks) -> list[str]:
    lines = ["held-out folds say, with 95 % confidence:"]
    quality = lake.quality(picks.ids)
    if given.kind == BETTER:
        quality = quality - lake.quality(picks.others)
    there = np.isfinite(quality)
    for one in fitted.figures:
        beside = f"chance {one.chance:.3f}"
        if there.sum() >= fitting.LEAST[given.kind]:
            of = measures.figure_of(one.name, given.targets[there], quality[there])
            beside += f", the quality score {of.value:.3f}"
        lines.append(f"  {_spoken(one)}; {beside}")
    if len(fitted.curve) > 1:
        points = ", ".join(f"{point.judgements:,}: {point.value:.3f}" for point in fitted.curve)
        name = fitted.figures[0].name.replace("_", " ")
        lines.append(f"learning curve of {name}: {points}; with {2 * len(given):,} about {fitted.doubled:.3f}")
    return lines


def _spoken(one: Figure) -> str:
    return f"{one.name.replace('_', ' ')} {one.value:.3f} ({one.low:.3f} to {one.high:.3f})"
