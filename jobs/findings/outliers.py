"""Outliers: images far from all others, and far from the others of their label.

An image is held against its nearest neighbours and against how the images of the lake vary (udfs.vectors.outliers), and
against what is usual for its label. Each is a distance below the median in robust standard deviations, so no scale is
given. The most deviant images of a lake of one subject are no finding: only where more deviate far than its tail lets
one expect are they outliers (udfs.vectors.foreign_share)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from jobs import tables
from jobs.duplicates.copies import redundant_ids
from jobs.engines.frames import frame_of, map_groups, small, to_arrow
from jobs.findings.label_issues import has_label
from jobs.findings.rows import issue_rows
from jobs.findings.scores import STATISTIC_DECIMALS
from jobs.neighbours import BROADCAST_IMAGES, step
from jobs.pages.format import portion
from udfs.vectors.cell_packs import vectors_of
from udfs.vectors.cosine import DECIMALS, Vectors
from udfs.vectors.foreign_share import BINS, STEP, Foreign, foreign_share
from udfs.vectors.outliers import Spread, class_cosines, direction, learn

# The nearer neighbours may be outliers of the same kind: three pages of text among photographs have one another.
FIRST_RANK, LAST_RANK = 4, 10
SAMPLE = 8192  # images that the variation of a lake is learnt from: 42 MB of 1,280 numbers on the driver
LEAST_CLASS = 30  # images of a label, duplicates not counted, from which its median says what is usual
MOST_CLASSES = 4096  # labels, the largest ones, whose directions every task gets: 21 MB of 1,280 numbers
CLASS_SAMPLE = 128  # images of a label that its direction is the mean of
HALF_AT = 3.0  # robust standard deviations at which the score is one half
# The least spreads taken, so that a set of nearly equal images does not call each other odd.
LEAST_SPREAD = {"nearness": 0.02, "commonness": 0.1, "class_cosine": 0.02}
DIRECTION = pa.schema([("place", pa.int64()), ("vector", pa.list_(pa.float32()))])
MEASURED = pa.schema(
    [("image_id", pa.int64()), ("place", pa.int64()), ("commonness", pa.float64()), ("class_cosine", pa.float64())]
)
Batches = Iterator[pa.RecordBatch]


def nearness(neighbours: DataFrame, duplicates: DataFrame) -> DataFrame:
    """How near each representative is to the others that are not its duplicates.

    neighbours, duplicates: the tables. Returns (image_id, nearness: mean cosine to those among its neighbours of
    FIRST_RANK to LAST_RANK, or to all of them where no other is of these ranks, nearest_id, nearest_cosine). Images
    all of whose neighbours are in their cluster are left out."""
    here = duplicates.select("image_id", F.col("cluster_id").alias("here"))
    there = duplicates.select(F.col("image_id").alias("neighbour_id"), F.col("cluster_id").alias("there"))
    first = neighbours.where(F.col("rank") <= LAST_RANK)
    both = first.join(here, "image_id", "left").join(there, "neighbour_id", "left")
    others = both.where(F.col("here").isNull() | F.col("there").isNull() | (F.col("here") != F.col("there")))
    further = F.avg(F.when(F.col("rank") >= FIRST_RANK, F.col("cosine")))
    found = others.groupBy("image_id").agg(
        F.round(F.coalesce(further, F.avg("cosine")), DECIMALS).alias("nearness"), _first_neighbour()
    )
    return found.select(
        "image_id",
        "nearness",
        F.col("first.neighbour_id").alias("nearest_id"),
        F.col("first.cosine").alias("nearest_cosine"),
    )


def _first_neighbour() -> Column:
    """first: (rank, neighbour_id, cosine) of the nearest in a group of `neighbours`."""
    return F.min(F.struct("rank", "neighbour_id", "cosine")).alias("first")


def different_images(copies: DataFrame, duplicates: DataFrame) -> DataFrame:
    """(image_id, content_key) of one image of each cluster and of all that have none. copies, duplicates: the
    tables."""
    representatives = copies.where(F.col("image_id") == F.col("representative_id"))
    return representatives.select("image_id", "content_key").join(redundant_ids(duplicates), "image_id", "left_anti")


def spread_of(embeddings: DataFrame, different: DataFrame) -> Spread:
    """How the images of the lake vary, from a sample drawn by content: it depends neither on ids nor on partitions."""
    drawn = different.orderBy("content_key", "image_id").limit(SAMPLE)
    table = to_arrow(embeddings.join(small(drawn), "image_id"))
    table = table.sort_by([("content_key", "ascending"), ("image_id", "ascending")])
    return learn(vectors_of(table["vector"]) if table.num_rows else np.empty((0, 1), np.float32))


def classes_of(different: DataFrame, labelled: DataFrame) -> tuple[list[str], int]:
    """The labels that are judged, the largest first; and how many are large enough, of which MOST_CLASSES are taken.

    labelled: (image_id, label). With fewer than two there is nothing that `outlier` does not say."""
    sizes = different.join(labelled, "image_id").groupBy("label").agg(F.count("*").alias("images"))
    large = sizes.where(F.col("images") >= LEAST_CLASS)
    numbered = large.select("label", "images", F.count("*").over(Window.partitionBy()).alias("of"))
    rows = numbered.orderBy(F.desc("images"), "label").limit(MOST_CLASSES).collect()
    return ([row["label"] for row in rows], rows[0]["of"]) if len(rows) > 1 else ([], 0)


def class_directions(embeddings: DataFrame, different: DataFrame, placed: DataFrame, count: int) -> Vectors:
    """The mean direction of each class, (count, d). placed: (image_id, place).

    A class may be any share of the lake: Spark cuts each partition to the first CLASS_SAMPLE of a class before it
    brings them together (WindowGroupLimit, from 3.5 on)."""
    order = Window.partitionBy("place").orderBy("content_key", "image_id")
    drawn = different.join(placed, "image_id").withColumn("number", F.row_number().over(order))
    drawn = drawn.where(F.col("number") <= CLASS_SAMPLE).select("image_id", "place", "number")
    rows = embeddings.join(drawn, "image_id").select("place", "number", "vector")
    found = to_arrow(map_groups(rows, ["place"], _mean, from_arrow_schema(DIRECTION))).sort_by("place")
    vectors = vectors_of(found["vector"])
    directions = np.zeros((count, vectors.shape[1]), np.float32)
    directions[found["place"].to_numpy()] = vectors
    return directions


def _mean(table: pa.Table) -> pa.Table:
    """DIRECTION of one class. The table: place, number, vector."""
    vectors = vectors_of(table.sort_by("number")["vector"])
    return pa.table({"place": table["place"].slice(0, 1), "vector": [direction(vectors)]}, schema=DIRECTION)


def measure(spread: Spread, directions: Vectors | None) -> Callable[[Batches], Batches]:
    """Maps batches of (image_id, place, vector) to MEASURED. directions: of class_directions, None where no image has
    a class: then place is -1 throughout."""

    def run(batches: Batches) -> Batches:
        for batch in batches:
            if not batch.num_rows:
                continue
            vectors, places = vectors_of(batch.column("vector")), batch.column("place").to_numpy()
            cosines = (
                np.full(len(vectors), np.nan) if directions is None else class_cosines(vectors, places, directions)
            )
            yield pa.RecordBatch.from_arrays(
                [
                    batch.column("image_id"),
                    batch.column("place"),
                    pa.array(spread.commonness(vectors).round(DECIMALS), from_pandas=True),
                    pa.array(cosines.round(DECIMALS), from_pandas=True),
                ],
                schema=MEASURED,
            )

    return run


def measured(
    embeddings: DataFrame, images: DataFrame, copies: DataFrame, duplicates: DataFrame, embedded: int
) -> tuple[DataFrame, list[str]]:
    """MEASURED of all embedded images, and what there is to say. embeddings: (image_id, vector), `embedded` of them."""
    different = different_images(copies, duplicates)
    labelled = images.where(has_label()).select("image_id", "label")
    spread = spread_of(embeddings, different)
    labels, large = classes_of(different, labelled)
    if not labels:
        return step(embeddings.withColumn("place", F.lit(-1).cast("long")), measure(spread, None), MEASURED), []
    numbers = frame_of(embeddings.sparkSession, list(enumerate(labels)), "place BIGINT, label STRING")
    placed = labelled.join(small(numbers), "label").select("image_id", "place")
    directions = class_directions(embeddings, different, placed, len(labels))
    rows = embeddings.join(small(placed) if embedded <= BROADCAST_IMAGES else placed, "image_id", "left")
    notes = []
    if large > len(labels):
        notes.append(f"class outliers: looked for in the {len(labels):,} largest labels of {large:,}")
    return step(rows.na.fill(-1, ["place"]), measure(spread, directions), MEASURED), notes


def outlier_scores(values: DataFrame) -> DataFrame:
    """Scores, 1 at or above the median and one half at HALF_AT robust standard deviations below it.

    values: (image_id, nearness, nearest_id, nearest_cosine, place, commonness, class_cosine), persisted. outlier_score
    is of the root of the sum of the squared deviations of nearness and commonness; null without neighbours.
    class_outlier_score is of the deviation of class_cosine within the class; null without one.
    Returns (image_id, outlier_score, class_outlier_score, nearest_id, nearest_cosine)."""
    names = ("nearness", "commonness")
    found = values.agg(*(_median(F.col(name)).alias(name) for name in names)).head()
    middle = {name: found[name] if found and found[name] is not None else 0.0 for name in names}
    found = values.agg(*(_median(F.abs(F.col(name) - F.lit(middle[name]))).alias(name) for name in names)).head()
    away = {name: found[name] if found and found[name] is not None else 0.0 for name in names}
    near, common = (_squared(F.lit(middle[name]), F.col(name), F.lit(away[name]), name) for name in names)
    in_class = values.where(F.col("place") >= 0).select("place", "class_cosine")
    # Aggregates joined back, and no windows: a class may be a tenth of all images.
    middles = in_class.groupBy("place").agg(_median(F.col("class_cosine")).alias("middle"))
    deviations = in_class.join(small(middles), "place").groupBy("place", "middle")
    classes = deviations.agg(_median(F.abs(F.col("class_cosine") - F.col("middle"))).alias("away"))
    own = _squared(F.col("middle"), F.col("class_cosine"), F.col("away"), "class_cosine")
    half = F.lit(HALF_AT**2)
    return values.join(small(classes), "place", "left").select(
        "image_id",
        (half / (half + near + F.coalesce(common, F.lit(0.0)))).alias("outlier_score"),
        (half / (half + own)).alias("class_outlier_score"),
        "nearest_id",
        "nearest_cosine",
    )


def _median(value: Column) -> Column:
    """Exact on values rounded to STATISTIC_DECIMALS, so the same whatever the partitions, and few to be kept."""
    return F.percentile(F.round(value, STATISTIC_DECIMALS), F.lit(0.5))


def _squared(middle: Column, value: Column, away: Column, name: str) -> Column:
    """The square of how many standard deviations a value lies below the middle, 0 above it; null where it is null.

    away: the median absolute deviation, of which a normal distribution's standard deviation is 1.4826 times."""
    spread = F.greatest(F.lit(1.4826) * away, F.lit(LEAST_SPREAD[name]))
    return F.when(value.isNotNull(), F.pow(F.greatest(F.lit(0.0), middle - value) / spread, F.lit(2.0)))


