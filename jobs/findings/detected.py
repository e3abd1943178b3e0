"""Issues of what detectors have seen: people who can be recognised, and pictures of text. Of a picture that none has
looked at nothing is said."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs import tables
from jobs.findings.formulas import half_at
from jobs.findings.rows import issue_rows
from jobs.findings.scores import OF_COLUMNS
from udfs.detection.detectors import FACES, TEXT

# From this width of a face, in pixels, people can be recognised: EN 62676-4 asks for 125 pixels a metre to recognise
# somebody, and a face is about 0.16 m wide.
RECOGNISED = 20.0


def release_issues(detections: DataFrame, limit: float) -> DataFrame:
    """needs_release: the widest face is so wide that the score, 20 / (20 + its pixels), is below the limit. detections:
    the table. Returns the columns of `issues`."""
    faces = detections.where((F.col("detector") == FACES) & (F.col("found") > 0))
    number = F.when(F.col("found") == 1, F.lit("1 face, ")).otherwise(
        F.concat(F.col("found").cast("string"), F.lit(" faces, the widest "))
    )
    detail = F.concat(number, F.col("width").cast("string"), F.lit(" pixels wide"))
    score = half_at(F.col("width").cast("double"), RECOGNISED, 1.0, OF_COLUMNS)
    return _below(faces, tables.NEEDS_RELEASE, score, detail, limit)


def text_issues(detections: DataFrame, limit: float) -> DataFrame:
    """mostly_text: one minus the share of the picture that text covers is below the limit. detections: the table.
    Returns the columns of `issues`."""
    text = detections.where((F.col("detector") == TEXT) & (F.col("found") > 0))
    percent = F.round(F.col("share") * 100).cast("int").cast("string")
    detail = F.concat(F.lit("text over "), percent, F.lit(" % of it"))
    return _below(text, tables.MOSTLY_TEXT, F.lit(1.0) - F.col("share"), detail, limit)


def _below(rows: DataFrame, issue: str, score: Column, detail: Column, limit: float) -> DataFrame:
    scored = rows.select("image_id", F.lit(issue).alias("issue"), score.alias("score"), detail.alias("detail"))
    return issue_rows(scored.where(F.col("score") < F.lit(limit)), "review")
