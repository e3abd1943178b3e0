"""Catches head files and cards that are hostile, damaged or of another model, and scores that numpy has otherwise."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from jobs.errors import ConfigError, InputError
from jobs.rating import cards, store
from tests import networks
from udfs.networks import embedding, preparation
from udfs.ratings import files
from udfs.ratings import networks as scoring
from udfs.ratings.heads import Head, HeadError, Layer, Measured, Raters, Sureness, ranked

DRAW = np.random.default_rng(2)
D = 6


def floats(*shape: int) -> Any:
    return DRAW.standard_normal(shape).astype(np.float32)


def head(**other: Any) -> Head:
    made = Head(
        "taste@1", "picked", "small@1", (Layer(floats(1, D), floats(1)),), 1.5, -0.2,
        Measured(("noise", "contrast"), np.sort(floats(2, 9), axis=1), floats(4)),
        Sureness(2.0, 0.5, floats(D), 0.7, floats(D + 1, 3) * 0.1, 0.01),
        Raters(("anna", "b\u202e"), floats(2, D), floats(2)), {"units": "probability", "licence": "ours"},
    )  # fmt: skip
    return dataclasses.replace(made, **other)


def unit(count: int = 20) -> Any:
    rows = floats(count, D)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_a_head_comes_back() -> None:
    """Numbers that change on their way through a file."""
    made, rows, properties = head(), unit(), DRAW.standard_normal((20, 2))
    back = files.read(*files.written(made), "here")
    for one, other in zip(made.scores(rows, properties), back.scores(rows, properties), strict=True):
        assert np.array_equal(one, other)
    assert back.about == made.about
    assert back.raters is not None
    assert back.raters.names == ("anna", "b\u202e")
    assert files.digest(back) == files.digest(made)
    assert files.digest(dataclasses.replace(made, shift=0.0)) != files.digest(made)
    assert files.digest(dataclasses.replace(made, about={})) == files.digest(made)


def test_a_score_is_that_of_numpy() -> None:
    """A score with parts left out: the layer, the properties, the log-odds."""
    made, rows, properties = head(), unit(), DRAW.standard_normal((20, 2))
    assert made.measured is not None
    raw = rows.astype(float) @ made.layers[0].weights[0].astype(float) + made.layers[0].bias[0]
    raw = raw + ranked(properties, made.measured.places) @ made.measured.weights
    scores, _ = made.scores(rows, properties)
    assert np.allclose(scores, 1 / (1 + np.exp(-(1.5 * raw - 0.2))))
    with pytest.raises(HeadError, match="needs the properties noise, contrast"):
        made.scores(rows)
    with pytest.raises(HeadError, match="vectors of 6 numbers, got 7"):
        made.scores(floats(3, 7))
    assert np.allclose(ranked(np.array([[np.nan, np.nan]]), made.measured.places), 0)


def card_of(made: Head, **changes: Any) -> tuple[bytes, bytes]:
    numbers, card = files.written(made)
    return numbers, json.dumps({**json.loads(card), **changes}).encode()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"sha256": "0" * 64}, "has SHA-256 .*expected 0000"),
        ({"format": 9}, "must have format 1"),
        ({"key": "../../etc"}, "must be name@revision"),
        ({"kind": "nice"}, "kind must be one of rating"),
        ({"dimension": 7}, "says 7 numbers, its weights 6"),
        ({"activations": ["none", "none"]}, "no tensor 'layers.1.weight'"),
        ({"activations": ["softmax"]}, "activation must be one of"),
        ({"activations": []}, "cannot be read|0 layers"),
        ({"slope": "1"}, "must be a number"),
        ({"measured": ["noise"]}, "other numbers than its card says"),
        ({"raters": ["anna"]}, "1 names of raters for 2 rows"),
        ({"sureness": {}}, "its card cannot be read"),
        ({"about": 1}, "its card has no about"),
    ],
)
def test_a_wrong_card_is_refused(changes: dict[str, Any], told: str) -> None:
    """A traceback, or a head that scores nonsense."""
    with pytest.raises(HeadError, match=told) as caught:
        files.read(*card_of(head(), **changes), "here")
    assert "\n" not in str(caught.value)


def test_a_pickle_is_refused() -> None:
    """A file that runs code when it is opened."""
    for data in (pickle.dumps({"layers.0.weight": 1}), b"PK\x03\x04" + bytes(50)):
        with pytest.raises(HeadError, match="is a pickle, which can run code"):
            files.tensors_of(data, hashlib.sha256(data).hexdigest(), "here")
    for data in (b"", b"\xff" * 40, save({"a": floats(3)})[:-4]):
        with pytest.raises(HeadError, match="no safetensors"):
            files.tensors_of(data, hashlib.sha256(data).hexdigest(), "here")
    bad = head(layers=(Layer(np.full((1, D), np.nan, np.float32), floats(1)),))
    with pytest.raises(HeadError, match="not finite"):
        files.read(*files.written(bad), "here")


def test_heads_of_a_lake(tmp_path: Path) -> None:
    """A revision that is written over, and the newest of ten that is the ninth."""
    lake = str(tmp_path)
    assert store.keys(lake) == []
    for number in (1, 2, 9, 10):
        store.write(lake, head(key=f"taste@{number}"))
    assert store.next_key(lake, "taste") == "taste@11"
    assert store.find(lake, "taste").head.key == "taste@10"
    assert store.find(lake, "taste@2").head.key == "taste@2"
    with pytest.raises(InputError, match="taste@2 is there already"):
        store.next_key(lake, "taste@2")
    with pytest.raises(InputError, match=r"no rating 'nice' \(there are: taste@1"):
        store.find(lake, "nice")
    with pytest.raises(InputError, match="must be NAME or NAME@REVISION"):
        store.next_key(lake, "../up")
    kept = store.with_quantiles(lake, store.read(lake, "taste@1"), np.arange(100.0), 100)
    assert store.read(lake, "taste@1").images == 100
    assert np.array_equal(store.read(lake, "taste@1").quantiles, kept.quantiles)
    copied = store.copied(str(tmp_path / "other"), f"{lake}/{store.FOLDER}/taste@1.safetensors")
    assert copied.key == "taste@1"
    store.remove(lake, "taste@1")
    with pytest.raises(InputError, match="no rating 'taste@1'"):
        store.find(lake, "taste@1")


def mlp(folder: Path) -> tuple[Path, list[tuple[Any, Any]]]:
    """The form of published heads: linear layers by number."""
    layers = [(floats(5, D), floats(5)), (floats(1, 5), floats(1))]
    data = save({f"layers.{2 * n}.{what}": value for n, pair in enumerate(layers)
                 for what, value in zip(("weight", "bias"), pair, strict=True)})  # fmt: skip
    file = folder / "mlp.safetensors"
    file.write_bytes(data)
    return file, layers


def card(folder: Path, **values: Any) -> Path:
    file = folder / "cards.yaml"
    file.write_text(json.dumps({"theirs@1": values}), encoding="utf-8")
    return file


def test_an_mlp_of_others_scores_as_numpy_has_it(tmp_path: Path) -> None:
    file, layers = mlp(tmp_path)
    given = {
        "format": "head", "weights": str(file), "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "model": "small@1", "licence": "MIT", "source": "a seed",
        "layers": ["layers.0", "layers.2"], "activation": "relu",
    }  # fmt: skip
    (found,) = cards.read(card(tmp_path, **given), "lake")
    rows = unit()
    hidden = np.maximum(rows @ layers[0][0].T + layers[0][1], 0)
    assert np.allclose(found.scores(rows)[0], (hidden @ layers[1][0].T + layers[1][1])[:, 0], atol=1e-5)
    back = files.read(*files.written(found), "here")
    assert np.allclose(back.scores(rows)[0], found.scores(rows)[0])
    for change, told in (
        ({"sha256": "0" * 64}, "has SHA-256"), ({"layers": ["layers.1"]}, "no tensor 'layers.1.weight'"),
        ({"layers": ["layers.2", "layers.0"]}, "has .* weights"), ({"weights": str(tmp_path / "no")}, "does not exist"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=told):
            cards.read(card(tmp_path, **{**given, **change}), "lake")
    with pytest.raises(ConfigError, match="activation must be"):
        cards.read(card(tmp_path, **{**given, "licence": "", "activation": "swish"}), "lake")
    with pytest.raises(ConfigError, match="format must be one of"):
        cards.read(card(tmp_path, **{**given, "format": "pickle"}), "lake")


@pytest.mark.parametrize("output", scoring.OUTPUTS)
@pytest.mark.parametrize("form", ["onnx", "torchscript"])  # the latter where torch is installed
def test_a_network_of_others_scores_as_numpy_has_it(tmp_path: Path, output: str, form: str) -> None:
    """The score of a picture from a vector that was made one of length 1, or of a distribution the first bin."""
    made = networks.onnx_model(tmp_path) if form == "onnx" else networks.script_model(tmp_path)
    given = {
        "format": form, "weights": made.weights, "sha256": made.sha256, "licence": "none", "source": "a seed",
        "input_side": networks.SIDE, "mean": list(networks.MEAN), "std": list(networks.STD), "output": output,
        "bins": networks.DIMENSION,
    }  # fmt: skip
    (found,) = cards.read(card(tmp_path, **given), "lake")
    model, told = cards.network_of(files.read(*files.written(found), "here"))
    assert told == output
    prepared = preparation.prepare(model, tmp_path / "cache", "openvino-fp32")
    net = embedding.open_runtime("openvino-fp32", model, prepared.files)
    pictures = networks.pictures(3)
    done = net.submit(pictures)()
    scores = scoring.scored(output, done.vectors * done.norms[:, None])
    normal = (pictures.astype(np.float32) - np.array(networks.MEAN, np.float32)) / np.array(networks.STD, np.float32)
    rows = networks.small_rows(np.asarray(normal.transpose(0, 3, 1, 2), np.float32)).astype(float)
    bins = np.arange(1, networks.DIMENSION + 1)
    shares = np.exp(rows) / np.exp(rows).sum(axis=1, keepdims=True)
    wanted = {"score": rows[:, 0], "logits": shares @ bins, "distribution": rows @ bins / rows.sum(axis=1)}[output]
    if output == "distribution":
        wanted = rows @ bins / np.maximum(rows.sum(axis=1), 1e-12)
    assert np.allclose(scores, wanted, rtol=1e-3, atol=1e-4)
