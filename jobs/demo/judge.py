"""Compares the issues that a run reported with the trouble that was planted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobs.lakes import Lake

PAIRED = ("exact_duplicate", "near_duplicate", "leak")  # kinds in which the evidence is a second image


@dataclass(frozen=True)
class Planted:
    """One trouble in the lake.

    kind: the name of the issue. path: the image, `split/label/name`. evidence: the other image of a duplicate or leak.
    detail: how it was made. required: False where the flag would be right too but nothing was planted for its sake;
    such a flag counts neither as found nor as false.
    """

    kind: str
    path: str
    evidence: str | None = None
    detail: str = ""
    required: bool = True


@dataclass(frozen=True)
class Row:
    """The outcome for a kind. planted = found + missed; false and allowed count reported rows."""

    kind: str
    planted: int
    found: int
    missed: int
    false: int
    allowed: int

    @property
    def found_share(self) -> float:
        """found / planted, 1.0 where nothing was planted."""
        return self.found / self.planted if self.planted else 1.0

    @property
    def false_share(self) -> float:
        """false / (found + false), 0.0 where nothing was reported."""
        return self.false / (self.found + self.false) if self.found + self.false else 0.0


Issue = tuple[str, str, str | None]  # (uri or path, issue, uri or path of the evidence)


def judge(truth: Sequence[Planted], issues: Iterable[Issue]) -> list[Row]:
    """Rows of outcomes, one a kind, in the order in which the kinds first stand in the truth, then kinds never planted.

    Paths are compared by their last three parts (split, label, name), so absolute paths and S3 URIs will do.

    Found. A planted image of a kind without evidence is found where it is flagged with that kind. Of a duplicate or
    leak it is found where a row of that kind has it on one side, as the flagged image or as the evidence, and on the
    other side a different image of its group; a group is all the images that the truth ties together by
    exact_duplicate, near_duplicate and leak. So it does not matter which of a pair the tool keeps.
    False. A row of a kind without evidence is false where the truth has no entry of that kind for the image. A row of
    a duplicate kind is false where its two images are not two different ones of a group, or evidence is missing, and
    of leak also where both stand in one split. A look-alike is false where its two images are copies.
    Allowed. Any other row that finds nothing planted: entries that are not required, and pairs within a group under a
    kind that was not planted for either (an exact copy called a near duplicate too).
    A row reported twice counts once.
    """
    groups = _groups(truth)
    reported = list(dict.fromkeys((tail(path), kind, tail(other) if other else None) for path, kind, other in issues))
    kinds = list(dict.fromkeys([*(entry.kind for entry in truth), *(kind for _, kind, _ in reported)]))
    return [
        _row(kind, truth, [(path, other) for path, named, other in reported if named == kind], groups) for kind in kinds
    ]


def total(rows: Sequence[Row]) -> Row:
    """The sums over all kinds, as a row named total."""
    return Row(
        "total",
        sum(row.planted for row in rows),
        sum(row.found for row in rows),
        sum(row.missed for row in rows),
        sum(row.false for row in rows),
        sum(row.allowed for row in rows),
    )


def format_table(rows: Sequence[Row]) -> str:
    """A table for the terminal, the total below. Ends without a line break."""
    head = f"{'issue':<18}{'planted':>8}{'found':>7}{'missed':>8}{'false':>7}{'allowed':>9}"
    head += f"{'share found':>13}{'share false':>13}"
    lines = [head, "-" * len(head)]
    for row in [*rows, total(rows)]:
        if row.kind == "total":
            lines.append("-" * len(head))
        lines.append(
            f"{row.kind:<18}{row.planted:>8}{row.found:>7}{row.missed:>8}{row.false:>7}{row.allowed:>9}"
            f"{row.found_share:>13.1%}{row.false_share:>13.1%}"
        )
    return "\n".join(lines)


def _row(
    kind: str, truth: Sequence[Planted], reported: Sequence[tuple[str, str | None]], groups: dict[str, int]
) -> Row:
    """The outcome for one kind. reported: (path, evidence) of its rows."""
    wanted = {entry.path for entry in truth if entry.kind == kind and entry.required}
    spared = {entry.path for entry in truth if entry.kind == kind and not entry.required}
    found: set[str | None] = set()
    false = allowed = 0
    for path, other in reported:
        if kind in PAIRED:
            right = other is not None and path != other and path in groups and groups[path] == groups.get(other)
            if kind == "leak" and other is not None:
                right = right and path.split("/")[0] != other.split("/")[0]
            hits = wanted.intersection((path, other))
        elif kind == "look_alike":
            right = other is not None and (path not in groups or groups[path] != groups.get(other))
            hits = set()
        else:
            right = path in wanted or path in spared
            hits = wanted.intersection((path,))
        if not right:
            false += 1
        elif hits:
            found |= hits
        else:
            allowed += 1
    return Row(kind, len(wanted), len(found), len(wanted) - len(found), false, allowed)


def _groups(truth: Sequence[Planted]) -> dict[str, int]:
    """Image -> number of the group of images that pairs of the truth tie together."""
    groups: dict[str, int] = {}
    for number, entry in enumerate(truth):
        if entry.kind not in PAIRED or entry.evidence is None:
            continue
        merged = {groups[path] for path in (entry.path, entry.evidence) if path in groups}
        groups.update({path: number for path, group in groups.items() if group in merged})
        groups[entry.path] = groups[entry.evidence] = number
    return groups


def tail(uri: str) -> str:
    """The last three parts of a path or URI: split, label and name."""
    return "/".join(uri.split("/")[-3:])


def found_issues(lake: Lake) -> list[Issue]:
    """The rows of `issues`, images as URIs."""
    from pyspark.sql import functions as F

    uris = lake.read("images").select("image_id", "uri")
    evidence = uris.select(F.col("image_id").alias("evidence_id"), F.col("uri").alias("evidence"))
    rows = lake.read("issues").join(uris, "image_id").join(evidence, "evidence_id", "left")
    return [(row["uri"], row["issue"], row["evidence"]) for row in rows.select("uri", "issue", "evidence").collect()]
