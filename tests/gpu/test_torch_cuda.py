"""The torch runtimes on a CUDA device; skipped where there is none."""

import numpy as np
import pytest
from numpy.typing import NDArray

from udfs import embedding, models

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

MODEL = models.find(models.DEFAULT)
SIDE = MODEL.input_side


def pictures(count: int, seed: int = 0) -> NDArray[np.uint8]:
    """(count, SIDE, SIDE, 3) uint8: smooth coloured blobs with some noise, all different."""
    draw = np.random.default_rng(seed)
    coarse = draw.integers(0, 256, (count, 7, 7, 3)).repeat(SIDE // 7, 1).repeat(SIDE // 7, 2)
    return np.clip(coarse + draw.normal(0, 8, (count, SIDE, SIDE, 3)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module", params=["torch", "torch-fp32"])
def runtime(request: pytest.FixtureRequest) -> embedding.Runtime:
    return embedding.open_runtime(request.param, MODEL, (models.weights_file(MODEL),), device=0)


def test_it_runs_on_the_device(runtime: embedding.Runtime) -> None:
    assert runtime.device.startswith("cuda:0 ")


def test_a_row_depends_on_its_image_alone(runtime: embedding.Runtime) -> None:
    images = pictures(150)  # several inner batches, the last one filled up
    rows = runtime.embed(images)
    assert np.array_equal(runtime.embed(images), rows), "from run to run"
    assert np.array_equal(runtime.embed(images[::-1])[::-1], rows), "on the order"
    assert np.array_equal(np.concatenate([runtime.embed(images[:13]), runtime.embed(images[13:])]), rows), (
        "on the batch"
    )
    assert np.array_equal(runtime.embed(images[77:78])[0], rows[77]), "on being alone"


def test_it_agrees_with_the_reference_on_the_cpu(runtime: embedding.Runtime) -> None:
    images = pictures(8)
    reference = embedding.open_runtime("torch-fp32", MODEL, (models.weights_file(MODEL),)).embed(images)
    limit = 0.99999 if runtime.device.endswith("f32") else 0.98
    assert (runtime.embed(images) * reference).sum(axis=1).min() > limit
