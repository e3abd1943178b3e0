"""What holds for most of a lake, a source or a class is what it is like: a note on it, and no issue of each image."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs import tables
from jobs.engines.frames import frame_of, keep, small
from jobs.findings.formulas import FEWEST, QUALITY
from jobs.pages.format import written_out

# Issues of a picture by itself or beside its like. What is to be removed, and labels and leaks, stay whatever their
# number.
USUAL = (*QUALITY, tables.LOOK_ALIKE, tables.MOSTLY_TEXT)
TEMPLATE = 0.8  # share of a lake, that was refused as copies of another, from which it is of one template
TOLD = 5  # sources and classes that the notes name for each, those with the most images
SHOWN = 60  # characters of a name that a note repeats
PLACES = {"source": "source", "label": "class"}
RECORDED = 1000  # sources and classes with an issue that most of theirs have, of each of the two, that are recorded


@dataclass(frozen=True)
class Common:
    """What most have. everywhere: issues of the whole lake. places: (issue, "source" or "label", its name)."""

    everywhere: tuple[str, ...] = ()
    places: tuple[tuple[str, str, str], ...] = ()


def without(rows: DataFrame, images: DataFrame, common: Common) -> DataFrame:
    """The rows without those of issues that most have. rows: of `issues`. images: the table, or those of the rows."""
    rows = rows.where(~F.col("issue").isin(*common.everywhere)) if common.everywhere else rows
    for place in PLACES:
        usual = [(issue, name) for issue, kind, name in common.places if kind == place]
        if usual:
            these = frame_of(rows.sparkSession, usual, f"issue STRING, {place} STRING")
            gone = images.select("image_id", place).join(small(these), place).select("image_id", "issue")
            rows = rows.join(gone, ["image_id", "issue"], "left_anti")
    return rows.select(*tables.TABLES["issues"].schema.names)


def without_common(
    rows: DataFrame, images: DataFrame, alike: DataFrame, most: float
) -> tuple[DataFrame, list[str], Common]:
    """The rows without those of an issue that more than a share of a lake, source or class have, a note for each, and
    what these are.

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
    gone, places = [], list[tuple[str, str, str]]()
    for place, name in PLACES.items():
        sizes = images.where(F.col(place).isNotNull()).groupBy(place).agg(F.count("*").alias("of"))
        found = own.groupBy("issue", place).agg(F.count("*").alias("images")).join(sizes, place)
        usual = found.where((F.col("of") >= FEWEST) & (F.col("of") < total) & (F.col("images") > most * F.col("of")))
        usual = keep(usual)
        first = usual.orderBy(F.desc("images"), "issue", place).limit(RECORDED).collect()
        places += [(row["issue"], place, row[place]) for row in first]
        if first:
            gone.append(own.join(small(usual.select("issue", place)), ["issue", place]).select("image_id", "issue"))
        notes += [
            f"{row['issue']}: {row['images']:,} of {row['of']:,} images of the {name} "
            f"{written_out(row[place][:SHOWN])} have it: it is like that"
            for row in first[:TOLD]
        ]
    if gone:
        rows = rows.join(reduce(DataFrame.unionByName, gone).distinct(), ["image_id", "issue"], "left_anti")
    common = Common(tuple(issue for issue, _ in whole), tuple(places))
    return rows.select(*tables.TABLES["issues"].schema.names), notes, common
