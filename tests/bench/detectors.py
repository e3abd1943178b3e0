"""What detectors find and cost: one JSON line of `python -m tests.bench.detectors --photos DIR`.

Of the photographs: how many have faces and text, how many would raise an issue at the default limits, and the CPU time
of a picture by the process's clock, on one thread: decoding alone, each detector without it, each of the first ENLARGED
at a long side of LARGE pixels, and opening one in a process. What is found is not judged: nobody has said what is
there.

again: faces that were found at AT_LEAST pixels and more, alone in their photograph, and are found again when it is
shrunk so that they have so many pixels: as many as the detector sees in a photograph that is larger than its input.
pages: of drawn pages of text, 1,240 x 1,754 pixels, by the height of their letters in pixels, the share that text is
said to cover."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jobs import config
from jobs.findings.detected import RECOGNISED
from udfs.detection.detectors import DETECTORS, FACES, TEXT, weights_of
from udfs.detection.letterbox import Pixels
from udfs.detection.picture_pass import DECODED_SIDE, KINDS
from udfs.detection.seen import Seen
from udfs.images import decode

MAX_PIXELS = 10**9
ENLARGED, LARGE = 40, 1000
AT_LEAST = 40  # pixels
WIDTHS = (8, 10, 12, 16, 20, 30)  # pixels that a face is shrunk to
LETTERS = (12, 16, 20, 24, 32, 48, 96)  # pixels: at 150 dots an inch 24 are 11.5 points
SENTENCE = "Nobody had counted the boats along the northern shore of the lake since the year before. "


def measured(photos: list[Path]) -> dict[str, Any]:
    cv2.setNumThreads(1)
    limits = config.load().issues
    opened, opening = {}, {}
    for name in DETECTORS:
        opened[name], opening[name] = _timed(_opened, name)
    decoding, costs = 0.0, dict.fromkeys(DETECTORS, 0.0)
    found: dict[str, list[Seen]] = {name: [] for name in DETECTORS}
    again: dict[int, list[bool]] = {width: [] for width in WIDTHS}
    release = 0
    shown: list[Pixels] = []
    for path in photos:
        decoded, seconds = _timed(decode.decode, path.read_bytes(), DECODED_SIDE, MAX_PIXELS)
        decoding += seconds
        for name, look in opened.items():
            seen, seconds = _timed(look, decoded.pixels)
            costs[name] += seconds
            found[name].append(seen)
        shown += [decoded.pixels] if len(shown) < ENLARGED else []
        faces = found[FACES][-1]
        wide = faces.wide * decoded.width
        release += faces.found > 0 and RECOGNISED / (RECOGNISED + wide) < limits.needs_release
        if faces.found == 1 and wide >= AT_LEAST:
            for width in WIDTHS:
                small = _scaled(decoded.pixels, width / (faces.wide * decoded.pixels.shape[1]))
                again[width].append(opened[FACES](small).found > 0)
    count = len(photos)
    return {
        "photos": count,
        "decode_ms": _ms(decoding, count),
        "opening_ms": {name: _ms(seconds, 1) for name, seconds in opening.items()},
        "cpu_ms": {name: _ms(seconds, count) for name, seconds in costs.items()},
        "cpu_ms_large": {name: _large_ms(look, shown) for name, look in opened.items()},
        "with": {name: sum(one.found > 0 for one in seen) for name, seen in found.items()},
        "found": {name: sum(one.found for one in seen) for name, seen in found.items()},
        "text_over": {str(share): sum(one.share > share for one in found[TEXT]) for share in (0.01, 0.05, 0.25)},
        "needs_release": release,
        "mostly_text": sum(1 - one.share < limits.mostly_text for one in found[TEXT]),
        "again": {width: round(float(np.mean(each)), 3) for width, each in again.items() if each},
        "again_of": len(again[WIDTHS[0]]),
        "pages": {letters: round(opened[TEXT](_page(letters)).share, 3) for letters in LETTERS},
    }


def _opened(name: str) -> Callable[[Pixels], Seen]:
    ((_, files),) = weights_of([name])
    return KINDS[name](files)


def _timed(work: Callable[..., Any], *given: Any) -> tuple[Any, float]:
    """What it returns, and its CPU seconds."""
    began = time.process_time()
    done = work(*given)
    return done, time.process_time() - began


def _large_ms(look: Callable[[Pixels], Seen], shown: list[Pixels]) -> float:
    """CPU milliseconds of a picture that is enlarged to a long side of LARGE."""
    large = [_scaled(pixels, LARGE / max(pixels.shape[:2])) for pixels in shown]
    look(large[0])  # opens the network
    return _ms(_timed(lambda: [look(pixels) for pixels in large])[1], len(large))


def _ms(seconds: float, count: int) -> float:
    return round(1000 * seconds / count, 1)


def _scaled(pixels: Pixels, scale: float) -> Pixels:
    height, width = (max(1, round(of * scale)) for of in pixels.shape[:2])
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _page(letters: int) -> Pixels:
    """(1754, 1240, 3) uint8: black on white, a tenth of margin on each side."""
    image = Image.new("RGB", (1240, 1754), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(letters)
    words, at = SENTENCE.split(), 0
    for top in range(175, 1579 - letters, round(1.35 * letters)):
        line = ""
        while draw.textlength(line + words[at % len(words)], font) < 992:
            line, at = f"{line}{words[at % len(words)]} ", at + 1
        draw.text((124, top), line, "black", font)
    return np.array(image)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True, metavar="DIR")
    args = parser.parse_args(argv)
    sys.stdout.write(json.dumps(measured(sorted(path for path in args.photos.iterdir() if path.is_file()))) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
