"""Copies and look-alikes: what is called a copy that is none, what is missed, whether the relation is right, and the
cost.

    python -m tests.bench.copies --photos DIR [--cases DIR] [--parts cases,edits,scale,templates,ranking] [--work DIR]

prints one JSON line. DIR of photos: JPEG photographs, no two alike. DIR of cases: a folder with `make.py FOLDER GROUP`,
which writes inputs with known answers, and `judge.py GROUP LAKE`, which prints one JSON line about a lake that was made
of them.

- cases: of each of GROUPS what judge.py says of a run with default settings.
- edits: of tests.bench.planted: recall by kind, false pairs; relation_right: of the edits whose original is kept, the
  share whose relation names the edit that was made, by kind.
- scale: IMAGES vectors without images, SHARE of which have a near-duplicate; their looks are those of photographs and
  edits. verify_cpu_ms: CPU of the stage `clusters` beyond what it takes where none has one, by the pairs that were
  looked at. look_bytes: the mean of the photographs' looks.
- templates: a lake of so many invoices of one form, and one of drawn characters, no two alike: what would be removed,
  the rows of `look_alike`, and the notes.
- ranking: of the photographs with their edits, in one lake with the cases of ALIKE, MOST_PAIRS of the neighbours that
  look alike to the network: average precision of pairs of one picture by the cosine alone, and by the score of
  their issue.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
from deltalake import DeltaTable
from sklearn.metrics import average_precision_score

from tests.bench import many, peers, planted, process_tree, vector_lake
from tests.bench.edits import EDITS, copies
from tests.bench.neighbours import stage
from tests.vectors import unit
from udfs.images import looks, relations
from udfs.images.decode import decode

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("cases", "edits", "scale", "templates", "ranking")
ALIKE = ("look_alikes", "frames")
MOST_PAIRS = 2000  # of one picture, and likewise of others
LEAST_COSINE = 0.75
GROUPS = (
    "look_alikes", "deep", "transparent", "turned", "files", "blanks", "damaged", "unread", "frames", "augmented",
    "padded",
)  # fmt: skip
NAMES = {
    "jpeg_q30": "recompressed", "half_size": "resized", "crop_80": "cropped", "mirror": "mirrored",
    "brightness_contrast": "brightness", "text_overlay": "overlay", "rotation_5": "turned",
}  # fmt: skip
IMAGES, DIMENSION, SHARE = 100_000, 64, 0.2
TEMPLATES = 300
TIMEOUT_S = 3600.0
TRIES = 3


def run(folder: Path, lake: Path, *more: str) -> process_tree.Measured:
    """The pipeline on a folder. Raises RuntimeError where it fails."""
    command = [sys.executable, "-m", "jobs.command", "run", str(folder), "--lake", str(lake), *more]
    return peers.checked(process_tree.run(command, cwd=ROOT, timeout_s=TIMEOUT_S))


def said(*command: str | Path) -> str:
    """What a program prints. One that a signal ended is run again: deltalake now and then aborts a process that has
    printed all and ends. Raises subprocess.CalledProcessError."""
    for left in reversed(range(TRIES)):
        done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, check=False)
        if done.returncode < 0 and left:
            print(f"{command[0]}: ended by signal {-done.returncode}, once more", file=sys.stderr)
            continue
        done.check_returncode()
        break
    return done.stdout


def judged(cases: Path, work: Path) -> dict[str, Any]:
    """Group -> what judge.py says."""
    found = {}
    for group in GROUPS:
        said(cases / "make.py", work, group)
        more = ("--set", "embed.max_failed_share=1") if group in ("files", "unread") else ()
        run(work / group, work / f"{group}-lake", *more)
        found[group] = json.loads(said(cases / "judge.py", group, work / f"{group}-lake"))
    return found


def relation_right(lake: Path) -> dict[str, float]:
    """Kind of edit -> share. lake: of what planted.plant wrote."""
    images = DeltaTable(str(lake / "images")).to_pyarrow_table(columns=["image_id", "uri"]).to_pylist()
    kinds = {row["image_id"]: Path(unquote(urlsplit(row["uri"]).path)) for row in images}
    right, of = Counter[str](), Counter[str]()
    for row in DeltaTable(str(lake / "duplicates")).to_pyarrow_table().to_pylist():
        edit, keeper = kinds[row["image_id"]], kinds[row["keeper_id"]]
        if row["is_keeper"] or keeper.stem != planted.ORIGINAL or edit.parent != keeper.parent:
            continue
        of[edit.stem] += 1
        right[edit.stem] += NAMES[edit.stem] in row["relation"].split()
    return {kind: round(right[kind] / max(1, of[kind]), 4) for kind in EDITS}


def edited(photos: Path, work: Path) -> dict[str, Any]:
    found = planted.measure(photos, work)
    return {**found, "relation_right": relation_right(work / "lake")}


def looked(data: bytes) -> bytes:
    return looks.look(looks.small(decode(data, 224, 10**9).pixels))


def scale(photos: Path, work: Path) -> dict[str, Any]:
    """What the second look costs among IMAGES vectors."""
    pairs = int(IMAGES * SHARE) // 2
    generator = np.random.default_rng(0)
    alone = unit(generator.normal(size=(IMAGES, DIMENSION)))
    paired = alone.copy()
    near = alone[:pairs] + 0.01 * generator.normal(size=(pairs, DIMENSION))
    paired[pairs : 2 * pairs] = unit(near)
    each = [[looked(data) for data in copies(path)] for path in many.photographs(photos)]
    kinds = len(EDITS)
    originals = [each[number % len(each)][0] for number in range(pairs)]
    edits = [each[number % len(each)][1 + number // len(each) % kinds] for number in range(pairs)]
    kept = [*originals, *edits, *(each[number % len(each)][0] for number in range(IMAGES - 2 * pairs))]
    used, counts = {}, {}
    for name, vectors in (("alone", alone), ("paired", paired)):
        lake = work / name
        vector_lake.write(lake, vectors, looks=kept)
        vector_lake.card(lake, DIMENSION)
        stage(lake, [])
        command = [sys.executable, "-m", "jobs.command", "clusters", "--lake", str(lake)]
        command += ["--config", str(lake.with_suffix(".yaml"))]
        used[name] = peers.checked(process_tree.run(command, cwd=ROOT, timeout_s=TIMEOUT_S)).cpu_s
        last = max(
            (row for row in DeltaTable(str(lake / "runs")).to_pyarrow_table().to_pylist() if row["job"] == "clusters"),
            key=lambda row: row["ended_at"],
        )
        counts[name] = json.loads(last["counts"])
    sizes = [len(look) for of_photo in each for look in of_photo]
    return {
        "images": IMAGES,
        "pairs": pairs,
        "clusters": counts["paired"]["clusters"],
        "cpu_s": used,
        "verify_cpu_ms": round((used["paired"] - used["alone"]) / pairs * 1000, 2),
        "look_bytes": round(float(np.mean(sizes))),
        "look_bytes_most": max(sizes),
    }


def template(draw: Callable[[int], Any], work: Path) -> dict[str, Any]:
    """A lake of pictures that draw makes."""
    (work / "images").mkdir(parents=True)
    for number in range(TEMPLATES):
        draw(number).save(work / "images" / f"{number:03d}.png")
    done = run(work / "images", work / "lake")
    issues = DeltaTable(str(work / "lake" / "issues")).to_pyarrow_table().to_pylist()
    notes = [line for line in (done.out + done.err).splitlines() if "look_alike" in line and line.startswith("note")]
    return {
        "to_remove": sum(row["suggestion"] == "remove" for row in issues),
        "look_alike": sum(row["issue"] == "look_alike" for row in issues),
        "notes": notes,
    }


def templates(cases: Path, work: Path) -> dict[str, Any]:
    spec = importlib.util.spec_from_file_location("cases_make", cases / "make.py")
    if spec is None or spec.loader is None:
        raise FileNotFoundError(cases / "make.py")
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    return {
        "invoices": template(make.form, work / "invoices"),
        "glyphs": template(lambda number: make.glyph(number // 4, number % 4), work / "glyphs"),
    }


def picture_of(path: Path) -> tuple[str, str]:
    """Where a file comes from, a case or `photos`, and which picture it shows: of cases, what judge.py says."""
    if path.parent.name not in ALIKE:
        return "photos", path.parent.name
    stem = path.stem
    if stem.startswith("scan_pair_") or stem.startswith("product_mug_0"):
        return "cases", stem.split("_pair")[0]
    return "cases", f"{path.parent.name} {stem.removesuffix('__pair')}"


def ranking(photos: Path, cases: Path, work: Path) -> dict[str, Any]:
    """How well scores put pairs of one picture before pairs of like ones. Pairs between cases and photos are left out:
    some cases are made of photographs."""
    folder, lake = work / "images", work / "lake"
    planted.plant(photos, folder)
    for group in ALIKE:
        said(cases / "make.py", folder, group)
    run(folder, lake)
    tables = {
        name: DeltaTable(str(lake / name)).to_pyarrow_table(columns=columns).to_pylist()
        for name, columns in (
            ("images", ["image_id", "uri"]), ("neighbours", ["image_id", "neighbour_id", "cosine"]),
            ("features", ["image_id", "look", "width", "height", "medium", "format"]),
        )
    }  # fmt: skip
    shows = {row["image_id"]: picture_of(Path(unquote(urlsplit(row["uri"]).path))) for row in tables["images"]}
    names = ("look", "width", "height", "medium", "format")
    seen = {row["image_id"]: looks.Look.of(*(row[name] for name in names)) for row in tables["features"]}
    cosine: dict[tuple[int, int], float] = {}
    for row in tables["neighbours"]:
        one, two = sorted((row["image_id"], row["neighbour_id"]))
        if row["cosine"] >= LEAST_COSINE and shows[one][0] == shows[two][0]:
            cosine[one, two] = row["cosine"]
    order = np.random.default_rng(0).permutation(np.array(sorted(cosine))).tolist()
    pairs = [(one, two) for one, two in order if shows[one] == shows[two]][:MOST_PAIRS]
    pairs += [(one, two) for one, two in order if shows[one] != shows[two]][:MOST_PAIRS]
    same = np.array([shows[one] == shows[two] for one, two in pairs])
    cosines = np.array([cosine[pair] for pair in pairs])
    agreement = np.array([relations.compare(seen[one], seen[two]).agreement for one, two in pairs])
    found = {"cosine": cosines, "score": cosines * np.maximum(agreement, 0)}
    precision = {name: round(float(average_precision_score(same, values)), 4) for name, values in found.items()}
    return {"pairs": len(same), "of_one_picture": int(same.sum()), "average_precision": precision}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.copies")
    parser.add_argument("--photos", type=Path, required=True, help="folder of JPEG photographs, no two alike")
    parser.add_argument("--cases", type=Path, help="folder of make.py and judge.py; for cases and templates")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--work", type=Path, help="where lakes go; a temporary folder without it")
    options = parser.parse_args(argv)
    parts = options.parts.split(",")
    if options.cases is None:
        parts = [part for part in parts if part in ("edits", "scale")]
    found: dict[str, Any] = {"machine": process_tree.machine()}
    with tempfile.TemporaryDirectory(dir=options.work) as temporary:
        work = Path(temporary)
        if "cases" in parts:
            found["cases"] = judged(options.cases, work / "cases")
        if "edits" in parts:
            found["edits"] = edited(options.photos, work / "edits")
        if "scale" in parts:
            found["scale"] = scale(options.photos, work / "scale")
        if "templates" in parts:
            found["templates"] = templates(options.cases, work / "templates")
        if "ranking" in parts:
            found["ranking"] = ranking(options.photos, options.cases, work / "ranking")
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
