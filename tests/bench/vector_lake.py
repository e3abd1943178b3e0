"""A lake of vectors that no images are behind: images, features and embeddings as catalog and embed leave them."""

from __future__ import annotations

import datetime
import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import convert_to_deltalake
from numpy.typing import NDArray
from pyspark.sql.pandas.types import to_arrow_schema

from jobs import __version__
from jobs.lakes import LAKE_FORMAT, MARKER
from jobs.tables import TABLES
from tests.bench.many_vectors import Vectors
from udfs.images import looks as looks_module
from udfs.images.medium import PHOTOGRAPH
from udfs.images.rows import PROPERTIES
from udfs.images.starts import SIDE

MODEL = "bench@1"
THRESHOLD = 0.88  # cosine from which two of its vectors are near-duplicates
LOOK = looks_module.look(np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8).repeat(8, 0).repeat(8, 1))
PER_FILE = 2048  # images: what a task of the embed stage writes
SOME_DAY = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)


def card(lake: Path, dimension: int) -> Path:
    """Writes the settings under which the lake's vectors are those of a model, for --config, and returns the file."""
    near = {"threshold": THRESHOLD, "margin": 0.0, "certain": THRESHOLD, "evidence": 0.0}
    model = {
        "format": "vectors",
        "weights": str(lake),  # not read by the stages after embed
        "dimension": dimension,
        "licence": "none",
        "source": "tests/bench/many_vectors.py",
        **{f"near_duplicate_{name}": value for name, value in near.items()},
    }
    file = lake.with_suffix(".yaml")
    file.write_text(json.dumps({"models": {MODEL: model}, "embed": {"model": MODEL}}), encoding="utf-8")  # JSON is YAML
    return file


def write(
    lake: Path,
    vectors: Vectors,
    content: NDArray[np.int64] | None = None,
    labels: list[str] | None = None,
    model: str = MODEL,
    norm: float | None = None,
    looks: list[bytes] | None = None,
) -> None:
    """Makes a lake of the vectors; the number of a row is its image_id.

    content: (n,) what the pixels of each image are, equal where they are equal; by default all differ. labels: of each
    image; by default none has one. norm: of all vectors, as a network had them. looks: of each image; by default all
    have one, with which any is like any. Raises FileExistsError where there is a table already."""
    content = np.arange(len(vectors)) if content is None else content
    files = max(1, -(-len(vectors) // PER_FILE))
    for table in ("images", "features", "embeddings"):
        folder, schema = lake / table, to_arrow_schema(TABLES[table].schema)
        folder.mkdir(parents=True)
        for number in range(files):
            ids = np.arange(number, len(vectors), files)  # dealt, as the embed stage does
            known = columns(table, ids, vectors, content) | {"model": model, "norm": norm}
            if table == "features" and looks is not None:
                known["look"] = [looks[number] for number in ids]
            if table == "images" and labels is not None:
                known["label"] = [labels[number] for number in ids]
            values = [known.get(name) for name in schema.names]
            arrays = [
                pa.array(value if isinstance(value, list) else [value] * len(ids), kind)
                for value, kind in zip(values, schema.types, strict=True)
            ]
            pq.write_table(pa.table(arrays, schema=schema), folder / f"{number:05d}.parquet", compression="zstd")
        convert_to_deltalake(str(folder))
    marker = {"next_image_id": len(vectors), "next_cluster_id": 0, "format": LAKE_FORMAT, "version": __version__}
    (lake / MARKER).write_text(json.dumps(marker, indent=1), encoding="utf-8")


def columns(table: str, ids: NDArray[np.int64], vectors: Vectors, content: NDArray[np.int64]) -> dict[str, object]:
    """The columns that are not null: a list with a value for each id, or one value for all."""
    numbers = ids.tolist()
    if table == "images":
        uris = [f"/images/{number:09d}.jpg" for number in numbers]
        usual = {"source": "/images", "size_bytes": 100_000, "etag": "", "modified_at": SOME_DAY}
        return {"image_id": numbers, "uri": uris, **usual}
    if table == "features":
        seen = np.random.default_rng(ids.tolist()).integers(-(2**63), 2**63, len(ids)).tolist()
        hashes = [hashlib.sha256(b"bytes %d" % number).hexdigest() for number in numbers]
        pixels = [hashlib.sha256(b"pixels %d" % number).hexdigest() for number in content[ids].tolist()]
        usual = {"etag": "", "perceptual_hash": seen, "width": 640, "height": 480, "format": "jpeg"}
        usual |= {"medium": PHOTOGRAPH, "look": LOOK, "thumbnail": bytes(SIDE**2), **dict.fromkeys(PROPERTIES, 0.5)}
        return {"image_id": numbers, "sha256": hashes, "pixel_hash": pixels, **usual}
    kept = vectors[ids].astype(np.float16).astype(np.float32)  # as the embed stage rounds them
    return {"image_id": numbers, "vector": list(kept)}
