"""In how many bits the perceptual hashes of two pictures differ, whichever way the pictures lie."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ALIKE_BITS = 10  # of 64: perceptual hashes of a picture and of an edit that moves nothing; of others about 32 differ
# Of a hash of 8 x 8 frequencies: those that change their sign in a picture that lies as it is, is mirrored left to
# right, top to bottom, or both.
MIRRORED_BITS = (0, 0x5555555555555555, 0x00FF00FF00FF00FF, 0x55AA55AA55AA55AA)
Hashes = NDArray[np.int64]


def differing_bits(one: int, others: Hashes) -> NDArray[np.int64]:
    """The fewest bits in which a hash of udfs.images.hashing and each of others, (n,), differ over the eight symmetries
    of a picture: see jobs.clusters.with_differing_bits, which does the same with columns. Returns (n,) of 0..64."""
    upright = others.view(np.uint64)
    bits = np.unpackbits(upright.astype(">u8").view(np.uint8).reshape(-1, 8, 1), axis=2)
    turned = np.packbits(bits.transpose(0, 2, 1), axis=2).reshape(-1, 8).copy().view(">u8")[:, 0].astype(np.uint64)
    own = np.uint64(one & 0xFFFFFFFFFFFFFFFF)
    found = [hashed ^ own ^ np.uint64(mirrored) for hashed in (upright, turned) for mirrored in MIRRORED_BITS]
    counts = np.unpackbits(np.stack(found)[..., np.newaxis].view(np.uint8), axis=2).sum(axis=2)
    return np.asarray(counts.min(axis=0), np.int64)
