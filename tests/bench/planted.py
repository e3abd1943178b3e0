"""Planted edits in a lake: what of them the table `duplicates` ties to their originals after a whole run.

Each photograph and its edits (EDITS of tests.bench.edits) are written as files of one folder, and the pipeline runs on
it by its command line with default settings. True are pairs of images of one photograph, which must all differ."""

import sys
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from deltalake import DeltaTable

from tests.bench import process_tree
from tests.bench.edits import EDITS, copies
from tests.bench.many import photographs

ROOT = Path(__file__).parents[2]
ORIGINAL = "original"
TIMEOUT_S = 3600.0


def plant(photos: Path, folder: Path) -> int:
    """Writes `<photo>/<kind>.jpg` for each photograph, its original and every edit. Returns how many photographs.

    Raises ValueError where there is none, FileExistsError where a photograph is there already."""
    found = photographs(photos)
    for number, path in enumerate(found):
        inside = folder / f"{number:05d}"
        inside.mkdir(parents=True)
        for kind, data in zip((ORIGINAL, *EDITS), copies(path), strict=True):
            (inside / f"{kind}.jpg").write_bytes(data)
    return len(found)


def score(members: Iterable[tuple[str, str, int]], photos: int) -> dict[str, Any]:
    """members: (photograph, kind, cluster) of each image that has a cluster; photos: how many were planted.

    Returns edit_recall, the share of edits that share a cluster with their original, the same by kind, false_pairs,
    the pairs within clusters that are of different photographs, and their share of all pairs within clusters."""
    clusters: dict[int, list[tuple[str, str]]] = {}
    for photo, kind, cluster in members:
        clusters.setdefault(cluster, []).append((photo, kind))
    hits = dict.fromkeys(EDITS, 0)
    pairs = false = 0
    for images in clusters.values():
        originals = {photo for photo, kind in images if kind == ORIGINAL}
        for photo, kind in images:
            if kind != ORIGINAL and photo in originals:
                hits[kind] += 1
        pairs += len(images) * (len(images) - 1) // 2
        false += sum(one[0] != other[0] for one, other in combinations(images, 2))
    return {
        "edit_recall": round(sum(hits.values()) / (photos * len(EDITS)), 5),
        "edit_recall_by_kind": {kind: round(hit / photos, 5) for kind, hit in hits.items()},
        "false_pair_share": round(false / max(1, pairs), 6),
        "false_pairs": false,
    }


def members_of(lake: Path) -> list[tuple[str, str, int]]:
    """(photograph, kind, cluster) of the rows of `duplicates`, of a lake of what `plant` wrote."""
    images = DeltaTable(str(lake / "images")).to_pyarrow_table(columns=["image_id", "uri"])
    duplicates = DeltaTable(str(lake / "duplicates")).to_pyarrow_table(columns=["image_id", "cluster_id"])
    paths = dict(zip(images["image_id"].to_pylist(), images["uri"].to_pylist(), strict=True))
    found = []
    for image, cluster in zip(duplicates["image_id"].to_pylist(), duplicates["cluster_id"].to_pylist(), strict=True):
        path = Path(unquote(urlsplit(paths[image]).path))
        found.append((path.parent.name, path.stem, cluster))
    return found


def measure(photos: Path, work: Path) -> dict[str, Any]:
    """photos: JPEG photographs, no two alike. work: a folder that is empty or not there, where images and lake go.

    Returns what `score` does. Raises RuntimeError where the run fails."""
    count = plant(photos, work / "images")
    command = [sys.executable, "-m", "jobs.command", "run", str(work / "images"), "--lake", str(work / "lake")]
    measured = process_tree.run([*command, "--report", str(work / "report")], cwd=ROOT, timeout_s=TIMEOUT_S)
    if measured.returncode:
        raise RuntimeError(f"the run ended with {measured.returncode}: {measured.err[-2000:]}")
    return score(members_of(work / "lake"), count)
