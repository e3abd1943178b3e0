"""Planted leaks: does a whole run find every picture that stands in two splits, and no other?

    python -m tests.bench.leaks --photos DIR

prints one JSON line. The photographs, no two alike, are dealt to `train` and `test`. Most of them get one copy in the
other split: the same bytes, or one of the seven edits of tests.bench.edits; a ninth of them get none. The pipeline runs
on the folder by its command line with default settings. Found is a planted pair of which an image has an issue `leak`
with the other as its evidence; false is an issue `leak` whose two images are of different photographs.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from deltalake import DeltaTable

from tests.bench import process_tree
from tests.bench.edits import EDITS, copies
from tests.bench.many import photographs

ROOT = Path(__file__).parents[2]
KINDS = ("bytes", *EDITS)
SPLITS = ("train", "test")
TIMEOUT_S = 3600.0
Leak = tuple[str, str, str]  # the files of an image and its evidence, `split/photograph/kind.jpg`, and the detail


def plant(photos: Sequence[Path], folder: Path, shift: int = 0) -> dict[str, str]:
    """Writes `split/photograph/kind.jpg`. shift: gives each photograph another kind. Returns photograph -> kind."""
    planted = {}
    for number, path in enumerate(photos):
        here, there = SPLITS if number % 2 else SPLITS[::-1]
        name, place = f"{number:05d}", (number + shift) % (len(KINDS) + 1)
        files = {f"{here}/{name}/original.jpg": path.read_bytes()}
        if place < len(KINDS):
            planted[name] = KINDS[place]
            files[f"{there}/{name}/{KINDS[place]}.jpg"] = copies(path)[place]
        for file, data in files.items():
            target = folder / file
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
    return planted


def score(planted: dict[str, str], leaks: Iterable[Leak]) -> dict[str, Any]:
    """leak_recall and that by kind, leak_false: images said to leak to another photograph, leak_wrong_detail: found
    pairs told exact where they are near, or the other way round. Of `bytes` alone the pixels are equal."""
    found, wrong, false = set(), set(), 0
    for here, there, detail in leaks:
        photo, other = here.split("/")[1], there.split("/")[1]
        if photo != other or here.split("/")[0] == there.split("/")[0]:
            false += 1
            continue
        found.add(photo)
        if (planted[photo] == "bytes") != (detail == "exact"):
            wrong.add(photo)
    of_kind = {kind: [photo for photo, planted_kind in planted.items() if planted_kind == kind] for kind in KINDS}
    return {
        "planted": len(planted),
        "leak_recall": round(len(found) / len(planted), 5),
        "leak_recall_by_kind": {
            kind: round(sum(photo in found for photo in photos) / len(photos), 4)
            for kind, photos in of_kind.items()
            if photos
        },
        "leak_false": false,
        "leak_wrong_detail": len(wrong),
        "missed": sorted(f"{photo} {kind}" for photo, kind in planted.items() if photo not in found),
    }


def leaks_of(lake: Path) -> list[Leak]:
    """The issues `leak` of a lake of what `plant` wrote."""
    images = DeltaTable(str(lake / "images")).to_pyarrow_table(columns=["image_id", "uri"]).to_pylist()
    names = {row["image_id"]: "/".join(Path(unquote(urlsplit(row["uri"]).path)).parts[-3:]) for row in images}
    columns = ["image_id", "issue", "evidence_id", "detail"]
    rows = DeltaTable(str(lake / "issues")).to_pyarrow_table(columns=columns).to_pylist()
    return [
        (names[row["image_id"]], names[row["evidence_id"]], row["detail"]) for row in rows if row["issue"] == "leak"
    ]


def measure(photos: Path, work: Path, shift: int = 0) -> dict[str, Any]:
    """photos: JPEG photographs, no two alike. work: an empty folder, where images and lake go. Returns what `score`
    does. Raises RuntimeError where the run fails."""
    planted = plant(photographs(photos), work / "images", shift)
    command = [sys.executable, "-m", "jobs.command", "run", str(work / "images"), "--lake", str(work / "lake")]
    command += ["--layout", "{split}/**", "--report", str(work / "report")]
    measured = process_tree.run(command, cwd=ROOT, timeout_s=TIMEOUT_S)
    if measured.returncode:
        raise RuntimeError(f"the run ended with {measured.returncode}: {measured.err[-2000:]}")
    return score(planted, leaks_of(work / "lake"))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.leaks")
    parser.add_argument("--photos", type=Path, required=True, help="folder of JPEG photographs, no two alike")
    parser.add_argument("--shift", type=int, default=0, help="plants another kind for each photograph, 0 to 8")
    parser.add_argument("--work", type=Path, help="where images and lake are kept; else they are thrown away")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(options.photos, options.work or Path(folder), options.shift)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
