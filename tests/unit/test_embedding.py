"""Fitting to the square input, and what every runtime promises."""

import hashlib
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests import networks as small
from udfs.networks import embedding, models, preparation, weight_files

MODEL = models.find(models.DEFAULT)
SIDE = MODEL.input_side


def pictures(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return small.pictures(count, SIDE, seed)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def prepared(cache: Path) -> preparation.Prepared:
    return preparation.prepare(MODEL, cache)


@pytest.fixture(scope="module", params=models.KINDS)
def runtime(request: pytest.FixtureRequest, cache: Path) -> embedding.Runtime:
    if request.param.startswith("torch"):
        pytest.importorskip("timm")
    return embedding.open_runtime(request.param, MODEL, preparation.prepare(MODEL, cache, request.param).files)


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


@pytest.mark.parametrize("size", [(64, 64), (100, 300), (301, 100), (20, 50), (32, 32)])
def test_crop_is_the_middle_scaled_by_the_short_side(size: tuple[int, int]) -> None:
    """A crop off the middle, of another width than the short side, or with its aspect ratio changed: against the
    square cut by hand."""
    pixels = np.random.default_rng(1).integers(0, 256, (*size, 3)).astype(np.uint8)
    short = min(size)
    top, left = ((length - short) // 2 for length in size)
    middle = pixels[top : top + short, left : left + short]
    assert np.array_equal(embedding.fit(pixels, 32, "crop"), embedding.fit(np.ascontiguousarray(middle), 32))
    assert np.array_equal(embedding.fit(pixels, 32), embedding.fit(pixels, 32, "stretch"))


@pytest.mark.parametrize("how", models.FITS)
@pytest.mark.parametrize("size", [(1, 60_000), (60_000, 1), (1, 1)])
def test_a_thin_image_is_fitted_in_little_memory(how: str, size: tuple[int, int]) -> None:
    """An image of 60 kilopixels that becomes one of 3 gigapixels on its way to a square."""
    square = embedding.fit(np.full((*size, 3), 9, np.uint8), SIDE, how)
    assert square.shape == (SIDE, SIDE, 3)
    assert (square == 9).all()


def test_an_unknown_fit_is_refused() -> None:
    """A misspelt fit that becomes another."""
    with pytest.raises(ValueError, match="how must be one of stretch, crop"):
        embedding.fit(np.zeros((8, 8, 3), np.uint8), 8, "squash")


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


def test_a_row_is_the_same_where_images_come_one_at_a_time(cache: Path) -> None:
    """A picture at the door with another vector than the lake has of it."""
    prepared = preparation.prepare(MODEL, cache, "openvino")
    together, alone = (
        embedding.open_runtime("openvino", MODEL, prepared.files, alone=is_alone) for is_alone in (False, True)
    )
    images = pictures(3)
    assert np.array_equal(together.embed(images), alone.embed(images))


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


def test_runtimes_agree_with_the_reference(runtime: embedding.Runtime, cache: Path) -> None:
    """A wrong normalisation, channel order, or padding in the converted network."""
    pytest.importorskip("timm")
    images = pictures(4)
    reference = embedding.open_runtime("torch-fp32", MODEL, preparation.prepare(MODEL, cache, "torch").files).embed(
        images
    )
    limit = 0.99999 if runtime.device.endswith("f32") else 0.98
    assert (runtime.embed(images) * reference).sum(axis=1).min() > limit


# --- OpenVINO ---


def test_openvino_gives_the_same_bits_in_two_processes_without_torch(prepared: preparation.Prepared) -> None:
    code = (
        "import sys, hashlib, pathlib, numpy as np; from udfs.networks import embedding, models, preparation; "
        "files = tuple(map(pathlib.Path, sys.argv[1:])); "
        "runtime = embedding.open_runtime('openvino', models.find(models.DEFAULT), files); "
        "rows = runtime.embed((np.arange(3 * 224 * 224 * 3) % 251).astype(np.uint8).reshape(3, 224, 224, 3)); "
        "print(hashlib.sha256(rows.tobytes()).hexdigest(), 'torch' in sys.modules)"
    )
    root = Path(embedding.__file__).parents[2]
    command = [sys.executable, "-c", code, *map(str, prepared.files)]
    there = {subprocess.run(command, capture_output=True, text=True, cwd=root, check=True).stdout for _ in range(2)}
    images = (np.arange(3 * 224 * 224 * 3) % 251).astype(np.uint8).reshape(3, 224, 224, 3)
    here = embedding.open_runtime("openvino", MODEL, prepared.files).embed(images)
    assert there == {f"{hashlib.sha256(here.tobytes()).hexdigest()} False\n"}


def test_openvino_opens_soon(prepared: preparation.Prepared) -> None:
    started = time.process_time()
    embedding.open_runtime("openvino", MODEL, prepared.files)
    assert time.process_time() - started < 2


def test_a_broken_graph_is_named(prepared: preparation.Prepared, tmp_path: Path) -> None:
    graph = tmp_path / "broken.xml"
    graph.write_bytes(prepared.files[0].read_bytes()[:5000])
    with pytest.raises(models.ModelError, match=r"OpenVINO cannot load .*broken\.xml") as caught:
        embedding.open_runtime("openvino", MODEL, (graph, prepared.files[1]))
    assert "\n" not in str(caught.value)


def test_a_cut_weights_file_is_named(prepared: preparation.Prepared, tmp_path: Path) -> None:
    weights = tmp_path / "cut.bin"
    weights.write_bytes(prepared.files[1].read_bytes()[:100_000])
    with pytest.raises(models.ModelError, match="OpenVINO cannot load"):
        embedding.open_runtime("openvino", MODEL, (prepared.files[0], weights))


def test_an_unknown_kind_is_refused(prepared: preparation.Prepared) -> None:
    with pytest.raises(ValueError, match="kind must be one of openvino"):
        embedding.open_runtime("tpu", MODEL, prepared.files)


def test_a_missing_cuda_device_is_named(cache: Path) -> None:
    """A traceback of torch on an executor without its GPU."""
    pytest.importorskip("timm")
    with pytest.raises(models.ModelError, match="no CUDA device 99"):
        embedding.open_runtime("torch", MODEL, preparation.prepare(MODEL, cache, "torch").files, device=99)


# --- networks of a user's cards ---

CARDS: dict[str, Callable[[Path], models.Model]] = {
    "timm safetensors": small.timm_model,
    "timm pth": lambda folder: small.timm_model(folder, ending=".pth"),
    "timm transformer at another side": lambda folder: small.timm_model(folder, "test_vit"),
    "torchscript": small.script_model,
    "torchscript with axes of length 1": lambda folder: small.script_model(folder, "axes"),
    "torchscript with several outputs": lambda folder: small.script_model(folder, "tuple"),
    "onnx": small.onnx_model,
}


@pytest.fixture(scope="module", params=sorted(CARDS))
def card(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> models.Model:
    return CARDS[request.param](tmp_path_factory.mktemp("card"))


def kinds_of(model: models.Model) -> tuple[str, ...]:
    return tuple(kind for kind in models.KINDS if model.format != "onnx" or kind.startswith("openvino"))


def test_every_format_gives_what_its_network_gives(card: models.Model, tmp_path: Path) -> None:
    """A wrong normalisation, order of channels, output or weight in any format and runtime: against an oracle."""
    images = small.pictures(6)
    expected = small.oracle(card)(images)
    told_apart = np.linalg.norm(expected - small.oracle(card)(images[..., ::-1]), axis=1).min()
    assert told_apart > 0.02, "the test sees nothing"
    for kind in kinds_of(card):
        files = preparation.prepare(card, tmp_path, kind).files
        found = embedding.open_runtime(kind, card, files).embed(images)
        assert found.shape == (6, card.dimension)
        away = np.linalg.norm(found - expected, axis=1).max()
        assert away < (1e-3 if kind.endswith("fp32") else 0.8 * told_apart), kind
        cosines = (found * expected).sum(axis=1)
        assert cosines.min() > (0.99999 if kind.endswith("fp32") else 0.999), kind


def test_every_format_gives_rows_that_depend_on_their_image_alone(card: models.Model, tmp_path: Path) -> None:
    """A transformer or a script whose kernels change with the place in the batch or after some calls."""
    images = small.pictures(7)
    for kind in kinds_of(card):
        runtime = embedding.open_runtime(kind, card, preparation.prepare(card, tmp_path, kind).files)
        rows = runtime.embed(images)
        assert all(np.array_equal(runtime.embed(images), rows) for _ in range(4)), kind
        assert np.array_equal(runtime.embed(images[::-1])[::-1], rows), kind
        assert np.array_equal(np.concatenate([runtime.embed(images[i : i + 1]) for i in range(7)]), rows), kind


def test_a_script_is_embedded_without_torch(tmp_path: Path) -> None:
    """A CPU worker that imports torch because a card's format is torch's."""
    model = small.script_model(tmp_path)
    files = preparation.prepare(model, tmp_path / "cache").files
    code = (
        "import sys, pickle, pathlib, numpy as np; from udfs.networks import embedding; "
        "model = pickle.loads(bytes.fromhex(sys.argv[1])); "
        "runtime = embedding.open_runtime('openvino', model, tuple(map(pathlib.Path, sys.argv[2:]))); "
        "print(runtime.embed(np.zeros((1, 32, 32, 3), np.uint8)).shape, 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, pickle.dumps(model).hex(), *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(embedding.__file__).parents[2], check=True)
    assert done.stdout == "(1, 16) False\n"


def test_imported_vectors_have_no_runtime() -> None:
    """A worker that opens files of a model that has none."""
    model = models.Model("mine", "1", "vectors", 224, 4, "none", "me", "/data/vectors.parquet")
    with pytest.raises(ValueError, match="there is no network to open"):
        embedding.open_runtime("openvino", model, ())


# --- submit ---


def test_norms_are_those_of_the_network(runtime: embedding.Runtime, cache: Path) -> None:
    """A norm of the rows that have norm 1 already, or of another image."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("timm")
    from udfs.networks import formats

    images = pictures(5)
    net = formats.load(MODEL, weight_files.weights_file(MODEL, cache))
    normal = (torch.from_numpy(images).permute(0, 3, 1, 2).float() - MODEL.mean[0]) / MODEL.std[0]
    with torch.inference_mode():
        expected = formats.run(MODEL, net, normal).norm(dim=1).numpy()
    norms = runtime.submit(images)().norms
    assert norms.dtype == np.float32
    assert np.allclose(norms, expected, rtol=1e-4 if runtime.device.endswith("f32") else 0.02)
    assert np.ptp(norms) > 0.5, "else a norm of another picture would do"


def test_submitted_work_is_what_embed_gives(runtime: embedding.Runtime) -> None:
    """Results that are mixed up where two calls are in flight, or that follow a buffer used again meanwhile."""
    images = pictures(6)
    rows = runtime.embed(images)
    buffer = images[:4].copy()
    first = runtime.submit(buffer)
    buffer[:] = 0
    second = runtime.submit(images[4:])
    assert np.array_equal(second().vectors, rows[4:])
    assert np.array_equal(first().vectors, rows[:4])
    assert runtime.submit(images[:0])().vectors.shape == (0, MODEL.dimension)
    assert runtime.submit(images[:0])().norms.shape == (0,)


def test_a_runtime_tells_its_batch(runtime: embedding.Runtime) -> None:
    """A caller that waits for batches which bring nothing, or a busy share where none is measured."""
    assert runtime.batch == (4 if type(runtime).__name__ == "_Torch" else 32)
    assert runtime.busy_s == 0.0


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="asks Linux where a thread may run")
def test_computing_is_bound_to_no_core(cache: Path) -> None:
    """A network that takes the first core in every worker of a machine, and leaves the others idle."""
    net = embedding.open_runtime("openvino", MODEL, preparation.prepare(MODEL, cache, "openvino").files)
    own, seen, done = threading.get_native_id(), set(), threading.Event()

    def watch() -> None:
        while not done.is_set():
            status = Path(f"/proc/self/task/{own}/status").read_text(encoding="ascii")
            seen.add(next(line for line in status.splitlines() if line.startswith("Cpus_allowed_list")))

    watcher = threading.Thread(target=watch)
    watcher.start()
    net.embed(pictures(64))
    done.set()
    watcher.join()
    assert len(seen) == 1, seen
