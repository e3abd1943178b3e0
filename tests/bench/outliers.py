"""Does the outlier score find pictures from elsewhere? Average precision over many draws, and what the limit flags.

    python -m tests.bench.outliers --photos DIR [--labelled DIR]

prints one JSON line. In each draw 1 % of pictures from elsewhere (textures, screenshots and pages of text of
tests.bench.foreign, all kinds or one at a time; photographs among drawings of the demo, and among the images of
--labelled) are planted in a folder, and all images are ranked by their outlier score: `ap` is the mean of the average
precision over the draws, `plain_ap` that of the mean cosine to the five nearest, `found` and `flagged` the shares of
planted and of other images below the default limit. The score is computed with numpy by the formula of
jobs.findings.outliers, with which a test compares it; no two images of a folder may be duplicates.
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
from udfs.networks import embedding, models, preparation
from udfs.vectors.cosine import Values
from udfs.vectors.outliers import learn

EACH = 60  # pictures of a kind that draws are made from
SHARE = 0.01
DRAWS = 100
LABELLED = 1000  # images of --labelled, evenly spread
PLAIN = 5


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
    mixes["drawings_photos"] = (vectors_of([scene.pixels() for scene in scenes.drawn()]), real, draws)
    if labelled is not None:
        files = image_files(labelled)
        small = embedded(files[:: max(1, len(files) // LABELLED)], runtime, model)[0]
        mixes["labelled_photos"] = (small, real, max(1, draws // 10))
        mixes["labelled_any"] = (small, mixes["photos_any"][1], max(1, draws // 10))
    limit = config.load((), ()).issues.outlier
    results = {name: judged(*mix, limit) for name, mix in mixes.items()}
    return {"photos": len(real), "outlier_ap": results["photos_any"]["ap"], "outliers": results}


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
