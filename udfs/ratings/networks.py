"""Whole networks that score pictures: one pass of their own over these."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from udfs.children.messages import ROW, Batches, Board
from udfs.errors import ImageError
from udfs.image_pass import Row, fetched_rows, in_batches
from udfs.images.rows import READ_SCORES
from udfs.networks import embedding
from udfs.ratings.heads import mean_of_bins
from udfs.transforms.square import square

if TYPE_CHECKING:
    from udfs.arrow import ScoreTask

SCORE, DISTRIBUTION, LOGITS = "score", "distribution", "logits"
OUTPUTS = (SCORE, DISTRIBUTION, LOGITS)


def scored(output: str, rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """(n,) of what a network gives, (n, k): the number itself, or the mean of a distribution over bins 1..k, given as
    shares or as logits."""
    if output == LOGITS:
        return mean_of_bins(rows.astype(np.float64))
    if output == DISTRIBUTION:
        shares = rows.astype(np.float64)
        return np.asarray(shares @ np.arange(1, rows.shape[1] + 1) / np.maximum(shares.sum(axis=1), 1e-12))
    return np.asarray(rows[:, 0], np.float64)


def scores(task: ScoreTask) -> Callable[[Batches, Board], Batches]:
    """Opens the network of the task and returns what scores with it: see arrow.ScoreTask and messages.Task."""
    cv2.setNumThreads(1)
    net = embedding.open_runtime("openvino-fp32", task.model, task.files)

    def one(data: bytes | ImageError) -> float | None:
        if isinstance(data, ImageError):
            return None
        try:
            seen = square(data, task.model, task.max_pixels)
        except ImageError:
            return None
        found = net.submit(seen[None])()
        value = float(scored(task.output, found.vectors * found.norms[:, None])[0])
        return value if np.isfinite(value) else None

    def rows(batches: Batches, board: Board) -> Iterator[Row]:
        for given, data in fetched_rows(batches, ["image_id", ROW], task.limits, task.fetch_threads):
            with board.at(given[ROW]):
                value = one(data)
            yield {**given, "score": value}

    def run(batches: Batches, board: Board) -> Batches:
        yield from in_batches(rows(batches, board), READ_SCORES)

    return run
