"""Does the outlier score find pictures from elsewhere? Average precision over many draws, and what the limit flags.

    python -m tests.bench.outliers --photos DIR [--labelled DIR]

prints one JSON line. In each draw 1 % of pictures from elsewhere (textures, screenshots and pages of text of
tests.bench.foreign, all kinds or one at a time; photographs among drawings of the demo, and among the images of
--labelled) are planted in a folder, and all images are ranked by their outlier score: `ap` is the mean of the average
precision over the draws, `plain_ap` that of the mean cosine to the five nearest, `found` and `flagged` the shares of
planted and of other images below the default limit. The score is computed with numpy by the formula of
jobs.findings.outliers, with which a test compares it; no two images of a folder may be duplicates.

`one_subject`: lakes without foreign pictures, each class of --labelled alone and parts of it, the photographs, the
drawings and parts of them, and made vectors: the share that is flagged by the limit alone and as it is flagged, and in
how many any foreign picture is said to be shown. `shares`: 0.5, 2 and 5 % of foreign pictures, photographs and drawings
in the classes, the photographs and the drawings: recall and precision by the limit alone and as it is flagged; `held`:
in how many lakes the interval holds the planted share.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from jobs import config
from jobs.demo import scenes
from jobs.findings.outliers import FIRST_RANK, HALF_AT, LAST_RANK, LEAST_SPREAD, SAMPLE
from tests.bench import foreign
from tests.bench.edits import Vectors, embedded
from tests.bench.many import image_files
from tests.vectors import unit
from udfs.networks import embedding, models, preparation
from udfs.vectors.cosine import Values
from udfs.vectors.foreign_share import BINS, STEP, Foreign, foreign_share
from udfs.vectors.outliers import learn

EACH = 60  # pictures of a kind that draws are made from
SHARE = 0.01
DRAWS = 100
LABELLED = 1000  # images of --labelled, evenly spread
PLAIN = 5
SHARES = (0.005, 0.02, 0.05)
PARTS = (60, 120, 250)  # images of a part of a lake of one subject


def cosines_of(vectors: Vectors) -> NDArray[np.float32]:
    """With its nearest LAST_RANK others of each row, the nearest first; fewer where there are fewer rows."""
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -2)
    return -np.sort(-cosines, axis=1)[:, : min(LAST_RANK, len(vectors) - 1)]


def deviations(values: Values, name: str) -> Values:
    """Robust standard deviations below the median, at least 0. name: in jobs.findings.outliers.LEAST_SPREAD."""
    away = 1.4826 * np.median(np.abs(values - np.median(values)))
    return np.asarray(np.maximum(np.median(values) - values, 0) / max(away, LEAST_SPREAD[name]), np.float64)


def outlier_scores(vectors: Vectors) -> Values:
    """vectors: (n, d) float32, rows of norm 1, FIRST_RANK < n <= SAMPLE, no two duplicates. Returns (n,) in [0, 1]."""
    if not FIRST_RANK < len(vectors) <= SAMPLE:
        raise ValueError(f"{len(vectors)} images: there must be {FIRST_RANK + 1} to {SAMPLE}")
    near = deviations(cosines_of(vectors)[:, FIRST_RANK - 1 :].mean(axis=1, dtype=np.float64), "nearness")
    common = np.nan_to_num(learn(vectors).commonness(vectors))
    squares = near**2 + deviations(common, "commonness") ** 2
    return np.asarray(HALF_AT**2 / (HALF_AT**2 + squares), np.float64)


def judged(base: Vectors, elsewhere: Vectors, draws: int, limit: float) -> dict[str, float]:
    """base: (n, d); elsewhere: (m, d), of which 1 % of n are planted in each draw."""
    count = max(1, round(SHARE * len(base)))
    planted = np.arange(len(base) + count) >= len(base)
    rows = []
    for seed in range(draws):
        chosen = np.random.default_rng(seed).choice(len(elsewhere), count, replace=False)
        vectors = np.concatenate([base, elsewhere[chosen]])
        scores, plain = outlier_scores(vectors), cosines_of(vectors)[:, :PLAIN].mean(axis=1)
        flagged = scores < limit
        rows.append(
            [
                average_precision_score(planted, -scores),
                average_precision_score(planted, -plain),
                flagged[planted].mean(),
                flagged[~planted].mean(),
            ]
        )
    return dict(
        zip(("ap", "plain_ap", "found", "flagged"), np.mean(rows, axis=0).round(4).tolist(), strict=True),
    )


def flagged(vectors: Vectors, limit: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_], Foreign]:
    """(n,) by the limit alone, and as jobs.findings.outliers flags; and how many are foreign."""
    scores = outlier_scores(vectors)
    away = HALF_AT * np.sqrt(1 / scores - 1)
    bins = np.minimum((away / STEP).astype(np.int64), BINS - 1)
    found = foreign_share(np.bincount(bins, minlength=BINS).astype(np.int64))
    if found is None:
        raise ValueError(f"{len(vectors)} images: too few")
    return scores < limit, (scores < limit) & (away >= found.beyond), found


def one_subject(lakes: dict[str, Vectors], limit: float) -> dict[str, float]:
    """lakes: name -> (n, d), n >= PARTS[0], none of which has foreign pictures; also taken in parts."""
    generator = np.random.default_rng(1)
    parts = list(lakes.items())
    for name, vectors in lakes.items():
        for count in PARTS:
            if count < len(vectors):
                parts.append((name, vectors[generator.choice(len(vectors), count, replace=False)]))
    rows = [(len(vectors), *flagged(vectors, limit)) for _, vectors in parts]
    images = sum(row[0] for row in rows)
    return {
        "lakes": len(rows),
        "images": images,
        "by_limit": round(sum(int(row[1].sum()) for row in rows) / images, 5),
        "flagged": round(sum(int(row[2].sum()) for row in rows) / images, 5),
        "shown": sum(row[3].low > 0 for row in rows),
    }


def shares(lakes: dict[str, Vectors], elsewhere: dict[str, Vectors], limit: float) -> dict[str, dict[str, float]]:
    """lakes: name -> (n, d). elsewhere: name -> (m, d), planted in each lake of another name, as many as there are."""
    found: dict[str, dict[str, float]] = {}
    for share in SHARES:
        generator, counts, held = np.random.default_rng(2), np.zeros(5, np.int64), []
        for name, base in lakes.items():
            for kind, others in elsewhere.items():
                number = max(1, round(share * len(base)))
                if kind == name or number > len(others):
                    continue
                vectors = np.concatenate([base, others[generator.choice(len(others), number, replace=False)]])
                by_limit, marked, estimate = flagged(vectors, limit)
                planted = np.arange(len(vectors)) >= len(base)
                counts += [number, *(int(x.sum()) for x in (by_limit, by_limit & planted, marked, marked & planted))]
                held.append(estimate.low <= planted.mean() <= estimate.high)
        found[str(share)] = {
            "lakes": len(held),
            "held": int(sum(held)),
            **dict(zip(("recall_by_limit", "recall"), (counts[[2, 4]] / counts[0]).round(4).tolist(), strict=True)),
            **dict(
                zip(
                    ("precision_by_limit", "precision"),
                    (counts[[2, 4]] / np.maximum(counts[[1, 3]], 1)).round(4).tolist(), strict=True,
                )
            ),
        }  # fmt: skip
    return found


def made(seed: int) -> dict[str, Vectors]:
    """Lakes of vectors around one direction, around eight, of few dimensions, and with long tails."""
    rng = np.random.default_rng(seed)
    return {
        "around": unit(rng.normal(size=(500, 64)) + 2 * rng.normal(size=64)),
        "groups": unit(rng.normal(size=(8, 64))[rng.integers(8, size=800)] + 0.5 * rng.normal(size=(800, 64))),
        "flat": unit(rng.normal(size=(1500, 12)) @ rng.normal(size=(12, 64)) + 0.3 * rng.normal(size=(1500, 64)) + 2),
        "long_tails": unit(rng.standard_t(6, size=(4000, 32)) + 1.5),
    }


def measure(photos: Path, labelled: Path | None, cache: Path, draws: int = DRAWS) -> dict[str, Any]:
    """photos: a folder of photographs. labelled: one of small images in folders, or None. Returns the results by mix,
    and as outlier_ap that of all kinds of foreign pictures among the photographs."""
    model = models.find(models.DEFAULT)
    runtime = embedding.open_runtime("openvino", model, preparation.prepare(model, cache).files)

    def vectors_of(pictures: list[foreign.Pixels]) -> Vectors:
        squares = [embedding.fit(pixels, model.input_side) for pixels in pictures]
        return np.concatenate([runtime.embed(square[None]) for square in squares])

    real = embedded(image_files(photos), runtime, model)[0]
    kinds = {kind: vectors_of(foreign.pictures(kind, EACH)) for kind in foreign.KINDS}
    mixes = {"photos_any": (real, np.concatenate(list(kinds.values())), draws)}
    mixes |= {f"photos_{kind}": (real, vectors, draws) for kind, vectors in kinds.items()}
    drawn = vectors_of([scene.pixels() for scene in scenes.drawn()])
    mixes["drawings_photos"] = (drawn, real, draws)
    lakes = {"photos": real, "drawn": drawn}
    if labelled is not None:
        files = image_files(labelled)
        every = embedded(files, runtime, model)[0]
        small = every[:: max(1, len(files) // LABELLED)]
        folders = np.array([file.parent.name for file in files])
        lakes |= {f"class {name}": every[folders == name] for name in sorted(set(folders.tolist()))}
        mixes["labelled_photos"] = (small, real, max(1, draws // 10))
        mixes["labelled_any"] = (small, mixes["photos_any"][1], max(1, draws // 10))
    limit = config.load((), ()).issues.outlier
    results = {name: judged(*mix, limit) for name, mix in mixes.items()}
    elsewhere = {"any": mixes["photos_any"][1], "photos": real, "drawn": drawn}
    return {
        "photos": len(real), "outlier_ap": results["photos_any"]["ap"], "outliers": results,
        "one_subject": one_subject({**lakes, **made(3)}, limit), "shares": shares(lakes, elsewhere, limit),
    }  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.outliers")
    parser.add_argument("--photos", type=Path, required=True, help="folder of JPEG photographs, no two alike")
    parser.add_argument("--labelled", type=Path, help="folder of images in folders")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "imagesieve-models")
    parser.add_argument("--draws", type=int, default=DRAWS)
    options = parser.parse_args(argv)
    print(json.dumps(measure(options.photos, options.labelled, options.cache, options.draws)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
