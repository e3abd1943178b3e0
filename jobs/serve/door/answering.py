"""Answering: what a lake would say of a picture that it does not have. Nothing is written."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from jobs import tables
from jobs.engines import delta_log
from jobs.errors import LakeError
from jobs.findings import formulas
from jobs.findings.formulas import OF_ARRAYS, QUALITY, Sizes
from jobs.findings.unread import SPOILT, UNREAD
from jobs.rating import store
from jobs.serve.columns import Columns
from jobs.serve.door import making
from jobs.serve.door.beside import Beside, Exact, Seen
from jobs.serve.door.evidence import Evidence
from jobs.serve.door.reading import Reader
from jobs.serve.door.settings import Settings, of_lake
from jobs.serve.searching import Searches
from udfs.images.relation_names import SAME_PIXELS, UNLIKE
from udfs.images.rows import PROPERTIES
from udfs.networks import concepts, models
from udfs.ratings.files import NETWORK
from udfs.ratings.rows import percentiles
from udfs.stores import fetch, uris
from udfs.stores.cache import user_cache
from udfs.vectors.similarity import THRESHOLDS

TOLD = ("sha256", "pixel_hash", "width", "height", "format", "medium", "damage")
DECIMALS = 6  # of what is told


@dataclass(frozen=True)
class Door:
    """A lake that is open to be asked. Raises nothing of pictures: what is wrong with one is part of the answer."""

    lake: str
    columns: Columns
    settings: Settings
    evidence: Evidence
    searches: Searches
    reader: Reader
    classifier: concepts.Classifier | None
    heads: tuple[store.Kept, ...]

    def check(self, data: bytes) -> dict[str, Any]:
        """What the lake would say of the bytes of an image file: see docs/door.md."""
        return self._answer({**self.reader.given(data), "bytes": len(data)})

    def check_at(self, uri: str) -> dict[str, Any]:
        """The same of an image at a path or URI. Raises ValueError for what is neither."""
        return self._answer({**self.reader.lying(uri), "bytes": None})

    @cached_property
    def _beside(self) -> Beside:
        index = self.searches.index
        if index is None:
            raise LakeError(f"{self.lake}: {self.searches.fault or 'the index is still being made'}")
        return Beside(self.columns, self.evidence, index, self.settings)

    def _answer(self, picture: dict[str, Any]) -> dict[str, Any]:
        told: dict[str, Any] = {"lake": self.lake, "versions": self.evidence.at, "model": self.settings.model.key}
        if picture["error"] is not None:
            return {**told, "error": {"code": picture["error"], "detail": picture["detail"]},
                    "issues": _unreadable(picture)}  # fmt: skip
        scores = self._scores(picture)
        exact = self._beside.exact(picture)
        seen = self._beside.near(picture, exact)
        return {
            **told,
            "error": None,
            "picture": {name: picture[name] for name in (*TOLD, "bytes")},
            "properties": {name: picture[name] for name in PROPERTIES},
            "scores": {name: round(float(value), DECIMALS) for name, value in scores.items()},
            "issues": [*self._of_copies(picture, exact, seen), *self._of_file(picture, scores)],
            "usual_in_lake": list(self.evidence.facts.common),
            "exact": self._exact(picture, exact),
            "near": [self._told(each) for each in seen if each.same],
            "look_alikes": [self._told(each) for each in seen if not each.same and UNLIKE not in each.relations],
            "concepts": self._concepts(picture),
            "ratings": self._ratings(picture),
        }

    def _scores(self, picture: dict[str, Any]) -> dict[str, Any]:
        of = {name: np.float64(picture[name]) for name in (*PROPERTIES, "width", "height")}
        of["log_side"] = np.log(np.sqrt(of["width"] * of["height"]))
        facts = self.evidence.facts
        found = formulas.scores(of, Sizes(facts.median, facts.usual), OF_ARRAYS)
        found["quality_score"] = formulas.quality_score(found, OF_ARRAYS)
        return {name: found[name] for name in tables.SCORES}

    def _of_file(self, picture: dict[str, Any], scores: dict[str, Any]) -> list[dict[str, Any]]:
        """Issues of the picture by itself, but for those that the lake is like."""
        found = []
        if picture["damage"]:
            found.append(_issue(tables.DAMAGED, 0.0, "review", detail=picture["damage"]))
        facts = self.evidence.facts
        may = formulas.may_be_faulty(np.asarray(picture["medium"]))
        raised = formulas.raised(scores, self.settings.limits, may, np.bool_(facts.is_coloured), OF_ARRAYS)
        for issue, score in QUALITY.items():
            if raised[issue] and issue not in facts.common:
                found.append(_issue(issue, float(scores[score]), "review"))
        return found

    def _of_copies(self, picture: dict[str, Any], exact: Exact, seen: list[Seen]) -> list[dict[str, Any]]:
        """Issues that follow from copies: none where the rules would keep this picture and not the other."""
        if exact.total:
            if self._beside.is_given_kept(picture, exact.representative):
                return []
            evidence = int(self.columns.id[exact.representative])
            return [_issue(tables.EXACT_DUPLICATE, 0.0, "remove", evidence, 1.0, SAME_PIXELS)]
        same = [each for each in seen if each.same]
        # The keeper of a cluster stands for it, where the picture is near enough to it.
        same.sort(key=lambda each: int(self.evidence.keeper[each.row]) not in (-1, each.row))
        if same:
            if same[0].is_given_kept:
                return []
            return [self._pair(tables.NEAR_DUPLICATE, "remove", same[0])]
        least = self.settings.rule.surest
        alike = [
            each for each in seen if UNLIKE not in each.relations and each.cosine >= least and not each.is_given_kept
        ]
        if not alike or tables.LOOK_ALIKE in self.evidence.facts.common:
            return []
        return [self._pair(tables.LOOK_ALIKE, "review", alike[0])]

    def _pair(self, issue: str, suggestion: str, other: Seen) -> dict[str, Any]:
        score = min(1.0, max(0.0, 1 - other.cosine * max(0.0, other.agreement)))
        evidence = int(self.columns.id[other.row])
        return _issue(issue, score, suggestion, evidence, other.cosine, " ".join(other.relations))

    def _exact(self, picture: dict[str, Any], exact: Exact) -> dict[str, Any]:
        own = bytes.fromhex(picture["sha256"])
        images = [
            {**self._named(row), "same_bytes": self.evidence.sha256[row].tobytes() == own}
            for row in exact.rows.tolist()
        ]
        return {"total": exact.total, "images": images}

    def _told(self, seen: Seen) -> dict[str, Any]:
        keeper = int(self.evidence.keeper[seen.row])
        similarity = min(1.0, max(0.0, seen.cosine))
        return {
            **self._named(seen.row), "relation": " ".join(seen.relations), "similarity": similarity,
            "level": self._level(similarity), "keeper_id": int(self.columns.id[keeper]) if keeper >= 0 else None,
            "kept": "given" if seen.is_given_kept else "lake",
        }  # fmt: skip

    def _level(self, similarity: float) -> str | None:
        """Of THRESHOLDS, which are of the default model: no two models mean the same by a cosine. Copies that are less
        alike are known by their pixels, and low."""
        if self.settings.model.key != models.DEFAULT:
            return None
        return "high" if similarity >= THRESHOLDS["high"] else "medium" if similarity >= THRESHOLDS["medium"] else "low"

    def _named(self, row: int) -> dict[str, Any]:
        return {
            "image_id": int(self.columns.id[row]),
            "uri": self.columns.uri(row).encode("utf-8", "replace").decode(),
            "label": self.columns.coded("label").told(row),
        }

    def _concepts(self, picture: dict[str, Any]) -> list[dict[str, Any]]:
        count = self.settings.concepts
        if self.classifier is None or picture["norm"] is None or not count:
            return []
        vector, norm = np.array([picture["vector"]], np.float32), np.array([picture["norm"]], np.float32)
        names = self.classifier.names
        found, sure = concepts.likeliest(self.classifier.logits(vector, norm), min(count, len(names)))
        return [
            {"concept": names[place], "confidence": confidence}
            for place, confidence in zip(found[0].tolist(), sure[0].tolist(), strict=True)
        ]

    def _ratings(self, picture: dict[str, Any]) -> list[dict[str, Any]]:
        vector = np.array([picture["vector"]], np.float32)
        told: list[dict[str, Any]] = []
        for kept in self.heads:
            head = kept.head
            if head.kind == NETWORK or head.model != self.settings.model.key:
                why = "a network of its own" if head.kind == NETWORK else f"for vectors of {head.model}"
                told.append({"rating": head.key, "score": None, "percentile": None, "uncertainty": None, "why": why})
                continue
            names = head.measured.names if head.measured else ()
            scores, unsure = head.scores(vector, np.array([[picture[name] for name in names]]) if names else None)
            place = percentiles(kept.quantiles, scores) if len(kept.quantiles) else np.full(1, np.nan)
            numbers = {"score": scores[0], "percentile": place[0], "uncertainty": unsure[0]}
            known = {name: float(value) if np.isfinite(value) else None for name, value in numbers.items()}
            told.append({"rating": head.key, **known, "why": None})
        return told


def opened(
    lake: str, at: dict[str, int | None], columns: Columns, searches: Searches, evidence: Evidence | None = None
) -> Door:
    """Opens the door of a gallery. evidence: where it is known; else it is made unless it is there. Raises LakeError,
    ModelError, InputError."""
    settings = of_lake(lake)
    model = settings.model
    if model.format == "vectors":
        raise LakeError(f"{lake}: its vectors were made elsewhere, and the network of {model.key} is not here")
    if delta_log.version(uris.join(lake, "copies")) is None:
        raise LakeError(f"{lake}: it has no table copies: run `imagesieve run` first")
    limits = fetch.Limits(settings.max_bytes)
    return Door(
        lake,
        columns,
        settings,
        evidence or making.opened(lake, at, columns, settings),
        searches,
        Reader(model, limits, settings.max_pixels, settings.decode_timeout_s),
        concepts.prepare(model, user_cache()),
        tuple(store.all_of(lake)),
    )


def _issue(
    name: str, score: float, suggestion: str, evidence: int | None = None, cosine: float | None = None,
    detail: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """As a row of `issues`."""
    return {"issue": name, "score": round(score, DECIMALS), "suggestion": suggestion, "evidence_id": evidence,
            "cosine": cosine, "detail": detail}  # fmt: skip


def _unreadable(picture: dict[str, Any]) -> list[dict[str, Any]]:
    """See jobs.issues.unreadable_issues."""
    error = picture["error"]
    if error in SPOILT:
        return [_issue(tables.CORRUPTED, 0.0, "remove")]
    return [_issue(tables.UNREAD, 0.0, "review", detail=UNREAD[error])] if error in UNREAD else []


def text(answer: dict[str, Any]) -> str:
    """As JSON."""
    return json.dumps(answer, ensure_ascii=False, allow_nan=False)
