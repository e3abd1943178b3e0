"""The pages of the report: plain values in, one folder of static HTML out.

The pages open from disk (file://) without a server and without JavaScript. Names, labels and error details come from
the data and are not trusted: every value is escaped by Jinja2, characters that cannot be seen are written out, and no
link or image address is ever made from an image's URI.
"""

import base64
import hashlib
import math
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

TOP_LABELS = 50
STRIP = 4  # previews on an issue's card on the first page
SPLIT_ORDER = {"train": 0, "test": 2}  # all other splits lie between them, by name
THUMB = re.compile(r"thumbs/[0-9]{1,19}\.(webp|jpg|png)", re.ASCII)
INVISIBLE = frozenset(
    {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
)  # Unicode: control, format (bidi), surrogates, private, lines
SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


@dataclass(frozen=True)
class IssueText:
    """How the report speaks of one kind of issue. `evidence` is the caption of the other image."""

    title: str
    tone: str  # bad, warn or info: the class of its colour
    what: str
    how: str
    do: str
    evidence: str = "Compare with"
    ranked: bool = True  # False: all scores are alike, so none of them is the worst


ISSUES: Mapping[str, IssueText] = {
    "leak": IssueText(
        "Leaks between splits",
        "bad",
        "The same picture, or nearly the same, is in more than one split.",
        "Duplicate clusters whose members belong to different splits.",
        "Remove it from one of the splits before you trust a test result.",
        "Also in",
    ),
    "corrupted": IssueText(
        "Unreadable files",
        "bad",
        "The file could not be read or decoded to its last row.",
        "Every file is fetched and decoded once; what fails is kept with its error.",
        "Fetch it again from its source, or remove it.",
    ),
    "exact_duplicate": IssueText(
        "Exact duplicates",
        "warn",
        "Pixel for pixel the same as the image that is kept.",
        "Equal hashes of the decoded pixels, whatever the file's name or metadata.",
        "Remove it. Where the labels of the two differ, first decide which is right.",
        "Kept",
        ranked=False,
    ),
    "near_duplicate": IssueText(
        "Near duplicates",
        "warn",
        "The same picture after an edit: resized, cropped, mirrored or saved again.",
        "Their embeddings are alike, more than those around them, and one picture fits when laid over the other.",
        "Look at a few, then remove all above the cosine where you agree.",
        "Kept",
    ),
    "outlier": IssueText(
        "Outliers",
        "warn",
        "Unlike every other image here.",
        "Even its nearest neighbours are far away in the space of embeddings.",
        "Check whether it belongs in this data at all.",
        "Nearest image",
    ),
    "dark": IssueText(
        "Too dark",
        "info",
        "Nearly all of the image is black or almost black.",
        "Even its bright pixels (99th percentile) have a low brightness.",
        "Check whether anything can be recognised; if not, remove it.",
    ),
    "bright": IssueText(
        "Too bright",
        "info",
        "Nearly all of the image is white or overexposed.",
        "Its mean brightness and that of its dark pixels (5th percentile) are high.",
        "Check whether anything can be recognised; if not, remove it.",
    ),
    "blurry": IssueText(
        "Blurry",
        "info",
        "The image has no sharp edges.",
        "Little variation in second derivatives, measured at one common size.",
        "Keep it if the blur is meant, otherwise find a sharper copy.",
    ),
    "low_information": IssueText(
        "Little information",
        "info",
        "One colour or a flat pattern: there is almost nothing in it.",
        "The entropy of its brightness is low.",
        "Often a placeholder or a failed download: remove it.",
    ),
    "odd_size": IssueText(
        "Odd size",
        "info",
        "Much smaller or larger than the images around it.",
        "Its side, the square root of its area, is far from the median of all.",
        "Small ones are often thumbnails: look for the original.",
    ),
    "odd_aspect_ratio": IssueText(
        "Odd shape",
        "info",
        "Very wide or very tall.",
        "The ratio of its short side to its long side is low.",
        "Check that a resize or crop to your model's input leaves the subject in.",
    ),
    "grayscale": IssueText(
        "Grayscale",
        "info",
        "It has no colour.",
        "Its colour channels are the same, or nearly.",
        "Fine if your model expects it; otherwise keep an eye on the balance between classes.",
        ranked=False,
    ),
}

ERRORS: Mapping[str, str] = {
    "not_found": "There is no file at this address any more.",
    "access_denied": "The store refused to hand it out: check the rights of the role.",
    "timeout": "It took too long. The next run tries it again.",
    "fetch_failed": "The store or the network failed. The next run tries it again.",
    "empty": "The file has no bytes.",
    "too_many_bytes": "The file is larger than the limit in the configuration.",
    "too_many_pixels": "The image has more pixels than the limit in the configuration.",
    "not_an_image": "The bytes are not those of an image.",
    "unsupported": "An image format or a variant that is not supported.",
    "truncated": "The file ends before the image does.",
    "corrupt": "The image data is damaged.",
    "crashed": "The decoder crashed or hung on this file.",
    "no_vector": "The imported vectors hold none for it, or none that is usable.",
}


@dataclass(frozen=True)
class Picture:
    """One image. thumb: 'thumbs/<image_id>.webp' relative to the folder, or None for no preview; sizes in pixels."""

    image_id: int
    uri: str
    thumb: str | None = None
    split: str | None = None
    label: str | None = None
    width: int | None = None
    height: int | None = None


@dataclass(frozen=True)
class Finding:
    """One row of `issues`. score in [0, 1], low = bad; suggestion is remove, relabel or review."""

    picture: Picture
    score: float | None
    suggestion: str | None = None
    suggested_label: str | None = None
    evidence: Picture | None = None
    cosine: float | None = None
    note: str | None = None


@dataclass(frozen=True)
class Gallery:
    """The findings to show of one kind of issue, in the order to show them (worst first), of `total` in the table."""

    issue: str
    total: int
    findings: Sequence[Finding]


@dataclass(frozen=True)
class Member:
    """One image of a cluster; cosine is that to the keeper."""

    picture: Picture
    cosine: float | None
    is_keeper: bool


@dataclass(frozen=True)
class ClusterView:
    """One cluster of duplicates. kind: exact or near; `members` may be fewer than `size`, the keeper first."""

    cluster_id: int
    kind: str
    size: int
    members: Sequence[Member]


@dataclass(frozen=True)
class Clusters:
    """The clusters to show (largest first) of `total` in the table."""

    total: int
    clusters: Sequence[ClusterView]


@dataclass(frozen=True)
class Failure:
    """One image that could not be read. error: a code of ERRORS."""

    picture: Picture
    error: str
    detail: str | None = None
    stage: str | None = None
    attempt: int | None = None


@dataclass(frozen=True)
class Failures:
    """The failures to show of `total`; codes: all failures by code."""

    total: int
    codes: Mapping[str, int]
    failures: Sequence[Failure]


@dataclass(frozen=True)
class Stage:
    """One row of `runs`. counts: 'in', 'out', 'failed' and whatever else the stage counted."""

    job: str
    seconds: float
    counts: Mapping[str, int]
    status: str


@dataclass(frozen=True)
class Summary:
    """What the first page says. Counts are of images. created_at needs a time zone.

    issues: kind -> images; a kind that is absent was not looked for, 0 means none was found.
    splits: split -> images, complete. labels: label -> split -> images, at least the TOP_LABELS largest.
    labels_total: number of distinct labels, null not counted. label_issues: label -> images with an issue.
    leaks: (split, other split) -> images of the first that have a copy in the second.
    histograms: score -> counts in equal bins over [0, 1]. thresholds: score -> where an issue begins.
    removable, relabel, review: distinct images by suggestion. with_issues: distinct images with any issue.
    """

    lake: str
    created_at: datetime
    version: str
    images: int
    embedded: int
    failed: int
    model: str | None = None
    issues: Mapping[str, int] = field(default_factory=dict)
    with_issues: int | None = None
    removable: int = 0
    removable_bytes: int | None = None
    relabel: int = 0
    review: int = 0
    leaks: Mapping[tuple[str, str], int] = field(default_factory=dict)
    splits: Mapping[str | None, int] = field(default_factory=dict)
    labels: Mapping[str | None, Mapping[str | None, int]] = field(default_factory=dict)
    labels_total: int = 0
    label_issues: Mapping[str | None, int] = field(default_factory=dict)
    histograms: Mapping[str, Sequence[int]] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)
    stages: Sequence[Stage] = ()


