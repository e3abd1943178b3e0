"""The table of models and what the driver prepares, of ours and of a user's."""

import dataclasses
import hashlib
import importlib.metadata
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests import networks as small
from tests.s3_server import S3Server
from udfs.errors import ImageError
from udfs.networks import formats, models, preparation, weight_files
from udfs.vectors import foreign

MODEL = models.find(models.DEFAULT)


def python(code: str, *arguments: str) -> str:
    """What a fresh interpreter prints."""
    root = Path(models.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=root, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def refusal(model: models.Model, cache: Path, kind: str = "openvino") -> str:
    """The one line with which a model is refused, once it is sure that it left no graph in the cache."""
    with pytest.raises(models.ModelError) as caught:
        preparation.prepare(model, cache, kind)
    assert "\n" not in str(caught.value)
    left = [path.name for path in cache.iterdir()] if cache.exists() else []
    assert [name for name in left if not name.endswith(".weights")] == []
    return str(caught.value)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    # Two processes at once: both must end well, and one result stays.
    code = (
        "import sys, pathlib; from udfs.networks import models, preparation; "
        "print(preparation.prepare(models.find(models.DEFAULT), pathlib.Path(sys.argv[1])).files[0])"
    )
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: python(code, str(folder)), range(2))
    assert first == second
    return folder


# --- the table ---


def test_keys_name_each_model_once() -> None:
    """A table whose keys are not those of its models."""
    assert models.DEFAULT in models.MODELS
    assert all(key == model.key for key, model in models.MODELS.items())
    assert f"{MODEL.name}@{MODEL.revision}" == models.DEFAULT


def test_an_unknown_model_is_named() -> None:
    """A traceback for a misspelt key, or a list without the user's own cards."""
    with pytest.raises(models.ModelError, match="unknown model 'nosuch@1', known: efficientnet"):
        models.find("nosuch@1")
    card = dataclasses.replace(MODEL, name="mine")
    with pytest.raises(models.ModelError, match=f"known: .*{models.DEFAULT}, {card.key}"):
        models.find("nosuch@1", {card.key: card})
    assert models.find(card.key, {card.key: card}) is card


def test_a_model_goes_to_the_workers() -> None:
    """A model that cannot be pickled or used as a key, and changes on its way."""
    there = pickle.loads(pickle.dumps(MODEL))
    assert there == MODEL
    assert {MODEL: 1}[there] == 1
    assert there.fingerprint == MODEL.fingerprint


@pytest.mark.parametrize(
    ("field", "value"),
    [("sha256", "0" * 64), ("mean", (127.0, 127.0, 126.0)), ("std", (1.0, 1.0, 1.0)), ("input_side", 192),
     ("dimension", 100), ("fit", "crop"), ("architecture", "resnet18"), ("format", "onnx"), ("by_order", False)],
)  # fmt: skip
def test_what_changes_a_vector_changes_the_fingerprint(field: str, value: object) -> None:
    """A converted graph that is taken from the cache although the preprocessing was changed."""
    changed = dataclasses.replace(MODEL, **{field: value})  # type: ignore[arg-type]
    assert changed.fingerprint != MODEL.fingerprint
    assert len(changed.fingerprint) == 64


def test_what_changes_no_vector_keeps_the_fingerprint() -> None:
    """A lake that is refused because a licence was spelt otherwise."""
    assert dataclasses.replace(MODEL, licence="x", near_duplicate_margin=0.2).fingerprint == MODEL.fingerprint


# --- our weights ---


def test_a_missing_package_is_named(tmp_path: Path) -> None:
    """A traceback instead of what to install."""
    with pytest.raises(models.ModelError, match="install no-such-package"):
        weight_files.weights_file(dataclasses.replace(MODEL, package="no-such-package"), tmp_path)


@pytest.mark.parametrize("kind", models.KINDS)
def test_wrong_weights_are_refused(tmp_path: Path, kind: str) -> None:
    """Weights of another release of the package, that give other vectors under the same key."""
    if kind.startswith("torch"):
        pytest.importorskip("timm")
    told = refusal(dataclasses.replace(MODEL, sha256="0" * 64), tmp_path, kind)
    assert "has SHA-256 5793" in told
    assert "expected 0000" in told
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    """A misspelt runtime that becomes another."""
    with pytest.raises(ValueError, match="kind must be one of openvino"):
        preparation.prepare(MODEL, tmp_path, "tpu")


