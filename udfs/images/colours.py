"""How light and colours moved between two pictures that lie over one another."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from udfs.images.looks import Look
from udfs.images.registration import FAINT_DETAIL, Laid, laid_over
from udfs.images.relation_names import BRIGHTNESS, GREY, RECOLOURED

# Units of a*, b* in 8 bits that no light explains, and in what share of the area: of plain pictures, and of others.
_RECOLOURED = ((35.0, 0.015), (40.0, 0.05))
_CAST = 24.0  # units of a*, b*, that light may add
_GREY = 0.25  # of its colours that are left
_COLOURED = 6.0  # units of a*, b*, mean: less are no colours to be lost
_TONE = (0.06, 5.0)  # of gain; levels of L*, a*, b* in 8 bits: beyond is brightness, and so is
_COLOUR_TONE = 0.25  # more colour
_LIGHT = ((0.6, 1.6), 50.0)  # gain and levels of L* between a picture and the same in grey


@dataclass(frozen=True)
class Colours:
    """How light and colours moved from the second to the first, where both are. gain, offset: of L*. spreads: of a*,
    b*, of the first and of the second. cast: what was added to a*, b*. left: (places,) units of a*, b* that this does
    not explain."""

    gain: float
    offset: float
    spreads: tuple[float, float]
    cast: float
    left: NDArray[np.float64]

    @classmethod
    def of(cls, one: Look, two: Look, laid: Laid, differs: NDArray[np.bool_], plain: bool) -> Colours:
        there = two.colours
        size = there.shape[:2]
        pixels = laid_over(one.pixels, laid.way, laid.move)
        small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        here = np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2LAB), np.float32)
        near = cv2.dilate(differs.astype(np.uint8), np.ones((9, 9), np.uint8))
        like = laid.over * (near == 0) * ((laid.correlation > 0) | (laid.most < FAINT_DETAIL))
        both = np.asarray(cv2.resize(like.astype(np.float32), size, interpolation=cv2.INTER_AREA)) > 0.6
        if int(both.sum()) < 40:
            return cls(1.0, 0.0, (0.0, 0.0), 0.0, np.zeros(1))
        a, b = here[both].astype(np.float64), there[both].astype(np.float64)
        gain, offset = _line(b[:, 0], a[:, 0])
        u, v = a[:, 1:] - 128, b[:, 1:] - 128
        middles = np.median(np.hstack([u, v]), axis=0)
        cast = float(np.abs(middles[:2] - middles[2:]).max())
        x, y = u - middles[:2], v - middles[2:]
        left = np.minimum(_unexplained(y, x), _unexplained(x, y))
        spreads = [float(np.abs(side).sum(axis=1).mean()) for side in (x, y)]
        return cls(gain, offset, (spreads[0], spreads[1]), cast, np.abs(u - v).sum(axis=1) if plain else left)

    def names(self, plain: bool) -> set[str]:
        """plain: whether one colour covers much of them: then what is of another colour is another thing."""
        most, share = _RECOLOURED[0 if plain else 1]
        if float((self.left > most).mean()) > share or self.cast > _CAST:
            grey_cast = min(self.spreads) < _GREY * max(self.spreads) and not plain
            return {GREY} if grey_cast and self.cast <= 2 * _CAST else {RECOLOURED}
        middle = 128 * (self.gain - 1) + self.offset
        least, widest = sorted(self.spreads)
        if widest > _COLOURED and least < _GREY * widest:
            (low, high), step = _LIGHT
            lit = low < self.gain < high and abs(middle) < step
            return {GREY} if lit and not plain else {RECOLOURED}
        toned = widest > _COLOURED and widest > (1 + _COLOUR_TONE) * least
        moved = abs(self.gain - 1) > _TONE[0] or abs(middle) > _TONE[1] or self.cast > _TONE[1]
        return {BRIGHTNESS} if moved or toned else set()


def _unexplained(given: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """What is left of wanted without one factor of given, (n,). Both: (n, 2) less their medians."""
    factor = float(np.clip((given * wanted).sum() / ((given * given).sum() + 1.0 * len(given)), 0.0, 3.0))
    return np.asarray(np.abs(wanted - factor * given).sum(axis=1), np.float64)


def _line(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float]:
    """The gain and the offset of the line through points, by least squares that both sides share alike."""
    of_x, of_y = x.mean(), y.mean()
    spread_x, spread_y = float(np.std(x)), float(np.std(y))
    gain = spread_y / spread_x if spread_x > 1.0 and spread_y > 1.0 else 1.0
    return gain, float(of_y - gain * of_x)
