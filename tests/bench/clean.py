"""The clean set: what is left of photographs with planted trouble, and which of an image and its edits stays.

    python -m tests.bench.clean --photos DIR [--labelled DIR] [--undamaged] [--work DIR]

prints one JSON line. DIR: JPEG photographs, no two alike. A part of them is untouched: it goes into a folder for each
split as it is. Beside it lie exact copies, edits, copies that leak from test to train, files that are no images, flat
placeholders, and, without --undamaged, other photographs spoilt beyond use (tests.bench.damage, strongest step).
The pipeline and then `clean` run on it by their command lines with default settings. An edit is a day or more younger
than its original.

- clean_precision: untouched images among those kept; clean_recall: those kept among the untouched.
- same_bytes: whether `clean` writes the same files again. wrongly_kept, wrongly_removed: by kind, and names.
- keepers: for each kind of edit, the share of photographs whose original stays of a pair of it and one edit, by
  copies.BEST_FIRST; with files' times as they should be, and where nothing is known of them.
- with --labelled (a folder of images for each class): relabel_right: of labels that `clean` corrects where a tenth was
  changed by chance, the share that is right again; relabel_share: of the changed ones, those corrected rightly.
"""

import argparse
import datetime
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from jobs.duplicates.copies import ORDER
from tests.bench import damage
from tests.bench.edits import EDITS, QUALITY
from tests.bench.many import photographs
from udfs.images import compression

ROOT = Path(__file__).parents[2]
OLD = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC).timestamp()
DAY = 86400.0
UNTOUCHED = 0.9  # of the photographs; of the others, spoilt ones are made
# Kinds of damage after which a picture is of no use, whatever the set is for.
UNUSABLE = (
    "darker", "brighter", "gaussian_blur", "motion_blur", "noise", "jpeg", "jpeg_resaved", "blown_up", "faded",
    "covered",
)  # fmt: skip
FAMILY = "all of tests.bench.edits"
EACH = 4  # images planted of each kind
TIMEOUT_S = 3600.0


def _jpeg(image: Image.Image, quality: int = QUALITY) -> bytes:
    return damage.jpeg(np.asarray(image), quality)


def _enlarged(factor: float) -> Callable[[Image.Image], bytes]:
    return lambda image: _jpeg(
        image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BICUBIC)
    )


# Beyond those of tests.bench.edits, more that are told by their size, their bytes, or not at all.
MORE_EDITS: dict[str, Callable[[Image.Image], bytes]] = {
    "saved_q75": lambda image: _jpeg(image, 75),
    "saved_q98": lambda image: _jpeg(image, 98),
    "saved_png": lambda image: damage.png(np.asarray(image)),
    "blurred": lambda image: _jpeg(image.filter(ImageFilter.GaussianBlur(2))),
    "sharpened": lambda image: _jpeg(image.filter(ImageFilter.UnsharpMask())),
    "grey": lambda image: _jpeg(image.convert("L").convert("RGB")),
    "enlarged_1.3": _enlarged(1.3),
    "enlarged_2": _enlarged(2),
}


@dataclass(frozen=True)
class Planted:
    """A file of the set. kind: untouched, or what was planted."""

    path: Path
    kind: str


def _opened(path: Path) -> Image.Image:
    return ImageOps.exif_transpose(Image.open(path)).convert("RGB")


