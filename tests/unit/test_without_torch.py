"""What runs where torch and timm are not installed, and the one line where they are needed."""

import hashlib
import importlib.metadata
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests import networks as small
from udfs.networks import embedding, formats, models, preparation, weight_files

MODEL = models.find(models.DEFAULT)
WITHOUT = "import sys; sys.modules['torch'] = sys.modules['timm'] = sys.modules['safetensors'] = None; "


def without_torch(code: str, *arguments: str) -> str:
    """What a fresh interpreter prints in which torch, timm and safetensors cannot be imported."""
    root = Path(models.__file__).parents[2]
    command = [sys.executable, "-c", WITHOUT + code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def hide(patch: pytest.MonkeyPatch, *names: str) -> None:
    for name in names:
        patch.setitem(sys.modules, name, None)


def test_the_default_model_needs_none(tmp_path: Path) -> None:
    """A default path that imports torch or timm somewhere, or gives another vector without them."""
    code = (
        "import hashlib; from pathlib import Path; import numpy as np\n"
        "from udfs.networks import concepts, embedding, models, preparation\n"
        "model, cache = models.find(models.DEFAULT), Path(sys.argv[1]); "
        "runtime = embedding.open_runtime('openvino', model, preparation.prepare(model, cache).files); "
        "done = runtime.submit(np.full((1, 224, 224, 3), 99, np.uint8))(); "
        "known = concepts.prepare(model, cache); "
        "print(hashlib.sha256(done.vectors).hexdigest(), known.logits(done.vectors, done.norms).argmax(), "
        "[name for name in sys.modules if name.split('.')[0] in ('torch', 'timm') and sys.modules[name]])"
    )
    digest, known, imported = without_torch(code, str(tmp_path / "there")).split(" ")
    runtime = embedding.open_runtime("openvino", MODEL, preparation.prepare(MODEL, tmp_path / "here").files)
    vectors = runtime.embed(np.full((1, 224, 224, 3), 99, np.uint8))
    assert digest == hashlib.sha256(vectors.tobytes()).hexdigest()
    assert 0 <= int(known) < 1000
    assert imported == "[]"


def test_two_conversions_have_the_same_bytes(tmp_path: Path) -> None:
    """Workers of one run with other files than its driver, or an archive whose digest cannot be compared."""
    code = (
        "from pathlib import Path; from udfs.networks import models, preparation; "
        "[preparation.prepare(models.find(models.DEFAULT), Path(folder)) for folder in sys.argv[1:]]"
    )
    without_torch(code, str(tmp_path / "a"), str(tmp_path / "b"))
    without_torch(code, str(tmp_path / "c"))
    files = [preparation.prepare(MODEL, tmp_path / name).files for name in "abc"]
    for alike in zip(*files, strict=True):
        assert len({hashlib.sha256(file.read_bytes()).hexdigest() for file in alike}) == 1


def test_a_network_that_torch_was_traced_for_is_not_taken(tmp_path: Path) -> None:
    """Two networks of other bytes under one name, one of an older imagesieve."""
    version = importlib.metadata.version("openvino")
    (tmp_path / f"{models.stem(MODEL)}-openvino-{version}").mkdir()
    assert not preparation.is_converted(MODEL, tmp_path)
    preparation.prepare(MODEL, tmp_path)
    assert preparation.is_converted(MODEL, tmp_path)


@pytest.mark.parametrize("name", ["torch", "timm"])
@pytest.mark.parametrize("kind", ["openvino", "torch"])
@pytest.mark.parametrize("form", ["timm", "torchscript"])
def test_a_card_of_torch_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, kind: str, name: str
) -> None:
    """A traceback, or gigabytes copied for nothing."""
    hide(monkeypatch, name)
    (tmp_path / "a.pt").write_bytes(b"weights")
    model = small.model(tmp_path / "a.pt", form, architecture="test_resnet")
    with pytest.raises(models.ModelError) as caught:
        preparation.prepare(model, tmp_path / "cache", kind)
    missing = name if name == "torch" else formats.missing_torch()  # both may be
    assert str(caught.value) == f'small@1: {missing} is not installed: pip install "imagesieve[torch]"'
    assert not (tmp_path / "cache").exists() or not list((tmp_path / "cache").iterdir())


@pytest.mark.parametrize("kind", ["torch", "torch-fp32"])
def test_the_default_model_on_torch_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A driver that lets the workers find out, or a worker's traceback."""
    hide(monkeypatch, "torch")
    told = r'^efficientnet-lite0@imagenet-3: torch is not installed: pip install "imagesieve\[torch\]"$'
    with pytest.raises(models.ModelError, match=told):
        preparation.prepare(MODEL, tmp_path, kind)
    with pytest.raises(models.ModelError, match=told):
        embedding.open_runtime(kind, MODEL, (weight_files.weights_file(MODEL, tmp_path),))


def test_onnx_and_vectors_need_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ONNX card that is refused for want of torch."""
    pytest.importorskip("onnx")
    hide(monkeypatch, "torch", "timm", "safetensors")
    model = small.onnx_model(tmp_path)
    runtime = embedding.open_runtime("openvino-fp32", model, preparation.prepare(model, tmp_path / "cache").files)
    images = small.pictures(3)
    assert (runtime.embed(images) * small.oracle(model)(images)).sum(axis=1).min() > 0.99999
    imported = models.Model("mine", "1", "vectors", 224, 4, "none", "me", "/data/vectors.parquet")
    assert preparation.prepare(imported, tmp_path / "cache").files == ()


@pytest.mark.parametrize("name", ["torch", "timm"])
def test_a_gpu_without_torch_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A run that fails where OpenVINO would do, or a GPU that stays unused and nobody learns why."""
    embed = pytest.importorskip("jobs.embed", exc_type=ImportError)
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    hide(monkeypatch, name)

    here, cluster = SimpleNamespace(offers_gpus=lambda: None), SimpleNamespace(offers_gpus=lambda: False)

    missing = name if name == "torch" else formats.missing_torch()
    line = f'nvidia-smi is here and {missing} is not: pip install "imagesieve[torch]" would embed on the GPU'
    assert embed.choose_runtime(here, "auto") == "openvino"
    assert embed.unused_gpu(here, "auto") == line
    assert embed.unused_gpu(cluster, "auto") == ""
    assert embed.unused_gpu(here, "openvino") == ""
    assert embed.unused_gpu(here, "auto", "onnx") == ""
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert embed.choose_runtime(here, "auto") == "openvino"
    assert embed.unused_gpu(here, "auto") == ""
