"""Tiny networks in the place of the detectors': they see dots of red as faces, and blue as text where the red in it
changes from left to right."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from udfs.detection import text
from udfs.detection.detectors import DETECTORS, FACES, TEXT

FACE = 40  # pixels that a face is wide and high, around a dot of red
DOT = 4


def face_network(file: Path) -> Path:
    """As CenterFace: confidence 1 in each cell of pure red, sizes of FACE, no offset; landmarks, which nobody reads."""
    from onnx import helper

    nodes = [
        helper.make_node("Conv", ["given", "redness", "least"], ["red"]),
        helper.make_node("AveragePool", ["red"], ["cells"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Clip", ["cells", "zero", "one"], ["heat"]),
        helper.make_node("Mul", ["heat", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "size"], ["wide"]),
        helper.make_node("Concat", ["wide", "wide"], ["sizes"], axis=1),
        helper.make_node("Concat", ["nothing", "nothing"], ["offsets"], axis=1),
        helper.make_node("Concat", ["nothing"] * 10, ["landmarks"], axis=1),
    ]
    values = {
        "redness": np.array([10, -10, -10], np.float32).reshape(1, 3, 1, 1) / 255, "least": np.array([-9], np.float32),
        "zero": np.float32(0), "one": np.float32(1), "size": np.float32(np.log(FACE / 4)),
    }  # fmt: skip
    return _saved(file, nodes, values, [10, 3, 32, 32], ["heat", "sizes", "offsets", "landmarks"])


def text_network(file: Path) -> Path:
    """As PP-OCR's detector: sure of each pixel that is blue to the full."""
    from onnx import helper

    nodes = [
        helper.make_node("Conv", ["given", "blue", "least"], ["a"]),
        helper.make_node("Clip", ["a", "zero", "one"], ["map"]),
    ]
    blue = np.array([text.STD[0] / 255 * 10, 0, 0], np.float32).reshape(1, 3, 1, 1)
    values = {"blue": blue, "least": np.array([text.MEAN[0] / 255 * 10 - 9], np.float32), "zero": np.float32(0),
              "one": np.float32(1)}  # fmt: skip
    return _saved(file, nodes, values, ["n", 3, "h", "w"], ["map"])


def reading_network(file: Path) -> Path:
    """As PP-OCR's reader, of five classes: one character where there is much red, another where there is none."""
    from onnx import helper

    nodes = [
        helper.make_node("AveragePool", ["given"], ["a"], kernel_shape=[48, 8], strides=[48, 8]),
        helper.make_node("Conv", ["a", "classes", "bias"], ["b"]),
        helper.make_node("Squeeze", ["b", "axis"], ["c"]),
        helper.make_node("Transpose", ["c"], ["d"], perm=[0, 2, 1]),
        helper.make_node("Softmax", ["d"], ["steps"], axis=2),
    ]
    classes = np.zeros((5, 3, 1, 1), np.float32)
    classes[1, 2], classes[2, 2] = 20, -20
    values = {"classes": classes, "bias": np.array([10, 0, 0, -50, -50], np.float32), "axis": np.array([2], np.int64)}
    return _saved(file, nodes, values, ["n", 3, 48, "w"], ["steps"])


def _saved(
    file: Path, nodes: Sequence[Any], values: Mapping[str, Any], shape: Sequence[Any], outputs: Sequence[str]
) -> Path:
    onnx = pytest.importorskip("onnx")
    from onnx import helper, numpy_helper

    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("given", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)
    return file


def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny networks as packages that are installed, in the place of the detectors' own."""
    made = {FACES: ("face.onnx",), TEXT: ("text.onnx", "reading.onnx")}
    makers = {"face.onnx": face_network, "text.onnx": text_network, "reading.onnx": reading_network}
    for name, files in made.items():
        package = f"tiny-{name}"
        (folder / f"tiny_{name}-1.0.dist-info").mkdir(parents=True)
        (folder / f"tiny_{name}-1.0.dist-info" / "METADATA").write_text(f"Name: {package}\nVersion: 1.0\n")
        paths = tuple((file, _digest(makers[file](folder / file))) for file in files)
        monkeypatch.setitem(DETECTORS, name, replace(DETECTORS[name], package=package, files=paths))
    monkeypatch.syspath_prepend(folder)


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def plain(seed: int, width: int = 160, height: int = 120) -> NDArray[np.uint8]:
    """A dark grey picture without a dot and without text, unlike that of any other seed."""
    coarse = np.random.default_rng([seed, 20]).integers(0, 90, (height // 8, width // 8), np.uint8)
    return np.repeat(coarse.repeat(8, axis=0).repeat(8, axis=1)[:, :, None], 3, axis=2)


def with_faces(pixels: NDArray[np.uint8], *places: tuple[int, int]) -> NDArray[np.uint8]:
    """The picture with a dot at each (x, y), multiples of DOT: the middle of a face, but for half a dot."""
    pixels = pixels.copy()
    for x, y in places:
        pixels[y : y + DOT, x : x + DOT] = (255, 0, 0)
    return pixels


def with_text(
    pixels: NDArray[np.uint8], left: int, top: int, width: int, height: int, readable: bool = True
) -> NDArray[np.uint8]:
    """The picture with a region of text, or one that looks like it and in which nothing can be read."""
    pixels = pixels.copy()
    pixels[top : top + height, left : left + width] = (0, 0, 255)
    if readable:
        pixels[top : top + height, left : left + width // 2, 0] = 255
    return pixels


def installed(name: str) -> bool:
    """Whether the weights of a detector are here."""
    try:
        importlib.metadata.distribution(DETECTORS[name].package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
