"""The catalogue of scenes: which rendered pictures and which photographs the lake is made of."""

from typing import NamedTuple

from jobs.demo import photographs, pictures
from jobs.demo.drawing import Pixels

# Not every number of a family is here: pictures that came out dark, flat or nearly like another are left out. No two
# have a cosine above 0.66 in the embedding of efficientnet_lite0, so that the only near duplicates are those planted.
VARIANTS: dict[str, tuple[int, ...]] = {
    "abstract": (5, 6, 18, 23, 28, 30, 32, 39, 48, 55, 58, 60, 62, 66, 76, 80, 87, 88, 97, 98, 104, 105, 108, 109,
        115, 117, 118, 124, 125, 136, 139, 142),
    "chart": (26, 33, 39, 56, 75, 82, 83, 88, 93, 103, 131, 136, 145, 157),
    "city": (10, 11, 25, 34, 54, 68, 103, 124, 140, 145),
    "fabric": (2, 8, 13, 20, 29, 38, 46, 48, 59, 69, 71, 82, 98, 107, 113, 119, 135, 139),
    "face": (0, 14, 17, 41, 56, 70, 83, 91, 99, 100, 105, 137, 142, 143, 150, 154),
    "fractal": (2, 8, 9, 10, 15, 21, 40, 48, 50, 53, 58, 66, 68, 69, 70, 81, 83, 87, 88, 98, 101, 103, 104, 115,
        130, 132, 137, 138, 139, 141, 146, 152),
    "landscape": (21, 27, 28, 29, 33, 38, 44, 45, 51, 68, 79, 83, 90, 95, 115, 119, 123, 134, 148, 158),
    "map": (5, 6, 7, 12, 14, 19, 26, 39, 40, 55, 56, 57, 60, 71, 80, 84, 94, 103, 106, 111, 117, 118, 119, 124, 127,
        131, 136, 140, 141, 143, 146, 148),
    "maze": (2, 4, 7, 9, 14, 17, 28, 31, 40, 41, 57, 59, 62, 64, 79, 88, 103, 127, 133, 137, 141, 147, 153),
    "mosaic": (6, 8, 10, 11, 14, 21, 29, 32, 44, 52, 55, 56, 57, 63, 65, 69, 79, 80, 81, 94, 104, 109, 111, 119,
        122, 125, 134, 138, 147, 148, 152, 158),
    "nebula": (1, 7, 9, 10, 13, 19, 24, 27, 29, 44, 47, 62, 74, 88, 91, 93, 101, 102, 109, 110, 113, 118, 122, 123,
        127, 129, 140, 141, 143, 145, 147, 148),
    "plant": (5, 6, 8, 26, 31, 45, 46, 54, 56, 65, 70, 73, 77, 92, 114, 115, 131, 132, 137, 148, 150, 153),
    "poster": (4, 5, 12, 15, 21, 22, 30, 36, 41, 50, 63, 68, 69, 74, 77, 90, 93, 99, 134, 157),
    "spheres": (2, 3, 11, 17, 25, 28, 36, 46, 49, 52, 57, 65, 67, 76, 88, 93, 95, 100, 106, 117, 122, 123, 129, 130,
        133, 136, 140, 146, 152, 154, 158, 159),
    "tiling": (0, 10, 26, 28, 29, 32, 34, 43, 49, 75, 79, 93, 114, 118, 122, 132, 144, 152),
    "waves": (1, 4, 8, 12, 16, 17, 19, 22, 35, 46, 53, 55, 63, 66, 67, 70, 72, 83, 105, 108, 111, 112, 123, 124,
        128, 135, 137, 138, 144, 145, 147, 154),
}  # fmt: skip

# Photographs that are alone of their kind among drawings: they are planted as outliers.
OUTLIERS = ("cat", "coffee", "dahlia", "engine", "grass", "pagoda")


class Scene(NamedTuple):
    """A picture before anything is done to it: its label, and its number in the family or its photograph's name."""

    label: str
    number: int
    photograph: str | None = None

    def pixels(self) -> Pixels:
        """(h, w, 3) uint8, RGB; the same for ever."""
        if self.photograph is not None:
            return photographs.photograph(self.photograph)
        return pictures.render(self.label, self.number)


def drawn() -> list[Scene]:
    """Every rendered scene of the catalogue."""
    return [Scene(family, number) for family, numbers in VARIANTS.items() for number in numbers]


def photographed() -> list[Scene]:
    """Every photograph that is not an outlier."""
    return [Scene("photo", i, name) for i, name in enumerate(photographs.CROPS) if name not in OUTLIERS]


def outliers() -> list[Scene]:
    """The photographs that are planted as outliers, each under the label of some drawings."""
    labels = list(VARIANTS)
    return [Scene(labels[(5 * i + 1) % len(labels)], i, name) for i, name in enumerate(OUTLIERS)]
