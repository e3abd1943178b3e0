"""EfficientNet-Lite0, built for OpenVINO of its tensors alone, as TensorFlow and timm have it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from udfs.networks.state_dict import Tensors

STEM, HEAD, CLASSES = 32, 1280, 1000  # channels, numbers of a vector, classes
# Of each stage: how often its block stands, its kernel's side, the stride of the first, how many times wider a block is
# inside, channels. Source: timm/models/efficientnet.py, _gen_efficientnet_lite; Tan and Le, arXiv:1905.11946, table 1.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
EPSILON = np.float32(1e-3)  # of a batch normalisation, which TensorFlow has; torch's own is 1e-5


class _Builder:
    """Takes the tensors in the order of the layers, and makes a node of each layer."""

    def __init__(self, openvino: Any, tensors: Tensors) -> None:
        self.ops = openvino.opset13
        self._left = list(tensors.items())[::-1]

    def take(self, *shape: int) -> NDArray[Any]:
        name, value = self._left.pop() if self._left else ("nothing", np.zeros(0))
        if value.shape != shape:
            raise ValueError(f"{name} has the shape {value.shape} where the network has {shape}")
        return value

    def end(self) -> None:
        if self._left:
            raise ValueError(f"{self._left[-1][0]} belongs to no layer")

    def layer(
        self, node: Any, channels: int, side: int = 1, stride: int = 1, *, deep: bool = False, clip: bool = True
    ) -> Any:
        """A convolution with its batch normalisation. deep: of each channel alone. clip: relu6 after it.

        The normalisation goes into the weights and a bias, in the steps and the float32 of OpenVINO's own conversion:
        the weights that come out have its bits."""
        inside = int(node.get_output_shape(0)[1])
        weights = self.take(channels, 1 if deep else inside, side, side)
        gain, bias, mean, variance = (self.take(channels) for _ in range(4))
        self.take()  # how many batches it was trained with
        gain = gain / np.sqrt(variance + EPSILON)
        weights = weights * gain[:, None, None, None]
        bias = bias - mean * gain
        # 'same_upper' is the padding of TensorFlow: where it is odd, the end gets one more.
        places: tuple[Any, ...] = ([stride, stride], [0, 0], [0, 0], [1, 1], "same_upper")
        if deep:
            node = self.ops.group_convolution(node, weights[:, None], *places)
        else:
            node = self.ops.convolution(node, weights, *places)
        node = self.ops.add(node, bias[None, :, None, None])
        return self.ops.clamp(node, 0.0, 6.0) if clip else node


def build(openvino: Any, tensors: Tensors, side: int) -> Any:
    """The openvino.Model of the network without its classifier: (1, 3, side, side) float32, normalised, to (1, 1280)
    float32, the mean over all places. openvino: the module. tensors: of udfs.networks.state_dict, in the order of the
    layers.

    Raises ValueError where the tensors are not those of this network, its classifier included."""
    make = _Builder(openvino, tensors)
    images = make.ops.parameter([1, 3, side, side], np.float32)
    node = make.layer(images, STEM, 3, 2)
    inside = STEM
    for repeats, kernel, first_stride, wider, channels in STAGES:
        for number in range(repeats):
            before = node
            if wider > 1:
                node = make.layer(node, inside * wider)
            node = make.layer(node, inside * wider, kernel, 1 if number else first_stride, deep=True)
            node = make.layer(node, channels, clip=False)
            if number:
                node = make.ops.add(node, before)
            inside = channels
    node = make.layer(node, HEAD)
    make.take(CLASSES, HEAD)
    make.take(CLASSES)
    make.end()
    node = make.ops.reduce_mean(node, [2, 3], keep_dims=True)
    node = make.ops.reshape(node, [0, -1], special_zero=True)
    # Else they get a number of the process, and no two files the same bytes.
    images.output(0).set_names({"images"})
    node.output(0).set_names({"rows"})
    return openvino.Model([node], [images])


def classifier(tensors: Tensors) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The last layer: weights (1000, 1280) and bias (1000,), float32. Raises ValueError where it has other shapes."""
    last = list(tensors.values())[-2:]
    if [value.shape for value in last] != [(CLASSES, HEAD), (CLASSES,)]:
        raise ValueError(f"the last layer has the shapes {[value.shape for value in last]}")
    return last[0], last[1]
