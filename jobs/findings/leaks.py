"""Leaks: images of which a duplicate lies in another split; and overlaps, the same between sources."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from jobs import tables
from jobs.findings.rows import issue_rows, unlike
from jobs.neighbours import step
from jobs.tables import TABLES
from udfs.vectors.cell_packs import vectors_of
from udfs.vectors.cosine import cosine_pairs

SPLIT, SOURCE = "split", "source"
ISSUE = {SPLIT: tables.LEAK, SOURCE: tables.SOURCE_OVERLAP}
MOST_PLACES = 8  # splits or sources of one cluster, and of one picture, that are told: those with the best images
COSINES = pa.schema([("image_id", pa.int64()), ("other_id", pa.int64()), ("cosine", pa.float64())])
Batches = Iterator[pa.RecordBatch]


def pairs_between(duplicates: DataFrame, copies: DataFrame, images: DataFrame, between: str) -> DataFrame:
    """For each image and each other split (or source) that has a duplicate of it, the best one there: an exact copy if
    there is one, else the one that is most like the keeper by `unlike`, or is it.

    duplicates, copies, images: the tables. between: SPLIT or SOURCE. Skew: a cluster, or a group
    of copies, is handled by its splits and never pair by pair, and of those only the best MOST_PLACES count.
    Returns the columns of `leaks`; cosine is null where it must be taken from the vectors: see with_cosines. agreement
    is that of the second look with the keeper, of the two the lower, for no others are looked at."""
    members = (
        duplicates.select("image_id", "cluster_id", "is_keeper", "keeper_id", "cosine_to_keeper", "agreement")
        .join(copies.select("image_id", "representative_id"), "image_id")
        .join(images.select("image_id", "uri", F.col(between).alias("here")), "image_id")
        .where(F.col("here").isNotNull())
    )
    order = F.struct(
        (~F.col("is_keeper")).alias("no_keeper"),
        unlike(F.col("cosine_to_keeper"), F.col("agreement")).alias("unlike"),
        "uri", "image_id", "cosine_to_keeper", "agreement",
    )  # fmt: skip
    found = []
    for kind, group in (("exact", "representative_id"), ("near", "cluster_id")):
        best = members.groupBy(group, "here").agg(F.min(order).alias("best"))
        in_order = (f"best.{name}" for name in ("no_keeper", "unlike", "uri", "image_id"))
        first = Window.partitionBy(group).orderBy(*in_order, "here")
        there = best.withColumn("place", F.row_number().over(first)).where(F.col("place") <= MOST_PLACES)
        there = there.select(group, F.col("here").alias("there"), "best")
        is_one_keepers = F.col("best.image_id") == F.col("keeper_id")
        known = (
            F.lit(1.0)
            if kind == "exact"
            else F.when(is_one_keepers, F.col("cosine_to_keeper")).when(
                F.col("is_keeper"), F.col("best.cosine_to_keeper")
            )
        )
        agreement = F.lit(1.0) if kind == "exact" else F.least("agreement", "best.agreement")
        pairs = members.join(there, group).where(F.col("here") != F.col("there"))
        found.append(
            pairs.select(
                "image_id", "here", "there", F.struct(
                    F.lit(kind).alias("kind"), F.col("best.image_id").alias("other_id"), known.alias("cosine"),
                    agreement.alias("agreement"),
                ).alias("pair"),
            )
        )  # fmt: skip
    # 'exact' comes before 'near'.
    chosen = found[0].unionByName(found[1]).groupBy("image_id", "here", "there").agg(F.min("pair").alias("pair"))
    return chosen.select("image_id", F.lit(between).alias("between"), "here", "there", "pair.*")


def with_cosines(pairs: DataFrame, embeddings: DataFrame) -> DataFrame:
    """The pairs with the cosine of their two vectors where it is null. embeddings: (image_id, vector)."""
    unknown = pairs.where(F.col("cosine").isNull()).select("image_id", "other_id").distinct()
    others = embeddings.select(F.col("image_id").alias("other_id"), F.col("vector").alias("other_vector"))
    both = unknown.join(embeddings, "image_id").join(others, "other_id")
    cosines = step(both.select("image_id", "other_id", "vector", "other_vector"), _cosines, COSINES)
    named = cosines.withColumnRenamed("cosine", "of_vectors")
    joined = pairs.join(named, ["image_id", "other_id"], "left")
    return joined.withColumn("cosine", F.coalesce("cosine", "of_vectors")).select(*TABLES["leaks"].schema.names)


def _cosines(batches: Batches) -> Batches:
    """Maps (image_id, other_id, vector, other_vector) to COSINES."""
    for batch in batches:
        if batch.num_rows:
            cosines = cosine_pairs(vectors_of(batch.column("vector")), vectors_of(batch.column("other_vector")))
            yield pa.RecordBatch.from_arrays(
                [batch.column("image_id"), batch.column("other_id"), pa.array(cosines)], schema=COSINES
            )


def leak_issues(leaks: DataFrame) -> DataFrame:
    """The worst of each image: an exact copy before a near one, then the most alike. leaks: the table.

    The score is that of `unlike`; detail is the kind."""
    score = unlike(F.col("cosine"), F.col("agreement")).alias("score")
    worst = F.min(F.struct("kind", score, "there", "other_id", "cosine")).alias("worst")
    rows = leaks.groupBy("image_id", "between").agg(worst)
    issue = F.when(F.col("between") == SPLIT, F.lit(ISSUE[SPLIT])).otherwise(F.lit(ISSUE[SOURCE]))
    return issue_rows(
        rows.select(
            "image_id",
            issue.alias("issue"),
            F.col("worst.score").alias("score"),
            F.col("worst.other_id").alias("evidence_id"),
            F.col("worst.cosine").alias("cosine"),
            F.col("worst.kind").alias("detail"),
        ),
        "review",
    )
