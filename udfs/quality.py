"""Raw properties of one picture, from which the scores are computed later without reading it again.

Grey is Rec. 601 luma of the gamma-encoded values, 0.299 R + 0.587 G + 0.114 B, rounded to 8 bits.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

PROPERTIES = ("brightness", "brightness_p05", "brightness_p99", "contrast", "sharpness", "entropy", "colourfulness")

SHARPNESS_SIDE = (
    224  # short side in pixels at which sharpness is measured; smaller pictures, as they are, come out sharper
)
_LEVELS = np.arange(256, dtype=np.float64)


def properties(pixels: NDArray[np.uint8]) -> dict[str, float]:
    """Properties of pixels, (h, w, 3) uint8 RGB, with exactly the keys PROPERTIES, all finite:

    brightness      mean grey, 0 black .. 1 white
    brightness_p05  5th percentile of grey, 0..1
    brightness_p99  99th percentile of grey, 0..1
    contrast        standard deviation of grey, 0..0.5
    sharpness       variance of the Laplacian of grey (0..255) at a short side of SHARPNESS_SIDE, >= 0; Pech-Pacheco et
                    al., Diatom autofocusing in brightfield microscopy, ICPR 2000
    entropy         of the histogram of grey, 0..8 bits
    colourfulness   Hasler and Süsstrunk, Measuring colourfulness in natural images, SPIE 5007, 2003; 0 for grey
    """
    grey = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8)
    # All that depends on the distribution of grey alone comes from its 256 counts, exactly.
    share = np.asarray(cv2.calcHist([grey], [0], None, [256], [0, 256]), np.float64).ravel() / grey.size
    mean = float(share @ _LEVELS)
    cumulative = np.cumsum(share)
    seen = share[share > 0]
    return {
        "brightness": mean / 255,
        "brightness_p05": _percentile(cumulative, 0.05),
        "brightness_p99": _percentile(cumulative, 0.99),
        "contrast": math.sqrt(float(share @ (_LEVELS - mean) ** 2)) / 255,
        "sharpness": _sharpness(grey),
        "entropy": max(0.0, -float(seen @ np.log2(seen))),
        "colourfulness": _colourfulness(pixels),
    }


def _percentile(cumulative: NDArray[np.float64], share: float) -> float:
    """The lowest grey level, as 0..1, that this share of the pixels does not exceed. cumulative: (256,) float64."""
    # The margin takes up the rounding of the sums: a share reached exactly counts as reached.
    return min(int(np.searchsorted(cumulative, share - 1e-9)), 255) / 255


def _sharpness(grey: NDArray[np.uint8]) -> float:
    """grey: (h, w) uint8. At one scale, as a larger copy of a picture changes less from pixel to pixel."""
    height, width = grey.shape
    scale = SHARPNESS_SIDE / min(height, width)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        grey = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)
    edges = np.asarray(cv2.Laplacian(grey, cv2.CV_16S, ksize=1), np.int16)
    return _variance(edges.size, cv2.sumElems(edges)[0], cv2.norm(edges, cv2.NORM_L2SQR))


def _colourfulness(pixels: NDArray[np.uint8]) -> float:
    """pixels: (h, w, 3) uint8. From whole sums, so that grey gives 0 and not a rounding error."""
    red, green, blue = cv2.split(pixels)
    reds, greens, blues, _ = cv2.sumElems(pixels)
    # With x = R - G and 2y = R + G - 2B: the sum of (2y)² follows from those of (R - G)², (R - B)², (G - B)².
    rg, rb, gb = (cv2.norm(a, b, cv2.NORM_L2SQR) for a, b in ((red, green), (red, blue), (green, blue)))
    x_sum, y2_sum, y2_squares = reds - greens, reds + greens - 2 * blues, 2 * rb + 2 * gb - rg
    n = red.size
    spread = math.sqrt(_variance(n, x_sum, rg) + _variance(n, y2_sum, y2_squares) / 4)
    return spread + 0.3 * math.hypot(x_sum / n, y2_sum / n / 2)


def _variance(n: int, total: float, squares: float) -> float:
    """Variance of n whole numbers from their sum and the sum of their squares; whole again after round(), as OpenCV
    takes a root of the squares on the way."""
    return (n * round(squares) - round(total) ** 2) / n**2
