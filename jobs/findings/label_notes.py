"""What a person should know of the labels, in lines of the summary."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.lakes import Lake
from jobs.pages.format import portion, written_out
from udfs.labels.share import Estimate

NAMED = 5  # classes in a line for a person
IMBALANCE = 10  # largest class by smallest, from which a line says so


def first(about: dict[str, Any]) -> list[str]:
    """What the column label alone tells. about: counts of `images`."""
    labelled = about["labelled"] + about["sets"]
    if not labelled:
        return ["labels: no image has one, so none was judged"]
    if labelled < about["images"]:
        return [f"labels: {about['images'] - labelled:,} of {about['images']:,} images have none"]
    return []


def of_sets(images: int, labels: int, judged: int, wrong: float | None, why: DataFrame) -> list[str]:
    """What a person should know of images with several labels. labels: how many different ones; judged: of these.
    wrong: the share of what is given that does not hold, None where none can be shown. why: of left_out."""
    notes = left_out(why, labels)
    if not judged:
        return [*notes, f"labels: none of the sets of {images:,} images could be judged"]
    what = "none can be shown to be wrong" if wrong is None else f"{portion(wrong)} are wrong by estimate"
    return [*notes, f"labels: of those in the sets of {images:,} images {what}"]


def numbers_of_sets(images: int, classes: int, flagged: int, wrong: float | None) -> dict[str, Any]:
    """The same as counts of the stage."""
    share = {} if wrong is None else {"wrong_in_sets": {"share": round(wrong, 4)}}
    return {"sets": images, "judged_set_classes": classes, "flagged_sets": flagged, **share}


def left_out(why: DataFrame, number: int) -> list[str]:
    """Which classes were not judged, and why. why: (label, why_left_out). number: of all classes."""
    notes = []
    out = why.where(F.col("why_left_out").isNotNull())
    for reason, count in sorted(map(tuple, out.groupBy("why_left_out").count().collect())):  # three reasons at most
        some = out.where(F.col("why_left_out") == reason).orderBy("label").limit(NAMED).collect()
        told = ", ".join(written_out(row["label"]) for row in some) + (", …" if count > NAMED else "")
        notes.append(f"labels: {count:,} of {number:,} classes left out, {reason} ({told})")
    return notes


def estimated(wrong: Estimate) -> str:
    """How many labels are wrong."""
    high = portion(wrong.high)
    if wrong.low <= 0:
        return f"labels: none can be shown to be wrong (at most {high} of those judged)"
    return f"labels: {portion(wrong.share)} are wrong by estimate, between {portion(wrong.low)} and {high}"


def numbers(wrong: Estimate) -> dict[str, dict[str, float]]:
    """The same as counts of the stage."""
    return {"wrong": {name: round(getattr(wrong, name), 4) for name in ("share", "low", "high", "caution")}}


def told(
    lake: Lake, why: DataFrame, known: dict[str, int], sizes: NDArray[np.int64] | None, wrong: Estimate | None
) -> list[str]:
    """What a person should know of the labels. why: of left_out. known: counts of all labels.
    sizes: images of each class that was judged. wrong: how many of these have a wrong label. None where none was."""
    number, images = known["labels"], known["images"]
    if number == 0:
        return ["labels: no image that could be read has one, so none was judged"]
    if number == 1:
        row = why.first()
        name = "" if row is None else written_out(row["label"])
        return [f"labels: all {images:,} images have the label {name}, so none could be judged"]
    if number == images:
        return [f"labels: each of the {images:,} images has a label of its own, so none could be judged"]
    notes = left_out(why, number)
    if sizes is None or wrong is None:
        return [*notes, "labels: fewer than two classes are left, so none could be judged"]
    notes.append(estimated(wrong))
    largest, smallest = int(sizes.max()), int(sizes.min())
    if largest >= IMBALANCE * smallest:
        ratio = round(largest / smallest)
        notes.append(f"labels: the largest class has {largest:,} images, the smallest {smallest:,}: {ratio:,} to 1")
    pair = F.array_sort(F.array("label", "other_label"))
    most = (
        lake.read("confusions")
        .groupBy(pair.alias("pair"))
        .agg(F.sum("images").alias("images"))
        .orderBy(F.desc("images"), "pair")
        .first()
    )
    if most is not None:
        one, other = (written_out(name) for name in most["pair"])
        plural = "" if most["images"] == 1 else "s"
        notes.append(f"labels: {one} and {other} are confused most ({most['images']:,} image{plural})")
    return notes
