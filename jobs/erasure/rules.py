"""Rules: what of each table goes with a picture, and what of other pictures' rows names it.

Each table of jobs.tables has a line in RULES; tests/unit/test_erasure.py sees to it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs import tables
from udfs.albums import packs
from udfs.albums.packs import FACTS

# Issues of a picture together with another one: without that they are none.
OF_PAIRS = (tables.EXACT_DUPLICATE, tables.NEAR_DUPLICATE, tables.LOOK_ALIKE, tables.LEAK, tables.SOURCE_OVERLAP,
            tables.LABEL_CONFLICT)  # fmt: skip
ERASED = "(erased)"


@dataclass(frozen=True)
class Erased:
    """What is erased. ids: ascending int64. uris, owners: of these pictures, and whose all are to go. clusters: of
    duplicates that lose their keeper, or all but one picture; smaller: how many pictures others of them lose.
    in_place: by the picture that stood for copies, which of these that are left does so now. orphans: ascending,
    pictures that lose a neighbour: they are searched again."""

    ids: NDArray[np.int64]
    uris: frozenset[str] = frozenset()
    owners: frozenset[str] = frozenset()
    clusters: frozenset[int] = frozenset()
    smaller: Mapping[int, int] = field(default_factory=dict)
    in_place: Mapping[int, int] = field(default_factory=dict)
    orphans: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    def has(self, column: pa.ChunkedArray) -> NDArray[np.bool_]:
        """(n,) whether each value is an erased id; null is none."""
        return _among(column, self.ids)


Touched = Callable[[pa.Table, Erased], NDArray[np.bool_]]
Changed = Callable[[pa.Table, Erased], pa.Table]


@dataclass(frozen=True)
class Rule:
    """What is done to a table. looks: columns by which it is known which rows are touched. touched: (n,) of a table of
    these. changed: gets whole rows, of which some are touched, and returns those that are left."""

    looks: tuple[str, ...]
    touched: Touched
    changed: Changed


def goes_with(*columns: str) -> Rule:
    """A rule by which rows go that name an erased id in one of these columns."""

    def touched(rows: pa.Table, erased: Erased) -> NDArray[np.bool_]:
        found = np.zeros(rows.num_rows, np.bool_)
        for name in columns:
            found |= erased.has(rows[name])
        return found

    return Rule(columns, touched, lambda rows, erased: rows.filter(pa.array(~touched(rows, erased))))


def nothing() -> Rule:
    """A rule for tables that tell of no single picture."""
    return Rule((), lambda rows, _: np.zeros(rows.num_rows, np.bool_), lambda rows, _: rows)


def _among(column: pa.ChunkedArray, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    if not len(ids):
        return np.zeros(len(column), np.bool_)
    values = column.fill_null(-1).to_numpy()
    place = np.minimum(np.searchsorted(ids, values), len(ids) - 1)
    return np.asarray(ids[place] == values)


def _with(rows: pa.Table, name: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    place = rows.schema.get_field_index(name)
    return rows.set_column(place, rows.schema.field(place), values.cast(rows.schema.field(place).type))


def _nulled(rows: pa.Table, where: NDArray[np.bool_], names: Sequence[str]) -> pa.Table:
    for name in names:
        rows = _with(rows, name, pc.if_else(pa.array(where), pa.scalar(None, rows[name].type), rows[name]))
    return rows


def _images() -> Rule:
    def touched(rows: pa.Table, erased: Erased) -> NDArray[np.bool_]:
        found = erased.has(rows["image_id"])
        found |= pc.is_in(rows["owner"], pa.array(sorted(erased.owners), pa.string())).to_numpy()
        return np.asarray(found | pc.is_in(rows["uri"], pa.array(sorted(erased.uris), pa.string())).to_numpy())

    return Rule(
        ("image_id", "uri", "owner"), touched, lambda rows, erased: rows.filter(pa.array(~touched(rows, erased)))
    )


def _copies() -> Rule:
    columns = ("image_id", "representative_id")

    def touched(rows: pa.Table, erased: Erased) -> NDArray[np.bool_]:
        return erased.has(rows["image_id"]) | erased.has(rows["representative_id"])

    def changed(rows: pa.Table, erased: Erased) -> pa.Table:
        rows = rows.filter(pa.array(~erased.has(rows["image_id"])))
        now = [erased.in_place.get(old, old) for old in rows["representative_id"].to_pylist()]
        return _with(rows, "representative_id", pa.array(now, pa.int64()))

    return Rule(columns, touched, changed)


def _cells() -> Rule:
    def touched(rows: pa.Table, erased: Erased) -> NDArray[np.bool_]:
        return erased.has(rows["image_id"]) | _among(rows["image_id"], erased.orphans)

    return Rule(("image_id",), touched, lambda rows, erased: rows.filter(pa.array(~touched(rows, erased))))


def _duplicates() -> Rule:
    def goes(rows: pa.Table, erased: Erased) -> NDArray[np.bool_]:
        dissolved = pc.is_in(rows["cluster_id"], pa.array(sorted(erased.clusters), pa.int64())).to_numpy()
        return np.asarray(erased.has(rows["image_id"]) | erased.has(rows["keeper_id"]) | dissolved)

    def touched(rows: pa.Table, erased: Erased) -> NDArray[np.bool_]:
        shrinks = pc.is_in(rows["cluster_id"], pa.array(sorted(erased.smaller), pa.int64())).to_numpy()
        return np.asarray(goes(rows, erased) | shrinks)

    def changed(rows: pa.Table, erased: Erased) -> pa.Table:
        rows = rows.filter(pa.array(~goes(rows, erased)))
        sizes = zip(rows["cluster_id"].to_pylist(), rows["cluster_size"].to_pylist(), strict=True)
        left = [size - erased.smaller.get(cluster, 0) for cluster, size in sizes]
        return _with(rows, "cluster_size", pa.array(left, pa.int32()))

    return Rule(("image_id", "keeper_id", "cluster_id"), touched, changed)


def _labels() -> Rule:
    columns = ("image_id", "evidence_id")

    def changed(rows: pa.Table, erased: Erased) -> pa.Table:
        rows = rows.filter(pa.array(~erased.has(rows["image_id"])))
        return _nulled(rows, erased.has(rows["evidence_id"]), ["evidence_id"])

    return Rule(columns, goes_with(*columns).touched, changed)


def _issues() -> Rule:
    columns = ("image_id", "evidence_id")

    def changed(rows: pa.Table, erased: Erased) -> pa.Table:
        of_pair = pc.is_in(rows["issue"], pa.array(OF_PAIRS)).to_numpy()
        rows = rows.filter(pa.array(~(erased.has(rows["image_id"]) | (erased.has(rows["evidence_id"]) & of_pair))))
        return _nulled(rows, erased.has(rows["evidence_id"]), ["evidence_id", "cosine"])

    return Rule(columns, goes_with(*columns).touched, changed)


def _topic_summaries() -> Rule:
    def touched(rows: pa.Table, erased: Erased) -> NDArray[np.bool_]:
        ids = set(erased.ids.tolist())
        return np.array([not ids.isdisjoint(typical) for typical in rows["typical_ids"].to_pylist()], np.bool_)

    def changed(rows: pa.Table, erased: Erased) -> pa.Table:
        ids = set(erased.ids.tolist())
        left = [[image for image in typical if image not in ids] for typical in rows["typical_ids"].to_pylist()]
        return _with(rows, "typical_ids", pa.array(left, pa.list_(pa.int64())))

    return Rule(("typical_ids",), touched, changed)


def _albums() -> Rule:
    def of_owner(rows: pa.Table, erased: Erased) -> NDArray[np.bool_]:
        return np.asarray(pc.is_in(rows["owner"], pa.array(sorted(erased.owners), pa.string())).to_numpy())

    def touched(rows: pa.Table, erased: Erased) -> NDArray[np.bool_]:
        inside = [
            np.isin(np.frombuffer(facts, FACTS)["image_id"], erased.ids).any() for facts in _values(rows, "facts")
        ]
        return np.asarray(of_owner(rows, erased) | np.array(inside, np.bool_))

    def changed(rows: pa.Table, erased: Erased) -> pa.Table:
        rows = rows.filter(pa.array(~of_owner(rows, erased)))
        made: dict[str, list[bytes | None]] = {name: [] for name in _PACKED}
        keep = []
        for columns in zip(*(_values(rows, name) for name in _PACKED), strict=True):
            pictures = packs.unpacked(*columns)
            gone = np.isin(pictures.facts["image_id"], erased.ids)
            left = pictures.of(~gone).compared() if gone.any() else pictures
            keep.append(len(left) > 0)
            for name, value in zip(_PACKED, packs.packed(left) if gone.any() else columns, strict=True):
                made[name].append(value)
        for name, values in made.items():
            rows = _with(rows, name, pa.array(values, pa.binary()))
        return rows.filter(pa.array(keep, pa.bool_()))

    return Rule(("owner", "facts"), touched, changed)


_PACKED = ("facts", "uris", "pairs", "vectors")


def _values(rows: pa.Table, name: str) -> list[bytes]:
    values: list[bytes] = rows[name].to_pylist()
    return values


def _texts(*columns: str, goes: str | None = None) -> Rule:
    """Texts in which a URI may stand: there it is written over. goes: a column of ids by which rows go."""
    looks = (*((goes,) if goes else ()), *columns)

    def named(rows: pa.Table, erased: Erased, name: str) -> list[str | None]:
        return [_without(text, erased.uris) for text in rows[name].to_pylist()]

    def touched(rows: pa.Table, erased: Erased) -> NDArray[np.bool_]:
        found = erased.has(rows[goes]) if goes else np.zeros(rows.num_rows, np.bool_)
        for name in columns:
            now = named(rows, erased, name)
            found |= np.array([a != b for a, b in zip(now, rows[name].to_pylist(), strict=True)], np.bool_)
        return found

    def changed(rows: pa.Table, erased: Erased) -> pa.Table:
        if goes:
            rows = rows.filter(pa.array(~erased.has(rows[goes])))
        for name in columns:
            rows = _with(rows, name, pa.array(named(rows, erased, name), pa.string()))
        return rows

    return Rule(looks, touched, changed)


@lru_cache(1)
def _common(uris: frozenset[str]) -> str:
    """What all of them begin with, as far as JSON writes it as it is."""
    first, last = min(uris), max(uris)
    common = os.path.commonprefix([first, last])  # noqa: RUF071 (of texts)
    return re.match(r"[\w./:!~ -]*", common, re.ASCII)[0]  # type: ignore[index]


def _without(text: str | None, uris: frozenset[str]) -> str | None:
    """A text in which no URI stands, as it is or as JSON writes it."""
    if text is None or not uris or _common(uris) not in text:
        return text
    for uri in uris:
        for spelled in {uri, json.dumps(uri)[1:-1], json.dumps(uri, ensure_ascii=False)[1:-1]}:
            if spelled in text:
                text = text.replace(spelled, ERASED)
    return text


RULES: dict[str, Rule] = {
    "features": goes_with("image_id"),
    "embeddings": goes_with("image_id"),
    "detections": goes_with("image_id"),
    "failures": goes_with("image_id"),
    "copies": _copies(),
    "centres": nothing(),
    "cells": _cells(),
    "neighbours": goes_with("image_id", "neighbour_id"),
    "duplicates": _duplicates(),
    "edges": goes_with("image_id", "other_id"),
    "look_alikes": goes_with("image_id", "other_id"),
    "labels": _labels(),
    "label_sets": goes_with("image_id"),
    "confusions": nothing(),
    "classes": nothing(),
    "concepts": goes_with("image_id"),
    "topics": goes_with("image_id"),
    "topic_summaries": _topic_summaries(),
    "map": goes_with("image_id"),
    "leaks": goes_with("image_id", "other_id"),
    "scores": goes_with("image_id"),
    "issues": _issues(),
    "ratings": goes_with("image_id"),
    "albums": _albums(),
    "reviews": _texts("note", goes="image_id"),
    "runs": _texts("config", "inputs", "counts"),
    "images": _images(),  # the last one: by it the others are found again
}
