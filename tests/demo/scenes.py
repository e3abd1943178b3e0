"""The catalogue of scenes: which rendered pictures and which photographs the lake is made of."""

from typing import NamedTuple

from tests.demo import photographs, pictures
from tests.demo.drawing import Pixels

# Not every number of a family is here: pictures that came out dark, flat or nearly like another one are left out. No two
# of these have a cosine above 0.70 in the embedding of efficientnet_lite0, and none looks like another to the eye.
VARIANTS: dict[str, tuple[int, ...]] = {
    "abstract": (18, 23, 28, 30, 36, 44, 49, 51, 54, 58, 59, 62, 68, 91, 92, 97, 98, 116, 122, 135, 139, 140, 142,
        156),
    "chart": (11, 26, 37, 43, 56, 62, 69, 74, 82, 87, 93, 100, 103, 120, 125, 127, 136, 145),
    "city": (4, 10, 11, 25, 40, 44, 46, 54, 57, 68, 71, 95, 99, 117, 140),
    "fabric": (2, 8, 13, 15, 20, 23, 28, 29, 36, 44, 46, 51, 59, 69, 70, 71, 83, 87, 98, 113, 119, 127, 139),
    "face": (14, 16, 17, 56, 58, 61, 67, 70, 81, 94, 99, 100, 110, 117, 133, 136, 140, 142, 143, 145, 150, 154),
    "fractal": (9, 15, 47, 48, 58, 62, 66, 68, 70, 74, 100, 101, 104, 108, 109, 111, 121, 130, 135, 137, 138, 141,
        148, 149),
    "landscape": (0, 21, 24, 31, 45, 47, 51, 58, 68, 74, 76, 79, 82, 90, 94, 95, 109, 111, 118, 119, 123, 126, 146,
        152),
    "map": (5, 6, 21, 35, 37, 39, 43, 53, 63, 67, 71, 73, 75, 80, 94, 100, 104, 106, 109, 117, 131, 140, 144, 146),
    "maze": (2, 9, 14, 19, 22, 23, 27, 28, 41, 44, 59, 62, 64, 70, 79, 96, 98, 99, 103, 118, 129, 138, 147, 153),
    "mosaic": (0, 7, 10, 13, 32, 39, 44, 57, 58, 69, 71, 76, 80, 82, 86, 88, 96, 107, 108, 119, 122, 134, 149, 156),
    "nebula": (7, 19, 20, 38, 39, 42, 48, 61, 69, 74, 101, 102, 103, 104, 105, 109, 123, 125, 126, 129, 140, 143,
        145, 147),
    "plant": (19, 22, 28, 31, 53, 56, 65, 67, 68, 69, 71, 88, 92, 105, 114, 115, 116, 132, 134, 137, 148, 149, 150,
        153),
    "poster": (0, 12, 15, 17, 21, 27, 29, 30, 41, 50, 65, 68, 69, 74, 77, 90, 94, 99, 113, 125, 134, 137, 157, 158),
    "spheres": (2, 4, 9, 10, 17, 24, 27, 36, 41, 43, 67, 76, 77, 82, 89, 92, 93, 94, 105, 114, 118, 122, 131, 133),
    "tiling": (0, 9, 11, 15, 20, 26, 28, 29, 32, 34, 39, 49, 55, 72, 76, 82, 90, 92, 112, 116, 120, 132, 143, 152),
    "waves": (3, 4, 7, 8, 13, 19, 23, 24, 31, 32, 35, 50, 52, 53, 66, 67, 72, 81, 108, 123, 128, 137, 154, 157),
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
