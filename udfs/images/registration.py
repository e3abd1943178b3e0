"""Registration: the move that lays one look over another, and how much of their detail then agrees, place by place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from udfs.images.alignment import best_move, shape
from udfs.images.looks import SIDE, Look
from udfs.images.starts import SIDE as SMALL
from udfs.images.starts import Move, symmetry

Grey = NDArray[np.float32]

FAINT_DETAIL = 12.0  # square grey levels: less is noise of the look
_HALF = SIDE // 2  # pixels each way, at which moves are looked for
_WINDOW = {_HALF: 5, SIDE: 7}  # pixels of the square in which detail is compared
_EDGE = {_HALF: 3, SIDE: 5}  # pixels, likewise, that no side comes nearer to
_NOISE = 16.0  # square grey levels: variance that the JPEG of a look adds
_FAINT = 100.0  # square grey levels: the variance that counts half
_GOOD = 0.75  # score at _HALF from which no move is looked for
_POOR = 0.4  # score at _HALF below which corners are matched
_FAIR = 0.6  # score at _HALF from which no other start is tried
_HOPELESS = 0.15  # score at _HALF below which no search begins
_REFINED = 2  # of the starts, the best ones
_CORNERS = 10  # that must lie over one another
_STOP = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 8, 1e-3)
_ZOOM = 2.6  # more, or less than one by it, is no edit
_TURN = 15.0  # degrees, likewise
_EVEN = 9  # pixels of the square in which contrast is made even
_BACK = cv2.WARP_INVERSE_MAP  # a move maps the pixels of the fixed picture to those of the moved one


@dataclass(frozen=True)
class Laid:
    """One look laid over another. way, move: of alignment.best_move, at SIDE pixels. correlation: (SIDE, SIDE) float32,
    -1..1, of the detail around each place. of_moved, of_fixed: likewise, variance of detail, square grey levels. over:
    likewise, 1 where both are, else 0. detail: of moved and of fixed, grey levels above the mean around each place."""

    way: int
    move: Move
    correlation: Grey
    of_moved: Grey
    of_fixed: Grey
    over: Grey
    detail: tuple[Grey, Grey]

    def residual(self) -> Grey:
        """What of the detail of moved is not that of fixed, in grey levels, as means of 3 x 3 pixels: not negative."""
        moved, fixed = self.detail
        gain = float(np.sqrt((self.of_moved * self.over).sum() / max((self.of_fixed * self.over).sum(), 1.0)))
        return np.asarray(np.abs(cv2.blur((moved - min(max(gain, 0.25), 4.0) * fixed) * self.over, (3, 3))), np.float32)

    def within(self, places: NDArray[np.bool_]) -> Laid:
        """The same where places (SIDE, SIDE) hold."""
        return replace(self, over=self.over * places)

    @cached_property
    def most(self) -> Grey:
        """The variance of whichever has more."""
        return np.asarray(np.maximum(self.of_moved, self.of_fixed), np.float32)

    @cached_property
    def score(self) -> float:
        """The mean correlation, -1..1, where either has detail; 0 where there is none."""
        weights = self.over * self.most / (self.most + _FAINT)
        return float((weights * self.correlation).sum() / (weights.sum() + 1.0))


def lay(moved: Look, fixed: Look) -> Laid:
    """moved laid over fixed as well as it can be: as it is, turned by quarters, mirrored, cropped, scaled, turned a
    little, or with one of them inside the border of the other.

    Moves are refined by the enhanced correlation coefficient, Evangelidis & Psarakis, PAMI 2008; where the search on
    small pictures finds none, corners are matched: ORB, Rublee et al., ICCV 2011, with RANSAC."""
    still = np.eye(2, 3, dtype=np.float32)
    halves = _Halves(_halved(moved.grey), _halved(fixed.grey))
    best = halves.measured(0, still)
    if best.score < _GOOD:
        _, way, small = best_move(moved.sketch, fixed.sketch, is_last=False)
        starts = [(way, scaled(small, _HALF / SMALL)), *_boxes(moved, fixed, sorted({0, way}))]
        if way and not _is_still(small):
            starts.append((way, still))
        best = halves.best([best, *(halves.measured(*start) for start in starts)])
        if best.score < _POOR:
            for number, move in _by_corners(moved, fixed):
                best = max(best, halves.best([halves.measured(number, scaled(move, 0.5))]), key=_score)
                if best.score >= _POOR:
                    break
    picture = symmetry(moved.grey, best.way)
    return _measured(picture, fixed.grey, best.way, scaled(best.move, SIDE / _HALF))


def finer(moved: Look, fixed: Look, laid: Laid) -> Laid:
    """The same after a search from there, if that lays it better: a page scanned twice lies a little askew."""
    picture = symmetry(moved.grey, laid.way)
    move = _refined(picture, fixed.grey, laid.move, 5)
    return laid if move is None else max(laid, _measured(picture, fixed.grey, laid.way, move), key=_score)


@dataclass(frozen=True)
class _Halves:
    """Two pictures of _HALF x _HALF pixels."""

    moved: NDArray[np.uint8]
    fixed: NDArray[np.uint8]

    def measured(self, way: int, move: Move) -> Laid:
        return _measured(symmetry(self.moved, way), self.fixed, way, move)

    def best(self, starts: list[Laid]) -> Laid:
        """The best of all starts and of what a search from the best of them finds; from others where that is poor."""
        best = max(starts, key=_score)
        for start in sorted(starts, key=_score)[::-1][:_REFINED]:
            if start.score < _HOPELESS:
                break
            finer = _refined(symmetry(self.moved, start.way), self.fixed, start.move, 3)
            if finer is not None:
                best = max(best, self.measured(start.way, finer), key=_score)
            if best.score >= _FAIR:
                break
        return best


def _score(laid: Laid) -> float:
    return laid.score


def _is_still(move: Move) -> bool:
    return bool(np.array_equal(move, np.eye(2, 3, dtype=np.float32)))


def furthest(move: Move) -> float:
    """How far it moves the corner that it moves most, in pixels of SIDE x SIDE."""
    corners = np.array([[x, y, 1.0] for x in (0, SIDE - 1) for y in (0, SIDE - 1)])
    return float(np.abs(corners @ move.astype(np.float64).T - corners[:, :2]).max())


def _by_corners(moved: Look, fixed: Look) -> Iterator[tuple[int, Move]]:
    """For both upright ways the move at SIDE pixels that lays most corners of the one on such of the other; none where
    these are too few."""
    matcher = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True)
    of_fixed, signs = fixed.corners(0)
    for way in (0, 1):
        corners, own = moved.corners(way)
        if min(len(corners), len(of_fixed)) < _CORNERS:
            return
        matches = matcher.match(signs, own)
        if len(matches) < _CORNERS:
            continue
        there = of_fixed[[match.queryIdx for match in matches]]
        here = corners[[match.trainIdx for match in matches]]
        cv2.setRNGSeed(0)
        similarity, inliers = cv2.estimateAffinePartial2D(there, here, method=cv2.RANSAC, ransacReprojThreshold=2.0)
        if similarity is None or int(inliers.sum()) < _CORNERS:
            continue
        (wide, high), (to_wide, to_high) = moved.shape, fixed.shape
        linear = similarity[:, :2] * np.array([[to_wide / wide, to_high / wide], [to_wide / high, to_high / high]])
        shift = (similarity[:, 2] + 0.5 - similarity[:, :2] @ [0.5, 0.5]) * SIDE / np.array([wide, high])
        shift = shift + linear @ [0.5, 0.5] - 0.5
        move = np.column_stack([linear, shift]).astype(np.float32)
        if _is_edit(move):
            yield way, move


def scaled(move: Move, factor: float) -> Move:
    """The move for pictures of so many times the pixels each way. (2, 3) float32."""
    linear = move[:, :2]
    shift = factor * move[:, 2] + (factor - 1) / 2 * (1 - linear.sum(axis=1))
    return np.column_stack([linear, shift]).astype(np.float32)


def laid_over(picture: NDArray[np.uint8], way: int, move: Move, beyond: int | None = None) -> NDArray[np.uint8]:
    """A picture of SIDE x SIDE after way and move. beyond: what lies beyond its sides; without it, what is on them."""
    how = cv2.BORDER_REPLICATE if beyond is None else cv2.BORDER_CONSTANT
    moved, flags = symmetry(picture, way), _BACK | cv2.INTER_LINEAR
    fill = float(beyond or 0)
    return np.asarray(
        cv2.warpAffine(moved, move, (SIDE, SIDE), flags=flags, borderMode=how, borderValue=fill), np.uint8
    )


def _halved(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(grey, (_HALF, _HALF), interpolation=cv2.INTER_AREA), np.uint8)


def _boxes(moved: Look, fixed: Look, ways: list[int]) -> list[tuple[int, Move]]:
    """Moves at _HALF pixels that lay what is inside the borders of the one on what is inside those of the other."""
    whole = (0, SIDE, 0, SIDE)
    if moved.inside == whole and fixed.inside == whole:
        return []
    found = []
    for way in ways:
        mask = np.zeros((SIDE, SIDE), np.uint8)
        top, bottom, left, right = moved.inside
        mask[top:bottom, left:right] = 1
        rows, columns = np.nonzero(symmetry(mask, way))
        of_moved = int(rows[0]), int(rows[-1]) + 1, int(columns.min()), int(columns.max()) + 1
        zooms, shifts = [], []
        for axis in (2, 0):  # x, then y
            low, high = of_moved[axis : axis + 2]
            to_low, to_high = fixed.inside[axis : axis + 2]
            zoom = (high - low) / (to_high - to_low)
            zooms.append(zoom)
            shifts.append(low - 0.5 - zoom * (to_low - 0.5))
        move = np.array([[zooms[0], 0, shifts[0]], [0, zooms[1], shifts[1]]], np.float32)
        found.append((way, scaled(move, _HALF / SIDE)))
    return found


def _measured(moved: NDArray[np.uint8], fixed: NDArray[np.uint8], way: int, move: Move) -> Laid:
    side = len(fixed)
    over, one = np.ones((side, side), np.float32), moved.astype(np.float32)
    if not _is_still(move):
        over = np.asarray(cv2.warpAffine(over, move, (side, side), flags=_BACK | cv2.INTER_NEAREST), np.float32)
        # No move is exact: along the sides of the one may lie what is beyond those of the other.
        edge = np.ones((_EDGE[side], _EDGE[side]), np.uint8)
        over = np.asarray(cv2.erode(over, edge, borderType=cv2.BORDER_CONSTANT, borderValue=0.0), np.float32)
        how = _BACK | cv2.INTER_LINEAR
        laid = cv2.warpAffine(moved, move, (side, side), flags=how, borderMode=cv2.BORDER_REPLICATE)
        one = np.asarray(laid, np.float32)
    return _compared(one, fixed.astype(np.float32), over, way, move)


def _compared(one: Grey, other: Grey, over: Grey, way: int, move: Move) -> Laid:
    window = (_WINDOW[len(over)],) * 2
    share = cv2.blur(over, window) + 1e-3

    def local(values: Grey) -> Grey:
        return np.asarray(cv2.blur(values * over, window) / share, np.float32)

    one, other = one - local(one), other - local(other)
    of_one, of_other = local(one * one), local(other * other)
    correlation = local(one * other) / np.sqrt((of_one + _NOISE) * (of_other + _NOISE))
    return Laid(way, move, np.asarray(correlation, np.float32), of_one, of_other, over, (one, other))


def _refined(moved: NDArray[np.uint8], fixed: NDArray[np.uint8], move: Move, smoothing: int) -> Move | None:
    try:
        _, better = cv2.findTransformECC(  # type: ignore[call-overload]
            _even(fixed), _even(moved), move.copy(), cv2.MOTION_AFFINE, _STOP, None, smoothing
        )
    except cv2.error:
        return None
    return np.asarray(better, np.float32) if _is_edit(better) else None


def _is_edit(move: Move) -> bool:
    least, most, turn = shape(move)
    return least > 1 / _ZOOM and most < _ZOOM and abs(turn) <= _TURN


def _even(grey: NDArray[np.uint8]) -> Grey:
    """Detail, of the same contrast everywhere: what was written over a picture draws a move aside no more."""
    values = grey.astype(np.float32)
    window = (_EVEN, _EVEN)
    detail = values - cv2.blur(values, window)
    return np.asarray(detail / np.sqrt(cv2.blur(detail * detail, window) + _NOISE), np.float32)
