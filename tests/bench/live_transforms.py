"""Parity of the preprocessing: what training and services see against what the pass of a lake gives a network.

    python -m tests.bench.live_transforms --photos FOLDER

`transforms`: images compared (the photographs, and beside them PNG, CMYK, 16 bits, and turned by EXIF, made of some of
them); `different` of numpy, of the dataset for torch, and of the Lambda handler: those of which not every bit is equal,
which must be 0; `cpu_ms`: of decoding and resizing one photograph by the numpy entry, the median."""

from __future__ import annotations

import argparse
import base64
import io
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
from imagesieve import transforms
from numpy.typing import NDArray
from PIL import Image

from udfs import arrow, image_pass
from udfs.children.messages import ROW, Board
from udfs.images.rows import PENDING
from udfs.networks import embedding, models
from udfs.networks.models import Model
from udfs.stores import fetch
from udfs.transforms import square

MADE_OF = 10  # photographs of which each other kind is made
ORIENTATION = 0x0112


class _Recorder:
    """A runtime that keeps what it is given."""

    device, batch, busy_s = "none", 8, 0.0

    def __init__(self, model: Model) -> None:
        self.dimension, self.given = model.dimension, list[NDArray[np.uint8]]()

    def submit(self, pixels: NDArray[np.uint8]) -> Callable[[], embedding.Embedded]:
        self.given += list(pixels.copy())
        rows = np.zeros((len(pixels), self.dimension), np.float32)
        return lambda: embedding.Embedded(rows, np.ones(len(pixels), np.float32))


def seen_by_the_pass(model: Model, files: Sequence[Path]) -> dict[str, NDArray[np.uint8]]:
    """What udfs.image_pass hands to the network of a model, by the names of the files; all of them must be images."""
    recorder = _Recorder(model)
    task = arrow.EmbedTask(model, "recorded", (), None, fetch.Limits(), 4, 0, transforms.MAX_PIXELS)
    rows = [
        {"uri": str(file), "image_id": n, "etag": "", "has_features": False, "attempt": 1, ROW: n}
        for n, file in enumerate(files)
    ]
    batch = pa.RecordBatch.from_pylist(rows, schema=PENDING.append(pa.field(ROW, pa.int64())))
    with tempfile.TemporaryFile() as board, mock.patch.object(embedding, "open_runtime", return_value=recorder):
        board.truncate(1 << 10)
        done = pa.Table.from_batches(image_pass.embed(task)(iter([batch]), Board(board.fileno()))).to_pylist()
    bad = [files[row["image_id"]].name for row in done if row["error"]]
    if bad:
        raise ValueError(f"no images: {', '.join(bad)}")
    prints = {row["transform"] for row in done}
    if prints != {transforms.Transform(model).fingerprint}:
        raise ValueError(f"vectors have the fingerprints {prints}")
    return {file.name: pixels for file, pixels in zip(files, recorder.given, strict=True)}


def others(photo: Path, folder: Path) -> list[Path]:
    """A photograph as PNG, CMYK, PNG of 16 bits, and turned by EXIF, as files in a folder."""
    image = Image.open(photo).convert("RGB")
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    grey = np.asarray(image.convert("L"), np.uint16)
    deep = Image.fromarray(grey * 257 + np.arange(grey.shape[1], dtype=np.uint16) % 200)
    kinds: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "plain.png": (image, {}),
        "cmyk.jpg": (image.convert("CMYK"), {"quality": 92}),
        "deep.png": (deep, {}),
        "turned.jpg": (image, {"quality": 92, "exif": exif}),
    }
    made = []
    for name, (of, options) in kinds.items():
        data = io.BytesIO()
        of.save(data, "PNG" if name.endswith("png") else "JPEG", **options)
        path = folder / f"{photo.stem}-{name}"
        path.write_bytes(data.getvalue())
        made.append(path)
    return made


def measure(photos: Path) -> dict[str, Any]:
    """photos: a folder of JPEG files."""
    files = sorted(path for path in photos.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    with tempfile.TemporaryDirectory() as folder:
        more = [
            path for photo in files[:: max(1, len(files) // MADE_OF)][:MADE_OF] for path in others(photo, Path(folder))
        ]
        every = [*files, *more]
        if len({file.name for file in every}) < len(every):
            raise ValueError(f"{photos}: two photographs have one name")
        found = {key: _compared(model, every, Path(folder)) for key, model in models.MODELS.items()}
        transform = transforms.load(models.DEFAULT)
        times = [_cpu_ms(transform, file.read_bytes()) for file in files]
    return {"photographs": len(files), "others": len(more), "different": found, "cpu_ms": statistics.median(times)}


def _compared(model: Model, files: list[Path], folder: Path) -> dict[str, int]:
    transform = transforms.Transform(model)
    expected = seen_by_the_pass(model, files)
    manifest = folder / "all.jsonl"
    manifest.write_text("".join(json.dumps({"uri": str(file)}) + "\n" for file in files), encoding="utf-8")
    dataset = transforms.Images(transform, manifest)
    handler = transforms.lambda_handler(transform)
    wrong = dict.fromkeys(("numpy", "dataset", "lambda"), 0)
    for number, file in enumerate(files):
        array = square.normalised(expected[file.name], model)
        answer = handler({"image": base64.b64encode(file.read_bytes()).decode()}, None)
        entries = {
            "numpy": transform(file),
            "dataset": dataset[number][0],
            "lambda": np.frombuffer(base64.b64decode(answer["array"]), answer["dtype"]).reshape(answer["shape"]),
        }
        for name, entry in entries.items():
            wrong[name] += entry.dtype != array.dtype or entry.tobytes() != array.tobytes()
    return wrong


def _cpu_ms(transform: transforms.Transform, data: bytes) -> float:
    start = time.thread_time()
    transform(data)
    return 1000 * (time.thread_time() - start)


def main(argv: Sequence[str] | None = None) -> int:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--photos", type=Path, required=True, metavar="FOLDER")
    found = measure(options.parse_args(argv).photos)
    sys.stdout.write(json.dumps({"transforms": found}) + "\n")
    return int(any(sum(wrong.values()) for wrong in found["different"].values()))


if __name__ == "__main__":
    sys.exit(main())
