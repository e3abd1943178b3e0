"""The pages of the report: plain values in, one folder of static HTML out.

The pages open from disk (file://) without a server and without JavaScript. Names, labels, concepts and error details
come from the data and are not trusted: every value is escaped by Jinja2, characters that cannot be seen are written
out, and no link or image address is ever made from an image's URI.
"""

import base64
import hashlib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from jobs.pages.format import (
    count,
    duration,
    marked,
    number,
    points,
    portion,
    ratio,
    share,
    shown,
    size,
    value,
    written_out,
)
from jobs.pages.rating_views import agreement_table, drawn_maps
from jobs.pages.steps import next_steps
from jobs.pages.texts import ERRORS, FIGURES, ISSUES, RELATIONS, SCORES, THEMES
from jobs.pages.values import (
    Class,
    Classes,
    Clusters,
    Failures,
    Gallery,
    Leaks,
    Picture,
    Rating,
    Summary,
    Topic,
    Topics,
)

STRIP = 3  # previews on an issue's card on the first page
TOPICS_ON_FIRST_PAGE = 12
MATRIX = 8  # splits or sources in a table of leaks
RATINGS_NAMED = 12  # in the list of pages, and on the first one
RATING_KEY = re.compile(r"[A-Za-z0-9._-]{1,61}@[A-Za-z0-9._-]{1,61}", re.ASCII)
TABLE_NAMES = (  # those that a person queries, as in jobs.tables
    "images", "features", "embeddings", "detections", "failures", "copies", "neighbours", "edges", "duplicates",
    "look_alikes", "leaks", "labels", "label_sets", "confusions", "classes", "concepts", "topics", "topic_summaries",
    "map", "scores", "issues", "ratings", "albums", "reviews", "runs",
)  # fmt: skip
SPLIT_ORDER = {"train": 0, "test": 2}  # all other splits lie between them, by name
THUMB = re.compile(r"thumbs/[0-9]{1,19}(-[0-9a-f]{12})?\.(webp|jpg|png)", re.ASCII)


@dataclass(frozen=True)
class LeakMatrix:
    """What the splits (or sources) share. names: in the order of rows and columns. cells: by (row, column), those with
    images. hidden: images of the pairs that have no place in it."""

    between: str
    names: Sequence[str]
    cells: Mapping[tuple[str, str], Leaks]
    hidden: int


def leak_matrix(leaks: Iterable[Leaks], between: str) -> LeakMatrix | None:
    """The MATRIX names with the most leaks; None where there are none. between: 'split' or 'source'."""
    pairs = [pair for pair in leaks if pair.between == between]
    weight: dict[str, int] = {}
    for pair in pairs:
        for name in (pair.here, pair.there):
            weight[name] = weight.get(name, 0) + pair.images
    if not weight:
        return None
    kept = sorted(weight, key=lambda name: (-weight[name], name))[:MATRIX]
    cells = {(pair.here, pair.there): pair for pair in pairs if pair.here in kept and pair.there in kept}
    hidden = sum(pair.images for pair in pairs) - sum(pair.images for pair in cells.values())
    return LeakMatrix(between, sorted(kept, key=_split_order), cells, hidden)


def _split_order(split: str | None) -> tuple[bool, int, str]:
    return split is None, SPLIT_ORDER.get(split or "", 1), split or ""


def ordered_classes(classes: Iterable[Class]) -> list[Class]:
    """Largest first; images without a label come last."""
    return sorted(classes, key=lambda c: (c.label is None, -c.images, c.label or ""))


def topic_name(topic: Topic) -> str:
    """What a topic is called: its most common label and concept, without labels two concepts, else its number."""
    names = [name for name, _ in (*topic.labels[:1], *topic.concepts[:2])]
    return " · ".join(list(dict.fromkeys(names))[:2]) or f"Topic {topic.topic_id}"


@dataclass(frozen=True)
class Bar:
    """One bar of a histogram in the units of its drawing."""

    x: float
    y: float
    width: float
    height: float
    low: bool
    title: str


def bars(
    counts: Sequence[int], threshold: float | None, scale: tuple[float, float] = (0.0, 1.0), width: int = 240,
    height: int = 72,
) -> list[Bar]:  # fmt: skip
    """Bars of a histogram over a scale. Heights are logarithmic: a few bad images would vanish beside many good."""
    top = math.log1p(max(counts, default=0)) or 1.0
    step = width / max(len(counts), 1)
    drawn = []
    for i, n in enumerate(counts):
        tall = max(height * math.log1p(n) / top, 2.0 if n else 0.0)
        low, high = (scale[0] + of * (scale[1] - scale[0]) / len(counts) for of in (i, i + 1))
        drawn.append(
            Bar(
                round(i * step, 2),
                round(height - tall, 2),
                round(step - 1, 2),
                round(tall, 2),
                threshold is not None and (low + high) / 2 < threshold,
                f"{value(low)} to {value(high)}: {count(n, 'image')}",
            )
        )
    return drawn


Item = TypeVar("Item")


