"""Vector index: similar pictures, and pictures of classes, among those of a gallery, in files that are mapped.

Vectors are projected on their main directions (principal components of the second moments, so that products stay
cosines), turned at random so that all numbers are of one size, kept as bytes, and lie cell by cell (Voronoi cells of
centres, as in udfs.vectors.cells). A search reads the cells nearest to what is asked. Of each picture the likeliest
classes are kept too."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.engines.datasets import dataset
from jobs.serve.columns import Rows, Say
from jobs.serve.folders import make_whole
from udfs.networks.concepts import Classifier, likeliest
from udfs.vectors.cell_packs import vectors_of
from udfs.vectors.cells import nearest_cells, train_centres
from udfs.vectors.cosine import Vectors

META = "index.json"
LAYOUT = 4  # of the folder: another number makes all anew
DIRECTIONS = 256
CLASSES = 16  # of a picture that are kept
SAMPLE, PER_CENTRE, ITERATIONS = 65_536, 64, 8
ALONE = 50_000  # pictures up to which all are compared
PER_CELL = 1000  # pictures, about
READ, READ_SHARE = 50_000, 0.09  # pictures that a search reads: so many, or this share where it is more
FOUND = 1000  # pictures of a search
ROWS_AT_ONCE = 8192
# What shows a class surely, so many pictures at most and not fewer, stands for it: what lies their way counts more than
# what the network says of its own 1,000 classes. On 5,000 small pictures mean average precision goes from 0.54 to 0.65.
SURE, SURE_MOST, SURE_LEAST = 0.1, 200, 20
DOUBT = 1e-4  # less is not found
SURE_COUNTS = 0.25  # what the network says, beside what lies their way, both by their spread
RIDGE = 10.0  # of the mean variance, added to that of each direction
DEVIATIONS = 3.5  # of a number, that a byte can say: fewer would cut off, more would be coarse
FINER = 250  # times that the second byte of what is asked is finer than the first

Alike = NDArray[np.float32]


class VectorIndex:
    """An index that is open. folder: of make()."""

    def __init__(self, folder: Path) -> None:
        meta = json.loads((folder / META).read_text(encoding="utf-8"))
        self.images: int = meta["images"]
        self.dimension: int = meta["dimension"]
        self.has_classes: bool = meta["classes"]
        load = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in meta["files"]}
        self._basis, self._centres = np.array(load["basis"]), np.array(load["centres"])
        self._lengths = load["lengths"]  # of the bytes of each: without it a number that was cut off counts less
        self._mean, self._evened = np.array(load["mean"]), np.array(load["evened"])
        self._starts, self._rows, self._bytes = load["starts"], load["rows"], load["bytes"]
        self._classes, self._sure = load.get("classes"), load.get("sure")

    def like(self, vector: NDArray[np.float32], count: int = FOUND) -> tuple[Rows, Alike]:
        """The pictures most alike a vector of the network, (dimension,) float32 of norm 1: rows of the gallery and
        cosines, the highest first."""
        return self._nearest(_unit((vector @ self._basis)[np.newaxis])[0], count)

    def like_row(self, row: int, count: int = FOUND) -> tuple[Rows, Alike] | None:
        """As like(), of a picture of the gallery, itself first; None where it has no vector."""
        at = self._at.get(row)
        if at is None:
            return None
        own = _unit(self._bytes[at].astype(np.float32)[np.newaxis])[0]
        return self._nearest(own, count)

    def of_classes(self, weights: list[NDArray[np.float32]], count: int = FOUND) -> tuple[Rows, Alike]:
        """The pictures that show what all terms mean. weights: of each term, (classes,) float32 of 0..1. Returns rows
        and how sure the network is, the mean of all terms; those that lie most their way first who are sure.

        That is pseudo-relevance feedback with a linear discriminant: Rocchio, 1971; Fisher, 1936."""
        found = np.empty(self.images, np.float32)
        padded = [np.append(one, np.float32(0)) for one in weights]
        for start in range(0, self.images, ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            assert self._classes is not None and self._sure is not None  # noqa: S101, PT018 (has_classes was asked)
            classes, sure = np.asarray(self._classes[part]), self._sure[part].astype(np.float32)
            found[part] = np.mean([(one[classes] * sure).sum(axis=1) for one in padded], axis=0)
        way = self._their_way(found)
        best = _highest(found if way is None else way, count)
        if way is None:
            best = best[found[best] > DOUBT]
        return np.asarray(self._rows[best], np.int32), found[best]

    def _their_way(self, sure: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """How much each picture is like those that are sure, (images,); None where these are too few."""
        best = _highest(sure, SURE_MOST)
        best = np.sort(best[sure[best] >= SURE])
        if len(best) < SURE_LEAST:
            return None
        own = _unit(self._bytes[best].astype(np.float32))
        way = self._evened @ (own.mean(axis=0) - self._mean)
        lies = _products(self._bytes, way) / self._lengths
        spread, sure_spread = max(float(lies.std()), 1e-9), max(float(sure.std()), 1e-9)
        return np.asarray(lies / spread + SURE_COUNTS * sure / sure_spread, np.float32)

    @cached_property
    def _at(self) -> dict[int, int]:
        """The place of each row of the gallery."""
        return {int(row): at for at, row in enumerate(self._rows)}

    def _nearest(self, query: NDArray[np.float32], count: int) -> tuple[Rows, Alike]:
        order = np.argsort(-(self._centres @ query), kind="stable")
        wanted, cells, seen = max(READ, READ_SHARE * self.images), list[int](), 0
        for cell in order.tolist():
            cells.append(cell)
            seen += int(self._starts[cell + 1] - self._starts[cell])
            if seen >= wanted:
                break
        rows, alike = [], []
        for cell in sorted(cells):
            part = slice(int(self._starts[cell]), int(self._starts[cell + 1]))
            if part.stop > part.start:
                alike.append(_products(self._bytes[part], query) / self._lengths[part])
                rows.append(self._rows[part])
        together = np.concatenate(alike) if alike else np.empty(0, np.float32)
        best = _highest(together, count)
        found = np.concatenate([np.zeros(0, np.int32), *rows])[best]
        return found.astype(np.int32), np.clip(together[best], -1, 1)


def opened(
    folder: Path, lake: str, model: str, rows_of: Callable[[NDArray[np.int64]], Rows], classifier: Classifier | None,
    say: Say = lambda share: None,
) -> VectorIndex | None:  # fmt: skip
    """The index of a lake, made unless the folder is there; None where the model has no vectors.

    rows_of: maps ids to rows of the gallery. classifier: of the model, or None. The folder's name must say which
    versions of the tables it is of."""
    if not (folder / META).exists():
        making = _Making(lake, model, rows_of, classifier, say)
        if not make_whole(folder, making.all):
            return None
    return VectorIndex(folder)


class _Making:
    def __init__(
        self, lake: str, model: str, rows_of: Callable[[NDArray[np.int64]], Rows], classifier: Classifier | None,
        say: Say,
    ) -> None:  # fmt: skip
        self._table, self._model, self._rows_of = dataset(lake, "embeddings"), model, rows_of
        self._classifier, self._say = classifier, say

    def all(self, folder: Path) -> bool:
        """Writes the files of the index; whether there are vectors."""
        self._folder = folder
        sample = self._sample()
        if not len(sample):
            return False
        _, directions = np.linalg.eigh((sample.T @ sample).astype(np.float64))
        directions = directions[:, ::-1][:, :DIRECTIONS]
        turn, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((directions.shape[1],) * 2))
        basis = np.ascontiguousarray(directions @ turn, np.float32)
        projected = _unit(sample @ basis)
        step = DEVIATIONS / np.sqrt(basis.shape[1]) / 127
        total = self._table.count_rows(filter=pc.field("model") == self._model)
        cells = 1 if total <= ALONE else 1 << (total // PER_CELL).bit_length() - 1
        cells = min(cells, max(1, len(projected) // PER_CENTRE))
        centres = train_centres(projected, cells, ITERATIONS) if cells > 1 else projected[:1]
        count, cell_of = self._projected(total, basis, step, centres)
        order = np.argsort(cell_of[:count], kind="stable")
        files = ["bytes", "lengths", "rows", *(["classes", "sure"] if self._classifier else [])]
        for name in files:
            self._sorted(name, order)
        starts = np.concatenate([[0], np.cumsum(np.bincount(cell_of[:count], minlength=cells))])
        mean = projected.mean(axis=0)
        spread = np.cov(projected - mean, rowvar=False).reshape(len(mean), -1)
        ridge = RIDGE * np.trace(spread) / len(mean) + 1e-12
        evened = np.linalg.inv(spread + ridge * np.eye(len(mean))).astype(np.float32)
        kept = {
            "basis": basis,
            "centres": centres,
            "starts": starts,
            "mean": mean,
            "evened": evened,
        }
        for name, values in kept.items():
            np.save(self._folder / f"{name}.npy", values, allow_pickle=False)
        meta = {"images": count, "dimension": sample.shape[1], "classes": self._classifier is not None,
                "files": [*files, *kept]}  # fmt: skip
        (self._folder / META).write_text(json.dumps(meta), encoding="utf-8")
        self._say(1.0)
        return True

    def _batches(self, *columns: str) -> Iterator[pa.RecordBatch]:
        where = pc.field("model") == self._model
        yield from self._table.to_batches(columns=list(columns), filter=where, batch_size=ROWS_AT_ONCE)

    def _sample(self) -> Vectors:
        """Some vectors of all files, in no order that means anything."""
        fragments = list(self._table.get_fragments())
        each = -(-SAMPLE // max(1, len(fragments)))
        parts, found = [], 0
        for at in np.random.default_rng(0).permutation(len(fragments)).tolist():
            part = fragments[at].head(each, columns=["vector"], filter=pc.field("model") == self._model)
            if part.num_rows:
                parts.append(vectors_of(part["vector"]))
                found += part.num_rows
            if found >= SAMPLE:
                break
        return np.concatenate(parts)[:SAMPLE] if parts else np.empty((0, 0), np.float32)

    def _projected(self, total: int, basis: Vectors, step: float, centres: Vectors) -> tuple[int, NDArray[np.int32]]:
        """Writes all vectors in the order of the table. Returns how many have a row, and the cell of each."""
        own = self._files(total, basis.shape[1])
        cell_of, count = np.zeros(total, np.int32), 0
        for batch in self._batches("image_id", "vector", "norm"):
            rows = self._rows_of(batch.column("image_id").to_numpy())
            vectors = vectors_of(batch.column("vector"))[rows >= 0]
            part = slice(count, count + len(vectors))
            found = _unit(vectors @ basis)
            kept = np.clip(np.round(found / step), -127, 127)
            own["bytes"][part] = kept.astype(np.int8)
            own["lengths"][part] = np.maximum(np.linalg.norm(kept, axis=1), 1)
            own["rows"][part] = rows[rows >= 0]
            cell_of[part] = nearest_cells(found, centres, 1)[:, 0] if len(centres) > 1 and len(found) else 0
            if self._classifier is not None and len(found):
                norms = pc.fill_null(batch.column("norm"), 0.0).to_numpy(zero_copy_only=False)[rows >= 0]
                classes, sure = likeliest(self._classifier.logits(vectors, norms.astype(np.float32)), CLASSES)
                own["classes"][part], own["sure"][part] = classes, sure
            count += len(vectors)
            self._say(0.9 * count / max(1, total))
        return count, cell_of

    def _files(self, total: int, directions: int) -> dict[str, NDArray[Any]]:
        shapes: dict[str, tuple[Any, tuple[int, ...]]] = {
            "bytes": (np.int8, (total, directions)),
            "lengths": (np.float32, (total,)),
            "rows": (np.int32, (total,)),
        }
        if self._classifier is not None:
            shapes |= {"classes": (np.uint16, (total, CLASSES)), "sure": (np.float16, (total, CLASSES))}
        return {
            name: np.lib.format.open_memmap(self._folder / f".{name}.npy", "w+", kind, shape)
            for name, (kind, shape) in shapes.items()
        }

    def _sorted(self, name: str, order: NDArray[np.int64]) -> None:
        draft = self._folder / f".{name}.npy"
        values = np.load(draft, mmap_mode="r")
        kept = np.lib.format.open_memmap(
            self._folder / f"{name}.npy", "w+", values.dtype, (len(order), *values.shape[1:])
        )
        for start in range(0, len(order), ROWS_AT_ONCE):
            kept[start : start + ROWS_AT_ONCE] = values[order[start : start + ROWS_AT_ONCE]]
        kept.flush()
        draft.unlink()


def _unit(rows: Vectors) -> Vectors:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12), np.float32)


def _products(held: NDArray[np.int8], asked: NDArray[np.float32]) -> NDArray[np.float32]:
    """The product of each row with a vector, (n,) float32. held: (n, d). asked: (d,) float32, which is taken as two
    bytes a number where the package numkong is there: four times as fast as by floats."""
    if not len(held):
        return np.empty(0, np.float32)
    try:
        import numkong
    except ImportError:
        parts = range(0, len(held), ROWS_AT_ONCE)
        return np.concatenate([held[start : start + ROWS_AT_ONCE].astype(np.float32) @ asked for start in parts])
    unit = max(float(np.abs(asked).max()), 1e-12) / 127
    coarse = np.clip(np.round(asked / unit), -127, 127)
    fine = np.round((asked / unit - coarse) * FINER)
    found = np.zeros(len(held), np.float64)
    for part, worth in ((coarse, unit), (fine, unit / FINER)):
        found += worth * np.asarray(numkong.cdist(part.astype(np.int8)[np.newaxis], held, "dot"))[0]
    return found.astype(np.float32)


def _highest(values: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """The places of the highest values, these first."""
    if count < len(values):
        best = np.argpartition(-values, count)[:count]
        return best[np.argsort(-values[best], kind="stable")]
    return np.argsort(-values, kind="stable")
