"""What holds for most of a lake, a source or a class is what it is like: a note on it, and no issue of each image."""

from __future__ import annotations

from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs import tables
from jobs.engines.frames import keep, small
from jobs.findings.formulas import FEWEST, QUALITY
from jobs.pages.format import written_out

# Issues of a picture by itself or beside its like. What is to be removed, and labels and leaks, stay whatever their
# number.
USUAL = (*QUALITY, tables.LOOK_ALIKE)
TEMPLATE = 0.8  # share of a lake, that was refused as copies of another, from which it is of one template
TOLD = 5  # sources and classes that the notes name for each, those with the most images
SHOWN = 60  # characters of a name that a note repeats
PLACES = {"source": "source", "label": "class"}


def without_common(rows: DataFrame, images: DataFrame, alike: DataFrame, most: float) -> tuple[DataFrame, list[str]]:
    """The rows without those of an issue that more than a share of a lake, source or class have, and a note for each.

    rows: of `issues`. images: the table. alike: `look_alikes`: where most images are refused as copies of another,
    however much they differ, no look-alike is worth a row. most: 0..1."""
    own = keep(
        rows.where(F.col("issue").isin(*USUAL))
        .select("image_id", "issue")
        .join(images.select("image_id", *PLACES), "image_id")
    )
    total = images.count()
    everywhere = own.groupBy("issue").count().where(F.col("count") > F.lit(most * total)).collect()
    counts = {row["issue"]: int(row["count"]) for row in everywhere}
    refused = alike.count()
    if tables.LOOK_ALIKE in counts or refused > TEMPLATE * total:
        counts[tables.LOOK_ALIKE] = refused
    whole = list(counts.items()) if total >= FEWEST else []
    notes = [f"{issue}: {count:,} of {total:,} images have it: the lake is like that" for issue, count in sorted(whole)]
    if whole:
        rows = rows.where(~F.col("issue").isin(*(issue for issue, _ in whole)))
        own = own.where(~F.col("issue").isin(*(issue for issue, _ in whole)))
    gone = []
    for place, name in PLACES.items():
        sizes = images.where(F.col(place).isNotNull()).groupBy(place).agg(F.count("*").alias("of"))
        found = own.groupBy("issue", place).agg(F.count("*").alias("images")).join(sizes, place)
        usual = found.where((F.col("of") >= FEWEST) & (F.col("of") < total) & (F.col("images") > most * F.col("of")))
        usual = keep(usual)
        first = usual.orderBy(F.desc("images"), "issue", place).limit(TOLD).collect()
        if first:
            gone.append(own.join(small(usual.select("issue", place)), ["issue", place]).select("image_id", "issue"))
        notes += [
            f"{row['issue']}: {row['images']:,} of {row['of']:,} images of the {name} "
            f"{written_out(row[place][:SHOWN])} have it: it is like that"
            for row in first
        ]
    if gone:
        rows = rows.join(reduce(DataFrame.unionByName, gone).distinct(), ["image_id", "issue"], "left_anti")
    return rows.select(*tables.TABLES["issues"].schema.names), notes
