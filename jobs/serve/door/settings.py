"""Settings of a lake: with which the last runs of its stages have judged its pictures, and the next is judged too."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jobs import config
from jobs.duplicates.near_rules import UNCALIBRATED, near_rule
from jobs.engines import delta_log
from jobs.engines.datasets import dataset
from jobs.findings.formulas import QUALITY
from udfs.networks import models
from udfs.networks.models import Model
from udfs.stores import uris
from udfs.vectors.near_rule import NearRule


@dataclass(frozen=True)
class Settings:
    """model: whose vectors the lake has. limits: issue -> score, of QUALITY. common_share: of issues. rule,
    keeper_slack, same: of clusters. neighbours: kept of each image. concepts: named of each."""

    model: Model
    max_bytes: int
    max_pixels: int
    decode_timeout_s: float
    limits: dict[str, float]
    common_share: float
    rule: NearRule
    keeper_slack: float
    same: frozenset[str]
    neighbours: int
    concepts: int

    @property
    def least_to_keeper(self) -> float:
        """The cosine to a keeper: see jobs.clusters."""
        return self.rule.least - self.keeper_slack

    @property
    def of_the_lake(self) -> int:
        """63 bits that change with what decides the facts of a lake that are kept for the door."""
        told = json.dumps([self.model.key, sorted(self.limits.items()), self.common_share]).encode()
        return int.from_bytes(hashlib.sha256(told).digest()[:8]) >> 1


def of_lake(lake: str) -> Settings:
    """Those of each stage's last run that ended well; where there was none, the defaults. lake: a canonical URI. Raises
    ModelError for a model that no card of the lake names."""
    runs = _last_runs(lake)
    usual = config.load().as_dict()
    embed, neighbours, clusters, issues, content = (
        {**usual[job], **runs.get(job, {}).get("all", {}).get(job, {})}
        for job in ("embed", "neighbours", "clusters", "issues", "content")
    )
    cards = {key: _model(card) for key, card in runs.get("embed", {}).get("all", {}).get("models", {}).items()}
    model = models.find(embed["model"], cards)
    decided = runs.get("clusters", {}).get("settings", {})
    return Settings(
        model=model,
        max_bytes=embed["max_bytes"],
        max_pixels=embed["max_pixels"],
        decode_timeout_s=embed["decode_timeout_s"],
        limits={issue: float(issues[issue]) for issue in QUALITY},
        common_share=float(issues["common_share"]),
        rule=NearRule(**decided["rule"]) if "rule" in decided else _usual_rule(model),
        keeper_slack=float(clusters["keeper_slack"]),
        same=frozenset(clusters["same"]),
        neighbours=int(neighbours["k"]),
        concepts=int(content["concepts"]),
    )


def _last_runs(lake: str) -> dict[str, Any]:
    """`config` of the last run of each stage that ended well."""
    if delta_log.version(uris.join(lake, "runs")) is None:
        return {}
    rows = dataset(lake, "runs").to_table(columns=["job", "ended_at", "config", "status"])
    done = [row for row in rows.sort_by("ended_at").to_pylist() if row["status"] == "done"]
    return {row["job"]: json.loads(row["config"]) for row in done}


def _model(card: Mapping[str, Any]) -> Model:
    return Model(**{**card, "mean": tuple(card["mean"]), "std": tuple(card["std"])})


def _usual_rule(model: Model) -> NearRule:
    return near_rule(config.load((), [f"embed.model={model.key}"])) if model.key in models.MODELS else UNCALIBRATED