@dataclass(frozen=True)
class Step:
    """One thing to do next."""

    tone: str
    title: str
    text: str
    href: str | None


@dataclass(frozen=True)
class LabelRow:
    """A row of the table of splits and labels. counts: images by split, in the order of the columns."""

    name: str | None
    counts: Sequence[int]
    total: int
    issues: int | None
    is_rest: bool = False


def written_out(text: str) -> str:
    """The text with every character that cannot be seen, or that reorders others, as an escape such as \\u202e."""
    return text if text.isprintable() else "".join(_escape(char) or char for char in text)


def marked(text: str) -> Markup:
    """Like written_out, as HTML: each escape in its own span, so it differs from a name that spells it out."""
    parts = (
        Markup('<span class="esc">{}</span>').format(escape) if (escape := _escape(char)) else Markup.escape(char)
        for char in text
    )
    return Markup.escape(text) if text.isprintable() else Markup("").join(parts)


def _escape(char: str) -> str | None:
    if unicodedata.category(char) not in INVISIBLE:
        return None
    code = ord(char)
    wide = f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    return SHORT.get(char, wide)


def number(value: int) -> str:
    """1234567 as 1,234,567."""
    return f"{value:,}"


def count(value: int, singular: str, plural: str | None = None) -> str:
    """'1 image', '1,234 images'."""
    return f"{value:,} {singular if value == 1 else plural or singular + 's'}"


