"""Networks of each format: loaded without running code of their file, and made ready for OpenVINO. Of ours and of ONNX
all is done without torch."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from udfs.networks import efficientnet_lite, state_dict
from udfs.networks.models import Model, ModelError
from udfs.networks.weight_files import check_digest

if TYPE_CHECKING:
    import torch

INSTALL_TORCH = 'pip install "imagesieve[torch]"'  # and timm


def missing_torch() -> str:
    """Which of torch and timm is not installed, the first of them; "" where both are. It imports neither."""
    return next((name for name in ("torch", "timm") if find_spec(name) is None), "")


def need_torch(model: Model) -> None:
    """Raises ModelError where torch or timm is not installed. It imports neither."""
    if missing := missing_torch():
        raise ModelError(f"{model.key}: {missing} is not installed: {INSTALL_TORCH}")


def load(model: Model, weights: Path) -> torch.nn.Module:
    """The network of a timm or TorchScript model in float32 on the CPU, in evaluation mode; see `pooled`. Ours keeps
    its classifier (`get_classifier()`), that of a card has none.

    A state dict is read without pickle's code (safetensors, or torch's `weights_only`); a TorchScript file is a program
    of torch operators, which its digest vouches for. Raises ModelError where the weights are not the model's or do not
    fit, or torch or timm is missing."""
    check_digest(model, weights)
    need_torch(model)
    try:
        import timm
        import torch
    except ImportError as error:  # installed in part, or for another machine
        raise ModelError(f"{model.key}: torch cannot be imported ({_line(error)}): {INSTALL_TORCH}") from error
    if model.format == "torchscript":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.jit is deprecated; the published files are what they are
            try:
                script: torch.nn.Module = torch.jit.load(weights, map_location="cpu")  # type: ignore[no-untyped-call]
            except Exception as error:  # of many kinds
                raise ModelError(f"{model.key}: {model.weights} is no TorchScript ({_line(error)})") from error
        return script.eval().float()
    # A name such as hf-hub:… would be looked up on a server.
    if not timm.is_model(model.architecture.partition(".")[0]):
        raise ModelError(f"{model.key}: timm {timm.__version__} has no architecture {model.architecture!r}")
    values = _state_dict(model, weights)
    try:
        return _filled(model, values).eval().float()
    except (RuntimeError, ValueError, AssertionError) as error:
        told = f"its weights do not fit timm's {model.architecture} ({timm.__version__})"
        raise ModelError(f"{model.key}: {told}: {_line(error)}") from error


def _filled(model: Model, values: dict[str, torch.Tensor]) -> torch.nn.Module:
    """timm's network with these tensors, by their names unless by_order. Raises RuntimeError where they do not fit."""
    import timm

    if model.by_order:
        net: torch.nn.Module = timm.create_model(model.architecture, pretrained=False)
        own = net.state_dict()
        if [value.shape for value in values.values()] != [value.shape for value in own.values()]:
            raise RuntimeError("other shapes")
        net.load_state_dict(dict(zip(own, values.values(), strict=True)))
        return net
    classifier: Any
    net = timm.create_model(model.architecture, pretrained=False, num_classes=0)
    classifier = net.pretrained_cfg.get("classifier") or ()  # type: ignore[operator, union-attr]
    heads = tuple(f"{name}." for name in ([classifier] if isinstance(classifier, str) else classifier))
    net.load_state_dict({name: value for name, value in values.items() if not name.startswith(heads)})
    # A transformer has an embedding for each place at its own input side; timm interpolates them once, here.
    if hasattr(net, "set_input_size"):
        net.set_input_size(img_size=(model.input_side, model.input_side))  # type: ignore[operator]
    return net


