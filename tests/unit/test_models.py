"""The table of models and what the driver prepares."""

import dataclasses
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from udfs import models

MODEL = models.find(models.DEFAULT)


def python(code: str, *arguments: str) -> str:
    """What a fresh interpreter prints."""
    root = Path(models.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=root, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    # Two processes at once: both must end well, and one result stays.
    code = (
        "import sys, pathlib; from udfs import models; "
        "print(models.prepare(models.find(models.DEFAULT), pathlib.Path(sys.argv[1])).files[0])"
    )
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: python(code, str(folder)), range(2))
    assert first == second
    return folder


def test_keys_name_each_model_once() -> None:
    assert models.DEFAULT in models.MODELS
    assert all(key == model.key for key, model in models.MODELS.items())
    assert MODEL.key == "efficientnet-lite0@imagenet-1"


def test_an_unknown_model_is_named() -> None:
    with pytest.raises(models.ModelError, match="unknown model 'nosuch@1', known: efficientnet"):
        models.find("nosuch@1")


def test_a_missing_package_is_named() -> None:
    with pytest.raises(models.ModelError, match="install no-such-package"):
        models.weights_file(dataclasses.replace(MODEL, package="no-such-package"))


@pytest.mark.parametrize("kind", models.KINDS)
def test_wrong_weights_are_refused(tmp_path: Path, kind: str) -> None:
    wrong = dataclasses.replace(MODEL, sha256="0" * 64)
    with pytest.raises(models.ModelError, match=r"has SHA-256 5793.*expected 0000") as caught:
        models.prepare(wrong, tmp_path, kind)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="kind must be one of openvino"):
        models.prepare(MODEL, tmp_path, "tpu")


def test_two_processes_leave_one_result(cache: Path) -> None:
    (folder,) = cache.iterdir()
    prepared = models.prepare(MODEL, cache)
    assert sorted(folder.iterdir()) == sorted(prepared.files)
    assert all(MODEL.sha256[:12] in file.name for file in prepared.files)


def test_the_second_time_needs_neither_torch_nor_openvino(cache: Path) -> None:
    code = (
        "import sys, pathlib; from udfs import models; "
        "models.prepare(models.find(models.DEFAULT), pathlib.Path(sys.argv[1])); "
        "print([m for m in ('torch', 'timm', 'openvino') if m in sys.modules])"
    )
    assert python(code, str(cache)) == "[]"


def test_an_incomplete_folder_is_named(cache: Path, tmp_path: Path) -> None:
    whole = models.prepare(MODEL, cache).files[0]
    folder = tmp_path / whole.parent.name
    folder.mkdir()
    (folder / whole.name).write_bytes(whole.read_bytes())  # the .bin is missing
    with pytest.raises(models.ModelError, match="is incomplete, remove it"):
        models.prepare(MODEL, tmp_path)
    assert list(tmp_path.iterdir()) == [folder]


def test_openvino_is_imported_without_its_telemetry() -> None:
    code = (
        "import sys; from udfs import models; models.import_openvino(); "
        "print(sys.modules.get('openvino_telemetry'), 'torch' in sys.modules)"
    )
    assert python(code) == "None False"


def test_the_network_keeps_its_classifier() -> None:
    net = models.load_torch(MODEL, models.weights_file(MODEL))
    assert not net.training
    assert net.state_dict()["classifier.weight"].shape == (1000, MODEL.dimension)
