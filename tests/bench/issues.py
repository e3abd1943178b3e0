"""Everything that is said of images, and the clean set that comes of it: all figures in one line.

    python -m tests.bench.issues --photos DIR --labelled DIR [--skip datalab,cleanvision,cpu]

prints one JSON line, made of those of tests.bench.labels, leaks, quality, outliers, clean and content, which explain
what they plant and count; each runs as a process of its own. DIR of photos: JPEG photographs, no two alike. DIR of
labelled: a folder of JPEG images for each class. `cpu_ms_per_image`: CPU time beyond embedding: the slopes of the
stages `labels`, `content` and `issues`, and what the properties of quality cost in the embed stage; by part in
`cpu_ms_by_part`.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("datalab", "cleanvision", "cpu")


def printed(module: str, *arguments: str) -> dict[str, Any]:
    """The JSON line of a benchmark. Raises RuntimeError with the end of what it wrote where it failed."""
    command = [sys.executable, "-m", f"tests.bench.{module}", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"tests.bench.{module}: {done.stderr.strip()[-1000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def measure(photos: Path, labelled: Path, skip: set[str]) -> dict[str, Any]:
    of_photos, of_labelled = ("--photos", str(photos)), ("--labelled", str(labelled))
    without = ",".join(sorted(skip - {"cleanvision"}))
    labels = printed("labels", *of_labelled, *(["--skip", without] if without else []))
    leaks = printed("leaks", *of_photos)
    quality = printed("quality", *of_photos, *([] if "cleanvision" in skip else ["--peers"]))
    outliers = printed("outliers", *of_photos, *of_labelled)
    clean = printed("clean", *of_photos, *of_labelled)
    found = {
        "label_ap": labels["label_ap"],
        "datalab_ap": labels.get("datalab_ap"),
        "suggestion_accuracy": labels["suggestion_accuracy"],
        "leak_recall": leaks["leak_recall"],
        "leak_false": leaks["leak_false"],
        "quality": quality["kinds"],
        "outlier_ap": outliers["outlier_ap"],
        "clean_precision": clean["clean_precision"],
        "clean_recall": clean["clean_recall"],
        "cpu_ms_per_image": None,
    }
    if "cpu" not in skip:
        content = printed("content", *of_photos, *of_labelled)
        parts = {
            **labels["cpu_ms_by_stage"],
            "content": content["content_cpu_ms"],
            "properties": quality["cpu_ms_per_image"]["total"],
        }
        found |= {"cpu_ms_per_image": round(sum(parts.values()), 3), "cpu_ms_by_part": parts, "content": content}
    return {**found, "labels": labels, "leaks": leaks, "cleanvision": quality.get("cleanvision"), "outliers": outliers,
            "clean": clean}  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.issues")
    parser.add_argument("--photos", type=Path, required=True, help="folder of JPEG photographs, no two alike")
    parser.add_argument("--labelled", type=Path, required=True, help="folder with a folder of JPEG images a label")
    parser.add_argument("--skip", default="", help=f"comma-separated: {', '.join(PARTS)}")
    options = parser.parse_args(argv)
    skip = {name for name in options.skip.split(",") if name}
    if skip - set(PARTS):
        parser.error(f"--skip takes {', '.join(PARTS)}")
    print(json.dumps(measure(options.photos.resolve(), options.labelled.resolve(), skip)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