def test_two_processes_leave_one_result(cache: Path) -> None:
    """A half-written graph, or two of them; a name that does not tell the preprocessing and the OpenVINO version."""
    (folder,) = (path for path in cache.iterdir() if path.suffix != ".npy")
    prepared = preparation.prepare(MODEL, cache)
    assert sorted(folder.iterdir()) == sorted(prepared.files)
    version = importlib.metadata.version("openvino")
    assert all(MODEL.fingerprint[:16] in file.name and version in file.name for file in prepared.files)


def test_the_second_time_needs_neither_torch_nor_openvino(cache: Path) -> None:
    """A driver that takes seconds for what lies ready."""
    code = (
        "import sys, pathlib; from udfs.networks import models, preparation; "
        "preparation.prepare(models.find(models.DEFAULT), pathlib.Path(sys.argv[1])); "
        "print([m for m in ('torch', 'timm', 'openvino') if m in sys.modules])"
    )
    assert python(code, str(cache)) == "[]"


def test_an_incomplete_folder_is_named(cache: Path, tmp_path: Path) -> None:
    """A worker that fails on a file that is not there."""
    whole = preparation.prepare(MODEL, cache).files[0]
    folder = tmp_path / whole.parent.name
    folder.mkdir()
    (folder / whole.name).write_bytes(whole.read_bytes())  # the .bin is missing
    with pytest.raises(models.ModelError, match="is incomplete, remove it"):
        preparation.prepare(MODEL, tmp_path)
    assert list(tmp_path.iterdir()) == [folder]


def test_openvino_is_imported_without_its_telemetry() -> None:
    """A worker that tells its maker's server of each import."""
    code = (
        "import sys; from udfs.networks import formats; formats.import_openvino(); "
        "print(sys.modules.get('openvino_telemetry'), 'torch' in sys.modules)"
    )
    assert python(code) == "None False"


def test_the_network_keeps_its_classifier(tmp_path: Path) -> None:
    """A network without the head that gives it names for what it sees."""
    pytest.importorskip("timm")
    net = formats.load(MODEL, weight_files.weights_file(MODEL, tmp_path))
    assert not net.training
    assert net.state_dict()["classifier.weight"].shape == (1000, 1280)


# --- weights by URI ---


def test_weights_are_copied_once(tmp_path: Path) -> None:
    """A run that reads again what it has, or that depends on a file which may change under it."""
    model = small.onnx_model(tmp_path)
    first = weight_files.weights_file(model, tmp_path / "cache")
    Path(model.weights).unlink()
    assert weight_files.weights_file(model, tmp_path / "cache") == first
    assert list((tmp_path / "cache").iterdir()) == [first]


@pytest.mark.parametrize("kind", ["openvino", "torch"])
@pytest.mark.parametrize("spoil", ["digest", "cut", "longer", "empty"])
def test_other_bytes_than_the_card_says_are_refused(tmp_path: Path, kind: str, spoil: str) -> None:
    """Weights of another model, or of a broken download, that are parsed or kept."""
    model = small.timm_model(tmp_path)
    file = Path(model.weights)
    data = file.read_bytes()
    if spoil == "digest":
        model = dataclasses.replace(model, sha256="0" * 64)
    else:
        file.write_bytes({"cut": data[:-100], "longer": data + b"\0", "empty": b""}[spoil])
    told = refusal(model, tmp_path / "cache", kind)
    assert f"{file} has SHA-256 {hashlib.sha256(file.read_bytes()).hexdigest()}, expected {model.sha256}" in told
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_copy_that_was_changed_is_refused(tmp_path: Path) -> None:
    """A cache that others can write to."""
    model = small.onnx_model(tmp_path)
    copy = weight_files.weights_file(model, tmp_path / "cache")
    copy.write_bytes(b"something else")
    assert f"{copy} has SHA-256" in refusal(model, tmp_path / "cache")


