"""The contract: every table's schema, key and checks, and all reads and writes of the lake.

Tables are Delta, read by Spark, delta-rs, DuckDB and Athena alike: no deletion vectors, no column mapping.
"""

from __future__ import annotations

from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    BooleanType,
    DataType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

from jobs.engines.base import Table
from udfs.images.rows import PROPERTIES

CORRUPTED = "corrupted"
UNREAD = "unread"
DAMAGED = "damaged"
EXACT_DUPLICATE = "exact_duplicate"
NEAR_DUPLICATE = "near_duplicate"
LOOK_ALIKE = "look_alike"
LEAK = "leak"
OUTLIER = "outlier"
DARK = "dark"
BRIGHT = "bright"
BLURRY = "blurry"
LOW_INFORMATION = "low_information"
ODD_SIZE = "odd_size"
ODD_ASPECT_RATIO = "odd_aspect_ratio"
GRAYSCALE = "grayscale"
WRONG_LABEL = "wrong_label"
LABEL_CONFLICT = "label_conflict"
SOURCE_OVERLAP = "source_overlap"
CLASS_OUTLIER = "class_outlier"
LOW_CONTRAST = "low_contrast"
FLAT = "flat"
NOISY = "noisy"
BLOCKY = "blocky"
LOW_QUALITY = "low_quality"
NEEDS_RELEASE = "needs_release"
MOSTLY_TEXT = "mostly_text"
ISSUES = (
    CORRUPTED,
    UNREAD,
    DAMAGED,
    EXACT_DUPLICATE,
    NEAR_DUPLICATE,
    LOOK_ALIKE,
    LEAK,
    SOURCE_OVERLAP,
    WRONG_LABEL,
    LABEL_CONFLICT,
    OUTLIER,
    CLASS_OUTLIER,
    DARK,
    BRIGHT,
    BLURRY,
    NOISY,
    BLOCKY,
    LOW_CONTRAST,
    LOW_INFORMATION,
    FLAT,
    LOW_QUALITY,
    ODD_SIZE,
    ODD_ASPECT_RATIO,
    GRAYSCALE,
    NEEDS_RELEASE,
    MOSTLY_TEXT,
)
WITHOUT_PICTURE = (CORRUPTED, UNREAD)
SCORES = (
    "dark_score",
    "bright_score",
    "blur_score",
    "noise_score",
    "blockiness_score",
    "contrast_score",
    "information_score",
    "flat_score",
    "brisque_score",
    "quality_score",
    "size_score",
    "aspect_ratio_score",
    "colour_score",
)
OUTLIER_SCORES = ("outlier_score", "class_outlier_score")  # null where an image has no neighbours to be compared with
KEEP, REMOVE, RELABEL, SKIP = "keep", "remove", "relabel", "skip"
DECISIONS = (KEEP, REMOVE, RELABEL, SKIP)  # skip: looked at, left open, and not asked again
NOTE, UNDO = "note", "undo"
REMARKS = (NOTE, UNDO)  # rows of reviews that decide nothing of an image
DETAILS = ("exact", "near")  # of leaks and overlaps


def _schema(**columns: DataType | tuple[DataType, bool]) -> StructType:
    """A column given as (type, True) may be null."""
    return StructType(
        [
            StructField(name, kind[0], kind[1]) if isinstance(kind, tuple) else StructField(name, kind, False)
            for name, kind in columns.items()
        ]
    )


def _unit(*columns: str) -> dict[str, str]:
    return {f"{column}_in_0_1": f"{column} BETWEEN 0 AND 1" for column in columns}


def _unit_or_null(*columns: str) -> dict[str, str]:
    return {f"{column}_in_0_1": f"{column} IS NULL OR {column} BETWEEN 0 AND 1" for column in columns}


_TEXT, _LONG, _INT, _DOUBLE, _TIME, _BOOL = (
    StringType(), LongType(), IntegerType(), DoubleType(), TimestampType(), BooleanType()
)  # fmt: skip

