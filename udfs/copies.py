"""Copies of one picture: which of some others show the same, by the rule of near-duplicates and then a second look.

What jobs.clusters asks of all pairs of a lake is asked here of one picture beside a few, in a child process: thumbnails
and looks come of files that nobody trusts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from udfs.images import alignment
from udfs.images.hash_distance import ALIKE_BITS, differing_bits
from udfs.images.looks import Look
from udfs.images.relation_names import to_bits
from udfs.images.relations import compare
from udfs.images.starts import likeness, sketch
from udfs.vectors.near_rule import NearRule

NOWHERE = -1
# The picture that is asked about stands in the first row, the others below it. cosine: to it. background: of each, see
# NearRule. keeper: the row of the one that the cluster of another keeps, NOWHERE where it is in none; is_near: whether
# it is one of the nearest, or only stands here as the keeper of one.
BESIDE = pa.schema(
    [
        ("cosine", pa.float64()),
        ("background", pa.float64()),
        ("own_background", pa.float64()),
        ("keeper", pa.int64()),
        ("is_near", pa.bool_()),
        ("perceptual_hash", pa.int64()),
        ("thumbnail", pa.binary()),
        ("look", pa.binary()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("medium", pa.string()),
        ("format", pa.string()),
    ]
)
# Of each of the others that was looked at. row: its place below the picture, from 0. relation: bits. better: 1 where
# the picture that is asked about is to be kept whatever their sizes and ages, 2 where the other is, else 0. agreement:
# of udfs.images.relations.Comparison.
SEEN = pa.schema([("row", pa.int64()), ("relation", pa.int64()), ("better", pa.int64()), ("agreement", pa.float64())])


@dataclass(frozen=True)
class SecondLook:
    """Maps batches of BESIDE, each of one picture, to SEEN. least: the cosine to a keeper. most: looks at others, the
    nearest first."""

    rule: NearRule
    least: float
    most: int

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield self._seen(batch)

    def _seen(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        own, others = batch.slice(0, 1).to_pylist()[0], batch.slice(1)
        cosines = others.column("cosine").to_numpy()
        edges = self._edges(own, others)
        keepers = others.column("keeper").to_numpy()[edges]
        keepers = keepers[keepers != NOWHERE]
        wanted = np.union1d(edges, keepers[cosines[keepers] >= self.least]).astype(np.int64)
        wanted = wanted[np.argsort(-cosines[wanted], kind="stable")][: self.most]
        names = ("look", "width", "height", "medium", "format")
        rows = others.select(names).take(pa.array(wanted)).to_pylist()
        look = Look.of(*(own[name] for name in names))
        found = [compare(look, Look.of(*(row[name] for name in names))) for row in rows]
        return pa.RecordBatch.from_arrays(
            [
                pa.array(wanted, pa.int64()),
                pa.array([to_bits(each.relations) for each in found], pa.int64()),
                pa.array([each.better for each in found], pa.int64()),
                pa.array([each.agreement for each in found], pa.float64()),
            ],
            schema=SEEN,
        )

    def _edges(self, own: dict[str, Any], others: pa.RecordBatch) -> NDArray[np.int64]:
        """The rows that may be near-duplicates: see jobs.clusters.near_edges."""
        cosines, left, right = (others.column(name).to_numpy() for name in ("cosine", "own_background", "background"))
        near = others.column("is_near").to_numpy(zero_copy_only=False) & (cosines >= self.rule.least)
        alike = differing_bits(own["perceptual_hash"], others.column("perceptual_hash").to_numpy())
        sure = near & ((cosines >= self.rule.certain) | (alike <= ALIKE_BITS))
        unsure = np.flatnonzero(near & ~sure & self.rule.doubtful(cosines, left, right))
        sketched = sketch(own["thumbnail"])
        thumbnails = others.column("thumbnail")
        for row in unsure.tolist():
            other = sketch(thumbnails[row].as_py())
            here = slice(row, row + 1)
            pair = cosines[here], left[here], right[here]
            if self.rule.likely(*pair, np.array([likeness(sketched, other)]))[0]:
                aligned = np.array([alignment.alignment(sketched, other)])
                sure[row] = bool(self.rule.matches(*pair, aligned)[0])
        return np.asarray(np.flatnonzero(sure), np.int64)
