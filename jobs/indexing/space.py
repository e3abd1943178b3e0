"""Space: how the vectors of an index are kept, learnt from a sample of them.

Vectors are projected on their main directions (principal components of the second moments, so that products stay
cosines), turned at random so that all numbers are of one size, kept as bytes, and dealt into cells (Voronoi cells of
centres, as in udfs.vectors.cells)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from udfs.networks.concepts import Classifier, likeliest
from udfs.vectors.cells import nearest_cells, train_centres
from udfs.vectors.cosine import Vectors

DIRECTIONS = 288
CLASSES = 16  # of a picture that are kept
PER_CENTRE, ITERATIONS = 64, 8
ALONE = 50_000  # pictures up to which all are compared
PER_CELL = 1000  # pictures, about
RIDGE = 10.0  # of the mean variance, added to that of each direction
DEVIATIONS = 3.5  # of a number, that a byte can say: fewer would cut off, more would be coarse
MOST_BYTES = 1 << 30  # of a file of a space: 1,000 times as much as is usual


@dataclass(frozen=True)
class Coded:
    """Pictures as an index keeps them. ids, keys: (n,) int64, the image and 64 bits of its content. bytes: (n,
    directions) int8; lengths: (n,) float32, of the bytes of each: without it a number that was cut off counts less.
    cells: (n,) int32. classes, sure: (n, CLASSES) the likeliest classes and 0..1, None where the model has none."""

    ids: NDArray[np.int64]
    keys: NDArray[np.int64]
    bytes: NDArray[np.int8]
    lengths: NDArray[np.float32]
    cells: NDArray[np.int32]
    classes: NDArray[np.uint16] | None
    sure: NDArray[np.float16] | None


@dataclass(frozen=True)
class Space:
    """basis: (d, directions). centres: (cells, directions), rows of norm 1. mean: (directions,), evened: (directions,
    directions), of the projected vectors and the inverse of their covariance. All float32."""

    basis: Vectors
    centres: Vectors
    mean: NDArray[np.float32]
    evened: Vectors

    @property
    def dimension(self) -> int:
        return len(self.basis)

    @property
    def directions(self) -> int:
        return int(self.basis.shape[1])

    def projected(self, vectors: Vectors) -> Vectors:
        """(n, directions) float32, rows of norm 1. vectors: (n, d)."""
        return unit(vectors @ self.basis)

    def code(
        self,
        ids: NDArray[np.int64],
        keys: NDArray[np.int64],
        vectors: Vectors,
        norms: NDArray[np.float32],
        classifier: Classifier | None,
    ) -> Coded:
        """vectors: (n, d) float32 of norm 1; norms: what the network gave them, for the classifier."""
        found = self.projected(vectors)
        step = DEVIATIONS / np.sqrt(self.directions) / 127
        kept = np.clip(np.round(found / step), -127, 127)
        lengths = np.maximum(np.linalg.norm(kept, axis=1), 1).astype(np.float32)
        classes = sure = None
        if classifier is not None:
            best, confidence = likeliest(classifier.logits(vectors, norms), CLASSES)
            classes, sure = best.astype(np.uint16), confidence.astype(np.float16)
        cells = nearest_cells(found, self.centres, 1)[:, 0]
        return Coded(ids, keys, kept.astype(np.int8), lengths, cells, classes, sure)

    def save(self, file: Path) -> None:
        with file.open("wb") as stream:
            np.savez(stream, **{field.name: getattr(self, field.name) for field in fields(self)})


def learn(sample: Vectors, total: int) -> Space:
    """The space of `total` vectors. sample: (n, d) float32 of them, n > 0."""
    _, directions = np.linalg.eigh((sample.T @ sample).astype(np.float64))
    directions = directions[:, ::-1][:, :DIRECTIONS]
    turn, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((directions.shape[1],) * 2))
    basis = np.ascontiguousarray(directions @ turn, np.float32)
    projected = unit(sample @ basis)
    cells = 1 if total <= ALONE else 1 << (total // PER_CELL).bit_length() - 1
    cells = min(cells, max(1, len(projected) // PER_CENTRE))
    centres = train_centres(projected, cells, ITERATIONS) if cells > 1 else projected[:1]
    mean = projected.mean(axis=0)
    spread = (projected - mean).T @ (projected - mean) / max(1, len(projected) - 1)
    ridge = RIDGE * np.trace(spread) / len(mean) + 1e-12
    evened = np.linalg.inv(spread + ridge * np.eye(len(mean))).astype(np.float32)
    return Space(basis, centres, mean, evened)


def load(file: Path) -> Space:
    """Raises OSError or ValueError for a file that is none."""
    from zipfile import BadZipFile

    try:
        with np.load(file, allow_pickle=False) as kept:
            space = Space(*(np.asarray(kept[field.name], np.float32) for field in fields(Space)))
    except (KeyError, BadZipFile, EOFError) as error:
        raise ValueError(f"{file}: {error}") from error
    width = space.basis.shape[-1]
    if (space.basis.ndim, space.centres.shape[1:], space.mean.shape, space.evened.shape) != (
        2, (width,), (width,), (width, width),
    ) or not len(space.centres):  # fmt: skip
        raise ValueError(f"{file}: other shapes")
    return space


def unit(rows: Vectors) -> Vectors:
    """The rows at norm 1."""
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12), np.float32)
