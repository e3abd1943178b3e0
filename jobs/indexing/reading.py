"""What an index reads of a lake, without an engine: vectors, and by what a picture is known to be the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.engines import delta_log
from jobs.engines.datasets import dataset, scanner
from jobs.indexing.segments import ROWS_AT_ONCE
from jobs.indexing.space import Coded, Space
from udfs.networks.concepts import Classifier
from udfs.stores import uris
from udfs.vectors.cell_packs import vectors_of
from udfs.vectors.cosine import Vectors

SOURCES = ("embeddings", "copies")  # the tables that an index is made of
SAMPLE = 65_536
Ids = NDArray[np.int64]
Versions = dict[str, int | None]


def versions(lake: str) -> Versions:
    """The versions of the tables that an index is made of, None where one is not there. lake: a canonical URI."""
    return {name: delta_log.version(uris.join(lake, name)) for name in SOURCES}


@dataclass(frozen=True)
class Known:
    """The pictures that have vectors, by ascending id. ids, keys: (n,) int64, the key 64 bits of the content."""

    ids: Ids
    keys: Ids

    def keys_of(self, ids: Ids) -> tuple[Ids, NDArray[np.bool_]]:
        """The key of each image, and whether it is there."""
        if not len(self.ids):
            return np.zeros(len(ids), np.int64), np.zeros(len(ids), np.bool_)
        at = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        return self.keys[at], self.ids[at] == ids


class LakeVectors:
    """The vectors of one model in a lake whose embeddings are there. lake: a canonical URI. at: of versions(); without
    `copies` all keys are 0."""

    def __init__(self, lake: str, model: str, at: Versions) -> None:
        self._table = dataset(lake, "embeddings", at["embeddings"])
        self._where = pc.field("model") == model
        ids = self._ids()
        if at["copies"] is None:
            self.known = Known(ids, np.zeros(len(ids), np.int64))
            return
        copies = dataset(lake, "copies", at["copies"]).to_table(columns=["image_id", "content_key"])
        keyed = _by_id(copies["image_id"].to_numpy(), copies["content_key"].to_numpy())
        keys, there = keyed.keys_of(ids)
        self.known = Known(ids[there], keys[there])

    def sample(self) -> Vectors:
        """Some vectors of all files, by ascending id, (n, d); none where there are none."""
        fragments = list(self._table.get_fragments())
        each = -(-SAMPLE // max(1, len(fragments)))
        parts, ids, found = [], [], 0
        for at in np.random.default_rng(0).permutation(len(fragments)).tolist():
            part = scanner(self._table, fragments[at], ["image_id", "vector"], self._where).head(each)
            if part.num_rows:
                parts.append(vectors_of(part["vector"]))
                ids.append(part["image_id"].to_numpy())
                found += part.num_rows
            if found >= SAMPLE:
                break
        if not parts:
            return np.empty((0, 0), np.float32)
        # In an order that does not depend on how an engine deals rows to files.
        order = np.argsort(np.concatenate(ids)[:SAMPLE], kind="stable")
        return np.concatenate(parts)[:SAMPLE][order]

    def parts(self, wanted: Ids | None = None) -> Iterator[tuple[Ids, Vectors, NDArray[np.float32]]]:
        """Ids, vectors and norms of the known pictures, or of those wanted: ascending ids. All vectors are read once;
        of those wanted, the files and row groups that may hold them."""
        where = self._where
        if wanted is not None and len(wanted):
            where &= (pc.field("image_id") >= int(wanted[0])) & (pc.field("image_id") <= int(wanted[-1]))
            where &= pc.field("image_id").isin(pa.array(wanted))
        columns = ["image_id", "vector", "norm"]
        for batch in self._table.to_batches(columns=columns, filter=where, batch_size=ROWS_AT_ONCE):
            ids = batch.column("image_id").to_numpy()
            _, there = self.known.keys_of(ids)
            if there.any():
                norms = pc.fill_null(batch.column("norm"), 0.0).to_numpy(zero_copy_only=False)
                yield ids[there], vectors_of(batch.column("vector"))[there], norms[there].astype(np.float32)

    def coded(self, space: Space, classifier: Classifier | None, wanted: Ids | None = None) -> Iterator[Coded]:
        """The same as a space keeps them. Raises ValueError for vectors of another length."""
        for ids, vectors, norms in self.parts(wanted):
            yield space.code(ids, self.known.keys_of(ids)[0], vectors, norms, classifier)

    def _ids(self) -> Ids:
        parts = [np.zeros(0, np.int64)]
        parts += [
            batch.column("image_id").to_numpy()
            for batch in self._table.to_batches(columns=["image_id"], filter=self._where)
        ]
        return np.sort(np.concatenate(parts))


def _by_id(ids: Ids, keys: Ids) -> Known:
    order = np.argsort(ids, kind="stable")
    return Known(ids[order], keys[order])
