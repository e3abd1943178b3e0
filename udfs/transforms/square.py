"""The preprocessing of every network: decode, turn upright, resize to its square, normalise.

The lake's own pass, `import imagesieve` and services all call this. Whatever changes a number that comes out of it
raises CODE."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from udfs.images import decode
from udfs.networks import embedding
from udfs.networks.models import Model

CODE = 1  # version of what is done here and in what it calls
ANALYSIS_SIDE = 224  # pixels at which light and colour are told, whatever the model
# Of the short side of what is decoded, by the input of a network: so much more that the mean of what a pixel covers is
# taken here, and hardly depends on how a decoder scales; and so little that 12 megapixels come at an eighth.
FINER = 1.5

Pixels = NDArray[np.uint8]
Opened = tuple[decode.Decoded, Pixels]


def opened(data: bytes, max_pixels: int) -> Opened:
    """An image file as hashes and properties are taken of it: decoded, with its detail; and the picture by which light
    and colour are told, (ANALYSIS_SIDE, ANALYSIS_SIDE, 3) uint8, its aspect ratio ignored; as it is where it would
    grow. Raises ImageError."""
    decoded = decode.decode(data, decoded_side(ANALYSIS_SIDE), max_pixels, detail=True)
    pixels = decoded.pixels
    return decoded, pixels if min(pixels.shape[:2]) < ANALYSIS_SIDE else embedding.fit(pixels, ANALYSIS_SIDE)


def decoded_side(side: int) -> int:
    """The least short side, in pixels, at which an image is decoded for a square of `side` pixels."""
    return round(FINER * max(side, ANALYSIS_SIDE))


def square(data: bytes, model: Model, max_pixels: int, known: Opened | None = None) -> Pixels:
    """What embedding.Runtime takes of an image file: (side, side, 3) uint8 RGB, upright. known: of opened(data, …),
    which spares a second decoding where the network sees no more than that. Raises ImageError, and ValueError for a
    model whose vectors were made elsewhere."""
    if model.format == "vectors":
        raise ValueError(f"{model.key}: its vectors were made elsewhere, and how is not known here")
    side = model.input_side
    if known is not None and side <= ANALYSIS_SIDE:
        decoded, seen = known
        if seen.shape[:2] == (side, side) and model.fit == "stretch":
            return seen
        return embedding.fit(decoded.pixels, side, model.fit)
    # A network that sees more than the analysis gets a decoding of its own: hashes must not depend on it.
    return embedding.fit(decode.decode(data, decoded_side(side), max_pixels).pixels, side, model.fit)


def normalised(pixels: Pixels, model: Model) -> NDArray[np.float32]:
    """(pixel - mean) / std of the model, channels first. pixels: (..., side, side, 3) uint8. Returns (..., 3, side,
    side) float32, contiguous: bit for bit what the torch runtime gives its network. The OpenVINO one has the same two
    operations inside its graph, and takes the pixels."""
    channels = np.moveaxis(pixels, -1, -3).astype(np.float32, order="C")
    mean, std = (np.array(values, np.float32).reshape(3, 1, 1) for values in (model.mean, model.std))
    return np.asarray((channels - mean) / std, np.float32)
