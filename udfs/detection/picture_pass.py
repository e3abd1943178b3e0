"""The pass of detectors over pictures: each is fetched and decoded once. It runs in the child of
udfs.children.isolation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import cv2

from udfs.children.messages import ROW, Batches, Board
from udfs.detection.detectors import FACES, TEXT
from udfs.detection.faces import Faces
from udfs.detection.letterbox import Pixels
from udfs.detection.seen import Seen
from udfs.detection.text import Text
from udfs.errors import ImageError
from udfs.image_pass import Row, fetched_rows, in_batches
from udfs.images import decode
from udfs.images.rows import DETECTED

if TYPE_CHECKING:
    from udfs.arrow import DetectTask

# Least short side, in pixels, at which a picture is decoded: of one of 4 by 3 the long side is then what the largest
# input holds.
DECODED_SIDE = 720
KINDS: dict[str, type[Faces] | type[Text]] = {FACES: Faces, TEXT: Text}
HANDED_ON = ["image_id", "etag", "again", "wanted"]


def detections(task: DetectTask) -> Callable[[Batches, Board], Batches]:
    """Opens the detectors of the task and returns what looks with them: see arrow.DetectTask and messages.Task."""
    cv2.setNumThreads(1)  # Spark runs one worker a core
    detectors = {name: KINDS[name](files) for name, files in task.files}

    def rows(batches: Batches, board: Board) -> Iterator[Row]:
        for given, data in fetched_rows(batches, [*HANDED_ON, ROW], task.limits, task.fetch_threads):
            with board.at(given[ROW]):
                seen = looked_at(data, {name: detectors[name] for name in given["wanted"]}, task.max_pixels)
            yield {**given, "seen": seen}

    def run(batches: Batches, board: Board) -> Batches:
        yield from in_batches(rows(batches, board), DETECTED)

    return run


def looked_at(
    data: bytes | ImageError, detectors: Mapping[str, Callable[[Pixels], Seen]], max_pixels: int
) -> list[Row]:
    """What each detector says of a picture, or why it says nothing: the lists of DETECTED. data: of its file."""
    if isinstance(data, ImageError):
        return _failed(detectors, data.code)
    try:
        decoded = decode.decode(data, DECODED_SIDE, max_pixels)
    except ImageError as error:
        return _failed(detectors, error.code)
    told = []
    for name, look in detectors.items():
        found, share, wide = look(decoded.pixels)
        told.append({"detector": name, "found": found, "share": share, "width": round(wide * decoded.width)})
    return told


def _failed(names: Iterable[str], error: str) -> list[Row]:
    return [{"detector": name, "error": error} for name in names]