def pooled(model: Model, net: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    """The numbers that a network has for each image. images: (n, 3, side, side) float, normalised. Returns (n, D).

    timm: what its classifier would get. TorchScript: the output, or the first of several; axes of length 1 after the
    second go. Raises ModelError where that is no (n, D) of floats."""
    import torch

    found: Any
    if model.format == "timm":
        features = net.forward_features(images)  # type: ignore[operator]
        # The mean over all places is taken in float32, whatever the network computes in.
        found = net.forward_head(features.float(), pre_logits=True)  # type: ignore[operator]
    else:
        found = net(images)
        if isinstance(found, tuple | list) and found:
            found = found[0]
    if not isinstance(found, torch.Tensor):
        raise ModelError(f"{model.key}: the network gives a {type(found).__name__}, not one array of numbers")
    shape = tuple(int(length) for length in found.shape)  # while it is traced, these are tensors
    if not found.is_floating_point() or len(shape) < 2 or shape[0] != len(images) or set(shape[2:]) - {1}:
        raise ModelError(f"{model.key}: the network gives {shape} {found.dtype} for {len(images)} images, not (n, d)")
    return found.flatten(1)


def run(model: Model, net: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    """(n, dimension) float32 of normalised images: `pooled`, whatever autocast says.

    Raises ModelError where the network does not take the images, or gives something else."""
    import torch

    try:
        rows = pooled(model, net, images).float()
    except torch.OutOfMemoryError as error:
        raise ModelError(f"{model.key}: too little memory on {images.device} ({_line(error)})") from error
    except RuntimeError as error:
        raise ModelError(f"{model.key}: the network does not take {tuple(images.shape)} ({_line(error)})") from error
    if rows.shape[1] != model.dimension:
        raise ModelError(_other_dimension(model, rows.shape[1]))
    return rows


def classifier(model: Model, weights: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The last layer of the network that is built here: weights (classes, dimension) and bias (classes,), float32.

    Raises ModelError where the weights are not the model's."""
    try:
        return efficientnet_lite.classifier(_tensors(model, weights))
    except ValueError as error:
        raise ModelError(_unfit(model, error)) from error


def check(model: Model, weights: Path) -> None:
    """Runs the network once on the CPU. Raises ModelError as `load`, and where it does not take or give what the model
    says."""
    net = load(model, weights)
    import torch

    with torch.inference_mode():
        run(model, net, torch.zeros((1, 3, model.input_side, model.input_side)))


def convert(model: Model, weights: Path, graph: Path) -> None:
    """Writes graph (.xml) and, beside it, the weights (.bin): (1, side, side, 3) uint8 RGB in, (1, dimension) float32
    out, not normalised. Raises ModelError where the network cannot be converted, or is not what the model says."""
    openvino = import_openvino()
    from openvino.preprocess import PrePostProcessor

    # Batches of 1: as fast as larger ones on one thread, and no image can depend on its neighbours.
    shape = [1, 3, model.input_side, model.input_side]
    if model.built:
        converted = _build(model, openvino, weights)
    elif model.format == "onnx":
        converted = _read_onnx(model, openvino, weights, shape)
    else:
        converted = _from_torch(model, openvino, load(model, weights), shape)
    try:
        steps = PrePostProcessor(converted)
        steps.input().tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
        steps.input().model().set_layout(openvino.Layout("NCHW"))
        steps.input().preprocess().convert_element_type(openvino.Type.f32).mean([*model.mean]).scale([*model.std])
        steps.output().tensor().set_element_type(openvino.Type.f32)
        built = steps.build()
        # OpenVINO numbers what it makes through a whole process: without this no two conversions have the same bytes.
        built.set_friendly_name(model.name)
        for number, node in enumerate(built.get_ordered_ops()):
            node.set_friendly_name(f"{node.get_type_name()}_{number}")
        _try(model, openvino, built)
        # Not float16: with bf16 arithmetic it costs 0.7 % of the nearest neighbours, and saves 9 MB.
        openvino.save_model(built, os.fspath(graph), compress_to_fp16=False)
    except RuntimeError as error:
        raise ModelError(f"{model.key}: OpenVINO cannot run the network ({_line(error)})") from error


def import_openvino() -> Any:
    """The module openvino, imported without its telemetry, which else reports every import to its maker's server.
    Raises ModelError where it is missing."""
    # None makes `import openvino_telemetry` fail; OpenVINO then uses its own stub.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError as error:
        raise ModelError(f"openvino cannot be imported: {error}") from error
    return openvino


def _build(model: Model, openvino: Any, weights: Path) -> Any:
    """Our own network, of its weights alone."""
    try:
        return efficientnet_lite.build(openvino, _tensors(model, weights), model.input_side)
    except ValueError as error:
        raise ModelError(_unfit(model, error)) from error


def _tensors(model: Model, weights: Path) -> state_dict.Tensors:
    check_digest(model, weights)
    return state_dict.read(weights)


def _unfit(model: Model, error: ValueError) -> str:
    return f"{model.key}: {model.weights} holds no weights of its network ({_line(error)})"


def _from_torch(model: Model, openvino: Any, net: torch.nn.Module, shape: list[int]) -> Any:
    import torch

    class Embedder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return pooled(model, self.net, images).float()

    example = torch.zeros(shape)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch.jit.trace, which the conversion uses, is deprecated
        run(model, net, example)  # says what is wrong better than the conversion
        try:
            return openvino.convert_model(Embedder().eval(), example_input=example, input=shape)
        except Exception as error:  # torch's and OpenVINO's share no base class
            raise ModelError(f"{model.key}: OpenVINO cannot convert the network ({_line(error)})") from error


def _read_onnx(model: Model, openvino: Any, weights: Path, shape: list[int]) -> Any:
    """The ONNX network, of its outputs the first alone."""
    check_digest(model, weights)
    # In a folder with nothing else: an ONNX file can name other files for its tensors, which no digest vouches for, and
    # OpenVINO takes those that lie beside it.
    with tempfile.TemporaryDirectory() as folder:
        alone = Path(folder) / "network.onnx"
        shutil.copyfile(weights, alone)
        try:
            network = openvino.Core().read_model(alone)
        except RuntimeError as error:
            told = f"{model.weights} is no ONNX that OpenVINO reads, or not all of it"
            raise ModelError(f"{model.key}: {told} ({_line(error)})") from error
    if len(network.inputs) != 1:
        names = ", ".join(one.any_name for one in network.inputs)
        raise ModelError(f"{model.key}: the network wants {len(network.inputs)} inputs ({names}), not images alone")
    kind = network.outputs[0].get_element_type().get_type_name()
    if kind not in ("f16", "bf16", "f32", "f64"):
        raise ModelError(f"{model.key}: the network gives {kind}, not floats")
    try:
        network.reshape(shape)
    except RuntimeError as error:
        raise ModelError(f"{model.key}: the network does not take {tuple(shape)} ({_line(error)})") from error
    return openvino.Model([network.outputs[0]], network.get_parameters(), model.name)


def _try(model: Model, openvino: Any, built: Any) -> None:
    """Runs a converted network once. Raises ModelError where its output is not (1, dimension)."""
    compiled = openvino.Core().compile_model(built, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled(np.zeros((1, model.input_side, model.input_side, 3), np.uint8))[0]
    if found.ndim < 2 or found.shape[0] != 1 or set(found.shape[2:]) - {1}:
        raise ModelError(f"{model.key}: the network gives {found.shape} for 1 image, not (1, {model.dimension})")
    if found.shape[1] != model.dimension:
        raise ModelError(_other_dimension(model, found.shape[1]))


def _other_dimension(model: Model, found: int) -> str:
    return f"{model.key}: the network gives {found} numbers, the model's dimension is {model.dimension}"


def _state_dict(model: Model, weights: Path) -> dict[str, torch.Tensor]:
    """Tensors by name, of a safetensors or a torch file: told apart by their first bytes, for a URI may end in .bin."""
    import torch

    with weights.open("rb") as file:
        head = file.read(9)
    found: Any
    try:
        if head[8:] == b"{":  # after the length of the header
            from safetensors.torch import load_file

            found = load_file(weights)
        else:
            found = torch.load(weights, map_location="cpu", weights_only=True)
    except Exception as error:  # of many kinds, for a file that is cut, of another format, or wants to run code
        told = f"{model.weights} is no safetensors or .pth of tensors alone"
        raise ModelError(f"{model.key}: {told} ({_line(error)})") from error
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise ModelError(f"{model.key}: {model.weights} holds no tensors by name: save the state dict alone")
    return dict(found)


def _line(error: Exception) -> str:
    """An error on one line, of at most 200 characters: of OpenVINO's nested ones the end, which tells the reason."""
    text = " ".join(str(error).split())
    return (text[-200:] if text.startswith("Exception from ") else text[:200]) or type(error).__name__
