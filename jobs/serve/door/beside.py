"""Beside a picture: the pictures of a lake that are copies of it, and those that only look alike."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.indexing.vector_index import VectorIndex
from jobs.serve.columns import Columns
from jobs.serve.door.evidence import Evidence, Rows
from jobs.serve.door.settings import Settings
from udfs.children import isolation
from udfs.children.messages import FunctionTask
from udfs.copies import BESIDE, NOWHERE, SecondLook
from udfs.images.compression import SQUEEZED
from udfs.images.relation_names import RELATIONS
from udfs.vectors.cosine import Values, cosine_pairs
from udfs.vectors.near_rule import BACKGROUND_RANK, NO_BACKGROUND

FOUND = 1000  # pictures that the index tells
READ = 64  # of these, the nearest by the index, whose own vectors are read
MOST_BESIDE = 32  # that are held against the picture, keepers of clusters among them
MOST_LOOKS = 12  # second looks: 3 to 10 ms each
MOST_EXACT = 20  # copies of equal pixels that are told


@dataclass(frozen=True)
class Exact:
    """total: pictures of equal pixels. rows: the first of them. representative: the row of the best; -1: there are
    none."""

    total: int
    rows: Rows
    representative: int


@dataclass(frozen=True)
class Seen:
    """A picture of the lake that was looked at. row: of the gallery. relations: how the two differ. same: whether they
    show the same. is_given_kept: whether the rules of the lake would keep the picture that was given. agreement: of
    udfs.images.relations.Comparison."""

    row: int
    cosine: float
    relations: tuple[str, ...]
    same: bool
    is_given_kept: bool
    agreement: float


@dataclass(frozen=True)
class Beside:
    """The pictures of a lake beside one that is given."""

    columns: Columns
    evidence: Evidence
    index: VectorIndex
    settings: Settings

    def exact(self, picture: dict[str, Any]) -> Exact:
        total, rows = self.evidence.exact(picture["pixel_hash"], MOST_EXACT)
        best = int(self.evidence.representative[rows[0]]) if total else NOWHERE
        return Exact(total, rows, best)

    def near(self, picture: dict[str, Any], exact: Exact) -> list[Seen]:
        """Those that were looked at, the nearest first. picture: a row of EMBEDDED."""
        vector = np.asarray(picture["vector"], np.float32)
        rows, cosines = self._nearest(vector, exact.representative)
        if not len(rows):
            return []
        known = exact.representative != NOWHERE
        tenth = self.evidence.tenth[rows]
        chosen = np.arange(len(rows)) < self.settings.neighbours
        own = float(cosines[BACKGROUND_RANK - 1]) if len(rows) >= BACKGROUND_RANK else NO_BACKGROUND
        if known:  # its own neighbours are those of the copy, which the others know already
            there = np.nan_to_num(tenth, nan=NO_BACKGROUND)
        else:
            chosen |= np.isnan(tenth) | (cosines > tenth)
            there = _with_one_more(self.evidence.ninth[rows], tenth, cosines)
        chosen &= cosines >= self.settings.rule.least
        rows, cosines, there = rows[chosen][:MOST_BESIDE], cosines[chosen][:MOST_BESIDE], there[chosen][:MOST_BESIDE]
        return self._looked_at(picture, vector, rows, cosines, there, own) if len(rows) else []

    def _nearest(self, vector: NDArray[np.float32], without: int) -> tuple[Rows, Values]:
        """The nearest pictures, of those of equal pixels one, and their cosines, the highest first. without: a row."""
        found, _ = self.index.like(vector, FOUND)
        alike = self.evidence.representative[found].astype(np.int64)
        _, first = np.unique(alike, return_index=True)
        rows = alike[np.sort(first)]
        rows = rows[rows != without][:READ]
        cosines = self._cosines(vector, rows)
        order = np.argsort(-cosines, kind="stable")
        return rows[order], cosines[order]

    def _cosines(self, vector: NDArray[np.float32], rows: Rows) -> Values:
        return cosine_pairs(np.broadcast_to(vector, (len(rows), len(vector))), self.evidence.vectors(rows))

    def _looked_at(
        self,
        picture: dict[str, Any],
        vector: NDArray[np.float32],
        rows: Rows,
        cosines: Values,
        there: Values,
        own: float,
    ) -> list[Seen]:
        """rows: that are near; cosines, there: of them their cosines and backgrounds. own: background."""
        kept = self.evidence.keeper[rows].astype(np.int64)
        more = np.setdiff1d(kept[kept != NOWHERE], rows)
        everywhere = np.concatenate([rows, more])
        near = np.arange(len(everywhere)) < len(rows)
        cosines = np.concatenate([cosines, self._cosines(vector, more)])
        there = np.concatenate([there, np.full(len(more), NO_BACKGROUND)])
        place = {row: number for number, row in enumerate(everywhere.tolist())}
        keepers = [place.get(int(self.evidence.keeper[row]), NOWHERE) for row in everywhere.tolist()]
        looks = self.evidence.looks(everywhere)
        others = [
            {"cosine": cosine, "background": background, "own_background": own, "keeper": keeper, "is_near": is_near,
             "perceptual_hash": int(self.evidence.perceptual_hash[row]), "thumbnail": look[0], "look": look[1],
             **self._told(row)}
            for row, cosine, background, keeper, is_near, look in zip(
                everywhere.tolist(), cosines.tolist(), there.tolist(), keepers, near.tolist(), looks, strict=True)
            if look is not None
        ]  # fmt: skip
        if len(others) != len(everywhere):
            raise FileNotFoundError("a picture with a vector has no look: run `imagesieve embed` again")
        given = {name: picture.get(name) for name in BESIDE.names}
        batch = pa.RecordBatch.from_pylist([given, *others], schema=BESIDE)
        task = SecondLook(self.settings.rule, self.settings.least_to_keeper, MOST_LOOKS)
        found = pa.Table.from_batches(isolation.stream([batch], FunctionTask(pickle.dumps(task), "second look")))
        seen = []
        for each in found.to_pylist():
            row = int(everywhere[each["row"]])
            names = tuple(name for bit, name in enumerate(RELATIONS) if each["relation"] >> bit & 1)
            same = self.settings.same.issuperset(names)
            is_kept = self.is_given_kept(picture, row, each["better"])
            seen.append(Seen(row, float(cosines[each["row"]]), names, same, is_kept, each["agreement"]))
        return seen

    def is_given_kept(self, picture: dict[str, Any], row: int, better: int = 0) -> bool:
        """Whether the given picture is better than one of the lake: see jobs.duplicates.copies.ORDER. It has no time
        and no name, which come last. better: of udfs.images.relations.Comparison."""
        if better:
            return better == 1
        pixels, squeezed = picture["width"] * picture["height"], picture["jpeg_quality"] < SQUEEZED
        numbers = {name: int(self.columns.numbers(name)[row]) for name in ("width", "height", "modified", "size_bytes")}
        others = numbers["width"] * numbers["height"]
        if pixels != others:
            return bool(pixels > others)
        if squeezed != bool(self.evidence.squeezed[row]):
            return not squeezed
        return bool(numbers["modified"] < 0 and picture["bytes"] > numbers["size_bytes"])

    def _told(self, row: int) -> dict[str, Any]:
        return {
            "width": int(self.columns.numbers("width")[row]),
            "height": int(self.columns.numbers("height")[row]),
            "medium": "".join(self.columns.coded("medium").of(row)),
            "format": "".join(self.columns.coded("format").of(row)),
        }


def _with_one_more(ninth: Values, tenth: Values, cosines: Values) -> Values:
    """The backgrounds of pictures once another, at these cosines, is among their neighbours."""
    with_tenth = np.minimum(ninth, np.maximum(tenth, cosines))
    found = np.where(np.isnan(tenth), np.minimum(ninth, cosines), with_tenth)
    return np.where(np.isnan(ninth), NO_BACKGROUND, found)