def share(part: int, whole: int) -> str:
    """A percentage that says neither 0 % nor 100 % unless it is."""
    if whole <= 0:
        return "–"
    percent = 100 * part / whole
    if 0 < percent < 0.1:
        return "<0.1 %"
    if 99.9 < percent < 100:
        return ">99.9 %"
    return f"{percent:.1f} %" if percent % 1 else f"{percent:.0f} %"


def ratio(value: float | None, digits: int = 3) -> str:
    """A score or a cosine; a dash where there is none."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def size(value: int) -> str:
    """Bytes in decimal units: 1.2 GB."""
    amount = float(value)
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if amount < 999.95:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:,.1f} PB"


def duration(seconds: float) -> str:
    """0.4 s, 75 s as 1 min 15 s, 2 h 5 min."""
    if not math.isfinite(seconds):
        return "–"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60:,} h {minutes % 60} min"


def shown(visible: int, total: int, one: str, which: str = "") -> str:
    """How many of how many: 'All 12 images', 'The 60 worst of 1,234 images'."""
    if visible >= total:
        return count(total, one) if total < 2 else f"All {count(total, one)}"
    if which == "first":
        return f"The first {visible:,} of {count(total, one)}"
    return f"{visible:,} of {count(total, one)}" if not which else f"The {visible:,} {which} of {count(total, one)}"


def next_steps(summary: Summary, pages: Mapping[str, str]) -> list[Step]:
    """What to do, most urgent first. pages: kind of issue -> its page."""
    steps = []
    leaks = summary.issues.get("leak", 0)
    if leaks:
        worst = sorted(summary.leaks.items(), key=lambda item: (-item[1], item[0]))[:4]
        pairs = "; ".join(f"{number(n)} of {split} also in {other}" for (split, other), n in worst)
        text = "A model tested on them has seen them before. Take them out of one of the splits."
        steps.append(
            Step("bad", f"{count(leaks, 'image')} leak{'s' if leaks == 1 else ''} between splits",
                 f"{text} ({pairs})" if pairs else text, pages.get("leak"))
        )  # fmt: skip
    if summary.removable:
        freed = f" That frees {size(summary.removable_bytes)}." if summary.removable_bytes else ""
        kind = max(("exact_duplicate", "near_duplicate"), key=lambda issue: summary.issues.get(issue, 0))
        part = share(summary.removable, summary.images)
        steps.append(
            Step("warn", f"{count(summary.removable, 'image')} could be removed, {part} of all",
                 f"Each is a copy of an image that is kept, or holds nothing of use.{freed}", pages.get(kind))
        )  # fmt: skip
    if summary.relabel:
        steps.append(
            Step("warn", f"{count(summary.relabel, 'label')} may be wrong",
                 "For each there is a better label in the column suggested_label of the table issues.", None)
        )  # fmt: skip
    if summary.failed:
        steps.append(
            Step("bad", f"{count(summary.failed, 'file')} could not be read",
                 "Timeouts and network faults are tried again by the next run; the rest needs a new copy.",
                 pages.get("corrupted"))
        )  # fmt: skip
    if summary.review:
        kinds = [issue for issue in ISSUES if issue not in {"leak", "corrupted"} and summary.issues.get(issue)]
        kinds = [issue for issue in kinds if not issue.endswith("_duplicate")]
        first = max(kinds, key=lambda issue: summary.issues[issue], default="")
        text = "Nobody but you can say whether these are meant: start with the worst of each kind."
        verb = "deserves" if summary.review == 1 else "deserve"
        steps.append(Step("info", f"{count(summary.review, 'image')} {verb} a look", text, pages.get(first)))
    return steps


def label_rows(summary: Summary, columns: Sequence[str | None]) -> list[LabelRow]:
    """The TOP_LABELS largest labels and, where there are more, one row for the rest; columns: the splits."""
    rows = [
        LabelRow(label, [by.get(split, 0) for split in columns], sum(by.values()), summary.label_issues.get(label))
        for label, by in summary.labels.items()
    ]
    rows.sort(key=lambda row: (-row.total, row.name is None, row.name or ""))
    rows = rows[:TOP_LABELS]
    rest = [summary.splits.get(split, 0) - sum(row.counts[i] for row in rows) for i, split in enumerate(columns)]
    if sum(rest) > 0:
        rows.append(LabelRow("All other labels", rest, sum(rest), None, is_rest=True))
    return rows


@dataclass(frozen=True)
class Bar:
    """One bar of a histogram in the units of its drawing."""

    x: float
    y: float
    width: float
    height: float
    low: bool
    title: str


def bars(counts: Sequence[int], threshold: float | None, width: int = 240, height: int = 72) -> list[Bar]:
    """Bars of a histogram over [0, 1]. Heights are logarithmic: a few bad images would vanish beside many good."""
    top = math.log1p(max(counts, default=0)) or 1.0
    step = width / max(len(counts), 1)
    drawn = []
    for i, n in enumerate(counts):
        tall = max(height * math.log1p(n) / top, 2.0 if n else 0.0)
        low, high = i / len(counts), (i + 1) / len(counts)
        drawn.append(
            Bar(
                round(i * step, 2),
                round(height - tall, 2),
                round(step - 1, 2),
                round(tall, 2),
                threshold is not None and (low + high) / 2 < threshold,
                f"{low:.2f} to {high:.2f}: {count(n, 'image')}",
            )
        )
    return drawn


Item = TypeVar("Item")


def _pages(items: Sequence[Item], per_page: int) -> list[Sequence[Item]]:
    return [items[start : start + per_page] for start in range(0, len(items), per_page)] or [items]


def _page_name(stem: str, page: int) -> str:
    return f"{stem}.html" if page == 1 else f"{stem}-{page}.html"


def _sql_text(text: str) -> str:
    return "'" + written_out(text).replace("'", "''") + "'"


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("jobs"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        # Every value that is printed passes here, so no template can forget it.
        finalize=lambda value: (
            written_out(value) if isinstance(value, str) and not isinstance(value, Markup) else value
        ),
    )
    filters: dict[str, Callable[..., Any]] = {
        "marked": marked, "number": number, "counted": count, "share": share, "ratio": ratio, "size": size,
        "duration": duration, "python": repr, "sql": _sql_text,
    }  # fmt: skip
    environment.filters.update(filters)
    loader = environment.loader
    css = loader.get_source(environment, "style.css")[0] if loader else ""
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    # A document on disk has no origin, and browsers differ in whether 'self' is then the folder: hence file: as well.
    policy = f"default-src 'none'; img-src 'self' file: data:; style-src 'sha256-{digest}'; base-uri 'none'"
    environment.globals.update(
        css=Markup(css),  # noqa: S704  our own file, no data
        policy=policy,
        texts=ISSUES,
        errors=ERRORS,
        shown=shown,
        page_name=_page_name,
    )
    return environment


def _check(
    summary: Summary, galleries: Sequence[Gallery], clusters: Clusters | None, failures: Failures | None
) -> None:
    names = [gallery.issue for gallery in galleries]
    for name in [*names, *summary.issues]:
        if name not in ISSUES:
            raise ValueError(f"report: {name!r} is not a kind of issue, use one of {', '.join(ISSUES)}")
    if "corrupted" in names:
        raise ValueError("report: the page of corrupted images is made from the failures, leave its gallery out")
    if len(set(names)) < len(names):
        raise ValueError(f"report: one gallery for each kind of issue, got {', '.join(names)}")
    if summary.created_at.tzinfo is None:
        raise ValueError("report: created_at must have a time zone")
    pictures = [p for g in galleries for f in g.findings for p in (f.picture, f.evidence) if p]
    pictures += [m.picture for c in (clusters.clusters if clusters else ()) for m in c.members]
    pictures += [f.picture for f in (failures.failures if failures else ())]
    for picture in pictures:
        if picture.thumb is not None and not THUMB.fullmatch(picture.thumb):
            raise ValueError(f"report: thumb must be thumbs/<image_id>.webp, got {picture.thumb!r}")


def write_report(
    folder: Path,
    summary: Summary,
    galleries: Sequence[Gallery],
    clusters: Clusters | None = None,
    failures: Failures | None = None,
    *,
    per_page: int = 200,
) -> Path:
    """Writes the pages into a local folder and returns the path of index.html. The same values give the same bytes.

    Thumbnails are the caller's: they lie in folder/thumbs. Pages of an earlier report that this one does not have are
    deleted, nothing else is. Raises ValueError for an unknown kind of issue, two galleries of one kind, a thumbnail
    path that is not of the form thumbs/<image_id>.webp, a created_at without time zone, or per_page < 1.
    """
    if per_page < 1:
        raise ValueError(f"report: per_page must be at least 1, got {per_page}")
    _check(summary, galleries, clusters, failures)
    environment = _environment()
    by_issue = {gallery.issue: gallery for gallery in galleries}
    linked = {issue: _page_name(issue, 1) for issue in ISSUES if issue in by_issue}
    if failures is not None:
        linked["corrupted"] = _page_name("corrupted", 1)
    columns = sorted(summary.splits, key=lambda split: (split is None, SPLIT_ORDER.get(split or "", 1), split or ""))
    created_at = summary.created_at.astimezone(UTC)
    common: dict[str, Any] = {
        "summary": summary,
        "created_at": f"{created_at:%Y-%m-%d %H:%M} UTC",
        "linked": linked,
        "clusters_total": None if clusters is None else clusters.total,
    }
    pages: dict[str, str] = {}

    def paged(stem: str, template: str, items: Sequence[Item], **values: Any) -> None:
        parts = _pages(items, per_page)
        for page, part in enumerate(parts, 1):
            pages[_page_name(stem, page)] = environment.get_template(template).render(
                **common, **values, stem=stem, items=part, visible=len(items), first=(page - 1) * per_page + 1,
                page=page, page_count=len(parts),
            )  # fmt: skip

    for gallery in galleries:
        paged(gallery.issue, "gallery.html", gallery.findings, issue=gallery.issue, total=gallery.total)
    if failures is not None:
        codes = sorted(failures.codes.items(), key=lambda item: (-item[1], item[0]))
        paged("corrupted", "failures.html", failures.failures, issue="corrupted", total=failures.total, codes=codes)
    if clusters is not None:
        # A cluster is many images: a page holds about per_page of them, and at least one cluster.
        biggest = max((len(view.members) for view in clusters.clusters), default=1)
        parts = _pages(clusters.clusters, max(1, per_page // max(biggest, 1)))
        for page, part in enumerate(parts, 1):
            pages[_page_name("clusters", page)] = environment.get_template("clusters.html").render(
                **common, stem="clusters", issue="clusters", items=part, visible=len(clusters.clusters),
                total=clusters.total, page=page, page_count=len(parts),
            )  # fmt: skip
    pages["index.html"] = environment.get_template("index.html").render(
        **common,
        issue="index",
        steps=next_steps(summary, linked),
        codes=sorted(failures.codes, key=lambda code: (-failures.codes[code], code))[:3] if failures else [],
        strips={issue: _strip(gallery) for issue, gallery in by_issue.items()},
        columns=columns,
        named=any(name is not None for name in (*summary.splits, *summary.labels)),
        rows=label_rows(summary, columns),
        histograms={
            name: bars(counts, summary.thresholds.get(name)) for name, counts in sorted(summary.histograms.items())
        },
        longest=max((stage.seconds for stage in summary.stages), default=0.0),
    )
    folder.mkdir(parents=True, exist_ok=True)
    ours = re.compile(rf"({'|'.join([*ISSUES, 'clusters'])})(-[0-9]+)?\.html")
    for old in folder.iterdir():
        if ours.fullmatch(old.name) and old.name not in pages:
            old.unlink()
    for name, text in pages.items():  # index.html is the last, so it never links to a page that is not there yet
        (folder / name).write_bytes(text.encode())
    return folder / "index.html"


def _strip(gallery: Gallery) -> list[Picture]:
    """The first previews of a gallery; where there is evidence, image and evidence by turns."""
    pictures = [p for f in gallery.findings[:STRIP] for p in (f.picture, f.evidence) if p and p.thumb]
    return pictures[:STRIP]
