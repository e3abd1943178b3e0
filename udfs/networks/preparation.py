"""What the driver makes ready of a model for the workers."""

from __future__ import annotations

import importlib.metadata
import tempfile
from dataclasses import dataclass
from pathlib import Path

from udfs.networks.models import KINDS, Model, ModelError, stem
from udfs.networks.weight_files import weights_file

# Part of the names of files that it made: networks that torch was traced for have the same vectors, but other bytes.
# Another number where it builds something else.
_BUILDER = "-built1"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model made ready for one kind of runtime. files: what a worker needs, each with a base name of its own, so that
    `SparkContext.addFile` can ship them: (graph .xml, weights .bin) for OpenVINO, (weights,) for torch, none for
    imported vectors."""

    model: str
    kind: str
    files: tuple[Path, ...]


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


def _whole(model: Model, folder: Path, files: tuple[Path, ...]) -> bool:
    """Whether the folder is there. Raises ModelError where it is and lacks one of the files."""
    if not folder.exists():
        return False
    if not all(file.is_file() for file in files):
        raise ModelError(f"{model.key}: {folder} is incomplete, remove it")
    return True
