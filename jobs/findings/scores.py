"""Scores: raw properties of an image as numbers in [0, 1], low = bad. A threshold moves without an image being read."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs import tables
<<<<<<< HEAD
=======
from jobs.engines.frames import small
from jobs.findings import formulas
from jobs.findings.formulas import MOSTLY, QUALITY, Operations, Sizes
>>>>>>> i21d
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


<<<<<<< HEAD
Sides = tuple[float, float, float]


def usual_sides(features: DataFrame) -> Sides:
    """Quartiles of the logarithm of the side, which is the root of width x height, in pixels; 0 without images."""
    q1, median, q3 = percentiles(features.select(_log_side()), "log_side", 0.25, 0.5, 0.75) or [0.0, 0.0, 0.0]
    return q1, median, q3


def _log_side() -> Column:
    return F.log(F.sqrt(F.col("width").cast("double") * F.col("height"))).alias("log_side")


def quality_scores(features: DataFrame, sides: Sides) -> DataFrame:
    """(image_id, medium, tables.SCORES) of images with features, each from the properties of udfs.images.quality
    alone, but size_score, which holds an image against the lake. sides: of usual_sides of the lake.

    dark: 99th percentile of brightness (after cleanvision): even the lightest parts are dark.
    bright: one minus how much is clipped, half as much more where it is clipped in colour (a white background is
    clipped too), with half the peak, but of dark pictures less: strong colours are clipped in one channel, and count
    only where twice as much is white. Or minus the
    5th percentile of brightness, where that is more: even the darkest parts are light.
    blur: edge_frequency against HALF_EDGE_FREQUENCY. noise, blockiness: see half_at; blockiness also by the quality
    that a JPEG's header tells, the lower of the two. contrast: 1st to 99th percentile of brightness. information:
    entropy of at most 8 bits. flat: share of the picture that varies at all. brisque: one minus a hundredth of BRISQUE.
    quality: harmonic mean of TECHNICAL, each at least FLOOR: rises with each, and the worst weighs most.
    size: distance of the logarithm of the side from the median of the lake, against log 4 or three interquartile
    ranges. aspect ratio: short side by long side. colour: colourfulness by brightness, against GREY_SCALE."""
    side = features.select("*", _log_side())
    q1, median_side, q3 = sides
    usual = max(math.log(4.0), 3 * (q3 - q1))
    colour = F.col("colourfulness") / (F.lit(255.0) * F.col("brightness") + 1.0)
    coloured = F.least("clipped_colour", 2.0 * (F.col("clipped") - F.col("clipped_colour")))
    exposed = (F.col("clipped") + coloured / 2.0 + F.col("peak") / 2.0) / F.lit(FULL_EXPOSURE)
    exposed = F.least(exposed, F.lit(EXPOSED_BRIGHTNESS) * F.col("brightness"))
    unit = {
        "dark_score": F.col("brightness_p99"),
        "bright_score": 1.0 - F.greatest(exposed, F.col("brightness_p05")),
        "blur_score": F.col("edge_frequency") / (F.col("edge_frequency") + F.lit(HALF_EDGE_FREQUENCY)),
        "noise_score": half_at(F.col("noise"), HALF_NOISE, 2.0),
        "blockiness_score": F.least(
            half_at(F.col("blockiness"), HALF_BLOCKINESS, BLOCKINESS_POWER),
            half_at(1.0 / F.greatest(F.col("jpeg_quality"), F.lit(1.0)), 1 / HALF_JPEG_QUALITY, 1.0),
        ),
        "contrast_score": F.col("brightness_p99") - F.col("brightness_p01"),
        "information_score": F.col("entropy") / 8.0,
        "flat_score": 1.0 - F.col("flat_share"),
        "brisque_score": 1.0 - F.col("brisque") / 100.0,
        "size_score": F.lit(usual) / (F.lit(usual) + F.abs(F.col("log_side") - F.lit(median_side))),
        "aspect_ratio_score": F.least("width", "height") / F.greatest("width", "height"),
        "colour_score": colour / (colour + F.lit(GREY_SCALE)),
    }
    clipped = {name: F.least(F.lit(1.0), F.greatest(F.lit(0.0), value)) for name, value in unit.items()}
    scored = side.select("image_id", "medium", *(value.alias(name) for name, value in clipped.items()))
    return scored.withColumn("quality_score", _harmonic_mean(*TECHNICAL)).select("image_id", "medium", *tables.SCORES)


def half_at(value: Column, half: float, power: float) -> Column:
    """1 where the value is 0, one half where it is `half`, falling towards 0 as it rises. value: >= 0."""
    return F.lit(1.0) / (F.lit(1.0) + F.pow(value / F.lit(half), F.lit(power)))


def _harmonic_mean(*names: str) -> Column:
    """Of columns in [0, 1], each at least FLOOR."""
    total = sum((F.lit(1.0) / F.greatest(F.col(name), F.lit(FLOOR)) for name in names), F.lit(0.0))
    return F.lit(float(len(names))) / total
=======
def quality_scores(features: DataFrame) -> DataFrame:
    """(image_id, medium, tables.SCORES) of all images with features, by jobs.findings.formulas."""
    side = features.withColumn("log_side", F.log(F.sqrt(F.col("width").cast("double") * F.col("height"))))
    sizes = Sizes.of_quartiles(*(percentiles(side, "log_side", 0.25, 0.5, 0.75) or [0.0, 0.0, 0.0]))
    found = formulas.scores({name: F.col(name) for name in side.columns}, sizes, OF_COLUMNS)
    scored = side.select("image_id", "medium", *(value.alias(name) for name, value in found.items()))
    whole = formulas.quality_score({name: F.col(name) for name in found}, OF_COLUMNS)
    return scored.withColumn("quality_score", whole).select("image_id", "medium", *tables.SCORES)
>>>>>>> i21d


def share_in_colour(scores: DataFrame, limit: float) -> float:
    """The share of images, 0..1, that are not grey, or 0. scores: of quality_scores. limit: of colour_score."""
    row = scores.agg(F.avg((F.col(QUALITY[tables.GRAYSCALE]) >= F.lit(limit)).cast("double")).alias("share")).head()
    return 0.0 if row is None or row["share"] is None else float(row["share"])


def quality_issues(scores: DataFrame, limits: dict[str, float], in_colour: float) -> DataFrame:
    """A row for each score below its limit, but those of HIDDEN_BY; those OF_PHOTOGRAPHS only of photographs and of
    what is blank; grayscale only where the lake is MOSTLY in colour. limits: issue -> score. scores: of quality_scores.
    in_colour: of share_in_colour of the lake.
    Returns the columns of `issues`."""
<<<<<<< HEAD
    low = {issue: F.col(score) < F.lit(limits[issue]) for issue, score in QUALITY.items()}
    raised = dict(low)
    may = F.col("medium").isin(medium.PHOTOGRAPH, medium.BLANK)
    raised[tables.FLAT] = F.col(QUALITY[tables.FLAT]) < F.lit(limits[tables.FLAT]) * F.when(may, 1.0).otherwise(DRAWN)
    for issue in OF_PHOTOGRAPHS:
        raised[issue] = raised[issue] & may
    raised[tables.GRAYSCALE] = raised[tables.GRAYSCALE] & F.lit(in_colour > MOSTLY)
    for issue, hiding in HIDDEN_BY.items():
        for other in hiding:
            raised[issue] = raised[issue] & ~low[other]
=======
    coloured = F.col(QUALITY[tables.GRAYSCALE]) >= F.lit(limits[tables.GRAYSCALE])
    in_colour = scores.agg(F.avg(coloured.cast("double")).alias("in_colour"))
    is_raised = formulas.raised(
        {name: F.col(name) for name in tables.SCORES},
        limits,
        formulas.may_be_faulty(F.col("medium")),
        F.col("in_colour") > F.lit(MOSTLY),
        OF_COLUMNS,
    )
>>>>>>> i21d
    flags = [
        F.when(is_raised[issue], F.struct(F.lit(issue).alias("issue"), F.col(score).alias("score")))
        for issue, score in QUALITY.items()
    ]
    flagged = scores.select("image_id", F.explode(F.array_compact(F.array(*flags))).alias("flag"))
    return issue_rows(flagged.select("image_id", "flag.*"), "review")
