"""What fits, suggestions and maps read of a lake, without an engine: some rows of its tables, by image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.engines import delta_log
from jobs.engines.datasets import dataset, scanner
from udfs.images.rows import PROPERTIES
from udfs.ratings.space import Space
from udfs.stores import uris
from udfs.vectors.cell_packs import vectors_of
from udfs.vectors.cosine import Vectors

SAMPLE = 4096  # vectors of the lake by which it is known what is usual in it: 21 MB of 1,280 numbers
AT_ONCE = 4096  # vectors that are looked at together
NEAREST = 10  # neighbours of a picture that stand for it
Ids = NDArray[np.int64]


class LakeRows:
    """Rows of the tables of a lake. lake: a canonical URI. model: of the embeddings."""

    def __init__(self, lake: str, model: str) -> None:
        self.lake, self.model = lake, model

    def has(self, table: str) -> bool:
        return delta_log.version(uris.join(self.lake, table)) is not None

    def rows(self, table: str, columns: Sequence[str], where: Any) -> pa.Table:
        """Rows of a table, none where it is not there."""
        if not self.has(table):
            return pa.table({name: [] for name in columns})
        return dataset(self.lake, table).to_table(columns=list(columns), filter=where)

    def vectors(self, ids: Ids) -> tuple[Ids, Vectors]:
        """The images that have a vector of the model, in the order of their ids, and the vectors (n, d)."""
        where = (pc.field("model") == self.model) & pc.field("image_id").isin(pa.array(np.unique(ids)))
        return _vectors(self.rows("embeddings", ("image_id", "vector"), where))

    def sample(self, count: int = SAMPLE) -> tuple[Ids, Vectors]:
        """Some images of all files, in no order that means anything, and their vectors."""
        if not self.has("embeddings"):
            return np.zeros(0, np.int64), np.zeros((0, 0), np.float32)
        where = pc.field("model") == self.model
        table = dataset(self.lake, "embeddings")
        fragments = list(table.get_fragments())
        each = -(-count // max(1, min(len(fragments), 64)))
        parts, found = [], 0
        draw = np.random.default_rng(0)
        for at in draw.permutation(len(fragments)).tolist():
            rows = scanner(table, fragments[at], ["image_id", "vector"], where).head(8 * each)
            part = rows.take(np.sort(draw.permutation(rows.num_rows)[:each])) if rows.num_rows else rows
            parts.append(part)
            found += part.num_rows
            if found >= count:
                break
        if not found:
            return np.zeros(0, np.int64), np.zeros((0, 0), np.float32)
        ids, vectors = _vectors(pa.concat_tables(parts))
        return ids[:count], vectors[:count]

    def every(self, most: int) -> Iterator[tuple[Ids, Vectors]]:
        """Images and their vectors, some at once: all, or, of more than `most`, those of files drawn by chance."""
        if not self.has("embeddings"):
            return
        where = pc.field("model") == self.model
        table = dataset(self.lake, "embeddings")
        fragments, left = list(table.get_fragments()), most
        for at in np.random.default_rng(0).permutation(len(fragments)).tolist():
            names = ["image_id", "vector"]
            for batch in scanner(
                table, fragments[at], names, where, batch_size=AT_ONCE, batch_readahead=2
            ).to_batches():
                if batch.num_rows:
                    ids, vectors = _vectors(pa.table(batch.slice(0, left)))
                    left -= len(ids)
                    yield ids, vectors
                if left <= 0:
                    return

    def count(self) -> int:
        """Images that have a vector of the model."""
        return int(dataset(self.lake, "embeddings").count_rows(filter=pc.field("model") == self.model))

    def properties(self, ids: Ids, names: Sequence[str] = PROPERTIES) -> NDArray[np.float64]:
        """(n, p) of the images in their order, nan where unknown."""
        found = np.full((len(ids), len(names)), np.nan)
        known = np.unique(ids)
        rows = self.rows("features", ("image_id", *names), pc.field("image_id").isin(pa.array(known)))
        if rows.num_rows:
            at = {int(image_id): place for place, image_id in enumerate(rows["image_id"].to_pylist())}
            values = np.column_stack([rows[name].to_numpy() for name in names])
            places = np.array([at.get(int(image_id), -1) for image_id in ids])
            found[places >= 0] = values[places[places >= 0]]
        return found

    def space(self, measured: bool = True) -> Space:
        """Where the vectors of the lake lie, and, if wanted, what is usual of its properties."""
        ids, vectors = self.sample()
        near = self.near(ids, vectors) if len(ids) else None
        if not measured:
            return Space.of(vectors, near=near)
        return Space.of(vectors, PROPERTIES, self.properties(ids), near)

    def clusters(self, ids: Ids) -> Ids:
        """The cluster of duplicates of each image; of others a number of their own, below 0."""
        rows = self.rows(
            "duplicates", ("image_id", "component_id"), pc.field("image_id").isin(pa.array(np.unique(ids)))
        )
        of = dict(zip(rows["image_id"].to_pylist(), rows["component_id"].to_pylist(), strict=True))
        return np.array([of.get(int(image_id), -1 - int(image_id)) for image_id in ids], np.int64)

    def near(self, ids: Ids, own: Vectors) -> Vectors | None:
        """(n, d) the mean of each image and its NEAREST neighbours; None where the lake has none. own: of ids."""
        where = pc.field("image_id").isin(pa.array(np.unique(ids))) & (pc.field("rank") <= NEAREST)
        rows = self.rows("neighbours", ("image_id", "neighbour_id"), where)
        if not rows.num_rows:
            return None
        asked, others = rows["image_id"].to_numpy(), rows["neighbour_id"].to_numpy()
        known, vectors = self.vectors(others)
        place = np.searchsorted(known, others)
        there = (place < len(known)) & (known[np.minimum(place, len(known) - 1)] == others)
        order = np.argsort(ids, kind="stable")
        sorted_ids = ids[order]
        sums, counts = own.astype(np.float64), np.ones(len(ids))
        for image, at in zip(asked[there].tolist(), place[there].tolist(), strict=True):
            for row in order[np.searchsorted(sorted_ids, image, "left") : np.searchsorted(sorted_ids, image, "right")]:
                sums[row] += vectors[at]
                counts[row] += 1
        return np.asarray(sums / counts[:, None], np.float32)

    def quality(self, ids: Ids) -> NDArray[np.float64]:
        """(n,) the quality_score of each image, nan where it has none."""
        rows = self.rows("scores", ("image_id", "quality_score"), pc.field("image_id").isin(pa.array(np.unique(ids))))
        of = dict(zip(rows["image_id"].to_pylist(), rows["quality_score"].to_pylist(), strict=True))
        return np.array([of.get(int(image_id), np.nan) for image_id in ids], np.float64)


def _vectors(rows: pa.Table) -> tuple[Ids, Vectors]:
    if not rows.num_rows:
        return np.zeros(0, np.int64), np.zeros((0, 0), np.float32)
    rows = rows.sort_by("image_id")
    return np.asarray(rows["image_id"].to_numpy(), np.int64), vectors_of(rows["vector"])
