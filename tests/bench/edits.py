"""How well the embedding pairs edited copies with their originals: behind the near-duplicate rule of
udfs.networks.models.

    python -m tests.bench.edits --photos DIR [--others DIR] [--sheet FILE]

prints one JSON line. DIR: JPEG photographs, no two alike. Each is edited in seven ways, encoded, and goes through the
decoding, fitting and embedding of the pipeline. Pairs of an edit and its original are true; pairs between images of
different photos, edits included, are false. `recommended`: for a limit on the share of false ones among the flagged
pairs, the lowest threshold that keeps it and the recall there.

`rules` compares a threshold alone with udfs.vectors.near_rule.NearRule (margin and alignment), where the photos, their
edits and the images of --others are one lake. All pairs of --others count as false: give it many images of few
subjects, where a threshold that serves for the photos flags nearly everything. The recall is also given for two halves
of the photographs: numbers chosen on one are to be judged on the other. tests.bench.planted tells what clusters make of
it.

Every other way to make a square input is measured too, and cosines of vectors with the mean vector of the originals
taken off. --sheet writes the false pairs of highest cosine side by side, to be looked at.
"""

import argparse
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps

from jobs import config
from jobs.duplicates.near_rules import near_rule
from tests.bench.many import image_files
from udfs.images import alignment
from udfs.images.decode import decode
from udfs.images.starts import Sketch
from udfs.networks import embedding, models, preparation
from udfs.transforms.square import FINER
from udfs.vectors.near_rule import BACKGROUND_RANK, NearRule

Pixels = NDArray[np.uint8]
Vectors = NDArray[np.float32]

QUALITY = 92  # of the JPEG that an edit is saved as
MAX_PIXELS = 10**8
FALSE_SHARES = (0.01, 0.001)
SHOWN = 8  # false pairs that are named
LOWEST = 0.4  # cosine of the pairs that the rules are tried on


def _jpeg(image: Image.Image, quality: int = QUALITY) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return out.getvalue()


def _centre(image: Image.Image) -> Image.Image:
    width, height = image.size
    return image.crop((round(width * 0.1), round(height * 0.1), round(width * 0.9), round(height * 0.9)))


def _brighter(image: Image.Image) -> Image.Image:
    return ImageEnhance.Contrast(ImageEnhance.Brightness(image).enhance(1.2)).enhance(1.2)