def foreign(scores: DataFrame, duplicates: DataFrame) -> Foreign | None:
    """How many images are foreign. scores: of outlier_scores. duplicates: the table, of which one a cluster counts."""
    different = scores.where(F.col("outlier_score").isNotNull()).join(
        redundant_ids(duplicates), "image_id", "left_anti"
    )
    binned = F.least(F.floor(_deviation() / STEP), F.lit(BINS - 1)).cast("int")
    counts = np.zeros(BINS, np.int64)
    for row in different.groupBy(binned.alias("bin")).agg(F.count("*").alias("images")).collect():
        counts[row["bin"]] = row["images"]
    return foreign_share(counts)


def _deviation() -> Column:
    """Robust standard deviations, of outlier_score."""
    return F.sqrt(F.lit(1.0) / F.col("outlier_score") - 1) * HALF_AT


def told(found: Foreign | None) -> list[str]:
    """What a person should know of it."""
    if found is None:
        return []
    high = portion(found.high)
    if found.low <= 0:
        return [f"outliers: none can be shown to be foreign to this lake (at most {high} of the different images)"]
    share, low = portion(found.share), portion(found.low)
    return [f"outliers: {share} of the different images are foreign by estimate, between {low} and {high}"]


def numbers(found: Foreign | None) -> dict[str, dict[str, float]]:
    """The same as counts of the stage."""
    if found is None:
        return {}
    return {"foreign": {name: round(getattr(found, name), 6) for name in ("share", "low", "high")}}


