"""The torch runtimes on a CUDA device; skipped where there is none."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests import networks as small
from udfs.networks import embedding, models, preparation

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

MODEL = models.find(models.DEFAULT)
SIDE = MODEL.input_side


def pictures(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return small.pictures(count, SIDE, seed)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module", params=["torch", "torch-fp32"])
def runtime(request: pytest.FixtureRequest, cache: Path) -> embedding.Runtime:
    files = preparation.prepare(MODEL, cache, request.param).files
    return embedding.open_runtime(request.param, MODEL, files, device=0)


def test_it_runs_on_the_device(runtime: embedding.Runtime) -> None:
    """A run on the CPU that nobody notices."""
    assert runtime.device.startswith("cuda:0 ")


def test_a_row_depends_on_its_image_alone(runtime: embedding.Runtime) -> None:
    """Kernels that change with the batch or from call to call."""
    images = pictures(150)  # several inner batches, the last one filled up
    rows = runtime.embed(images)
    assert np.array_equal(runtime.embed(images), rows), "from run to run"
    assert np.array_equal(runtime.embed(images[::-1])[::-1], rows), "on the order"
    assert np.array_equal(np.concatenate([runtime.embed(images[:13]), runtime.embed(images[13:])]), rows), (
        "on the batch"
    )
    assert np.array_equal(runtime.embed(images[77:78])[0], rows[77]), "on being alone"


def test_it_agrees_with_the_reference_on_the_cpu(runtime: embedding.Runtime, cache: Path) -> None:
    """A wrong normalisation, or memory layout on the device."""
    images = pictures(8)
    reference = embedding.open_runtime("torch-fp32", MODEL, preparation.prepare(MODEL, cache, "torch").files).embed(
        images
    )
    limit = 0.99999 if runtime.device.endswith("f32") else 0.98
    assert (runtime.embed(images) * reference).sum(axis=1).min() > limit


def test_calls_in_flight_keep_apart(runtime: embedding.Runtime) -> None:
    """Pinned memory that is used again before its copy has ended."""
    parts = [pictures(64, seed) for seed in range(6)]
    alone = [runtime.embed(part) for part in parts]
    buffer = np.empty_like(parts[0])
    waiting = []
    for part in parts:
        buffer[:] = part
        waiting.append(runtime.submit(buffer))
    buffer[:] = 0
    for wait, rows in zip(waiting, alone, strict=True):
        assert np.array_equal(wait().vectors, rows)


def test_the_busy_time_is_measured(runtime: embedding.Runtime) -> None:
    """A busy share that stands still, or that counts what was never waited for."""
    before = runtime.busy_s
    wait = runtime.submit(pictures(64))
    assert runtime.busy_s == before
    wait()
    assert before < runtime.busy_s < before + 10


@pytest.mark.parametrize("form", ["timm", "torchscript"])
def test_cards_run_on_the_device(tmp_path: Path, form: str) -> None:
    """A part of the network that stays on the CPU, or a script that is fused after some calls."""
    model = small.timm_model(tmp_path) if form == "timm" else small.script_model(tmp_path)
    images = small.pictures(70)
    for kind, limit in {"torch": 0.99, "torch-fp32": 0.99999}.items():
        files = preparation.prepare(model, tmp_path / "cache", kind).files
        reference = embedding.open_runtime("torch-fp32", model, files).embed(images)
        runtime = embedding.open_runtime(kind, model, files, device=0)
        rows = runtime.embed(images)
        assert (rows * reference).sum(axis=1).min() > limit
        assert all(np.array_equal(runtime.embed(images), rows) for _ in range(4))
