"""Writes the lake: pictures in `split/label/`, trouble planted among them, and the truth beside the folder."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from PIL import Image

from jobs.demo.drawing import Pixels, Rng, box, canvas, colour, disc, polygon
from jobs.demo.edits import EDITS
from jobs.demo.judge import Planted
from jobs.demo.scenes import Scene, drawn, outliers, photographed

T = TypeVar("T")

SOFT = 5  # the number of the flat picture whose two colours run into one another
STRIPES = 4  # and of the one with so many edges that it is not flat, but of two colours


@dataclass(frozen=True)
class Size:
    """How much is drawn, and how much of it is given trouble.

    scenes: drawings, None for all there are. photographs: of scikit-image and scikit-learn, some as outliers. single:
    pictures by kind of trouble. flat: pictures of next to nothing, up to 8. broken_each: files of each of `broken`.
    edits_each: near-duplicates of each edit. triples: groups of exact and of near-duplicates that get a third member.
    exact, leaks: how each copy is made. judges_all: whether so many images tell what is usual among them, so that what
    was not planted is false."""

    scenes: int | None
    photographs: bool
    single: Mapping[str, int]
    flat: int
    broken: tuple[str, ...]
    broken_each: int
    edits_each: int
    triples: int
    exact: tuple[str, ...]
    leaks: tuple[str, ...]
    judges_all: bool


ALIKE = {"fabric": "pattern", "tiling": "pattern"}  # families that a person could not tell apart have one label
SOFT_FAMILIES = (
    "mosaic",
    "nebula",
    "waves",
    "photo",
)  # some of their pictures have no sharp edge, and may be called blurry


def plant(folder: Path, seed: int = 0, size: Size | None = None) -> list[Planted]:
    """Writes images under folder, about 500 of them, and the truth to truth.json next to it, and returns the truth.

    folder: must not exist or be empty, else ValueError. Paths of the truth are relative to it, with forward slashes.
    The scenes are always the same; the seed decides which of them get which trouble, split, format and name.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty: the lake is written to a folder of its own")
    files, truth = planted(seed, size)
    for path, data in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    (folder.parent / "truth.json").write_text(json.dumps([asdict(entry) for entry in truth], indent=1) + "\n", "utf-8")
    return truth


def planted(seed: int = 0, size: Size | None = None) -> tuple[dict[str, bytes], list[Planted]]:
    """Files by their paths, split/label/name, and the truth about them; see plant(). size: FULL where there is none."""
    size = size or FULL
    lake = _Lake(np.random.default_rng(seed))
    rng = lake.rng
    drawings = _shuffled(rng, drawn())[: size.scenes]
    photos = _shuffled(rng, photographed()) if size.photographs else []
    for scene in outliers() if size.photographs else []:
        path = lake.write(scene.pixels(), scene.label)
        lake.note("outlier", path, detail=str(scene.photograph))
        # Labels of few images are not judged, and how many there are depends on what else is planted.
        lake.note("class_outlier", path, detail=str(scene.photograph), required=False)
        lake.note("wrong_label", path, detail="no drawing, whatever its label", required=False)
    for kind, count in size.single.items():
        for i in range(count):
            scene = drawings.pop()
            pixels, detail = SPOILERS[kind](scene.pixels(), rng, i)
            path = lake.write(pixels, scene.label, kind=kind)
            lake.note(kind, path, detail=detail)
            # What follows from it: what is left of a spoilt picture may look like nothing else, or like another label.
            for other in FOLLOWS[kind]:
                lake.note(other, path, detail=detail, required=False)
    _plant_flat(lake, rng, size.flat)
    for number in range(size.broken_each):
        for detail in size.broken:
            scene = drawings.pop()
            suffix, data = BREAKERS[detail](scene.pixels(), rng)
            lake.note("corrupted", lake.put(data, scene.label, suffix), detail=f"{detail} {number + 1}")
    _plant_pairs(lake, [*drawings, *photos], size)
    return lake.files, sorted(lake.truth, key=lambda entry: (entry.kind, entry.path))


def read_truth(path: Path) -> list[Planted]:
    """The truth that plant wrote to path."""
    return [Planted(**entry) for entry in json.loads(path.read_text("utf-8"))]


