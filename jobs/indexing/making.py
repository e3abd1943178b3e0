"""Making: the index of a lake anew, or brought up to date: a segment of what is new, and what is gone marked in the
others. Nothing that is there is changed: what makes it the index is written last."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.indexing import segments, space, store
from jobs.indexing.changes import Change, Held, change
from jobs.indexing.measuring import AT, QUERIES, Truth
from jobs.indexing.reading import LakeVectors, Versions
from jobs.indexing.segments import Segment
from jobs.indexing.space import Coded
from jobs.indexing.store import Manifest, Part, Recall
from jobs.indexing.vector_index import VectorIndex
from udfs.networks.concepts import Classifier
from udfs.vectors.recall import wilson

MOST_DEAD = 0.25  # of what is held: with more gone, an index is made anew
MOST_GROWN = 0.5  # of the pictures that it was made anew of: with more that came since, its cells are too large
MOST_PARTS = 8  # segments; the later ones then become one
SPACE = "space.npz"
Say = Callable[[float], None]


@dataclass(frozen=True)
class Lake:
    """The lake that an index is of. at: the versions of its tables. classifier: of the model, None where it has none.
    confirm: raises where this run may write no longer."""

    uri: str
    model: str
    at: Versions
    classifier: Classifier | None
    confirm: Callable[[], None]

    def vectors(self) -> LakeVectors:
        return LakeVectors(self.uri, self.model, self.at)


def written(folder: Path, vectors: LakeVectors, classifier: Classifier | None, say: Say) -> tuple[int, Recall | None]:
    """Writes the files of an index of all vectors, space.npz and those of one segment, and measures its recall. There
    are vectors. Returns how many pictures the segment holds. Raises ValueError for vectors of unequal length."""
    total = len(vectors.known.ids)
    sample = vectors.sample()
    own = space.learn(sample, total)
    draw = np.random.default_rng(0).choice(len(sample), min(QUERIES, len(sample)), replace=False)
    truth = Truth(sample[np.sort(draw)])

    def coded() -> Iterator[Coded]:
        for ids, rows, norms in vectors.parts():
            truth.saw(ids, rows)
            yield own.code(ids, vectors.known.keys_of(ids)[0], rows, norms, classifier)

    own.save(folder / SPACE)
    count = segments.write(folder, own, classifier is not None, coded(), total, say)
    segment = segments.opened(segments.paths(folder, classifier is not None), own)
    hits, of = truth.found_by(VectorIndex(own, [(segment, np.arange(count, dtype=np.int32))]), segment.ids)
    return count, _recall(hits, of, count)


def anew(lake: Lake, vectors: LakeVectors, say: Say) -> Manifest:
    """Makes an index of all vectors and makes it that of the lake. Raises as written(), StoreError."""
    with tempfile.TemporaryDirectory(prefix="imagesieve-index-") as name:
        folder = Path(name)
        has_classes = lake.classifier is not None
        count, recall = written(folder, vectors, lake.classifier, say)
        lake.confirm()
        made = Manifest(
            store.LAYOUT, lake.model, has_classes, lake.at, count, count, store.put(lake.uri, "space", folder / SPACE),
            [_put(lake, folder, has_classes, count)], recall,
        )  # fmt: skip
    _name(lake, made)
    return made


def changed_since(lake: str, kept: Manifest, vectors: LakeVectors) -> Change:
    """What has changed since an index was written. Raises as store.local()."""
    held = [
        Held(
            store.open_array(lake, part.files["ids"]), store.open_array(lake, part.files["keys"]), alive_of(lake, part)
        )
        for part in kept.parts
    ]
    return change(vectors.known, held)


def alive_of(lake: str, part: Part) -> NDArray[np.bool_]:
    """(images,): whether a picture of a segment is in the index. Raises as store.local()."""
    if part.alive is None:
        return np.ones(part.images, np.bool_)
    found = store.open_array(lake, part.alive)
    if found.dtype != np.bool_ or found.shape != (part.images,):
        raise store.BrokenIndexError(f"{part.alive.name}: not {part.images} marks: run `imagesieve index --new-index`")
    return np.array(found)


def is_worn(kept: Manifest, now: Change) -> bool:
    """Whether an index would better be made anew than brought up to date."""
    held = sum(part.images for part in kept.parts) + len(now.fresh)
    later = sum(part.images for part in kept.parts[1:]) + len(now.fresh)
    return now.dead > MOST_DEAD * held or later > MOST_GROWN * kept.made_of


def brought_up(lake: Lake, kept: Manifest, vectors: LakeVectors, now: Change, say: Say) -> Manifest:
    """Adds what is new to an index and marks what is gone. Raises as anew(), and as store.local()."""
    own = store.open_space(lake.uri, kept)
    parts = list(kept.parts)
    lake.confirm()
    with tempfile.TemporaryDirectory(prefix="imagesieve-index-") as name:
        folder = Path(name)
        for number, (part, alive) in enumerate(zip(parts, now.alive, strict=True)):
            if not np.array_equal(alive, alive_of(lake.uri, part)):
                file = folder / "alive.npy"
                np.save(file, alive, allow_pickle=False)
                parts[number] = replace(part, alive=store.put(lake.uri, "alive", file))
        if len(now.fresh):
            later: list[tuple[Segment, NDArray[np.bool_]]] = []
            if len(parts) >= MOST_PARTS:
                later = [(store.open_part(lake.uri, part, own), now.alive[n]) for n, part in enumerate(parts) if n]
                parts = parts[:1]
            most = len(now.fresh) + sum(int(np.count_nonzero(alive)) for _, alive in later)

            def coded() -> Iterator[Coded]:
                for segment, alive in later:
                    yield from segment.coded(alive)
                yield from vectors.coded(own, lake.classifier, now.fresh)

            count = segments.write(folder, own, kept.has_classes, coded(), most, say)
            parts.append(_put(lake, folder, kept.has_classes, count))
    alive_now = sum(part.images for part in parts) - sum(
        int(np.count_nonzero(~alive_of(lake.uri, part))) for part in parts if part.alive is not None
    )
    made = replace(kept, tables=lake.at, images=alive_now, parts=parts)
    _name(lake, made)
    return made


def _put(lake: Lake, folder: Path, has_classes: bool, images: int) -> Part:
    files = segments.paths(folder, has_classes)
    return Part(images, {name: store.put(lake.uri, name, file) for name, file in files.items()})


def _name(lake: Lake, made: Manifest) -> None:
    lake.confirm()
    store.name(lake.uri, made)


def _recall(hits: int, of: int, images: int) -> Recall | None:
    if not of:
        return None
    low, high = wilson(hits / of, of / AT)  # the ten of one picture are found or missed together
    return Recall(round(hits / of, 4), round(low, 4), round(high, 4), of // AT or 1, images)


def counted(made: Manifest) -> dict[str, Any]:
    """What a run says of an index."""
    told: dict[str, Any] = {"segments": len(made.parts)}
    if made.recall is not None:
        told |= {"recall_at_10": made.recall.at_10, "recall_images": made.recall.queries}
    return told
