"""App: one lake that is open to be looked at: its gallery, views, decisions, pictures and searches."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, replace
from typing import Any

from jobs import __version__
from jobs.engines import delta_log
from jobs.engines.datasets import Opened, dataset
from jobs.lakes import existing
from jobs.pages.texts import ISSUES as TEXTS
from jobs.pages.texts import RELATIONS, SCORES
from jobs.progress import say
from jobs.serve import gallery
from jobs.serve.albums.answers import AlbumAnswers
from jobs.serve.columns import Columns
from jobs.serve.decisions import Decisions
from jobs.serve.facets.arrivals import arrivals
from jobs.serve.facets.states import States
from jobs.serve.filters import FACETS, SORTS
from jobs.serve.maps.colouring import ratings
from jobs.serve.pictures import Pictures
from jobs.serve.searching import Searches
from jobs.serve.variants.kept import Kept
from jobs.serve.views import Views
from udfs.stores import fetch, uris

LABELS = 2000  # that are offered for a choice
RUNS = 20  # of the table that are told
MORE = ("neighbours", "ratings")  # tables that are read beside those of the gallery
TITLES = {
    "image_id": "number", "size_bytes": "bytes", "label_score": "label", "medium": "kind of picture",
    "suggested": "suggested label", "run": "came in run", "kind": "kind of copy", "relation": "how copies differ",
}  # fmt: skip


class NotReadyError(RuntimeError):
    """The gallery is still being made, or cannot be: one line."""


@dataclass(frozen=True)
class Open:
    """What is there once a lake is open. at: the versions of the tables of its gallery. tables: these and the
    neighbours, to be read."""

    at: dict[str, int | None]
    tables: Opened
    columns: Columns
    views: Views
    decisions: Decisions
    searches: Searches
    states: States


class App:
    """A lake that is opened in a thread of its own. uri: canonical. variants: where they are kept, canonical, None: in
    memory alone. Raises LakeError where it is none."""

    def __init__(
        self, uri: str, user: str, read_only: bool, limits: fetch.Limits, max_pixels: int, variants: str | None = None
    ) -> None:
        self.uri, self.user, self.read_only = existing(uri), user, read_only
        self._limits, self._max_pixels = limits, max_pixels
        self.albums = AlbumAnswers(self.uri)
        self.pictures = Pictures(limits, max_pixels)
        self.variants = Kept(variants, says=say)
        self._open: Open | None = None
        self._progress, self._fault = 0.0, ""
        self._lock = threading.Lock()
        self._facts: dict[str, Any] | None = None
        threading.Thread(target=self._begin, name="gallery", daemon=True).start()

    @property
    def arrivals(self) -> str:
        """Why it is not known in which run each picture came; "" where it is."""
        return arrivals(self.uri, self.open.columns)[1]

    @property
    def open(self) -> Open:
        """Raises NotReadyError."""
        found = self._open
        if found is None:
            raise NotReadyError(self._fault or "the gallery is being made ready")
        return found

    def close(self) -> None:
        self.pictures.close()
        if self._open is not None:
            self._open.decisions.close()

    def refresh(self) -> None:
        """Opens the newest state where the tables have changed; what others decided is read too."""
        now = self.open
        at = gallery.versions(self.uri)
        if at != now.at and self._lock.acquire(blocking=False):
            try:
                self._load(at)
                now.decisions.close()
            finally:
                self._lock.release()
        elif self._more() != {name: now.tables.at[name] for name in MORE}:
            self._open, self._facts = replace(now, tables=Opened(self.uri, {**at, **self._more()})), None
        self.open.decisions.refresh()

    def facts(self) -> dict[str, Any]:
        """What the page has to know of the lake; see docs/serve.md."""
        name = self.uri.rstrip("/").rpartition("/")[2]
        told: dict[str, Any] = {
            "uri": self.uri, "name": name, "version": __version__, "read_only": self.read_only, "user": self.user,
            "ready": self._open is not None, "progress": round(self._progress, 3), "fault": self._fault or None,
        }  # fmt: skip
        if self._open is None:
            return told
        if self._facts is None:
            self._facts = self._gathered(self._open)
        searches = self._open.searches
        told["search"] = {"like": searches.index is not None, "words": searches.has_words, **searches.told}
        return {**told, **self._facts}

    def _begin(self) -> None:
        try:
            self._load(gallery.versions(self.uri))
        except Exception as error:  # whoever looks is told
            self._fault = " ".join(str(error).split()) or type(error).__name__

    def _load(self, at: dict[str, int | None]) -> None:
        columns = gallery.opened(self.uri, at, self._says)
        decisions = Decisions(self.uri, columns.images, columns.rows_of_ids)
        searches = Searches(self.uri, at, columns, self._limits, self._max_pixels)
        states = States(self.uri, at["issues"])
        views = Views(columns, lambda: (decisions.column(), decisions.revision), searches.find, states.changed)
        tables = Opened(self.uri, {**at, **self._more()})
        self._open, self._facts = Open(at, tables, columns, views, decisions, searches, states), None

    def _more(self) -> dict[str, int | None]:
        return {name: delta_log.version(uris.join(self.uri, name)) for name in MORE}

    def _says(self, share: float) -> None:
        self._progress = share

    def _gathered(self, now: Open) -> dict[str, Any]:
        labels = sorted({name for names in now.columns.coded("label").names for name in names})
        scores: list[dict[str, Any]] = [
            {"name": name, "title": _title(name), "low": 0, "high": 1, "bins": now.columns.bins[name]}
            for name in gallery.ALL_SCORES
        ]
        return {
            "images": now.columns.images,
            "embedded": now.columns.readable,
            "mapped": now.columns.mapped,
            "facets": [{"name": name, "title": _title(name)} for name in FACETS],
            "scores": [score for score in scores if sum(score["bins"])],
            "ratings": [{"name": name, "title": name} for name in ratings(now.tables)],
            "sorts": [{"name": name, "title": _title(name)} for name in SORTS],
            "issues": {
                name: {"title": text.title, "text": text.what, "theme": text.theme, "do": text.do}
                for name, text in TEXTS.items()
            },
            "relations": dict(RELATIONS),
            "labels": labels[:LABELS],
            "runs": self._runs(),
        }

    def _runs(self) -> list[dict[str, Any]]:
        if delta_log.version(uris.join(self.uri, "runs")) is None:
            return []
        rows = dataset(self.uri, "runs").to_table(columns=["job", "ended_at", "seconds", "status", "counts"])
        last = rows.sort_by([("ended_at", "descending")]).slice(0, RUNS).to_pylist()
        told = []
        for run in last:
            counts = json.loads(run["counts"])
            numbers = {name: value for name, value in counts.items() if isinstance(value, int)}
            told.append(
                {"job": run["job"], "ended_at": run["ended_at"].isoformat(timespec="seconds"),
                 "seconds": round(run["seconds"], 1), "status": run["status"], "counts": numbers,
                 "notes": [str(note) for note in counts.get("notes", ())]}
            )  # fmt: skip
        return told


def _title(name: str) -> str:
    return SCORES.get(name) or TITLES.get(name) or name.removesuffix("_score").replace("_", " ")
