"""The preprocessing of a lake or a model card, for training and for serving: bit for bit what the lake had.

    from imagesieve import transforms

    transform = transforms.load("photos-lake")       # warns where the lake's vectors were made by another one
    array = transform("new.jpg")                     # (3, side, side) float32, as the network sees it
    images = transforms.Images(transform, "photos-lake", split="train")   # for a DataLoader of torch
    handler = transforms.lambda_handler(transform)   # of AWS Lambda

Importing it loads neither torch nor an engine."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imagesieve.events import MOST_BYTES, MOST_PIXELS, lambda_handler, of_event, variant_handler
from imagesieve.training import Images
from jobs.errors import ConfigError, LakeError
from udfs.errors import ImageError
from udfs.networks import models
from udfs.stores import fetch, uris
from udfs.transforms import square
from udfs.transforms.fingerprint import differences, fingerprint
from udfs.transforms.variants import Variant, variant

if TYPE_CHECKING:
    from udfs.networks.models import Model

__all__ = [
    "ImageError", "Images", "Transform", "TransformWarning", "Variant", "lambda_handler", "load", "of_event",
    "variant", "variant_handler",
]  # fmt: skip

MAX_PIXELS, MAX_BYTES = MOST_PIXELS, MOST_BYTES
Image = bytes | str | os.PathLike[str] | fetch.Reference


class TransformWarning(UserWarning):
    """What is installed here may give other arrays than those that a lake's vectors were made of."""


@dataclass(frozen=True)
class Transform:
    """The preprocessing of one model. max_pixels, max_bytes: larger images are refused. It holds no connection: it may
    be pickled, and used by threads and forks."""

    model: Model
    max_pixels: int = MAX_PIXELS
    max_bytes: int = MAX_BYTES

    @property
    def fingerprint(self) -> str:
        """Of what is installed here; equal ones give equal arrays. See docs/transforms.md."""
        return fingerprint(self.model)

    def __call__(self, image: Image) -> NDArray[np.float32]:
        """(3, side, side) float32: upright, resized, (pixel - mean) / std, red first. image: the bytes of a file, its
        path, or an s3:// URI. Raises ImageError for one that cannot be read, StoreError where a store cannot."""
        return square.normalised(self.pixels(image), self.model)

    def pixels(self, image: Image) -> NDArray[np.uint8]:
        """(side, side, 3) uint8, RGB: before it is normalised. The OpenVINO networks of a lake take this."""
        return square.square(self._bytes(image), self.model, self.max_pixels)

    def _bytes(self, image: Image) -> bytes:
        if isinstance(image, bytes):
            if len(image) > self.max_bytes:
                raise ImageError("too_many_bytes", f"{len(image)} bytes, more than {self.max_bytes}")
            return image
        if not isinstance(image, fetch.Reference):
            image = fetch.Reference(uris.canonical(os.fspath(image), base=str(Path.cwd())))
        return fetch.fetch(image, fetch.Limits(self.max_bytes))


def load(
    what: str | os.PathLike[str], config: str | Iterable[str] = (), strict: bool = False, max_pixels: int = MAX_PIXELS
) -> Transform:
    """The preprocessing of a lake, by its last run of embed, or of a model, by its name@revision.

    config: YAML files with the user's own model cards. strict: raise ConfigError where the lake's vectors were made by
    another preprocessing than the one installed here, in place of warning with one line (TransformWarning). Raises
    LakeError for a lake without vectors, ConfigError for an unknown model or one whose vectors were made elsewhere."""
    given = os.fspath(what)
    found: dict[str, int] = {}
    if "@" in given and not Path(given).exists() and not uris.is_s3(given):
        model = _of_card(given, [config] if isinstance(config, str) else list(config))
    else:
        model, found = _of_lake(given)
    if model.format == "vectors":
        raise ConfigError(f"{model.key}: its vectors were made elsewhere, and how is not known here")
    here = fingerprint(model)
    told = [f"{count:,} vectors: {differences(text, here)}" for text, count in found.items() if text != here]
    if told:
        line = f"{given}: made by another preprocessing than the one that is installed: {'; '.join(told)}"
        if strict:
            raise ConfigError(line)
        warnings.warn(line, TransformWarning, stacklevel=2)
    return Transform(model, max_pixels)


def _of_card(key: str, config: list[str]) -> Model:
    from jobs.config import load as settings

    try:
        return models.find(key, settings(config).models)
    except models.ModelError as error:
        raise ConfigError(str(error)) from error


def _of_lake(given: str) -> tuple[Model, dict[str, int]]:
    """The model of the last run of embed, and how many of the lake's vectors of it have each fingerprint."""
    import pyarrow.compute as pc

    from imagesieve.tables import open as open_lake

    lake = open_lake(given)
    if "runs" in lake.tables:
        where = (pc.field("job") == "embed") & (pc.field("status") == "done")
        rows = lake.dataset("runs").to_table(columns=["ended_at", "config", "counts"], filter=where)
        for run in rows.sort_by([("ended_at", "descending")]).slice(0, 1).to_pylist():
            told = json.loads(run["config"])
            key = str(told["settings"]["model"])
            model = models.MODELS.get(key) or _card_of_run(told["all"]["models"][key])
            return model, dict(json.loads(run["counts"])["transforms"])
    raise LakeError(f"{lake.uri} has no vectors yet: run `imagesieve run`")


def _card_of_run(fields: Mapping[str, Any]) -> Model:
    """The user's own card, as the row of `runs` has it."""
    given: Any = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    return models.Model(**given)
