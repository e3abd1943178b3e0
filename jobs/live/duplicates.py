"""Duplicates of a batch: edges, clusters, look-alikes and leaks, anew where something that they rest on changed.

What is chosen among the members of a component rests on that component alone. So the components that a batch touches,
as they were and as they are, are all that is looked at; a batch pays for their size."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial, reduce

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.clusters import edges_among, look_alikes, stable_ids, with_copies
from jobs.config import Config
from jobs.duplicates.components import COMPONENTS
from jobs.duplicates.copies import BEST_FIRST, with_order
from jobs.duplicates.keepers import keepers_of
from jobs.duplicates.near_rules import near_rule
from jobs.engines.frames import from_arrow, keep, to_arrow
from jobs.findings import leaks
from jobs.live.draft import Draft
from jobs.live.known import ids_of
from jobs.live.neighbours import Moved
from udfs.vectors.components import label_components
from udfs.vectors.near_rule import BACKGROUND_RANK, NO_BACKGROUND, NearRule

NAME = "live"
LOOKED_AT = ("image_id", "look", "width", "height", "medium", "format")


@dataclass
class Touched:
    """Ids of images: in_clusters: whose cluster was or is another, with all others of it. alike: whose look-alike was
    or is another. next_cluster_id: the first never given out."""

    in_clusters: set[int] = field(default_factory=set)
    alike: set[int] = field(default_factory=set)
    next_cluster_id: int = 0


def touch(draft: Draft, config: Config, moved: Moved) -> Touched:
    """Brings `edges`, `duplicates`, `look_alikes` and `leaks` in line."""
    rule = near_rule(config)
    nodes = _edges(draft, rule, moved)
    component, alive = _closure(draft, nodes)
    known, lake = draft.known, draft.lake
    first = lake.next_id("next_cluster_id")
    out = Touched(next_cluster_id=first)
    copies = known.rows("copies", "representative_id", alive)
    members = {*ids_of(copies).tolist(), *moved.copies, *moved.lost, *component}
    old, old_alike = known.of_images("duplicates", members), known.of_images("look_alikes", members)
    if not copies.num_rows:
        rows, alike = old.schema.empty_table(), old_alike.schema.empty_table()
    else:
        rows, alike, new = _clusters(draft, config, rule, component, copies, old, first)
        out.next_cluster_id = first + new
    draft.replace("duplicates", old, rows)
    draft.replace("look_alikes", old_alike, alike)
    out.in_clusters = {*ids_of(old).tolist(), *ids_of(rows).tolist()}
    out.alike = {*ids_of(old_alike).tolist(), *ids_of(alike).tolist()}
    _leaks(draft, out.in_clusters | moved.copies | moved.lost, rows, copies)
    return out


def _edges(draft: Draft, rule: NearRule, moved: Moved) -> set[int]:
    """Brings `edges` in line. Returns the images whose component may be another."""
    known = draft.known
    turned = moved.changed_lists
    old = _edges_of(draft, turned | moved.lost)
    lists = known.of_images("neighbours", turned, where=f"cosine >= {rule.least:.17g}").to_pylist()
    cosine = {_pair(row["image_id"], row["neighbour_id"]): row["cosine"] for row in lists}
    still = sorted(pair for pair in old - cosine.keys() if not moved.lost & set(pair) - moved.fresh)
    places = known.places({one for pair in still for one in pair})
    still = [pair for pair in still if set(pair) <= places.keys()]
    if still:
        left, right = (np.array([places[pair[end]] for pair in still], np.int64) for end in (0, 1))
        cosines = known.shelf.cosines(left, right)
        cosine |= {pair: value for pair, value in zip(still, cosines.tolist(), strict=True) if value >= rule.least}
    now = _matching(draft, rule, cosine) if cosine else set()
    removed, added = old - now, now - old
    named = [{"image_id": low, "other_id": high} for low, high in sorted(added)]
    draft.put("edges", named, [{"image_id": low, "other_id": high} for low, high in sorted(removed)], new=not removed)
    ends = {one for pair in removed | added for one in pair}
    # Of copies, and of what is another picture now, the members of a cluster may be others though no edge is.
    return ends | moved.lost | moved.fresh | moved.groups


def _matching(draft: Draft, rule: NearRule, cosine: dict[tuple[int, int], float]) -> set[tuple[int, int]]:
    """Those pairs that are edges."""
    known = draft.known
    ends = {one for pair in cosine for one in pair}
    low, high = (np.array([pair[end] for pair in cosine], np.int64) for end in (0, 1))
    pairs = pa.table({"src": low, "dst": high, "cosine": np.array(list(cosine.values()))})
    asked = f"rank = {BACKGROUND_RANK} OR cosine >= {rule.certain:.17g}"  # of a whole list
    lists = known.of_images("neighbours", ends, where=asked)
    seen = known.of_images("features", _doubtful(rule, pairs, lists), ("image_id", "thumbnail"))
    hashes = known.of_images("features", ends, ("image_id", "perceptual_hash")).join(seen, "image_id")
    found = to_arrow(edges_among(draft.frame(pairs), draft.frame(lists), draft.frame(hashes), rule))
    return set(zip(found["src"].to_pylist(), found["dst"].to_pylist(), strict=True))


def _doubtful(rule: NearRule, pairs: pa.Table, lists: pa.Table) -> list[int]:
    """The images whose thumbnails decide: few of many, and they are most of what is known of an image. lists: rows of
    `neighbours`, the backgrounds among them."""
    of_rank = lists.filter(pc.equal(lists["rank"], BACKGROUND_RANK))
    background = dict(zip(ids_of(of_rank).tolist(), of_rank["cosine"].to_pylist(), strict=True))
    sides = (pairs["src"].to_pylist(), pairs["dst"].to_pylist())
    left, right = (np.array([background.get(one, NO_BACKGROUND) for one in side]) for side in sides)
    which = np.flatnonzero(rule.doubtful(pairs["cosine"].to_numpy(), left, right)).tolist()
    return sorted({side[row] for side in sides for row in which})


def _closure(draft: Draft, nodes: set[int]) -> tuple[dict[int, int], set[int]]:
    """The component of each image that has an edge, of the components of these images; and all of them, with those of
    the images that have none."""
    seen, left, edges = set(nodes), set(nodes), set[tuple[int, int]]()
    while left:
        found = _edges_of(draft, left)
        edges |= found
        left = {one for pair in found for one in pair} - seen
        seen |= left
    low, high = (np.array([pair[end] for pair in edges], np.int64) for end in (0, 1))
    ids, lowest = label_components(low, high)
    return dict(zip(ids.tolist(), lowest.tolist(), strict=True)), seen


def _edges_of(draft: Draft, ids: Iterable[int]) -> set[tuple[int, int]]:
    given = list(ids)
    found = [draft.known.rows("edges", by, given) for by in ("image_id", "other_id")]
    return {
        pair for table in found for pair in zip(*(table[name].to_pylist() for name in table.column_names), strict=True)
    }


def _pair(one: int, other: int) -> tuple[int, int]:
    return (one, other) if one < other else (other, one)


def _clusters(
    draft: Draft, config: Config, rule: NearRule, component: dict[int, int], copies: pa.Table, old: pa.Table, first: int
) -> tuple[pa.Table, pa.Table, int]:
    """The rows of `duplicates` and of `look_alikes` of these components and copies, and how many ids are new."""
    known, lake, settings = draft.known, draft.lake, config.clusters
    ids = list(component)
    images = known.of_images("images", ids, ("image_id", "uri", "size_bytes", "modified_at"))
    features = known.of_images("features", ids, (*LOOKED_AT, "jpeg_quality"))
    described = features.drop_columns(["look"]).join(images, "image_id", join_type="inner")
    ordered = with_order(draft.frame(described)).select("image_id", *BEST_FIRST)
    looks = draft.frame(features.select(list(LOOKED_AT)))
    vector = _vectors(draft, ids)
    named = pa.table({"image_id": np.array(ids, np.int64), "component": np.array(list(component.values()), np.int64)})
    components = from_arrow(lake.spark, named, COMPONENTS)

    def with_details(frame: DataFrame) -> DataFrame:
        return frame.join(ordered, "image_id").join(vector, "image_id").join(looks, "image_id")

    least = rule.least - settings.keeper_slack
    same, folder = frozenset(settings.same), partial(lake.staging, NAME, "keepers")
    kept, _ = keepers_of(components, ordered, with_details, least, same, settings.max_component, folder)
    kept = keep(kept)
    members = keep(with_copies(kept, draft.frame(copies)))
    given, new = stable_ids(members, draft.frame(old), first)
    rows_now = members.join(keep(given), "keeper_id")
    lowest = rows_now.groupBy("component").agg(F.min("cluster_id").alias("component_id"))
    found = to_arrow(rows_now.join(lowest, "component").select(*old.column_names))
    return found, to_arrow(look_alikes(kept)), new


def _leaks(draft: Draft, ids: set[int], duplicates: pa.Table, copies: pa.Table) -> None:
    """Brings `leaks` in line. ids: images whose cluster, or whose copies, may be others. duplicates, copies: whole
    clusters."""
    known = draft.known
    several = [name for name in leaks.ISSUE if len(known.distinct(name)) > 1]
    old = known.of_images("leaks", {*ids, *ids_of(duplicates).tolist()})
    found = old.schema.empty_table()
    if several and duplicates.num_rows:
        clustered, copied = draft.frame(duplicates), draft.frame(copies)
        own = ids_of(duplicates)
        images = draft.frame(known.of_images("images", own, ("image_id", "uri", *leaks.ISSUE)))
        embeddings = _vectors(draft, own.tolist())
        pairs = [leaks.pairs_between(clustered, copied, images, between) for between in several]
        found = to_arrow(leaks.with_cosines(reduce(DataFrame.unionByName, pairs), embeddings))
    draft.replace("leaks", old, found)


def _vectors(draft: Draft, ids: list[int]) -> DataFrame:
    """(image_id, vector) of images that have one."""
    shelf, places = draft.known.shelf, draft.known.places(ids)
    values = pa.array(shelf.vectors(np.array([places[one] for one in ids], np.int64)).ravel())
    vectors = pa.FixedSizeListArray.from_arrays(values, shelf.dimension).cast(pa.list_(pa.float32()))
    return draft.frame(pa.table({"image_id": pa.array(ids, pa.int64()), "vector": vectors}))