def test_too_many_bytes_are_not_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong URI that fills the disk."""
    model = small.onnx_model(tmp_path)
    monkeypatch.setattr(weight_files, "MAX_WEIGHTS_BYTES", 1000)
    assert "holds more than 1000 bytes" in refusal(model, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    """A traceback, or a run that waits for a pipe."""
    model = small.onnx_model(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    for name, told in {"nothing.onnx": "it does not exist", "pipe": "is not a file", ".": "is not a file"}.items():
        changed = dataclasses.replace(model, weights=str(tmp_path / name))
        assert told in refusal(changed, tmp_path / "cache")


def test_weights_on_s3(tmp_path: Path, s3: S3Server) -> None:
    """A cluster that cannot take its weights from a bucket, or that takes others than the card says."""
    model = small.onnx_model(tmp_path)
    data = Path(model.weights).read_bytes()
    s3.client().put_object(Bucket=s3.bucket, Key="models/a b.onnx", Body=data)
    there = dataclasses.replace(model, weights=f"s3://{s3.bucket}/models/a b.onnx")
    assert weight_files.weights_file(there, tmp_path / "cache").read_bytes() == data
    other = dataclasses.replace(there, sha256="0" * 64)
    assert "s3://lake/models/a b.onnx has SHA-256" in refusal(other, tmp_path / "other")
    missing = dataclasses.replace(there, weights=f"s3://{s3.bucket}/models/none.onnx")
    assert "s3://lake/models/none.onnx: it does not exist" in refusal(missing, tmp_path / "other")
    nowhere = dataclasses.replace(there, weights="s3://no-such-bucket/a.onnx")
    assert "the bucket does not exist" in refusal(nowhere, tmp_path / "other")


# --- networks that are not what their card says ---


class Bomb:
    """Unpickled, it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_does_not_run(tmp_path: Path, legacy: bool) -> None:
    """Weights that run code of their own, in torch's zip format and in a bare pickle."""
    torch = pytest.importorskip("torch")
    file, trap = tmp_path / "bomb.pth", tmp_path / "trap"
    torch.save({"a": Bomb(trap)}, file, _use_new_zipfile_serialization=not legacy)
    told = refusal(small.model(file, "timm", architecture="test_resnet"), tmp_path / "cache")
    assert "is no safetensors or .pth of tensors alone" in told
    assert not trap.exists()
    torch.load(file, weights_only=False)
    assert trap.exists(), "the bomb is one"


def test_files_of_another_format_are_named(tmp_path: Path) -> None:
    """A traceback of torch, timm or OpenVINO."""
    pytest.importorskip("timm")
    noise = tmp_path / "noise"
    noise.write_bytes(bytes(range(256)) * 20)
    expected = {"timm": "is no safetensors or .pth", "torchscript": "is no TorchScript", "onnx": "is no ONNX"}
    for kind, told in expected.items():
        assert told in refusal(small.model(noise, kind, architecture="test_resnet"), tmp_path / "cache")
    script = Path(small.script_model(tmp_path).weights)
    told = refusal(small.model(script, "timm", architecture="test_resnet"), tmp_path / "cache")
    assert "is no safetensors or .pth" in told


def test_a_checkpoint_that_is_no_state_dict_is_refused(tmp_path: Path) -> None:
    """Weights that are taken from the wrong place of a training checkpoint."""
    torch = pytest.importorskip("torch")
    file = tmp_path / "checkpoint.pth"
    torch.save({"model": small.timm_net("test_resnet").state_dict(), "epoch": 3}, file)
    told = refusal(small.model(file, "timm", architecture="test_resnet"), tmp_path / "cache")
    assert "save the state dict alone" in told


@pytest.mark.parametrize("architecture", ["hf-hub:timm/resnet18", "local-dir:/tmp/x", "no_such_net"])
def test_an_architecture_that_is_not_timms_is_refused(tmp_path: Path, architecture: str) -> None:
    """A card that makes the driver ask a server."""
    model = dataclasses.replace(small.timm_model(tmp_path), architecture=architecture)
    assert f"has no architecture {architecture!r}" in refusal(model, tmp_path / "cache")


@pytest.mark.parametrize("change", ["missing", "extra", "shape"])
def test_a_state_dict_must_fit_by_its_names(tmp_path: Path, change: str) -> None:
    """A layer that keeps its random weights."""
    state = dict(small.timm_net("test_resnet").state_dict())
    from safetensors.torch import save_file

    first = next(iter(state))
    if change == "extra":
        state["more.weight"] = state[first].clone()
    elif change == "shape":
        state[first] = state[first][:1].clone()
    else:
        del state[first]
    file = tmp_path / "changed.safetensors"
    save_file(state, file)
    model = small.model(file, "timm", architecture="test_resnet", dimension=96)
    told = refusal(model, tmp_path / "cache")
    assert "do not fit timm's test_resnet" in told
    assert ("more.weight" if change == "extra" else first) in told


@pytest.mark.parametrize("kind", ["openvino", "torch"])
def test_another_dimension_than_the_cards_is_refused(tmp_path: Path, kind: str) -> None:
    """Vectors that are cut, or a worker that finds out after the catalog was written."""
    for make in (small.onnx_model, small.timm_model, small.script_model):
        if make is small.onnx_model and kind == "torch":
            continue
        model = make(tmp_path)
        told = refusal(dataclasses.replace(model, dimension=15), tmp_path / "cache", kind)
        assert f"the network gives {model.dimension} numbers, the model's dimension is 15" in told


