"""Clusters: duplicates with a keeper each, from exact copies and from near neighbours.

A connected component of near neighbours is only a candidate: each member must be close to its keeper, or it goes to a
cluster of its own, so that no chain a ~ b ~ c joins what does not match."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import LongType, StructField, StructType

from jobs.duplicates.components import connected_components
from jobs.duplicates.copies import ordered_images
from jobs.duplicates.keepers import keepers_of
from jobs.duplicates.near_rules import near_rule, uncalibrated_line
from jobs.engines.frames import keep, map_batches, read_parquet, write_parquet
from jobs.lakes import dense_ids
from jobs.stage import Context, Counts, Stage, submitted
from jobs.tables import TABLES
from udfs.images import alignment
from udfs.images.hash_distance import ALIKE_BITS, MIRRORED_BITS
from udfs.images.relation_names import RELATIONS, SAME_PIXELS
from udfs.images.starts import likeness, sketch
from udfs.vectors.near_rule import BACKGROUND_RANK, NO_BACKGROUND, NearRule

JOB = "clusters"
SKETCHES_AT_HAND = 256  # 100 KB each
EDGES = StructType([StructField("src", LongType(), False), StructField("dst", LongType(), False)])


def backgrounds(neighbours: DataFrame) -> DataFrame:
    """(image_id, background) of NearRule. neighbours: the table. An image with fewer neighbours has none."""
    return neighbours.where(F.col("rank") == BACKGROUND_RANK).select("image_id", F.col("cosine").alias("background"))


def near_edges(neighbours: DataFrame, hashes: DataFrame, rule: NearRule) -> DataFrame:
    """Pairs that may be near-duplicates, to be looked at again. neighbours: the table. hashes: (image_id,
    perceptual_hash, thumbnail) of `features`.

    A pair near enough is one where the cosine is certain, or the rule's evidence does, or the perceptual hashes are
    alike, whichever way the pictures lie: where an image has many copies, what is around it is these, and no margin
    tells. Only those that need evidence are aligned: at most k for each image, and few where the margin is asked for.
    Returns EDGES with src < dst, each pair once."""
    return edges_among(near_pairs(neighbours, rule), neighbours, hashes, rule)


def near_pairs(neighbours: DataFrame, rule: NearRule) -> DataFrame:
    """(src, dst, cosine) with src < dst, each pair once: neighbours whose cosine lets them be near-duplicates."""
    near = neighbours.where(F.col("cosine") >= rule.least)
    low, high = F.least("image_id", "neighbour_id"), F.greatest("image_id", "neighbour_id")
    return near.select(low.alias("src"), high.alias("dst"), "cosine").dropDuplicates(["src", "dst"])


def edges_among(pairs: DataFrame, neighbours: DataFrame, hashes: DataFrame, rule: NearRule) -> DataFrame:
    """As near_edges, of these pairs alone. pairs: of near_pairs. neighbours: of all images in them the background, and
    all that are certain."""
    pairs = _on_both_sides(pairs, backgrounds(neighbours), "background", "left")
    pairs = pairs.na.fill(NO_BACKGROUND, ["src_background", "dst_background"])
    margin = F.col("cosine") - (F.col("src_background") + F.col("dst_background")) / 2
    pairs = with_differing_bits(_on_both_sides(pairs, hashes, "perceptual_hash"))
    is_edge = (F.col("cosine") >= rule.certain) | (F.col("differing") <= ALIKE_BITS)
    edges = pairs.where(is_edge).select("src", "dst")
    # Two that are certain copies of a third are in one component anyway.
    certain = (
        neighbours.where(F.col("cosine") >= rule.certain)
        .groupBy("image_id")
        .agg(F.collect_set("neighbour_id").alias("certain"))
    )
    unsure = pairs.where(~is_edge & (margin >= rule.margin)).drop("differing")
    unsure = _on_both_sides(unsure, certain, "certain", "left")
    apart = ~F.coalesce(F.arrays_overlap("src_certain", "dst_certain"), F.lit(False))
    unsure = _on_both_sides(unsure.where(apart).drop("src_certain", "dst_certain"), hashes, "thumbnail")
    return edges.unionByName(map_batches(unsure, keep_matches(rule), EDGES))


def with_differing_bits(pairs: DataFrame) -> DataFrame:
    """Adds `differing`, the fewest bits in which src_perceptual_hash and dst_perceptual_hash differ over the eight
    symmetries of a picture.

    Of the DCT coefficients whose signs are the bits, a mirrored picture has those of odd frequencies of one axis
    negated, and a quarter turn swaps the axes too; the constant term and the median move a few bits more."""
    one, two, turned = F.col("src_perceptual_hash"), F.col("dst_perceptual_hash"), F.col("_turned")
    # The transpose of 8 x 8 bits, a step a column: as one expression it is of thousands of parts. Source: H. Warren,
    # Hacker's Delight, 2nd edition, section 7-3.
    rows = pairs.withColumn("_turned", two)
    for shift, mask in ((7, 0x00AA00AA00AA00AA), (14, 0x0000CCCC0000CCCC), (28, 0x00000000F0F0F0F0)):
        swapped = turned.bitwiseXOR(F.shiftright(turned, shift)).bitwiseAND(F.lit(mask))
        rows = rows.withColumn("_turned", turned.bitwiseXOR(swapped).bitwiseXOR(F.shiftleft(swapped, shift)))
    found = [
        F.bit_count(one.bitwiseXOR(hashed).bitwiseXOR(F.lit(mirrored)))
        for hashed in (two, turned)
        for mirrored in MIRRORED_BITS
    ]
    return rows.withColumn("differing", F.least(*found)).drop("_turned")


def _on_both_sides(pairs: DataFrame, of: DataFrame, column: str, how: str = "inner") -> DataFrame:
    """Adds a column of both images of each pair, as src_ and dst_. pairs: (src, dst, …). of: (image_id, column)."""
    for side in ("src", "dst"):
        named = of.select(F.col("image_id").alias(side), F.col(column).alias(f"{side}_{column}"))
        pairs = pairs.join(named, side, how)
    return pairs


def keep_matches(rule: NearRule) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Maps candidates (src, dst, cosine, and background and thumbnail of both) to EDGES, if the rule does."""

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        sketched = lru_cache(SKETCHES_AT_HAND)(sketch)
        for given in batches:
            batch = given.sort_by("src")  # most pairs of one picture lie together, and it is sketched once
            cosines, left, right = (
                batch.column(name).to_numpy() for name in ("cosine", "src_background", "dst_background")
            )
            pairs = list(zip(*(batch.column(f"{side}_thumbnail").to_pylist() for side in ("src", "dst")), strict=True))
            alike = np.array([likeness(*map(sketched, pair)) for pair in pairs], np.float64)
            likely = rule.likely(cosines, left, right, alike)
            aligned = np.zeros(len(pairs))
            for at in np.flatnonzero(likely):
                aligned[at] = alignment.alignment(*map(sketched, pairs[at]))
            kept = pa.array(likely & rule.matches(cosines, left, right, aligned), pa.bool_())
            yield batch.select(["src", "dst"]).filter(kept)

    return run