def _overlay(image: Image.Image) -> Image.Image:
    image = image.copy()
    width, height = image.size
    font = ImageFont.load_default(size=max(10, height // 8))
    draw = ImageDraw.Draw(image)
    for share, text in ((0.25, "SAMPLE TEXT"), (0.85, "www.example.org")):
        place = (width // 2, round(height * share))
        draw.text(place, text, "white", font, anchor="mm", stroke_width=2, stroke_fill="black")
    return image


EDITS: dict[str, Callable[[Image.Image], bytes]] = {
    "jpeg_q30": lambda image: _jpeg(image, 30),
    "half_size": lambda image: _jpeg(image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)),
    "crop_80": lambda image: _jpeg(_centre(image)),
    "mirror": lambda image: _jpeg(ImageOps.mirror(image)),
    "brightness_contrast": lambda image: _jpeg(_brighter(image)),
    "text_overlay": lambda image: _jpeg(_overlay(image)),
    "rotation_5": lambda image: _jpeg(image.rotate(5, Image.Resampling.BICUBIC)),
}


def _crop(pixels: Pixels, side: int, short: int) -> Pixels:
    height, width = pixels.shape[:2]
    scale = short / min(height, width)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    size = (max(short, round(width * scale)), max(short, round(height * scale)))
    pixels = np.asarray(cv2.resize(pixels, size, interpolation=how), np.uint8)
    top, left = (size[1] - side) // 2, (size[0] - side) // 2
    return pixels[top : top + side, left : left + side]


def _letterbox(pixels: Pixels, side: int) -> Pixels:
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    square = np.full((side, side, 3), 127, np.uint8)
    top, left = (side - size[1]) // 2, (side - size[0]) // 2
    square[top : top + size[1], left : left + size[0]] = cv2.resize(pixels, size, interpolation=how)
    return square


FITS: dict[str, Callable[[Pixels, int], Pixels]] = {
    "pipeline": embedding.fit,
    "centre_crop_100": lambda pixels, side: _crop(pixels, side, side),
    "centre_crop_87": lambda pixels, side: _crop(pixels, side, round(side / 0.875)),
    "letterbox": _letterbox,
}


def copies(path: Path) -> list[bytes]:
    """The original and its edits, in the order of EDITS."""
    data = path.read_bytes()
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    return [data, *(edit(image) for edit in EDITS.values())]


def false_pairs(cosines: NDArray[np.float32], kinds: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns, row < column, of all pairs of images of different photos."""
    rows, columns = np.triu_indices(len(cosines), 1)
    different = rows // kinds != columns // kinds
    return rows[different], columns[different]


def measure(vectors: Vectors) -> dict[str, Any]:
    """vectors: (photos × (1 + edits), d), rows of norm 1, a photo's images side by side, the original first."""
    kinds = 1 + len(EDITS)
    photos = vectors.reshape(-1, kinds, vectors.shape[1])
    true = np.einsum("pd,pkd->kp", photos[:, 0], photos[:, 1:])  # (edits, photos)
    cosines = vectors @ vectors.T
    rows, columns = false_pairs(cosines, kinds)
    false = np.sort(cosines[rows, columns])[::-1]
    grid = np.round(np.arange(0.5, 0.995, 0.005), 3)
    wrong = np.array([(false >= t).sum() for t in grid])
    right = np.array([(true >= t).sum() for t in grid])
    share = wrong / np.maximum(1, wrong + right)

    def at(i: int) -> dict[str, Any]:
        recall = {kind: round(float((true[k] >= grid[i]).mean()), 4) for k, kind in enumerate(EDITS)}
        return {
            "threshold": float(grid[i]),
            "recall": round(float((true >= grid[i]).mean()), 5),
            "recall_by_kind": recall,
            "false_pairs": int(wrong[i]),
            "false_share": round(float(share[i]), 5),
        }

    recommended = {}
    for limit in FALSE_SHARES:
        # Lowest threshold from which on the limit is kept.
        above = np.flatnonzero(share > limit)
        recommended[str(limit)] = at(min(int(above[-1]) + 1 if len(above) else 0, len(grid) - 1))
    return {
        "true_cosine": {
            kind: {
                "min": round(float(row.min()), 4),
                "p01": round(float(np.quantile(row, 0.01)), 4),
                "p05": round(float(np.quantile(row, 0.05)), 4),
                "mean": round(float(row.mean()), 4),
            }
            for kind, row in zip(EDITS, true, strict=True)
        },
        "false_cosine": {
            "pairs": len(false),
            **{f"largest_{k}": round(float(false[k - 1]), 4) for k in (1, 3, 10, 30, 100, 1000) if k <= len(false)},
        },
        "recommended": recommended,
        "by_threshold": [at(i) for i, t in enumerate(grid) if t >= 0.8 and round(t * 1000) % 20 == 0],
    }


def rules(vectors: Vectors, others: Vectors, thumbnails: Pixels, model: models.Model) -> list[dict[str, Any]]:
    """Recall and false pairs of several rules. vectors: as for `measure`; others: (n, d), rows of norm 1; thumbnails:
    (len(vectors) + n, side, side) of udfs.images.alignment."""
    kinds = 1 + len(EDITS)
    count = len(vectors)
    together = np.concatenate([vectors, others])
    cosines = together @ together.T
    np.fill_diagonal(cosines, -1)
    nth = -np.partition(-cosines, BACKGROUND_RANK - 1, axis=1)[:, BACKGROUND_RANK - 1].astype(np.float64)
    left, right = (side.astype(np.int64) for side in np.nonzero(np.triu(cosines >= LOWEST, 1)))
    values = cosines[left, right].astype(np.float64)
    same = (left < count) & (right < count) & (left // kinds == right // kinds)
    true = same & (left % kinds == 0)  # an original, which comes first, and an edit of it
    full = near_rule(config.load((), (f"embed.model={model.key}",)))
    aligned = np.zeros(len(values))
    for pair in np.flatnonzero(full.doubtful(values, nth[left], nth[right]) & (true | ~same)):
        aligned[pair] = alignment.alignment(*(Sketch(thumbnails[side[pair]]) for side in (left, right)))
    alone = {f"cosine >= {low}": NearRule(low, -2.0, low) for low in (0.65, 0.7, 0.75, 0.8, 0.85, 0.88, 0.9)}
    by_margin = {
        f"cosine >= 0.65, margin >= {gap}, or >= {full.certain}": NearRule(0.65, gap, full.certain)
        for gap in (0.1, 0.15, 0.2)
    }
    first = np.random.default_rng(0).permutation(count // kinds) < count // kinds // 2
    found = []
    for name, rule in {**alone, **by_margin, "margin and alignment": full}.items():
        flagged = rule.matches(values, nth[left], nth[right], aligned)
        hits = np.bincount(right[flagged & true] % kinds, minlength=kinds)[1:]
        photos_hit = np.bincount(right[flagged & true] // kinds, minlength=count // kinds)
        photos, elsewhere = right < count, left >= count
        found.append(
            {
                "rule": name,
                "recall": round(float(hits.sum() / (count - count // kinds)), 4),
                "recall_by_kind": dict(zip(EDITS, (hits / (count // kinds)).round(4).tolist(), strict=True)),
                "recall_by_half": [
                    round(float(photos_hit[half].sum() / max(1, half.sum() * len(EDITS))), 4)
                    for half in (first, ~first)
                ],
                "false_pairs": int((flagged & ~same & photos).sum()),
                "pairs_with_others": int((flagged & ~photos & ~elsewhere).sum()),
                "pairs_among_others": int((flagged & elsewhere).sum()),
            }
        )
    return found


def most_alike(vectors: Vectors, names: list[str]) -> list[dict[str, Any]]:
    """The pairs of different photos with the highest cosine, one a pair of photos."""
    kinds = 1 + len(EDITS)
    cosines = vectors @ vectors.T
    rows, columns = false_pairs(cosines, kinds)
    values = cosines[rows, columns]
    labels = ["original", *EDITS]
    found: dict[tuple[int, int], dict[str, Any]] = {}
    for i in np.argsort(-values):
        row, column = int(rows[i]), int(columns[i])
        photos = (row // kinds, column // kinds)
        if photos not in found:
            pair = [f"{names[x // kinds]} {labels[x % kinds]}" for x in (row, column)]
            found[photos] = {"cosine": round(float(values[i]), 4), "pair": pair, "rows": (row, column)}
        if len(found) == SHOWN:
            break
    return list(found.values())


def unit(vectors: Vectors) -> Vectors:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def embedded(paths: list[Path], runtime: embedding.Runtime, model: models.Model) -> tuple[Vectors, list[Pixels]]:
    """(len(paths), d) float32, rows of norm 1, and a thumbnail of each."""
    rows = np.empty((len(paths), model.dimension), np.float32)
    thumbnails = []
    for row, path in zip(rows, paths, strict=True):
        pixels = decode(path.read_bytes(), round(FINER * model.input_side), MAX_PIXELS).pixels
        row[:] = runtime.embed(embedding.fit(pixels, model.input_side)[None])[0]
        thumbnails.append(alignment.thumbnail(pixels))
    return rows, thumbnails


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.edits")
    parser.add_argument("--photos", type=Path, required=True, help="folder of JPEG photographs, no two alike")
    parser.add_argument("--others", type=Path, help="folder of JPEG images of few subjects")
    parser.add_argument("--model", default=models.DEFAULT, choices=models.MODELS)
    parser.add_argument("--kind", default="openvino", choices=models.KINDS)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "imagesieve-models")
    parser.add_argument("--sheet", type=Path, help="write the most alike false pairs side by side to this JPEG")
    options = parser.parse_args(argv)

    model = models.find(options.model)
    prepared = preparation.prepare(model, options.cache, options.kind)
    runtime = embedding.open_runtime(options.kind, model, prepared.files)
    paths = image_files(options.photos)
    thumbnails: list[Pixels] = []
    squares: dict[str, list[Pixels]] = {name: [] for name in FITS}
    for path in paths:
        for data in copies(path):
            pixels = decode(data, round(FINER * model.input_side), MAX_PIXELS).pixels
            thumbnails.append(alignment.thumbnail(pixels))
            for name, fit in FITS.items():
                squares[name].append(fit(pixels, model.input_side))
    vectors = {name: runtime.embed(np.stack(images)) for name, images in squares.items()}
    raw = vectors["pipeline"]
    results = {name: measure(value) for name, value in vectors.items()}
    results["pipeline, centred"] = measure(unit(raw - raw[:: 1 + len(EDITS)].mean(axis=0)))
    others = np.empty((0, model.dimension), np.float32)
    if options.others:
        others, further = embedded(image_files(options.others), runtime, model)
        thumbnails += further
    alike = most_alike(raw, [path.name for path in paths])
    if options.sheet:
        pairs = [np.hstack([squares["pipeline"][row] for row in pair["rows"]]) for pair in alike]
        Image.fromarray(np.vstack(pairs)).save(options.sheet)
    print(
        json.dumps(
            {
                "model": model.key,
                "runtime": f"{options.kind} ({runtime.device})",
                "photos": len(paths),
                "others": len(others),
                "results": results,
                "rules": rules(raw, others, np.stack(thumbnails), model),
                "most_alike_false_pairs": [{k: v for k, v in pair.items() if k != "rows"} for pair in alike],
            }
        )
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
