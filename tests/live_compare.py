"""What differs between two lakes of the same images that were numbered in another order: ids stand for URIs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deltalake import DeltaTable

from jobs import tables
from jobs.tables import TABLES
from tests.lake_compare import SHOWN, same, tolerance
from udfs.albums import packs

# What a batch leaves to the next whole run: it holds an image against the lake as a whole.
OF_WHOLE_RUNS = (tables.OUTLIER, tables.CLASS_OUTLIER, tables.WRONG_LABEL)
COMPARED = (
    "images", "features", "embeddings", "failures", "copies", "neighbours", "edges", "duplicates", "look_alikes",
    "leaks", "scores", "issues", "concepts", "ratings", "albums",
)  # fmt: skip
IDS = ("image_id", "representative_id", "neighbour_id", "other_id", "keeper_id", "evidence_id")
LEFT_OUT = {
    "duplicates": ("cluster_id", "component_id"), "failures": ("at", "attempt"), "scores": tables.OUTLIER_SCORES,
}  # fmt: skip

Rows = dict[tuple[Any, ...], dict[str, Any]]


def differences(
    a: Path, b: Path, apart: Mapping[str, set[str]] | None = None, names: Sequence[str] = COMPARED
) -> dict[str, list[str]]:
    """By table what differs, in lines for a person; the last says how many rows. apart: by table, columns that may
    differ. names: of the tables."""
    found = {}
    for name in names:
        ours, theirs = (rows(lake, name) for lake in (a, b))
        lines = [f"only in a: {key}" for key in sorted(ours.keys() - theirs.keys(), key=repr)]
        lines += [f"only in b: {key}" for key in sorted(theirs.keys() - ours.keys(), key=repr)]
        for key in ours.keys() & theirs.keys():
            for column in ours[key]:
                one, other = ours[key][column], theirs[key][column]
                if column not in (apart or {}).get(name, ()) and not same(one, other, tolerance(name, column)):
                    lines.append(f"{key} {column}: {one!r} and {other!r}"[:300])
                    break
        if lines:
            found[name] = [*lines[: 4 * SHOWN], f"{len(lines)} in all"]
    return found


def rows(lake: Path, name: str) -> Rows:
    """The rows of a table by their key, ids as URIs; of `albums` a row for each picture of an owner."""
    if name == "albums":
        return _albums(lake)
    images = DeltaTable(str(lake / "images")).to_pyarrow_table(columns=["image_id", "uri"])
    uri = dict(zip(images["image_id"].to_pylist(), images["uri"].to_pylist(), strict=True))
    out: Rows = {}
    left_out = LEFT_OUT.get(name, ())
    for row in DeltaTable(str(lake / name)).to_pyarrow_table().to_pylist():
        if name == "issues" and row["issue"] in OF_WHOLE_RUNS:
            continue
        told = {
            column: uri.get(value, value) if column in IDS else value
            for column, value in row.items()
            if column not in left_out
        }
        if name == "edges":
            told["image_id"], told["other_id"] = sorted((told["image_id"], told["other_id"]))
        key = tuple(told[column] for column in TABLES[name].key)
        if key in out:
            raise ValueError(f"{lake}/{name}: {key} stands twice")
        out[key] = told
    return out


def _albums(lake: Path) -> Rows:
    held: dict[str, list[tuple[int, packs.Pictures]]] = {}
    for row in DeltaTable(str(lake / "albums")).to_pyarrow_table().to_pylist():
        pack = packs.unpacked(row["facts"], row["uris"], row["pairs"], row["vectors"])
        held.setdefault(row["owner"], []).append((row["run"], pack))
    out: Rows = {}
    for owner, parts in held.items():
        found = packs.newest(parts)
        for fact, uri, vector in zip(found.facts, found.uris, found.vectors, strict=True):
            told = {column: fact[column].item() for column in ("mark", "taken", "quality", "by_camera")}
            out[owner, uri.decode()] = {**told, "vector": vector.tobytes()}
    return out