class _Lake:
    """What was drawn: files by their paths, unused names, the generator and the truth so far."""

    def __init__(self, rng: Rng) -> None:
        self.files: dict[str, bytes] = {}
        self.rng = rng
        self.truth: list[Planted] = []
        self._numbers = iter(rng.permutation(9000) + 1000)

    def put(self, data: bytes, label: str, suffix: str, split: str = "") -> str:
        """Adds a file under a new name and returns its path; without a split three of four go to train."""
        split = split or ("train" if self.rng.random() < 0.75 else "test")
        soft, label = label in SOFT_FAMILIES, ALIKE.get(label, label)
        path = f"{split}/{label}/{label}_{next(self._numbers)}{suffix}"
        self.files[path] = data
        if soft:
            self.note("blurry", path, detail="a soft picture", required=False)
        return path

    def write(self, pixels: Pixels, label: str, split: str = "", kind: str = "") -> str:
        """Writes a picture: mostly JPEG, some PNG and WebP; half of the gray ones with one channel."""
        suffix = str(self.rng.choice([".jpg", ".png", ".webp"], p=[0.82, 0.1, 0.08]))
        if kind == "flat":
            suffix = ".png"
        single = kind == "grayscale" and suffix != ".webp" and self.rng.random() < 0.5
        return self.put(encoded(pixels[..., 0] if single else pixels, suffix), label, suffix, split)

    def note(self, kind: str, path: str, evidence: str | None = None, detail: str = "", required: bool = True) -> None:
        """Adds an entry to the truth."""
        self.truth.append(Planted(kind, path, evidence, detail, required))


def _plant_pairs(lake: _Lake, scenes: list[Scene], size: Size) -> None:
    """Writes the remaining scenes, the last of them with copies: exact, edited, and over the border of the splits."""
    edits = [edit for _ in range(size.edits_each) for edit in EDITS]
    leaks = [*_shuffled(lake.rng, list(size.leaks))]
    # Photographs stand last and are taken first, so that each edit gets some of them.
    originals = {
        "near": [scenes.pop() for _ in edits],
        "leak": [scenes.pop() for _ in leaks],
        "exact": [scenes.pop() for _ in size.exact],
    }
    for scene in scenes:
        lake.write(scene.pixels(), scene.label)
    for number, (edit, scene) in enumerate(zip(edits, originals["near"], strict=True)):
        pixels, split = scene.pixels(), "train" if lake.rng.random() < 0.75 else "test"
        path = lake.write(pixels, scene.label, split)
        members = [path, lake.write(EDITS[edit](pixels, lake.rng), scene.label, split)]
        lake.note("near_duplicate", members[1], path, edit)
        _allow_traces(lake, members[1], edit)
        if number >= len(edits) - size.triples:
            members.append(lake.write(EDITS["recompressed"](pixels, lake.rng), scene.label, split))
            lake.note("near_duplicate", members[2], path, "recompressed")
            _allow_traces(lake, members[2], "recompressed")
        _allow_photograph(lake, scene, members)
    for how, scene in zip(leaks, originals["leak"], strict=True):
        pixels = scene.pixels()
        if how == "bytes":
            data = encoded(pixels, ".jpg")
            path, copy = lake.put(data, scene.label, ".jpg", "train"), lake.put(data, scene.label, ".jpg", "test")
        else:
            path = lake.write(pixels, scene.label, "train")
            copy = lake.write(EDITS[how](pixels, lake.rng), scene.label, "test")
        lake.note("exact_duplicate" if how == "bytes" else "near_duplicate", copy, path, how)
        lake.note("leak", copy, path, how)
        _allow_traces(lake, copy, how)
        _allow_photograph(lake, scene, [path, copy])
    for number, (how, scene) in enumerate(zip(size.exact, originals["exact"], strict=True)):
        split, suffix = "train" if lake.rng.random() < 0.75 else "test", ".png" if how == "compression" else ".jpg"
        data = encoded(scene.pixels(), suffix)
        path = lake.put(data, scene.label, suffix, split)
        for _ in range(2 if number < size.triples else 1):
            lake.note("exact_duplicate", lake.put(_same_pixels(data, how), scene.label, suffix, split), path, how)


def _allow_traces(lake: _Lake, path: str, edit: str) -> None:
    """An edit may leave the picture a little spoilt: saved again in blocks, enlarged or turned less sharp, bright."""
    for kind in ("blurry", "blocky", "noisy", "bright"):
        lake.note(kind, path, detail=f"a copy, {edit}", required=False)


def _allow_photograph(lake: _Lake, scene: Scene, paths: list[str]) -> None:
    """Outlier is no false alarm for a photograph among drawings, though only the loneliest are planted as such; nor is
    another label, where it shows what a family shows."""
    if scene.photograph is not None:
        for path in paths:
            lake.note("outlier", path, detail="a photograph among drawings", required=False)
            lake.note("wrong_label", path, detail="a photograph of anything", required=False)


