"""Decoded images to unit vectors: the square input, and the runtimes that embed it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from udfs.images.scaling import resized
from udfs.networks import formats, openvino_cpu
from udfs.networks.models import FITS, KINDS, Model, ModelError

if TYPE_CHECKING:
    import torch

_CUDA_BATCH = 64  # images a launch; the last one is filled up, so that the size is always the same
_CPU_BATCH = 4


@dataclass(frozen=True)
class Embedded:
    """What a network says of n images. vectors: (n, dimension) float32, rows of norm 1. norms: (n,) float32 >= 0, the
    lengths that the rows had: a classifier wants them back."""

    vectors: NDArray[np.float32]
    norms: NDArray[np.float32]


class Runtime(Protocol):
    """A network that is loaded and ready. One process opens one and keeps it; one thread at a time uses it."""

    @property
    def device(self) -> str:
        """Where and how precisely it computes, for the log: `cpu bf16`, `cuda:0 f32`."""
        ...

    @property
    def batch(self) -> int:
        """Images a call from which on it is as fast as it gets. It decides nothing else."""
        ...

    @property
    def busy_s(self) -> float:
        """Seconds for which a GPU computed what has been waited for; 0 where that is not measured."""
        ...

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """pixels: (n, side, side, 3) uint8 RGB, from `fit`. Returns (n, dimension) float32, rows of norm 1.

        A row depends on its image alone, bit for bit: not on n, its place or the other images. It does depend on the
        runtime and the processor: other kernels round otherwise. A network that overflows gives a row that is not
        finite, which the caller looks for. Raises ValueError for another shape or type."""
        ...

    def submit(self, pixels: NDArray[np.uint8]) -> Callable[[], Embedded]:
        """Begins to embed; the function returned waits and gives what `embed` gives, and the norms. pixels may be
        changed at once.

        On a GPU the caller goes on meanwhile, and two calls in flight keep it busy; on a CPU the work is done before
        this returns."""
        ...


def fit(pixels: NDArray[np.uint8], side: int, how: str = "stretch") -> NDArray[np.uint8]:
    """The network's square input. pixels: (h, w, 3) uint8 RGB, upright. how: Model.fit. Returns (side, side, 3) uint8.

    stretch: the whole image, its aspect ratio ignored: of the ways to make a square this one pairs the most edited
    copies with their originals (tests/bench/edits.py). crop: its middle, as wide and as high as its short side.
    See udfs.images.scaling for the filter. Raises ValueError for another how."""
    if how not in FITS:
        raise ValueError(f"how must be one of {', '.join(FITS)}, got {how!r}")
    height, width = pixels.shape[:2]
    if how == "crop":  # cut first: the long side of a thin image, scaled as its short one, has no bound
        short = min(height, width)
        top, left = (height - short) // 2, (width - short) // 2
        pixels = pixels[top : top + short, left : left + short]
    return resized(pixels, side, side)


def open_runtime(
    kind: str, model: Model, files: tuple[Path, ...], device: int | None = None, alone: bool = False
) -> Runtime:
    """Loads a model in this process. kind, files: of udfs.networks.preparation.prepare. device: index of the CUDA
    device for torch, None: the CPU. alone: whether images come one at a time: OpenVINO then computes no more than one,
    a quarter of the CPU time, and the rows are the same.

    - openvino: one thread; bf16 where the processor gains by it, else f32. Opens in 0.5 s and imports no torch.
    - openvino-fp32: the same in f32.
    - torch: bf16 autocast. torch-fp32: the reference, no TF32.

    Raises ModelError (files missing or broken, a network of another output than the model's, no such CUDA device),
    ValueError for an unknown kind, and for imported vectors, which need no runtime."""
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    if model.format == "vectors":
        raise ValueError(f"{model.key}: its vectors are imported, there is no network to open")
    if kind.startswith("openvino"):
        return _OpenVino(model, files, exact=kind == "openvino-fp32", alone=alone)
    return _Torch(model, files, device, exact=kind == "torch-fp32")


class _OpenVino:
    # It computes a few at once; but decoding and computing in turns of this many keeps the caches warm, a tenth of the
    # CPU time.
    batch = 32
    busy_s = 0.0

    def __init__(self, model: Model, files: tuple[Path, ...], *, exact: bool, alone: bool) -> None:
        openvino = formats.import_openvino()
        self._model = model
        graph, weights = files
        core = openvino.Core()
        settings = openvino_cpu.settings(core, exact=exact)
        # Another's network may have been traced with its batch of one inside.
        self._together = _CPU_BATCH if model.built and not alone else 1
        side = model.input_side
        try:
            network = core.read_model(graph, weights)
            if self._together > 1:
                network.reshape([self._together, side, side, 3])
            compiled = core.compile_model(network, "CPU", settings)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise ModelError(f"{model.key}: OpenVINO cannot load {graph}: {reason}") from error
        self._request = compiled.create_infer_request()
        self._images = np.zeros((self._together, side, side, 3), np.uint8)
        self._request.set_input_tensor(openvino.Tensor(self._images, shared_memory=True))
        self.device = f"cpu {settings['INFERENCE_PRECISION_HINT']}"

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self.submit(pixels)().vectors

    def submit(self, pixels: NDArray[np.uint8]) -> Callable[[], Embedded]:
        _check(pixels, self._model)
        rows = np.empty((len(pixels), self._model.dimension), np.float32)
        for start in range(0, len(pixels), self._together):
            part = pixels[start : start + self._together]
            self._images[: len(part)] = part  # what the others still hold is computed and left
            self._request.infer()
            found = self._request.get_output_tensor(0).data.reshape(self._together, -1)
            rows[start : start + len(part)] = found[: len(part)]
        done = _unit(rows)
        return lambda: done


class _Torch:
    def __init__(self, model: Model, files: tuple[Path, ...], device: int | None, *, exact: bool) -> None:
        net = formats.load(model, files[0])
        import torch

        if device is not None and device >= torch.cuda.device_count():
            raise ModelError(f"{model.key}: no CUDA device {device}, torch sees {torch.cuda.device_count()}")
        self._model, self._exact = model, exact
        self._device = torch.device("cpu" if device is None else f"cuda:{device}")
        self._net = net.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._mean, self._std = (
            torch.tensor(values, device=self._device).view(1, 3, 1, 1) for values in (model.mean, model.std)
        )
        self._stream: torch.cuda.Stream | None = None
        if device is not None:
            self._stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
            self._stream.wait_stream(torch.cuda.default_stream(self._device))  # on which the weights came
        self.device = f"{self._device} {'f32' if exact else 'bf16'}"
        self.batch = _CPU_BATCH if device is None else _CUDA_BATCH
        self.busy_s = 0.0
        # Finds out whether the output fits, and has the kernels chosen before the first image.
        self.embed(np.zeros((1, model.input_side, model.input_side, 3), np.uint8))
        self.busy_s = 0.0

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self.submit(pixels)().vectors

    def submit(self, pixels: NDArray[np.uint8]) -> Callable[[], Embedded]:
        _check(pixels, self._model)
        starts = range(0, len(pixels), self.batch)
        parts = [self._begin(pixels[start : start + self.batch]) for start in starts]
        shape = (len(pixels), self._model.dimension)

        def wait() -> Embedded:
            rows = np.empty(shape, np.float32)
            for start, part in zip(starts, parts, strict=True):
                rows[start : start + self.batch] = part()
            return _unit(rows)

        return wait

    def _begin(self, part: NDArray[np.uint8]) -> Callable[[], NDArray[np.float32]]:
        """part: at most `batch` images. Returns what waits for their rows, not yet of norm 1."""
        import torch

        count = len(part)
        # Kernels are chosen by the batch size: with one size and deterministic kernels, rows stay equal. From pinned
        # memory the copy runs beside the caller; torch frees it only when the copy has ended.
        filled = torch.empty((self.batch, *part.shape[1:]), dtype=torch.uint8, pin_memory=self._stream is not None)
        filled.numpy()[:count] = part
        filled.numpy()[count:] = 0
        if self._stream is None:
            rows = self._rows(filled).numpy()[:count]
            return lambda: rows
        began, ended, copied = (
            torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            for _ in range(3)
        )
        with torch.cuda.stream(self._stream):
            images = filled.to(self._device, non_blocking=True)
            began.record()
            found = self._rows(images)
            ended.record()
            there = torch.empty(found.shape, dtype=found.dtype, pin_memory=True)
            there.copy_(found, non_blocking=True)
            copied.record()

        def wait() -> NDArray[np.float32]:
            copied.synchronize()
            self.busy_s += began.elapsed_time(ended) / 1000
            return np.asarray(there.numpy()[:count], np.float32)

        return wait

    def _rows(self, images: "torch.Tensor") -> "torch.Tensor":
        """images: (batch, side, side, 3) uint8 on the device. Returns (batch, dimension) float32 there."""
        import torch

        with (
            torch.inference_mode(),
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
            torch.autocast(self._device.type, torch.bfloat16, enabled=not self._exact),
            # A script is else fused after some calls, and rounds otherwise from then on.
            torch.jit.optimized_execution(False),  # type: ignore[attr-defined]
        ):
            # permute() of NHWC bytes is the channels_last layout already.
            normal = (images.permute(0, 3, 1, 2).float() - self._mean) / self._std
            return formats.run(self._model, self._net, normal)


def _check(pixels: NDArray[np.uint8], model: Model) -> None:
    side = model.input_side
    if pixels.dtype != np.uint8 or pixels.shape[1:] != (side, side, 3):
        raise ValueError(f"pixels must be (n, {side}, {side}, 3) uint8, got {pixels.shape} {pixels.dtype}")


def _unit(rows: NDArray[np.float32]) -> Embedded:
    """rows: (n, d) float32. One without a length stays as it is."""
    norms = np.sqrt(np.square(rows, dtype=np.float64).sum(axis=1, keepdims=True))
    return Embedded(np.asarray(rows / np.maximum(norms, 1e-12), np.float32), norms[:, 0].astype(np.float32))
