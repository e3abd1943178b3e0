"""Weights read without torch: what a file may hold, and all the ways in which it may lie."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from udfs.networks import models, state_dict, weight_files

MODEL = models.find(models.DEFAULT)
KINDS = {"<f4": "FloatStorage", "<i8": "LongStorage", "<f8": "DoubleStorage"}
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
ORDERED = b"ccollections\nOrderedDict\n)R"


def plain(value: object) -> bytes:
    """The opcodes of a number, a text or a tuple of them."""
    return pickle.dumps(value, 2)[2:-1]


def tensor(
    key: str,
    row: NDArray[Any],
    offset: object,
    shape: object,
    strides: object,
    length: object = None,
    view: object = None,
) -> bytes:
    """The opcodes of a view of a storage, as torch.save writes it."""
    kind = f"ctorch\n{KINDS[row.dtype.str]}\n".encode()
    held = plain(len(row) if length is None else length)
    storage = b"(" + plain("storage") + kind + plain(key) + plain("cpu") + held + plain(view) + b"tQ"
    return REBUILD + b"(" + storage + plain(offset) + plain(shape) + plain(strides) + b"\x89" + ORDERED + b"tR"


def written(
    file: Path, tensors: dict[str, bytes], rows: dict[str, NDArray[Any]], little: bool = True, keys: object = None
) -> Path:
    """A file of torch's format from before 1.6."""
    items = b"".join(plain(name) + opcodes for name, opcodes in tensors.items())
    system = {"protocol_version": 1001, "little_endian": little, "type_sizes": {}}
    file.write_bytes(
        pickle.dumps(0x1950A86A20F9469CFC6C, 2)
        + pickle.dumps(1001, 2)
        + pickle.dumps(system, 2)
        + b"\x80\x02" + ORDERED + b"(" + items + b"u."
        + pickle.dumps(list(rows) if keys is None else keys, 2)
        + b"".join(len(row).to_bytes(8, "little") + row.tobytes() for row in rows.values())
    )  # fmt: skip
    return file


ROW = np.arange(1, 25, dtype="<f4")
COUNT = np.array([7], "<i8")


def test_views_of_storages(tmp_path: Path) -> None:
    """An offset, a stride, a scalar, a type, the order of the file or a shared storage that is lost."""
    tensors = {
        "b": tensor("0", ROW, 0, (2, 3, 4), (12, 4, 1)),
        "a": tensor("0", ROW, 1, (4, 3), (1, 4)),
        "n": tensor("1", COUNT, 0, (), ()),
    }
    found = state_dict.read(written(tmp_path / "a.pth", tensors, {"0": ROW, "1": COUNT}))
    assert list(found) == ["b", "a", "n"]
    np.testing.assert_array_equal(found["b"], ROW.reshape(2, 3, 4))
    np.testing.assert_array_equal(found["a"], ROW[1:13].reshape(3, 4).T)
    assert found["n"].shape == ()
    assert found["n"] == 7
    assert [value.dtype.str for value in found.values()] == ["<f4", "<f4", "<i8"]
    assert all(value.flags.c_contiguous and value.flags.owndata for value in found.values())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"offset": -1}, "no whole numbers"),
        ({"offset": 21}, "does not fit"),
        ({"offset": 1 << 70}, "does not fit"),
        ({"offset": True}, "no whole numbers"),
        ({"offset": 0.0}, "no whole numbers"),
        ({"offset": "0"}, "no whole numbers"),
        ({"shape": (4,)}, "zip"),
        ({"shape": (2, -2)}, "no whole numbers"),
        ({"shape": (2, 0)}, "does not fit"),
        ({"shape": (5, 5)}, "does not fit"),
        ({"strides": (2, -1)}, "no whole numbers"),
        ({"strides": (1 << 62, 1 << 62)}, "does not fit"),
        ({"shape": (1 << 40, 2), "strides": (0, 1)}, "does not fit"),
        ({"shape": (1,) * 9, "strides": (1,) * 9}, "too many"),
        ({"length": 25}, "another length"),
        ({"length": -1}, "another length"),
        ({"length": None, "view": ("1", 0, 4)}, "other than whole storages"),
        ({"row": ROW.astype("<f8")}, "it wants torch.DoubleStorage"),
    ],
)
def test_a_tensor_that_reaches_out_is_refused(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    """Numbers of another tensor or of other memory, or a small file that becomes gigabytes."""
    fits: dict[str, Any] = {"row": ROW, "offset": 2, "shape": (2, 2), "strides": (2, 1)}
    read(written(tmp_path / "fits.pth", {"a": tensor("0", **fits)}, {"0": ROW}))
    file = written(tmp_path / "a.pth", {"a": tensor("0", **{**fits, **change})}, {"0": ROW})
    with pytest.raises(ValueError, match=told):
        read(file)


read = state_dict.read
FITS = tensor("0", ROW, 0, (2, 3), (3, 1))


def whole(folder: Path, **other: Any) -> bytes:
    return written(folder / "whole.pth", {"a": FITS}, {"0": ROW}, **other).read_bytes()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.3, 0.5, 0.7, 0.8, 0.99])
