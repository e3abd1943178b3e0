"""Content: how good concepts and topics are, and what they cost.

    python -m tests.bench.content --photos DIR --labelled DIR [--small N] [--large N] [--work DIR]

prints one JSON line. DIR of photos: JPEG files whose names begin with WordNet's id of their ImageNet class and `_`.
DIR of labelled: a folder for each class.

- concept_top1, concept_top5: share of the photographs whose class is the first, or one of the five, by the vectors as
  the lake stores them. network_top1: by the whole network in torch, in float32. concept_agreement: share where the two
  name the same first; confidence_error: the median difference of their confidence, and the largest.
- topic_purity: share of the labelled images whose class is the most common one of their topic, with the usual number of
  topics and with one a class; topic_ami: adjusted mutual information with the classes. By what the classifier says,
  which is what the stage does, and by the vectors, which it does for models without one.
- content_cpu_ms: CPU time of the stage, an image, as a slope between two lakes of synthetic vectors.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.tables import TABLES
from tests.bench import peers, process_tree, vector_lake
from tests.bench.many import image_files
from tests.bench.neighbours import ROOT, TIMEOUT_S
from udfs import content
from udfs.images import decode
from udfs.networks import concepts, embedding, formats, models, preparation, weight_files
from udfs.stores.cache import user_cache
from udfs.transforms.square import FINER
from udfs.vectors import topics
from udfs.vectors.cosine import Vectors

MODEL = models.find(models.DEFAULT)
NORM = 15.0  # about the mean of photographs
MOST_PIXELS = 10**9


def squares(paths: list[Path]) -> NDArray[np.uint8]:
    """(n, side, side, 3) uint8, as the embed stage makes them."""
    seen = (decode.decode(path.read_bytes(), round(FINER * MODEL.input_side), MOST_PIXELS).pixels for path in paths)
    return np.stack([embedding.fit(pixels, MODEL.input_side, MODEL.fit) for pixels in seen])


def stored(paths: list[Path]) -> tuple[Vectors, NDArray[np.float32], NDArray[np.uint8]]:
    """Vectors and norms as the lake stores them, and the squares that they are of."""
    runtime = embedding.open_runtime("openvino", MODEL, preparation.prepare(MODEL, user_cache()).files)
    pixels = squares(paths)
    found = runtime.submit(pixels)()
    return found.vectors.astype(np.float16).astype(np.float32), found.norms, pixels


def said_by_network(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(n, classes) the softmax of the whole network in torch."""
    import torch

    net = formats.load(MODEL, weight_files.weights_file(MODEL, user_cache()))
    parts = []
    with torch.inference_mode():
        for at in range(0, len(pixels), 32):
            normal = torch.from_numpy(pixels[at : at + 32]).permute(0, 3, 1, 2).float()
            parts.append(torch.softmax(net((normal - MODEL.mean[0]) / MODEL.std[0]), dim=1).numpy())
    return np.concatenate(parts)


def concept_quality(photos: Path, classifier: concepts.Classifier) -> dict[str, Any]:
    from timm.data.imagenet_info import ImageNetInfo

    known: Any = ImageNetInfo()
    paths = image_files(photos)
    truth = np.array([known.label_names().index(path.name.partition("_")[0]) for path in paths])
    vectors, norms, pixels = stored(paths)
    found, confidences = concepts.likeliest(classifier.logits(vectors, norms), 5)
    said = said_by_network(pixels)
    error = np.abs(np.take_along_axis(said, found, axis=1) - confidences)
    return {
        "concept_photos": len(paths),
        "concept_top1": round(float((found[:, 0] == truth).mean()), 4),
        "concept_top5": round(float((found == truth[:, np.newaxis]).any(axis=1).mean()), 4),
        "network_top1": round(float((said.argmax(axis=1) == truth).mean()), 4),
        "concept_agreement": round(float((said.argmax(axis=1) == found[:, 0]).mean()), 4),
        "confidence_error": [round(float(np.median(error)), 5), round(float(error.max()), 5)],
    }


def topic_quality(labelled: Path, classifier: concepts.Classifier) -> dict[str, Any]:
    from sklearn.metrics import adjusted_mutual_info_score

    paths = image_files(labelled)
    names, truth = np.unique([path.parent.name for path in paths], return_inverse=True)
    vectors, norms, _ = stored(paths)
    found: dict[str, Any] = {"topic_images": len(paths)}
    for name, by in {"classifier": classifier, "vectors": None}.items():
        rows = content.seen(by, vectors, norms)
        for count in (topics.usual_count(len(paths)), len(names)):
            places, _ = topics.train(rows, count).nearest(rows)
            table = np.zeros((count, len(names)), np.int64)
            np.add.at(table, (places, truth), 1)
            found[f"topic_purity_{count}_by_{name}"] = round(float(table.max(axis=1).sum() / len(paths)), 3)
            found[f"topic_ami_{count}_by_{name}"] = round(float(adjusted_mutual_info_score(truth, places)), 3)
    return found


def synthetic(classifier: concepts.Classifier, count: int) -> Vectors:
    """(count, d) float32 of norm 1 and no negative number, each near what one class looks for."""
    generator = np.random.default_rng(0)
    rows = np.empty((count, classifier.weights.shape[1]), np.float32)
    for row in rows:
        row[:] = np.abs(
            generator.standard_normal(len(row), np.float32) + 4 * classifier.weights[generator.integers(1000)]
        )
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def cpu_slope(classifier: concepts.Classifier, sizes: tuple[int, int], work: Path) -> dict[str, Any]:
    import pyarrow as pa
    from deltalake import write_deltalake
    from pyspark.sql.pandas.types import to_arrow_schema

    used = []
    for size in sizes:
        lake = work / f"content-{size}"
        vector_lake.write(lake, synthetic(classifier, size), model=MODEL.key, norm=NORM)
        empty: pa.Table = to_arrow_schema(TABLES["duplicates"].schema).empty_table()
        write_deltalake(str(lake / "duplicates"), empty)
        command = [sys.executable, "-m", "jobs.command", "content", "--lake", str(lake)]
        used.append(round(peers.checked(process_tree.run(command, cwd=ROOT, timeout_s=TIMEOUT_S)).cpu_s, 1))
    slope = (used[1] - used[0]) / (sizes[1] - sizes[0]) * 1000
    return {"content_images": sizes, "content_cpu_s": used, "content_cpu_ms": round(slope, 4)}


def measure(
    photos: Path, labelled: Path | None, work: Path, sizes: tuple[int, int] = (20_000, 80_000)
) -> dict[str, Any]:
    """All figures; those of topics only where there are labelled images."""
    classifier = concepts.prepare(MODEL, user_cache())
    if classifier is None:
        raise RuntimeError(f"{MODEL.key} has no classifier")
    found = concept_quality(photos, classifier)
    if labelled is not None:
        found |= topic_quality(labelled, classifier)
    return found | cpu_slope(classifier, sizes, work)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.content")
    parser.add_argument("--photos", type=Path, required=True, help="folder of ImageNet photographs, WNID_name.JPEG")
    parser.add_argument("--labelled", type=Path, help="folder of a folder for each class")
    parser.add_argument("--small", type=int, default=20_000, help="vectors in the smaller lake")
    parser.add_argument("--large", type=int, default=80_000)
    parser.add_argument("--work", type=Path, help="where the lakes go; a temporary folder without it")
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=given.work) as temporary:
        print(json.dumps(measure(given.photos, given.labelled, Path(temporary), (given.small, given.large))))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
