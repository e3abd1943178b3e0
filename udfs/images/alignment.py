"""Whether two pictures are one picture after an edit: in how much of the one lies the same detail as in the other.

The second witness of near-duplicates. An embedding sees what is shown; this sees where the edges lie. Light and shade,
and frames that many pictures share, count little: each place counts alike, however strong its edges are."""

from __future__ import annotations

import math
from itertools import islice

import cv2
import numpy as np
from numpy.typing import NDArray

from udfs.images.starts import SIDE, UPRIGHT, Grey, Move, Sketch, Thumbnail, even, starts

_STOP = (
    cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT,
    15,
    5e-3,
)  # 25 and 1e-3 told no more apart and cost a quarter more
_SMOOTHING = 3  # pixels of the Gaussian that both are smoothed with
_ZOOM = (0.6, 1.6)  # a fit beyond this is no edit but a coincidence
_TURN = 15.0  # degrees, likewise
_OVERLAP = 0.5  # of the picture that must lie over the other
_SURE = 0.95  # of the fit: from here on no better one is looked for
_SEARCHES = 2  # from so many of the best starts; 4 found 1 in 1,000 edits more
_BACK = cv2.WARP_INVERSE_MAP  # a move maps the pixels of the fixed picture to those of the moved one
_ENOUGH = 0.8  # of common detail: from here on no move is looked for, most edits move nothing
_FINER = (3, 1)  # pixels, as _SMOOTHING, of two further searches from the best move on
_FINER_STOP = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 10, 1e-3)
_WINDOW = 1.0  # pixels, deviation of the Gaussian window that is compared; 1.5 let drawings of one layout through
_LEAST_DETAIL = 0.2  # share of the area: photographs have 0.8 and more, drawn pages 0.3, walls in even light 0.1
_ROUNDING = 1 / 12  # square grey levels: the variance of what rounding adds to a thumbnail

cv2.setNumThreads(1)  # an engine runs one worker a core, and on so few pixels a second thread only doubles the CPU time


