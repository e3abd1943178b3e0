"""Maps of pictures by an embedding model that is opened once: exact on the built-in ones, else by occlusion."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from udfs.images import decode
from udfs.networks import embedding
from udfs.networks.feature_map import FeatureMap
from udfs.networks.models import Model
from udfs.ratings import maps
from udfs.ratings.heads import Head
from udfs.ratings.linear import Numbers
from udfs.transforms.square import decoded_side

EXACT, OCCLUDED = "exact", "occlusion"


def kind_of(model: Model) -> str:
    """What preparation.prepare makes for maps of this model."""
    return "openvino" if model.built else "openvino-fp32"


class Explainer:
    """One thread at a time uses it."""

    def __init__(self, model: Model, files: tuple[Path, ...]) -> None:
        """files: of preparation.prepare for kind_of(model). Raises ModelError."""
        self._map = FeatureMap(model, files) if model.built else None
        self._net = None if model.built else embedding.open_runtime(kind_of(model), model, files)

    def shares(self, head: Head, square: NDArray[np.uint8]) -> tuple[Numbers, str]:
        """(h, w) of one picture, and how. square: (side, side, 3) uint8, of embedding.fit."""
        if self._map is not None and head.linear:
            return maps.shares(head, self._map.look(square[None]))[0], EXACT
        plain = replace(head, measured=None)  # what it adds is the same, whatever is covered
        return maps.occluded(square, lambda many: plain.raw(self._look(many))), OCCLUDED

    def _look(self, squares: NDArray[np.uint8]) -> NDArray[np.float32]:
        if self._map is not None:
            return self._map.look(squares).vectors
        return self._net.embed(squares) if self._net is not None else np.zeros((0, 0), np.float32)


def seen_by(data: bytes, model: Model, max_pixels: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A picture as the network gets it, just as `embed` makes it, and as it is shown. Raises ImageError."""
    pixels = decode.decode(data, decoded_side(model.input_side), max_pixels).pixels
    return embedding.fit(pixels, model.input_side, model.fit), pixels
