"""Three fingerprints of an image: of its bytes, of its pixels, of its look."""

import hashlib
import struct

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

_SIDE = 32  # pixels of the thumbnail behind the perceptual hash
_LOW = 8  # frequencies kept each way: 64 bits


def sha256(data: bytes) -> str:
    """SHA-256 of a file's bytes, 64 lower-case hex digits: equal for byte-for-byte copies."""
    return hashlib.sha256(data).hexdigest()


def pixel_hash(pixels: NDArray[np.uint8], width: int, height: int, more: bytes = b"") -> str:
    """128 bits of BLAKE3 of the full size and the decoded pixels, 32 lower-case hex digits. pixels:
    (h, w, 3) uint8; width, height: full size in pixels, upright. more: what the pixels do not hold, of Decoded.more.

    Equal means: the same full size and the same upright pixels at the analysis scale of udfs.images.decode. So it sees
    through changed metadata, bytes after the end, and a lossless format in place of another. Hashes of different
    `min_side` are not comparable; a JPEG (scaled by DCT) and a lossless copy of it (scaled by box) agree only where
    both are whole. Raises ValueError for pixels of another shape or type."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"pixels must be (h, w, 3) uint8, got {pixels.shape} {pixels.dtype}")
    digest = blake3(struct.pack("<4Q", width, height, *pixels.shape[:2]))  # a quarter of the time of SHA-256
    digest.update(np.ascontiguousarray(pixels).data)
    digest.update(more)
    return str(digest.hexdigest(16))


def _cosines() -> NDArray[np.float64]:
    """(_LOW, _SIDE) float64: the first rows of the DCT-II, not normalised."""
    k, n = np.arange(_LOW)[:, None], np.arange(_SIDE)[None, :]
    return np.cos(np.pi * k * (2 * n + 1) / (2 * _SIDE))


_DCT = _cosines()


def perceptual_hash(thumbnail: NDArray[np.uint8]) -> int:
    """64-bit DCT hash as a signed integer: which of the 8 × 8 lowest frequencies of the 32 × 32 grey thumbnail lie
    above their median. thumbnail: (32, 32) uint8, of udfs.images.alignment. Copies that were scaled or re-encoded
    differ in few bits. Raises ValueError for another shape.

    Source: C. Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions, 2010, section 3.2.1, in the
    form of the ImageHash library (constant term included, area filter in place of a 7 × 7 mean)."""
    if thumbnail.shape != (_SIDE, _SIDE):
        raise ValueError(f"thumbnail must be ({_SIDE}, {_SIDE}), got {thumbnail.shape}")
    low = (_DCT @ thumbnail.astype(np.float64) @ _DCT.T).ravel()
    ordered = np.sort(low)
    median = (ordered[31] + ordered[32]) / 2
    # The margin keeps rounding noise out of flat pictures, where all but the constant term is 0.
    bits = np.packbits(low > median + 1e-6)
    return int.from_bytes(bits.tobytes(), "big", signed=True)
