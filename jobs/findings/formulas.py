"""Formulas: from raw properties to scores, and from scores to the issues of a picture by itself.

They are written once for whatever does arithmetic: columns of an engine, arrays of NumPy, single numbers. `Operations`
holds what these do not write alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from jobs import tables
from udfs.images import medium

# Issue -> its score; the setting in the section `issues` has the issue's name. All of these ask for a look only.
QUALITY = {
    tables.DARK: "dark_score",
    tables.BRIGHT: "bright_score",
    tables.BLURRY: "blur_score",
    tables.NOISY: "noise_score",
    tables.BLOCKY: "blockiness_score",
    tables.LOW_CONTRAST: "contrast_score",
    tables.LOW_INFORMATION: "information_score",
    tables.FLAT: "flat_score",
    tables.LOW_QUALITY: "quality_score",
    tables.ODD_SIZE: "size_score",
    tables.ODD_ASPECT_RATIO: "aspect_ratio_score",
    tables.GRAYSCALE: "colour_score",
}
# Issues of photographs alone: a page is white, a drawing flat, a mask of few greys, an icon small, and that is no
# fault.
OF_PHOTOGRAPHS = (
    tables.DARK,
    tables.BRIGHT,
    tables.BLURRY,
    tables.NOISY,
    tables.BLOCKY,
    tables.LOW_CONTRAST,
    tables.LOW_INFORMATION,
    tables.LOW_QUALITY,
    tables.GRAYSCALE,
)
DRAWN = 0.7  # of the limit of flat_score: a few strokes on paper are a drawing, and three discs are nearly nothing
_FAULTS = (tables.BLURRY, tables.NOISY, tables.BLOCKY)
_EXPOSURE = (tables.DARK, tables.BRIGHT)
# An issue is not raised where one of these is: it would only follow from it. A flat picture, or one of few grey levels,
# has no edge to be sharp, no contrast and no colours to speak of; what is too dark, too bright or faded has few grey
# levels and pale colours; and where a low quality overall has a name, the name is enough.
HIDDEN_BY = {
    **dict.fromkeys(_FAULTS, (tables.FLAT,)),
    tables.BLURRY: (tables.FLAT, tables.LOW_INFORMATION),
    tables.LOW_CONTRAST: (tables.FLAT, tables.LOW_INFORMATION),
    tables.LOW_INFORMATION: (tables.FLAT, *_EXPOSURE),
    tables.GRAYSCALE: (tables.FLAT, *_EXPOSURE, tables.LOW_CONTRAST),
    tables.LOW_QUALITY: (tables.FLAT, *_EXPOSURE, *_FAULTS, tables.LOW_CONTRAST, tables.LOW_INFORMATION),
}
# What quality_score is made of: faults of the picture, whatever is in it and whatever the rest of the lake is like.
TECHNICAL = (
    "dark_score",
    "bright_score",
    "blur_score",
    "noise_score",
    "blockiness_score",
    "contrast_score",
    "flat_score",
    "brisque_score",
)
FLOOR = 0.1  # of one measure in the whole: it may err, and all others be good
# Where a score is one half, between undamaged photographs and strongly spoilt ones (tests/bench/quality.py).
HALF_EDGE_FREQUENCY = 0.72
HALF_NOISE = 14.0  # grey levels
HALF_BLOCKINESS = 1.22
HALF_JPEG_QUALITY = 25.0
BLOCKINESS_POWER = 4.0  # blockiness differs by little: without blocks it is about 0.9, with strong ones 1.3 and more
FULL_EXPOSURE = 1.5  # clipped + half the peak of a white picture
EXPOSED_BRIGHTNESS = 1.2  # times the brightness is the most that counts as exposed
GREY_SCALE = 0.02  # colourfulness by brightness at which a picture still looks grey
MOSTLY = 0.5  # share of the lake in colour from which a grey picture is odd
FEWEST = 20  # images of a lake, source or class: of fewer nothing is said to be usual
Value = Any  # a column, an array or a number


@dataclass(frozen=True)
class Operations:
    """What columns and arrays do not write alike. least, greatest: of two or more. choose: (condition, value where it
    holds, value elsewhere)."""

    number: Callable[[float], Value]
    least: Callable[..., Value]
    greatest: Callable[..., Value]
    power: Callable[[Value, Value], Value]
    absolute: Callable[[Value], Value]
    choose: Callable[[Value, Value, Value], Value]


OF_ARRAYS = Operations(
    number=float,
    least=lambda *values: reduce(np.minimum, values),
    greatest=lambda *values: reduce(np.maximum, values),
    power=np.power,
    absolute=np.abs,
    choose=np.where,
)


@dataclass(frozen=True)
class Sizes:
    """What is usual of the sides of a lake's pictures. median: of the logarithm of the side. usual: by how much it may
    differ, for a score of one half."""

    median: float
    usual: float

    @classmethod
    def of_quartiles(cls, q1: float, median: float, q3: float) -> Sizes:
        return cls(median, max(math.log(4.0), 3 * (q3 - q1)))


def scores(of: Mapping[str, Value], sizes: Sizes, to: Operations) -> dict[str, Value]:
    """tables.SCORES but quality_score, which is made of these. of: the properties of udfs.images.quality, width,
    height, and log_side, the logarithm of the square root of their product. Each is made of these alone, but
    size_score, which holds a picture against the lake.

    dark: 99th percentile of brightness (after cleanvision): even the lightest parts are dark.
    bright: one minus how much is clipped, half as much more where it is clipped in colour (a white background is
    clipped too), with half the peak, but of dark pictures less: strong colours are clipped in one channel, and count
    only where twice as much is white. Or minus the 5th percentile of brightness, where that is more: even the darkest
    parts are light.
    blur: edge_frequency against HALF_EDGE_FREQUENCY. noise, blockiness: see half_at; blockiness also by the quality
    that a JPEG's header tells, the lower of the two. contrast: 1st to 99th percentile of brightness. information:
    entropy of at most 8 bits. flat: share of the picture that varies at all. brisque: one minus a hundredth of BRISQUE.
    size: distance of the logarithm of the side from the median of the lake, against log 4 or three interquartile
    ranges. aspect ratio: short side by long side. colour: colourfulness by brightness, against GREY_SCALE."""
    number, least, greatest = to.number, to.least, to.greatest
    colour = of["colourfulness"] / (number(255.0) * of["brightness"] + 1.0)
    coloured = least(of["clipped_colour"], 2.0 * (of["clipped"] - of["clipped_colour"]))
    exposed = (of["clipped"] + coloured / 2.0 + of["peak"] / 2.0) / number(FULL_EXPOSURE)
    exposed = least(exposed, number(EXPOSED_BRIGHTNESS) * of["brightness"])
    unit = {
        "dark_score": of["brightness_p99"],
        "bright_score": 1.0 - greatest(exposed, of["brightness_p05"]),
        "blur_score": of["edge_frequency"] / (of["edge_frequency"] + number(HALF_EDGE_FREQUENCY)),
        "noise_score": half_at(of["noise"], HALF_NOISE, 2.0, to),
        "blockiness_score": least(
            half_at(of["blockiness"], HALF_BLOCKINESS, BLOCKINESS_POWER, to),
            half_at(1.0 / greatest(of["jpeg_quality"], number(1.0)), 1 / HALF_JPEG_QUALITY, 1.0, to),
        ),
        "contrast_score": of["brightness_p99"] - of["brightness_p01"],
        "information_score": of["entropy"] / 8.0,
        "flat_score": 1.0 - of["flat_share"],
        "brisque_score": 1.0 - of["brisque"] / 100.0,
        "size_score": number(sizes.usual) / (number(sizes.usual) + to.absolute(of["log_side"] - number(sizes.median))),
        "aspect_ratio_score": least(of["width"], of["height"]) / greatest(of["width"], of["height"]),
        "colour_score": colour / (colour + number(GREY_SCALE)),
    }
    return {name: least(number(1.0), greatest(number(0.0), value)) for name, value in unit.items()}


def quality_score(of: Mapping[str, Value], to: Operations) -> Value:
    """The harmonic mean of TECHNICAL, each at least FLOOR: rises with each, and the worst weighs most. of: scores."""
    total = sum((to.number(1.0) / to.greatest(of[name], to.number(FLOOR)) for name in TECHNICAL), to.number(0.0))
    return to.number(float(len(TECHNICAL))) / total


def half_at(value: Value, half: float, power: float, to: Operations) -> Value:
    """1 where the value is 0, one half where it is `half`, falling towards 0 as it rises. value: >= 0."""
    return to.number(1.0) / (to.number(1.0) + to.power(value / to.number(half), to.number(power)))


def may_be_faulty(of_medium: Value) -> Value:
    """Whether OF_PHOTOGRAPHS are issues of a picture: of photographs and of what is blank."""
    return (of_medium == medium.PHOTOGRAPH) | (of_medium == medium.BLANK)


def raised(
    of: Mapping[str, Value], limits: Mapping[str, float], may: Value, is_coloured: Value, to: Operations
) -> dict[str, Value]:
    """Whether each issue of QUALITY is raised: its score is below its limit, and it is not hidden. of: the scores.
    limits: issue -> score. may: of may_be_faulty. is_coloured: whether the lake is MOSTLY in colour."""
    low = {issue: of[score] < to.number(limits[issue]) for issue, score in QUALITY.items()}
    found = dict(low)
    least = to.number(limits[tables.FLAT]) * to.choose(may, to.number(1.0), to.number(DRAWN))
    found[tables.FLAT] = of[QUALITY[tables.FLAT]] < least
    for issue in OF_PHOTOGRAPHS:
        found[issue] = found[issue] & may
    found[tables.GRAYSCALE] = found[tables.GRAYSCALE] & is_coloured
    for issue, hiding in HIDDEN_BY.items():
        for other in hiding:
            found[issue] = found[issue] & ~low[other]
    return found