def thumbnail(pixels: NDArray[np.uint8]) -> Thumbnail:
    """pixels: (h, w, 3) uint8 RGB. Returns (SIDE, SIDE) uint8 grey of the whole picture, its aspect ratio ignored."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)


def alignment(left: Sketch, right: Sketch) -> float:
    """In how much of two pictures the detail is the same after the best affine move, mirrored or not, turned by any
    quarter or not.

    From 0.8 on no better move is looked for. Returns 0..1: near 1 for the same picture brightened, cropped, turned or
    mirrored, less where a text covers a part of it, below 0.3 for most pictures that are not the same, 0 where one of
    them has next to no detail, so that there is nothing to compare; the same for (right, left).

    Moves are found by the enhanced correlation coefficient, Evangelidis & Psarakis, PAMI 2008."""
    if left.grey.tobytes() > right.grey.tobytes():  # the search is not symmetric, the answer has to be
        left, right = right, left
    return best_move(left, right)[0]


def best_move(moved: Sketch, fixed: Sketch, is_last: bool = True) -> tuple[float, int, Move]:
    """The common detail of two pictures after the best move of the one onto the other that was found; and the move:
    which way of `symmetry`, and the affine map (2, 3) float32 from pixels of fixed to those of moved after that.

    is_last: whether nobody refines it."""
    still = np.eye(2, 3, dtype=np.float32)
    grey = fixed.grey.astype(np.float32)
    if min(map(_detailed, (moved.grey.astype(np.float32), grey))) < _LEAST_DETAIL:
        return 0.0, 0, still
    best, place = max((_as_they_are(grey, way), -number) for number, way in enumerate(moved.ways[:UPRIGHT]))
    as_is = best, -place, still  # a text misleads the search
    if best >= _ENOUGH:
        return as_is
    fit, found = 0.0, as_is
    for way, start in islice(starts(moved, fixed), _SEARCHES):
        value, move = _fit(moved.ways[way], fixed.grey, start)
        if move is not None and value > fit:
            fit, found = value, (0.0, way, move)
        if fit > _SURE:
            break
    return max(as_is, _after(found, moved.ways, grey, is_last), key=_detail) if fit else as_is


def _detail(found: tuple[float, int, Move]) -> float:
    return found[0]


def _as_they_are(fixed: Grey, picture: Thumbnail) -> float:
    return common_detail(picture.astype(np.float32), fixed, np.ones((SIDE, SIDE), np.float32))


def _after(found: tuple[float, int, Move], ways: list[Thumbnail], fixed: Grey, finer: bool) -> tuple[float, int, Move]:
    """The common detail after the move, or, if asked for, after a finer one, or after its way alone, where that is
    better: where there is little detail, a search leaves what lies right."""
    _, way, move = found
    grey = ways[way].astype(np.float32)
    moves = (move, _finer(grey, fixed, move)) if finer else (move,)
    moved = [(_detail_after(to, grey, fixed), way, to) for to in moves]
    if way >= UPRIGHT:
        moved.append((_as_they_are(fixed, ways[way]), way, np.eye(2, 3, dtype=np.float32)))
    return max(moved, key=_detail)


def _detailed(grey: Grey) -> float:
    """The share of a picture in which there is more than rounding adds: 0..1."""
    detail = grey - cv2.GaussianBlur(grey, (0, 0), _WINDOW)
    variance = cv2.GaussianBlur(detail * detail, (0, 0), _WINDOW)
    return float((variance / (variance + _ROUNDING)).mean())


def _detail_after(move: NDArray[np.float32], moved: Grey, fixed: Grey) -> float:
    laid = cv2.warpAffine(moved, move, (SIDE, SIDE), flags=_BACK | cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    inside = cv2.erode(_over(move), np.ones((3, 3))).astype(np.float32)  # its border is half invented
    return common_detail(np.asarray(laid, np.float32), fixed, inside)


def common_detail(one: Grey, other: Grey, over: Grey) -> float:
    """The mean local correlation of two pictures that lie over one another, over all places where either has detail.

    one, other: (SIDE, SIDE) float32 grey levels. over: (SIDE, SIDE), 1 where both are, else 0. What covers a part
    counts for the area that it covers and no more, as it would not in a correlation of the whole. Returns 0..1."""

    def local(values: Grey) -> Grey:
        return np.asarray(cv2.GaussianBlur(values * over, (0, 0), _WINDOW) / share, np.float32)

    share = cv2.GaussianBlur(over, (0, 0), _WINDOW) + 1e-6
    one, other = one - local(one), other - local(other)
    of_one, of_other = local(one * one), local(other * other)
    correlation = local(one * other) / np.sqrt((of_one + _ROUNDING) * (of_other + _ROUNDING))
    most = np.maximum(of_one, of_other)
    counts = over * most / (most + _ROUNDING)
    return float(min(1.0, max(0.0, (counts * correlation).sum() / (counts.sum() + 1e-6))))


def _fit(moved: Thumbnail, fixed: Thumbnail, start: Move) -> tuple[float, Move | None]:
    try:
        found, move = cv2.findTransformECC(fixed, moved, start, cv2.MOTION_AFFINE, _STOP, None, _SMOOTHING)  # type: ignore[call-overload]
    except cv2.error:  # it does not converge, or one of them is flat
        return 0.0, None
    return (float(found), move) if _plausible(move) else (0.0, None)


def _finer(moved: Grey, fixed: Grey, move: NDArray[np.float32]) -> NDArray[np.float32]:
    """The move where contrast is the same everywhere: what was written over one draws it aside no more."""
    both = (even(fixed), even(moved))
    for smoothing in _FINER:
        try:
            _, better = cv2.findTransformECC(*both, move.copy(), cv2.MOTION_AFFINE, _FINER_STOP, None, smoothing)  # type: ignore[call-overload]
        except cv2.error:
            break
        if _plausible(better):
            move = better
    return move


def _plausible(move: Move) -> bool:
    """Whether it could be an edit: little zoom, shear and turn, and most of the picture stays."""
    least, most, turn = shape(move)
    if least < _ZOOM[0] or most > _ZOOM[1] or abs(turn) > _TURN:
        return False
    return bool(np.count_nonzero(_over(move)) >= _OVERLAP * SIDE * SIDE)


def shape(move: Move) -> tuple[float, float, float]:
    """The least and the most zoom of a move in any direction, and its turn in degrees; a least zoom of 0 where it
    mirrors. move: (2, 3)."""
    (a, b), (c, d) = move[:, :2].tolist()
    # Of 2 x 2 numbers the singular values are the sum and the difference of these: no call of LAPACK, a tenth the time.
    of_turns, of_mirrorings = math.hypot(a + d, c - b) / 2, math.hypot(a - d, c + b) / 2
    turn = math.degrees(math.atan2(c - b, a + d))
    return max(0.0, of_turns - of_mirrorings), of_turns + of_mirrorings, turn


def _over(move: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(SIDE, SIDE), not 0 where the moved picture lies over the other."""
    whole = np.ones((SIDE, SIDE), np.uint8)
    over = cv2.warpAffine(whole, move, (SIDE, SIDE), flags=_BACK | cv2.INTER_NEAREST)
    return np.asarray(over, np.uint8)
