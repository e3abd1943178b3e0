"""Issues: says what is wrong with each image, with a score in [0, 1], low = bad, and the image that is the reason.

Raw properties become scores, scores become issues: a threshold moves without an image being read again."""

from __future__ import annotations

import math
import sys
from functools import reduce
from typing import Any

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from jobs import embed, tables
from jobs.copies import ranked_images
from jobs.runs import Context, Counts, StageResult, run_stage
from jobs.tables import TABLES
from udfs import shards

JOB = "issues"
# Issue, its score, and its setting in the section `issues` has the issue's name. All of these ask for a look only.
QUALITY = {
    tables.DARK: "dark_score",
    tables.BRIGHT: "bright_score",
    tables.BLURRY: "blur_score",
    tables.LOW_INFORMATION: "information_score",
    tables.ODD_SIZE: "size_score",
    tables.ODD_ASPECT_RATIO: "aspect_ratio_score",
    tables.GRAYSCALE: "colour_score",
    tables.OUTLIER: "outlier_score",
}
OUTLIER_NEIGHBOURS = 5
HALF_AT = 4.5  # robust deviations below the median at which an image is half an outlier
# Half of the photographs' sharpness at their contrast lies well above; a Gaussian blur of 3 pixels below. Measured with
# pictures decoded to a short side of 224 or more.
BLUR_SCALE = 0.03
GREY_SCALE = 0.02  # colourfulness by brightness at which a picture still looks grey
STATISTIC_DECIMALS = 3  # exact percentiles keep every distinct value: rounded, they are few at any number of images


def percentiles(values: DataFrame, column: str, *shares: float) -> list[float] | None:
    """Percentiles of a column, or None where it holds no value.

    Exact on values rounded to STATISTIC_DECIMALS, so the same whatever the partitions."""
    rounded = values.select(F.round(column, STATISTIC_DECIMALS).alias("v")).where(F.col("v").isNotNull())
    wanted = ", ".join(repr(share) for share in shares)
    row = rounded.agg(F.expr(f"percentile(v, array({wanted}))").alias("p")).head()
    return None if row is None or row["p"] is None else [float(value) for value in row["p"]]


def robust_centre(values: DataFrame, column: str) -> tuple[float, float]:
    """Median and 1.4826 x median absolute deviation (the standard deviation of a normal distribution) of a column;
    (0, 0) where it holds no value."""
    middle = percentiles(values, column, 0.5)
    if middle is None:
        return 0.0, 0.0
    away = percentiles(values.select(F.abs(F.col(column) - F.lit(middle[0])).alias("away")), "away", 0.5) or [0.0]
    return middle[0], 1.4826 * away[0]


def below(value: Column, centre: float, spread: float, floor: float) -> Column:
    """1 at or above the centre, falling as a value lies further below it: 0.5 at HALF_AT deviations.

    floor: the least spread taken, so that a set of nearly equal images does not call each other odd."""
    z = F.greatest(F.lit(0.0), (F.lit(centre) - value) / F.lit(max(spread, floor)))
    return F.lit(1.0) / (F.lit(1.0) + F.pow(z / HALF_AT, F.lit(2.0)))


def nearness(neighbours: DataFrame, duplicates: DataFrame) -> DataFrame:
    """How near each representative is to the others that are not its duplicates.

    neighbours, duplicates: the tables. Returns (image_id, nearness: mean cosine to the nearest OUTLIER_NEIGHBOURS of
    them, nearest_id). Images all of whose neighbours are in their cluster are left out."""
    here = duplicates.select("image_id", F.col("cluster_id").alias("here"))
    there = duplicates.select(F.col("image_id").alias("neighbour_id"), F.col("cluster_id").alias("there"))
    both = neighbours.join(here, "image_id", "left").join(there, "neighbour_id", "left")
    others = both.where(F.col("here").isNull() | F.col("there").isNull() | (F.col("here") != F.col("there")))
    order = Window.partitionBy("image_id").orderBy("rank")
    first = others.withColumn("n", F.row_number().over(order)).where(F.col("n") <= OUTLIER_NEIGHBOURS)
    return first.groupBy("image_id").agg(
        F.avg("cosine").alias("nearness"), F.min(F.struct("n", "neighbour_id"))["neighbour_id"].alias("nearest_id")
    )


