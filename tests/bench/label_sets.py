"""Several labels an image: wrong ones planted among right ones, how well they are found, and what that costs.

    python -m tests.bench.label_sets --labelled DIR [--images N] [--work DIR]

prints one JSON line. DIR holds a folder of JPEG images for each label. Of them N collages are made (1,500), each of one
to MOST pictures of as many labels, which are its set. A manifest of JSON lines names them; they are catalogued,
embedded and clustered as a user does it, once. Then for each of SHARES and SEEDS that share of the labels is dropped
and as many are added that do not hold, and the manifest is catalogued again and judged by `imagesieve labels`.

- ap: average precision of all images x labels by the probability that what is said of them is wrong, against what was
  planted; ap_added, ap_dropped: of those that are given, and of those that are not. By the model alone on the lake's
  vectors, for the table has of labels that are not given the flagged ones only.
- precision, recall: of what the table `label_sets` flags against what was planted. images_precision, images_recall: of
  images with any. By added and dropped ones: added_recall, dropped_recall.
- planted, estimate: share of the given labels that does not hold, and what the stage says of it, None where none can
  be shown.
- clean: of the sets as they are: flagged, the share of given labels that are flagged; missing, labels that are flagged
  as missing by those given; images, the share of them with a flag; estimate.
- cpu_s: CPU time of `imagesieve labels` with all its processes; wall_s.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from deltalake import DeltaTable
from numpy.typing import NDArray
from scipy import sparse

from tests.bench import peers, process_tree
from tests.bench.label_noise import average_precision
from udfs.labels import sets

ROOT = Path(__file__).resolve().parents[2]
IMAGES, MOST, SIDE = 1500, 4, 224
SHARES, SEEDS = (0.05, 0.10), (11, 12)
FOLDS = 5
TIMEOUT_S = 600.0

Truth = NDArray[np.bool_]


def collages(labelled: Path, folder: Path, count: int) -> tuple[list[str], Truth]:
    """Writes them as NUMBER.png. Returns the names of the classes and (count, C) which each shows."""
    files = {place.name: sorted(place.glob("*.jpg")) for place in sorted(labelled.iterdir()) if place.is_dir()}
    names, generator = list(files), np.random.default_rng(7)
    truth = np.zeros((count, len(names)), np.bool_)
    folder.mkdir(parents=True)
    half = SIDE // 2
    for number in range(count):
        chosen = generator.permutation(len(names))[: generator.integers(1, MOST + 1)]
        truth[number, chosen] = True
        canvas = np.full((SIDE, SIDE, 3), generator.integers(0, 256, 3), np.uint8)
        across, down = (1, 1) if len(chosen) == 1 else (2, 1) if len(chosen) == 2 else (2, 2)
        cells = generator.permutation(across * down)[: len(chosen)]
        for cell, one in zip(cells.tolist(), chosen.tolist(), strict=True):
            given = files[names[one]]
            file = given[generator.integers(len(given))]
            picture = cv2.imread(str(file))
            if picture is None:
                raise ValueError(f"{file}: is no image")
            width, height = SIDE // across, SIDE // down
            left, top = half * (cell % across), half * (cell // across)
            canvas[top : top + height, left : left + width] = cv2.resize(
                picture, (width, height), interpolation=cv2.INTER_CUBIC
            )
        cv2.imwrite(str(folder / f"{number:05d}.png"), canvas)
    return names, truth


def spoilt(truth: Truth, share: float, seed: int = 1) -> Truth:
    """A share of the labels that hold are dropped, and as many added. truth: (n, C)."""
    generator, given = np.random.default_rng(seed), truth.copy()
    for before in (True, False):
        rows, classes = np.nonzero(truth == before)
        chosen = generator.permutation(len(rows))[: round(share * truth.sum())]
        given[rows[chosen], classes[chosen]] = not before
    return given


def command(*arguments: str) -> process_tree.Measured:
    whole = [sys.executable, "-m", "jobs.command", *arguments]
    return peers.checked(process_tree.run(whole, cwd=ROOT, timeout_s=TIMEOUT_S))


class Sets:
    """A lake of collages whose sets can be changed."""

    def __init__(self, labelled: Path, work: Path, count: int) -> None:
        self.names, self.truth = collages(labelled, work / "collages", count)
        self._manifest, self._lake = work / "sets.jsonl", work / "lake"
        self.write(self.truth)
        for stage in ("embed", "neighbours", "clusters"):
            command(stage, "--lake", str(self._lake))
        rows = self._table("embeddings", "image_id", "vector").sort_by("image_id")
        uris = self._table("images", "image_id", "uri").sort_by("image_id")["uri"].to_pylist()
        numbers = [int(Path(uri).stem) for uri in uris]
        if numbers != list(range(count)) or len(rows) != count:
            raise ValueError("not all collages were embedded in their order")
        self.vectors = np.array(rows["vector"].to_pylist(), np.float32)

    def _table(self, name: str, *columns: str) -> Any:
        return DeltaTable(str(self._lake / name)).to_pyarrow_table(columns=list(columns))

    def write(self, given: Truth) -> None:
        with self._manifest.open("w", encoding="utf-8") as file:
            for number, row in enumerate(given):
                labels = [self.names[one] for one in np.flatnonzero(row)]
                file.write(json.dumps({"uri": f"collages/{number:05d}.png", "labels": labels}) + "\n")
        command("catalog", str(self._manifest), "--lake", str(self._lake))

    def flagged(self, given: Truth) -> tuple[Truth, float | None, process_tree.Measured]:
        """(n, C) what the stage flags where these are the sets, its estimate, and what it cost."""
        self.write(given)
        measured = command("labels", "--lake", str(self._lake))
        found = np.zeros_like(given)
        seen = np.zeros_like(given)
        place = {name: number for number, name in enumerate(self.names)}
        for row in self._table("label_sets", "image_id", "label", "given", "flagged").to_pylist():
            cell = row["image_id"], place[row["label"]]
            found[cell], seen[cell] = row["flagged"], row["given"]
        if (seen != given).any():
            raise ValueError("the table has other sets than the manifest")
        runs = self._table("runs", "job", "ended_at", "counts").sort_by("ended_at").to_pylist()
        counts = json.loads(next(row["counts"] for row in reversed(runs) if row["job"] == "labels"))
        return found, counts.get("wrong_in_sets", {}).get("share"), measured

    def wrong(self, given: Truth) -> NDArray[np.float64]:
        """(n, C) probability that what is said of each label is wrong, by the model alone."""
        folds = np.random.default_rng(2).integers(0, FOLDS, len(given)).astype(np.int32)
        images = sets.Sets(self.vectors, sparse.csr_array(given.astype(np.float32)), folds, np.ones(len(given)))
        model, _ = sets.fit(images, FOLDS)
        said, holds = model.judge(images)
        return np.where(said, 1 - holds, holds)


def of_case(lake: Sets, given: Truth) -> dict[str, Any]:
    flags, estimate, measured = lake.flagged(given)
    wrong, probability = given != lake.truth, lake.wrong(given)
    hit, by_image = flags & wrong, (flags.any(axis=1), wrong.any(axis=1))
    return {
        "ap": average_precision(1 - probability.ravel(), wrong.ravel()),
        "ap_added": average_precision(1 - probability[given], wrong[given]),
        "ap_dropped": average_precision(1 - probability[~given], wrong[~given]),
        "precision": hit.sum() / max(flags.sum(), 1),
        "recall": hit.sum() / wrong.sum(),
        "added_recall": (hit & given).sum() / (wrong & given).sum(),
        "dropped_recall": (hit & ~given).sum() / (wrong & ~given).sum(),
        "images_precision": (by_image[0] & by_image[1]).sum() / max(by_image[0].sum(), 1),
        "images_recall": (by_image[0] & by_image[1]).sum() / by_image[1].sum(),
        "planted": (wrong & given).sum() / given.sum(),
        "estimate": estimate,
        "cpu_s": measured.cpu_s,
        "wall_s": measured.wall_s,
    }


def of_clean(lake: Sets) -> dict[str, Any]:
    flags, estimate, measured = lake.flagged(lake.truth)
    total = lake.truth.sum()
    return {
        "flagged": (flags & lake.truth).sum() / total,
        "missing": (flags & ~lake.truth).sum() / total,
        "images": flags.any(axis=1).mean(),
        "estimate": estimate,
        "cpu_s": measured.cpu_s,
        "wall_s": measured.wall_s,
    }


def measure(labelled: Path, work: Path, count: int = IMAGES) -> dict[str, Any]:
    lake = Sets(labelled, work, count)
    found: dict[str, Any] = {
        "images": count, "classes": len(lake.names), "labels": int(lake.truth.sum()), "seeds": list(SEEDS),
        "clean": _rounded([of_clean(lake)]),
    }  # fmt: skip
    for share in SHARES:
        found[f"{share:.2f}"] = _rounded([of_case(lake, spoilt(lake.truth, share, seed)) for seed in SEEDS])
    return found


def _rounded(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """The mean of each figure; None where any is."""
    columns = {name: [part[name] for part in parts] for name in parts[0]}
    return {
        name: None if None in values else round(float(np.mean(values)), 2 if name.endswith("_s") else 4)
        for name, values in columns.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Wrong labels among several of an image. Prints one JSON line.")
    parser.add_argument("--labelled", type=Path, required=True)
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--work", type=Path, help="an empty folder that is kept")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        print(json.dumps(measure(arguments.labelled.resolve(), work.resolve(), arguments.images)))


if __name__ == "__main__":
    main()