def outlier_issues(scores: DataFrame, limit: float, found: Foreign | None) -> DataFrame:
    """scores: of outlier_scores. Only what deviates as foreign images do, and none where none can be shown to be
    foreign. The evidence is the nearest image that is no duplicate."""
    least = 0.0 if found is None else HALF_AT**2 / (HALF_AT**2 + found.beyond**2)
    flagged = scores.where((F.col("outlier_score") < F.lit(limit)) & (F.col("outlier_score") <= F.lit(least)))
    return issue_rows(
        flagged.select(
            "image_id",
            F.lit(tables.OUTLIER).alias("issue"),
            F.col("outlier_score").alias("score"),
            F.col("nearest_id").alias("evidence_id"),
            F.col("nearest_cosine").alias("cosine"),
        ),
        "review",
    )


def class_outlier_issues(
    scores: DataFrame, limit: float, wrong: DataFrame, images: DataFrame, neighbours: DataFrame
) -> DataFrame:
    """Images unlike the others of their label and like no other label: those in `wrong` (image_id) have a likelier one.

    scores: of outlier_scores. The evidence is the nearest image of the label among the neighbours, if there is one."""
    labels = images.select("image_id", "label")
    flagged = (
        scores.where(F.col("class_outlier_score") < F.lit(limit))
        .join(wrong, "image_id", "left_anti")
        .join(labels, "image_id")
        .select("image_id", F.col("class_outlier_score").alias("score"), "label")
    )
    theirs = labels.select(F.col("image_id").alias("neighbour_id"), "label")
    nearest = (
        flagged.join(neighbours, "image_id")
        .join(theirs, ["neighbour_id", "label"])
        .groupBy("image_id")
        .agg(_first_neighbour())
        .select("image_id", F.col("first.neighbour_id").alias("evidence_id"), F.col("first.cosine").alias("cosine"))
    )
    rows = flagged.join(nearest, "image_id", "left")
    return issue_rows(
        rows.select("image_id", F.lit(tables.CLASS_OUTLIER).alias("issue"), "score", "evidence_id", "cosine"), "review"
    )
