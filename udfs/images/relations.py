"""Relations: how one picture differs from another that it may be a copy of, told by their looks.

The limits were found on edits of photographs and of drawn pages, and on pictures that only share a template:
docs/copies.md says which, and tests.bench.copies measures them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from udfs.images.alignment import shape
from udfs.images.colours import Colours
from udfs.images.looks import SIDE, Look
from udfs.images.medium import most_common
from udfs.images.registration import FAINT_DETAIL, Laid, finer, furthest, laid_over, lay
from udfs.images.relation_names import (
    CROPPED,
    FRAMED,
    MIRRORED,
    OTHER_DETAIL,
    OVERLAY,
    RECOMPRESSED,
    RELATIONS,
    RESIZED,
    TURNED,
    UNLIKE,
)
from udfs.images.starts import symmetry

AGREEMENT_DECIMALS = 4
_ASKEW = 0.3  # score from which what does not quite agree is moved a little
_UNLIKE = 0.3  # score below which two pictures have nothing in common that could be compared
_GRAIN = 1.5  # times the variance of the calmest tenth
_LEAST_PLACES = 24  # pixels with detail: fewer are nothing to compare
_STRONG = 0.25  # of the variance of the strongest tenth: from here on detail counts
_DISAGREES = 0.3  # correlation below which a place disagrees, and
_DOUBTFUL = 0.7  # below which it may
_LOOSE = 0.6  # correlation below which a difference may be another stroke
_WEAK = 40.0  # square grey levels: less is too near to the noise to be compared
_PLAIN = 0.4  # share of one grey from which what stands before it is what the picture is of
_MIDDLES = np.arange(0.5, 64, dtype=np.float32) * SIDE / 64 - 0.5
_PLACES = np.meshgrid(_MIDDLES, _MIDDLES)  # x and y of 64 x 64 places of a look


@dataclass(frozen=True)
class Limits:
    """What may disagree in one picture. share: of strong detail. blob: pixels of SIDE x SIDE in one piece. doubtful:
    share of strong detail that correlates less than _DOUBTFUL. weak: the least mean correlation of weak detail. area:
    share of the area with any detail. stroke: of _stroke."""

    share: float
    blob: int
    doubtful: float
    weak: float
    area: float
    stroke: float


_OF_PHOTOGRAPHS = Limits(0.06, 70, 1.0, 0.0, 0.3, np.inf)
_OF_DRAWN = Limits(0.02, 24, 0.02, 0.5, 0.15, 0.52)
_STILL = 1.0  # pixels that a move may have and be none
_WEAK_MOVED = 0.1  # less of the correlation of weak detail there
_MOVED = 2.0  # times as much may disagree where a move, which is never exact, lies between
_ONE_SIDED = 0.6  # of -1..1: whether what disagrees is detail of one of them alone
_ONE_SIDED_ON_PLAIN = 0.9  # where what stands before a plain ground may be another thing
_SOFTER = 0.35  # of -1..1: by how much less detail one has also where both agree
_AROUND = 7  # pixels around what differs that are left out of the rest, which must agree
_MOST_COVERED = 0.45  # of the area, that an overlay may cover
_UNCOVERED = 0.5  # score of what an overlay leaves
_EDGE = 9  # pixels
_LEAST_LOST = 0.06  # of the detail of one, where the other has none
_EXTREMES = (40, 215)  # grey levels
_EXTREME_BOX = 0.45  # share of these in such a box
_SURE_REST = 0.7  # score of what such a box leaves
_PLAIN_BOX = 0.4  # share of one grey in a box that covers a part of a picture
_MOST_IN_BOX = 0.7  # of what differs
_BEYOND = 3  # pixels by which a side lies beyond
_LEAST_FRAME = 6  # pixels, of a frame at its widest
_NEAR = 4  # pixels
_STEP = 12.0  # grey levels
_INSIDE = 0.97  # share of one covered by the other below which it goes beyond it
_TURN = 1.0  # degrees
_SIZES = 0.05  # of the scale
_WORTH = 0.5  # of the pixels of the other, that the better one must have


@dataclass(frozen=True)
class Comparison:
    """How picture one differs from picture two. relations: of RELATIONS, in their order. score: mean correlation of
    detail, -1..1. disagreeing: share of strong detail. better: 1 or 2, the one to be kept whatever their sizes and
    ages, or 0. laid: the first over the second. differs: (SIDE, SIDE) bool, the places of the second that differ."""

    relations: tuple[str, ...]
    score: float
    disagreeing: float
    better: int
    laid: Laid
    differs: NDArray[np.bool_]

    @property
    def agreement(self) -> float:
        """The score as it is kept: rounded, so that it is the same wherever it is computed."""
        return min(1.0, max(-1.0, round(self.score, AGREEMENT_DECIMALS)))


def compare(one: Look, two: Look) -> Comparison:
    """How picture one differs from picture two; the same for (two, one), but for `better`."""
    if one.data > two.data:  # the search is not symmetric, the answer has to be
        found = compare_in_order(two, one)
        return found if not found.better else replace(found, better=3 - found.better)
    return compare_in_order(one, two)


def compare_in_order(one: Look, two: Look) -> Comparison:
    """compare, with the first laid over the second whatever their order."""
    laid = lay(one, two)
    plain, drawn = min(one.ground, two.ground) >= _PLAIN, one.drawn and two.drawn
    slack = 1.0 if furthest(laid.move) < _STILL else _MOVED
    detail = _Detail.of(laid, plain, drawn, slack)
    if not (detail.agrees or detail.one_sided) and laid.score > _ASKEW:
        laid = finer(one, two, laid)
        detail = _Detail.of(laid, plain, drawn, slack)
    names, better = set[str](), 0
    shared = laid
    if not detail.agrees and not drawn and (spoilt := _spoilt(one, two, laid)):
        whole, within = spoilt
        rest = _Detail.of(within, plain, drawn, slack)
        if rest.agrees:
            detail, better, shared = rest, whole, within
            names.add(OVERLAY)
    if not detail.places:
        names = {UNLIKE}
    elif detail.agrees or (detail.softer and OVERLAY not in names):
        pass
    elif detail.one_sided or (not plain and not drawn and (covering := _covering(one, two, laid, detail))):
        names.add(OVERLAY)
        better = (2 if detail.lean > 0 else 1) if detail.one_sided else covering
    elif laid.score < _UNLIKE:
        names = {UNLIKE}
    else:
        names.add(OTHER_DETAIL)
    if UNLIKE not in names:
        moved = _moved(one, two, laid)
        toned = Colours.of(one, two, shared, detail.differs, plain).names(plain)
        names |= moved | toned
        if not names:
            # Of two lossless files of one size and one look some pixels differ: on a page that is another word, too
            # small to be read.
            exact = drawn and one.lossless and two.lossless
            names.add(OTHER_DETAIL if exact else RECOMPRESSED)
        if FRAMED in moved:
            better = 1 if _covered(laid) < _used(laid) else 2
    if better and not _is_worth(one, two, laid, better):
        better = 0
    relations = tuple(name for name in RELATIONS if name in names)
    return Comparison(relations, laid.score, detail.share, better, laid, detail.differs)


@dataclass(frozen=True)
class _Detail:
    """What disagrees. share: of strong detail. lean: 1 where it is detail of the first alone, -1 of the second."""

    places: bool
    share: float
    lean: float
    agrees: bool
    one_sided: bool
    softer: bool  # one has lost detail everywhere; nothing lies over the other
    covered: float
    rest: float
    differs: NDArray[np.bool_]

    @classmethod
    def of(cls, laid: Laid, plain: bool, drawn: bool, slack: float, is_whole: bool = True) -> _Detail:
        # What is everywhere, in the calmest places too, is grain, and no detail of the picture.
        inside = laid.most[laid.over > 0]
        grain = _GRAIN * _quantile(inside[::4], 0.1) if len(inside) and not drawn else 0.0
        energy = np.maximum(laid.most - grain, 0) * laid.over
        there = energy[energy > FAINT_DETAIL]
        if len(there) < _LEAST_PLACES:
            return cls(False, 0.0, 0.0, False, False, False, 0.0, 0.0, np.zeros((SIDE, SIDE), np.bool_))
        most = _quantile(there, 0.9)
        strong = energy > most * _STRONG
        weights = np.minimum(energy, most) * strong
        total = float(weights.sum())
        differs = strong & (laid.correlation < _DISAGREES)
        share = float(weights[differs].sum()) / total
        doubtful = float(weights[laid.correlation < _DOUBTFUL].sum()) / total
        weak = (energy > _WEAK) & ~strong
        of_weak = float(laid.correlation[weak].mean()) if int(weak.sum()) > 200 else 1.0
        soft = energy / (energy + 100.0)
        limits = _OF_DRAWN if drawn else _OF_PHOTOGRAPHS
        agrees = (
            share <= limits.share * slack
            and (share <= limits.share / 6 or _largest(differs) <= limits.blob * slack)
            and doubtful <= limits.doubtful * slack
            and of_weak >= limits.weak - (0.0 if slack == 1.0 else _WEAK_MOVED)
            and (not drawn or _stroke(laid, most) <= limits.stroke * slack**0.5)
            and float(soft[laid.correlation < _DISAGREES].sum()) <= limits.area * float(soft.sum())
        )
        lean, one_sided, softer = 0.0, False, False
        if differs.any():
            sides = np.log2((laid.of_moved + 16.0) / (laid.of_fixed + 16.0)) / 2
            lean = float((weights * np.clip(sides, -1, 1))[differs].sum()) / float(weights[differs].sum())
            far = cv2.dilate(differs.astype(np.uint8), np.ones((_AROUND, _AROUND), np.uint8)) == 0
            leans = not drawn and abs(lean) >= (_ONE_SIDED_ON_PLAIN if plain else _ONE_SIDED)
            if is_whole and leans and float(far.mean()) >= 1 - _MOST_COVERED:
                rest = cls.of(laid.within(far), plain, drawn, slack, is_whole=False)
                calmer = float((soft * np.clip(sides, -1, 1))[far].sum()) / max(float(soft[far].sum()), 1.0)
                softer = rest.agrees and calmer * np.sign(lean) > _SOFTER
                one_sided = rest.agrees and not softer
        covered = float(soft[differs].sum()) / float(soft.sum())
        left = float((soft * laid.correlation)[~differs].sum()) / max(float(soft[~differs].sum()), 1.0)
        return cls(True, share, lean, agrees, one_sided, softer, covered, left, differs)


def _stroke(laid: Laid, most: float) -> float:
    """The strongest difference of 3 x 3 pixels where detail hardly correlates, by the standard deviation of strong
    detail: one other letter makes it, and a page that was saved again or scaled does not. most: variance of strong
    detail."""
    loose = (laid.correlation < _LOOSE) & (laid.over > 0)
    strongest = float(np.max(laid.residual() * loose))
    return strongest / float(np.sqrt(most))


def _is_worth(one: Look, two: Look, laid: Laid, better: int) -> bool:
    """Whether the better one has enough pixels to stand for the other: of the part that both show."""
    shown = one.width * one.height * _used(laid), two.width * two.height * _covered(laid)
    return shown[better - 1] >= _WORTH * shown[2 - better]


def _spoilt(one: Look, two: Look, laid: Laid) -> tuple[int, Laid] | None:
    """Where one picture repeats its last line to the end, as of a broken file, and the other goes on: which of them is
    whole, 1 or 2, and laid where both are; None where that is in neither, or in both."""
    of_one = (laid_over(_inside(one), laid.way, laid.move) > 0).astype(np.float32)
    of_two = _inside(two).astype(np.float32)
    lost = []
    for mask, detail in ((of_one, laid.of_fixed), (of_two, laid.of_moved)):
        weights = laid.over * detail / (detail + 100.0)
        lost.append(float((weights * (1 - mask)).sum()) / max(1.0, float(weights.sum())))
    if max(lost) < _LEAST_LOST or min(lost) > max(lost) / 3:
        return None
    edge = np.ones((_EDGE, _EDGE), np.uint8)  # the window of a place at the line sees beyond it
    shared = cv2.erode(of_one * of_two, edge, borderType=cv2.BORDER_CONSTANT, borderValue=1.0)
    return (2 if lost[0] > lost[1] else 1), laid.within(np.asarray(shared) > 0)


def _inside(look: Look) -> NDArray[np.uint8]:
    mask = np.zeros((SIDE, SIDE), np.uint8)
    top, bottom, left, right = look.inside
    mask[top:bottom, left:right] = 1
    return mask


def _covering(one: Look, two: Look, laid: Laid, detail: _Detail) -> int:
    """Which picture is whole, 1 or 2, where the other has a plain box over it, with or without text; 0 where that is
    not how they differ."""
    if detail.covered > _MOST_COVERED or detail.rest < _UNCOVERED:
        return 0
    joined = cv2.dilate(detail.differs.astype(np.uint8), np.ones((9, 9), np.uint8))
    count, pieces, numbers, _ = cv2.connectedComponentsWithStats(joined)
    if count < 2:
        return 0
    largest = 1 + int(numbers[1:, cv2.CC_STAT_AREA].argmax())
    if np.count_nonzero(detail.differs & (pieces == largest)) < _MOST_IN_BOX * np.count_nonzero(detail.differs):
        return 0
    left, top, width, height = (int(value) for value in numbers[largest, :4])
    box = np.s_[top + 4 : top + height - 4, left + 4 : left + width - 4]
    greys = (laid_over(one.grey, laid.way, laid.move), two.grey)
    # One grey covers much of the box; or it is white or black, with strokes so near to one another that none does.
    found = [([most_common(grey[box]) for grey in greys], _PLAIN_BOX, _PLAIN_BOX / 2)]
    if detail.rest >= _SURE_REST:
        black, white = _EXTREMES
        for which in ([grey[box] < black for grey in greys], [grey[box] > white for grey in greys]):
            found.append(([float(places.mean()) for places in which], _EXTREME_BOX, _EXTREME_BOX / 3))
    for shares, least, most in found:
        if max(shares) >= least and min(shares) <= most:
            return 2 if shares[0] > shares[1] else 1
    return 0


def _moved(one: Look, two: Look, laid: Laid) -> set[str]:
    names = set()
    quarters, mirrored = laid.way // 2, laid.way % 2 == 1
    if mirrored:
        names.add(MIRRORED)
    turn = shape(laid.move)[2]
    if (quarters and not (mirrored and quarters == 2)) or abs(turn) > _TURN:
        names.add(TURNED)
    covered, used = _covered(laid), _used(laid)
    if min(covered, used) < _INSIDE:
        outer = two if covered < used else one
        names.add(FRAMED if _is_frame(outer, laid, covered < used) else CROPPED)
    if one.width and two.width:
        width, height = (one.height, one.width) if quarters % 2 else (one.width, one.height)
        zoom = np.hypot(laid.move[0, :2], laid.move[1, :2])
        scales = np.log([zoom[0] * width / two.width, zoom[1] * height / two.height])
        limit = _SIZES if min(covered, used) < _INSIDE or abs(turn) > _TURN else 0.002
        sizes = np.log([width / two.width, height / two.height]) if limit < _SIZES else scales
        if float(np.abs(sizes).max()) > limit:
            names.add(RESIZED)
    return names


def _covered(laid: Laid) -> float:
    """The share of the second that the first covers."""
    to_x, to_y = (row[0] * _PLACES[0] + row[1] * _PLACES[1] + row[2] for row in laid.move)
    inside = (to_x > -1) & (to_x < SIDE) & (to_y > -1) & (to_y < SIDE)
    return float(np.count_nonzero(inside) / inside.size)


def _used(laid: Laid) -> float:
    """The share of the first that lies over the second."""
    return min(1.0, _covered(laid) * abs(float(np.linalg.det(laid.move[:, :2].astype(np.float64)))))


def _is_frame(outer: Look, laid: Laid, is_second: bool) -> bool:
    """Whether what lies beyond the other picture is a border or a screen around it, and no part of the picture: a line
    that repeats itself to the edge, or a step all along the side of the other."""
    whole = np.ones((SIDE, SIDE), np.uint8)
    grey = outer.grey if is_second else symmetry(outer.grey, laid.way)
    inside = _inside(outer) if is_second else symmetry(_inside(outer), laid.way)
    move = laid.move if is_second else cv2.invertAffineTransform(laid.move)
    over = np.asarray(cv2.warpAffine(whole, move, (SIDE, SIDE), flags=cv2.WARP_INVERSE_MAP | cv2.INTER_NEAREST))
    widest = 0
    for turned in range(4):  # each side in turn is the upper one
        values, covers, within = (np.rot90(picture, turned) for picture in (grey, over, inside))
        rows = np.flatnonzero(covers.sum(axis=1, dtype=np.int32) > 0.3 * SIDE)
        if not len(rows):  # hardly anything of it is covered
            return False
        first, columns = int(rows[0]), np.flatnonzero(covers[rows[len(rows) // 2]])
        if first < _BEYOND:
            continue
        widest = max(widest, first)
        own = int(np.flatnonzero(within.any(axis=1))[0])
        if own >= _BEYOND and abs(own - first) <= _NEAR:
            continue
        lines = np.ascontiguousarray(values[:, columns])
        steps = np.asarray(cv2.absdiff(lines[4:], lines[:-4])).mean(axis=1)
        there = float(steps[max(0, first - 4) : first + 2].max())
        usual = float(np.median(steps[first:])) if first < len(steps) else 0.0
        if there <= max(_STEP, 2.5 * usual):
            return False
    return widest >= _LEAST_FRAME


def _quantile(values: NDArray[np.float32], share: float) -> float:
    """values: (n,), n > 0. Not between two of them, which takes np.quantile three times as long."""
    at = int(share * (len(values) - 1))
    return float(np.partition(values, at)[at])


def _largest(places: NDArray[np.bool_]) -> int:
    """Pixels of the largest piece of connected places."""
    count, _, numbers, _ = cv2.connectedComponentsWithStats(places.astype(np.uint8))
    return int(numbers[1:, cv2.CC_STAT_AREA].max()) if count > 1 else 0
