"""Pictures that arrive: as many as one likes, each four small pictures side by side, and copies of some of them.

python -m tests.bench.live_pictures --labelled DIR --count N FOLDER
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from tests.bench.many import photographs

TILE, TILES = 80, 2  # pixels of a side, tiles of a side
PER_FOLDER = 1000
QUALITY = 88  # of JPEG


def tiles(labelled: Path) -> list[np.ndarray]:
    """The small pictures, (TILE, TILE, 3) uint8 each."""
    found = [cv2.imread(str(path)) for path in photographs(labelled)]
    return [cv2.resize(one, (TILE, TILE), interpolation=cv2.INTER_CUBIC) for one in found if one is not None]


def picture(of: Sequence[np.ndarray], number: int) -> np.ndarray:
    """The picture of a number, (TILES * TILE, TILES * TILE, 3) uint8: tiles drawn, mirrored and coloured by it."""
    rng = np.random.default_rng(number)
    drawn = [of[at] for at in rng.choice(len(of), TILES * TILES, replace=False)]
    drawn = [tile[:, ::-1] if rng.random() < 0.5 else tile for tile in drawn]
    rows = [np.concatenate(drawn[row * TILES : (row + 1) * TILES], axis=1) for row in range(TILES)]
    whole = np.concatenate(rows, axis=0).astype(np.float32)
    return np.clip(whole * rng.uniform(0.7, 1.3, 3) + rng.uniform(-25, 25), 0, 255).astype(np.uint8)


def saved(pixels: np.ndarray, quality: int = QUALITY) -> bytes:
    """A JPEG file."""
    return bytes(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1])


def opened(data: bytes) -> np.ndarray:
    """The pixels of a file, (height, width, 3) uint8. Raises ValueError where it is none."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if pixels is None:
        raise ValueError("no picture")
    return pixels


def place(number: int) -> str:
    """The name of a picture below its folder."""
    return f"{number // PER_FOLDER:04d}/{number:07d}.jpg"


def make(labelled: Path, folder: Path, count: int, first: int = 0) -> None:
    """Writes the pictures first, first + 1, … below a folder."""
    of = tiles(labelled)
    for number in range(first, first + count):
        path = folder / place(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(saved(picture(of, number)))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.live_pictures")
    parser.add_argument("--labelled", type=Path, required=True, help="folder of small JPEG pictures")
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args(argv)
    make(options.labelled, options.folder, options.count)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
