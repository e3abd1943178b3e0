"""Reading of a picture that is not of the lake: in the decoding child, as the stage embed reads those that are."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from udfs import arrow
from udfs.images.rows import PENDING
from udfs.networks import preparation
from udfs.networks.models import Model
from udfs.stores import fetch, uris
from udfs.stores.cache import user_cache


class Reader:
    """Reads pictures one at a time. limits, max_pixels: of what is read and decoded. hang_s: seconds that one may take
    to be decoded. Raises ModelError where the model's network is not here."""

    def __init__(self, model: Model, limits: fetch.Limits, max_pixels: int, hang_s: float) -> None:
        prepared = preparation.prepare(model, user_cache(), "openvino")
        kind = prepared.kind if prepared.files else ""
        task = arrow.EmbedTask(model, kind, prepared.files, None, limits, 1, 0, max_pixels, alone=True)
        make: Callable[[], arrow.EmbedTask] = lambda: task  # noqa: E731
        self._run = arrow.embed_batches(make, hang_s, lambda _: None)

    def given(self, data: bytes) -> dict[str, Any]:
        """A row of udfs.images.rows.EMBEDDED. The bytes go through a private file to the child that decodes."""
        with tempfile.TemporaryDirectory(prefix="imagesieve-") as folder:
            file = Path(folder) / "picture"
            file.write_bytes(data)
            return self.lying(str(file))

    def lying(self, uri: str) -> dict[str, Any]:
        """As given(), of a picture at a path or URI, which the child reads. Raises ValueError for what is neither, and
        StoreError without credentials."""
        row = {"uri": uris.canonical(uri), "image_id": 0, "has_features": False, "attempt": 1}
        batch = pa.RecordBatch.from_pylist([row], schema=PENDING)
        (done,) = pa.Table.from_batches(self._run(iter([batch]))).to_pylist()
        found: dict[str, Any] = done
        return found