def test_a_cut_file_is_refused(tmp_path: Path, share: float) -> None:
    """A download that ended early."""
    data = whole(tmp_path)
    (tmp_path / "cut.pth").write_bytes(data[: int(share * len(data))])
    with pytest.raises(ValueError, match=r"."):
        read(tmp_path / "cut.pth")


OTHERS: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "more": (lambda folder: whole(folder) + b"\0", "1 bytes are left over"),
    "big-endian": (lambda folder: whole(folder, little=False), "another format"),
    "two keys": (lambda folder: whole(folder, keys=["0", "0"]), "not those of its tensors"),
    "no key": (lambda folder: whole(folder, keys=[]), "not those of its tensors"),
    "another key": (lambda folder: whole(folder, keys=["1"]), "not those of its tensors"),
    "no tensor": (lambda folder: written(folder / "a", {"a": plain(1)}, {}).read_bytes(), "no state dict"),
    "two types": (
        lambda folder: written(
            folder / "a", {"a": FITS, "b": tensor("0", ROW.view("<i8"), 0, (1,), (1,))}, {"0": ROW}
        ).read_bytes(),
        "another length",
    ),
    "two lengths": (
        lambda folder: written(
            folder / "a", {"b": tensor("0", ROW[:9], 0, (1,), (1,)), "a": FITS}, {"0": ROW}
        ).read_bytes(),
        "does not fit",
    ),
    "zip": (lambda _: b"PK\3\4" + bytes(100), "."),
    "text": (lambda _: b"version https://git-lfs.github.com/spec/v1\n", "."),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_another_file_is_refused(tmp_path: Path, name: str) -> None:
    """A file that is read in part, or as what it is not."""
    make, told = OTHERS[name]
    (tmp_path / "other.pth").write_bytes(make(tmp_path))
    with pytest.raises(ValueError, match=told):
        read(tmp_path / "other.pth")


@pytest.mark.parametrize(
    "named",
    ["posix\nmkdir", "builtins\neval", "numpy\nndarray", "torch\nload", "torch._utils\n_rebuild_tensor", "os\nsystem"],
)
def test_nothing_else_is_called(tmp_path: Path, named: str) -> None:
    """Weights that run code of their own, in one of the five pickles."""
    trap = tmp_path / "trap"
    bomb = b"c" + named.encode() + b"\n(" + plain(str(trap)) + b"tR"
    if named == "posix\nmkdir":
        pickle.loads(b"\x80\x02" + bomb + b".")
        assert trap.exists(), "the bomb is one"
        trap.rmdir()
    fits = whole(tmp_path)
    in_tensors = written(tmp_path / "a.pth", {"a": bomb}, {"0": ROW}).read_bytes()
    instead = fits.replace(plain(1001) + b".", bomb + b".", 1)
    for data in (b"\x80\x02" + bomb + b"." + fits, instead, in_tensors):
        (tmp_path / "bomb.pth").write_bytes(data)
        with pytest.raises(ValueError, match=f"it wants {named.replace(chr(10), '.')}"):
            read(tmp_path / "bomb.pth")
    assert not trap.exists()


def test_too_many_bytes_are_not_read(tmp_path: Path) -> None:
    """A file that fills the memory."""
    with (tmp_path / "large.pth").open("wb") as file:
        os.truncate(file.fileno(), state_dict.MAX_BYTES + 1)
    with pytest.raises(ValueError, match="more than"):
        read(tmp_path / "large.pth")


def test_our_weights(tmp_path: Path) -> None:
    """A file that torch reads otherwise: against torch."""
    torch = pytest.importorskip("torch")
    file = weight_files.weights_file(MODEL, tmp_path)
    found, expected = read(file), torch.load(file, weights_only=True)
    assert list(found) == list(expected)
    assert all(np.array_equal(found[name], value.numpy()) for name, value in expected.items())
    assert all(found[name].dtype == value.numpy().dtype for name, value in expected.items())
