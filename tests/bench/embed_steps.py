"""Where the CPU time of embedding goes: one JSON line of `python -m tests.bench.embed_steps --photos DIR`.

Milliseconds an image of each step of udfs.image_pass, one thread, the median over the photographs of the lowest of
TRIES: steps_ms, the largest first, and their sum. What fetches, moves rows and writes tables is not among them:
tests.bench.embed has the whole."""

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

from tests.bench import many, process_tree
from udfs.images import alignment, compression, decode, hashing, looks, medium, quality, scaling
from udfs.images.brisque import brisque
from udfs.networks import embedding, models, preparation
from udfs.stores.cache import user_cache
from udfs.transforms import square

MAX_PIXELS = 10**9
TRIES = 3
TOGETHER = 32  # images that the network gets at once, as in the embed stage


def steps_of(data: bytes) -> dict[str, Callable[[], Any]]:
    """What the embed stage does with a file, step by step, each from what those before it have made."""
    side = round(square.FINER * square.ANALYSIS_SIDE)
    decoded, seen = square.opened(data, MAX_PIXELS)
    pixels, fine = decoded.pixels, decoded.detail
    assert fine is not None
    small = looks.small(seen)
    thumbnail = alignment.thumbnail(small)
    scaled = scaling.short_side(fine, quality.SHARPNESS_SIDE)
    middle, least = (quality.middle(fine, edge) for edge in (quality.DETAIL_SIDE, quality.BRISQUE_SIDE))
    return {
        "decode, detail": lambda: decode.decode(data, side, MAX_PIXELS, detail=True),
        "scale to the input": lambda: embedding.fit(pixels, square.ANALYSIS_SIDE),
        "sha256": lambda: hashing.sha256(data),
        "pixel_hash": lambda: hashing.pixel_hash(pixels, decoded.width, decoded.height, decoded.more),
        "scale to the look": lambda: looks.small(seen),
        "look": lambda: looks.look(small),
        "thumbnail": lambda: alignment.thumbnail(small),
        "perceptual_hash": lambda: hashing.perceptual_hash(thumbnail),
        "medium": lambda: medium.medium(small, decoded.width, decoded.height),
        "scale for sharpness": lambda: scaling.short_side(fine, quality.SHARPNESS_SIDE),
        "edge_frequency": lambda: quality.edge_frequency(scaled),
        "noise": lambda: quality.noise(middle),
        "blockiness": lambda: quality.blockiness(middle, quality.BLOCK),
        "brisque": lambda: brisque(least),
        "jpeg_quality": lambda: compression.jpeg_quality(data),
        "all properties": lambda: quality.of_file(data, decoded, seen),
    }


def steps(photos: list[Path], key: str) -> dict[str, Any]:
    cv2.setNumThreads(1)
    model = models.find(key)
    prepared = preparation.prepare(model, user_cache())
    runtime = embedding.open_runtime(prepared.kind, model, prepared.files)
    times: dict[str, list[float]] = {}
    squares = []
    for path in photos:
        data = path.read_bytes()
        for name, work in steps_of(data).items():
            times.setdefault(name, []).append(min(_seconds(work) for _ in range(TRIES)))
        squares.append(embedding.fit(square.opened(data, MAX_PIXELS)[0].pixels, model.input_side, model.fit))
    pixels = np.stack(squares[:TOGETHER])
    found = {name: 1000 * float(np.median(each)) for name, each in times.items()}
    found["network"] = 1000 * min(_seconds(lambda: runtime.embed(pixels)) for _ in range(TRIES)) / len(pixels)
    parts = {"scale for sharpness", "edge_frequency", "noise", "blockiness", "brisque", "jpeg_quality"}
    found["other properties"] = found["all properties"] - sum(found[name] for name in parts)
    total = sum(value for name, value in found.items() if name != "all properties")
    ordered = sorted(found.items(), key=lambda item: -item[1])
    return {
        "steps_ms": {name: round(value, 3) for name, value in ordered},
        "sum_ms": round(total, 2),
        "network_on": runtime.device,
    }


def _seconds(work: Callable[[], Any]) -> float:
    begun = time.thread_time()
    work()
    return time.thread_time() - begun


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.embed_steps", description=__doc__)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--model", default=models.DEFAULT, choices=models.MODELS)
    options = parser.parse_args(argv)
    print(json.dumps({"machine": process_tree.machine(), **steps(many.photographs(options.photos), options.model)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
