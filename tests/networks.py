"""Small networks with random weights from a seed, in each format: files, and the model of each. Those of timm and
TorchScript skip the test where torch is not installed."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from udfs.networks.models import Model

if TYPE_CHECKING:
    import torch

SIDE, DIMENSION = 32, 16
MEAN, STD = (123.0, 116.0, 100.0), (58.0, 50.0, 63.0)


def tensors() -> dict[str, NDArray[np.float32]]:
    """The weights of the small network: a convolution, and a linear layer of the mean over all places."""
    draw = np.random.default_rng(7)
    shapes = {"conv.weight": (8, 3, 5, 5), "conv.bias": (8,), "last.weight": (DIMENSION, 8), "last.bias": (DIMENSION,)}
    most = {"conv": 75**-0.5, "last": 8**-0.5}
    return {
        name: draw.uniform(-most[name[:4]], most[name[:4]], shape).astype(np.float32) for name, shape in shapes.items()
    }


def small_net(form: str = "plain") -> torch.nn.Module:
    """The small network: (n, 3, h, w) to (n, DIMENSION). form: what it wraps its output in."""
    import torch

    class Small(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 8, 5, stride=2)
            self.last = torch.nn.Linear(8, DIMENSION)
            self.load_state_dict({name: torch.from_numpy(value) for name, value in tensors().items()})

        def forward(self, images: torch.Tensor) -> Any:
            rows = self.last(torch.relu(self.conv(images)).mean((2, 3)))
            forms: dict[str, Callable[[], Any]] = {
                "plain": lambda: rows,
                "axes": lambda: rows[:, :, None, None],
                "tuple": lambda: (rows, images),
                "dict": lambda: {"rows": rows},
                "map": lambda: rows[:, :, None, None].expand(-1, -1, 2, 2),
                "whole": lambda: rows.round().long(),
            }
            return forms[form]()

    return Small().eval()


def small_rows(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the small network gives, by numpy alone. images: (n, 3, h, w), normalised. Returns (n, DIMENSION)."""
    of = tensors()
    windows = sliding_window_view(images, (5, 5), (2, 3))[:, :, ::2, ::2]
    maps = np.einsum("nchwij,ocij->nohw", windows, of["conv.weight"], optimize=True) + of["conv.bias"][:, None, None]
    rows: NDArray[np.float32] = np.maximum(maps, 0).mean((2, 3)) @ of["last.weight"].T + of["last.bias"]
    return rows


def model(file: Path, kind: str, **other: Any) -> Model:
    """A model with this weights file."""
    values: dict[str, Any] = {
        "name": "small", "revision": "1", "format": kind, "weights": str(file), "input_side": SIDE,
        "dimension": DIMENSION, "mean": MEAN, "std": STD, "licence": "none", "source": "a seed",
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
    }  # fmt: skip
    return Model(**{**values, **other})


def timm_net(architecture: str, classes: int = 5) -> torch.nn.Module:
    """A network of timm with random weights; with a classifier, as published ones have it."""
    pytest.importorskip("torch")
    timm = pytest.importorskip("timm")
    import torch

    torch.manual_seed(7)
    net: torch.nn.Module = timm.create_model(architecture, pretrained=False, num_classes=classes)
    return net.eval()


def timm_model(folder: Path, architecture: str = "test_resnet", ending: str = ".safetensors", **other: Any) -> Model:
    net = timm_net(architecture)
    import torch
    from safetensors.torch import save_file

    file = folder / f"{architecture}{ending}"
    if ending == ".safetensors":
        save_file(net.state_dict(), file)
    else:
        torch.save(net.state_dict(), file)
    values = {"architecture": architecture, "dimension": net.num_features, **other}
    return model(file, "timm", **values)


def script_model(folder: Path, form: str = "plain", **other: Any) -> Model:
    torch = pytest.importorskip("torch")
    file = folder / f"{form}.torchscript.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        net = torch.jit.trace(small_net(form), torch.zeros(2, 3, SIDE, SIDE), strict=False)
        net.save(str(file))
    return model(file, "torchscript", **other)


def onnx_model(folder: Path, elsewhere: bool = False, inputs: int = 1, **other: Any) -> Model:
    """The small network as ONNX. elsewhere: the last weights lie in a second file. inputs: a second one is added to the
    first."""
    import onnx
    from onnx import helper, numpy_helper

    nodes = [
        helper.make_node("Conv", ["images", "conv_weight", "conv_bias"], ["a"], strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("GlobalAveragePool", ["b"], ["c"]),
        helper.make_node("Flatten", ["c"], ["d"]),
        helper.make_node("Gemm", ["d", "last_weight", "last_bias"], ["rows"], transB=1),
    ]
    places = ["images", "more"][:inputs]
    if inputs == 2:
        nodes += [helper.make_node("Add", ["images", "more"], ["unused"])]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 3, "h", "w"]) for name in places],
        [
            helper.make_tensor_value_info("rows", onnx.TensorProto.FLOAT, None),
            helper.make_tensor_value_info("b", onnx.TensorProto.FLOAT, None),
        ],
        [numpy_helper.from_array(value, name.replace(".", "_")) for name, value in tensors().items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    file = folder / "small.onnx"
    onnx.save(made, file, save_as_external_data=elsewhere, location="small.data", size_threshold=0)
    return model(file, "onnx", **other)


def oracle(made: Model) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """What rows the model must give: by numpy alone, of timm by torch alone and the network that it was made of."""
    net: Any = None
    if made.format == "timm":
        import timm

        net = timm.create_model(made.architecture, pretrained=False, num_classes=0)
        own = net.state_dict()
        net.load_state_dict({k: v for k, v in timm_net(made.architecture).state_dict().items() if k in own})
        if hasattr(net, "set_input_size"):
            net.set_input_size(img_size=(made.input_side, made.input_side))
        net.eval()

    def raw(images: NDArray[np.float32]) -> NDArray[np.float32]:
        if net is None:
            return small_rows(images)
        import torch

        with torch.no_grad():
            return np.asarray(net(torch.from_numpy(images)).numpy())

    def rows(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        normal = (pixels.astype(np.float32) - np.array(made.mean, np.float32)) / np.array(made.std, np.float32)
        found = raw(np.asarray(normal.transpose(0, 3, 1, 2), np.float32).copy())
        return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)

    return rows


def pictures(count: int, side: int = SIDE, seed: int = 0) -> NDArray[np.uint8]:
    """(count, side, side, 3) uint8: coarse coloured blocks with some noise, all different."""
    draw = np.random.default_rng(seed)
    step = -(-side // 8)
    coarse = draw.integers(0, 256, (count, 8, 8, 3)).repeat(step, 1).repeat(step, 2)[:, :side, :side]
    return np.clip(coarse + draw.normal(0, 8, (count, side, side, 3)), 0, 255).astype(np.uint8)
