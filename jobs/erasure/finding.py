"""Finding: which images of a lake are meant, and what of other images hangs on them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from jobs.engines import delta_log
from jobs.engines.delta_files import names_of
from jobs.erasure.rewriting import ROWS, all_files, batches, opened, rows_of
from jobs.erasure.rules import Erased
from jobs.errors import LakeError
from udfs.stores import uris

COLUMNS = ("image_id", "uri", "owner")


def find(lake: str, owners: frozenset[str], given: frozenset[str], ids: frozenset[int]) -> Erased:
    """The images of these owners, of these URIs and of these ids, in all files of the table `images` that are there,
    of old versions too: so what was begun is found again. An image that belongs to somebody else by now is not meant.
    Memory: the ids and URIs that are found."""
    path = uris.join(lake, "images")
    if delta_log.version(path) is None:
        return Erased(np.empty(0, np.int64))
    current = {uris.join(path, *name.split("/")) for name in map(unquote, names_of(path))}
    found: dict[int, str] = {}
    old: dict[int, str] = {}
    for file in all_files(path):
        into = found if file in current else old
        try:
            with opened(file) as opened_file:
                for rows in batches(opened_file, ROWS, _columns(opened_file)):
                    into |= _matching(rows, owners, given, ids)
        except LakeError:
            if file in current:
                raise
            # A file of no version that was never finished: it goes with the others that no version names.
    known = _still_there(path, np.array(sorted(set(old) - set(found)), np.int64))
    found |= {image: uri for image, uri in old.items() if image not in known}
    return Erased(np.array(sorted(found), np.int64), frozenset(found.values()), owners)


def _columns(file: pq.ParquetFile) -> tuple[str, ...]:
    names = set(file.schema_arrow.names)
    return tuple(name for name in COLUMNS if name in names)


def _matching(rows: pa.Table, owners: frozenset[str], given: frozenset[str], ids: frozenset[int]) -> dict[int, str]:
    if not {"image_id", "uri"} <= set(rows.column_names):
        return {}
    wanted = pc.is_in(rows["image_id"], pa.array(sorted(ids), pa.int64()))
    wanted = pc.or_(wanted, pc.is_in(rows["uri"], pa.array(sorted(given), pa.string())))
    if "owner" in rows.column_names:
        wanted = pc.or_(wanted, pc.is_in(rows["owner"], pa.array(sorted(owners), pa.string())))
    mine = rows.filter(wanted)
    return dict(zip(mine["image_id"].to_pylist(), mine["uri"].to_pylist(), strict=True))


def _still_there(path: str, ids: NDArray[np.int64]) -> set[int]:
    """Which of some images the table has now."""
    erased = Erased(ids)
    return {row["image_id"] for row in rows_of(path, ("image_id",), lambda rows: erased.has(rows["image_id"]))}


def with_others(lake: str, erased: Erased) -> Erased:
    """The same with what hangs on it: clusters, copies, and images that lose a neighbour. Memory: as much as these."""

    def path(name: str) -> str:
        return uris.join(lake, name)

    members = rows_of(
        path("duplicates"), ("image_id", "cluster_id", "keeper_id", "cluster_size"),
        lambda rows: erased.has(rows["image_id"]) | erased.has(rows["keeper_id"]),
    )  # fmt: skip
    lost = Counter(row["cluster_id"] for row in members if _has(erased, row["image_id"]))
    sizes = {row["cluster_id"]: row["cluster_size"] for row in members}
    dissolved = {row["cluster_id"] for row in members if _has(erased, row["keeper_id"])}
    dissolved |= {cluster for cluster, gone in lost.items() if sizes[cluster] - gone < 2}
    copies = rows_of(
        path("copies"), ("image_id", "representative_id"),
        lambda rows: erased.has(rows["representative_id"]) & ~erased.has(rows["image_id"]),
    )  # fmt: skip
    in_place: dict[int, int] = {}
    for row in copies:
        stands = in_place.get(row["representative_id"], row["image_id"])
        in_place[row["representative_id"]] = min(stands, row["image_id"])
    orphans = rows_of(path("neighbours"), ("image_id", "neighbour_id"), lambda rows: erased.has(rows["neighbour_id"]))
    return replace(
        erased,
        clusters=frozenset(dissolved),
        smaller={cluster: gone for cluster, gone in lost.items() if cluster not in dissolved},
        in_place=in_place,
        orphans=np.array(sorted({row["image_id"] for row in orphans} - set(erased.ids.tolist())), np.int64),
    )


def _has(erased: Erased, image: int) -> bool:
    place = int(np.searchsorted(erased.ids, image))
    return place < len(erased.ids) and int(erased.ids[place]) == image
