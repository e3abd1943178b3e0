"""Agreement: how often people have found our findings right, by issue, with an interval."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from jobs.pages.texts import ISSUES as TEXTS
from jobs.serve.columns import Columns
from jobs.serve.decisions import Decisions
from jobs.tables import DECISIONS, KEEP, RELABEL, REMOVE, SKIP
from udfs.vectors.recall import wilson

ENOUGH = 10  # judged, before the rest is offered
LIKELY = 0.9  # share of the judged of which one thing was decided, from which on the same is offered for the rest


def by_issue(columns: Columns, decisions: Decisions) -> list[dict[str, Any]]:
    """For each issue of judged images: how many were kept as they are, which says that it was wrong, and how many were
    removed or relabelled. Skipped ones say nothing, nor do those that an agent decided, or a rule, which nobody has
    looked at. precision: the share of the latter, low and high its interval.

    rest: how many images of the issue are undecided, and offer: what may be done with them as with those that were
    judged, remove or relabel, None where fewer than ENOUGH were judged or less than LIKELY of them had the same done;
    for relabel, rest are those alone for which a label is suggested. alike, alike_low, alike_high: the share that had
    it done, with its interval."""
    codes, judged_rows = decisions.column().codes, decisions.judged()
    issue = columns.coded("issue")
    told: dict[str, Counter[str]] = {}
    for place, name in enumerate(DECISIONS, start=1):
        if name != SKIP:
            found = issue.counts(np.flatnonzero((codes == place) & judged_rows).astype(np.int32))
            for each, count in found.items():
                if each:
                    told.setdefault(each, Counter())[name] += count
    undecided = np.flatnonzero(codes == 0).astype(np.int32)
    rest = issue.counts(undecided) if told else {}
    to_relabel = issue.counts(undecided[columns.coded("suggestion").having([RELABEL])[undecided]]) if told else {}
    rows = []
    for name, counts in sorted(told.items()):
        judged = counts.total()
        share = 1 - counts[KEEP] / judged
        low, high = wilson(share, judged)
        most = max((REMOVE, RELABEL), key=lambda each: counts[each])
        alike = counts[most] / judged
        alike_low, alike_high = wilson(alike, judged)
        left = (to_relabel if most == RELABEL else rest).get(name, 0)
        is_offered = judged >= ENOUGH and alike >= LIKELY and left > 0
        rows.append(
            {"issue": name, "title": TEXTS[name].title, "right": judged - counts[KEEP], "wrong": counts[KEEP],
             "precision": share, "low": low, "high": high, "rest": left, "offer": most if is_offered else None,
             "alike": alike, "alike_low": alike_low, "alike_high": alike_high}
        )  # fmt: skip
    return rows
