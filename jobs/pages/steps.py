"""What the first page of the report says to do next."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from jobs.pages.format import count, number, share, size
from jobs.pages.texts import COPIES, ISSUES, LABELS
from jobs.pages.values import Classes, Summary

NAMED = 4  # pairs of splits or of labels that a step names


@dataclass(frozen=True)
class Step:
    """One thing to do next. command: a line to paste into a shell."""

    tone: str
    title: str
    text: str
    href: str | None = None
    command: str | None = None


def next_steps(summary: Summary, classes: Classes | None, pages: Mapping[str, str]) -> list[Step]:
    """What to do, most urgent first. pages: kind of issue -> its page."""
    steps = [
        step
        for step in (
            _leaks(summary, pages),
            _wrong_labels(summary, classes, pages),
            _conflicts(summary, pages),
            _copies(summary, pages),
            _failures(summary, pages),
            _review(summary, pages),
        )
        if step is not None
    ]
    if steps:
        text = (
            "Writes what to keep, what to remove and why, and corrected labels, by rules that you can set. It deletes "
            "nothing; with --dry-run it only says what it would do."
        )
        steps.append(Step("ok", "Make the clean set", text, command=clean_command(summary.lake)))
    return steps


def clean_command(lake: str) -> str:
    """The command line that writes the clean set, quoted for a POSIX shell."""
    return f"imagesieve clean --lake {shlex.quote(lake)} --out clean.csv"


def _leaks(summary: Summary, pages: Mapping[str, str]) -> Step | None:
    leaks = summary.issues.get("leak", 0)
    if not leaks:
        return None
    worst = sorted((pair for pair in summary.leaks if pair.between == "split"), key=lambda pair: -pair.images)[:NAMED]
    pairs = "; ".join(f"{number(pair.images)} of {pair.here} also in {pair.there}" for pair in worst)
    text = "A model tested on them has seen them before. Take them out of one of the splits."
    return Step(
        "bad",
        f"{count(leaks, 'image')} leak{'s' if leaks == 1 else ''} between splits",
        f"{text} ({pairs})" if pairs else text,
        pages.get("leak"),
    )


def _wrong_labels(summary: Summary, classes: Classes | None, pages: Mapping[str, str]) -> Step | None:
    wrong = max(summary.issues.get("wrong_label", 0), summary.relabel)
    if not wrong:
        return None
    several = wrong - summary.relabel
    text = "Each comes with the label that fits better and a picture that has it." if summary.relabel else ""
    if several:
        told = "with several labels those are named that probably do not hold or are missing."
        text = f"{text} Of {count(several, 'image')} {told}".strip()
    if classes is not None and classes.confusions:
        pairs = (f"{pair.label} → {pair.other} ({number(pair.images)})" for pair in classes.confusions[:NAMED])
        text += f" Most often: {', '.join(pairs)}."
    return Step("bad", f"{count(wrong, 'label')} may be wrong", text, pages.get("wrong_label"))


def _conflicts(summary: Summary, pages: Mapping[str, str]) -> Step | None:
    conflicts = summary.issues.get("label_conflict", 0)
    if not conflicts:
        return None
    verb = "has" if conflicts == 1 else "have"
    text = "Of two labels of one picture at most one is right, unless a picture may have both."
    title = f"{count(conflicts, 'image')} {verb} a copy with another label"
    return Step("bad", title, text, pages.get("label_conflict"))


def _copies(summary: Summary, pages: Mapping[str, str]) -> Step | None:
    if not summary.removable:
        return None
    freed = f" That frees {size(summary.removable_bytes)}." if summary.removable_bytes else ""
    kind = max(("exact_duplicate", "near_duplicate"), key=lambda issue: summary.issues.get(issue, 0))
    return Step(
        "warn",
        f"{count(summary.removable, 'image')} could be removed, {share(summary.removable, summary.images)} of all",
        f"Each is a copy of an image that is kept, or holds nothing of use.{freed}",
        pages.get(kind),
    )


def _failures(summary: Summary, pages: Mapping[str, str]) -> Step | None:
    if not summary.failed:
        return None
    return Step(
        "bad",
        f"{count(summary.failed, 'file')} could not be read",
        "Timeouts and network faults are tried again by the next run; the rest needs a new copy.",
        pages.get("corrupted"),
    )


def _review(summary: Summary, pages: Mapping[str, str]) -> Step | None:
    if not summary.review:
        return None
    told = {issue for issue, text in ISSUES.items() if text.theme in (COPIES, LABELS)} | {"corrupted", "unread"}
    kinds = [issue for issue in ISSUES if issue not in told and summary.issues.get(issue)]
    first = max(kinds, key=lambda issue: summary.issues[issue], default="")
    verb = "deserves" if summary.review == 1 else "deserve"
    text = "Nobody but you can say whether these are meant: start with the worst of each kind."
    return Step("info", f"{count(summary.review, 'image')} {verb} a look", text, pages.get(first))