_COUNTED = ArrayType(StructType([StructField("name", _TEXT), StructField("images", _LONG)]), containsNull=False)

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        Table(
            "images",
            _schema(
                image_id=_LONG, uri=_TEXT, source=_TEXT, split=(_TEXT, True), label=(_TEXT, True),
                labels=(ArrayType(_TEXT), True), owner=(_TEXT, True),
                shard=(_TEXT, True), shard_offset=(_LONG, True),
                size_bytes=(_LONG, True), etag=(_TEXT, True), modified_at=(_TIME, True),
            ),
            ("image_id",),
        ),
        Table(
            "features",
            _schema(
                image_id=_LONG, etag=(_TEXT, True), sha256=_TEXT, pixel_hash=_TEXT, perceptual_hash=_LONG,
                width=_INT, height=_INT, format=_TEXT,
                damage=(_TEXT, True), medium=_TEXT, thumbnail=BinaryType(), look=BinaryType(), taken_at=(_TIME, True),
                **dict.fromkeys(PROPERTIES, _DOUBLE),
            ),
            ("image_id",),
            {"has_pixels": "width > 0 AND height > 0"},
        ),
        Table(
            "embeddings",
            _schema(
                image_id=_LONG, model=_TEXT, vector=ArrayType(FloatType(), containsNull=False),
                norm=(FloatType(), True), transform=(_TEXT, True),
            ),
            ("image_id", "model"),
        ),
        # What a detector sees, or in error why it sees nothing. A picture whose bytes have changed is looked at anew.
        Table(
            "detections",
            _schema(
                image_id=_LONG, detector=_TEXT, model=_TEXT, found=(_INT, True), share=(_DOUBLE, True),
                width=(_INT, True), error=(_TEXT, True), etag=(_TEXT, True),
            ),
            ("image_id", "detector"),
            {
                **_unit_or_null("share"), "found_not_negative": "found IS NULL OR found >= 0",
                "seen_or_error": "(found IS NULL) = (error IS NOT NULL)",
            },
        ),
        Table(
            "failures",
            _schema(
                image_id=_LONG, stage=_TEXT, error=_TEXT, detail=_TEXT, attempt=_INT, at=_TIME, etag=(_TEXT, True)
            ),
            ("image_id", "stage"),
        ),
        Table(
            "copies",
            _schema(image_id=_LONG, representative_id=_LONG, content_key=_LONG),
            ("image_id",),
        ),
        Table(
            "centres",
            _schema(cell=_INT, vector=ArrayType(FloatType(), containsNull=False)),
            ("cell",),
        ),
        Table(
            "cells",
            _schema(image_id=_LONG, cell=_INT, content_key=_LONG),
            ("image_id", "cell"),
        ),
        Table(
            "neighbours",
            _schema(image_id=_LONG, rank=_INT, neighbour_id=_LONG, cosine=_DOUBLE),
            ("image_id", "rank"),
            {"cosine_in_range": "cosine BETWEEN -1 AND 1", "not_itself": "image_id <> neighbour_id"},
        ),
        Table(
            "edges",
            _schema(image_id=_LONG, other_id=_LONG),
            ("image_id", "other_id"),
            {"in_order": "image_id < other_id"},
        ),
        Table(
            "duplicates",
            _schema(
                image_id=_LONG, cluster_id=_LONG, kind=_TEXT, keeper_id=_LONG, is_keeper=_BOOL,
                cosine_to_keeper=_DOUBLE, relation=(_TEXT, True), agreement=_DOUBLE, cluster_size=_INT,
                component_id=_LONG,
            ),
            ("image_id",),
            {
                "kind_known": "kind IN ('exact', 'near')", "more_than_one": "cluster_size > 1",
                "agreement_in_range": "agreement BETWEEN -1 AND 1",
            },
        ),
        Table(
            "look_alikes",
            _schema(image_id=_LONG, other_id=_LONG, relation=_TEXT, cosine=_DOUBLE, agreement=_DOUBLE),
            ("image_id",),
            {
                "cosine_in_range": "cosine BETWEEN -1 AND 1", "agreement_in_range": "agreement BETWEEN -1 AND 1",
                "not_itself": "image_id <> other_id",
            },
        ),
        Table(
            "labels",
            _schema(
                image_id=_LONG, label=_TEXT, confidence=(_DOUBLE, True), neighbour_share=(_DOUBLE, True),
                score=_DOUBLE, probability_wrong=_DOUBLE, suggested_label=_TEXT, suggested_confidence=_DOUBLE,
                flagged=_BOOL, evidence_id=(_LONG, True),
            ),
            ("image_id",),
            {
                **_unit("score", "probability_wrong", "suggested_confidence"),
                **_unit_or_null("confidence", "neighbour_share"),
            },
        ),
        # Of images with several labels: those that are given, and of all others those that are flagged.
        Table(
            "label_sets",
            _schema(image_id=_LONG, label=_TEXT, given=_BOOL, probability=_DOUBLE, flagged=_BOOL),
            ("image_id", "label"),
            {**_unit("probability"), "given_or_flagged": "given OR flagged"},
        ),
        Table(
            "confusions",
            _schema(label=_TEXT, other_label=_TEXT, images=_LONG, share=_DOUBLE),
            ("label", "other_label"),
            _unit("share"),
        ),
        Table(
            "classes",
            _schema(
                label=(_TEXT, True), split=(_TEXT, True), images=_LONG, flagged=_LONG, why_left_out=(_TEXT, True),
                noise=(_DOUBLE, True), noise_low=(_DOUBLE, True), noise_high=(_DOUBLE, True),
                accuracy=(_DOUBLE, True), accuracy_corrected=(_DOUBLE, True), accuracy_without=(_DOUBLE, True),
            ),
            ("label", "split"),
            _unit_or_null("noise", "noise_low", "noise_high", "accuracy", "accuracy_corrected", "accuracy_without"),
        ),
        Table(
            "concepts",
            _schema(image_id=_LONG, rank=_INT, concept=_TEXT, confidence=_DOUBLE),
            ("image_id", "rank"),
            _unit("confidence"),
        ),
        Table(
            "topics",
            _schema(image_id=_LONG, topic_id=_INT, distance=_DOUBLE),
            ("image_id",),
            {"distance_in_range": "distance BETWEEN 0 AND 2"},
        ),
        Table(
            "topic_summaries",
            _schema(
                topic_id=_INT, images=_LONG, typical_ids=ArrayType(_LONG, containsNull=False),
                concepts=_COUNTED, labels=_COUNTED,
            ),
            ("topic_id",),
        ),
        Table(
            "map",
            _schema(image_id=_LONG, x=FloatType(), y=FloatType(), is_anchor=_BOOL, content_key=_LONG),
            ("image_id",),
            _unit("x", "y"),
        ),
        Table(
            "leaks",
            _schema(
                image_id=_LONG, between=_TEXT, here=_TEXT, there=_TEXT, other_id=_LONG, kind=_TEXT, cosine=_DOUBLE,
                agreement=_DOUBLE,
            ),
            ("image_id", "between", "there"),
            {
                "between_known": "between IN ('split', 'source')", "kind_known": "kind IN ('exact', 'near')",
                "cosine_in_range": "cosine BETWEEN -1 AND 1", "agreement_in_range": "agreement BETWEEN -1 AND 1",
                "not_itself": "image_id <> other_id",
            },
        ),
        Table(
            "scores",
            _schema(
                image_id=_LONG, **dict.fromkeys(SCORES, _DOUBLE), **dict.fromkeys(OUTLIER_SCORES, (_DOUBLE, True))
            ),
            ("image_id",),
            {**_unit(*SCORES), **_unit_or_null(*OUTLIER_SCORES)},
        ),
        Table(
            "issues",
            _schema(
                image_id=_LONG, issue=_TEXT, score=_DOUBLE, evidence_id=(_LONG, True), cosine=(_DOUBLE, True),
                detail=(_TEXT, True), suggestion=_TEXT, suggested_label=(_TEXT, True),
            ),
            ("image_id", "issue"),
            {
                **_unit("score"),
                "issue_known": "issue IN ({})".format(", ".join(f"'{name}'" for name in ISSUES)),
                "suggestion_known": "suggestion IN ('remove', 'relabel', 'review')",
                "cosine_in_range": "cosine IS NULL OR cosine BETWEEN -1 AND 1",
            },
        ),
        # The same rating of an image whose bytes have changed has another etag, and is made anew.
        Table(
            "ratings",
            _schema(
                image_id=_LONG, rating=_TEXT, score=_DOUBLE, percentile=_DOUBLE, uncertainty=(_DOUBLE, True),
                etag=(_TEXT, True),
            ),
            ("image_id", "rating"),
            {**_unit("percentile"), "uncertainty_not_negative": "uncertainty IS NULL OR uncertainty >= 0"},
        ),
        # Pictures of an owner, many in a row as bytes: see udfs.albums.packs. Rows are only ever added, until runs of
        # the stage are joined: of a picture that stands in several rows that of the last run counts.
        Table(
            "albums",
            _schema(
                owner_key=_LONG, owner=_TEXT, run=_LONG, part=_INT, model=_TEXT, facts=BinaryType(),
                uris=BinaryType(), pairs=(BinaryType(), True), vectors=BinaryType(),
            ),
            ("owner", "run", "part"),
        ),
        # What people decide: rows are only ever added. What counts of an image is its last one whose batch no later row
        # undoes; notes do not count.
        Table(
            "reviews",
            _schema(
                review_id=_TEXT, batch_id=_TEXT, image_id=_LONG, decision=_TEXT, label=(_TEXT, True),
                note=(_TEXT, True), undoes=(_TEXT, True), by=_TEXT, at=_TIME,
            ),
            ("review_id",),
            {
                "decision_known": "decision IN ({})".format(", ".join(f"'{name}'" for name in (*DECISIONS, *REMARKS))),
                "label_given": "decision <> 'relabel' OR label IS NOT NULL",
            },
        ),
        Table(
            "runs",
            _schema(
                run_id=_TEXT, job=_TEXT, version=_TEXT, config=_TEXT, inputs=_TEXT, counts=_TEXT,
                started_at=_TIME, ended_at=_TIME, seconds=_DOUBLE, status=_TEXT,
            ),
            ("run_id", "job"),
            {"status_known": "status IN ('done', 'failed')"},
        ),
    )
}  # fmt: skip
