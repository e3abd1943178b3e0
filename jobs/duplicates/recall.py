"""Recall of the neighbours, measured in every run: a sample of the images is searched exactly, among all of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame, Row

from jobs.config import Neighbours
from jobs.engines.frames import frame_of, small
from udfs.vectors import recall
from udfs.vectors.cell_packs import Images
from udfs.vectors.cells import CellIndex
from udfs.vectors.cosine import Ids, Vectors
from udfs.vectors.near_rule import NearRule

TIE = 1e-4  # of a cosine: what the rounding of vectors to float16 may change
FURTHER = 16  # probes beyond those in use that are tried for the advice
MOST_FINE_PROBES = 128


@dataclass(frozen=True)
class Truth:
    """The true neighbours of sampled images, and which of them the search has found.

    (n,) each, one row a pair: query (a row of the sample), other (image_id), cosine; found: whether it stands in the
    query's list, or in its place another that is not a true neighbour but as near, to TIE: in a crowd, any of thousands
    is as good. close: whether the pair may be one of near-duplicates by its cosine and the query's background."""

    queries: Images
    query: NDArray[np.int64]
    other: Ids
    cosine: NDArray[np.float64]
    found: NDArray[np.bool_]
    close: NDArray[np.bool_]

    def share(self, of: NDArray[np.bool_]) -> recall.Share:
        """The share found of the pairs for which `of` holds."""
        count = len(self.queries.ids)
        return recall.share(
            np.bincount(self.query[of & self.found], minlength=count), np.bincount(self.query[of], minlength=count)
        )

    def at_k(self) -> recall.Share:
        return self.share(np.ones(len(self.query), bool))

    def of_pairs(self) -> recall.Share:
        return self.share(self.close)


def compared(queries: Images, exact: DataFrame, neighbours: DataFrame, k: int, rule: NearRule) -> Truth:
    """exact: MERGED of the queries. neighbours: the table. What is brought to the driver is bounded by the sample."""
    row_of = {int(image_id): row for row, image_id in enumerate(queries.ids)}
    lists = {row_of[row["image_id"]]: row for row in exact.select("image_id", "neighbour_ids", "cosines").collect()}
    ids = frame_of(neighbours.sparkSession, [(image_id,) for image_id in row_of], "image_id BIGINT")
    listed: dict[int, dict[int, float]] = {row: {} for row in row_of.values()}
    for pair in neighbours.join(small(ids), "image_id").select("image_id", "neighbour_id", "cosine").collect():
        listed[row_of[pair["image_id"]]][pair["neighbour_id"]] = pair["cosine"]
    query = np.repeat(np.arange(len(queries.ids)), [len(lists[row]["cosines"]) for row in range(len(queries.ids))])
    other = np.array([image for row in range(len(queries.ids)) for image in lists[row]["neighbour_ids"]], np.int64)
    cosine = np.array([value for row in range(len(queries.ids)) for value in lists[row]["cosines"]], np.float64)
    farthest = np.array([min(lists[row]["cosines"], default=0.0) for row in range(len(queries.ids))])
    background = farthest[query]  # of the query; that of the other is not known
    close = (cosine >= rule.certain) | rule.doubtful(cosine, background, background)
    hits = [hit for row in range(len(queries.ids)) for hit in _found(lists[row], listed[row])]
    return Truth(queries, query, other, cosine, np.array(hits, bool), close)


def _found(true: Row, listed: dict[int, float]) -> list[bool]:
    """Which of a query's true neighbours, nearest first, its list holds, each substitute counted once."""
    spare = sorted(cosine for image_id, cosine in listed.items() if image_id not in true["neighbour_ids"])
    hits = []
    for image_id, cosine in zip(true["neighbour_ids"], true["cosines"], strict=True):
        hit = image_id in listed
        if not hit and spare and spare[-1] >= cosine - TIE:
            spare.pop()
            hit = True
        hits.append(hit)
    return hits


@dataclass(frozen=True)
class Effort:
    """How widely a search looks. probes: cells that each image is put in; fine_probes: the same inside a cell."""

    probes: int
    fine_probes: int


@dataclass(frozen=True)
class Wanted:
    """What would bring a recall to its floor. now: how far it is under it, in words. effort: of a search that finds
    enough; None where none does with cells of this size. where: the setting to be raised, in words."""

    now: str
    effort: Effort | None
    where: str


def wanted(
    truth: Truth, vectors: dict[int, Vectors], centres: Vectors, effort: Effort, settings: Neighbours
) -> list[Wanted]:
    """Of each recall that is under its floor what is to be raised, and by how much. vectors: of the true neighbours.

    More probes find a pair if one of the cells of each is then the same; a pair that shares one already and was lost
    was lost inside the cell, and fine_probes is to be raised: how far is not known, so it is doubled."""
    under = [
        (name, floor, of)
        for name, floor, of in (
            (f"recall@{settings.k}", settings.recall_floor, np.ones(len(truth.query), bool)),
            ("recall of pairs", settings.pair_recall_floor, truth.close),
        )
        if truth.share(of).value < floor
    ]
    if not under:
        return []
    index, most = CellIndex(centres), min(effort.probes + FURTHER, len(centres))
    here = index.nearest(truth.queries.vectors, most)
    there = index.nearest(np.stack([vectors[int(image)] for image in truth.other]), most)
    rank = np.full(len(truth.query), most + 1)  # the least number of probes with which the two meet
    for number in range(most, 0, -1):
        met = (here[truth.query][:, :number, np.newaxis] == there[:, np.newaxis, :number]).any(axis=(1, 2))
        rank[met] = number
    found = []
    for name, floor, of in under:
        now = f"{name} {recall.percent(truth.share(of).value)} is under the floor of {recall.percent(floor)}"
        lost_inside = ~truth.found & (rank <= effort.probes)
        kept = 1 - float(lost_inside[of].sum()) / max(1, int((rank[of] <= effort.probes).sum()))
        enough = [p for p in range(effort.probes + 1, most + 1) if kept * float((rank[of] <= p).mean()) >= floor]
        inside = f"neighbours.fine_probes above {effort.fine_probes}"
        if enough:
            more = Effort(enough[0], effort.fine_probes)
            found.append(Wanted(now, more, f"neighbours.probes={enough[0]} (now {effort.probes})"))
        elif kept < floor:
            finer = Effort(effort.probes, 2 * effort.fine_probes) if effort.fine_probes < MOST_FINE_PROBES else None
            where = f"{inside}; {recall.percent(1 - kept)} are lost inside the cells"
            found.append(Wanted(now, finer, where))
        else:
            found.append(Wanted(now, None, f"neighbours.cell_mb above {settings.cell_mb}, or {inside}"))
    return found


def together(efforts: list[Effort | None]) -> Effort | None:
    """The effort that does for all; None where there is none for one."""
    known = [effort for effort in efforts if effort is not None]
    if not known or len(known) < len(efforts):
        return None
    return Effort(max(effort.probes for effort in known), max(effort.fine_probes for effort in known))
