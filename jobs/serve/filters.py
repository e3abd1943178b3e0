"""Filters: what part of a lake a view shows and in which order, from the parameters of an address."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl

from jobs.serve.gallery import ALL_SCORES
from jobs.tables import ISSUES
from udfs.images.relation_names import RELATIONS

DECISION = "decision"
FACETS = ("issue", "suggestion", DECISION, "label", "suggested", "split", "source", "run", "kind", "relation",
          "concept", "topic", "medium", "format")  # fmt: skip
KNOWN = {"issue": ISSUES, "relation": RELATIONS}  # facets whose values are a closed list
SORTS = ("image_id", *ALL_SCORES, "size_bytes", "pixels", "cluster_size", "modified")
SEARCHES = ("like", "picture", "words")
CHANGES = ("new", "gone")
_CHANGE = re.compile(r"(?P<since>[\w-]{1,100})(\.\.(?P<until>[\w-]{1,100}))?(/(?P<issue>[a-z_]{1,50}))?", re.ASCII)
NONE = ""  # the value that stands for "has none"
MOST_VALUES = 200  # of all facets together
MOST_TEXT = 500  # characters of a text
MOST_FOLDER = 4096
LEAST_CORNERS, MOST_CORNERS = 3, 64  # of a lasso
MOST_LASSO = 2000  # characters of one

_COORDINATE = re.compile(r"[01]?\.[0-9]{1,12}|[01]", re.ASCII)


class FilterError(ValueError):
    """A view that cannot be; one line for a person."""


@dataclass(frozen=True)
class Changed:
    """Pictures with findings that came, or are gone, between two runs. until: a run, "" for what is shown now. issue:
    of the findings, "" for any. In an address: new=RUN, new=RUN..RUN, gone=RUN/ISSUE."""

    gone: bool
    since: str
    until: str = ""
    issue: str = ""


@dataclass(frozen=True)
class Filter:
    """What a view holds. chosen: values by facet, any of them. scores: (name, low, high), infinite where open. lasso:
    the corners of a polygon on the map, in its units of 0..1. search: one of SEARCHES and what is looked for, or None.
    sort: one of SORTS, or None for that of the search or image_id. folder: the beginning of URIs, with a slash at its
    end, or ""."""

    chosen: tuple[tuple[str, tuple[str, ...]], ...] = ()
    scores: tuple[tuple[str, float, float], ...] = ()
    text: str = ""
    lasso: tuple[tuple[float, float], ...] = ()
    cluster: int | None = None
    folder: str = ""
    changed: tuple[Changed, ...] = ()
    search: tuple[str, str] | None = None
    sort: str | None = None
    descending: bool = False

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, str]]) -> Filter:
        """From the parameters of an address; names that are not of a view are passed over. Raises FilterError."""
        chosen: dict[str, list[str]] = {}
        scores: list[tuple[str, float, float]] = []
        found = cls()
        for name, value in pairs:
            most = {"folder": MOST_FOLDER, "lasso": MOST_LASSO}.get(name, MOST_TEXT)
            if len(value) > most or "\0" in value:
                raise FilterError(f"{name}: at most {most} characters")
            if name in FACETS:
                _check(name, value)
                chosen.setdefault(name, []).append(value)
            elif name == "score":
                scores.append(_range(value))
            elif name in SEARCHES and value:
                if name == "like":
                    _number(name, value)
                found = replace(found, search=(name, value))
            elif name == "sort" and value:
                key = value.removeprefix("-")
                if key not in SORTS:
                    raise FilterError(f"sort: must be one of {', '.join(SORTS)}")
                found = replace(found, sort=key, descending=value.startswith("-"))
            else:
                found = found._within(name, value)
        if sum(map(len, chosen.values())) + len(scores) + len(found.changed) > MOST_VALUES:
            raise FilterError(f"at most {MOST_VALUES} values")
        facets = tuple((name, tuple(dict.fromkeys(chosen[name]))) for name in sorted(chosen))
        return replace(found, chosen=facets, scores=tuple(scores))

    def _within(self, name: str, value: str) -> Filter:
        """The same with a parameter of its own kind."""
        if name == "cluster":
            return replace(self, cluster=_number(name, value))
        if name == "text" and value:
            return replace(self, text=value)
        if name == "lasso" and value:
            return replace(self, lasso=_polygon(value))
        if name == "folder" and value:
            return replace(self, folder=value if value.endswith("/") else value + "/")
        if name in CHANGES and value:
            return replace(self, changed=(*self.changed, _changed(name, value)))
        return self

    @classmethod
    def of_query(cls, query: str) -> Filter:
        """As of(), from the text of a query. Raises FilterError."""
        try:
            return cls.of(parse_qsl(query, keep_blank_values=True, max_num_fields=4 * MOST_VALUES))
        except FilterError:
            raise
        except ValueError as error:
            raise FilterError(str(error)) from error

    @property
    def depends_on_decisions(self) -> bool:
        return any(name == DECISION for name, _ in self.chosen)

    @property
    def by_score(self) -> str | None:
        """The score that it is sorted by, or None."""
        return self.sort if self.sort in ALL_SCORES else None

    @property
    def is_all(self) -> bool:
        """Whether it holds all images, in the order of their ids."""
        return self in (Filter(), Filter(sort="image_id"))

    @property
    def anywhere(self) -> Filter:
        """The same of all folders."""
        return replace(self, folder="")

    @property
    def unsorted(self) -> Filter:
        """The same rows in whatever order."""
        return replace(self, sort=None, descending=False)

    def but(self, facet: str) -> Filter:
        """The same without what was chosen in a facet."""
        return replace(self, chosen=tuple(each for each in self.chosen if each[0] != facet))


def _check(name: str, value: str) -> None:
    if name in KNOWN and value not in (NONE, *KNOWN[name]):
        raise FilterError(f"{name}: {value!r} is none of {', '.join(KNOWN[name])}")


def _range(value: str) -> tuple[str, float, float]:
    name, _, rest = value.partition(":")
    low, _, high = rest.partition(":")
    if name not in ALL_SCORES:
        raise FilterError(f"score: must begin with one of {', '.join(ALL_SCORES)}")
    try:
        bounds = float(low) if low else -math.inf, float(high) if high else math.inf
    except ValueError:
        raise FilterError(f"score: must be NAME:LOW:HIGH, got {value!r}") from None
    if any(map(math.isnan, bounds)):
        raise FilterError(f"score: must be NAME:LOW:HIGH, got {value!r}")
    return name, *bounds


def _changed(name: str, value: str) -> Changed:
    match = _CHANGE.fullmatch(value)
    if match is None or (match["issue"] and match["issue"] not in ISSUES):
        raise FilterError(f"{name}: must be RUN, RUN..RUN or RUN/ISSUE, got {value!r}")
    return Changed(name == "gone", match["since"], match["until"] or "", match["issue"] or "")


def _polygon(value: str) -> tuple[tuple[float, float], ...]:
    parts = value.split(",")
    corners = len(parts) // 2
    if len(parts) % 2 or not LEAST_CORNERS <= corners <= MOST_CORNERS or not all(map(_COORDINATE.fullmatch, parts)):
        raise FilterError(
            f"lasso: must be x,y,x,y,… with {LEAST_CORNERS} to {MOST_CORNERS} corners, each number from 0 to 1"
        )
    numbers = [float(part) for part in parts]
    if max(numbers) > 1:
        raise FilterError("lasso: each number must be from 0 to 1")
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))


def _number(name: str, value: str) -> int:
    if not value.isascii() or not value.isdigit() or len(value) > 18:
        raise FilterError(f"{name}: must be a number, got {value!r}")
    return int(value)
