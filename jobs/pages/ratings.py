"""What the report says of ratings, read from their table in one pass: of each a bounded number of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd
from pyspark.sql import DataFrame, Row, Window
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from jobs.engines.frames import frame_of, map_batches, small, to_arrow
from jobs.lakes import Lake
from jobs.pages.values import Agreement, Held, Picture, Rated, Rating, ScoreMap
from jobs.rating.store import Kept
from udfs.ratings.extremes import BEST, EXTREMES, SIDES, UNSURE, WORST, extremes
from udfs.ratings.linear import PICKED

BINS = 40  # of a histogram
SPARE = 3  # times as many images are looked at as are shown: of each cluster of duplicates one is
COMPARED = 5000  # images, to twice as many, of which it is told how two ratings agree
LEAST_COMPARED = 20
Ids = tuple[int, str]  # an image and a rating
Shares = tuple[Sequence[Sequence[float]], bool, bool]  # shares, exact and whole of a ScoreMap


@dataclass(frozen=True)
class RatingRows:
    """Ratings, whose images still lack their pictures. chosen: by rating and side, rows of EXTREMES, best first."""

    ratings: list[Rating]
    chosen: dict[tuple[str, str], list[Row]]
    asked_maps: int
    no_maps: Mapping[str, str] = field(default_factory=dict)

    @property
    def image_ids(self) -> set[int]:
        return {row["image_id"] for rows in self.chosen.values() for row in rows}

    @property
    def to_map(self) -> list[Ids]:
        """Of which images a map by which rating is shown: some of the best, then as many of the worst."""
        return [
            (row["image_id"], rating.key)
            for rating in self.ratings if rating.key not in self.no_maps
            for side in (BEST, WORST)
            for row in self.chosen.get((rating.key, side), [])[: self.asked_maps]
        ]  # fmt: skip

    def shown(self, known: Mapping[int, Picture], maps: Mapping[Ids, Shares]) -> list[Rating]:
        """With pictures and maps. maps: of to_map what ScoreMap has of them; some may be missing."""

        def rated(key: str, side: str) -> list[Rated]:
            return [
                Rated(known[row["image_id"]], row["score"], row["percentile"], row["uncertainty"])
                for row in self.chosen.get((key, side), [])
                if row["image_id"] in known
            ]

        found = []
        for rating in self.ratings:
            best, worst = rated(rating.key, BEST), rated(rating.key, WORST)
            mapped = [
                ScoreMap(one, *maps[one.picture.image_id, rating.key])
                for side in (best, worst)
                for one in side[: self.asked_maps]
                if (one.picture.image_id, rating.key) in maps
            ]
            found.append(
                replace(rating, best=best, worst=worst, unsure=rated(rating.key, UNSURE), maps=mapped,
                        no_maps=self.no_maps.get(rating.key))
            )  # fmt: skip
        return found


def rating_rows(lake: Lake, kept: Sequence[Kept], count: int, maps: int, no_maps: Mapping[str, str]) -> RatingRows:
    """The ratings of the lake that have scores, in the order of their names. kept: its heads. count: images shown of
    each side. maps: shown of the best, and of the worst. no_maps: why a rating has none, by key."""
    heads = {one.head.key: one.head for one in kept}
    rows = lake.read("ratings")
    summed = rows.where(F.col("rating").isin(*heads)).groupBy("rating").agg(
        F.count("*").alias("images"), F.avg("score").alias("mean"), F.min("score").alias("low"),
        F.max("score").alias("high"),
    ).collect() if heads else []  # fmt: skip
    if not summed:
        return RatingRows([], {}, maps)
    scales = {
        row["rating"]: (0.0, 1.0) if heads[row["rating"]].kind == PICKED else (row["low"], row["high"])
        for row in summed
    }
    counts = _histograms(lake, rows, scales)
    agreement = _agreement(rows, sorted(scales), max(row["images"] for row in summed))
    ratings = []
    for row in sorted(summed, key=lambda one: str(one["rating"])):
        key, head = row["rating"], heads[row["rating"]]
        told: Mapping[str, Any] = head.about
        ratings.append(
            Rating(
                key, head.kind, str(told.get("units") or ""), row["images"], row["mean"], row["low"], row["high"],
                scales[key], counts[key], agreement=agreement.get(key, ()), figures=_figures(told),
                judgements=told["judgements"] if isinstance(told.get("judgements"), int) else None,
                licence=str(told.get("licence") or "") or None, source=str(told.get("source") or "") or None,
            )
        )  # fmt: skip
    probability = {key: heads[key].kind == PICKED for key in scales}
    return RatingRows(ratings, _chosen(lake, rows, probability, count), maps, no_maps)


def _figures(told: Mapping[str, Any]) -> list[Held]:
    """The held-out figures of a card; a card may come from elsewhere."""
    given = told.get("figures")
    found = []
    for one in given.values() if isinstance(given, Mapping) else ():
        try:
            numbers = [float(one[name]) for name in ("value", "low", "high", "chance")]
            found.append(Held(str(one["name"]), *numbers))
        except (KeyError, TypeError, ValueError):
            continue
    return found


def _histograms(lake: Lake, rows: DataFrame, scales: Mapping[str, tuple[float, float]]) -> dict[str, list[int]]:
    """Images by rating in BINS bins over its scale."""
    per_unit = [(key, low, BINS / (high - low) if high > low else 0.0) for key, (low, high) in scales.items()]
    scaled = rows.join(small(frame_of(lake.spark, per_unit, "rating string, low double, per_unit double")), "rating")
    place = F.least(F.floor((F.col("score") - F.col("low")) * F.col("per_unit")), F.lit(BINS - 1)).cast("int")
    counts = {key: [0] * BINS for key in scales}
    for row in scaled.groupBy("rating", place.alias("bin")).count().collect():
        counts[row["rating"]][max(row["bin"], 0)] += row["count"]
    return counts


def _agreement(rows: DataFrame, keys: Sequence[str], images: int) -> dict[str, list[Agreement]]:
    """Of each rating how it agrees with each other one, the most alike first, by a sample of the images."""
    if len(keys) < 2:
        return {}
    one_in = max(1, images // COMPARED)
    some = rows.where(F.pmod(F.xxhash64("image_id"), F.lit(one_in)) == 0).where(F.col("rating").isin(*keys))
    table = to_arrow(some.select("image_id", "rating", "score")).to_pandas()
    wide = table.pivot(index="image_id", columns="rating", values="score")
    ranks = wide.corr(method="spearman", min_periods=LEAST_COMPARED)
    both = wide.notna().astype(int)
    together = both.T @ both
    found: dict[str, list[Agreement]] = {}
    for key in keys:
        others = [
            Agreement(other, float(ranks.loc[key, other]), int(together.loc[key, other]))
            for other in keys
            if other != key and key in ranks and other in ranks and pd.notna(ranks.loc[key, other])
        ]
        found[key] = sorted(others, key=lambda one: (-one.correlation, one.other))
    return found


def _chosen(
    lake: Lake, rows: DataFrame, probability: Mapping[str, bool], count: int
) -> dict[tuple[str, str], list[Row]]:
    """The rows of each rating and side, the first first, one of each cluster of duplicates."""
    if not count:
        return {}
    schema = from_arrow_schema(EXTREMES)
    asked = rows.select("image_id", "rating", "score", "percentile", "uncertainty")
    parts = map_batches(asked, extremes(probability, SPARE * count), schema)
    order = Window.partitionBy("rating", "side").orderBy(F.desc("rank_by"), "image_id")
    first = parts.withColumn("n", F.row_number().over(order)).where(F.col("n") <= SPARE * count)
    found = first.orderBy("rating", "side", "n").collect()
    ids = sorted({row["image_id"] for row in found})
    wanted = frame_of(lake.spark, [(i,) for i in ids], "image_id bigint")
    copies = lake.read("duplicates").join(small(wanted), "image_id").select("image_id", "cluster_id").collect()
    cluster = {row["image_id"]: row["cluster_id"] for row in copies}
    chosen: dict[tuple[str, str], list[Row]] = {}
    for key in probability:
        for side in SIDES:
            seen: set[tuple[str, int]] = set()
            own: list[Row] = []
            for row in found:
                if row["rating"] != key or row["side"] != side:
                    continue
                image_id = row["image_id"]
                group = ("cluster", cluster[image_id]) if image_id in cluster else ("image", image_id)
                if group not in seen and len(own) < count:
                    seen.add(group)
                    own.append(row)
            if own:
                chosen[key, side] = own
    return chosen
