"""What each stage asks of a cluster: CPU time and shuffle, from what was measured (conf/measured.yaml) and the code's
own arithmetic."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic.dataclasses import dataclass

from jobs import config, pipeline
from udfs.typed import CLOSED, Day, Fault, Number, Text, at, at_least, between, made, rule
from udfs.vectors import cells, search

STAGES = pipeline.NAMES
Amount = Annotated[Number, at_least(0)]
DIMENSION = 1280  # numbers in a vector of the default model
IMAGE_ROW = 8 + 8 + 4 + 1  # bytes of a pack beside the vector: id, key, cell, flag
LIST_ROW, NEIGHBOUR = 8 + 8 + 4, 8 + 8 + 8  # bytes of a list, and of each neighbour in it
# Stages with a section of their own; the CPU time of the others grows by a single slope.
BY_PARTS = ("embed", "neighbours")


def _sizes(value: Any) -> tuple[tuple[float, float], ...]:
    pairs = tuple((float(size), float(ms)) for size, ms in value)
    if len(pairs) < 2 or any(low[0] >= high[0] for low, high in itertools.pairwise(pairs)):
        raise ValueError
    return pairs


def _of_stages(*names: str) -> Any:
    return rule(lambda value: set(value) <= set(names), "must name stages of these: " + ", ".join(names))


@dataclass(frozen=True, config=CLOSED)
class Embed:
    """CPU milliseconds of an image of image_bytes: cpu_ms in all, without_model_ms of it without inference; s3_ms what
    reading it from S3 takes on top. by_size: bytes of an image and CPU milliseconds of a worker without inference,
    ascending; only their differences are used. table_bytes: of its rows in features and embeddings."""

    cpu_ms: Amount
    without_model_ms: Amount
    s3_ms: Amount
    image_bytes: Amount
    table_bytes: Amount
    by_size: Annotated[
        tuple[tuple[float, float], ...], made(_sizes, "must be two or more pairs of bytes and milliseconds, ascending")
    ]

    def ms(self, image_bytes: float, *, with_model: bool) -> float:
        """Of an image of so many bytes, read from S3; at least a tenth of what was measured. Between two sizes that
        were measured on a line, beyond them on the line through the last two."""
        measured = (self.cpu_ms if with_model else self.without_model_ms) + self.s3_ms
        return max(measured / 10, measured + self._of_size(image_bytes) - self._of_size(self.image_bytes))

    def _of_size(self, image_bytes: float) -> float:
        upper = next((n for n, (size, _) in enumerate(self.by_size) if size >= image_bytes), len(self.by_size) - 1)
        (size, ms), (size_above, ms_above) = self.by_size[max(0, upper - 1)], self.by_size[max(1, upper)]
        return ms + (image_bytes - size) / (size_above - size) * (ms_above - ms)


@dataclass(frozen=True, config=CLOSED)
class Neighbours:
    """cpu_ms: of a vector of `numbers` numbers, of which two searches of a cell, search_us each, are a part.
    search_us_default: of a search in a cell of vectors of DIMENSION numbers. pair_recall: share (0..1) of near pairs
    that met in a cell."""

    cpu_ms: Amount
    numbers: Amount
    search_us: Amount
    search_us_default: Amount
    pair_recall: Annotated[Number, between(0, 1)]


@dataclass(frozen=True, config=CLOSED)
class Measured:
    """cpu_ms: of an image, of the stages that are not BY_PARTS. start_cpu_s: of a stage at no image, most of it the
    JVM. Either may lack a stage: that was not measured."""

    as_of: Day
    machine: Text
    embed: Embed
    neighbours: Neighbours
    cpu_ms: Annotated[dict[str, Amount], _of_stages(*(stage for stage in STAGES if stage not in BY_PARTS))]
    start_cpu_s: Annotated[dict[str, Amount], _of_stages(*STAGES)]

    def lacks(self, stages: Iterable[str]) -> list[str]:
        """Those of the stages that were not measured, or not whole."""
        return [
            stage for stage in stages
            if stage not in self.start_cpu_s or (stage not in BY_PARTS and stage not in self.cpu_ms)
        ]  # fmt: skip


@dataclass(frozen=True, config=CLOSED)
class SearchPlan:
    """The neighbours stage for `images` vectors of DIMENSION numbers."""

    images: int
    cells: int
    probes: int
    task_images: int
    task_bytes: int
    shuffle_bytes: int
    operations: float


def load(path: Path | None = None) -> Measured:
    """conf/measured.yaml, or another file of its shape. Raises ConfigError with all faults."""
    return config.read_figures(Measured, "measured.yaml", path, _together)


def _together(given: Any) -> list[Fault]:
    """What only shows where several values are seen together."""
    whole, part = (at(given, "embed", key) for key in ("cpu_ms", "without_model_ms"))
    if isinstance(whole, int | float) and isinstance(part, int | float) and part > whole:
        return [Fault(("embed", "without_model_ms"), "must be at most embed.cpu_ms", part)]
    return []


def search_plan(images: int, settings: config.Neighbours | None = None) -> SearchPlan:
    """In a cell each vector meets, in the fine cells that are among the NEAR nearest of one and the probes of the
    other, about NEAR times CELL_ROWS vectors."""
    settings = settings or config.load().neighbours
    layout = cells.layout(images, DIMENSION, settings.exact_images, int(settings.cell_mb * 1e6), settings.probes)
    shuffled = images * layout.probes * (2 * DIMENSION + IMAGE_ROW + LIST_ROW + settings.k * NEIGHBOUR)
    parents = round(layout.cells**0.5) if layout.cells > cells.FLAT else 0
    looked_at = parents + cells.PARENTS * parents if parents else layout.cells
    in_cell = images * layout.probes // layout.cells
    fine = settings.fine_probes * in_cell / search.CELL_ROWS
    compared = (1 + cells.PARENTS) * fine**0.5 + search.NEAR * search.CELL_ROWS
    operations = 2.0 * DIMENSION * images * (looked_at + layout.probes * compared)
    return SearchPlan(images, layout.cells, layout.probes, in_cell, in_cell * DIMENSION * 4, shuffled, operations)


def cpu_ms(stage: str, images: int, image_bytes: float, measured: Measured, *, on_gpu: bool = False) -> float:
    """CPU milliseconds of one of so many images in a stage, on the measured core; 0 where that was not measured.
    on_gpu: inference is done by a GPU.

    The search inside a cell was measured at DIMENSION numbers; all else of the neighbours stage at fewer, and its part
    for moving vectors is taken to grow with the numbers in one."""
    if stage == "embed":
        return measured.embed.ms(image_bytes, with_model=not on_gpu)
    if stage == "neighbours":
        found = measured.neighbours
        moving = max(0.0, found.cpu_ms - 2 * found.search_us / 1000)
        return moving * DIMENSION / found.numbers + search_plan(images).probes * found.search_us_default / 1000
    return measured.cpu_ms.get(stage, 0.0)
