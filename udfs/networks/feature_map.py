"""What the built-in network sees in each cell of its last layer, whose mean over the cells is the vector."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from udfs.networks import formats, openvino_cpu
from udfs.networks.models import Model, ModelError


@dataclass(frozen=True)
class Seen:
    """Of n pictures. vectors: (n, d) float32 of norm 1. norms: (n,) float32. cells: (n, d, h, w) float32, of which a
    vector times its norm is the mean."""

    vectors: NDArray[np.float32]
    norms: NDArray[np.float32]
    cells: NDArray[np.float32]


class FeatureMap:
    """The network with its last layer as a second output; it computes as where vectors are made, of which a map then
    tells the parts. One thread at a time uses it."""

    def __init__(self, model: Model, files: tuple[Path, ...]) -> None:
        """files: of udfs.networks.preparation.prepare for OpenVINO. Raises ModelError: not the built-in network."""
        if not model.built:
            raise ModelError(f"{model.key}: its vector is no mean over cells that we know of")
        openvino = formats.import_openvino()
        core = openvino.Core()
        network = core.read_model(*files)
        means = [node for node in network.get_ordered_ops() if node.get_type_name() == "ReduceMean"]
        if len(means) != 1:
            raise ModelError(f"{model.key}: {files[0]} has {len(means)} means, not one over its cells")
        network.add_outputs(means[0].input_value(0))
        self._side = model.input_side
        self._request = core.compile_model(network, "CPU", openvino_cpu.settings(core)).create_infer_request()
        self._openvino = openvino

    def look(self, pixels: NDArray[np.uint8]) -> Seen:
        """pixels: (n, side, side, 3) uint8 RGB, of embedding.fit. Raises ValueError for another shape."""
        if pixels.dtype != np.uint8 or pixels.shape[1:] != (self._side, self._side, 3):
            raise ValueError(f"pixels must be (n, {self._side}, {self._side}, 3) uint8, got {pixels.shape}")
        cells = []
        for one in pixels:
            self._request.set_input_tensor(self._openvino.Tensor(np.ascontiguousarray(one[None])))
            self._request.infer()
            cells.append(self._request.get_output_tensor(1).data[0].copy())
        stacked = np.stack(cells)
        rows = stacked.mean(axis=(2, 3), dtype=np.float64)
        norms = np.sqrt(np.square(rows).sum(axis=1))
        vectors = (rows / np.maximum(norms, 1e-12)[:, None]).astype(np.float32)
        return Seen(vectors, norms.astype(np.float32), stacked)
