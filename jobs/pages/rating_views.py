"""How ratings are drawn on their pages: maps over pictures, and how much ratings agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jobs.pages.values import Rating, ScoreMap

COMPARED = 12  # ratings in the table of agreement
STRONGEST = 0.62  # opacity of the cell that adds most, of all maps of a rating


@dataclass(frozen=True)
class Cell:
    """A cell of a map, in pixels of the picture. raises: the score, against the mean of the map."""

    x: float
    y: float
    width: float
    height: float
    opacity: float
    raises: bool
    title: str


@dataclass(frozen=True)
class DrawnMap:
    """A map over its picture, of width x height."""

    of: ScoreMap
    width: int
    height: int
    cells: Sequence[Cell]


@dataclass(frozen=True)
class AgreementTable:
    """Correlations by (row, column). names: of rows and columns. hidden: ratings that have no place in it."""

    names: Sequence[str]
    cells: Mapping[tuple[str, str], float]
    hidden: int


def drawn_maps(rating: Rating) -> list[DrawnMap]:
    """Of pictures that can be shown; one strength of colour means the same on all of a rating."""
    able = [one for one in rating.maps if one.rated.picture.thumb and one.shares]
    beyond = {id(one): _beyond(one) for one in able}
    most = max((abs(value) for values in beyond.values() for row in values for value in row), default=0.0) or 1.0
    return [_drawn(one, beyond[id(one)], most) for one in able]


def _beyond(one: ScoreMap) -> list[list[float]]:
    """What the cells add beyond their mean."""
    flat = [value for row in one.shares for value in row]
    mean = sum(flat) / len(flat)
    return [[value - mean for value in row] for row in one.shares]


def _drawn(one: ScoreMap, beyond: list[list[float]], most: float) -> DrawnMap:
    picture = one.rated.picture
    width, height = picture.width or 1, picture.height or 1
    left, top, wide, tall = 0.0, 0.0, float(width), float(height)
    if not one.whole:
        wide = tall = float(min(width, height))
        left, top = (width - wide) / 2, (height - tall) / 2
    step_y = tall / len(beyond)
    cells = []
    for y, row in enumerate(beyond):
        step_x = wide / len(row)
        cells += [
            Cell(
                round(left + x * step_x, 2), round(top + y * step_y, 2), round(step_x, 2), round(step_y, 2),
                round(STRONGEST * abs(value) / most, 3), value > 0, f"{value:+.3g}",
            )
            for x, value in enumerate(row)
        ]  # fmt: skip
    return DrawnMap(one, width, height, cells)


def agreement_table(ratings: Sequence[Rating]) -> AgreementTable | None:
    """None where fewer than two can be compared."""
    names = [rating.key for rating in ratings if rating.agreement][:COMPARED]
    if len(names) < 2:
        return None
    cells = {
        (rating.key, one.other): one.correlation
        for rating in ratings if rating.key in names
        for one in rating.agreement if one.other in names
    }  # fmt: skip
    return AgreementTable(names, cells, len(ratings) - len(names))
