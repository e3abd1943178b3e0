"""The fingerprint of a preprocessing: two that are equal give the same arrays.

It is a text, `DIGEST name=value ...`: the version of the code, the numbers of the model card that decide pixels, the
versions of the libraries that decode and resize, and a digest of what these make of a probe on this machine, which
tells builds and processors apart that round otherwise. DIGEST is of all that follows it, 16 hexadecimal digits. The
probe has a JPEG and the filters; PNG, GIF, BMP and TIFF decode to the same samples by their definition, and of WebP,
AVIF and HEIF the versions alone tell."""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
from functools import cache
from importlib import resources

import cv2
import numpy as np
import PIL
import simplejpeg
from PIL import Image, features

from udfs.images.scaling import resized
from udfs.networks.models import Model
from udfs.transforms import square

DIGITS = 16


def fingerprint(model: Model) -> str:
    """Of the preprocessing that is installed here, for a model; "" for one whose vectors were made elsewhere."""
    if model.format == "vectors":
        return ""
    colours = {"mean": _numbers(model.mean), "std": _numbers(model.std)}
    own = {"code": square.CODE, "side": model.input_side, "fit": model.fit, **colours}
    rest = " ".join(f"{name}={value}" for name, value in {**own, **libraries()}.items())
    return f"{hashlib.sha256(rest.encode()).hexdigest()[:DIGITS]} {rest}"


def differences(there: str, here: str) -> str:
    """What differs between two fingerprints, for a person: `opencv 4.12.0 there and 5.0.0 here, …`; "" for nothing."""
    one, other = (dict(part.partition("=")[::2] for part in text.split(" ")[1:]) for text in (there, here))
    names = [name for name in {**one, **other} if one.get(name) != other.get(name)]
    return ", ".join(f"{name} {one.get(name, 'none')} there and {other.get(name, 'none')} here" for name in names)


@cache
def libraries() -> dict[str, str]:
    """The versions that decide pixels, and the digest of the probe."""
    return {
        "opencv": cv2.__version__,
        "pillow": PIL.__version__,
        "jpeg": str(features.version("libjpeg_turbo") or features.version("jpg")),
        "simplejpeg": _version("simplejpeg"),
        "heif": _version("pi-heif"),
        "probe": _probe(),
    }


def _probe() -> str:
    """8 hexadecimal digits, of what a small JPEG and a pattern become."""
    data = resources.files("udfs.transforms").joinpath("probe.jpg").read_bytes()
    rows, columns = np.ogrid[:331, :247]
    pattern = ((rows * 37 + columns * 101 + (rows * columns) % 97) % 256).astype(np.uint8)
    coloured = np.stack([pattern, pattern[::-1], 255 - pattern], axis=-1)
    parts = [
        simplejpeg.decode_jpeg(data, "RGB"),
        simplejpeg.decode_jpeg(data, "RGB", min_height=1, min_width=1),
        np.asarray(Image.open(io.BytesIO(data), formats=["JPEG"]).convert("RGB")),
        np.asarray(Image.fromarray(coloured).reduce(3)),
        *(resized(coloured, width, height) for width, height in ((224, 224), (61, 300), (30, 30), (247, 500))),
    ]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()[:8]


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _numbers(values: tuple[float, ...]) -> str:
    return ",".join(repr(float(value)) for value in values)
