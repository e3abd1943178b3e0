"""Maps of pictures for the report: each is fetched and decoded in the child, and only the numbers leave it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import cv2
import numpy as np

from udfs.children.messages import ROW, Batches, Board
from udfs.errors import ImageError
from udfs.image_pass import Row, fetched_rows, in_batches
from udfs.images.rows import MAPPED
from udfs.ratings.explainer import EXACT, Explainer, seen_by

if TYPE_CHECKING:
    from udfs.arrow import MapTask


def maps(task: MapTask) -> Callable[[Batches, Board], Batches]:
    """Opens the network of the task and returns what makes maps with it: see arrow.MapTask and messages.Task."""
    cv2.setNumThreads(1)
    explainer = Explainer(task.model, task.files)

    def one(data: bytes | ImageError, place: int) -> Row:
        if isinstance(data, ImageError):
            return {}
        try:
            square, _ = seen_by(data, task.model, task.max_pixels)
        except ImageError:
            return {}
        shares, how = explainer.shares(task.heads[place], square)
        if not np.isfinite(shares).all():
            return {}
        return {"shares": shares.ravel().tolist(), "columns": shares.shape[1], "exact": how == EXACT}

    def rows(batches: Batches, board: Board) -> Iterator[Row]:
        for given, data in fetched_rows(batches, ["image_id", "place", ROW], task.limits, task.fetch_threads):
            with board.at(given[ROW]):
                made = one(data, given["place"])
            yield {**given, **made}

    def run(batches: Batches, board: Board) -> Batches:
        yield from in_batches(rows(batches, board), MAPPED)

    return run
