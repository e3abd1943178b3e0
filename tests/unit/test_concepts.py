"""Catches concepts that are not what the whole network says, and names that mean two things."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import networks as small
from udfs.networks import concepts, embedding, formats, models, preparation

MODEL = models.find(models.DEFAULT)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def classifier(cache: Path) -> concepts.Classifier:
    found = concepts.prepare(MODEL, cache)
    assert found is not None
    return found


def test_the_network_says_the_same(classifier: concepts.Classifier, cache: Path) -> None:
    """A lost length, bias, or order of the classes; a vector stored too roughly."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("timm")
    images = small.pictures(6, MODEL.input_side)
    files = preparation.prepare(MODEL, cache, "torch-fp32").files
    embedded = embedding.open_runtime("torch-fp32", MODEL, files).submit(images)()
    stored = embedded.vectors.astype(np.float16).astype(np.float32)
    found, confidences = concepts.likeliest(classifier.logits(stored, embedded.norms), 5)
    normal = (torch.from_numpy(images).permute(0, 3, 1, 2).float() - MODEL.mean[0]) / MODEL.std[0]
    with torch.inference_mode():
        said = torch.softmax(formats.load(MODEL, files[0])(normal), dim=1).numpy()
    np.testing.assert_allclose(confidences, np.take_along_axis(said, found, axis=1), atol=1e-3)
    assert (found[:, 0] == said.argmax(axis=1)).all()
    assert confidences[:, 0].max() > 0.05, "pictures of which it knows nothing prove nothing"


WHEREVER = """
import numpy as np
from udfs.networks.concepts import Classifier
draw = np.random.default_rng(0).standard_normal
rows, weights = draw((256, 1280), np.float32) / 36, draw((1000, 1280), np.float32)
classifier = Classifier(tuple(map(str, range(1000))), weights, draw(1000, np.float32))
norms = np.ones(256, np.float32)
moved = np.roll(classifier.logits(np.roll(rows, 7, axis=0), norms), -7, axis=0)
print((moved != classifier.logits(rows, norms)).sum())
"""


@pytest.mark.parametrize("kernel", ["", "Haswell"])
def test_concepts_hang_on_the_image_alone(kernel: str) -> None:
    """A confidence that depends on where in its batch an image lies, as a float32 product does on some processors: each
    engine puts it elsewhere. OpenBLAS takes the name of another processor, of its own family."""
    environment = {**os.environ, **({"OPENBLAS_CORETYPE": kernel} if kernel else {})}
    ended = subprocess.run(
        [sys.executable, "-c", WHEREVER], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    assert ended.stdout.strip() == "0"


def test_names_tell_classes_apart(classifier: concepts.Classifier) -> None:
    """Two classes that a search finds as one, or names that stand at another class."""
    assert len({name.lower() for name in classifier.names}) == len(classifier.names) == 1000
    for place, name in {
        0: "tench",
        134: "crane (bird)",
        517: "crane (machine)",
        638: "maillot",
        639: "tank suit",
    }.items():
        assert classifier.names[place] == name
    assert not [name for name in classifier.names if "," in name or name != name.strip() or not name]


def test_names_are_timms() -> None:
    """A list that was edited, or a WordNet id of which RENAMED knows nothing."""
    info = pytest.importorskip("timm.data.imagenet_info").ImageNetInfo()
    ids = info.label_names()
    expected = [concepts.RENAMED.get(wnid) or info.label_name_to_description(wnid).split(",")[0] for wnid in ids]
    assert concepts.class_names(MODEL) == expected
    assert set(concepts.RENAMED) <= set(ids)


def test_it_is_kept(classifier: concepts.Classifier, cache: Path) -> None:
    """A run that imports torch for a few numbers of the weights."""
    code = (
        "import sys; from pathlib import Path; from udfs.networks import concepts, models, preparation; "
        "found = concepts.prepare(models.find(models.DEFAULT), Path(sys.argv[1])); "
        "print(found.weights.sum(), found.names[-1], {'torch', 'timm'} & set(sys.modules))"
    )
    told = subprocess.run([sys.executable, "-c", code, cache], capture_output=True, text=True, check=True).stdout
    assert told.split() == [str(classifier.weights.sum()), *classifier.names[-1].split(), "set()"]
    assert not list(cache.glob(".classifier-*"))


def test_a_broken_cache_is_named(tmp_path: Path) -> None:
    """A traceback, or pickled code that is run."""
    file = tmp_path / f"{models.stem(MODEL)}-classifier.npz"
    np.savez(file, names=np.array([print], dtype=object), weights=np.zeros((1, 1)), bias=np.zeros(1))
    with pytest.raises(models.ModelError, match=r"classifier\.npz cannot be read .* remove it"):
        concepts.prepare(MODEL, tmp_path)
    file.write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(models.ModelError, match=r"classifier\.npz cannot be read .* remove it"):
        concepts.prepare(MODEL, tmp_path)


def test_other_models_have_none(tmp_path: Path) -> None:
    """A card whose last layer is taken for ImageNet's classes."""
    assert concepts.prepare(small.timm_model(tmp_path), tmp_path / "cache") is None
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("count", [1, 3, 7])
def test_likeliest_are_those_of_the_softmax(count: int) -> None:
    """A partition that loses the best, ties in any order, or logits that overflow."""
    logits = np.random.default_rng(0).normal(0, 3, (50, 7)).astype(np.float32)
    logits[0] = 0.0
    logits[1, :3] = 500.0
    expected = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    expected /= expected.sum(axis=1, keepdims=True)
    order = np.argsort(-logits, axis=1, kind="stable")[:, :count]
    found, confidences = concepts.likeliest(logits, count)
    if count == 7:
        np.testing.assert_array_equal(found, order)
    np.testing.assert_allclose(confidences, np.take_along_axis(expected, order, axis=1), atol=1e-6)
    assert (np.diff(confidences, axis=1) <= 0).all()
