"""A lake of many made-up rows, with which tests.bench.serve measures the app: the tables that it reads, no pictures."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from deltalake import write_deltalake
from numpy.typing import NDArray
from pyspark.sql.pandas.types import to_arrow_schema

from jobs import __version__
from jobs.lakes import LAKE_FORMAT, MARKER
from jobs.tables import ISSUES, OUTLIER_SCORES, SCORES, TABLES
from udfs.images.rows import PROPERTIES

TOGETHER = 250_000  # rows of a file
SOME_DAY = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
SPLITS = np.array(["train", "val", "test"])
MEDIA = np.array(["photograph", "document", "drawing", "icon"])


def write(lake: Path, images: int, labels: int = 1000, seed: int = 0) -> None:
    """Makes the lake: every third image has an issue, every fifth is in a cluster of four, one in a hundred has another
    label suggested. On the map each label is a cloud of its own; one image in fifty has no place."""
    lake.mkdir(parents=True)
    (lake / MARKER).write_text(json.dumps({"format": LAKE_FORMAT, "version": __version__}), encoding="utf-8")
    write_more(lake, 0, images, labels, seed)


def write_more(lake: Path, first: int, images: int, labels: int = 1000, seed: int = 0) -> None:
    """So many images more in a lake that has the first ones."""
    draw = np.random.default_rng(seed)
    names = np.array([f"class {number:04}" for number in range(labels)])
    for start in range(first, first + images, TOGETHER):
        ids = np.arange(start, min(start + TOGETHER, first + images))
        for table, columns in _tables(ids, names, draw).items():
            schema = to_arrow_schema(TABLES[table].schema)
            rows = len(columns["image_id"])
            data = pa.table([_column(columns.get(f.name), f.type, rows) for f in schema], names=schema.names)
            write_deltalake(str(lake / table), data, mode="append")


def _column(values: Any, kind: pa.DataType, rows: int) -> pa.Array:
    if values is None:
        blank = {pa.binary(): b"", pa.string(): "", pa.float64(): 0.5, pa.int64(): 0, pa.int32(): 0}.get(kind)
        return pa.nulls(rows, kind) if blank is None else pa.repeat(pa.scalar(blank, kind), rows)
    return values.cast(kind) if isinstance(values, pa.Array) else pa.array(values, kind)


def _tables(ids: NDArray[np.int64], names: NDArray[np.str_], draw: np.random.Generator) -> dict[str, dict[str, Any]]:
    count = len(ids)
    labels = names[draw.integers(0, len(names), count)]
    clustered = ids[ids % 5 == 0]
    found = ids[draw.random(count) < 1 / 3]
    wrong = ids[draw.random(count) < 0.01]
    plain = np.array([issue for issue in ISSUES if issue != "wrong_label"])
    issues = np.concatenate([plain[draw.integers(0, len(plain), len(found))], np.full(len(wrong), "wrong_label")])
    flagged = np.concatenate([found, wrong])
    suggested = names[draw.integers(0, len(names), len(flagged))]
    keepers = clustered // 20 * 20
    return {
        "images": {
            "image_id": ids,
            "uri": [f"/data/photos/{label}/{number:08}.jpg" for label, number in zip(labels, ids, strict=True)],
            "source": np.full(count, "/data/photos"), "split": SPLITS[draw.integers(0, 3, count)], "label": labels,
            "size_bytes": draw.integers(1000, 1_000_000, count), "etag": np.full(count, "e"),
            "modified_at": pa.array([SOME_DAY] * count, pa.timestamp("us", tz="UTC")), "shard": pa.nulls(count),
        },
        "features": {
            "image_id": ids, "width": draw.integers(32, 4000, count), "height": draw.integers(32, 4000, count),
            "format": np.full(count, "jpeg"), "medium": MEDIA[draw.integers(0, 4, count)], "damage": pa.nulls(count),
            **dict.fromkeys(PROPERTIES, np.full(count, 0.5)),
        },
        "scores": {"image_id": ids, **{name: draw.random(count) for name in (*SCORES, *OUTLIER_SCORES)}},
        "duplicates": {
            "image_id": clustered, "cluster_id": keepers // 20, "kind": np.full(len(clustered), "near"),
            "keeper_id": keepers, "is_keeper": keepers == clustered, "cosine_to_keeper": np.full(len(clustered), 0.9),
            "relation": np.where(keepers == clustered, "", np.array(["cropped", "cropped brightness", "mirrored"])[
                draw.integers(0, 3, len(clustered))]),
            "agreement": np.full(len(clustered), 0.8),
            "cluster_size": np.full(len(clustered), 4), "component_id": keepers // 20,
        },
        "issues": {
            "image_id": flagged, "issue": issues, "score": draw.random(len(flagged)),
            "evidence_id": pa.nulls(len(flagged)), "cosine": pa.nulls(len(flagged)), "detail": pa.nulls(len(flagged)),
            "suggestion": np.where(issues == "wrong_label", "relabel", np.array(["remove", "review"])[
                draw.integers(0, 2, len(flagged))]),
            "suggested_label": pa.array(suggested, mask=issues != "wrong_label"),
        },
        "labels": {
            "image_id": ids, "label": labels, "score": draw.random(count), "suggested_label": labels,
            "flagged": pa.array(np.isin(ids, wrong)), "evidence_id": pa.nulls(count),
        },
        "map": _places(ids[ids % 50 != 49], labels[ids % 50 != 49], draw),
        "topics": {"image_id": ids, "topic_id": draw.integers(0, 64, count)},
        "concepts": {"image_id": ids, "rank": np.ones(count), "concept": names[draw.integers(0, len(names), count)]},
    }  # fmt: skip


def _places(ids: NDArray[np.int64], labels: NDArray[np.str_], draw: np.random.Generator) -> dict[str, Any]:
    number = np.char.rpartition(labels, " ")[:, 2].astype(int)
    middles = np.random.default_rng(0).random((number.max() + 1, 2))[number]
    places = np.clip(middles + draw.normal(scale=0.02, size=(len(ids), 2)), 0, 1)
    return {"image_id": ids, "x": places[:, 0], "y": places[:, 1], "is_anchor": pa.array(ids % 100 == 0)}
