"""Gallery making: reads the tables of a lake once and writes the columns of its gallery."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.engines.datasets import dataset
from jobs.serve.columns import BINS, META, NULL, STEPS, Say
from jobs.serve.facets.uri_order import uri_order
from jobs.tables import ISSUES, OUTLIER_SCORES, SCORES, WRONG_LABEL

TABLE_SCORES = (*SCORES, *OUTLIER_SCORES)
SUGGESTIONS = ("review", "relabel", "remove")  # of several the last one counts
ROWS = 131_072  # read at once


class Making:
    """Writes the columns of a gallery, a table after another, each in parts. at: versions of the tables, None where
    one is not there. folder: is there and empty."""

    def __init__(self, lake: str, at: dict[str, int | None], folder: Path, say: Say) -> None:
        self._lake, self._at, self._folder, self._say = lake, at, folder, say
        self._names: dict[str, list[list[str]]] = {}
        self._totals: dict[str, list[int]] = {}
        self._bins: dict[str, list[int]] = {}
        self._ids: NDArray[np.int64] = np.empty(0, np.int64)
        self._mapped = 0
        self._sorter: NDArray[np.int64] | None = None

    def all(self) -> bool:
        """Writes them all; true."""
        self._images()
        works = (self._folders, self._features, self._scores, self._duplicates, self._issues, self._labels, self._map,
                 self._others)  # fmt: skip
        for number, work in enumerate(works):
            self._say((number + 1) / (len(works) + 1))
            work()
        readable = int(
            np.count_nonzero(np.load(self._folder / "readable.npy", mmap_mode="r" if len(self._ids) else None))
        )
        meta = {"images": len(self._ids), "readable": readable, "names": self._names, "totals": self._totals,
                "bins": self._bins, "mapped": self._mapped}  # fmt: skip
        (self._folder / META).write_text(json.dumps(meta), encoding="utf-8")
        self._say(1.0)
        return True

    def _read(self, table: str, *columns: str, where: Any = None) -> Iterator[pa.RecordBatch]:
        if self._at[table] is not None:
            found = dataset(self._lake, table)
            yield from found.to_batches(columns=list(columns), filter=where, batch_size=ROWS)

    def _placed(self, batch: pa.RecordBatch) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The rows of a batch's images, and which of them are there: a table may know images that are gone."""
        ids = batch.column("image_id").to_numpy()
        if not len(self._ids):
            return np.zeros(len(ids), np.int64), np.zeros(len(ids), np.bool_)
        found = np.minimum(np.searchsorted(self._ids, ids, sorter=self._sorter), len(self._ids) - 1)
        rows = found if self._sorter is None else self._sorter[found]
        there = self._ids[rows] == ids
        return rows[there], there

    def _images(self) -> None:
        """The order of rows is that of the table: nothing is sorted."""
        ids, sizes, times = [], [], []
        texts = {name: _Texts() for name in ("source", "split", "label", "shard")}
        offsets = []
        ends = {"uri": [np.zeros(0, np.int64)], "lower": [np.zeros(0, np.int64)]}
        totals = {"uri": 0, "lower": 0}
        sets = _Texts()
        columns = ("image_id", "uri", "size_bytes", "modified_at", "shard_offset", "labels", *texts)
        with (self._folder / "uri.bin").open("wb") as own, (self._folder / "lower.bin").open("wb") as lower:
            for batch in self._read("images", *columns):
                ids.append(batch.column("image_id").to_numpy())
                sizes.append(_filled(batch.column("size_bytes"), -1))
                offsets.append(_filled(batch.column("shard_offset"), -1))
                at = batch.column("modified_at").cast(pa.timestamp("ms", "UTC"), safe=False)
                times.append(_filled(at, -1))
                for name, column in texts.items():
                    column.add(batch.column(name))
                sets.add(_as_json(batch.column("labels")))
                uri = batch.column("uri").cast(pa.large_string())
                for name, file, values in (("uri", own, uri), ("lower", lower, pc.utf8_lower(uri))):
                    data, lengths = _bytes_of(values)
                    file.write(data)
                    ends[name].append(totals[name] + np.cumsum(lengths))
                    totals[name] += len(data)
        self._ids = np.concatenate(ids) if ids else self._ids
        if not bool((self._ids[1:] > self._ids[:-1]).all()):
            self._sorter = np.argsort(self._ids, kind="stable")
        self._save("id", self._ids)
        self._save("size_bytes", np.concatenate([np.zeros(0, np.int64), *sizes]))
        self._save("shard_offset", np.concatenate([np.zeros(0, np.int64), *offsets]))
        self._save("modified", np.concatenate([np.zeros(0, np.int64), *times]))
        for name, parts in ends.items():
            self._save(f"{name}_ends", np.concatenate(parts))
        label = texts.pop("label")
        for name, column in texts.items():
            self._save_coded(name, column.codes(), column.names)
        several = sets.codes().astype(np.int64)
        codes = np.where(several > 0, several + len(label.names), label.codes())
        self._save_several("label", codes, [[], *([name] for name in label.names), *map(json.loads, sets.names)])

    def _folders(self) -> None:
        """The rows in the order of their URIs' bytes, in which each folder is a stretch, the place of each row in it,
        and where in it pictures begin that lie in another folder than those before."""
        order, starts = uri_order(self._folder, len(self._ids))
        place = np.empty(len(order), np.int32)
        place[order] = np.arange(len(order), dtype=np.int32)
        for name, values in (("uri_order", order), ("uri_place", place), ("folder_starts", starts)):
            self._save(name, values)

    def _features(self) -> None:
        width, height = self._blank(np.int32), self._blank(np.int32)
        readable = self._blank(np.bool_)
        texts = {name: _Placed(self._blank(np.uint32)) for name in ("format", "medium", "damage")}
        for batch in self._read("features", "image_id", "width", "height", *texts):
            rows, there = self._placed(batch)
            readable[rows] = True
            width[rows] = batch.column("width").to_numpy()[there]
            height[rows] = batch.column("height").to_numpy()[there]
            for name, column in texts.items():
                column.put(rows, batch.column(name), there)
        for name, values in (("width", width), ("height", height), ("readable", readable)):
            self._save(name, values)
        self._save("pixels", width.astype(np.int64) * height)
        for name, column in texts.items():
            self._save_coded(name, column.codes, column.names)

    def _scores(self) -> None:
        found = {name: self._blank(np.uint16, NULL) for name in TABLE_SCORES}
        for batch in self._read("scores", "image_id", *TABLE_SCORES):
            rows, there = self._placed(batch)
            for name, values in found.items():
                values[rows] = _stepped(batch.column(name))[there]
        for name, values in found.items():
            self._save_score(name, values)

    def _duplicates(self) -> None:
        cluster, size = self._blank(np.int64, -1), self._blank(np.int32)
        keeper, kind, relation = self._blank(np.bool_), _Placed(self._blank(np.uint32)), _Placed(self._blank(np.uint32))
        columns = ("image_id", "cluster_id", "cluster_size", "is_keeper", "kind", "relation")
        for batch in self._read("duplicates", *columns):
            rows, there = self._placed(batch)
            cluster[rows] = batch.column("cluster_id").to_numpy()[there]
            size[rows] = batch.column("cluster_size").to_numpy()[there]
            keeper[rows] = batch.column("is_keeper").to_numpy(zero_copy_only=False)[there]
            kind.put(rows, batch.column("kind"), there)
            relation.put(rows, batch.column("relation"), there)
        for name, values in (("cluster", cluster), ("cluster_size", size), ("is_keeper", keeper)):
            self._save(name, values)
        self._save_coded("kind", kind.codes, kind.names)
        several = [name.split() for name in relation.names]  # names of one picture, with blanks between
        self._save_several("relation", relation.codes, [[], *several])

    def _issues(self) -> None:
        bits, worst = self._blank(np.uint32), self._blank(np.uint8)
        suggested = _Placed(self._blank(np.uint32))
        place = {name: number for number, name in enumerate(ISSUES)}
        rank = {name: number + 1 for number, name in enumerate(SUGGESTIONS)}
        for batch in self._read("issues", "image_id", "issue", "suggestion", "suggested_label"):
            rows, there = self._placed(batch)
            issue = _mapped(batch.column("issue"), place)[there]
            np.bitwise_or.at(bits, rows, np.left_shift(np.uint32(1), issue.astype(np.uint32)))
            np.maximum.at(worst, rows, _mapped(batch.column("suggestion"), rank)[there].astype(np.uint8))
            is_wrong = issue == place[WRONG_LABEL]
            suggested.put(
                rows[is_wrong], batch.column("suggested_label").filter(pa.array(there)).filter(pa.array(is_wrong))
            )
        combined, codes = np.unique(bits, return_inverse=True)
        if not len(combined) or combined[0]:
            combined, codes = np.concatenate([[np.uint32(0)], combined]), codes + 1
        named = [[ISSUES[n] for n in range(len(ISSUES)) if int(value) >> n & 1] for value in combined]
        self._save_several("issue", codes, named)
        self._save_coded("suggestion", worst, list(SUGGESTIONS))
        self._save_coded("suggested", suggested.codes, suggested.names)

    def _labels(self) -> None:
        score = self._blank(np.uint16, NULL)
        for batch in self._read("labels", "image_id", "score"):
            rows, there = self._placed(batch)
            score[rows] = _stepped(batch.column("score"))[there]
        # Of several labels the one that is least sure; a label that is missing by one minus its probability.
        for batch in self._read("label_sets", "image_id", "probability", "given"):
            rows, there = self._placed(batch)
            holds = batch.column("probability").to_numpy()
            right = np.where(batch.column("given").to_numpy(zero_copy_only=False), holds, 1 - holds)
            np.minimum.at(score, rows, _stepped(pa.array(right))[there])
        self._save_score("label_score", score)

    def _map(self) -> None:
        x, y = self._blank(np.uint16, NULL), self._blank(np.uint16, NULL)
        for batch in self._read("map", "image_id", "x", "y"):
            rows, there = self._placed(batch)
            x[rows], y[rows] = _stepped(batch.column("x"))[there], _stepped(batch.column("y"))[there]
        self._mapped = int(np.count_nonzero(x != NULL))
        self._save("map_x", x)
        self._save("map_y", y)

    def _others(self) -> None:
        topic, concept = _Placed(self._blank(np.uint32)), _Placed(self._blank(np.uint32))
        for batch in self._read("topics", "image_id", "topic_id"):
            rows, there = self._placed(batch)
            topic.put(rows, batch.column("topic_id").cast(pa.string()), there)
        for batch in self._read("concepts", "image_id", "rank", "concept", where=pc.field("rank") == 1):
            rows, there = self._placed(batch)
            concept.put(rows, batch.column("concept"), there)
        error = _Placed(self._blank(np.uint32))
        for batch in self._read("failures", "image_id", "error"):
            rows, there = self._placed(batch)
            error.put(rows, batch.column("error"), there)
        for name, column in (("topic", topic), ("concept", concept), ("error", error)):
            self._save_coded(name, column.codes, column.names)

    def _blank(self, kind: Any, fill: int = 0) -> NDArray[Any]:
        return np.full(len(self._ids), fill, kind)

    def _save(self, name: str, values: NDArray[Any]) -> None:
        np.save(self._folder / f"{name}.npy", values, allow_pickle=False)

    def _save_score(self, name: str, values: NDArray[np.uint16]) -> None:
        bins = np.minimum(np.arange(NULL + 1) * BINS // STEPS, BINS - 1)
        bins[NULL] = BINS
        self._bins[name] = np.bincount(bins[values], minlength=BINS + 1)[:BINS].tolist()
        self._save(name, values)

    def _save_coded(self, name: str, codes: NDArray[Any], names: list[str]) -> None:
        self._save_several(name, codes, [[], *([text] for text in names)])

    def _save_several(self, name: str, codes: NDArray[Any], names: list[list[str]]) -> None:
        self._names[name] = names
        self._totals[name] = np.bincount(codes, minlength=len(names)).tolist()
        self._save(name, codes.astype(np.min_scalar_type(max(1, len(names) - 1))))


class _Texts:
    """Texts as their places in a list of them, from 1 on; 0 is null."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._places: dict[str, int] = {}
        self._parts: list[NDArray[np.uint32]] = []

    def coded(self, values: pa.Array) -> NDArray[np.uint32]:
        encoded = pc.dictionary_encode(values.cast(pa.string()))
        table = np.array([0, *map(self._place, encoded.dictionary.to_pylist())], np.uint32)
        return table[_filled(encoded.indices, -1) + 1]

    def add(self, values: pa.Array) -> None:
        self._parts.append(self.coded(values))

    def codes(self) -> NDArray[np.uint32]:
        return np.concatenate([np.zeros(0, np.uint32), *self._parts])

    def _place(self, name: str) -> int:
        if name == "":  # "" is how a filter says none
            return 0
        if name not in self._places:
            self.names.append(name)
            self._places[name] = len(self.names)
        return self._places[name]


class _Placed:
    """Texts that come for some rows. codes: (n,) uint32, which it fills."""

    def __init__(self, codes: NDArray[np.uint32]) -> None:
        self.codes = codes
        self._texts = _Texts()

    @property
    def names(self) -> list[str]:
        return self._texts.names

    def put(self, rows: NDArray[np.int64], values: pa.Array, there: NDArray[np.bool_] | None = None) -> None:
        codes = self._texts.coded(values)
        self.codes[rows] = codes if there is None else codes[there]


def _filled(values: pa.Array, fill: int) -> NDArray[np.int64]:
    return np.asarray(pc.fill_null(values.cast(pa.int64()), fill).to_numpy(zero_copy_only=False), np.int64)


def _as_json(lists: pa.Array) -> pa.Array:
    """Each list of texts as a text, of none or null null."""
    if lists.null_count == len(lists):
        return pa.nulls(len(lists), pa.string())
    return pa.array([json.dumps(one) if one else None for one in lists.to_pylist()], pa.string())


def _stepped(values: pa.Array) -> NDArray[np.uint16]:
    """Scores of 0..1 in steps; see columns.STEPS."""
    found = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
    steps = np.round(np.clip(np.nan_to_num(found), 0, 1) * STEPS)
    return np.where(np.isnan(found), NULL, steps).astype(np.uint16)


def _mapped(values: pa.Array, places: dict[str, int]) -> NDArray[np.int64]:
    encoded = pc.dictionary_encode(values)
    table = np.array([places[name] for name in encoded.dictionary.to_pylist()], np.int64)
    return np.asarray(table[encoded.indices.to_numpy(zero_copy_only=False)], np.int64)


def _bytes_of(texts: pa.Array) -> tuple[bytes, NDArray[np.int64]]:
    """The bytes of texts one after another, and how many each has."""
    _, offsets, data = texts.buffers()
    ends = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    return (bytes(memoryview(data)[int(ends[0]) : int(ends[-1])]) if data else b""), np.diff(ends)
