"""How many numbers a vector needs, and of what precision: behind what `embeddings` holds.

    python -m tests.bench.vectors --photos DIR [--others DIR]

prints one JSON line. Edited copies of photographs (those of tests.bench.edits) must stay nearer to their originals than
images of different photographs are to one another. For each choice, made of the same 1,280 pooled numbers:

- recall: share of the edits whose cosine with their original lies over the lowest threshold at which at most that share
  of all flagged pairs is false; lowest_kind: that of the worst of the seven edits;
- nearest: share of images whose nearest neighbour, their own edits left out, is that of the full vectors;
- labels: share of the ten nearest of --others that lie in the same folder;
- bytes_per_image: in a Parquet file with zstd, as Spark writes it.

Choices that are fitted to images (pca…) are fitted to crops of one half of the photographs and measured on the other,
and all choices are measured on both halves in turn, so that none has seen what it is measured on.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tests.bench.edits import EDITS, copies
from tests.bench.many import image_files
from udfs.images.decode import decode
from udfs.networks import embedding, formats, models, preparation, weight_files
from udfs.stores.cache import user_cache

Vectors = NDArray[np.float64]
Transform = Callable[[Vectors], Vectors]

KINDS = 1 + len(EDITS)
CROPS = 8  # of each photograph, to fit on
FALSE_SHARES = (0.01, 0.001)
MAX_PIXELS = 10**9
POOLED = 1280


def pooled(images: list[bytes] | list[NDArray[np.uint8]], net: embedding.Runtime, side: int) -> Vectors:
    """(n, 1280) of norm 1."""
    rows = np.empty((len(images), POOLED))
    for row, image in zip(rows, images, strict=True):
        pixels: Any = decode(image, side, MAX_PIXELS).pixels if isinstance(image, bytes) else image
        row[:] = net.embed(embedding.fit(pixels, side)[None])[0]
    return rows


def crops(path: Path, rng: np.random.Generator) -> list[NDArray[np.uint8]]:
    """Random parts of a photograph, 5 to 50 % of its area, with its aspect ratio."""
    pixels = decode(path.read_bytes(), 448, MAX_PIXELS).pixels
    height, width = pixels.shape[:2]
    found = []
    for scale in np.sqrt(rng.uniform(0.05, 0.5, CROPS)):
        high, wide = int(height * scale), int(width * scale)
        top, left = rng.integers(0, height - high + 1), rng.integers(0, width - wide + 1)
        found.append(np.ascontiguousarray(pixels[top : top + high, left : left + wide]))
    return found


def unit(rows: Vectors) -> Vectors:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def as_float16(rows: Vectors) -> Vectors:
    return rows.astype(np.float16).astype(np.float64)


def class_subspace(net: Any) -> Vectors:
    """The 512 strongest directions in which the classifier's weights differ between classes, as columns (1280, 512)."""
    weights = net.get_classifier().weight.detach().numpy().astype(np.float64)
    return np.asarray(np.linalg.svd(weights - weights.mean(axis=0), full_matrices=False)[2][:512].T)


def choices(fitted: Vectors, classes: Vectors) -> dict[str, tuple[Transform, bool]]:
    """name: (what is done to pooled vectors, whether it is stored as float16). fitted: (n, 1280) to fit on; classes:
    (1280, 512), of `class_subspace`."""
    mean = fitted.mean(axis=0)
    values, directions = np.linalg.eigh(np.cov((fitted - mean).T))
    values, directions = values[::-1], directions[:, ::-1]
    random = np.linalg.qr(np.random.default_rng(0).normal(size=(POOLED, 512)))[0]

    def pca(count: int, power: float, centre: Vectors) -> Transform:
        matrix = directions[:, :count] / (values[:count] + 1e-3 * values[0]) ** power
        return lambda rows: (rows - centre) @ matrix

    none = np.zeros(POOLED)
    return {
        "1280 float32": (lambda rows: rows, False),
        "1280 float16": (lambda rows: rows, True),
        "1280 centred float32": (lambda rows: rows - mean, False),
        "512 classes float32": (lambda rows: rows @ classes, False),
        "512 classes float16": (lambda rows: rows @ classes, True),
        "256 classes float16": (lambda rows: rows @ classes[:, :256], True),
        "512 random float16": (lambda rows: rows @ random, True),
        "512 pca float16": (pca(512, 0.0, none), True),
        "512 pca centred float16": (pca(512, 0.0, mean), True),
        "512 pca whitened float16": (pca(512, 0.5, mean), True),
        "256 pca whitened float16": (pca(256, 0.5, mean), True),
    }


