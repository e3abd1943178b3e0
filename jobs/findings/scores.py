"""Scores: raw properties of an image as numbers in [0, 1], low = bad. A threshold moves without an image being read."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs import tables
from jobs.findings import formulas
from jobs.findings.formulas import MOSTLY, QUALITY, Operations, Sizes
from jobs.findings.rows import issue_rows

STATISTIC_DECIMALS = 3  # exact percentiles keep every distinct value: rounded, they are few at any number of images


def _choose(condition: Column, here: Column, elsewhere: Column) -> Column:
    return F.when(condition, here).otherwise(elsewhere)


OF_COLUMNS = Operations(number=F.lit, least=F.least, greatest=F.greatest, power=F.pow, absolute=F.abs, choose=_choose)


def percentiles(values: DataFrame, column: str, *shares: float) -> list[float] | None:
    """Percentiles of a column, or None where it holds no value.

    Exact on values rounded to STATISTIC_DECIMALS, so the same whatever the partitions."""
    rounded = values.select(F.round(column, STATISTIC_DECIMALS).alias("v")).where(F.col("v").isNotNull())
    wanted = ", ".join(repr(share) for share in shares)
    row = rounded.agg(F.expr(f"percentile(v, array({wanted}))").alias("p")).head()
    return None if row is None or row["p"] is None else [float(value) for value in row["p"]]


Sides = tuple[float, float, float]


def usual_sides(features: DataFrame) -> Sides:
    """Quartiles of the logarithm of the side, which is the root of width x height, in pixels; 0 without images."""
    q1, median, q3 = percentiles(features.select(_log_side()), "log_side", 0.25, 0.5, 0.75) or [0.0, 0.0, 0.0]
    return q1, median, q3


def _log_side() -> Column:
    return F.log(F.sqrt(F.col("width").cast("double") * F.col("height"))).alias("log_side")


def quality_scores(features: DataFrame, sides: Sides) -> DataFrame:
    """(image_id, medium, tables.SCORES) of images with features, by jobs.findings.formulas. sides: of usual_sides of
    the lake."""
    side = features.select("*", _log_side())
    found = formulas.scores({name: F.col(name) for name in side.columns}, Sizes.of_quartiles(*sides), OF_COLUMNS)
    scored = side.select("image_id", "medium", *(value.alias(name) for name, value in found.items()))
    whole = formulas.quality_score({name: F.col(name) for name in found}, OF_COLUMNS)
    return scored.withColumn("quality_score", whole).select("image_id", "medium", *tables.SCORES)


def share_in_colour(scores: DataFrame, limit: float) -> float:
    """The share of images, 0..1, that are not grey, or 0. scores: of quality_scores. limit: of colour_score."""
    row = scores.agg(F.avg((F.col(QUALITY[tables.GRAYSCALE]) >= F.lit(limit)).cast("double")).alias("share")).head()
    return 0.0 if row is None or row["share"] is None else float(row["share"])


def quality_issues(scores: DataFrame, limits: dict[str, float], in_colour: float) -> DataFrame:
    """A row for each score below its limit, but those of HIDDEN_BY; those OF_PHOTOGRAPHS only of photographs and of
    what is blank; grayscale only where the lake is MOSTLY in colour. limits: issue -> score. scores: of quality_scores.
    in_colour: of share_in_colour of the lake.
    Returns the columns of `issues`."""
    is_raised = formulas.raised(
        {name: F.col(name) for name in tables.SCORES},
        limits,
        formulas.may_be_faulty(F.col("medium")),
        F.lit(in_colour > MOSTLY),
        OF_COLUMNS,
    )
    flags = [
        F.when(is_raised[issue], F.struct(F.lit(issue).alias("issue"), F.col(score).alias("score")))
        for issue, score in QUALITY.items()
    ]
    flagged = scores.select("image_id", F.explode(F.array_compact(F.array(*flags))).alias("flag"))
    return issue_rows(flagged.select("image_id", "flag.*"), "review")
