"""Raw properties of one picture, from which the scores are computed later without reading it again.

Grey is Rec. 601 luma of the gamma-encoded values, 0.299 R + 0.587 G + 0.114 B, rounded to 8 bits. What belongs to the
finest pixels, noise and the grid of JPEG blocks, is measured in the picture's own pixels; all else at the analysis
scale."""

import math
from collections.abc import Sequence
from itertools import combinations_with_replacement

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from udfs.images import compression
from udfs.images.brisque import brisque
from udfs.images.decode import Decoded
from udfs.images.rows import PROPERTIES
from udfs.images.scaling import short_side

SHARPNESS_SIDE = (
    224  # short side in pixels at which sharpness is measured; smaller pictures, as they are, come out sharper
)
CLIPPED_FROM = 250  # of 255: compression and scaling leave what was clipped a little below the top
COLOURED_BELOW = 200  # of 255
FLAT_RANGE = 2  # grey levels within 5 x 5 pixels: less than any texture or noise
BLOCK = 8  # pixels of a JPEG block's side
FEWEST_BLOCKS = 8  # along a side: of fewer, any edge may lie on the grid
# Pixels of the middle squares that are looked at in the picture's own pixels: they tell as much as all of 500 x 375.
DETAIL_SIDE = 288
BRISQUE_SIDE = 192
_CELL = 16  # pixels of a side of the cells in which edges and noise are summed up
_CORNER_SHARE = 0.1  # of the cells: the rest may be sky, or out of focus on purpose
_NOISE_SHARE = 0.1  # of the cells, the calmest: detail of the picture passes for noise elsewhere
FEWEST_CELLS = 4  # of fewer, none need be calm: in 20 x 16 pixels any detail is as fine as noise
_EDGE_LIMIT = np.uint8(40)  # grey levels: a step as high as this is the picture's, not a block's
_CALM = 1.5  # grey levels: a step from pixel to pixel that nobody sees
_LEVELS = np.arange(256, dtype=np.float64)
_SECOND_DIFFERENCE = np.array([1, -2, 1], np.float32)
_DIRECTIONS = np.arange(16) * np.pi / 16
_COS, _SIN = np.cos(_DIRECTIONS)[:, None], np.sin(_DIRECTIONS)[:, None]
# Squares of (cos x + sin y) and of (cos² xx + 2 cos sin xy + sin² yy), as sums over products of derivatives, those of
# combinations_with_replacement; each row a direction. The mixed derivative comes four times too large.
_FIRST = np.hstack([_COS**2, 2 * _COS * _SIN, _SIN**2])
_SECOND = np.hstack(
    [
        _COS**4,
        4 * _COS**3 * _SIN / 4,
        2 * _COS**2 * _SIN**2,
        4 * _COS**2 * _SIN**2 / 16,
        4 * _COS * _SIN**3 / 4,
        _SIN**4,
    ]
)


def of_file(data: bytes, decoded: Decoded, seen: NDArray[np.uint8] | None = None) -> dict[str, float]:
    """Properties of an image file, with exactly the keys PROPERTIES, all finite. decoded: of data, with its detail.
    seen: (h, w, 3) uint8, the picture at a smaller scale, its aspect ratio ignored, that tells colour and light.

    jpeg_quality    see compression.jpeg_quality, 1..100
    and those of properties()"""
    fine = decoded.detail
    # A block is smaller where the picture was scaled.
    block = BLOCK if fine is None else round(BLOCK * fine.shape[1] / decoded.width)
    found = {
        **properties(decoded.pixels if seen is None else seen, fine, block),
        "jpeg_quality": compression.jpeg_quality(data),
    }
    return {name: found[name] for name in PROPERTIES}


