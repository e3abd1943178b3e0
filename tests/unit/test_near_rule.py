"""Which rule makes near-duplicates, for a model with numbers of its own and for one without."""

import dataclasses
import json

import numpy as np
import pytest

from jobs import config
from jobs.duplicates.near_rules import UNCALIBRATED, near_rule, uncalibrated_line
from udfs.networks import models
from udfs.vectors.near_rule import NearRule

CARD = {"format": "vectors", "weights": "/v.parquet", "dimension": 64, "licence": "ours", "source": "the team"}
OWN = {
    "near_duplicate_threshold": 0.6, "near_duplicate_margin": 0.2, "near_duplicate_certain": 0.9,
    "near_duplicate_evidence": 1.5,
}  # fmt: skip


def settings(card: dict[str, object] | None, *overrides: str) -> config.Config:
    """Settings under which the model is that card, or the built-in one."""
    if card is None:
        return config.load((), overrides)
    return config.load((), (f"models.mine@1={json.dumps(card)}", "embed.model=mine@1", *overrides))


def test_a_models_own_numbers() -> None:
    """Numbers of another model, and a setting that changes more than itself."""
    built_in = models.find(models.DEFAULT)
    assert near_rule(settings(None)).threshold == built_in.near_duplicate_threshold
    assert near_rule(settings({**CARD, **OWN})) == NearRule(0.6, 0.2, 0.9, 1.5)
    assert near_rule(settings({**CARD, **OWN}, "clusters.margin=0.3")) == NearRule(0.6, 0.3, 0.9, 1.5)
    assert uncalibrated_line(settings(None)) is None
    assert uncalibrated_line(settings({**CARD, **OWN})) is None


def test_without_numbers_no_cosine_is_enough() -> None:
    """Numbers of another model used in silence: a network that gives 0.99 to everything makes everything a copy."""
    chosen = settings(CARD)
    rule = near_rule(chosen)
    cosines, alike = np.array([1.0, 0.99, 0.96, 0.94]), np.full(4, 0.93)
    assert not rule.matches(cosines, alike, alike, 0.0).any(), "all around is as alike"
    assert rule.matches(cosines, alike, alike, 0.9).tolist() == [True, True, True, False], "the pixels match"
    assert rule.matches(cosines, alike - 0.4, alike - 0.4, 0.0).tolist() == [True, True, True, False], "they stand out"


def test_what_is_said_of_an_uncalibrated_model() -> None:
    chosen = settings(CARD)
    line = uncalibrated_line(chosen)
    assert line is not None
    assert "mine@1 has no near-duplicate numbers" in line
    assert "0.95 or more" in line


def test_without_numbers_each_setting_counts() -> None:
    """A setting that is ignored, and a warning that stays when all is said."""
    all_four = ("clusters.threshold=0.7", "clusters.margin=0.1", "clusters.evidence=1.2", "clusters.certain=0.9")
    assert near_rule(settings(CARD, *all_four)) == NearRule(0.7, 0.1, 0.9, 1.2)
    assert uncalibrated_line(settings(CARD, *all_four)) is None
    assert near_rule(settings(CARD, all_four[0])) == dataclasses.replace(UNCALIBRATED, threshold=0.7)
    assert "0.7 or more" in (uncalibrated_line(settings(CARD, all_four[0])) or "")


@pytest.mark.parametrize(
    ("cosine", "left", "right", "near"),
    [
        (0.70, 0.40, 0.60, True),  # above threshold and exactly margin above the mean background
        (0.70, 0.41, 0.60, False),
        (0.64, 0.00, 0.00, False),  # below the threshold, whatever the background
        (0.90, 0.90, 0.90, True),  # certain
        (0.89, 0.90, 0.90, False),
    ],
)
def test_near_rule(cosine: float, left: float, right: float, near: bool) -> None:
    """A pair called near on its cosine alone in a lake of one subject, or a certain one missed there."""
    rule = NearRule(threshold=0.65, margin=0.1999, certain=0.9)
    assert rule.matches(np.array([cosine]), np.array([left]), np.array([right])).tolist() == [near]


def test_margin_and_half_the_alignment_make_the_evidence() -> None:
    """A cosine that is counted beside its margin: among much that is alike, all would then be near-duplicates."""
    rule = NearRule(threshold=0.5, margin=0.1, certain=0.95, evidence=0.45)
    cosines, backgrounds = np.array([0.6, 0.6, 0.9, 0.9, 0.9]), np.array([0.45, 0.45, 0.75, 0.75, 0.45])
    aligned = np.array([0.61, 0.59, 0.61, 0.59, 0.0])
    assert rule.matches(cosines, backgrounds, backgrounds, aligned).tolist() == [True, False, True, False, True]