def score_images(features: DataFrame, near: DataFrame, ranked: DataFrame) -> DataFrame:
    """The table `scores`, and nearest_id. near: see nearness. ranked: see copies.ranked_images.

    dark: 99th percentile of brightness (after cleanvision). bright: one minus the mean of its 5th percentile and mean.
    blur: sharpness against BLUR_SCALE x the squared contrast, for a dull picture has weak edges without being blurred.
    information: entropy of at most 8 bits. size: distance of the logarithm of the side from the median of the lake,
    against log 4 or three interquartile ranges. aspect ratio: short side by long side. colour: colourfulness
    by brightness, against GREY_SCALE. outlier: nearness against its distribution in the lake."""
    side = features.withColumn("log_side", F.log(F.sqrt(F.col("width").cast("double") * F.col("height"))))
    q1, median_side, q3 = percentiles(side, "log_side", 0.25, 0.5, 0.75) or [0.0, 0.0, 0.0]
    usual = max(math.log(4.0), 3 * (q3 - q1))
    centre, spread = robust_centre(near, "nearness")
    of_representative = near.withColumnRenamed("image_id", "representative_id")
    scored = side.join(ranked.select("image_id", "representative_id"), "image_id").join(
        of_representative, "representative_id", "left"
    )
    edges = F.lit(BLUR_SCALE) * F.pow(F.lit(255.0) * F.col("contrast"), F.lit(2.0))
    colour = F.col("colourfulness") / (F.lit(255.0) * F.col("brightness") + 1.0)
    unit = {
        "dark_score": F.col("brightness_p99"),
        "bright_score": 1.0 - (F.col("brightness_p05") + F.col("brightness")) / 2.0,
        "blur_score": F.when(F.col("contrast") > 0, F.col("sharpness") / (F.col("sharpness") + edges)).otherwise(0.0),
        "information_score": F.col("entropy") / 8.0,
        "size_score": F.lit(usual) / (F.lit(usual) + F.abs(F.col("log_side") - F.lit(median_side))),
        "aspect_ratio_score": F.least("width", "height") / F.greatest("width", "height"),
        "colour_score": colour / (colour + F.lit(GREY_SCALE)),
        "outlier_score": F.when(F.col("nearness").isNotNull(), below(F.col("nearness"), centre, spread, 0.02)),
    }
    # least and greatest pass over a null: without the `when`, an image without a score would get 0.
    clipped = {
        name: F.when(value.isNotNull(), F.least(F.lit(1.0), F.greatest(F.lit(0.0), value)))
        for name, value in unit.items()
    }
    return scored.select("image_id", *[value.alias(name) for name, value in clipped.items()], "nearest_id")


def quality_issues(scores: DataFrame, limits: dict[str, float]) -> DataFrame:
    """A row for each score below its limit. limits: issue -> score. Returns the columns of `issues`."""
    # A flat picture has no edges either: it is called flat, not blurred.
    has_content = F.col("information_score") >= F.lit(limits[tables.LOW_INFORMATION])
    flags = [
        F.when(
            (F.col(score) < F.lit(limits[issue])) & (has_content if issue == tables.BLURRY else F.lit(True)),
            F.struct(
                F.lit(issue).alias("issue"),
                F.col(score).alias("score"),
                (F.col("nearest_id") if issue == tables.OUTLIER else F.lit(None).cast("long")).alias("evidence_id"),
            ),
        )
        for issue, score in QUALITY.items()
    ]
    flagged = scores.select("image_id", F.explode(F.array_compact(F.array(*flags))).alias("flag"))
    return _issues(flagged.select("image_id", "flag.*"), "review")


def corrupted_issues(failures: DataFrame, images: DataFrame) -> DataFrame:
    """Images whose bytes are no image. What could not be fetched says nothing of the image: it stays in `failures`.

    A broken shard stands for all that could not be read of it, but most of it may be good: it is to be looked at."""
    spoilt = failures.where((F.col("stage") == embed.JOB) & F.col("error").isin(*SPOILT)).select("image_id")
    is_shard = F.col("shard").isNull() & F.lower("uri").rlike(f"[.]({'|'.join(shards.KINDS)})$")
    rows = spoilt.join(images.select("image_id", is_shard.alias("is_shard")), "image_id").withColumns(
        {"issue": F.lit(tables.CORRUPTED), "score": F.lit(0.0), "evidence_id": F.lit(None).cast("long")}
    )
    return _issues(rows.where(~F.col("is_shard")), "remove").unionByName(_issues(rows.where("is_shard"), "review"))


SPOILT = (
    "empty",
    "not_an_image",
    "unsupported",
    "truncated",
    "corrupt",
    "too_many_pixels",
    "too_many_bytes",
    "crashed",
)


