"""The text side of a network, as CLIP has one: texts as vectors of the space that its images lie in.

A card names an ONNX network and the tokenizer.json that goes with it, each with its digest. The network takes token ids
(1, n), and a mask of the same shape if it has a second input, and gives the text's vector as its first output."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from udfs.networks import formats
from udfs.networks.models import Model, ModelError
from udfs.networks.weight_files import weights_file

MOST_TOKENIZER_BYTES = 64 << 20  # that of CLIP has 2 MB
MOST_CHARACTERS = 2000  # of a text that are looked at
INSTALL = 'pip install "imagesieve[clip]"'


class TextSide:
    """The text side of a model, loaded. cache: a local folder. Raises ModelError: no weights, wrong ones, a network or
    tokenizer that is none, the package tokenizers missing; OSError where the cache cannot be written."""

    def __init__(self, model: Model, cache: Path) -> None:
        self._model = model
        self._tokenizer = _tokenizer(model, cache)
        file = weights_file(replace(model, package="", weights=model.text_weights, sha256=model.text_sha256), cache)
        self._network = _compiled(model, file)
        self._names = [one.any_name for one in self._network.inputs]
        self._kinds = [one.get_element_type().to_dtype() for one in self._network.inputs]
        self.vector("a")  # so that a network of another kind is told at once

    def vector(self, text: str) -> NDArray[np.float32]:
        """(dimension,) float32 of norm 1. Raises ModelError where the network does not take or give what it should."""
        encoded = self._tokenizer.encode(text[:MOST_CHARACTERS])
        values = {False: encoded.ids, True: encoded.attention_mask}
        given = [
            np.asarray([values["mask" in name]], kind) for name, kind in zip(self._names, self._kinds, strict=True)
        ]
        try:
            found = np.asarray(self._network(given)[0], np.float32)
        except RuntimeError as error:
            told = " ".join(str(error).split())[-200:]
            raise ModelError(f"{self._model.key}: its text network does not take {given[0].shape} ({told})") from error
        if found.size != self._model.dimension or not np.isfinite(found).all() or not found.any():
            raise ModelError(
                f"{self._model.key}: its text network gives {found.shape} for a text, not (1, {self._model.dimension})"
            )
        row = found.ravel().astype(np.float64)
        return np.asarray(row / np.linalg.norm(row), np.float32)


def _tokenizer(model: Model, cache: Path) -> Any:
    """It gives as many tokens as the network takes: cut off, or filled up by the file's own padding, else by 0."""
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise ModelError(f"{model.key}: tokenizers is not installed: {INSTALL}") from error
    own = replace(model, package="", weights=model.text_tokenizer, sha256=model.text_tokenizer_sha256)
    file = weights_file(own, cache)
    if file.stat().st_size > MOST_TOKENIZER_BYTES:
        raise ModelError(f"{model.key}: {model.text_tokenizer} holds more than {MOST_TOKENIZER_BYTES} bytes")
    try:
        found = Tokenizer.from_str(file.read_text(encoding="utf-8"))
    except Exception as error:  # the library raises nothing narrower
        told = " ".join(str(error).split())[:200]
        raise ModelError(f"{model.key}: {model.text_tokenizer} is no tokenizer.json ({told})") from error
    padding = {**(found.padding or {}), "length": model.text_tokens}
    found.enable_padding(**{name: padding[name] for name in _PADDING if name in padding})
    found.enable_truncation(model.text_tokens)
    return found


_PADDING = ("direction", "pad_id", "pad_type_id", "pad_token", "length")


def _compiled(model: Model, file: Path) -> Any:
    openvino = formats.import_openvino()
    with tempfile.TemporaryDirectory() as folder:  # alone: as in udfs.networks.formats
        alone = Path(folder) / "text.onnx"
        shutil.copyfile(file, alone)
        core = openvino.Core()
        try:
            network = core.read_model(alone)
            inputs = {one.any_name: one for one in network.inputs}
            masks = [name for name in inputs if "mask" in name]
            if len(inputs) - len(masks) != 1 or len(masks) > 1:
                names = ", ".join(inputs)
                raise ModelError(f"{model.key}: its text network wants {names}, not token ids, and perhaps a mask")
            network.reshape({name: [1, model.text_tokens] for name in inputs})
            own = openvino.Model([network.outputs[0]], network.get_parameters(), model.name)
            return core.compile_model(own, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1})
        except RuntimeError as error:
            told = " ".join(str(error).split())[-200:]
            raise ModelError(f"{model.key}: {model.text_weights} is no ONNX that can be run ({told})") from error
