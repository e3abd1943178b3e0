"""Catches scores that do not follow their formula, issues at the wrong side of a threshold, and a picture that is
blamed for what only follows from its real fault."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from jobs import config, tables
from jobs.engines.frames import frame_of
from jobs.findings import formulas
from jobs.findings.formulas import HIDDEN_BY, OF_ARRAYS, QUALITY, TECHNICAL, Sizes
from jobs.findings.scores import quality_issues, quality_scores, share_in_colour, usual_sides
from jobs.tables import SCORES

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

USUAL: dict[str, Any] = {
    "medium": "photograph",
    "width": 400, "height": 400, "brightness": 0.5, "brightness_p01": 0.05, "brightness_p05": 0.1,
    "brightness_p99": 0.9, "peak": 0.6, "clipped": 0.0, "clipped_colour": 0.0,
    "edge_frequency": 0.72, "noise": 14.0, "blockiness": 1.22,
    "jpeg_quality": 90.0, "flat_share": 0.25, "entropy": 6.0, "colourfulness": 12.85, "brisque": 40.0,
}  # fmt: skip
CHANGED: list[dict[str, Any]] = [
    {},
    # A side four times the median.
    {"width": 1600, "height": 1600, "brightness_p99": 0.25, "blockiness": 0.0, "jpeg_quality": 25.0, "clipped": 0.3,
     "clipped_colour": 0.2, "peak": 0.9},
    {"width": 100, "height": 100, "brightness_p05": 0.7, "noise": 28.0, "blockiness": 2.44, "edge_frequency": 0.36},
    {"width": 800, "height": 200, "brightness_p01": 0.9, "edge_frequency": 0.0, "noise": 0.0, "flat_share": 1.0,
     "entropy": 0.0, "brisque": 100.0},
    {"noise": 0.0, "colourfulness": 0.0, "brightness": 0.2, "clipped": 0.8, "clipped_colour": 0.8},
    {"brightness": 1.0, "clipped": 1.0, "peak": 1.0, "brightness_p05": 1.0},
    {"brightness_p99": 1.0 + 1e-9, "entropy": 8.0 + 1e-9, "width": 200, "height": 800, "jpeg_quality": 0.5},
]  # fmt: skip
LIMITS = {issue: getattr(config.load().issues, issue) for issue in QUALITY}


def quality(features: DataFrame) -> DataFrame:
    """The scores of all images of a lake."""
    return quality_scores(features, usual_sides(features))


@pytest.fixture(scope="module")
def scores(spark: SparkSession) -> dict[int, dict[str, Any]]:
    """The scores of a few images with round properties, by image_id."""
    rows = [(number, *{**USUAL, **changed}.values()) for number, changed in enumerate(CHANGED)]
    found = quality(spark.createDataFrame(rows, ["image_id", *USUAL]))
    assert found.columns == ["image_id", "medium", *SCORES]
    return {row["image_id"]: row.asDict() for row in found.collect()}


@pytest.mark.parametrize(
    ("image_id", "score", "expected"),
    [
        (0, "dark_score", 0.9),
        (1, "dark_score", 0.25),
        (6, "dark_score", 1.0),
        (0, "bright_score", 0.8),  # 1 - (0.6 / 2) / 1.5
        (1, "bright_score", 1 - 0.85 / 1.5),  # 0.3 + 0.2 / 2 + 0.9 / 2
        (4, "bright_score", 0.76),  # 1 - 1.2 x a brightness of 0.2, whatever is clipped
        (2, "bright_score", 0.3),  # 1 - the 5th percentile
        (5, "bright_score", 0.0),
        (0, "blur_score", 0.5),
        (2, "blur_score", 1 / 3),  # half the frequency: 1 / (1 + 2)
        (3, "blur_score", 0.0),
        (0, "noise_score", 0.5),
        (2, "noise_score", 0.2),  # twice the noise: 1 / (1 + 2²)
        (4, "noise_score", 1.0),
        (0, "blockiness_score", 0.5),
        (1, "blockiness_score", 0.5),  # by the header
        (2, "blockiness_score", 1 / 17),  # twice: 1 / (1 + 2⁴)
        (6, "blockiness_score", 1 / 26),  # a quality below 1 is 1
        (0, "contrast_score", 0.85),
        (3, "contrast_score", 0.0),
        (0, "information_score", 0.75),
        (3, "information_score", 0.0),
        (6, "information_score", 1.0),
        (0, "flat_score", 0.75),
        (3, "flat_score", 0.0),
        (0, "brisque_score", 0.6),
        (3, "brisque_score", 0.0),
        (0, "quality_score", 8 / (1 / 0.9 + 1 / 0.8 + 3 / 0.5 + 1 / 0.85 + 1 / 0.75 + 1 / 0.6)),
        (5, "quality_score", 8 / (1 / 0.9 + 1 / 0.1 + 3 / 0.5 + 1 / 0.85 + 1 / 0.75 + 1 / 0.6)),  # none below 0.1
        (0, "size_score", 1.0),
        (1, "size_score", 0.5),
        (2, "size_score", 0.5),
        (3, "size_score", 1.0),
        (0, "aspect_ratio_score", 1.0),
        (3, "aspect_ratio_score", 0.25),
        (6, "aspect_ratio_score", 0.25),
        (0, "colour_score", 12.85 / 128.5 / (12.85 / 128.5 + 0.02)),
        (4, "colour_score", 0.0),
    ],
)
def test_scores(scores: dict[int, dict[str, Any]], image_id: int, score: str, expected: float) -> None:
    """A formula that is not the documented one; the expected values are worked out by hand."""
    assert scores[image_id][score] == pytest.approx(expected, abs=5e-4)  # percentiles are rounded


def test_scores_are_in_range_and_complete(scores: dict[int, dict[str, Any]]) -> None:
    """A score outside [0, 1] or null, which the table would refuse, or an image lost."""
    assert sorted(scores) == list(range(len(CHANGED)))
    assert all(0 <= row[name] <= 1 for row in scores.values() for name in SCORES)


def test_a_better_score_never_lowers_the_whole(spark: SparkSession) -> None:
    """A quality_score that is not monotone."""
    better = {"brightness_p99": 0.95, "peak": 0.5, "edge_frequency": 2.0, "noise": 6.0, "blockiness": 1.0,
              "brisque": 20.0, "flat_share": 0.1, "brightness_p01": 0.01}  # fmt: skip
    rows = [(number, *{**USUAL, **{name: better[name]}}.values()) for number, name in enumerate(better)]
    rows.append((len(rows), *USUAL.values()))
    found = quality(spark.createDataFrame(rows, ["image_id", *USUAL])).orderBy("image_id").collect()
    *others, plain = (row["quality_score"] for row in found)
    assert all(other > plain for other in others)
    assert len(others) == len(TECHNICAL)


def scored(spark: SparkSession, rows: list[dict[str, float]]) -> DataFrame:
    """rows: scores that differ from 0.9."""
    return frame_of(
        spark,
        [(number, "photograph", *(row.get(name, 0.9) for name in SCORES)) for number, row in enumerate(rows)],
        "image_id long, medium string, " + ", ".join(f"{name} double" for name in SCORES),
    )


def raised(spark: SparkSession, rows: list[dict[str, float]]) -> dict[int, set[str]]:
    found: dict[int, set[str]] = {number: set() for number in range(len(rows))}
    scores = scored(spark, rows)
    for row in quality_issues(scores, LIMITS, share_in_colour(scores, LIMITS[tables.GRAYSCALE])).collect():
        assert row["issue"] not in found[row["image_id"]]
        assert row["score"] == pytest.approx(rows[row["image_id"]][QUALITY[row["issue"]]])
        assert (row["suggestion"], row["evidence_id"]) == ("review", None)
        found[row["image_id"]].add(row["issue"])
    return found


def test_every_limit(spark: SparkSession) -> None:
    """A score at its limit that is flagged, or one below that is not."""
    at = [{score: LIMITS[issue]} for issue, score in QUALITY.items()]
    below = [{score: LIMITS[issue] - 0.01} for issue, score in QUALITY.items()]
    found = raised(spark, at + below)
    assert all(not found[number] for number in range(len(at)))
    assert [found[len(at) + number] for number in range(len(below))] == [{issue} for issue in QUALITY]


def test_a_picture_is_called_what_it_is(spark: SparkSession) -> None:
    """A flat picture that is called blurred, faded and empty at once; a low quality that says no more than a name."""
    low = dict.fromkeys(SCORES, 0.01)
    faded = {"contrast_score": 0.1, "information_score": 0.1, "colour_score": 0.1, "quality_score": 0.1}
    rows = [
        {name: value for name, value in low.items() if name not in ("dark_score", "bright_score")},
        {**faded, "dark_score": 0.1},
        faded,
        {"information_score": 0.1, "blur_score": 0.1, "quality_score": 0.1},
        {"blur_score": 0.1, "noise_score": 0.1, "quality_score": 0.1},
        {"quality_score": 0.1},
        {**faded, "information_score": 0.5},
        {**faded, "information_score": 0.5, "dark_score": 0.1},
        *([{}] * 9),
    ]
    found = raised(spark, rows)
    assert found[0] == {tables.FLAT, tables.ODD_SIZE, tables.ODD_ASPECT_RATIO}
    assert found[1] == {tables.DARK}
    assert found[2] == found[3] == {tables.LOW_INFORMATION}
    assert found[4] == {tables.BLURRY, tables.NOISY}
    assert found[5] == {tables.LOW_QUALITY}
    assert found[6] == {tables.LOW_CONTRAST}
    assert found[7] == {tables.DARK, tables.LOW_CONTRAST}
    assert all(issue in QUALITY and set(hiding) <= set(QUALITY) for issue, hiding in HIDDEN_BY.items())


@pytest.mark.parametrize(("grey", "flagged"), [(1, 1), (4, 4), (5, 0), (9, 0), (10, 0)])
def test_grey_is_odd_only_among_colour(spark: SparkSession, grey: int, flagged: int) -> None:
    """A lake of X-ray pictures in which each is called grayscale."""
    found = raised(spark, [{"colour_score": 0.1}] * grey + [{}] * (10 - grey))
    assert sum(issues == {tables.GRAYSCALE} for issues in found.values()) == flagged


def test_columns_and_arrays_are_scored_alike(spark: SparkSession) -> None:
    """Another formula for one picture, at the door, than for a lake of them."""
    draw = np.random.default_rng(0)
    rows = [
        {name: value if name == "medium" else float(value * draw.uniform(0.2, 1.8)) for name, value in USUAL.items()}
        for _ in range(50)
    ]
    for row in rows:
        row["width"], row["height"] = round(row["width"]), round(row["height"])
    frame = spark.createDataFrame([(n, *row.values()) for n, row in enumerate(rows)], ["image_id", *USUAL])
    told = {row["image_id"]: row.asDict() for row in quality(frame).collect()}
    of = {name: np.array([row[name] for row in rows]) for name in USUAL if name != "medium"}
    of["log_side"] = np.log(np.sqrt(of["width"] * of["height"]))
    sizes = Sizes.of_quartiles(*np.percentile(np.round(of["log_side"], 3), [25, 50, 75]).tolist())
    found = formulas.scores(of, sizes, OF_ARRAYS)
    found["quality_score"] = formulas.quality_score(found, OF_ARRAYS)
    for name in SCORES:
        np.testing.assert_allclose(found[name], [told[n][name] for n in range(len(rows))], rtol=1e-12, err_msg=name)


def test_nothing_to_score(spark: SparkSession) -> None:
    """A crash where no image could be read."""
    none = spark.createDataFrame([(0, *USUAL.values())], ["image_id", *USUAL]).where("image_id > 0")
    assert share_in_colour(quality(none), LIMITS[tables.GRAYSCALE]) == 0
    assert quality_issues(quality(none), LIMITS, 0.0).count() == 0
