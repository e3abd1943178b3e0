"""Neighbours of a batch: copies and lists of neighbours, brought in line with what came and what went."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from jobs.duplicates.copies import BEST_FIRST, best_of_equal, content_key, with_order
from jobs.engines.frames import to_arrow
from jobs.live.draft import Draft
from jobs.live.known import ids_of
from jobs.live.nearest import candidates, with_cosines
from jobs.live.shelf import UNKNOWN
from udfs.vectors.cell_packs import vectors_of
from udfs.vectors.cosine import Ids
from udfs.vectors.merge import Pairs, merged


@dataclass
class Moved:
    """What came of a batch. Sets of image_ids. lost: took part in the search, and do no more, or are other pictures.
    fresh: take part now. changed_lists: have other neighbours than before. copies: have another representative or are
    new, or were such."""

    lost: set[int] = field(default_factory=set)
    fresh: set[int] = field(default_factory=set)
    changed_lists: set[int] = field(default_factory=set)
    copies: set[int] = field(default_factory=set)
    groups: set[int] = field(default_factory=set)  # representatives of which copies came or went


def move(draft: Draft, good: pa.Table, gone: set[int], hashes: set[str], k: int) -> Moved:
    """Brings `copies`, `neighbours` and `cells` in line. good: image_id, pixel_hash, vector of what was read, which the
    drafted `images` and `features` have already. gone: ids of what was removed or read anew. hashes: pixel hashes that
    images in gone had."""
    moved = Moved()
    new_ids = set(ids_of(good).tolist())
    before, after = _copies(draft, hashes | set(good["pixel_hash"].to_pylist()), gone)
    old_of = {row["image_id"]: row["representative_id"] for row in before.to_pylist()}
    new_of = {row["image_id"]: row["representative_id"] for row in after.to_pylist()}
    draft.replace("copies", before, after)
    moved.copies = {one for one in old_of.keys() | new_of.keys() if old_of.get(one) != new_of.get(one)} | new_ids
    moved.groups = {of[one] for one in moved.copies for of in (old_of, new_of) if one in of}
    were = {one for one, of in old_of.items() if one == of}
    are = {one for one, of in new_of.items() if one == of}
    moved.fresh = (are - were) | (are & new_ids)
    moved.lost = (were - are) | (were & gone)
    keys = dict(zip(after["image_id"].to_pylist(), after["content_key"].to_pylist(), strict=True))
    _place(draft, good, keys, moved)
    _lists(draft, moved, k)
    _cells(draft, moved)
    return moved


def _copies(draft: Draft, hashes: set[str], gone: set[int]) -> tuple[pa.Table, pa.Table]:
    """The rows of `copies` that these pixel hashes concern, as they were and as they are."""
    known = draft.known
    features = known.rows(
        "features", "pixel_hash", hashes, ("image_id", "pixel_hash", "width", "height", "jpeg_quality")
    )
    images = known.of_images("images", ids_of(features), ("image_id", "uri", "size_bytes", "modified_at"))
    rows = features.join(images, "image_id", join_type="inner")
    before = known.of_images("copies", {*ids_of(rows).tolist(), *gone})
    if not rows.num_rows:
        return before, before.schema.empty_table()
    frame = with_order(draft.frame(rows)).select(
        "image_id", "pixel_hash", content_key().alias("content_key"), *BEST_FIRST
    )
    after = frame.join(best_of_equal(frame), "pixel_hash").select("image_id", "representative_id", "content_key")
    return before, to_arrow(after)


def _place(draft: Draft, good: pa.Table, keys: dict[int, int], moved: Moved) -> None:
    """Puts new vectors on the shelf, and marks which take part in the search."""
    shelf, known = draft.known.shelf, draft.known
    ids = ids_of(good)
    gone = known.places(moved.lost)
    rows = np.array(list(gone.values()), np.int64)
    shelf.used[rows] = False
    if len(ids):
        known.put_places(
            ids, shelf.append(ids, np.array([keys[one] for one in ids.tolist()], np.int64), vectors_of(good["vector"]))
        )
    shelf.used[np.array(list(known.places(moved.fresh).values()), np.int64)] = True


def _lists(draft: Draft, moved: Moved, k: int) -> None:
    """Brings `neighbours` in line."""
    known, shelf = draft.known, draft.known.shelf
    orphans = set(ids_of(known.rows("neighbours", "neighbour_id", moved.lost)).tolist()) - moved.lost - moved.fresh
    asking = sorted(moved.fresh | orphans)
    nobody = np.empty(0, np.int64)
    found = Pairs(nobody, nobody, nobody, np.empty(0, np.float64))
    if asking:
        places = known.places(asking)
        rows = np.array([places[one] for one in asking], np.int64)
        fresh = np.array([one in moved.fresh for one in asking])
        found = with_cosines(shelf, candidates(shelf, rows, fresh, k))
    concerned = sorted({*asking, *found.rows.tolist()})
    old = known.of_images("neighbours", {*concerned, *moved.lost})
    after = _merged(draft, found, old, set(asking) | moved.lost, concerned, k)
    lists_before, lists_after = _by_image(old), _by_image(after)
    moved.changed_lists = {one for one in concerned if lists_before.get(one) != lists_after.get(one)} | set(asking)
    draft.replace("neighbours", old, after)
    least = np.full(len(concerned), UNKNOWN, np.float32)
    for number, one in enumerate(concerned):
        own = lists_after.get(one, [])
        if len(own) >= k:
            least[number] = own[-1][2]
    places = known.places(concerned)
    shelf.least[np.array([places[one] for one in concerned], np.int64)] = least


def _merged(draft: Draft, found: Pairs, old: pa.Table, anew: set[int], concerned: list[int], k: int) -> pa.Table:
    """The rows of `neighbours` of the images concerned. old: theirs. anew: those whose old lists count no more."""
    place = {one: number for number, one in enumerate(concerned)}
    kept = [row for row in old.to_pylist() if row["image_id"] not in anew]
    keys = dict(zip(*(draft.known.of_images("copies", {row["neighbour_id"] for row in kept})[name].to_pylist()
                      for name in ("image_id", "content_key")), strict=True))  # fmt: skip
    kept = [row for row in kept if row["neighbour_id"] in keys]
    parts = (
        [*(place[one] for one in found.rows.tolist()), *(place[row["image_id"]] for row in kept)],
        [*found.others.tolist(), *(row["neighbour_id"] for row in kept)],
        [*found.other_keys.tolist(), *(keys[row["neighbour_id"]] for row in kept)],
        [*found.cosines.tolist(), *(row["cosine"] for row in kept)],
    )
    rows, others, other_keys, cosines = (np.array(part) for part in parts)
    if not len(rows):
        return old.schema.empty_table()
    best = merged(Pairs(rows.astype(np.int64), others, other_keys, cosines), k)
    ids = np.array(concerned, np.int64)[best.rows]
    rank = np.arange(len(ids)) - np.searchsorted(best.rows, best.rows) + 1
    return pa.table(
        {"image_id": ids, "rank": rank.astype(np.int32), "neighbour_id": best.others, "cosine": best.cosines},
        schema=old.schema,
    )


def _by_image(lists: pa.Table) -> dict[int, list[tuple[int, int, float]]]:
    """(rank, neighbour, cosine) of each image, in order."""
    found: dict[int, list[tuple[int, int, float]]] = {}
    for row in lists.to_pylist():
        found.setdefault(row["image_id"], []).append((row["rank"], row["neighbour_id"], row["cosine"]))
    return {one: sorted(own) for one, own in found.items()}


def _cells(draft: Draft, moved: Moved) -> None:
    """Brings `cells` in line."""
    known, shelf = draft.known, draft.known.shelf
    fresh: Ids = np.array(sorted(moved.fresh), np.int64)
    places = known.places(fresh)
    rows = np.array([places[one] for one in fresh.tolist()], np.int64)
    cell = shelf.nearest_cell(shelf.vectors(rows)) if len(fresh) else np.empty(0, np.int32)
    now = {
        (one, own): key for one, own, key in zip(fresh.tolist(), cell.tolist(), shelf.keys[rows].tolist(), strict=True)
    }
    gone = [
        row for row in draft.keys_in_lake("cells", moved.lost).to_pylist() if (row["image_id"], row["cell"]) not in now
    ]
    added = [{"image_id": one, "cell": own, "content_key": key} for (one, own), key in now.items()]
    draft.put("cells", added, gone, new=not moved.lost)