def properties(
    pixels: NDArray[np.uint8], detail: NDArray[np.uint8] | None = None, block: int = BLOCK
) -> dict[str, float]:
    """Properties of pixels, (h, w, 3) uint8 RGB, all finite. detail: (h, w) uint8, the grey picture as fine as there
    is, of its own aspect ratio; by default that of pixels. block: pixels of the side of a JPEG block in detail.

    brightness      mean grey, 0 black .. 1 white
    brightness_p01  1st, and likewise _p05 and _p99 the 5th and 99th percentile of grey, 0..1
    peak            mean of the highest of red, green and blue, 0..1
    clipped         share of the pixels whose highest channel is at least CLIPPED_FROM, 0..1
    clipped_colour  share of the pixels that are clipped so, but whose lowest channel is below COLOURED_BELOW, 0..1
    contrast        standard deviation of grey, 0..0.5
    sharpness       variance of the Laplacian of grey (0..255) at a short side of SHARPNESS_SIDE, >= 0; Pech-Pacheco et
                    al., Diatom autofocusing in brightfield microscopy, ICPR 2000
    edge_frequency  see edge_frequency, >= 0; at the same scale
    noise           see noise, standard deviation in grey levels, >= 0; of the middle of detail
    blockiness      see blockiness, >= 0; about 0.9 without blocks; of the middle of detail
    flat_share      share of the pixels around which grey varies by at most FLAT_RANGE, 0..1; at the scale of sharpness
    entropy         of the histogram of grey, 0..8 bits
    colourfulness   Hasler and Süsstrunk, Measuring colourfulness in natural images, SPIE 5007, 2003; 0 for grey
    brisque         see brisque.brisque, of the middle of detail; 0 good .. 100 bad
    """
    grey = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8)
    fine = grey if detail is None else detail
    # All that depends on the distribution of grey alone comes from its 256 counts, exactly.
    share = np.asarray(cv2.calcHist([grey], [0], None, [256], [0, 256]), np.float64).ravel() / grey.size
    mean = float(share @ _LEVELS)
    cumulative = np.cumsum(share)
    seen = share[share > 0]
    channels = cv2.split(pixels)
    highest = cv2.max(cv2.max(channels[0], channels[1]), channels[2])
    lowest = cv2.min(cv2.min(channels[0], channels[1]), channels[2])
    clipped = np.asarray(highest) >= CLIPPED_FROM
    coloured = clipped & (np.asarray(lowest) < COLOURED_BELOW)
    seen_grey = short_side(fine, SHARPNESS_SIDE)
    return {
        "brightness": mean / 255,
        "brightness_p01": _percentile(cumulative, 0.01),
        "brightness_p05": _percentile(cumulative, 0.05),
        "brightness_p99": _percentile(cumulative, 0.99),
        "peak": cv2.sumElems(highest)[0] / grey.size / 255,
        "clipped": float(np.count_nonzero(clipped)) / grey.size,
        "clipped_colour": float(np.count_nonzero(coloured)) / grey.size,
        "contrast": math.sqrt(float(share @ (_LEVELS - mean) ** 2)) / 255,
        "sharpness": _sharpness(seen_grey),
        "edge_frequency": edge_frequency(seen_grey),
        "noise": noise(middle(fine, DETAIL_SIDE)),
        "blockiness": blockiness(middle(fine, DETAIL_SIDE), block),
        "flat_share": _flat_share(seen_grey),
        "entropy": max(0.0, -float(seen @ np.log2(seen))),
        "colourfulness": _colourfulness(pixels, channels),
        "brisque": brisque(middle(fine, BRISQUE_SIDE)),
    }


def _percentile(cumulative: NDArray[np.float64], share: float) -> float:
    """The lowest grey level, as 0..1, that this share of the pixels does not exceed. cumulative: (256,) float64."""
    # The margin takes up the rounding of the sums: a share reached exactly counts as reached.
    return min(int(np.searchsorted(cumulative, share - 1e-9)), 255) / 255


def _sharpness(grey: NDArray[np.uint8]) -> float:
    """grey: (h, w) uint8."""
    edges = np.asarray(cv2.Laplacian(grey, cv2.CV_16S, ksize=1), np.int16)
    return _variance(edges.size, cv2.sumElems(edges)[0], cv2.norm(edges, cv2.NORM_L2SQR))


