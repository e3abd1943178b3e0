"""A file of judgements: read, checked and brought to the images of a lake; CSV, Parquet or JSON lines."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from jobs.errors import InputError
from jobs.rating.vectors import Ids, LakeRows
from udfs.ratings.linear import BETTER, PICKED, RATING
from udfs.stores import uris

ENDINGS = (".csv", ".parquet", ".jsonl")
MOST_BYTES = 1 << 30
MOST_ROWS = 5_000_000
MOST_RATER = 200  # characters
NAMED = 3  # faults, or images, that a line names
YES, NO = {"yes", "true", "1", "y", "t"}, {"no", "false", "0", "n", "f"}
WORTH_LEAST = 1e-6


@dataclass(frozen=True)
class Picks:
    """Judgements of images that the lake has a vector of. kind: of linear.KINDS. ids, others: (n,) images, others of
    pairs the worse ones, else as ids. targets, weights: (n,). raters: (n,) places of names, which are empty where the
    file names none. digest: SHA-256 of the file. notes: what was left out or averaged."""

    kind: str
    ids: Ids
    others: Ids
    targets: NDArray[np.float64]
    weights: NDArray[np.float64]
    raters: NDArray[np.int64]
    names: list[str]
    digest: str
    notes: list[str]

    def __len__(self) -> int:
        return len(self.ids)


def read(file: Path, lake: LakeRows) -> Picks:
    """Raises InputError, one line: a file that cannot be read, columns that are missing or too many, values that are
    none, not one image that the lake knows."""
    table, digest = _table(file)
    names = set(table.column_names)
    kinds = [kind for kind, needed in ((RATING, {"rating"}), (PICKED, {"picked"}), (BETTER, {"better", "worse"}))
             if needed <= names]  # fmt: skip
    if len(kinds) != 1:
        raise InputError(
            f"{file}: needs one of rating; picked; better and worse (found: {', '.join(table.column_names)})"
        )
    kind = kinds[0]
    if kind != BETTER and not {"uri", "image_id"} & names:
        raise InputError(f"{file}: needs the column uri or image_id (found: {', '.join(table.column_names)})")
    if not table.num_rows:
        raise InputError(f"{file}: holds no judgement")
    targets = _targets(table, kind, file)
    weights = _numbers(table["weight"], "weight", file) if "weight" in names else np.ones(table.num_rows)
    if (weights <= 0).any():
        raise InputError(f"{file}: row {int(np.argmax(weights <= 0)) + 1}: weight must be above 0")
    weights = np.maximum(weights, WORTH_LEAST)
    if kind == BETTER:
        asked = [_texts(table["better"], "better", file), _texts(table["worse"], "worse", file)]
    elif "image_id" in names:
        asked = [_texts(table["image_id"], "image_id", file)]
    else:
        asked = [_texts(table["uri"], "uri", file)]
    found = _ids(asked, lake, file)
    raters, rater_names = _raters(table, file)
    return _whole(kind, found, asked, targets, weights, raters, rater_names, digest, lake, file)


def _whole(
    kind: str, found: list[Ids], asked: list[list[str]], targets: NDArray[np.float64], weights: NDArray[np.float64],
    raters: NDArray[np.int64], names: list[str], digest: str, lake: LakeRows, file: Path,
) -> Picks:  # fmt: skip
    notes = []
    known = np.logical_and.reduce([ids >= 0 for ids in found])
    missing = [
        text for ids, texts in zip(found, asked, strict=True) for at, text in zip(ids, texts, strict=True) if at < 0
    ]
    if missing:
        some = ", ".join(_short(text) for text in list(dict.fromkeys(missing))[:NAMED])
        told = (
            f"{len(missing):,} judged images are not in the lake ({some}{', …' if len(set(missing)) > NAMED else ''})"
        )
        if not known.any():
            raise InputError(f"{file}: {told}: none is left")
        notes.append(f"{told}: left out")
    with_vector, _ = lake.vectors(np.concatenate([ids[known] for ids in found]))
    has = np.logical_and.reduce([np.isin(ids, with_vector) for ids in found])
    if (known & ~has).any():
        notes.append(f"{int((known & ~has).sum()):,} judged images have no vector of {lake.model}: left out")
    if not (known & has).any():
        raise InputError(f"{file}: no judged image has a vector of {lake.model}")
    keep = np.flatnonzero(known & has)
    ids, others = found[0][keep], found[-1][keep]
    targets, weights, raters = targets[keep], weights[keep], raters[keep]
    if kind == BETTER:
        same = ids == others
        if same.any():
            raise InputError(f"{file}: {int(same.sum()):,} pairs are of one picture ({int(ids[same][0])})")
        return Picks(kind, ids, others, targets, weights, raters, names, digest, notes)
    order = np.lexsort((raters, ids))
    first = np.flatnonzero(np.append(True, (np.diff(ids[order]) != 0) | (np.diff(raters[order]) != 0)))
    if len(first) < len(order):
        sums = np.add.reduceat(weights[order], first)
        means = np.add.reduceat((weights * targets)[order], first) / sums
        spread = np.maximum.reduceat(targets[order], first) - np.minimum.reduceat(targets[order], first)
        unlike = int((spread > 0).sum())
        notes.append(
            f"{len(order) - len(first):,} images are judged again by the same person, {unlike:,} otherwise: averaged"
        )
        ids, targets, weights, raters = ids[order][first], means, sums, raters[order][first]
        others = ids
    return Picks(kind, ids, others, targets, weights, raters, names, digest, notes)


def _table(file: Path) -> tuple[pa.Table, str]:
    if file.suffix not in ENDINGS:
        raise InputError(f"{file}: must end in {', '.join(ENDINGS)}")
    try:
        if not file.is_file():
            raise InputError(f"{file}: is no file")
        if file.stat().st_size > MOST_BYTES:
            raise InputError(f"{file}: more than {MOST_BYTES} bytes")
        data = file.read_bytes()
        if file.suffix == ".parquet":
            table = pq.read_table(pa.BufferReader(data))
        elif file.suffix == ".csv":
            text = dict.fromkeys(
                ("uri", "image_id", "rating", "picked", "better", "worse", "rater", "weight"), pa.string()
            )
            table = pacsv.read_csv(
                pa.BufferReader(data),
                convert_options=pacsv.ConvertOptions(column_types=text, strings_can_be_null=True),
                parse_options=pacsv.ParseOptions(newlines_in_values=True),
            )  # fmt: skip
        else:
            lines = data.decode("utf-8").splitlines()
            table = pa.Table.from_pylist([json.loads(line) for line in lines if line.strip()])
    except (OSError, ValueError, AttributeError, RecursionError, pa.ArrowException) as error:
        raise InputError(f"{file}: cannot be read: {' '.join(str(error).split())[:300]}") from error
    if table.num_rows > MOST_ROWS:
        raise InputError(f"{file}: {table.num_rows:,} judgements, at most {MOST_ROWS:,} are read")
    return table, hashlib.sha256(data).hexdigest()


def _targets(table: pa.Table, kind: str, file: Path) -> NDArray[np.float64]:
    if kind == BETTER:
        return np.ones(table.num_rows)
    if kind == RATING:
        return _numbers(table["rating"], "rating", file)
    found = np.zeros(table.num_rows)
    for row, value in enumerate(table["picked"].to_pylist()):
        text = str(value).strip().lower().removesuffix(".0")
        if text not in YES and text not in NO:
            raise InputError(f"{file}: row {row + 1}: picked must be yes or no, got {_short(str(value))}")
        found[row] = text in YES
    return found


def _numbers(column: pa.ChunkedArray, name: str, file: Path) -> NDArray[np.float64]:
    """Raises InputError for what is no finite number."""
    found = np.full(len(column), np.nan)
    for row, value in enumerate(column.to_pylist()):
        try:
            found[row] = np.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            found[row] = np.nan
    bad = np.flatnonzero(~np.isfinite(found) | (np.abs(found) > 1e12))
    if len(bad):
        rows = ", ".join(str(row + 1) for row in bad[:NAMED].tolist())
        raise InputError(
            f"{file}: {name} must be a number: {len(bad):,} are none (row {rows}{', …' if len(bad) > NAMED else ''})"
        )
    return found


def _texts(column: pa.ChunkedArray, name: str, file: Path) -> list[str]:
    texts = ["" if value is None else str(value).strip() for value in column.to_pylist()]
    if "" in texts:
        raise InputError(f"{file}: row {texts.index('') + 1}: no {name}")
    return texts


def _ids(asked: list[list[str]], lake: LakeRows, file: Path) -> list[Ids]:
    """The image_id of each text, which is one or a URI; -1 where the lake has none."""
    every = list(dict.fromkeys(text for texts in asked for text in texts))
    numbers = {text: int(text) for text in every if text.isascii() and text.isdigit() and len(text) < 19}
    by_uri = {}
    for text in every:
        if text not in numbers:
            try:
                by_uri[text] = uris.canonical(text, base=str(Path.cwd()))
            except ValueError as error:
                raise InputError(f"{file}: {_short(text)}: {error}") from error
    of: dict[str, int] = {}
    if numbers:
        rows = lake.rows(
            "images", ("image_id",), pc.field("image_id").isin(pa.array(list(numbers.values()), pa.int64()))
        )
        there = set(rows["image_id"].to_pylist())
        of |= {text: number for text, number in numbers.items() if number in there}
    if by_uri:
        rows = lake.rows("images", ("image_id", "uri"), pc.field("uri").isin(pa.array(list(by_uri.values()))))
        there_by = dict(zip(rows["uri"].to_pylist(), rows["image_id"].to_pylist(), strict=True))
        of |= {text: there_by[uri] for text, uri in by_uri.items() if uri in there_by}
    return [np.array([of.get(text, -1) for text in texts], np.int64) for texts in asked]


def _raters(table: pa.Table, file: Path) -> tuple[NDArray[np.int64], list[str]]:
    if "rater" not in table.column_names:
        return np.zeros(table.num_rows, np.int64), []
    texts = _texts(table["rater"], "rater", file)
    if any(len(text) > MOST_RATER for text in texts):
        raise InputError(f"{file}: rater must have at most {MOST_RATER} characters")
    names = sorted(set(texts))
    place = {name: at for at, name in enumerate(names)}
    return np.array([place[text] for text in texts], np.int64), names


def _short(text: str) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= 120 else line[:117] + "…")
