"""BRISQUE, a technical quality score of one picture without a reference: Mittal, Moorthy and Bovik, No-reference image
quality assessment in the spatial domain, IEEE Transactions on Image Processing 21 (12), 2012.

The regression is that of the package `brisque` 0.2.0 (Apache-2.0), learnt on the LIVE database of human opinions. Its
numbers lie in brisque.npz: the package itself needs a C++ compiler, fails with numpy 2.4, and takes 30 ms for 224 x 224
pixels. The features are the package's, computed by OpenCV in single precision."""

import io
import math
from functools import cache
from importlib import resources

import cv2
import numpy as np
from numpy.typing import NDArray

WORST = 100.0
_SIDE = 7  # of the Gaussian window, whose standard deviation is 7/6
_SOFTEN = 1 / 255  # keeps flat regions from being divided by nothing
_SHAPES = np.arange(0.05, 10.0, 0.001)  # of a generalised Gaussian distribution
_SMALLEST = 64  # pixels of a side: the model knows photographs of 500, and calls all icons bad

Floats = NDArray[np.float32]


def brisque(grey: NDArray[np.uint8]) -> float:
    """grey: (h, w) uint8. Returns 0, as good as a photograph can be, to WORST. 0 as well where the model does not apply
    and finds no fault: a picture that is flat, or of fewer than _SMALLEST pixels on a side."""
    if min(grey.shape) < _SMALLEST or grey.min() == grey.max():
        return 0.0
    found = _features(np.ascontiguousarray(grey, np.float32) / np.float32(255))
    if found is None:
        return 0.0
    model = _model()
    scaled = -1 + 2 * (found - model["low"]) / (model["high"] - model["low"])
    distances = model["lengths"] - 2 * (model["vectors"] @ scaled) + scaled @ scaled
    score = float(model["weights"] @ np.exp(-model["gamma"] * distances) - model["rho"])
    return min(WORST, max(0.0, score))


@cache
def _model() -> dict[str, NDArray[np.float64]]:
    """A support vector regression with a radial kernel. low, high: (36,) the range of each feature. vectors: (770, 36),
    weights: (770,), gamma, rho: (). lengths: (770,) of the vectors, squared."""
    data = resources.files("udfs.images").joinpath("brisque.npz").read_bytes()
    with np.load(io.BytesIO(data), allow_pickle=False) as stored:
        model = {name: np.asarray(stored[name], np.float64) for name in stored.files}
    return {**model, "lengths": (model["vectors"] ** 2).sum(axis=1)}


def _features(grey: Floats) -> NDArray[np.float64] | None:
    """(36,) of grey, (h, w) in 0..1, at its size and at half of it; None where there is nothing to fit."""
    half = np.asarray(cv2.resize(grey, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_CUBIC), np.float32)
    parts = [part for scale in (grey, half) for part in _of_one_scale(scale)]
    return np.concatenate(parts) if all(len(part) for part in parts) else None


def _of_one_scale(grey: Floats) -> list[NDArray[np.float64]]:
    """Fits of the locally normalised picture and of its products with itself, moved by one pixel in four directions."""
    x = _normalised(grey)
    moved = ((x[:, :-1], x[:, 1:]), (x[:-1], x[1:]), (x[:-1, :-1], x[1:, 1:]), (x[1:, :-1], x[:-1, 1:]))
    products = (np.asarray(cv2.multiply(one, other), np.float32) for one, other in moved)
    alpha, _, left, right = _fit(x) or (0.0,) * 4
    plain = np.array([alpha, (left + right) / 2] if alpha else [])
    return [plain, *(np.array(_fit(product) or ()) for product in products)]


def _normalised(grey: Floats) -> Floats:
    """Mean subtracted, contrast normalised coefficients: (grey - local mean) / (local deviation + a little)."""
    window = cv2.getGaussianKernel(_SIDE, 7 / 6, cv2.CV_32F)
    # Zeros beyond the border, as scipy's convolve2d(mode="same") has them in the package.
    mean = cv2.sepFilter2D(grey, cv2.CV_32F, window, window, borderType=cv2.BORDER_CONSTANT)
    squares = cv2.sepFilter2D(cv2.multiply(grey, grey), cv2.CV_32F, window, window, borderType=cv2.BORDER_CONSTANT)
    deviation = np.asarray(cv2.sqrt(cv2.absdiff(squares, cv2.multiply(mean, mean))), np.float32)
    deviation += np.float32(_SOFTEN)
    return np.asarray(cv2.subtract(grey, mean), np.float32) / deviation


def _fit(x: Floats) -> tuple[float, float, float, float] | None:
    """An asymmetric generalised Gaussian by its moments (Lasmar, Stitou and Berthoumieu, ICIP 2009): shape, mean, and
    the mean squares left and right of 0. None where one side has no values."""
    below = cv2.threshold(x, 0, 0, cv2.THRESH_TOZERO_INV)[1]
    values, values_below = x.ravel(), np.asarray(below, np.float32).ravel()
    squares, squares_below = float(values @ values), float(values_below @ values_below)
    total = cv2.norm(x, cv2.NORM_L1)
    count, count_below = x.size, cv2.countNonZero(below)
    if not 0 < count_below < count or squares_below <= 0 or squares <= squares_below:
        return None
    left, right = squares_below / count_below, (squares - squares_below) / (count - count_below)
    gamma = math.sqrt(left / right)
    wanted = (total / count) ** 2 / (squares / count) * (gamma**3 + 1) * (gamma + 1) / (gamma**2 + 1) ** 2
    curve, constants, ratios = _tables()
    at = min(int(np.searchsorted(curve, wanted)), len(curve) - 1)
    mean = (math.sqrt(right) - math.sqrt(left)) * float(constants[at] * ratios[at])
    return float(_SHAPES[at]), mean, left, right


@cache
def _tables() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Of each of _SHAPES: Γ(2/a)² / (Γ(1/a) Γ(3/a)), which rises; √(Γ(1/a) / Γ(3/a)); Γ(2/a) / Γ(1/a)."""
    # Not scipy's gammaln, whose import takes longer than a hundred images.
    one, two, three = (np.array([math.lgamma(k / shape) for shape in _SHAPES]) for k in (1, 2, 3))
    return np.exp(2 * two - one - three), np.exp((one - three) / 2), np.exp(two - one)