def duplicate_issues(ranked: DataFrame, duplicates: DataFrame) -> DataFrame:
    """exact_duplicate: an image with the same pixels as a better one, its representative. near_duplicate: a
    representative that its cluster does not keep. The evidence is the better one; the score is one minus the cosine."""
    exact = ranked.where(F.col("image_id") != F.col("representative_id")).select(
        "image_id",
        F.lit(tables.EXACT_DUPLICATE).alias("issue"),
        F.lit(0.0).alias("score"),
        F.col("representative_id").alias("evidence_id"),
    )
    representatives = ranked.where(F.col("image_id") == F.col("representative_id")).select("image_id")
    near = (
        duplicates.where(~F.col("is_keeper"))
        .join(representatives, "image_id", "left_semi")
        .select(
            "image_id",
            F.lit(tables.NEAR_DUPLICATE).alias("issue"),
            F.greatest(F.lit(0.0), F.least(F.lit(1.0), 1 - F.col("cosine_to_keeper"))).alias("score"),
            F.col("keeper_id").alias("evidence_id"),
        )
    )
    return _issues(exact.unionByName(near), "remove")


def leak_issues(duplicates: DataFrame, images: DataFrame) -> DataFrame:
    """An image with a duplicate in another split; the evidence is the best one there, the keeper where it can be.

    Skew: a cluster is handled by its splits, of which there are few, never pair by pair. The score is one minus the
    cosine of the image and the evidence through their keeper (the lower of the two)."""
    members = duplicates.join(images.select("image_id", "split", "uri"), "image_id").where(F.col("split").isNotNull())
    best = members.groupBy("cluster_id", "split").agg(
        F.min(
            F.struct(~F.col("is_keeper"), 1 - F.col("cosine_to_keeper"), "uri", "image_id", "cosine_to_keeper")
        ).alias("b")
    )
    there = best.select(
        F.col("cluster_id").alias("there_cluster"), F.col("split").alias("there_split"),
        F.col("b.image_id").alias("evidence_id"), F.col("b.cosine_to_keeper").alias("there_cosine"),
        F.struct(F.col("b.col1"), F.col("b.col2"), F.col("b.uri")).alias("order"),
    )  # fmt: skip
    pairs = members.join(
        there, (F.col("cluster_id") == F.col("there_cluster")) & (F.col("split") != F.col("there_split"))
    )
    cosine = F.least("cosine_to_keeper", "there_cosine")
    chosen = pairs.groupBy("image_id").agg(
        F.min(
            F.struct("order", "evidence_id", F.greatest(F.lit(0.0), F.least(F.lit(1.0), 1 - cosine)).alias("score"))
        ).alias("c")
    )
    rows = chosen.select("image_id", F.lit(tables.LEAK).alias("issue"), "c.score", "c.evidence_id")
    return _issues(rows, "review")


def _issues(rows: DataFrame, suggestion: str) -> DataFrame:
    """rows: (image_id, issue, score, evidence_id). Returns the columns of `issues`."""
    return rows.withColumns(
        {"suggestion": F.lit(suggestion), "suggested_label": F.lit(None).cast("string"), "score": F.round("score", 6)}
    ).select(*TABLES["issues"].schema.names)


def issues(context: Context) -> Counts:
    """Writes `scores` and `issues` anew from the other tables."""
    lake, config = context.lake, context.config
    ranked = ranked_images(lake, config.embed.model).persist()
    images, features = lake.require("images", "catalog"), lake.read("features")
    duplicates = lake.require("duplicates", "clusters")
    try:
        close = nearness(lake.require("neighbours", "neighbours"), duplicates)
        scores = score_images(features, close, ranked).persist()
        scored = scores.count()
        lake.overwrite("scores", scores)
        parts = [
            quality_issues(scores, {issue: getattr(config.issues, issue) for issue in QUALITY}),
            corrupted_issues(lake.read("failures"), images),
            duplicate_issues(ranked, duplicates),
            leak_issues(duplicates, images),
        ]
        lake.overwrite("issues", reduce(DataFrame.unionByName, parts))
        failed = lake.read("failures").where(F.col("stage") == embed.JOB).count()
        found = lake.read("issues")
        return {
            "in": images.count(), "out": scored, "failed": failed, "issues": found.count(),
            "images_with_issues": found.select("image_id").distinct().count(),
        }  # fmt: skip
    finally:
        lake.spark.catalog.clearCache()


def _settings(context: Context) -> dict[str, Any]:
    limits = {issue: getattr(context.config.issues, issue) for issue in QUALITY}
    return {"model": context.config.embed.model, **limits}


def run(context: Context) -> StageResult:
    inputs = ("images", "features", "failures", "neighbours", "duplicates")
    return run_stage(context, JOB, inputs, _settings(context), issues)


def main(argv: list[str]) -> int:
    from jobs.command import main as command

    return command([JOB, *argv])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