def plant(photos: Path, folder: Path, damaged: bool) -> list[Planted]:
    """Writes `<split>/<name>` below folder. Returns all files. The same arguments give the same files."""
    rng = np.random.default_rng(0)
    paths = photographs(photos)
    order = rng.permutation(len(paths))
    count = round(len(paths) * UNTOUCHED)
    found: list[Planted] = []

    def add(split: str, name: str, kind: str, data: bytes, age: float) -> None:
        path = folder / split / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, (OLD + age * DAY, OLD + age * DAY))
        found.append(Planted(path, kind))

    splits = {int(row): "test" if at % 5 == 0 else "train" for at, row in enumerate(order[:count])}
    for row, split in splits.items():
        add(split, paths[row].name, "untouched", paths[row].read_bytes(), float(rng.uniform(0, 100)))
    tested = [row for row in splits if splits[row] == "test"]
    trained = [row for row in splits if splits[row] == "train"]

    def later() -> float:
        return float(rng.uniform(101, 200))

    for number, row in enumerate(rng.choice(trained, 3 * EACH, replace=False)):
        add("train", f"{paths[row].stem} ({number}).jpg", "exact_copy", paths[row].read_bytes(), later())
    for row in rng.choice(trained, EACH, replace=False):
        add("train", f"{paths[row].stem}-tagged.jpg", "exact_copy", paths[row].read_bytes() + b"tagged", later())
    for kind, edit in EDITS.items():
        for row in rng.choice(trained, EACH, replace=False):
            add("train", f"{paths[row].stem}-{kind}.jpg", f"edit {kind}", edit(_opened(paths[row])), later())
        for row in rng.choice(tested, 2, replace=False):
            add("train", f"{paths[row].stem}-{kind}.jpg", f"leak {kind}", edit(_opened(paths[row])), later())
    for row in rng.choice(tested, EACH, replace=False):
        add("train", f"same-{paths[row].name}", "leak exact", paths[row].read_bytes(), later())
    for number, row in enumerate(rng.choice(trained, 3 * EACH, replace=False)):
        data = paths[row].read_bytes()
        broken = (data[: len(data) // 3], rng.bytes(5000), b"", b"<html>not found</html>")[number % 4]
        add("train", f"broken-{number}.jpg", "broken", broken, later())
    for number in range(2 * EACH):
        colour = tuple(int(value) for value in rng.integers(0, 256, 3))
        size = tuple(int(value) for value in rng.integers(200, 600, 2))
        add("train", f"flat-{number}.jpg", "flat", _jpeg(Image.new("RGB", size, colour)), later())  # type: ignore[arg-type]
    if damaged:
        kinds = [kind for kind in damage.KINDS.values() if kind.name in UNUSABLE]
        for number, row in enumerate(order[count:]):
            spoils = kinds[number % len(kinds)]
            data, ending = damage.spoilt(np.asarray(_opened(paths[row])), spoils, spoils.steps[-1], paths[row].name)
            add("train", f"spoilt-{number:03}{ending}", f"spoilt {spoils.name}", data, later())
    return found


def command(*arguments: str) -> str:
    """What a command of imagesieve prints. Raises RuntimeError where it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "jobs.command", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{arguments[0]} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


def kept_of(manifest: Path) -> set[str]:
    return {json.loads(line)["uri"] for line in manifest.read_text(encoding="utf-8").splitlines()}


def judge(files: list[Planted], kept: set[str]) -> dict[str, Any]:
    """Precision and recall of what is kept, and what is wrong with it."""
    kinds = {str(file.path): file.kind for file in files}
    right = sum(kinds[uri] == "untouched" for uri in kept)
    untouched = [str(file.path) for file in files if file.kind == "untouched"]
    wrongly = Counter(kinds[uri] for uri in kept if kinds[uri] != "untouched")
    return {
        "clean_precision": round(right / max(1, len(kept)), 4),
        "clean_recall": round(right / max(1, len(untouched)), 4),
        "images": len(files),
        "untouched": len(untouched),
        "kept": len(kept),
        "wrongly_kept": dict(sorted(wrongly.items())),
        "wrongly_removed": sorted(Path(uri).name for uri in untouched if uri not in kept),
    }


def keepers(photos: Path) -> dict[str, dict[str, float]]:
    """Share of photographs whose original stays of a pair of it and one edit, by kind and by what is known of age;
    FAMILY: of it and all of EDITS."""
    edits = EDITS | MORE_EDITS
    hits = {age: dict.fromkeys((*edits, FAMILY), 0) for age in ("age known", "age unknown")}
    paths = photographs(photos)
    for path in paths:
        image, data = _opened(path), path.read_bytes()
        original = _rank(data, image.size, f"/photos/{path.stem}.jpg")
        won: dict[str, dict[str, bool]] = {age: {} for age in hits}
        for kind, edit in edits.items():
            changed = edit(image)
            rank = _rank(changed, Image.open(io.BytesIO(changed)).size, f"/photos/{path.stem}-{kind}.jpg")
            for age in hits:
                won[age][kind] = _key(original, 0.0) < _key(rank, 1.0 if age == "age known" else 0.0)
        for age, by_kind in hits.items():
            for kind in edits:
                by_kind[kind] += won[age][kind]
            by_kind[FAMILY] += all(won[age][kind] for kind in EDITS)
    return {age: {kind: round(hit / len(paths), 4) for kind, hit in by_kind.items()} for age, by_kind in hits.items()}


def _rank(data: bytes, size: tuple[int, int], uri: str) -> dict[str, Any]:
    return {
        "pixels": size[0] * size[1], "is_squeezed": compression.jpeg_quality(data) < compression.SQUEEZED,
        "size_bytes": len(data), "uri_length": len(uri), "uri": uri,
    }  # fmt: skip


def _key(of: dict[str, Any], age: float) -> tuple[Any, ...]:
    """What sorts images as copies.ORDER does."""
    values = {**of, "modified_at": age}
    return tuple(-values[name] if how == "descending" else values[name] for name, how in ORDER.items())


def relabelled(labelled: Path, work: Path, share: float = 0.1) -> dict[str, Any]:
    """What `clean` makes of labels of which a share was changed by chance. labelled: a folder of images a class."""
    rng = np.random.default_rng(1)
    files = sorted(path for path in labelled.rglob("*") if path.is_file())
    classes = sorted({path.parent.name for path in files})
    truth, lines = {}, []
    for path in files:
        label = path.parent.name
        given = str(rng.choice([name for name in classes if name != label])) if rng.random() < share else label
        truth[str(path)] = (label, given)
        lines.append(json.dumps({"uri": str(path), "label": given}))
    manifest = work / "labelled.jsonl"
    manifest.write_text("\n".join(lines) + "\n", encoding="utf-8")
    lake, out = str(work / "labelled-lake"), work / "labelled-clean.jsonl"
    command("run", str(manifest), "--lake", lake, "--report", str(work / "labelled-report"))
    command("clean", "--lake", lake, "--out", str(out))
    changed = {uri for uri, (label, given) in truth.items() if label != given}
    corrected = [json.loads(line) for line in (work / "labelled-clean.relabelled.jsonl").read_text().splitlines()]
    right = sum(truth[row["uri"]][0] == row["new_label"] for row in corrected)
    return {
        "relabelled": len(corrected),
        "relabel_right": round(right / max(1, len(corrected)), 4),
        "relabel_share": round(right / max(1, len(changed)), 4),
    }


def measure(photos: Path, work: Path, damaged: bool = True, labelled: Path | None = None) -> dict[str, Any]:
    """photos: JPEG photographs, no two alike. work: a folder that is empty or not there. Raises RuntimeError."""
    files = plant(photos, work / "images", damaged)
    lake = str(work / "lake")
    command("run", str(work / "images"), "--lake", lake, "--layout", "{split}/*", "--report", str(work / "report"))
    written = []
    for attempt in ("first", "second"):
        out = work / "clean" / "set.jsonl"
        command("clean", "--lake", lake, "--out", str(out))
        written.append({path.name: path.read_bytes() for path in sorted(out.parent.iterdir())})
        shutil.move(out.parent, work / attempt)
    found = judge(files, kept_of(work / "first" / "set.jsonl"))
    found |= {"same_bytes": written[0] == written[1], "keepers": keepers(photos)}
    if labelled is not None:
        found |= relabelled(labelled, work)
    return found


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.clean")
    parser.add_argument("--photos", type=Path, required=True, help="folder of JPEG photographs, no two alike")
    parser.add_argument("--labelled", type=Path, help="folder of images in a folder for each class")
    parser.add_argument("--undamaged", action="store_true", help="plant no spoilt photographs")
    parser.add_argument("--work", type=Path, help="an empty folder; a temporary one by default")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        print(json.dumps(measure(options.photos, work, not options.undamaged, options.labelled)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