def _plant_flat(lake: _Lake, rng: Rng, count: int) -> None:
    """Pictures of one to three colours, with hard borders but for SOFT, which is no more than faded and soft."""
    labels = sorted({scene.label for scene in drawn()})
    for number in range(count):
        height, width = int(rng.integers(260, 340)), int(rng.integers(300, 440))
        hue = (number + float(rng.random()) * 0.5) / 8
        first, second = colour(hue, 0.8, 0.75), colour(hue + 0.4, 0.7, 0.55)
        image = canvas(height, width, first)
        if number == 1:
            box(image, 0, 0, width / 2, height, second)
        elif number == 2:
            disc(image, width * 0.5, height * 0.5, height * 0.3, second)
        elif number == 3:
            polygon(image, [(0, height), (width, height), (width, 0)], second)
        elif number == STRIPES:
            for i in range(3):
                box(image, 0, height * (2 * i + 1) / 6, width, height * (2 * i + 2) / 6, second)
        elif number == SOFT:
            box(image, 0, 0, width, height, second, 60)
        elif number == 6:
            polygon(
                image, [(width * 0.2, height * 0.8), (width * 0.5, height * 0.15), (width * 0.8, height * 0.8)], second
            )
        elif number == 7:
            for x, y in ((0.25, 0.3), (0.7, 0.25), (0.5, 0.75)):
                disc(image, width * x, height * y, height * 0.12, second)
        path = lake.write(image, labels[int(rng.integers(len(labels)))], kind="flat")
        lake.note("flat", path, detail=f"flat {number + 1}", required=number not in (SOFT, STRIPES))
        # What else may be said of such a picture, by the colours that chance gave it, and that it is not of its label.
        more = {SOFT: ("blurry", "low_contrast", "low_information")}
        for other in ("dark", "bright", "wrong_label", "class_outlier", "outlier", *more.get(number, ())):
            lake.note(other, path, detail="a flat picture", required=False)
        if number == STRIPES:
            lake.note("low_information", path, detail="stripes of two colours", required=False)


def _same_pixels(data: bytes, how: str) -> bytes:
    """Another file with the same pixels: the same bytes, a JPEG with a comment, or a PNG compressed less."""
    if how == "comment":
        text = b"copied for the archive"
        return data[:2] + b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text + data[2:]
    if how == "compression":
        buffer = BytesIO()
        Image.open(BytesIO(data)).save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()
    return data


def encoded(pixels: Pixels, suffix: str) -> bytes:
    """The bytes of an image file. pixels: (h, w, 3) or (h, w) uint8; suffix: .jpg, .png or .webp."""
    buffer = BytesIO()
    picture = Image.fromarray(pixels)
    if suffix == ".jpg":
        picture.save(buffer, "JPEG", quality=92)
    elif suffix == ".png":
        picture.save(buffer, "PNG", compress_level=4)
    else:
        picture.save(buffer, "WEBP", quality=90, method=2)
    return buffer.getvalue()


def _dark(pixels: Pixels, rng: Rng, number: int) -> tuple[Pixels, str]:
    return (pixels * 0.15).astype(np.uint8), "values times 0.15"


def _bright(pixels: Pixels, rng: Rng, number: int) -> tuple[Pixels, str]:
    return (255 - (255 - pixels.astype(np.float32)) * 0.18).astype(np.uint8), "distance from white times 0.18"


def _blurry(pixels: Pixels, rng: Rng, number: int) -> tuple[Pixels, str]:
    sigma = 6 + number % 4
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), sigma), np.uint8), f"Gaussian, sigma {sigma} pixels"


def _grayscale(pixels: Pixels, rng: Rng, number: int) -> tuple[Pixels, str]:
    gray = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8)
    return np.repeat(gray[..., None], 3, axis=2), "no colour"


def _odd_size(pixels: Pixels, rng: Rng, number: int) -> tuple[Pixels, str]:
    """Two of three much smaller, the others much larger."""
    height, width = pixels.shape[:2]
    if number % 3 == 2:
        return _grainy(
            np.asarray(cv2.resize(pixels, (width * 6, height * 6), interpolation=cv2.INTER_CUBIC), np.uint8), rng
        ), "six times the size"
    side = 20 + 4 * number
    small = np.asarray(cv2.resize(pixels, (side, round(side * height / width)), interpolation=cv2.INTER_AREA), np.uint8)
    return small, f"{side} pixels wide"


