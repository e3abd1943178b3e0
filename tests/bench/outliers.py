"""Does the outlier rule find pictures from elsewhere? The figures behind its rank and its limit.

    python -m tests.bench.outliers --photos DIR

prints one JSON line. An image's statistic is its mean cosine with its k nearest neighbours; z is how many robust
standard deviations (1.4826 × MAD) it lies below the median. Strange pictures (scikit-image's and drawn ones) are held
against the folder one at a time, `alone`, and all at once, `together`, where they can be each other's neighbours.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import skimage
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tests.bench.edits import MAX_PIXELS, Vectors, embedded
from tests.bench.many import image_files
from udfs import embedding, models
from udfs.decode import decode

STRANGE = (
    *("page.png", "text.png", "ihc.png", "cell.png", "chessboard_GRAY.png", "brick.png", "grass.png", "gravel.png"),
    *("hubble_deep_field.jpg", "microaneurysms.png", "moon.png", "phantom.png", "retina.jpg", "color.png", "coins.png"),
)
RANKS = (1, 5, 10, 20)
QUANTILES = (0.0, 0.01, 0.5, 0.99, 1.0)
LIMITS = (2.0, 2.25, 2.5, 2.75, 3.0, 3.5)


def strange_pictures(seed: int = 0) -> dict[str, NDArray[np.uint8]]:
    """Name to (h, w, 3) uint8."""
    data = Path(skimage.__file__).parent / "data"
    found = {name: decode((data / name).read_bytes(), 224, MAX_PIXELS).pixels for name in STRANGE}
    draw = np.random.default_rng(seed)
    found["noise"] = draw.integers(0, 256, (300, 400, 3), dtype=np.uint8)
    found["black"] = np.zeros((300, 400, 3), np.uint8)
    found["checkerboard"] = np.tile(((np.indices((300, 400)) // 20).sum(0) % 2 * 255).astype(np.uint8)[..., None], 3)
    screen = Image.new("RGB", (800, 600), (245, 245, 245))
    pen = ImageDraw.Draw(screen)
    pen.rectangle((0, 0, 800, 36), fill=(60, 60, 70))
    for line in range(25):
        words = (bytes(draw.integers(97, 123, 6, dtype=np.uint8)).decode() for _ in range(12))
        pen.text((20, 50 + line * 21), " ".join(words), fill=(30, 30, 30))
    found["screenshot"] = np.asarray(screen)
    return found


def z_scores(values: NDArray[np.float64], base: NDArray[np.float64]) -> NDArray[np.float64]:
    """How many robust standard deviations of base (1.4826 × its MAD) the values lie below its median."""
    median = np.median(base)
    return np.asarray((median - values) / (1.4826 * np.median(np.abs(base - median))), np.float64)


def neighbour_means(vectors: Vectors, base: Vectors, rank: int, *, own: bool) -> NDArray[np.float64]:
    """Mean cosine of each row of vectors with its nearest `rank` rows of base. own: base is vectors itself."""
    cosines = vectors @ base.T
    if own:
        np.fill_diagonal(cosines, -1)
    return np.asarray(-np.partition(-cosines, rank - 1, axis=1)[:, :rank].mean(axis=1), np.float64)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.outliers")
    parser.add_argument("--photos", type=Path, required=True, help="folder of JPEG images")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "imagesieve-models")
    options = parser.parse_args(argv)
    model = models.find(models.DEFAULT)
    runtime = embedding.open_runtime("openvino", model, models.prepare(model, options.cache).files)
    photos, _ = embedded(image_files(options.photos), runtime, model)
    strange = strange_pictures()
    planted = runtime.embed(np.stack([embedding.fit(pixels, model.input_side) for pixels in strange.values()]))
    lake = np.concatenate([photos, planted])
    results = {}
    for rank in RANKS:
        base = neighbour_means(photos, photos, rank, own=True)
        alone = z_scores(neighbour_means(planted, photos, rank, own=False), base)
        every = neighbour_means(lake, lake, rank, own=True)
        together = z_scores(every, every)
        results[f"rank_{rank}"] = {
            "statistic": dict(zip(QUANTILES, np.quantile(base, QUANTILES).round(3).tolist(), strict=True)),
            "limits": [
                {
                    "z": limit,
                    "photos_flagged": round(float((z_scores(base, base) > limit).mean()), 5),
                    "strange_found_alone": int((alone > limit).sum()),
                    "strange_found_together": int((together[len(photos) :] > limit).sum()),
                }
                for limit in LIMITS
            ],
            "strange_z_alone": dict(zip(strange, alone.round(2).tolist(), strict=True)),
        }
    print(json.dumps({"photos": len(photos), "strange": len(strange), "results": results}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
