"""Writes the small pictures of README's table: planted examples of the demo, two side by side where there is a pair.

python -m tests.bench.pictures docs/pictures
"""

import io
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageOps

from jobs.demo.plant import planted

KINDS = ("exact_duplicate", "near_duplicate", "leak", "outlier", "dark", "blurry", "flat", "odd_aspect_ratio")
SIDE = 84  # pixels


def tile(pictures: Sequence[Image.Image]) -> Image.Image:
    """Squares side by side, each whole, on white."""
    sheet = Image.new("RGB", ((SIDE + 4) * len(pictures) - 4, SIDE), "white")
    for number, picture in enumerate(pictures):
        sheet.paste(ImageOps.pad(picture.convert("RGB"), (SIDE, SIDE), color="white"), (number * (SIDE + 4), 0))
    return sheet


def main(folder: Path) -> int:
    files, truth = planted()
    folder.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        entries = [entry for entry in truth if entry.kind == kind and entry.required]
        entry = next((one for one in entries if one.detail in ("mirrored", "cropped")), entries[len(entries) // 2])
        paths = [path for path in (entry.evidence, entry.path) if path is not None]
        pictures = [Image.open(io.BytesIO(files[path])) for path in paths]
        tile(pictures).save(folder / f"{kind}.jpg", "JPEG", quality=80)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
