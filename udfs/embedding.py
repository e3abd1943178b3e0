"""Decoded images to unit vectors: the square input, and the runtimes that embed it."""

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from udfs.models import KINDS, Model, ModelError, import_openvino, load_torch

if TYPE_CHECKING:
    import torch

_CUDA_BATCH = 64  # images a launch; the last one is filled up, so that the size is always the same
_CPU_BATCH = 4


class Runtime(Protocol):
    """A network that is loaded and ready. One process opens one and keeps it."""

    @property
    def device(self) -> str:
        """Where and how precisely it computes, for the log: `cpu bf16`, `cuda:0 f32`."""
        ...

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """pixels: (n, side, side, 3) uint8 RGB, from `fit`. Returns (n, dimension) float32, rows of norm 1.

        A row depends on its image alone, bit for bit: not on n, its place or the other images. It does depend on the
        runtime and the processor: other kernels round otherwise. Raises ValueError for another shape or type."""
        ...


def fit(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """The network's square input: the whole image, its aspect ratio ignored. pixels: (h, w, 3) uint8 RGB, upright.
    Returns (side, side, 3) uint8.

    Of the ways to make a square this one pairs the most edited copies with their originals (tests/bench/edits.py).
    Where an axis shrinks, each pixel is the mean of those it covers; an axis that does not is interpolated."""
    height, width = pixels.shape[:2]
    # Two steps, for INTER_AREA interpolates both axes as soon as one of them grows.
    pixels = _resize(pixels, min(width, side), min(height, side), cv2.INTER_AREA)
    return _resize(pixels, side, side, cv2.INTER_LINEAR)


def open_runtime(kind: str, model: Model, files: tuple[Path, ...], device: int | None = None) -> Runtime:
    """Loads a model in this process. kind, files: of udfs.models.prepare. device: index of the CUDA device for torch,
    None: the CPU.

    - openvino: one thread; bf16 where the processor has it, else f32. Opens in 0.5 s and imports no torch.
    - openvino-fp32: the same in f32.
    - torch: bf16 autocast. torch-fp32: the reference, no TF32.

    Raises ModelError (files missing or broken, no such CUDA device), ValueError for an unknown kind."""
    if kind in ("openvino", "openvino-fp32"):
        return _OpenVino(model, files, exact=kind == "openvino-fp32")
    if kind in ("torch", "torch-fp32"):
        return _Torch(model, files, device, exact=kind == "torch-fp32")
    raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")


class _OpenVino:
    def __init__(self, model: Model, files: tuple[Path, ...], *, exact: bool) -> None:
        openvino = import_openvino()
        self._model = model
        graph, weights = files
        core = openvino.Core()
        bf16 = not exact and "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
            "INFERENCE_NUM_THREADS": 1,  # Spark runs one worker a core
            "NUM_STREAMS": 1,
        }
        try:
            compiled = core.compile_model(core.read_model(graph, weights), "CPU", settings)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise ModelError(f"{model.key}: OpenVINO cannot load {graph}: {reason}") from error
        self._request = compiled.create_infer_request()
        self.device = f"cpu {'bf16' if bf16 else 'f32'}"

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        _check(pixels, self._model)
        pooled = np.empty((len(pixels), self._model.dimension), np.float32)
        for row, image in zip(pooled, pixels, strict=True):
            self._request.infer([np.ascontiguousarray(image)[None]], share_inputs=True)
            row[:] = self._request.get_output_tensor(0).data[0]
        return _unit(pooled)


class _Torch:
    def __init__(self, model: Model, files: tuple[Path, ...], device: int | None, *, exact: bool) -> None:
        net = load_torch(model, files[0])
        import torch

        if device is not None and device >= torch.cuda.device_count():
            raise ModelError(f"{model.key}: no CUDA device {device}, torch sees {torch.cuda.device_count()}")
        self._model, self._exact = model, exact
        self._device = torch.device("cpu" if device is None else f"cuda:{device}")
        self._batch = _CPU_BATCH if device is None else _CUDA_BATCH
        self._net = net.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.device = f"{self._device} {'f32' if exact else 'bf16'}"

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        import torch

        _check(pixels, self._model)
        pooled = np.empty((len(pixels), self._model.dimension), np.float32)
        # Kernels are chosen by the batch size: with one size and deterministic kernels, rows stay equal.
        with (
            torch.inference_mode(),
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
            torch.autocast(self._device.type, torch.bfloat16, enabled=not self._exact),
        ):
            for start in range(0, len(pixels), self._batch):
                part = pixels[start : start + self._batch]
                filled = np.zeros((self._batch, *pixels.shape[1:]), np.uint8)
                filled[: len(part)] = part
                pooled[start : start + len(part)] = self._pooled(torch.from_numpy(filled))[: len(part)]
        return _unit(pooled)

    def _pooled(self, images: "torch.Tensor") -> NDArray[np.float32]:
        """images: (batch, side, side, 3) uint8 on the CPU. Returns (batch, dimension) float32."""
        # permute() of NHWC bytes is the channels_last layout already.
        images = images.to(self._device).permute(0, 3, 1, 2).float()
        images = (images - self._model.mean) / self._model.std
        features = self._net.forward_features(images)
        pooled = self._net.forward_head(features.float(), pre_logits=True)
        return np.asarray(pooled.float().cpu().numpy(), np.float32)


def _check(pixels: NDArray[np.uint8], model: Model) -> None:
    side = model.input_side
    if pixels.dtype != np.uint8 or pixels.shape[1:] != (side, side, 3):
        raise ValueError(f"pixels must be (n, {side}, {side}, 3) uint8, got {pixels.shape} {pixels.dtype}")


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """rows: (n, d) float32. Returns them with norm 1."""
    norms = np.sqrt(np.square(rows, dtype=np.float64).sum(axis=1, keepdims=True))
    return np.asarray(rows / np.maximum(norms, 1e-12), np.float32)


def _resize(pixels: NDArray[np.uint8], width: int, height: int, how: int) -> NDArray[np.uint8]:
    if pixels.shape[:2] == (height, width):
        return pixels
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=how), np.uint8)
