"""Networks of an ONNX file: for inputs of one shape, and for squares of several sides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from udfs.networks import formats
from udfs.networks.models import ModelError
from udfs.networks.openvino_cpu import settings

Array = NDArray[Any]


class Network:
    """Loaded in this process; one thread at a time uses it. It computes in one thread, in bf16 where the processor
    gains by it. outputs: how many it must have. Raises ModelError where OpenVINO cannot load the file so."""

    def __init__(self, file: Path, shape: tuple[int, ...], outputs: int) -> None:
        openvino = formats.import_openvino()
        core = openvino.Core()
        try:
            network = core.read_model(file)
            network.reshape(list(shape))
            compiled = core.compile_model(network, "CPU", settings(core))
        except RuntimeError as error:
            raise ModelError(f"OpenVINO cannot load {file}: {str(error).strip().splitlines()[-1]}") from error
        if len(compiled.outputs) < outputs:
            raise ModelError(f"{file} has {len(compiled.outputs)} outputs, not {outputs}")
        self._request = compiled.create_infer_request()
        self._given = np.zeros(shape, np.float32)
        self._request.set_input_tensor(openvino.Tensor(self._given, shared_memory=True))
        self._outputs = outputs

    def __call__(self, given: NDArray[np.float32]) -> list[Array]:
        """given: float32 of the shape. Returns its outputs, which the next call overwrites."""
        self._given[...] = given
        self._request.infer()
        return [self._request.get_output_tensor(number).data for number in range(self._outputs)]


class Squares:
    """The network of a file for square inputs, of the side that a picture needs. sides: ascending, multiples of 32. The
    smallest is opened at once, each other when a picture first needs it. outputs: of Network. Raises ModelError."""

    def __init__(self, file: Path, sides: tuple[int, ...], outputs: int) -> None:
        self._file, self._sides, self._outputs = file, sides, outputs
        self._open: dict[int, Network] = {}
        self.of(sides[0])

    def side(self, pixels: NDArray[np.uint8]) -> int:
        """The smallest that holds the picture as it is, else the largest. pixels: (h, w, 3)."""
        longest = max(pixels.shape[:2])
        return next((side for side in self._sides if side >= longest), self._sides[-1])

    def of(self, side: int) -> Network:
        """That of one of the sides."""
        if side not in self._open:
            self._open[side] = Network(self._file, (1, 3, side, side), self._outputs)
        return self._open[side]
