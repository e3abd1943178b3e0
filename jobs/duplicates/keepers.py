"""Keepers: components of near-duplicates become clusters whose members are all close to the image that they keep.

The best image of a component that has no cluster yet becomes a keeper and takes all that match it, and so on. Small
components share a task, one of up to clusters.max_component images is a task of its own, and a larger one is worked off
in rounds that give the same answer: its best images choose the keepers among themselves in one task, and these take
what matches them from all others, in parts of bounded size."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.types import DoubleType, LongType, StructField, StructType

from jobs.duplicates.copies import ORDER, best_first
from jobs.engines.frames import map_groups, read_parquet, write_parquet
from udfs.images.looks import Look
from udfs.images.relation_names import to_bits
from udfs.images.relations import compare
from udfs.vectors.cell_packs import vectors_of
from udfs.vectors.keepers import Kept, Seen, around_keepers, in_components

Details = Callable[[DataFrame], DataFrame]
PACKED = 64  # images of a component up to which it shares a task with others
IMAGES_PER_TASK = 1024  # of packed components, about: an own task for each would cost milliseconds a pair
# Images of an oversized component that choose keepers in each round. Beyond 1,000 Spark sorts all rows of a component
# in one task to find them (spark.sql.optimizer.windowGroupLimitThreshold).
ROUNDS = (64, 256, 1000)
KEPT = StructType(
    [
        StructField("image_id", LongType(), False),
        StructField("keeper_id", LongType(), False),
        StructField("cosine_to_keeper", DoubleType(), False),
        StructField("relation", LongType(), False),  # bits of udfs.images.relations, 0 of a keeper
        StructField("agreement", DoubleType(), False),
        StructField("component", LongType(), False),
        StructField("other_id", LongType(), True),  # see udfs.vectors.keepers.Kept
        StructField("other_cosine", DoubleType(), False),
        StructField("other_relation", LongType(), False),
        StructField("other_agreement", DoubleType(), False),
        StructField("untried", LongType(), False),
    ]
)
LOOKS_AT_HAND = 128  # opened at once, 150 KB each
_ORDER = list(ORDER.items())


def second_look(table: pa.Table, same: frozenset[str]) -> Callable[[int, int], Seen]:
    """What compares the pictures of two rows. table: look, width, height, medium, format. same: relations after which
    they show the same; several may hold, and all must be among these."""
    names = ("look", "width", "height", "medium", "format")
    rows = list(zip(*(table[name].to_pylist() for name in names), strict=True))

    @lru_cache(LOOKS_AT_HAND)
    def opened(row: int) -> Look:
        return Look.of(*rows[row])

    def look(row: int, keeper: int) -> Seen:
        found = compare(opened(row), opened(keeper))
        same_picture = same.issuperset(found.relations)
        return Seen(same_picture, to_bits(found.relations), found.better == 1, found.agreement)

    return look


def _kept(table: pa.Table, kept: Kept) -> pa.Table:
    """KEPT."""
    ids = table["image_id"].to_numpy()
    return pa.table(
        {
            "image_id": pa.array(ids, pa.int64()),
            "keeper_id": pa.array(ids[kept.keeper], pa.int64()),
            "cosine_to_keeper": pa.array(kept.cosine, pa.float64()),
            "relation": pa.array(kept.relation, pa.int64()),
            "agreement": pa.array(kept.agreement, pa.float64()),
            "component": table["component"].cast(pa.int64()),
            "other_id": pa.array(ids[kept.other], pa.int64(), mask=kept.other < 0),
            "other_cosine": pa.array(kept.other_cosine, pa.float64()),
            "other_relation": pa.array(kept.other_relation, pa.int64()),
            "other_agreement": pa.array(kept.other_agreement, pa.float64()),
            "untried": pa.array(kept.untried, pa.int64()),
        }
    )


def choose_keepers(least: float, same: frozenset[str]) -> Callable[[pa.Table], pa.Table]:
    """Maps whole components, or a part of one, to KEPT. least: the cosine to a keeper. The table: image_id, component,
    vector, what second_look asks for, and copies.BEST_FIRST."""

    def run(table: pa.Table) -> pa.Table:
        table = table.take(pc.sort_indices(table, sort_keys=_ORDER))  # nulls come last
        vectors, look = vectors_of(table["vector"]), second_look(table, same)
        return _kept(table, in_components(vectors, table["component"].to_numpy(), least, look))

    return run


def join_keepers(least: float, same: frozenset[str]) -> Callable[[pa.Table], pa.Table]:
    """Maps a part of a component and the keepers given to it to KEPT of those that a keeper takes. The table: as for
    choose_keepers, and is_given."""

    def run(table: pa.Table) -> pa.Table:
        order = [("is_given", "descending"), *_ORDER]
        table = table.take(pc.sort_indices(table, sort_keys=order))  # nulls come last
        given = pc.sum(table["is_given"]).as_py() or 0
        vectors, look = vectors_of(table["vector"]), second_look(table, same)
        kept = around_keepers(vectors, least, look, given)
        taken = np.flatnonzero(kept.keeper >= 0)[given:]  # the given ones stand first, and are their own
        return _kept(table, kept).take(pa.array(taken, pa.int64()))

    return run


def keepers_of(
    components: DataFrame,
    ordered: DataFrame,
    with_details: Details,
    least: float,
    same: frozenset[str],
    max_component: int,
    folder: Callable[[str], str],
) -> tuple[DataFrame, int]:
    """The cluster of each image that is in a component.

    components: (image_id, component). ordered: of copies.ordered_images. with_details: adds what choose_keepers asks
    for to rows with an image_id. least: the cosine to a keeper. same: see second_look. folder: names a place for
    intermediate files. Where no component is larger than max_component, it costs one aggregate to know that. Returns
    (KEPT, number of components that were still larger after all rounds and were dealt out in parts, each with keepers
    of its own)."""
    small = min(PACKED, max_component)
    spark, left, done = components.sparkSession, components, []
    for number in range(len(ROUNDS) + 1):
        sizes = left.groupBy("component").agg(F.count("*").alias("images"))
        found = sizes.agg(
            F.coalesce(F.sum(F.when(F.col("images") <= small, F.col("images"))), F.lit(0)).alias("packed"),
            F.count(F.when(F.col("images") > max_component, 1)).alias("oversized"),
        ).head()
        packed, oversized = (int(found["packed"]), int(found["oversized"])) if found else (0, 0)
        if not oversized or number == len(ROUNDS):
            break
        large = left.join(sizes.where(F.col("images") > max_component), "component")
        staged = folder(f"keepers-{number}")
        best = min(ROUNDS[number], max_component)
        _round(large, heads(large, ordered, best), with_details, (least, same), max_component, staged)
        done += [read_parquet(spark, f"{staged}/{part}", KEPT) for part in ("chosen", "taken")]
        for part in done[-2:]:
            left = left.join(part.select("image_id"), "image_id", "left_anti")
    buckets = -(-packed // min(IMAGES_PER_TASK, max_component)) or 1
    is_packed = F.col("images") <= small
    dealt = (
        left.join(sizes, "component")
        .withColumn("whole", F.when(is_packed, F.lit(-1)).otherwise(F.col("component")).cast("long"))
        .withColumn("part", F.when(is_packed, _place("component", F.lit(buckets))).otherwise(_part(max_component)))
        .drop("images")
    )
    kept = map_groups(with_details(dealt), ["whole", "part"], choose_keepers(least, same), KEPT)
    for part in done:
        kept = kept.unionByName(part)
    return kept, oversized


def _part(max_component: int) -> Column:
    """The part of its component that an image is dealt to. images: of the component."""
    return _place("image_id", F.ceil(F.col("images") / max_component))


def _place(name: str, of: Column) -> Column:
    """A column dealt to so many places by a hash, as BIGINT."""
    return F.pmod(F.xxhash64(name), of).cast("long")


def heads(members: DataFrame, ordered: DataFrame, best: int) -> DataFrame:
    """The best so many images of each component. members: (image_id, component). Returns (image_id, component).

    Each task passes on only its own best: no component is gathered in one."""
    order = Window.partitionBy("component").orderBy(*best_first())
    rows = members.join(ordered, "image_id")
    return rows.withColumn("n", F.row_number().over(order)).where(F.col("n") <= best).select("image_id", "component")


def _round(
    large: DataFrame,
    best: DataFrame,
    with_details: Details,
    by: tuple[float, frozenset[str]],
    max_component: int,
    staged: str,
) -> None:
    """Writes KEPT of images that get a cluster: `chosen` among the best ones, `taken` from the others by their keepers.

    large: (image_id, component, images), members of oversized components. best: see heads. staged: a folder."""
    chosen = map_groups(with_details(best), ["component"], choose_keepers(*by), KEPT)
    write_parquet(chosen, f"{staged}/chosen")
    chosen = read_parquet(large.sparkSession, f"{staged}/chosen", KEPT)
    others = (
        large.join(chosen.select("image_id"), "image_id", "left_anti")
        .withColumn("part", _part(max_component))
        .select("image_id", "component", "part", F.lit(False).alias("is_given"))
    )
    each_part = F.explode(F.sequence(F.lit(0).cast("long"), F.ceil(F.col("images") / max_component) - 1))
    given = (
        chosen.where(F.col("image_id") == F.col("keeper_id"))
        .join(large.select("component", "images").distinct(), "component")
        .select("image_id", "component", each_part.alias("part"), F.lit(True).alias("is_given"))
    )
    rows = with_details(others.unionByName(given))
    taken = map_groups(rows, ["component", "part"], join_keepers(*by), KEPT)
    write_parquet(taken, f"{staged}/taken")
