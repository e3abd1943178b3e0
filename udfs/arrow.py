"""The executor functions as an engine calls them: iterators of Arrow record batches, one signature for every stage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from udfs import errors
from udfs.children import isolation
from udfs.children.messages import Batches, Board
from udfs.images.rows import DETECTED, EMBEDDED, HANDED_ON, MAPPED, READ_SCORES, THUMBNAILS
from udfs.networks import models, preparation
from udfs.ratings.heads import Head
from udfs.stores import fetch
from udfs.transforms.variants import Variant


@dataclass(frozen=True)
class EmbedTask:
    """Batches of PENDING to EMBEDDED: of each image its features and vector, or an error.

    kind, files: of preparation.Prepared; kind "" where the vectors are given. device: of CUDA. decode_threads: beside
    the one that fetches; 0: that one decodes and computes as well, which costs the least CPU. alone: of
    embedding.open_runtime."""

    model: models.Model
    kind: str
    files: tuple[Path, ...]
    device: int | None
    limits: fetch.Limits
    fetch_threads: int
    decode_threads: int
    max_pixels: int
    alone: bool = False

    def open(self) -> Callable[[Batches, Board], Batches]:
        from udfs import image_pass  # in the child alone

        return image_pass.embed(self)


@dataclass(frozen=True)
class ThumbnailTask:
    """Batches of REFERENCE and image_id to THUMBNAILS: a JPEG of at most side x side pixels, or the file of a variant;
    null where there is none."""

    limits: fetch.Limits
    fetch_threads: int
    max_pixels: int
    how: int | Variant  # side, or the variant

    def open(self) -> Callable[[Batches, Board], Batches]:
        from udfs import image_pass

        return image_pass.thumbnails(self)


@dataclass(frozen=True)
class ScoreTask:
    """Batches of REFERENCE and image_id to READ_SCORES: what a network that scores pictures says of each. files: of
    preparation.Prepared for OpenVINO. output: of udfs.ratings.networks."""

    model: models.Model
    files: tuple[Path, ...]
    output: str
    limits: fetch.Limits
    fetch_threads: int
    max_pixels: int

    def open(self) -> Callable[[Batches, Board], Batches]:
        from udfs.ratings import networks

        return networks.scores(self)


@dataclass(frozen=True)
class DetectTask:
    """Batches of LOOKED_FOR to DETECTED: what the wanted detectors see in each picture. files: of
    udfs.detection.detectors.weights_of, of all that may be wanted."""

    files: tuple[tuple[str, tuple[Path, ...]], ...]
    limits: fetch.Limits
    fetch_threads: int
    max_pixels: int

    def open(self) -> Callable[[Batches, Board], Batches]:
        from udfs.detection import picture_pass

        return picture_pass.detections(self)


@dataclass(frozen=True)
class MapTask:
    """Batches of REFERENCE, image_id and place to MAPPED: where in each picture the score of heads[place] comes from.
    heads: of the model. files: of preparation.Prepared for udfs.ratings.explainer.kind_of."""

    model: models.Model
    files: tuple[Path, ...]
    heads: tuple[Head, ...]
    limits: fetch.Limits
    fetch_threads: int
    max_pixels: int

    def open(self) -> Callable[[Batches, Board], Batches]:
        from udfs.ratings import map_pass

        return map_pass.maps(self)


@dataclass(frozen=True)
class Place:
    """Where a task runs. files: as they lie there. gpu: the address of its GPU, None where it was given none. cores: of
    the task."""

    files: tuple[Path, ...]
    gpu: int | None
    cores: int


def task_maker(
    prepared: preparation.Prepared,
    model: models.Model,
    limits: fetch.Limits,
    fetch_threads: int,
    max_pixels: int,
    where: Callable[[], Place],
) -> Callable[[], EmbedTask]:
    """What a worker calls to learn its task. where: says where its files are and which GPU is its own.

    Decoding gets the task's other cores: they are how many feed one GPU."""
    kind = prepared.kind if prepared.files else ""

    def make() -> EmbedTask:
        import shutil

        place = where()
        own = 0 if kind == "torch" and shutil.which("nvidia-smi") else None  # one machine, whose tasks are given none
        device = own if place.gpu is None else place.gpu
        decode_threads = place.cores if device is not None or place.cores > 1 else 0
        return EmbedTask(model, kind, place.files, device, limits, fetch_threads, decode_threads, max_pixels)

    return make


