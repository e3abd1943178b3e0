"""The network that is built without torch: against numpy alone, and against timm where it is installed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from tests import networks as small
from udfs.networks import efficientnet_lite, embedding, formats, models, preparation, state_dict, weight_files

MODEL = models.find(models.DEFAULT)
Floats = NDArray[np.float32]


@pytest.fixture(scope="module")
def tensors(tmp_path_factory: pytest.TempPathFactory) -> state_dict.Tensors:
    return state_dict.read(weight_files.weights_file(MODEL, tmp_path_factory.mktemp("models")))


class Oracle:
    """The network by numpy alone and the tensors' names, its batch normalisations as layers of their own."""

    def __init__(self, tensors: state_dict.Tensors) -> None:
        self.of = tensors

    def convolved(self, maps: Floats, name: str, stride: int = 1) -> Floats:
        """maps: (c, h, w), padded as TensorFlow pads for 'SAME': https://www.tensorflow.org/api_docs/python/tf/nn"""
        weights = self.of[f"{name}.weight"]
        side = weights.shape[-1]
        lacking = [max((-(-length // stride) - 1) * stride + side - length, 0) for length in maps.shape[1:]]
        padded = np.pad(maps, [(0, 0), *((more // 2, more - more // 2) for more in lacking)])
        windows = sliding_window_view(padded, (side, side), (1, 2))[:, ::stride, ::stride]
        sums = "chwij,cij->chw" if "depthwise" in name else "chwij,ocij->ohw"
        weights = weights[:, 0] if "depthwise" in name else weights
        return np.asarray(np.einsum(sums, windows, weights, optimize=True), np.float32)

    def normalised(self, maps: Floats, name: str) -> Floats:
        gain, bias, mean, variance = (
            self.of[f"{name}.{part}"][:, None, None] for part in ("weight", "bias", "running_mean", "running_var")
        )
        return np.asarray((maps - mean) / np.sqrt(variance + 1e-3) * gain + bias, np.float32)

    def rows(self, images: Floats) -> Floats:
        """images: (3, side, side), normalised. Returns (1280,)."""
        strides = {1: 2, 3: 2, 5: 2, 11: 2}  # of these blocks
        maps = np.clip(self.normalised(self.convolved(images, "_conv_stem", 2), "_bn0"), 0, 6)
        for number in range(16):
            name, before = f"_blocks.{number}.", maps
            if f"{name}_expand_conv.weight" in self.of:
                maps = np.clip(self.normalised(self.convolved(maps, f"{name}_expand_conv"), f"{name}_bn0"), 0, 6)
            maps = self.convolved(maps, f"{name}_depthwise_conv", strides.get(number, 1))
            maps = np.clip(self.normalised(maps, f"{name}_bn1"), 0, 6)
            maps = self.normalised(self.convolved(maps, f"{name}_project_conv"), f"{name}_bn2")
            if maps.shape == before.shape and number:
                maps = maps + before
        maps = np.clip(self.normalised(self.convolved(maps, "_conv_head"), "_bn1"), 0, 6)
        return np.asarray(maps.mean((1, 2)), np.float32)


@pytest.mark.parametrize("side", [32, 75, 96])
def test_the_network_is_what_numpy_says(tensors: state_dict.Tensors, side: int) -> None:
    """A stride, a padding, a residual, a normalisation or a layer that is not this network's: at sides whose maps are
    even and odd."""
    openvino = formats.import_openvino()
    net = efficientnet_lite.build(openvino, tensors, side)
    compiled = openvino.Core().compile_model(net, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for pixels in small.pictures(2, side):
        images = np.asarray((pixels.transpose(2, 0, 1) - np.float32(127)) / np.float32(128))
        found, expected = compiled(images[None])[0], Oracle(tensors).rows(images)
        assert found.shape == (1, MODEL.dimension)
        assert expected.max() > 1, "pictures of which it sees nothing prove nothing"
        np.testing.assert_allclose(found[0], expected, rtol=1e-3, atol=1e-4)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, ...]]:
    """The network as it is built, and as OpenVINO converts the one of timm."""
    pytest.importorskip("timm")
    folder = tmp_path_factory.mktemp("both")
    with pytest.MonkeyPatch.context() as patch:

        def converted(model: models.Model, openvino: Any, weights: Path) -> Any:
            side = model.input_side
            return formats._from_torch(model, openvino, formats.load(model, weights), [1, 3, side, side])

        patch.setattr(formats, "_build", converted)
        of_timm = preparation.prepare(MODEL, folder / "timm").files
    return {"timm": of_timm, "built": preparation.prepare(MODEL, folder / "built").files}


def photographs() -> NDArray[np.uint8]:
    """(6, side, side, 3) of the photographs that scikit-image carries."""
    pytest.importorskip("skimage")
    from jobs.demo.photographs import photograph

    names = ("astronaut", "cat", "coffee", "rocket", "grass", "text")
    return np.stack([embedding.fit(photograph(name), MODEL.input_side) for name in names])


@pytest.mark.parametrize("kind", ["openvino", "openvino-fp32"])
def test_the_vectors_are_those_of_the_converted_network(both: dict[str, tuple[Path, ...]], kind: str) -> None:
    """Vectors that change with the way in which a machine got the network. On the processors tried they have the same
    bits; another OpenVINO may join other layers."""
    images = photographs()
    built, of_timm = (embedding.open_runtime(kind, MODEL, both[name]).submit(images)() for name in ("built", "timm"))
    away = np.linalg.norm(built.vectors.astype(np.float64) - of_timm.vectors, axis=1).max()
    assert away < (1e-5 if kind.endswith("fp32") else 4e-3), "a cosine of 0.99999 is 4.5e-3 away"
    np.testing.assert_allclose(built.norms, of_timm.norms, rtol=1e-5 if kind.endswith("fp32") else 4e-3)


def test_the_vectors_are_those_of_torch(both: dict[str, tuple[Path, ...]], tmp_path: Path) -> None:
    """A network that OpenVINO runs as timm's, both of them wrongly."""
    images = photographs()
    files = preparation.prepare(MODEL, tmp_path, "torch-fp32").files
    expected = embedding.open_runtime("torch-fp32", MODEL, files).submit(images)()
    found = embedding.open_runtime("openvino-fp32", MODEL, both["built"]).submit(images)()
    assert np.linalg.norm(found.vectors.astype(np.float64) - expected.vectors, axis=1).max() < 1e-4
    np.testing.assert_allclose(found.norms, expected.norms, rtol=1e-4)


def test_the_weights_have_the_bits_of_the_conversion(both: dict[str, tuple[Path, ...]]) -> None:
    """A normalisation that is folded in another order: in bf16 weights would round otherwise."""
    openvino = formats.import_openvino()

    def weights(files: tuple[Path, ...]) -> list[bytes]:
        nodes = openvino.Core().read_model(files[0]).get_ordered_ops()
        constants = [node.data for node in nodes if node.get_type_name() == "Constant"]
        return sorted(one.tobytes() for one in constants if one.dtype == np.float32 and one.size > 3)

    assert weights(both["built"]) == weights(both["timm"])


@pytest.mark.parametrize("change", ["missing", "extra", "swapped", "none"])
def test_other_tensors_are_refused(tensors: state_dict.Tensors, change: str) -> None:
    """Weights that land in other layers, or a layer that is left over."""
    changed = dict(tensors)
    told = r"has the shape .* where the network has"
    if change == "missing":
        del changed["_blocks.7._bn1.running_var"]
    elif change == "extra":
        changed["_more.weight"] = np.zeros(3, np.float32)
        told = "_more.weight belongs to no layer"
    elif change == "swapped":
        items = list(changed.items())
        items[0], items[1] = items[1], items[0]
        changed = dict(items)
    else:
        changed = {}
    with pytest.raises(ValueError, match=told):
        efficientnet_lite.build(formats.import_openvino(), changed, 32)


def test_the_classifier_is_the_last_layer(tensors: state_dict.Tensors) -> None:
    """Another layer, or one without its bias."""
    weights, bias = efficientnet_lite.classifier(tensors)
    assert np.array_equal(weights, tensors["_fc.weight"])
    assert np.array_equal(bias, tensors["_fc.bias"])
    for fewer in ({}, {"a": bias}, {"a": bias, "b": weights}, {"a": weights[:9], "b": bias[:9]}):
        with pytest.raises(ValueError, match="last layer"):
            efficientnet_lite.classifier(fewer)


def test_weights_that_do_not_fit_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A traceback, or two lines, where the file is the right one and cannot be read."""

    def read(_: Path) -> state_dict.Tensors:
        raise ValueError("a\nb")

    monkeypatch.setattr(state_dict, "read", read)
    weights = weight_files.weights_file(MODEL, tmp_path)
    for use in (
        lambda: formats.convert(MODEL, weights, tmp_path / "a.xml"),
        lambda: formats.classifier(MODEL, weights),
    ):
        with pytest.raises(
            models.ModelError, match=r"^efficientnet-lite0@imagenet-3: .*no weights of its network \(a b\)$"
        ):
            use()