def _odd_aspect_ratio(pixels: Pixels, rng: Rng, number: int) -> tuple[Pixels, str]:
    """A strip from the middle, ten times as long as wide; every other one upright."""
    strip = pixels if number % 2 == 0 else pixels.transpose(1, 0, 2)
    height, width = strip.shape[:2]
    middle, half = height // 2, width // 20
    strip = np.ascontiguousarray(strip[middle - half : middle + half])
    strip = _grainy(np.asarray(cv2.resize(strip, (1000, 100), interpolation=cv2.INTER_CUBIC), np.uint8), rng)
    return (strip, "10:1") if number % 2 == 0 else (np.ascontiguousarray(strip.transpose(1, 0, 2)), "1:10")


def _grainy(pixels: Pixels, rng: Rng) -> Pixels:
    """Grain over an enlarged picture, which would otherwise be blurry as well."""
    grain = rng.normal(0, 7, (*pixels.shape[:2], 1)).astype(np.float32)
    return np.asarray(np.clip(pixels + grain, 0, 255), np.uint8)


# What may be said of a picture that was spoilt, beside its kind.
FOLLOWS = {
    "dark": ("low_contrast", "wrong_label", "class_outlier"),
    "bright": ("low_contrast", "wrong_label", "class_outlier"),
    "blurry": ("low_contrast", "wrong_label", "class_outlier"),
    "odd_size": ("outlier", "wrong_label", "class_outlier"),
    "odd_aspect_ratio": ("outlier", "low_contrast", "wrong_label", "class_outlier"),
    "grayscale": ("outlier",),
}
SPOILERS: dict[str, Callable[[Pixels, Rng, int], tuple[Pixels, str]]] = {
    "dark": _dark,
    "bright": _bright,
    "blurry": _blurry,
    "odd_size": _odd_size,
    "odd_aspect_ratio": _odd_aspect_ratio,
    "grayscale": _grayscale,
}


def _empty(pixels: Pixels, rng: Rng) -> tuple[str, bytes]:
    return ".jpg", b""


def _truncated(pixels: Pixels, rng: Rng) -> tuple[str, bytes]:
    data = encoded(pixels, ".jpg")
    return ".jpg", data[: len(data) // 2]


def _header_only(pixels: Pixels, rng: Rng) -> tuple[str, bytes]:
    """The first bytes of a PNG: signature and IHDR, no pixels."""
    return ".png", encoded(pixels, ".png")[:33]


def _text(pixels: Pixels, rng: Rng) -> tuple[str, bytes]:
    return ".jpg", b"<html><body><h1>404 Not Found</h1></body></html>\n"


def _noise(pixels: Pixels, rng: Rng) -> tuple[str, bytes]:
    """A JPEG's first bytes, then random ones."""
    return ".jpg", b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + rng.bytes(20_000)


def _damaged(pixels: Pixels, rng: Rng) -> tuple[str, bytes]:
    """A PNG in which 64 bytes in the middle of the compressed pixels are overwritten: check sums and stream break."""
    data = bytearray(encoded(pixels, ".png"))
    middle = len(data) // 2
    data[middle : middle + 64] = rng.bytes(64)
    return ".png", bytes(data)


BREAKERS: dict[str, Callable[[Pixels, Rng], tuple[str, bytes]]] = {
    "empty file": _empty,
    "cut in the middle": _truncated,
    "header only": _header_only,
    "text named .jpg": _text,
    "random bytes after the magic": _noise,
    "damaged PNG": _damaged,
}


FULL = Size(
    scenes=None, photographs=True,
    single={"dark": 8, "bright": 6, "blurry": 8, "odd_size": 6, "odd_aspect_ratio": 6, "grayscale": 8},
    flat=8, broken=tuple(BREAKERS), broken_each=2, edits_each=8, triples=2,
    exact=("bytes",) * 5 + ("comment",) * 4 + ("compression",) * 3,
    leaks=("bytes",) * 4 + (*EDITS, "cropped", "mirrored", "overlay"), judges_all=True,
)  # fmt: skip
# Drawings alone: needs no package beside imagesieve's own.
SMALL = Size(
    scenes=60, photographs=False, single={"dark": 4, "blurry": 4, "grayscale": 3}, flat=4,
    broken=("empty file", "cut in the middle", "text named .jpg"), broken_each=1, edits_each=1, triples=0,
    exact=("bytes", "comment", "compression"), leaks=("bytes", "bytes", "recompressed"),
    judges_all=False,
)  # fmt: skip
SIZES = {"full": FULL, "small": SMALL}


def _shuffled(rng: Rng, items: list[T]) -> list[T]:
    """The items in an order drawn from the generator."""
    return [items[int(i)] for i in rng.permutation(len(items))]
