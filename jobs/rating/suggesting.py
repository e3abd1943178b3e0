"""Suggesting: which pictures of a lake to judge next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.engines.datasets import dataset
from jobs.errors import InputError
from jobs.rating import store
from jobs.rating.vectors import Ids, LakeRows
from udfs.ratings import suggest as design
from udfs.ratings.extremes import UNSURE, extremes
from udfs.ratings.files import NETWORK
from udfs.ratings.heads import Head, HeadError
from udfs.ratings.linear import PICKED
from udfs.vectors.cosine import Vectors

LOOKED_AT = 2_000_000  # vectors of which it is asked what their judgement would teach: about two minutes
SPARE = 4  # times as many of the least sure are looked at as are told: of each cluster of duplicates one is


@dataclass(frozen=True)
class Asked:
    """A picture to be judged. score: what the rating says of it now, nan where it needs what the lake does not have."""

    image_id: int
    uri: str
    score: float


@dataclass(frozen=True)
class Suggested:
    """telling: the best to judge first. unsure: those that the rating is least sure of. seen: pictures that were looked
    at, of `images`."""

    telling: list[Asked]
    unsure: list[Asked]
    seen: int
    images: int


def suggest(lake: LakeRows, head: Head, count: int) -> Suggested:
    """Of each kind so many, without what was judged and with one of each cluster of duplicates. Raises InputError.

    All vectors are read once, LOOKED_AT at most. The most telling ones are chosen among those that would teach most by
    themselves, and some that were drawn: should copies fill the first, these are left."""
    if head.kind == NETWORK:
        raise InputError(f"{head.key} is a network of its own: no judgement would teach it")
    if head.model != lake.model:
        raise InputError(f"{head.key} is for vectors of {head.model}, the lake's are of {lake.model}")
    judged = store.judged(lake.lake, head.key)
    _, judged_vectors = lake.vectors(judged)
    space = lake.space(measured=False)
    if not len(space.sample):
        raise InputError(f"{lake.lake}: has no vectors of {lake.model}")
    of = design.Design.of(space, head, judged_vectors)
    best, seen = _best(of, lake.every(LOOKED_AT))
    taken = set(lake.clusters(judged).tolist()) if len(judged) else set()
    ids, vectors = lake.vectors(_apart(lake, np.union1d(best, lake.sample(design.MOST)[0]), taken))
    if not len(ids):
        raise InputError(f"{lake.lake}: there is no picture that was not judged")
    telling = ids[of.choose(vectors, count)]
    doubtful = _apart(lake, _unsure(lake, head, count * SPARE + len(judged)), taken)[:count]
    if not len(doubtful):
        doubtful = ids[design.least_sure(head, *_scores(lake, head, ids, vectors), count)]
    shown = np.union1d(telling, doubtful)
    known, shown_vectors = lake.vectors(shown)
    scores = dict(zip(known.tolist(), _scores(lake, head, known, shown_vectors)[0].tolist(), strict=True))
    uri = _uris(lake, shown)

    def asked(chosen: Ids) -> list[Asked]:
        return [Asked(image, uri.get(image, ""), scores.get(image, float("nan"))) for image in chosen.tolist()]

    return Suggested(asked(telling), asked(doubtful), seen, lake.count())


def _best(of: design.Design, every: Iterator[tuple[Ids, Vectors]]) -> tuple[Ids, int]:
    """The images that would teach most by themselves, design.MOST at most, and how many were looked at."""
    ids, gains, seen = np.zeros(0, np.int64), np.zeros(0), 0
    for some, vectors in every:
        seen += len(some)
        ids, gains = np.concatenate([ids, some]), np.concatenate([gains, of.gains(vectors)])
        order = np.lexsort((ids, -gains))[: design.MOST]
        ids, gains = ids[order], gains[order]
    return ids, seen


def _apart(lake: LakeRows, ids: Ids, taken: set[int]) -> Ids:
    """The first image of each cluster of duplicates, in their order, but for clusters that are taken."""
    if not len(ids):
        return ids
    clusters = lake.clusters(ids)
    _, first = np.unique(clusters, return_index=True)
    return np.asarray(ids[np.sort(first[~np.isin(clusters[first], list(taken))])])


def _unsure(lake: LakeRows, head: Head, count: int) -> Ids:
    """The least sure ones by the table `ratings`; none where it has no score of the head."""
    if not lake.has("ratings"):
        return np.zeros(0, np.int64)
    columns = ["image_id", "rating", "score", "percentile", "uncertainty"]
    rows = dataset(lake.lake, "ratings").to_batches(columns=columns, filter=pc.field("rating") == head.key)
    found = list(extremes({head.key: head.kind == PICKED}, count)(rows))
    ids = [row["image_id"] for batch in found for row in batch.to_pylist() if row["side"] == UNSURE]
    return np.array(ids, np.int64)


def _scores(lake: LakeRows, head: Head, ids: Ids, vectors: Vectors) -> tuple[np.ndarray, np.ndarray]:
    properties = None if head.measured is None else lake.properties(ids, head.measured.names)
    try:
        return head.scores(vectors, properties)
    except HeadError as error:
        raise InputError(str(error)) from error


def _uris(lake: LakeRows, ids: Ids) -> dict[int, str]:
    rows = lake.rows("images", ("image_id", "uri"), pc.field("image_id").isin(pa.array(ids)))
    return dict(zip(rows["image_id"].to_pylist(), rows["uri"].to_pylist(), strict=True))