def with_copies(kept: DataFrame, copies: DataFrame) -> DataFrame:
    """Gives the copies of each representative its keeper, and makes clusters of copies that have no near-duplicate.

    kept: keepers.KEPT, of representatives. copies: the table. Returns the columns of `duplicates` but component_id and
    cluster_id, with component."""
    near = kept.select(
        F.col("image_id").alias("representative_id"), "keeper_id", "cosine_to_keeper", "relation", "agreement",
        "component",
    )  # fmt: skip
    rows = (
        copies.join(near, "representative_id", "left")
        .withColumn("keeper_id", F.coalesce("keeper_id", "representative_id"))
        .withColumn("component", F.coalesce("component", "representative_id"))
        .withColumn("cosine_to_keeper", F.coalesce("cosine_to_keeper", F.lit(1.0)))
        .withColumn("agreement", F.coalesce("agreement", F.lit(1.0)))
    )
    far = F.col("representative_id") != F.col("keeper_id")
    # Aggregates joined back, and no windows: a cluster may be a tenth of all images.
    same_pixels = F.when(F.col("image_id") != F.col("representative_id"), F.lit(SAME_PIXELS))
    told = F.when(far, named(F.col("relation"))).otherwise(same_pixels)
    rows = rows.withColumn("relation", told)
    sizes = rows.groupBy("keeper_id").agg(F.count("*").cast("int").alias("cluster_size"), F.max(far).alias("has_near"))
    return rows.join(sizes.where(F.col("cluster_size") > 1), "keeper_id").select(
        "image_id",
        "keeper_id",
        (F.col("image_id") == F.col("keeper_id")).alias("is_keeper"),
        # A keeper is called near where any member is.
        F.when(far | ((F.col("image_id") == F.col("keeper_id")) & F.col("has_near")), "near")
        .otherwise("exact")
        .alias("kind"),
        "cosine_to_keeper",
        "relation",
        "agreement",
        "cluster_size",
        "component",
    )


def named(bits: Column) -> Column:
    """Relations in words, a blank between them. bits: of to_bits."""
    words = [F.when(bits.bitwiseAND(1 << n) != 0, F.lit(name)) for n, name in enumerate(RELATIONS)]
    return F.concat_ws(" ", *words)


def look_alikes(kept: DataFrame) -> DataFrame:
    """The rows of `look_alikes`: images that the network and the rule take for copies of a would-be keeper, and that
    show something else; those that no other keeper took. kept: keepers.KEPT."""
    alone = kept.where(F.col("other_id").isNotNull() & (F.col("image_id") == F.col("keeper_id")))
    return alone.select(
        "image_id", "other_id", named(F.col("other_relation")).alias("relation"), F.col("other_cosine").alias("cosine"),
        F.col("other_agreement").alias("agreement"),
    )  # fmt: skip


