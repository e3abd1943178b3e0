"""Opening: the index of a lake for a reader, by the reader's own rows, with what came since it was made; or, where the
lake has none, one that the reader makes of all vectors and keeps in a folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jobs.indexing import making, segments, space, store
from jobs.indexing.reading import LakeVectors, Versions
from jobs.indexing.space import Space
from jobs.indexing.store import Recall
from jobs.indexing.vector_index import Rows, VectorIndex
from udfs.networks.concepts import Classifier
from udfs.stores.folders import make_whole

META = "own.json"
LAKES, NEWER, OWN = "lake", "lake and newer", "own"
TRIES = 3  # of opening an index that another run changes meanwhile


@dataclass(frozen=True)
class Opened:
    """An index that is open. source: LAKES, NEWER or OWN. recall: as measured, None where it was not.
    note: why the lake's own was not taken, "" where it was or there is none."""

    index: VectorIndex
    source: str
    recall: Recall | None
    note: str


@dataclass(frozen=True)
class Reader:
    """Who opens. rows_of: rows of a gallery by ids, -1 where one is not there. folder: for what the reader makes, of a
    name that changes with the versions of the tables. say: gets the share that is made, 0..1."""

    lake: str
    model: str
    at: Versions
    classifier: Classifier | None
    rows_of: Callable[[NDArray[np.int64]], Rows]
    folder: Path
    say: Callable[[float], None]

    def opened(self) -> Opened | None:
        """None where the model has no vectors. Raises what the tables raise."""
        note = ""
        for _ in range(TRIES):
            try:
                found = self._of_lake()
            except FileNotFoundError:  # a run has made another one meanwhile
                note = "the index of the lake changes all the time"
                continue
            except store.BrokenIndexError as error:
                found = str(error)
            if isinstance(found, Opened):
                return found
            note = found
            break
        return self._own(note)

    def _of_lake(self) -> Opened | str:
        """The index of the lake, or why there is none to be used. Raises as store.local()."""
        kept = store.read(self.lake)
        if kept is None or not kept.parts:
            return ""
        if kept.model != self.model or kept.has_classes != self._has_classes:
            return f"the index of the lake is of other vectors ({kept.model})"
        own = store.open_space(self.lake, kept)
        parts = [store.open_part(self.lake, part, own) for part in kept.parts]
        alive = [making.alive_of(self.lake, part) for part in kept.parts]
        store.forget_others(self.lake, kept)
        source = LAKES
        if kept.tables != self.at:
            vectors = LakeVectors(self.lake, self.model, self.at)
            now = making.changed_since(self.lake, kept, vectors)
            if making.is_worn(kept, now):
                return "the lake has changed much since its index was made: run `imagesieve index`"
            alive = now.alive
            if len(now.fresh):
                folder = self.folder.with_name(f"{self.folder.name}-{kept.digest[:16]}")
                make_whole(folder, lambda at: self._later(at, own, vectors, now.fresh))
                parts.append(segments.opened(segments.paths(folder, self._has_classes), own))
                alive.append(np.ones(parts[-1].images, np.bool_))
                source = NEWER
        rows = [
            np.where(there, self.rows_of(np.asarray(part.ids)), np.int32(-1)).astype(np.int32)
            for part, there in zip(parts, alive, strict=True)
        ]
        return Opened(VectorIndex(own, list(zip(parts, rows, strict=True))), source, kept.recall, "")

    def _own(self, note: str) -> Opened | None:
        """Of all vectors."""
        if not make_whole(self.folder, self._whole):
            return None
        own = space.load(self.folder / making.SPACE)
        part = segments.opened(segments.paths(self.folder, self._has_classes), own)
        told = json.loads((self.folder / META).read_text(encoding="utf-8"))
        recall = None if told["recall"] is None else Recall(**told["recall"])
        return Opened(VectorIndex(own, [(part, self.rows_of(np.asarray(part.ids)))]), OWN, recall, note)

    @property
    def _has_classes(self) -> bool:
        return self.classifier is not None

    def _later(self, folder: Path, own: Space, vectors: LakeVectors, fresh: NDArray[np.int64]) -> bool:
        coded = vectors.coded(own, self.classifier, fresh)
        segments.write(folder, own, self._has_classes, coded, len(fresh), self.say)
        return True

    def _whole(self, folder: Path) -> bool:
        vectors = LakeVectors(self.lake, self.model, self.at)
        if not len(vectors.known.ids):
            return False
        _, recall = making.written(folder, vectors, self.classifier, self.say)
        told = {"recall": None if recall is None else asdict(recall)}
        (folder / META).write_text(json.dumps(told), encoding="utf-8")
        return True
