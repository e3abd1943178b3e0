"""Catches a text that gets the vector of another, a text network that a card does not vouch for, and a lake whose words
are asked of the wrong network. The networks are tiny and made here: how well real ones search was not measured."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from jobs import config
from jobs.errors import InputError
from jobs.serve import asking
from tests.bench import serve_lake
from udfs.networks.cards import read_card, recorded
from udfs.networks.models import Model, ModelError
from udfs.networks.text_side import TextSide
from udfs.vectors.cosine import Vectors

WORDS = ("[PAD]", "[UNK]", "dog", "cat", "car", "red")
DIMENSION, TOKENS = 8, 6
KEY = "tiny-clip@1"
TABLE = np.zeros((len(WORDS), DIMENSION), np.float32)
TABLE[1:, :5] = np.eye(5)  # a direction of its own for each word, none for the padding


def network(file: Path, mask: bool = False, dimension: int = DIMENSION, more: Sequence[str] = ()) -> Path:
    """Sums the rows of TABLE; with a mask, of what is not masked alone."""
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, [1, "n"])
    given = [ids, *(helper.make_tensor_value_info(name, TensorProto.INT64, [1, "n"]) for name in more)]
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["rows"])]
    constants = [numpy_helper.from_array(TABLE[:, :dimension].copy() + (0.5 if mask else 0), "table")]
    last = "rows"
    if mask:
        given.append(helper.make_tensor_value_info("attention_mask", TensorProto.INT64, [1, "n"]))
        nodes.append(helper.make_node("Cast", ["attention_mask"], ["floats"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Unsqueeze", ["floats", "axes"], ["wide"]))
        nodes.append(helper.make_node("Mul", ["rows", "wide"], ["kept"]))
        constants.append(numpy_helper.from_array(np.array([2]), "axes"))
        last = "kept"
    nodes.append(helper.make_node("ReduceSum", [last, "places"], ["text_embeds"], keepdims=0))
    constants.append(numpy_helper.from_array(np.array([1]), "places"))
    found = helper.make_tensor_value_info("text_embeds", TensorProto.FLOAT, [1, dimension])
    graph = helper.make_graph(nodes, "text", given, [found], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)
    return file


def tokenizer(file: Path) -> Path:
    made = Tokenizer(WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = Whitespace()
    made.save(str(file))
    return file


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def card(folder: Path, **more: Any) -> dict[str, Any]:
    """As YAML gives it: vectors that were made elsewhere, and a text side."""
    text, words = network(folder / "text.onnx"), tokenizer(folder / "tokenizer.json")
    own = {
        "format": "vectors", "weights": str(folder / "none.parquet"), "dimension": DIMENSION, "licence": "none",
        "source": "a test", "text_weights": str(text), "text_sha256": digest(text), "text_tokenizer": str(words),
        "text_tokenizer_sha256": digest(words), "text_tokens": TOKENS,
    }  # fmt: skip
    return {**own, **more}


def model(folder: Path, **more: Any) -> Model:
    found, faults = read_card(KEY, card(folder))
    assert found is not None, faults
    return dataclasses.replace(found, **more)


def with_network(folder: Path, file: Path) -> Model:
    return model(folder, text_weights=str(file), text_sha256=digest(file))


def test_texts_get_their_vectors(tmp_path: Path) -> None:
    """Padding that counts as a word, words that are cut off before the network is full, a vector of another length."""
    side = TextSide(model(tmp_path), tmp_path / "cache")
    np.testing.assert_allclose(side.vector("dog"), TABLE[2])
    np.testing.assert_allclose(side.vector("red car"), (TABLE[5] + TABLE[4]) / np.sqrt(2), rtol=1e-6)
    np.testing.assert_allclose(side.vector("dog dog dog dog dog dog cat cat cat"), TABLE[2])
    assert side.vector("dog").dtype == np.float32


def test_a_mask_is_given_where_it_is_wanted(tmp_path: Path) -> None:
    """Padding that a network with a mask counts."""
    side = TextSide(with_network(tmp_path, network(tmp_path / "masked.onnx", mask=True)), tmp_path / "cache")
    wanted = TABLE[2] + 0.5
    np.testing.assert_allclose(side.vector("dog"), wanted / np.linalg.norm(wanted), rtol=1e-6)


def test_other_files_are_refused(tmp_path: Path) -> None:
    """A network or a tokenizer of other bytes than the card vouches for, one that is none, of another output or input:
    taken in silence, or told by a traceback."""
    other = model(tmp_path, text_sha256="0" * 64)
    with pytest.raises(ModelError, match="expected 0000"):
        TextSide(other, tmp_path / "cache")
    with pytest.raises(ModelError, match="expected 1111"):
        TextSide(model(tmp_path, text_tokenizer_sha256="1" * 64), tmp_path / "cache")
    none = tmp_path / "none.onnx"
    none.write_bytes(b"no network")
    with pytest.raises(ModelError, match="is no ONNX that can be run"):
        TextSide(with_network(tmp_path, none), tmp_path / "cache")
    with pytest.raises(ModelError, match=r"gives \(1, 5\) for a text, not \(1, 8\)"):
        TextSide(with_network(tmp_path, network(tmp_path / "short.onnx", dimension=5)), tmp_path / "cache")
    with pytest.raises(ModelError, match="wants input_ids, pixels, not token ids"):
        TextSide(with_network(tmp_path, network(tmp_path / "two.onnx", more=["pixels"])), tmp_path / "cache")
    words = tmp_path / "words.json"
    words.write_text("{}", encoding="utf-8")
    with pytest.raises(ModelError, match=r"is no tokenizer\.json") as told:
        TextSide(model(tmp_path, text_tokenizer=str(words), text_tokenizer_sha256=digest(words)), tmp_path / "cache")
    assert "\n" not in str(told.value)


def test_cards_with_a_text_side(tmp_path: Path) -> None:
    """Half a text side that is taken for none; one that changes what a picture's vector is; a card that a run records
    and nobody can read again."""
    given = card(tmp_path)
    found, _ = read_card(KEY, given)
    assert found is not None
    assert found.has_text
    assert recorded(KEY, json.loads(json.dumps(dataclasses.asdict(found)))) == found
    del given["text_sha256"]
    assert read_card(KEY, given) == (
        None, [": text_sha256 must be set too: these keys come together or not at all"]
    )  # fmt: skip
    without, _ = read_card(KEY, {name: value for name, value in card(tmp_path).items() if "text" not in name})
    assert without is not None
    assert not without.has_text
    assert without.fingerprint == found.fingerprint
    assert recorded(KEY, {"format": "nosuch"}) is None


def lake_of(folder: Path, vectors: Vectors, own: dict[str, Any]) -> Path:
    lake = folder / "lake"
    serve_lake.write(lake, len(vectors), labels=2)
    found, faults = read_card(KEY, own)
    assert found is not None, faults
    settings = {"settings": {"model": KEY}, "all": {"models": {KEY: dataclasses.asdict(found)}}}
    day = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    run = {
        "run_id": "r", "job": "embed", "version": "0", "inputs": "{}", "counts": "{}", "status": "done",
        "config": json.dumps(settings), "started_at": day, "ended_at": day, "seconds": 1.0,
    }  # fmt: skip
    write_deltalake(str(lake / "runs"), pa.Table.from_pylist([run]))
    kind = pa.list_(pa.field("element", pa.float32(), nullable=False))
    rows = {
        "image_id": pa.array(range(len(vectors)), pa.int64()), "model": [KEY] * len(vectors),
        "vector": pa.array(vectors.tolist(), kind), "norm": pa.nulls(len(vectors), pa.float32()),
    }  # fmt: skip
    write_deltalake(str(lake / "embeddings"), pa.table(rows))
    return lake


def pictures() -> Vectors:
    """60 dogs, cats and cars, every fourth red, with something else in each."""
    draw = np.random.default_rng(0)
    found = TABLE[2 + np.arange(60) % 3] + TABLE[5] * (np.arange(60) % 4 == 0)[:, np.newaxis]
    found += 0.2 * draw.normal(size=found.shape)
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)


def test_words_are_asked_of_the_lakes_own_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Words that go to WordNet where the lake's network knows better, cosines that are none, a filter ignored."""
    monkeypatch.setenv("IMAGESIEVE_CACHE", str(tmp_path / "cache"))
    vectors = pictures()
    lake = lake_of(tmp_path, vectors, card(tmp_path))
    for text, wanted in (("dog", TABLE[2]), ("red cat", (TABLE[3] + TABLE[5]) / np.sqrt(2))):
        found = asking.search(str(lake), text=text, count=5)
        cosines = vectors @ wanted
        assert [hit.image_id for hit in found] == np.argsort(-cosines, kind="stable")[:5].tolist()
        np.testing.assert_allclose([hit.score for hit in found], np.sort(cosines)[::-1][:5], atol=0.01)
    cut = asking.search(str(lake), text="dog", where="split=train", count=60)
    assert 0 < len(cut) < 60
    import imagesieve

    assert imagesieve.open(lake).search(text="dog", count=3)["image_id"].tolist() == [
        hit.image_id for hit in asking.search(str(lake), text="dog", count=3)
    ]


def test_a_text_side_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty answer, or one of WordNet's, where the file of the text network has gone or was changed."""
    monkeypatch.setenv("IMAGESIEVE_CACHE", str(tmp_path / "cache"))
    lake = lake_of(tmp_path, pictures(), card(tmp_path))
    (tmp_path / "text.onnx").unlink()
    with pytest.raises(InputError, match=r"words: tiny-clip@1: .*does not exist"):
        asking.search(str(lake), text="dog")
    network(tmp_path / "text.onnx", dimension=5)
    with pytest.raises(InputError, match="has SHA-256"):
        asking.search(str(lake), text="dog")


def test_the_settings_take_such_a_card(tmp_path: Path) -> None:
    """A card that the program's own settings refuse."""
    import yaml

    file = tmp_path / "models.yaml"
    file.write_text(yaml.safe_dump({"models": {KEY: card(tmp_path)}}), encoding="utf-8")
    assert config.load([str(file)]).models[KEY].has_text
