"""What more bytes of an image cost the embed stage: CPU time of a worker without the network, by the images' size.

    python -m tests.bench.image_sizes --photos DIR [--count 600]

prints one JSON line. The photographs are scaled to 0.5, 1, 2, 4 and 8 times their sides and saved as JPEG at quality
90, each under several names. by_size: mean bytes and CPU milliseconds of an image."""

import argparse
import json
import tempfile
from pathlib import Path

import cv2
import numpy as np

from tests.bench import embed, many, process_tree

SCALES = (0.5, 1.0, 2.0, 4.0, 8.0)
QUALITY = 90


def scaled(photos: Path, folder: Path, scale: float) -> None:
    folder.mkdir()
    for path in many.photographs(photos):
        pixels = cv2.imread(str(path))
        if pixels is None:
            raise RuntimeError(f"{path} cannot be read")
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        larger = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=how)
        cv2.imwrite(str(folder / f"{path.stem}.jpg"), larger, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.image_sizes", description=__doc__)
    parser.add_argument("--photos", type=Path, required=True, help="folder of JPEG photographs")
    parser.add_argument("--count", type=int, default=600, help="images of each size, more than 300")
    given = parser.parse_args(argv)
    found = []
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        for scale in SCALES:
            scaled(given.photos, work / f"scaled-{scale}", scale)
            paths = many.make(work / f"scaled-{scale}", work / f"many-{scale}", given.count)
            mean = float(np.mean([path.stat().st_size for path in paths]))
            found.append((mean, embed.worker_slope(embed.files(paths), work, {})))
    by_size = [[round(size), round(ms, 2)] for size, ms in found]
    print(json.dumps({"machine": process_tree.machine(), "by_size": by_size}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
