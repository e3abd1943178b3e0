"""Agreement: how often people have found our findings right, by issue, with an interval."""

from __future__ import annotations

from typing import Any

import numpy as np

from jobs.pages.texts import ISSUES as TEXTS
from jobs.serve.columns import Columns
from jobs.serve.decisions import Decisions
from jobs.tables import DECISIONS, KEEP, SKIP
from udfs.vectors.recall import wilson


def by_issue(columns: Columns, decisions: Decisions) -> list[dict[str, Any]]:
    """For each issue of decided images: how many were kept as they are, which says that it was wrong, and how many were
    removed or relabelled. Skipped ones say nothing, and what agents decided does not count. precision: the share of
    the latter, low and high its interval."""
    codes = decisions.by_people()
    issue = columns.coded("issue")
    told: dict[str, list[int]] = {}
    for place, name in enumerate(DECISIONS, start=1):
        if name != SKIP:
            found = issue.counts(np.flatnonzero(codes == place).astype(np.int32))
            for each, count in found.items():
                if each:
                    told.setdefault(each, [0, 0])[name == KEEP] += count
    rows = []
    for name, (right, wrong) in sorted(told.items()):
        share = right / (right + wrong)
        low, high = wilson(share, right + wrong)
        rows.append(
            {"issue": name, "title": TEXTS[name].title, "right": right, "wrong": wrong, "precision": share,
             "low": low, "high": high}
        )  # fmt: skip
    return rows