def separation(rows: Vectors) -> dict[str, Any]:
    """rows: (photos × KINDS, d) of norm 1, a photo's images side by side, the original first."""
    photos = rows.reshape(-1, KINDS, rows.shape[1])
    true = np.einsum("pd,pkd->kp", photos[:, 0], photos[:, 1:])
    cosines = rows @ rows.T
    left, right = np.triu_indices(len(rows), 1)
    false = np.sort(cosines[left, right][left // KINDS != right // KINDS])[::-1]
    found = {}
    for share in FALSE_SHARES:
        for threshold in np.sort(true.ravel()):
            wrong = int(np.searchsorted(-false, -threshold, side="right"))
            if wrong <= share * (wrong + int((true >= threshold).sum())):
                break
        hits = (true >= threshold).mean(axis=1)
        found[str(share)] = {"recall": float(hits.mean()), "lowest_kind": float(hits.min())}
    return found


def nearest(rows: Vectors) -> NDArray[np.int64]:
    """The photo that the image nearest to each, of another photo, is of."""
    cosines = rows @ rows.T
    photo = np.arange(len(rows)) // KINDS
    cosines[photo[:, None] == photo[None, :]] = -2
    return np.asarray(photo[cosines.argmax(axis=1)])


def bytes_per_image(rows: Vectors) -> float:
    values = pa.array(rows.astype(np.float32).ravel(), pa.float32())
    lists = pa.FixedSizeListArray.from_arrays(values, rows.shape[1]).cast(pa.list_(pa.float32()))
    table = pa.table({"image_id": np.arange(len(rows)), "model": [models.DEFAULT] * len(rows), "vector": lists})
    with tempfile.NamedTemporaryFile() as file:
        pq.write_table(table, file.name, compression="zstd")
        return Path(file.name).stat().st_size / len(rows)


def same_folder(rows: Vectors, folders: NDArray[np.str_]) -> float:
    cosines = rows @ rows.T
    np.fill_diagonal(cosines, -2)
    ten = np.argpartition(-cosines, 10, axis=1)[:, :10]
    return float((folders[ten] == folders[:, None]).mean())


def mean_of(both: list[dict[str, Any]]) -> dict[str, float]:
    """One row of the result. both: of the two halves."""
    flat = [
        {
            **{f"{key}_at_{share}": value for share in FALSE_SHARES for key, value in one[str(share)].items()},
            **{key: value for key, value in one.items() if isinstance(value, float)},
        }
        for one in both
    ]
    return {key: round(float(np.mean([one[key] for one in flat])), 4) for key in flat[0]}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.vectors", description=__doc__)
    parser.add_argument("--photos", type=Path, required=True, help="folder of JPEG photographs, no two alike")
    parser.add_argument("--others", type=Path, help="folder of folders of JPEG images, one for each subject")
    given = parser.parse_args(argv)

    ours = models.find(models.DEFAULT)
    prepared = preparation.prepare(ours, user_cache())
    net = embedding.open_runtime(prepared.kind, ours, prepared.files)
    classes = class_subspace(formats.load(ours, weight_files.weights_file(ours, user_cache())))
    side = ours.input_side
    paths = image_files(given.photos)
    edits = pooled([data for path in paths for data in copies(path)], net, side).reshape(len(paths), KINDS, POOLED)
    rng = np.random.default_rng(0)
    parts = pooled([part for path in paths for part in crops(path, rng)], net, side).reshape(len(paths), CROPS, POOLED)
    others = image_files(given.others) if given.others else []
    folders = np.array([path.parent.name for path in others])
    small = pooled([path.read_bytes() for path in others], net, side)

    order = rng.permutation(len(paths))
    halves = (order[::2], order[1::2])
    found: dict[str, list[dict[str, Any]]] = {}
    for fit_on, measure_on in (halves, halves[::-1]):
        fitted = np.concatenate([parts[fit_on].reshape(-1, POOLED), edits[fit_on].reshape(-1, POOLED)])
        rows = edits[measure_on].reshape(-1, POOLED)
        reference = nearest(unit(rows))
        for name, (transform, rounded) in choices(fitted, classes).items():
            mine = unit(transform(rows))
            mine = as_float16(mine) if rounded else mine
            one: dict[str, Any] = separation(mine)
            one["nearest"] = float((nearest(mine) == reference).mean())
            if others:
                one["labels"] = same_folder(unit(transform(small)), folders)
            distinct = unit(transform(parts.reshape(-1, POOLED)))
            one["bytes_per_image"] = bytes_per_image(as_float16(distinct) if rounded else distinct)
            found.setdefault(name, []).append(one)
    results = {name: mean_of(both) for name, both in found.items()}
    print(json.dumps({"model": ours.key, "photos": len(paths), "others": len(others), "results": results}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
