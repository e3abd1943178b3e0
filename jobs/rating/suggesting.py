"""Suggesting: which pictures of a lake to judge next."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.errors import InputError
from jobs.rating import store
from jobs.rating.vectors import Ids, LakeRows
from udfs.ratings import suggest as design
from udfs.ratings.heads import Head, HeadError
from udfs.ratings.space import Space


@dataclass(frozen=True)
class Asked:
    """A picture to be judged. score: what the rating says of it now."""

    image_id: int
    uri: str
    score: float


@dataclass(frozen=True)
class Suggested:
    """telling: the best to judge first. unsure: those that the rating is least sure of."""

    telling: list[Asked]
    unsure: list[Asked]


def suggest(lake: LakeRows, head: Head, count: int) -> Suggested:
    """Of each kind so many, drawn from a sample of the lake, without what was judged and with one of each cluster of
    duplicates. Raises InputError."""
    if head.model != lake.model:
        raise InputError(f"{head.key} is for vectors of {head.model}, the lake's are of {lake.model}")
    ids, vectors = lake.sample(design.MOST)
    judged = store.judged(lake.lake, head.key)
    judged_clusters = set(lake.clusters(judged).tolist()) if len(judged) else set()
    clusters = lake.clusters(ids)
    _, first = np.unique(clusters, return_index=True)
    keep = np.sort(first[~np.isin(clusters[first], list(judged_clusters))])
    ids, vectors = ids[keep], vectors[keep]
    if not len(ids):
        raise InputError(f"{lake.lake}: there is no picture that was not judged")
    known, judged_vectors = lake.vectors(judged)
    near, judged_near = lake.near(ids, vectors), lake.near(known, judged_vectors) if len(known) else None
    pool = vectors if near is None else near
    told = judged_vectors if judged_near is None else judged_near
    telling = design.most_telling(Space.of(vectors), pool, told.reshape(-1, pool.shape[1]), count)
    properties = None if head.measured is None else lake.properties(ids, head.measured.names)
    try:
        scores, unsure = head.scores(vectors, properties)
    except HeadError as error:
        raise InputError(str(error)) from error
    doubtful = design.least_sure(head, scores, unsure, count)
    uri = _uris(lake, ids[np.union1d(telling, doubtful)])

    def asked(rows: Ids) -> list[Asked]:
        return [Asked(int(ids[row]), uri.get(int(ids[row]), ""), float(scores[row])) for row in rows.tolist()]

    return Suggested(asked(telling), asked(doubtful))


def _uris(lake: LakeRows, ids: Ids) -> dict[int, str]:
    rows = lake.rows("images", ("image_id", "uri"), pc.field("image_id").isin(pa.array(ids)))
    return dict(zip(rows["image_id"].to_pylist(), rows["uri"].to_pylist(), strict=True))