@pytest.mark.parametrize(
    ("form", "told"), [("dict", "gives a dict"), ("map", r"gives (1, 16, 2, 2)"), ("whole", "torch.int64")]
)
def test_an_output_that_is_no_vector_is_refused(tmp_path: Path, form: str, told: str) -> None:
    """A feature map taken for a vector, numbers cut to whole ones, or one of several outputs taken at random."""
    model = small.script_model(tmp_path, form)
    for kind in ("openvino", "torch"):
        assert told in refusal(model, tmp_path / "cache", kind)


@pytest.mark.parametrize("kind", ["openvino", "torch"])
def test_another_side_than_the_networks_is_refused(tmp_path: Path, kind: str) -> None:
    """A network that cannot compute, found out by the first worker."""
    torch = pytest.importorskip("torch")
    file = tmp_path / "sided.pt"
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 1, 8, 8), torch.nn.Flatten(), torch.nn.Linear(16, small.DIMENSION))
    torch.jit.trace(net, torch.zeros(1, 3, 32, 32)).save(str(file))
    preparation.prepare(small.model(file, "torchscript"), tmp_path / "fits", kind)
    told = refusal(small.model(file, "torchscript", input_side=64), tmp_path / "cache", kind)
    assert "does not take (1, 3, 64, 64)" in told


def test_onnx_is_for_openvino(tmp_path: Path) -> None:
    """A GPU run that fails in each worker."""
    model = small.onnx_model(tmp_path)
    for kind in ("torch", "torch-fp32"):
        assert "OpenVINO only: --set embed.runtime=openvino" in refusal(model, tmp_path / "cache", kind)


def test_onnx_with_tensors_elsewhere_is_refused(tmp_path: Path) -> None:
    """Weights that no digest vouches for: the file beside it, which OpenVINO would read."""
    model = small.onnx_model(tmp_path, elsewhere=True)
    assert (tmp_path / "small.data").stat().st_size > 0
    (tmp_path / "cache").mkdir()
    assert "is no ONNX that OpenVINO reads, or not all of it" in refusal(model, tmp_path / "cache")


def test_onnx_that_wants_more_than_images_is_refused(tmp_path: Path) -> None:
    """The text side of a CLIP, or a network with a mask as a second input."""
    told = refusal(small.onnx_model(tmp_path, inputs=2), tmp_path / "cache")
    assert "wants 2 inputs (images, more)" in told


# --- imported vectors ---


def test_vectors_need_no_files(tmp_path: Path) -> None:
    """A driver that looks for weights where there are none."""
    model = models.Model("mine", "1", "vectors", 224, 4, "none", "me", "/data/vectors.parquet")
    assert preparation.prepare(model, tmp_path / "cache", "torch") == preparation.Prepared("mine@1", "torch", ())
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("values", "detail"),
    [(None, "missing"), ([], "0 numbers instead of 3"), ([1, 2], "2 numbers instead of 3"),
     ([1.0, 2.0, 3.0, 4.0], "4 numbers instead of 3"), ([[1.0, 2.0, 3.0]], "3 numbers instead of 3"),
     ([1.0, float("nan"), 2.0], "not finite"), ([1.0, -float("inf"), 2.0], "not finite"),
     ([1.0, None, 2.0], "not finite"),
     ([0, 0, 0], "zero"), ([0.0, -0.0, 1e-30], "zero")],
)  # fmt: skip
def test_unusable_vectors(values: object, detail: str) -> None:
    """A vector that is no direction in the table `embeddings`."""
    with pytest.raises(ImageError) as caught:
        foreign.check_vector(values, 3)
    assert (caught.value.code, caught.value.detail) == ("no_vector", detail)


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e30, 1e200])
@pytest.mark.parametrize("kind", [list, np.float32, np.float64])
def test_usable_vectors_get_norm_one(scale: float, kind: type) -> None:
    """A norm that overflows or a type that stays."""
    if kind is np.float32 and scale > 1e38:
        return
    values = [scale * value for value in (3.0, 0.0, -4.0)]
    found = foreign.check_vector(values if kind is list else np.array(values, kind), 3)
    assert found.dtype == np.float32
    assert np.allclose(found, [0.6, 0.0, -0.8], atol=1e-6)
