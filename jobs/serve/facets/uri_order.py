"""The order of the URIs of a gallery that is being made, and where its folders begin in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

SLASH = ord("/")
ROWS = 131_072  # looked at together


def uri_order(folder: Path, images: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """order: (images,) the rows by the bytes of their URIs. starts: the places in it whose picture lies in another
    folder than the one before, ascending. folder: of a gallery with uri.bin and uri_ends.npy."""
    if not images:
        return np.zeros(0, np.int32), np.zeros(0, np.int32)
    ends = np.load(folder / "uri_ends.npy", mmap_mode="r", allow_pickle=False)
    offsets = np.concatenate([[0], ends]).astype(np.int64)
    data = np.memmap(folder / "uri.bin", np.uint8, "r")
    uris = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), images, [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    )
    if pc.all(pc.less_equal(uris.slice(0, images - 1), uris.slice(1))).as_py() in (None, True):
        order = np.arange(images, dtype=np.int32)  # as a first run numbers them
    else:
        order = pc.sort_indices(uris).to_numpy().astype(np.int32)
    starts, last = [], None
    for first in range(0, images, ROWS):
        folders = _folders(uris.take(pa.array(order[first : first + ROWS])))
        before = pa.concat_arrays([folders.slice(0, 1) if last is None else last, folders.slice(0, len(folders) - 1)])
        starts.append(first + np.flatnonzero(pc.not_equal(folders, before).to_numpy(zero_copy_only=False)))
        last = folders.slice(len(folders) - 1)
    return order, np.concatenate([[0], *starts]).astype(np.int32)


def _folders(uris: pa.LargeBinaryArray) -> pa.LargeBinaryArray:
    """The URIs up to their last slash, which is one of it; empty where there is none."""
    _, offsets, buffer = uris.buffers()
    ends = np.frombuffer(offsets, np.int64)[uris.offset : uris.offset + len(uris) + 1]
    data = np.frombuffer(buffer, np.uint8)[int(ends[0]) : int(ends[-1])]
    begins, ends = ends[:-1] - ends[0], ends[1:] - ends[0]
    slashes = np.concatenate([[-1], np.flatnonzero(data == SLASH)])
    last = slashes[np.searchsorted(slashes, ends, side="left") - 1]
    lengths = np.maximum(last + 1 - begins, 0)
    inside = np.arange(len(data)) - np.repeat(begins, ends - begins) < np.repeat(lengths, ends - begins)
    cut = np.concatenate([[0], np.cumsum(lengths)])
    return pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(uris), [None, pa.py_buffer(cut.astype(np.int64)), pa.py_buffer(data[inside])]
    )