def stable_ids(members: DataFrame, old: DataFrame, first: int) -> tuple[DataFrame, int]:
    """Gives each cluster the id that most of its members had before, or a new one.

    members: (image_id, keeper_id). old: the table `duplicates` as it was. Two clusters that claim one id: the one with
    more of its members gets it, then the one with the lowest. Returns ((keeper_id, cluster_id), new ids given)."""
    votes = (
        members.join(old.select("image_id", F.col("cluster_id").alias("was")), "image_id")
        .groupBy("keeper_id", "was")
        .agg(F.count("*").alias("votes"), F.min("image_id").alias("lowest"))
    )
    fewest = (-F.col("votes")).alias("fewest")

    def best(of: DataFrame, by: str, among: str) -> DataFrame:
        first = of.groupBy(by).agg(F.min(F.struct(fewest, "lowest", among)).alias("first"))
        return first.select(by, (-F.col("first.fewest")).alias("votes"), "first.lowest", f"first.{among}")

    won = best(best(votes, "keeper_id", "was"), "was", "keeper_id")
    given = won.select("keeper_id", F.col("was").alias("cluster_id"))
    clusters = members.groupBy("keeper_id").agg(F.min("image_id").alias("lowest"))
    fresh, new = dense_ids(clusters.join(given, "keeper_id", "left_anti"), ["lowest"], first, "cluster_id")
    return given.unionByName(fresh.select("keeper_id", "cluster_id")), new


def clusters(context: Context) -> Counts:
    """Writes `duplicates` anew from the other tables."""
    lake, settings, model = context.lake, context.config.clusters, context.config.embed.model
    rule = near_rule(context.config)
    embeddings = lake.require("embeddings")
    copies = keep(lake.require("copies"))
    try:
        neighbours, ordered = lake.require("neighbours"), ordered_images(lake)
        features = lake.read("features")
        hashes = features.select("image_id", "perceptual_hash", "thumbnail")
        looks = features.select("image_id", "look", "width", "height", "medium", "format")
        edges = keep(near_edges(neighbours, hashes, rule))
        edge_count = edges.count()
        components = keep(
            connected_components(edges, settings.engine, settings.max_edges_one_process, lake.staging("checkpoints"))
        )
        vectors = embeddings.where(F.col("model") == model).select("image_id", "vector")

        def with_details(rows: DataFrame) -> DataFrame:
            return rows.join(ordered, "image_id").join(vectors, "image_id").join(looks, "image_id")

        least, folder = rule.least - settings.keeper_slack, partial(lake.staging, JOB)
        same = frozenset(settings.same)
        kept, split = keepers_of(components, ordered, with_details, least, same, settings.max_component, folder)
        kept = keep(kept)
        members = keep(with_copies(kept, copies))
        first = lake.next_id("next_cluster_id")
        ids, new = stable_ids(members, lake.read("duplicates"), first)
        rows = members.join(keep(ids), "keeper_id")
        lowest = rows.groupBy("component").agg(F.min("cluster_id").alias("component_id"))
        rows = rows.join(lowest, "component")
        staged = lake.staging(JOB, "rows")
        write_parquet(rows.select(*TABLES["duplicates"].schema.names), staged)
        rows = read_parquet(lake.spark, staged, TABLES["duplicates"].schema)
        lake.mark(next_cluster_id=first + new)
        lake.overwrite("edges", edges.select(F.col("src").alias("image_id"), F.col("dst").alias("other_id")))
        lake.overwrite("duplicates", rows)
        lake.overwrite("look_alikes", look_alikes(kept))
        alike = lake.read("look_alikes").count()
        untried = kept.agg(F.sum("untried").alias("untried")).head()
        total = copies.count()
        found = rows.agg(F.count("*").alias("images"), F.countDistinct("cluster_id").alias("clusters")).head()
        images, groups = (int(found["images"]), int(found["clusters"])) if found else (0, 0)
        lake.clear_staging()
        return {
            "in": total, "out": total, "failed": 0, "edges": edge_count, "in_clusters": images, "clusters": groups,
            "look_alikes": alike, "split_components": split,
            "untried": int(untried["untried"] or 0) if untried else 0,
        }  # fmt: skip
    finally:
        lake.engine.forget_all()


def _settings(context: Context) -> dict[str, Any]:
    settings = context.config.clusters
    return {
        "model": context.config.embed.model,
        "rule": dataclasses.asdict(near_rule(context.config)),
        "keeper_slack": settings.keeper_slack,
        "same": list(settings.same),
        "engine": settings.engine,
        "max_component": settings.max_component,
    }


def _say_uncalibrated(context: Context) -> None:
    line = uncalibrated_line(context.config)
    if line:
        context.reporter.stage(JOB, line)


STAGE = Stage(
    name=JOB,
    does="group duplicates and choose keepers",
    reads=("images", "features", "embeddings", "copies", "neighbours"),  # times, sizes and names decide what is kept
    writes=("edges", "duplicates", "look_alikes"),
    settings=_settings,
    body=clusters,
    before=_say_uncalibrated,
)


if __name__ == "__main__":
    sys.exit(submitted(JOB))