def edge_frequency(grey: NDArray[np.uint8]) -> float:
    """How fast grey, (h, w) uint8, changes along its edges' least sharp direction: the mean square of the second
    derivative by that of the first, the mean square of the frequency there, in radians by pixel. A blurred picture has
    0.3, a photograph as it should be 2. 0 where there is no edge at all.

    Both derivatives are steered to any direction (Freeman and Adelson, The design and use of steerable filters, IEEE
    TPAMI 13 (9), 1991), and the lowest of _DIRECTIONS counts, as motion blurs in one only; the ratio does not depend on
    contrast. Only the cells with the strongest corners are asked, those of _CORNER_SHARE, so that a sharp object before
    a blurred background is sharp; a corner is what changes in each direction (Shi and Tomasi, Good features to track,
    CVPR 1994)."""
    if min(grey.shape) < 3:
        return 0.0
    f = np.asarray(grey, np.float32)
    x = cv2.subtract(f[1:-1, 2:], f[1:-1, :-2])  # twice the first derivative
    y = cv2.subtract(f[2:, 1:-1], f[:-2, 1:-1])
    means = [_cell_means(cv2.multiply(a, b), _CELL).ravel() for a, b in ((x, x), (x, y), (y, y))]
    first = _FIRST @ np.array(means) / 4
    corners = first.min(axis=0)
    count = max(1, round(_CORNER_SHARE * corners.size))
    chosen = np.argpartition(corners, corners.size - count)[-count:]
    high, wide = (min(_CELL, side - 2) for side in f.shape)
    down, right = np.divmod(chosen, max(1, (f.shape[1] - 2) // _CELL))
    # The chosen cells alone, with one pixel around each.
    cells = sliding_window_view(f, (high + 2, wide + 2))[down * _CELL, right * _CELL]
    twice = 2 * cells[:, 1:-1, 1:-1]
    xx = cells[:, 1:-1, 2:] + cells[:, 1:-1, :-2] - twice
    yy = cells[:, 2:, 1:-1] + cells[:, :-2, 1:-1] - twice
    xy = cells[:, 2:, 2:] - cells[:, :-2, 2:] - cells[:, 2:, :-2] + cells[:, :-2, :-2]  # four times the mixed one
    products = [(a * b).mean(axis=(1, 2), dtype=np.float64) for a, b in combinations_with_replacement((xx, xy, yy), 2)]
    second = _SECOND @ np.array(products)
    return float((second.sum(axis=1) / (first[:, chosen].sum(axis=1) + 1e-2)).min())


def _cell_means(values: "cv2.typing.MatLike", side: int) -> NDArray[np.float64]:
    """Means of cells of about side x side, those at the end left out where they are cut. values: (h, w) float32."""
    height, width = values.shape
    rows, columns = max(1, height // side), max(1, width // side)
    whole = values[: max(rows * side, min(height, side)), : max(columns * side, min(width, side))]
    return np.asarray(cv2.resize(whole, (columns, rows), interpolation=cv2.INTER_AREA), np.float64)


def noise(grey: NDArray[np.uint8]) -> float:
    """Standard deviation of the noise in grey, (h, w) uint8, in grey levels.

    The mask of Immerkær, Fast noise variance estimation, Computer Vision and Image Understanding 64 (2), 1996, in each
    cell at the size as it is and at half of it. Of white noise, half the size keeps a quarter of the variance; of the
    picture's own detail there is about twice as much. So the finer less half of the coarser is 7/8 of the noise alone.
    The cells at _NOISE_SHARE of all count. 0 where the picture is too small to tell."""
    height, width = (side // _CELL * _CELL for side in grey.shape)
    if height * width < FEWEST_CELLS * _CELL**2:
        return 0.0
    whole = grey[:height, :width]
    half = cv2.resize(whole, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    found = np.maximum(_fine_energy(whole, _CELL) - _fine_energy(half, _CELL // 2) / 2, 0).ravel() * 8 / 7
    return math.sqrt(float(np.partition(found, int(_NOISE_SHARE * found.size))[int(_NOISE_SHARE * found.size)]))


def _fine_energy(grey: "cv2.typing.MatLike", side: int) -> NDArray[np.float64]:
    """Mean square of the second difference in both directions in each cell; white noise gives its variance."""
    fine = cv2.sepFilter2D(grey, cv2.CV_16S, _SECOND_DIFFERENCE, _SECOND_DIFFERENCE)
    return _cell_means(cv2.multiply(fine, fine, dtype=cv2.CV_32F), side) / 36


def blockiness(grey: NDArray[np.uint8], block: int) -> float:
    """How much higher the steps on the grid of a JPEG's blocks are than beside it: the mean step from pixel to pixel at
    the strongest place within a block, by the middle of those at the others, as a mean of both directions. 0 where the
    picture is too small, or scaled too much, to have a grid.

    grey: (h, w) uint8. block: pixels of a block's side. After Wang, Sheikh and Bovik, No-reference perceptual quality
    assessment of JPEG compressed images, ICIP 2002; any offset of the grid is found, for pictures that were cropped."""
    if block < 3 or min(grey.shape) < FEWEST_BLOCKS * block:
        return 0.0
    ratios = []
    for one, other, axis in ((grey[:, 1:], grey[:, :-1], 0), (grey[1:], grey[:-1], 1)):
        steps = np.minimum(np.asarray(cv2.absdiff(one, other), np.uint8), _EDGE_LIMIT)
        sums = cv2.reduce(steps, axis, cv2.REDUCE_SUM, dtype=cv2.CV_32S).ravel()
        means = sums[: sums.size // block * block].reshape(-1, block).mean(axis=0) / steps.shape[axis]
        ordered = np.sort(means)
        ratios.append(float(ordered[-1] / (ordered[(block - 1) // 2] + _CALM)))
    return sum(ratios) / 2


def _flat_share(grey: NDArray[np.uint8]) -> float:
    """grey: (h, w) uint8."""
    window = np.ones((5, 5), np.uint8)
    varies = cv2.subtract(cv2.dilate(grey, window), cv2.erode(grey, window))
    return float(np.count_nonzero(np.asarray(varies) <= FLAT_RANGE)) / grey.size


def middle(grey: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """At most side x side pixels from the middle."""
    top, left = (max(0, (length - side) // 2) for length in grey.shape)
    return grey[top : top + side, left : left + side]


def _colourfulness(pixels: NDArray[np.uint8], channels: "Sequence[cv2.typing.MatLike]") -> float:
    """pixels: (h, w, 3) uint8; channels: the same, split. From whole sums, so that grey gives 0 and not a rounding
    error."""
    red, green, blue = channels
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
