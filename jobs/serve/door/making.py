"""Making of the evidence: the tables of a lake are read once, a part at a time, into the files of Evidence."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs import tables
from jobs.engines import delta_log
from jobs.engines.datasets import dataset
from jobs.findings import formulas
from jobs.findings.formulas import FEWEST, OF_ARRAYS, QUALITY, Sizes
from jobs.serve.columns import Columns, Say
from jobs.serve.door.evidence import HASH_BYTES, LAYOUT, META, SHA_BYTES, THUMBNAIL, Evidence, Facts
from jobs.serve.door.settings import Settings
from jobs.serve.gallery import folder_of
from udfs.images.compression import SQUEEZED
from udfs.stores import uris
from udfs.stores.folders import make_whole
from udfs.vectors.cell_packs import vectors_of
from udfs.vectors.near_rule import BACKGROUND_RANK

SOURCES = ("features", "embeddings", "neighbours", "copies", "duplicates", "scores")
DOOR = "door"
ROWS = 2048  # read at once: 14 MB of vectors, thumbnails and looks
SIDE_STEPS, MOST_LOG_SIDE = 1000, 20  # of a histogram of the logarithms of sides: as fine as scores.percentiles rounds
PART = 1 << 20  # rows that are sorted or counted at once


def opened(
    lake: str, at: dict[str, int | None], columns: Columns, settings: Settings, say: Say = lambda share: None
) -> Evidence:
    """The evidence of a lake, made unless it is there. at: the versions of the tables of the gallery of columns."""
    versions = {**{name: delta_log.version(uris.join(lake, name)) for name in SOURCES}, **at}
    folder = folder_of(lake, {**versions, "settings": settings.of_the_lake})
    folder = folder.with_name(f"{DOOR}-{LAYOUT}-{folder.name}")
    if not (folder / META).exists():
        make_whole(folder, lambda draft: _Making(lake, versions, columns, settings, draft, say).all())
    return Evidence(folder)


class _Making:
    def __init__(
        self, lake: str, at: dict[str, int | None], columns: Columns, settings: Settings, folder: Path, say: Say
    ) -> None:
        self._lake, self._at, self._columns, self._settings = lake, at, columns, settings
        self._folder, self._say = folder, say
        self._images = columns.images

    def all(self) -> bool:
        works = (self._features, self._vectors, self._neighbours, self._copies, self._keepers)
        for number, work in enumerate(works):
            work()
            self._say((number + 1) / (len(works) + 1))
        told = {
            "images": self._images,
            "dimension": self._settings.model.dimension,
            "facts": asdict(self._facts()),
            "at": self._at,
        }
        (self._folder / META).write_text(json.dumps(told), encoding="utf-8")
        self._say(1.0)
        return True

    def _read(self, table: str, names: tuple[str, ...], where: Any = None) -> Iterator[tuple[pa.RecordBatch, Any]]:
        """Batches of a table with the rows of their images, those that are there. Of a version that was vacuumed the
        files are gone: FileNotFoundError."""
        version = self._at[table]
        if version is None:
            return
        scan = dataset(self._lake, table, version).scanner(
            columns=["image_id", *names], filter=where, batch_size=ROWS, batch_readahead=2, fragment_readahead=1
        )
        for batch in scan.to_batches():
            rows = self._columns.rows_of_ids(batch.column("image_id").to_numpy())
            there = rows >= 0
            if len(rows):
                yield (batch if there.all() else batch.filter(pa.array(there))), rows[there].astype(np.int64)

    def _file(self, name: str, kind: Any, empty: float = 0, width: int = 0) -> NDArray[Any]:
        """An array of all rows that is mapped from its file."""
        shape = (self._images, width) if width else (self._images,)
        if not self._images:  # an array of no rows cannot be mapped
            np.save(self._folder / f"{name}.npy", np.empty(shape, kind))
            return np.empty(shape, kind)
        made = np.lib.format.open_memmap(self._folder / f"{name}.npy", "w+", kind, shape)
        if empty != 0:
            made[:] = empty
        return made

    def _features(self) -> None:
        hashes = self._file("hashes", np.uint8, width=HASH_BYTES)
        sha256 = self._file("sha256", np.uint8, width=SHA_BYTES)
        perceptual, squeezed = self._file("perceptual_hash", np.int64), self._file("squeezed", np.bool_)
        starts, sizes = self._file("look_starts", np.int64), self._file("look_sizes", np.int32)
        names = ("pixel_hash", "sha256", "perceptual_hash", "jpeg_quality", "thumbnail", "look")
        end = 0
        with (self._folder / "looks.bin").open("wb") as out:
            for batch, rows in self._read("features", names):
                columns = {name: batch.column(name) for name in names}
                hashes[rows] = _digits(columns["pixel_hash"], HASH_BYTES)
                sha256[rows] = _digits(columns["sha256"], SHA_BYTES)
                perceptual[rows] = columns["perceptual_hash"].to_numpy()
                squeezed[rows] = columns["jpeg_quality"].to_numpy(zero_copy_only=False) < SQUEEZED
                pairs = zip(columns["thumbnail"].to_pylist(), columns["look"].to_pylist(), strict=True)
                for row, (thumbnail, look) in zip(rows.tolist(), pairs, strict=True):
                    if len(thumbnail) == THUMBNAIL and look:
                        out.write(thumbnail)
                        out.write(look)
                        starts[row], sizes[row] = end, len(thumbnail) + len(look)
                        end += len(thumbnail) + len(look)
        read = np.flatnonzero(np.asarray(hashes).any(axis=1))
        halves = np.ascontiguousarray(hashes[read]).view(">u8").astype(np.uint64)
        order = np.lexsort((halves[:, 1], halves[:, 0]))
        np.save(self._folder / "firsts.npy", halves[order, 0])
        np.save(self._folder / "by_hash.npy", read[order].astype(np.int32))

    def _vectors(self) -> None:
        has, dimension = self._file("has_vector", np.bool_), self._settings.model.dimension
        with (self._folder / "vectors.bin").open("wb") as out:
            out.truncate(2 * dimension * self._images)
        if not self._images:
            return
        kept = np.memmap(self._folder / "vectors.bin", np.float16, "r+", shape=(self._images, dimension))
        for batch, rows in self._read("embeddings", ("vector",), pc.field("model") == self._settings.model.key):
            kept[rows] = vectors_of(batch.column("vector"))  # the embed stage keeps no more than float16
            has[rows] = True

    def _neighbours(self) -> None:
        ninth, tenth = (self._file(name, np.float64, np.nan) for name in ("ninth", "tenth"))
        last = pc.field("rank") >= BACKGROUND_RANK - 1
        for batch, rows in self._read("neighbours", ("rank", "cosine"), last):
            rank, cosine = batch.column("rank").to_numpy(), batch.column("cosine").to_numpy()
            for place, values in ((BACKGROUND_RANK - 1, ninth), (BACKGROUND_RANK, tenth)):
                values[rows[rank == place]] = cosine[rank == place]

    def _copies(self) -> None:
        found = self._file("representative", np.int32)
        for start in range(0, self._images, PART):
            found[start : start + PART] = np.arange(start, min(start + PART, self._images))
        self._others("copies", "representative_id", found)

    def _keepers(self) -> None:
        self._others("duplicates", "keeper_id", self._file("keeper", np.int32, -1))

    def _others(self, table: str, name: str, found: NDArray[Any]) -> None:
        """Writes the row of another image of each image."""
        for batch, rows in self._read(table, (name,)):
            others = self._columns.rows_of_ids(batch.column(name).to_numpy())
            found[rows[others >= 0]] = others[others >= 0]

    def _facts(self) -> Facts:
        sizes = self._sizes()
        limits = self._settings.limits
        medium = self._columns.coded("medium")
        may_by_code = np.array([bool(formulas.may_be_faulty(np.asarray("".join(names)))) for names in medium.names])
        scored, coloured = 0, 0
        # Whether grey pictures are odd is known at the end only.
        raised = {True: dict.fromkeys(QUALITY, 0), False: dict.fromkeys(QUALITY, 0)}
        for batch, rows in self._read("scores", tables.SCORES):
            of = {name: batch.column(name).to_numpy() for name in tables.SCORES}
            scored += len(rows)
            grey = of[QUALITY[tables.GRAYSCALE]] < limits[tables.GRAYSCALE]
            coloured += int(np.count_nonzero(~grey))
            for is_coloured, counts in raised.items():
                found = formulas.raised(of, limits, may_by_code[medium.codes[rows]], np.bool_(is_coloured), OF_ARRAYS)
                for issue in QUALITY:
                    counts[issue] += int(np.count_nonzero(found[issue]))
        is_coloured = scored > 0 and coloured / scored > formulas.MOSTLY
        most = self._settings.common_share * self._images
        common = [issue for issue in QUALITY if raised[is_coloured][issue] > most] if self._images >= FEWEST else []
        return Facts(sizes.median, sizes.usual, bool(is_coloured), tuple(common))

    def _sizes(self) -> Sizes:
        """Of all pictures that were read, exactly as scores.percentiles."""
        width, height = self._columns.numbers("width"), self._columns.numbers("height")
        counts = np.zeros(SIDE_STEPS * MOST_LOG_SIDE + 1, np.int64)
        for start in range(0, self._images, PART):
            part = slice(start, start + PART)
            area = width[part].astype(np.float64) * height[part]
            sides = np.round(SIDE_STEPS * np.log(np.sqrt(area[area > 0]))).astype(np.int64)
            counts += np.bincount(sides, minlength=len(counts))
        total = int(counts.sum())
        if not total:
            return Sizes.of_quartiles(0.0, 0.0, 0.0)
        ends = np.cumsum(counts)

        def at(share: float) -> float:
            place = share * (total - 1)
            first = int(place)
            low, high = (int(np.searchsorted(ends, n, "right")) for n in (first, min(first + 1, total - 1)))
            return (low + (high - low) * (place - first)) / SIDE_STEPS

        return Sizes.of_quartiles(at(0.25), at(0.5), at(0.75))


def _digits(texts: pa.Array, size: int) -> NDArray[np.uint8]:
    """(n, size) of hexadecimal digits. A text of another length stands for no hash."""
    found = np.zeros((len(texts), size), np.uint8)
    for row, text in enumerate(texts.to_pylist()):
        if len(text) == 2 * size:
            found[row] = np.frombuffer(bytes.fromhex(text), np.uint8)
    return found
