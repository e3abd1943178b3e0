"""Fitting to the square input, and what every runtime promises."""

import hashlib
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from udfs import embedding, models

MODEL = models.find(models.DEFAULT)
SIDE = MODEL.input_side


def pictures(count: int, seed: int = 0) -> NDArray[np.uint8]:
    """(count, SIDE, SIDE, 3) uint8: smooth coloured blobs with some noise, all different."""
    draw = np.random.default_rng(seed)
    coarse = draw.integers(0, 256, (count, 7, 7, 3)).repeat(SIDE // 7, 1).repeat(SIDE // 7, 2)
    noise = draw.normal(0, 8, (count, SIDE, SIDE, 3))
    return np.clip(coarse + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> models.Prepared:
    return models.prepare(MODEL, tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module", params=models.KINDS)
def runtime(request: pytest.FixtureRequest, prepared: models.Prepared) -> embedding.Runtime:
    files = prepared.files
    if request.param.startswith("torch"):
        files = (models.weights_file(MODEL),)
    return embedding.open_runtime(request.param, MODEL, files)


# --- fit ---


@pytest.mark.parametrize("size", [(1, 1), (3, 900), (900, 3), (224, 224), (223, 500), (1000, 700), (30, 40)])
def test_fit_takes_every_size(size: tuple[int, int]) -> None:
    pixels = np.full((*size, 3), (10, 20, 30), np.uint8)
    square = embedding.fit(pixels, SIDE)
    assert square.shape == (SIDE, SIDE, 3)
    assert square.dtype == np.uint8
    assert (square == (10, 20, 30)).all()


@pytest.mark.parametrize("size", [(448, 100), (100, 448), (448, 448), (672, 448)])
def test_fit_averages_along_each_axis_that_shrinks(size: tuple[int, int]) -> None:
    # Lines of one pixel, black and white in turn: a filter that skips pixels would keep some black or white.
    pixels = np.zeros((*size, 3), np.uint8)
    if size[0] > SIDE:
        pixels[::2] = 255
    else:
        pixels[:, ::2] = 255
    square = embedding.fit(pixels, SIDE)
    assert square.min() >= 84
    assert square.max() <= 171


def test_fit_leaves_a_square_of_the_right_size_alone() -> None:
    picture = pictures(1)[0]
    assert np.array_equal(embedding.fit(picture, SIDE), picture)


# --- every runtime ---


def test_rows_have_norm_one_and_differ(runtime: embedding.Runtime) -> None:
    rows = runtime.embed(pictures(5))
    assert rows.shape == (5, MODEL.dimension)
    assert rows.dtype == np.float32
    assert np.allclose(np.linalg.norm(rows.astype(np.float64), axis=1), 1, atol=1e-6)
    assert (rows @ rows.T)[np.triu_indices(5, 1)].max() < 0.999


def test_a_row_depends_on_its_image_alone(runtime: embedding.Runtime) -> None:
    # 6 images span several of torch's inner batches, the last one filled up.
    images = pictures(6)
    rows = runtime.embed(images)
    assert np.array_equal(runtime.embed(images), rows), "from run to run"
    assert np.array_equal(runtime.embed(images[::-1])[::-1], rows), "on the order"
    assert np.array_equal(np.concatenate([runtime.embed(images[:3]), runtime.embed(images[3:])]), rows), "on the batch"
    others = pictures(6, seed=1)
    others[1] = images[5]
    assert np.array_equal(runtime.embed(others)[1], rows[5]), "on the place or the other images"
    assert np.array_equal(runtime.embed(images[5:])[0], rows[5]), "on being alone"


def test_no_images_give_no_rows(runtime: embedding.Runtime) -> None:
    assert runtime.embed(np.empty((0, SIDE, SIDE, 3), np.uint8)).shape == (0, MODEL.dimension)


def test_memory_layout_does_not_matter(runtime: embedding.Runtime) -> None:
    images = pictures(2)
    mirrored = images[:, :, ::-1]  # not contiguous
    assert np.array_equal(runtime.embed(mirrored), runtime.embed(np.ascontiguousarray(mirrored)))


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((2, SIDE, SIDE, 3), np.float32), np.zeros((SIDE, SIDE, 3), np.uint8), np.zeros((1, 8, 8, 3), np.uint8)],
)
def test_wrong_pixels_are_refused(runtime: embedding.Runtime, wrong: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match=r"pixels must be \(n, 224, 224, 3\) uint8"):
        runtime.embed(wrong)


def test_runtimes_agree_with_the_reference(runtime: embedding.Runtime) -> None:
    # Would catch a wrong normalisation, channel order or padding in the converted network.
    images = pictures(4)
    reference = embedding.open_runtime("torch-fp32", MODEL, (models.weights_file(MODEL),)).embed(images)
    limit = 0.99999 if runtime.device.endswith("f32") else 0.98
    assert (runtime.embed(images) * reference).sum(axis=1).min() > limit


# --- OpenVINO ---


def test_openvino_gives_the_same_bits_in_two_processes_without_torch(prepared: models.Prepared) -> None:
    code = (
        "import sys, hashlib, pathlib, numpy as np; from udfs import embedding, models; "
        "files = tuple(map(pathlib.Path, sys.argv[1:])); "
        "runtime = embedding.open_runtime('openvino', models.find(models.DEFAULT), files); "
        "rows = runtime.embed((np.arange(3 * 224 * 224 * 3) % 251).astype(np.uint8).reshape(3, 224, 224, 3)); "
        "print(hashlib.sha256(rows.tobytes()).hexdigest(), 'torch' in sys.modules)"
    )
    root = Path(embedding.__file__).parents[1]
    command = [sys.executable, "-c", code, *map(str, prepared.files)]
    there = {subprocess.run(command, capture_output=True, text=True, cwd=root, check=True).stdout for _ in range(2)}
    images = (np.arange(3 * 224 * 224 * 3) % 251).astype(np.uint8).reshape(3, 224, 224, 3)
    here = embedding.open_runtime("openvino", MODEL, prepared.files).embed(images)
    assert there == {f"{hashlib.sha256(here.tobytes()).hexdigest()} False\n"}


def test_openvino_opens_soon(prepared: models.Prepared) -> None:
    started = time.process_time()
    embedding.open_runtime("openvino", MODEL, prepared.files)
    assert time.process_time() - started < 2


def test_a_broken_graph_is_named(prepared: models.Prepared, tmp_path: Path) -> None:
    graph = tmp_path / "broken.xml"
    graph.write_bytes(prepared.files[0].read_bytes()[:5000])
    with pytest.raises(models.ModelError, match=r"OpenVINO cannot load .*broken\.xml") as caught:
        embedding.open_runtime("openvino", MODEL, (graph, prepared.files[1]))
    assert "\n" not in str(caught.value)


def test_a_cut_weights_file_is_named(prepared: models.Prepared, tmp_path: Path) -> None:
    weights = tmp_path / "cut.bin"
    weights.write_bytes(prepared.files[1].read_bytes()[:100_000])
    with pytest.raises(models.ModelError, match="OpenVINO cannot load"):
        embedding.open_runtime("openvino", MODEL, (prepared.files[0], weights))


def test_an_unknown_kind_is_refused(prepared: models.Prepared) -> None:
    with pytest.raises(ValueError, match="kind must be one of openvino"):
        embedding.open_runtime("tpu", MODEL, prepared.files)


def test_a_missing_cuda_device_is_named() -> None:
    with pytest.raises(models.ModelError, match="no CUDA device 99"):
        embedding.open_runtime("torch", MODEL, (models.weights_file(MODEL),), device=99)