def embed_batches(
    make_task: Callable[[], EmbedTask], hang_s: float, count: Callable[[int], Any]
) -> Callable[[Batches], Batches]:
    """Maps batches of PENDING to EMBEDDED: of each image either its features and vector, or an error and its detail.

    make_task: called in the worker, which alone knows its GPU and where its files are. hang_s: seconds that the
    decoding of one image may take. count: told how many are done."""

    def failed(row: pa.RecordBatch, detail: str) -> pa.RecordBatch:
        error = errors.ImageError(errors.CRASHED, detail)
        given = row.select(HANDED_ON.names).to_pylist()[0]
        return pa.RecordBatch.from_pylist([{**given, "error": error.code, "detail": error.detail}], schema=EMBEDDED)

    def run(batches: Batches) -> Batches:
        for done in isolation.run(batches, make_task(), failed, hang_s):
            yield done
            count(done.num_rows)

    return run


def score_batches(make_task: Callable[[], ScoreTask], hang_s: float) -> Callable[[Batches], Batches]:
    """Maps batches of REFERENCE and image_id to READ_SCORES. make_task: called in the worker."""

    def failed(row: pa.RecordBatch, _detail: str) -> pa.RecordBatch:
        return pa.RecordBatch.from_pylist(
            [{"image_id": row.column("image_id")[0].as_py(), "score": None}], schema=READ_SCORES
        )

    def run(batches: Batches) -> Batches:
        yield from isolation.run(batches, make_task(), failed, hang_s)

    return run


def detect_batches(
    make_task: Callable[[], DetectTask], hang_s: float, count: Callable[[int], Any]
) -> Callable[[Batches], Batches]:
    """Maps batches of LOOKED_FOR to DETECTED. make_task: called in the worker. hang_s: seconds that one image may take.
    count: told how many are done."""

    def failed(row: pa.RecordBatch, _detail: str) -> pa.RecordBatch:
        (given,) = row.select(["image_id", "etag", "again", "wanted"]).to_pylist()
        seen = [{"detector": name, "error": errors.CRASHED} for name in given.pop("wanted")]
        return pa.RecordBatch.from_pylist([{**given, "seen": seen}], schema=DETECTED)

    def run(batches: Batches) -> Batches:
        for done in isolation.run(batches, make_task(), failed, hang_s):
            yield done
            count(done.num_rows)

    return run


def map_batches(make_task: Callable[[], MapTask], hang_s: float) -> Callable[[Batches], Batches]:
    """Maps batches of REFERENCE, image_id and place to MAPPED. make_task: called in the worker."""

    def failed(row: pa.RecordBatch, _detail: str) -> pa.RecordBatch:
        given = row.select(["image_id", "place"]).to_pylist()[0]
        return pa.RecordBatch.from_pylist([given], schema=MAPPED)

    def run(batches: Batches) -> Batches:
        yield from isolation.run(batches, make_task(), failed, hang_s)

    return run


def thumbnail_batches(task: ThumbnailTask, hang_s: float) -> Callable[[Batches], Batches]:
    """Maps batches of REFERENCE and image_id to THUMBNAILS."""

    def failed(row: pa.RecordBatch, _detail: str) -> pa.RecordBatch:
        return pa.RecordBatch.from_pylist(
            [{"image_id": row.column("image_id")[0].as_py(), "jpeg": None}], schema=THUMBNAILS
        )

    def run(batches: Batches) -> Batches:
        yield from isolation.run(batches, task, failed, hang_s)

    return run