def _pages(items: Sequence[Item], per_page: int) -> list[Sequence[Item]]:
    return [items[start : start + per_page] for start in range(0, len(items), per_page)] or [items]


def _page_name(stem: str, page: int) -> str:
    return f"{stem}.html" if page == 1 else f"{stem}-{page}.html"


def _rating_page(key: str) -> str:
    return f"rating-{key}.html"


def _sql_text(text: str) -> str:
    return "'" + written_out(text).replace("'", "''") + "'"


def _percent(part: float, whole: float) -> str:
    """The width of a bar, 0 to 100, that is seen where there is anything."""
    return f"{min(max(100 * part / max(whole, 1), 0.6 if part else 0.0), 100.0):.2f}"


def compile_templates() -> None:
    """Does what the first page would wait for."""
    environment = _environment()
    for name in environment.list_templates(extensions=["html"]):
        environment.get_template(name)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("jobs.pages"),
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
        "marked": marked, "number": number, "counted": count, "share": share, "portion": portion, "points": points,
        "ratio": ratio, "value": value, "size": size, "duration": duration, "python": repr,
        "sql": _sql_text, "percent": _percent, "topic_name": topic_name,
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
        relations=RELATIONS,
        themes=THEMES,
        errors=ERRORS,
        score_names=SCORES,
        figure_names=FIGURES,
        shown=shown,
        page_name=_page_name,
        rating_page=_rating_page,
    )
    return environment


def _check(
    summary: Summary,
    galleries: Sequence[Gallery],
    clusters: Clusters | None,
    failures: Failures | None,
    topics: Topics | None,
    classes: Classes | None,
    ratings: Sequence[Rating],
) -> None:
    names = [gallery.issue for gallery in galleries]
    for name in [*names, *summary.issues]:
        if name not in ISSUES:
            raise ValueError(f"report: {name!r} is not a kind of issue, use one of {', '.join(ISSUES)}")
    if {"corrupted", "unread"} & set(names):
        raise ValueError("report: the page of unreadable images is made from the failures, leave their galleries out")
    if len(set(names)) < len(names):
        raise ValueError(f"report: one gallery for each kind of issue, got {', '.join(names)}")
    if summary.created_at.tzinfo is None:
        raise ValueError("report: created_at must have a time zone")
    findings = [f for g in galleries for f in g.findings]
    findings += [c.example for c in (classes.confusions if classes else ()) if c.example]
    pictures = [p for f in findings for p in (f.picture, f.evidence) if p]
    pictures += [m.picture for c in (clusters.clusters if clusters else ()) for m in c.members]
    pictures += [f.picture for f in (failures.failures if failures else ())]
    pictures += [p for t in (topics.topics if topics else ()) for p in t.typical]
    pictures += [one.picture for r in ratings for side in (r.best, r.worst, r.unsure) for one in side]
    pictures += [one.rated.picture for rating in ratings for one in rating.maps]
    for rating in ratings:
        if not RATING_KEY.fullmatch(rating.key):
            raise ValueError(f"report: a rating must be NAME@REVISION, got {rating.key!r}")
    for path in [picture.thumb for picture in pictures] + [finding.mark for finding in findings]:
        if path is not None and not THUMB.fullmatch(path):
            raise ValueError(f"report: thumb must be thumbs/<image_id>-<12 hex digits>.jpg, got {path!r}")


