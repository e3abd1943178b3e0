"""Samples of any depth, and transparency, as 8 bits that can be looked at; and a digest of what these do not hold."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image

FAINT = 24.0  # grey levels, root mean square over the ink: less cannot be told from its ground


def eight_bit(image: Image.Image) -> tuple[Image.Image, bytes]:
    """The image in mode L or RGB, 8 bits a sample, without alpha; and a digest of deeper samples or of alpha, b"" where
    the 8 bits hold all there is."""
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        samples, more = scaled(np.asarray(image))
        return Image.fromarray(samples), more
    if image.has_transparency_data:
        return _on_ground(image.convert("RGBA"))
    return image.convert("L" if image.mode in ("1", "L") else "RGB"), b""


def scaled(samples: NDArray[np.generic]) -> tuple[NDArray[np.uint8], bytes]:
    """Integers or floats of any depth as uint8, and a digest of them as they were; b"" for 8 bits written twice.

    Whole numbers from 0 on are scaled by the bits that they use: a mask of seven values, 12 bits in 16, and a full 16
    can all be seen. Others, negative ones or floats, are scaled from their least to their most."""
    if samples.dtype.kind in "iu" and samples.min(initial=0) >= 0 and samples.max(initial=0) < 1 << 16:
        whole = samples.astype(np.uint16)
        if np.array_equal(whole >> 8, whole & 255):
            return (whole >> 8).astype(np.uint8), b""
        bits = max(int(whole.max(initial=0)).bit_length(), 1)
        used = whole >> (bits - 8) if bits > 8 else whole * 255 // ((1 << bits) - 1)
        return used.astype(np.uint8), _digest(whole)
    wide = samples.astype(np.float64)
    finite = np.isfinite(wide)
    low, high = (float(of(wide[finite])) if finite.any() else 0.0 for of in (np.min, np.max))
    share = np.where(finite, wide - low, 0.0) / ((high - low) or 1.0)
    return (share * 255).round().astype(np.uint8), _digest(samples)


def deep_colours(samples: NDArray[np.uint16]) -> tuple[Image.Image, bytes]:
    """As eight_bit. samples: (h, w, 3) RGB or (h, w, 4) RGBA; the colours are scaled together."""
    colours, more = scaled(samples[..., :3])
    if samples.shape[2] == 3:
        return Image.fromarray(colours), more
    alpha = (samples[..., 3:] >> 8).astype(np.uint8)
    image, of_alpha = _on_ground(Image.fromarray(np.concatenate([colours, alpha], axis=-1)))
    return image, _digest(samples) if more or of_alpha else b""


def _on_ground(image: Image.Image) -> tuple[Image.Image, bytes]:
    """RGBA on white; where its ink does not show on that, on black or grey, whichever it shows on best."""
    pixels = np.asarray(image)
    alpha = pixels[..., 3]
    if int(alpha.min()) == 255:
        return image.convert("RGB"), b""
    ink = pixels[..., :3] * (alpha > 0)[..., np.newaxis]  # what lies under nothing is nobody's business
    ground = _ground(ink @ np.array([0.299, 0.587, 0.114]), alpha.astype(np.float64))
    below = Image.new("RGBA", image.size, (ground, ground, ground, 255))
    below.alpha_composite(image)
    return below.convert("RGB"), _digest(np.concatenate([ink.astype(np.uint8), alpha[..., np.newaxis]], axis=-1))


def _ground(light: NDArray[np.float64], alpha: NDArray[np.float64]) -> int:
    def shows(ground: int) -> float:
        return float(np.sqrt((alpha * (light - ground) ** 2).sum() / max(alpha.sum(), 1.0)))

    return 255 if shows(255) >= FAINT or not alpha.any() else max((0, 128), key=shows)


def _digest(samples: NDArray[np.generic]) -> bytes:
    digest = hashlib.sha256(f"{samples.dtype.str} {samples.shape}".encode())
    digest.update(np.ascontiguousarray(samples).data)
    return digest.digest()
