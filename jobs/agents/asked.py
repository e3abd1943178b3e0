"""What agents can ask of a lake, and the answers as plain values; jobs.agents.tools says them over MCP."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from jobs.agents import folders
from jobs.agents.looking import Condition, look
from jobs.engines import delta_log
from jobs.engines.datasets import dataset
from jobs.serve import told
from jobs.serve.batches import Batch
from jobs.serve.filters import Filter, FilterError
from jobs.serve.lake_app import App, NotReadyError, Open
from jobs.serve.rules import agreement
from jobs.tables import TABLES
from udfs.stores import uris

READY_S = 120.0  # that an answer waits for the gallery, and as long for the index of vectors
MOST_PICTURES = 100
MOST_DECIDED = 1000  # images of one decision
RECENT = 20
_POLL_S = 0.05


class AskError(ValueError):
    """A question that cannot be answered; one line."""


class Asked:
    """One lake. files: folders whose files may be searched by. The app is closed by who opened it."""

    def __init__(self, app: App, files: Sequence[Path]) -> None:
        self._app, self._files = app, files

    def lake(self) -> dict[str, Any]:
        """What it is: tables with their rows and columns, images by issue, the network, what can be searched by."""
        self._open()
        self._app.refresh()
        now = self._open()
        facts = self._app.facts()
        counts = now.columns.coded("issue").counts(None)
        return {
            "uri": facts["uri"],
            "imagesieve": facts["version"],
            "images": facts["images"],
            "readable": facts["embedded"],
            "issues": {
                name: {"images": counts[name], "title": text["title"], "text": text["text"], "do": text["do"]}
                for name, text in facts["issues"].items()
                if counts.get(name)
            },
            "suggestions": _some(now.columns.coded("suggestion").counts(None)),
            "decided": int(np.count_nonzero(now.decisions.column().codes)),
            "labels": len(facts["labels"]),
            "model": now.searches.model,
            "search": facts["search"],
            "may_decide": not self._app.read_only,
            "tables": {name: self._table(name) for name in TABLES if self._is_there(name)},
        }

    def table(self, name: str, columns: list[str], conditions: list[Condition], limit: int) -> dict[str, Any]:
        """Rows of a table in its own order. Raises AskError, LookError."""
        if name not in TABLES or not self._is_there(name):
            there = [each for each in TABLES if self._is_there(each)]
            raise AskError(f"there is no table {name[:100]!r}; there are {', '.join(there)}")
        found = look(self._app.uri, name, columns, conditions, limit)
        return {"rows": found.rows, "are_all": found.is_all}

    def pictures(self, where: str, limit: int, offset: int) -> dict[str, Any]:
        """Pictures of a view, in its order, each in short. Raises AskError, FilterError."""
        view = Filter.of_query(where)
        if view.search is not None:
            raise FilterError("where: a search goes to the tool `search`")
        return self._told(view, limit, offset)

    def counts(self, where: str) -> dict[str, Any]:
        """How many pictures of a view have each value of each facet. Raises FilterError."""
        now, view = self._open(), Filter.of_query(where)
        facets = now.views.facets(view)
        return {
            "total": now.views.total(view),
            "facets": {name: {each or "(none)": count for each, count in values} for name, values in facets.items()},
        }

    def search(self, words: str, like: int | None, file: str, where: str, limit: int) -> dict[str, Any]:
        """The pictures that a search finds, the best first. One of words, like, file. Raises AskError, FilterError,
        FileRefusedError."""
        if sum([bool(words), like is not None, bool(file)]) != 1:
            raise AskError("one of words, like and file")
        searches = self._open().searches
        searches.wait(READY_S)
        if words:
            wanted = ("words", words[:500])
        elif like is not None:
            wanted = ("like", str(like))
        else:
            wanted = ("picture", searches.put(folders.read(file, self._files)))
        return self._told(replace(Filter.of_query(where), search=wanted), limit, 0)

    def findings(self, image_id: int) -> dict[str, Any]:
        """All that the tables know of one picture. Raises AskError."""
        try:
            return self._findings(self._open(), image_id)
        except FileNotFoundError:  # the tables have changed, and were vacuumed
            self._app.refresh()
            return self._findings(self._open(), image_id)

    def picture(self, image_id: int, is_large: bool) -> bytes:
        """A JPEG of its pixels. Raises AskError."""
        now = self._open()
        reference = now.columns.reference(self._row(now, image_id))
        data = self._app.pictures.medium(reference) if is_large else self._app.pictures.small(reference)
        if data is None:
            raise AskError(f"image {image_id} cannot be read")
        return data

    def agreement(self) -> dict[str, Any]:
        """How often people have found each kind of finding right, and who has decided how many."""
        self._open()
        self._app.refresh()
        now = self._open()
        return {
            "issues": agreement.by_issue(now.columns, now.decisions),
            "decided": int(np.count_nonzero(now.decisions.column().codes)),
            "by": now.decisions.by_person(),
            "recent": [told.step(*each) for each in now.decisions.recent(RECENT)],
        }

    def decide(self, image_ids: list[int], decision: str, label: str | None, note: str | None) -> dict[str, Any]:
        """Raises AskError, DecisionError."""
        now = self._open()
        if not 1 <= len(image_ids) <= MOST_DECIDED:
            raise AskError(f"image_ids: 1 to {MOST_DECIDED} of them")
        known = now.columns.rows_of(image_ids)
        if unknown := [each for each in image_ids if each not in known]:
            raise AskError(f"no such image: {', '.join(map(str, unknown[:5]))}; nothing was decided")
        return self._told_of([now.decisions.decide(image_ids, decision, self._app.user, label, note)])

    def undo(self, batch: str) -> dict[str, Any]:
        """Takes back a batch of this agent, or its last one where batch is empty. Raises DecisionError."""
        return self._told_of(self._open().decisions.undo(self._app.user, batch, only_own=True))

    def _open(self) -> Open:
        end = time.monotonic() + READY_S
        while True:
            try:
                return self._app.open
            except NotReadyError:
                if self._app.facts()["fault"] or time.monotonic() > end:
                    raise
            time.sleep(_POLL_S)

    def _told(self, view: Filter, limit: int, offset: int) -> dict[str, Any]:
        if not 1 <= limit <= MOST_PICTURES or offset < 0:
            raise AskError(f"limit: must be 1..{MOST_PICTURES}, and offset 0 or more")
        now = self._open()
        alike = now.views.similarities(view)
        by = view.by_score
        rows = [
            told.row(now.columns, now.decisions, row, now.columns.score(by, row) if by else alike.get(row))
            for row in now.views.rows(view, offset, limit).tolist()
        ]
        return {"total": now.views.total(view), "offset": offset, "pictures": rows}

    def _row(self, now: Open, image_id: int) -> int:
        row = now.columns.rows_of([image_id]).get(image_id)
        if row is None:
            raise AskError(f"no such image: {image_id}")
        return row

    def _is_there(self, table: str) -> bool:
        return delta_log.version(uris.join(self._app.uri, table)) is not None

    def _table(self, name: str) -> dict[str, Any]:
        found = dataset(self._app.uri, name)
        return {"rows": found.count_rows(), "columns": {field.name: str(field.type) for field in found.schema}}

    def _findings(self, now: Open, image_id: int) -> dict[str, Any]:
        return told.image(now.tables, now.columns, now.decisions, self._row(now, image_id))

    def _told_of(self, batches: list[Batch]) -> dict[str, Any]:
        first, count = batches[0], sum(len(batch.ids) for batch in batches)
        return {"batch": first.batch_id, "decision": first.decision, "count": count, "by": first.by}


def _some(counts: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if name}
