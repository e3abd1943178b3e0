"""Tensors by name out of a .pth file, without torch: five pickles, of which nothing runs, and the bytes after them."""

from __future__ import annotations

import io
import math
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Tensors = dict[str, NDArray[Any]]

MAX_BYTES = 1 << 28  # of a file: it is read whole
MAX_AXES = 8
# MAGIC_NUMBER and PROTOCOL_VERSION of torch/serialization.py, and the flag that follows them.
_HEAD = (0x1950A86A20F9469CFC6C, 1001, True)
_TYPES: dict[str, np.dtype[Any]] = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


class _Storage(NamedTuple):
    """A row of numbers of the file."""

    key: str
    type: np.dtype[Any]
    length: int  # numbers


class _Tensor(NamedTuple):
    """A view of a storage; offset and strides in numbers. It becomes an array when all is read, for an array has a
    method that a pickle could feed bytes to."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Unpickler(pickle.Unpickler):
    """Knows what a state dict is made of, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: _Tensor(storage, offset, shape, strides)
        if module == "torch" and name in _TYPES:
            return name
        raise ValueError(f"it wants {module}.{name}")

    def persistent_load(self, saved: Any) -> _Storage:
        what, kind, key, _, length, view = saved
        if what != "storage" or view is not None:
            raise ValueError("it holds other than whole storages")
        return _Storage(key, _TYPES[kind], length)


def read(file: Path) -> Tensors:
    """The tensors of a state dict that torch.save wrote in its format from before 1.6, in the file's order: float32 or
    int64, row-major, of 1 number or more each. Nothing that the file names is called or imported.

    Source: torch/serialization.py, `_legacy_save`. Raises ValueError where the file is anything else: larger than
    MAX_BYTES, cut, with bytes left over, a pickle of other than tensors, a tensor that reaches out of its storage or
    repeats its numbers. OSError where it cannot be read."""
    if file.stat().st_size > MAX_BYTES:
        raise ValueError(f"it holds more than {MAX_BYTES} bytes")
    data = file.read_bytes()
    pickles = io.BytesIO(data)
    try:
        magic, protocol, system, found, keys = (_Unpickler(pickles).load() for _ in range(5))
        if (magic, protocol, system["little_endian"]) != _HEAD:
            raise ValueError("it is of another format")
        storages = _storages(data, pickles.tell(), keys, {one.storage.key: one.storage for one in found.values()})
        return {str(name): _array(tensor, storages) for name, tensor in found.items()}
    except ValueError:
        raise
    except Exception as error:  # of many kinds, for what is cut or made up
        raise ValueError(f"it is no state dict: {type(error).__name__} {error}") from error


def _storages(data: bytes, at: int, keys: list[str], wanted: dict[str, _Storage]) -> dict[str, NDArray[Any]]:
    """The rows of numbers, views of data, by their keys. They lie from `at` to its end in the order of keys, each after
    its length in 8 bytes."""
    if sorted(keys) != sorted(wanted):
        raise ValueError("its storages are not those of its tensors")
    rows = {}
    for key in keys:
        _, kind, length = wanted[key]
        start, end = at + 8, at + 8 + length * kind.itemsize
        if int.from_bytes(data[at:start], "little") != length or end > len(data):
            raise ValueError(f"its storage {key!r} has another length than its tensors say")
        rows[key] = np.frombuffer(data, kind, length, start)
        at = end
    if at != len(data):
        raise ValueError(f"{len(data) - at} bytes are left over")
    return rows


def _array(tensor: _Tensor, storages: dict[str, NDArray[Any]]) -> NDArray[Any]:
    (key, kind, length), offset, shape, strides = tensor
    row = storages[key]
    numbers = (length, offset, *shape, *strides)
    if not all(type(number) is int and number >= 0 for number in numbers) or len(shape) > MAX_AXES:
        raise ValueError("a tensor's places are no whole numbers from 0 on, or too many")
    last = offset + sum((many - 1) * step for many, step in zip(shape, strides, strict=True))
    if 0 in shape or last >= len(row) or math.prod(shape) > len(row) or (kind, length) != (row.dtype, len(row)):
        raise ValueError("a tensor does not fit its storage")
    size = kind.itemsize
    return np.ndarray(shape, kind, row.data, offset * size, tuple(step * size for step in strides)).copy()
