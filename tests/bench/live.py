"""What comes in and goes out while a lake lives: one JSON line of its parts, each of which tells of itself.

    python -m tests.bench.live --photos DIR --labelled DIR [--parts arrivals,kills,albums,door,transforms]

- arrivals, kills: tests.bench.live_watch. albums: tests.bench.live_albums. door: tests.bench.live_door. transforms:
  tests.bench.live_transforms. Times of the clock want a machine that does nothing else."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench import live_albums, live_door, live_transforms, live_watch


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.live")
    parser.add_argument("--photos", type=Path, required=True, help="folder of JPEG photographs")
    parser.add_argument("--labelled", type=Path, required=True, help="folder of small JPEG pictures")
    parser.add_argument("--images", type=int, default=50_000, help="of the lake in which others arrive")
    parser.add_argument("--parts", default="arrivals,kills,albums,door,transforms")
    parser.add_argument("--work", type=Path, help="where the lakes of arrivals and kills are made, kept")
    options = parser.parse_args(argv)

    def watched(part: str) -> Any:
        return live_watch.measure(options.labelled, options.images, (part,), options.work)[part]

    parts: dict[str, Callable[[], Any]] = {
        "arrivals": lambda: watched("arrivals"),
        "kills": lambda: watched("kills"),
        "albums": live_albums.measure,
        "door": lambda: live_door.measure(options.photos, options.labelled),
        "transforms": lambda: live_transforms.measure(options.photos),
    }
    print(json.dumps({part: parts[part]() for part in options.parts.split(",")}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