def write_report(
    folder: Path,
    summary: Summary,
    galleries: Sequence[Gallery],
    clusters: Clusters | None = None,
    failures: Failures | None = None,
    topics: Topics | None = None,
    classes: Classes | None = None,
    ratings: Sequence[Rating] = (),
    *,
    per_page: int = 200,
) -> Path:
    """Writes the pages into a local folder and returns the path of index.html. The same values give the same bytes.

    Thumbnails are the caller's: they lie in folder/thumbs. Pages of an earlier report that this one does not have are
    deleted, nothing else is. Raises ValueError for an unknown kind of issue, two galleries of one kind, a thumbnail
    path that is not THUMB, a rating that is not RATING_KEY, a created_at without time zone, or per_page < 1.
    """
    if per_page < 1:
        raise ValueError(f"report: per_page must be at least 1, got {per_page}")
    _check(summary, galleries, clusters, failures, topics, classes, ratings)
    environment = _environment()
    by_issue = {gallery.issue: gallery for gallery in galleries}
    linked = {issue: _page_name(issue, 1) for issue in ISSUES if issue in by_issue}
    if failures is not None:
        linked["corrupted"] = _page_name("corrupted", 1)
        if summary.issues.get("unread"):
            linked["unread"] = linked["corrupted"]
    created_at = summary.created_at.astimezone(UTC)
    common: dict[str, Any] = {
        "summary": summary,
        "created_at": f"{created_at:%Y-%m-%d %H:%M} UTC",
        "linked": linked,
        "clusters_total": None if clusters is None else clusters.total,
        "topics": topics,
        "classes": classes,
        "ratings": ratings,
        "ratings_named": RATINGS_NAMED,
    }
    pages: dict[str, str] = {}

    def page(name: str, template: str, **values: Any) -> None:
        pages[name] = environment.get_template(template).render(**common, **values)

    def paged(stem: str, template: str, items: Sequence[Item], **values: Any) -> None:
        parts = _pages(items, per_page)
        for number_of_page, part in enumerate(parts, 1):
            page(
                _page_name(stem, number_of_page), template, **values, stem=stem, items=part, visible=len(items),
                first=(number_of_page - 1) * per_page + 1, page=number_of_page, page_count=len(parts),
            )  # fmt: skip

    notes = [note for stage in summary.stages for note in stage.notes]
    matrices = {"leak": leak_matrix(summary.leaks, "split"), "source_overlap": leak_matrix(summary.leaks, "source")}
    for gallery in galleries:
        paged(
            gallery.issue, "gallery.html", gallery.findings, issue=gallery.issue, total=gallery.total,
            matrix=matrices.get(gallery.issue),
            notes=[note for note in notes if note.startswith(f"{ISSUES[gallery.issue].title.lower()}: ")],
        )  # fmt: skip
    if failures is not None:
        codes = sorted(failures.codes.items(), key=lambda item: (-item[1], item[0]))
        paged("corrupted", "failures.html", failures.failures, issue="corrupted", total=failures.total, codes=codes)
    if clusters is not None:
        # A cluster is many images: a page holds about per_page of them, and at least one cluster.
        biggest = max((len(view.members) for view in clusters.clusters), default=1)
        parts = _pages(clusters.clusters, max(1, per_page // max(biggest, 1)))
        for i, part in enumerate(parts, 1):
            page(
                _page_name("clusters", i), "clusters.html", stem="clusters", issue="clusters", items=part,
                visible=len(clusters.clusters), total=clusters.total, page=i, page_count=len(parts),
            )  # fmt: skip
    if topics is not None:
        page("topics.html", "topics.html", issue="topics")
    if classes is not None:
        page(
            "classes.html", "classes.html", issue="classes", columns=sorted(classes.splits, key=_split_order),
            rows=ordered_classes(classes.classes),
        )  # fmt: skip
    if ratings:
        page("ratings.html", "ratings.html", issue="ratings", table=agreement_table(ratings))
    for rating in ratings:
        page(
            _rating_page(rating.key), "rating.html", issue=rating.key, rating=rating, maps=drawn_maps(rating),
            drawn=bars(rating.counts, None, rating.scale),
        )  # fmt: skip
    page(
        "index.html",
        "index.html",
        issue="index",
        steps=next_steps(summary, classes, linked),
        notes=notes,
        found=[(theme, kinds) for theme in THEMES if (kinds := _kinds(summary, theme))],
        none_found=[text.title for issue, text in ISSUES.items() if summary.issues.get(issue) == 0],
        not_checked=[text.title for issue, text in ISSUES.items() if issue not in summary.issues],
        codes=sorted(failures.codes, key=lambda code: (-failures.codes[code], code))[:3] if failures else [],
        strips={issue: _strip(gallery) for issue, gallery in by_issue.items()},
        columns=sorted(summary.splits, key=_split_order),
        named=classes is not None or any(split is not None for split in summary.splits),
        first_topics=topics.topics[:TOPICS_ON_FIRST_PAGE] if topics else (),
        concept=next((t.concepts[0][0] for t in (topics.topics if topics else ()) if t.concepts), None),
        table_names=TABLE_NAMES,
        histograms={
            name: bars(summary.histograms[name], summary.thresholds.get(name))
            for name in (*SCORES, *sorted(set(summary.histograms) - set(SCORES)))
            if name in summary.histograms
        },
        longest=max((stage.seconds for stage in summary.stages), default=0.0),
    )
    folder.mkdir(parents=True, exist_ok=True)
    _forget_old(folder, pages)
    for name, text in pages.items():  # index.html is the last, so it never links to a page that is not there yet
        (folder / name).write_bytes(text.encode())
    return folder / "index.html"


def _forget_old(folder: Path, pages: Mapping[str, str]) -> None:
    """Deletes the pages of an earlier report that this one does not have."""
    stems = "|".join([*ISSUES, "clusters", "topics", "classes"])
    ours = re.compile(rf"(({stems})(-[0-9]+)?|ratings|rating-{RATING_KEY.pattern})\.html")
    for old in folder.iterdir():
        if ours.fullmatch(old.name) and old.name not in pages:
            old.unlink()


def _kinds(summary: Summary, theme: str) -> list[str]:
    """The kinds of issue of a theme that were found, in the order of the pages."""
    return [issue for issue, text in ISSUES.items() if text.theme == theme and summary.issues.get(issue)]


def _strip(gallery: Gallery) -> list[Picture]:
    """The first previews of a gallery; where there is evidence, the first image that has it, and its evidence."""
    for finding in gallery.findings[:STRIP]:
        if finding.evidence and finding.picture.thumb and finding.evidence.thumb:
            return [finding.picture, finding.evidence]
    return [finding.picture for finding in gallery.findings[:STRIP] if finding.picture.thumb]
