"""Views: which rows a filter holds and in which order, and how many of them have each value of each facet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.serve.columns import NULL, STEPS, Coded, Columns, Mask, Rows
from jobs.serve.facets.folders import Folders, Level
from jobs.serve.filters import DECISION, FACETS, Changed, Filter
from jobs.serve.maps.lasso import inside
from jobs.serve.recent import Recent

VALUES = 50  # of a facet that are told at once
ORDER_BYTES = 64 << 20  # of all orders that are kept
PLACE_BYTES = 32 << 20  # of all places of rows in orders that are kept
SCANNED = 50_000  # rows of an order up to which a place is looked for one by one
FACETS_KEPT = 64  # counts of so many views
Search = Callable[[tuple[str, str]], tuple[Rows, NDArray[np.float32]]]
Change = Callable[[Changed], NDArray[np.int64]]


class Views:
    """What is asked of one gallery. decided: what each row's decision is, and a number that changes with them. search:
    what a search finds, the best first: rows and how alike they are. changed: the images whose findings changed."""

    def __init__(
        self, columns: Columns, decided: Callable[[], tuple[Coded, int]], search: Search, changed: Change
    ) -> None:
        self.columns, self._decided, self._search, self._changed = columns, decided, search, changed
        self.folders = Folders(columns)
        self._orders: Recent[Rows] = Recent(ORDER_BYTES, lambda rows: rows.nbytes)
        self._places: Recent[Rows] = Recent(PLACE_BYTES, lambda places: places.nbytes)
        self._facets: Recent[dict[str, list[tuple[str, int]]]] = Recent(FACETS_KEPT, lambda _: 1)

    def total(self, view: Filter) -> int:
        """The number of images in a view."""
        return self.columns.images if view.is_all else len(self.order(view))

    def rows(self, view: Filter, offset: int, limit: int) -> Rows:
        """The rows from a place of the view on."""
        if view.is_all:
            end = min(offset + limit, self.columns.images)
            own = self.columns.by_id
            return np.arange(offset, end, dtype=np.int32) if own is None else own[offset:end]
        return self.order(view)[offset : offset + limit]

    def order(self, view: Filter) -> Rows:
        """The rows of all images of a view, in its order. (total,) int32."""
        return self._orders.get(self._key(view), lambda: self._ordered(view))

    def place(self, view: Filter, row: int) -> int | None:
        """Where a row stands in the view, None where it does not."""
        if view.is_all and self.columns.by_id is None:
            return row
        order = self.columns.by_id if view.is_all else self.order(view)
        if order is None or len(order) <= SCANNED:
            found = np.flatnonzero(order == row)
            return int(found[0]) if len(found) else None
        place = int(self._places.get(self._key(view), lambda: self._inverse(order))[row])
        return place if place >= 0 else None

    def _inverse(self, order: Rows) -> Rows:
        """The place of each row in an order, -1 where it is not in it. (images,) int32."""
        places = np.full(self.columns.images, -1, np.int32)
        places[order] = np.arange(len(order), dtype=np.int32)
        return places

    def level(self, view: Filter, part: str = "") -> Level:
        """What the folder of a view holds of its pictures. part: a text that names of folders hold."""
        rest = view.unsorted.anywhere
        return self.folders.level(view.folder, None if rest.is_all else self.unordered(rest), part)

    def similarities(self, view: Filter) -> dict[int, float]:
        """Of a search: how alike each row is that it found."""
        if view.search is None:
            return {}
        rows, alike = self._search(view.search)
        return dict(zip(rows.tolist(), alike.tolist(), strict=True))

    def facets(self, view: Filter) -> dict[str, list[tuple[str, int]]]:
        """For each facet how many images of the view have each value, its own choice apart: the VALUES most common."""
        return self._facets.get((view, self._decided()[1]), lambda: {name: self.facet(view, name) for name in FACETS})

    def facet(self, view: Filter, name: str, part: str = "") -> list[tuple[str, int]]:
        """The VALUES most common values of one facet. part: a text that they hold, in any case of letters."""
        rest = view.but(name).unsorted
        rows = None if rest.is_all else self.unordered(rest)
        column = self._decided()[0] if name == DECISION else self.columns.coded(name)
        found = [each for each in column.counts(rows).items() if part.lower() in each[0].lower()]
        return sorted(found, key=lambda each: (-each[1], each[0]))[:VALUES]

    def clusters(self, view: Filter, offset: int, limit: int) -> tuple[int, list[int]]:
        """The clusters that have a member in the view, the largest first: how many there are, and some of them."""
        cluster, size = self.columns.numbers("cluster"), self.columns.numbers("cluster_size")
        rows = slice(None) if view.is_all else self.order(view)
        own, sizes = cluster[rows], size[rows]
        chosen, first = np.unique(own[own >= 0], return_index=True)
        order = np.argsort(-sizes[own >= 0][first], kind="stable")
        return len(chosen), chosen[order][offset : offset + limit].tolist()

    def confusions(self) -> list[tuple[str, str, int, int]]:
        """Label, what is suggested in its place, how many images have both, and how many of these are decided; the most
        common first."""
        label, suggested = self.columns.coded("label"), self.columns.coded("suggested")
        rows = np.flatnonzero(suggested.codes)
        many = len(suggested.names)
        pairs = label.codes[rows].astype(np.int64) * many + suggested.codes[rows]
        found, place = np.unique(pairs, return_inverse=True)
        images = np.bincount(place, minlength=len(found))
        decided = np.bincount(place, self._decided()[0].codes[rows] > 0, minlength=len(found))
        told = [
            (", ".join(label.names[pair // many]), suggested.names[pair % many][0], n, d)
            for pair, n, d in zip(found.tolist(), images.tolist(), decided.astype(int).tolist(), strict=True)
        ]
        return sorted(told, key=lambda each: -each[2])[:1000]

    def _key(self, view: Filter) -> Any:
        return view, self._decided()[1] if view.depends_on_decisions else 0

    def unordered(self, view: Filter) -> Rows:
        """The rows of a view, in the order of their numbers or of the search, whatever its sort."""
        view = view.unsorted
        key = ("unordered", *self._key(view))
        return self._orders.get(key, lambda: self._selected(view))

    def _ordered(self, view: Filter) -> Rows:
        rows = self._selected(view)
        if view.sort is None and view.search is not None:
            return rows
        if view.sort in (None, "image_id"):
            own = self.columns.by_id
            order = None if own is None else np.argsort(self.columns.id[rows], kind="stable")
            rows = rows if order is None else rows[order]
            return rows[::-1] if view.descending else rows
        values = self.columns.numbers(str(view.sort))[rows]
        if view.descending:
            # What has none stays last.
            values = np.where(values == NULL, NULL, STEPS - np.minimum(values, STEPS)) if view.by_score else -values
        return rows[np.argsort(values, kind="stable")]

    def _selected(self, view: Filter) -> Rows:
        columns = self.columns
        masks: list[Mask] = []
        for name, wanted in view.chosen:
            masks.append((self._decided()[0] if name == DECISION else columns.coded(name)).having(wanted))
        for name, low, high in view.scores:
            values = columns.numbers(name)
            least, most = max(low, 0.0) * STEPS, min(high, 1.0) * STEPS
            masks.append((values >= np.ceil(least - 0.5)) & (values <= np.floor(most + 0.5)) & (values != NULL))
        if view.cluster is not None:
            masks.append(columns.numbers("cluster") == view.cluster)
        if view.folder:
            masks.append(self.folders.holding(view.folder))
        for changed in view.changed:
            rows = columns.rows_of_ids(self._changed(changed))
            held = np.zeros(columns.images, np.bool_)
            held[rows[rows >= 0]] = True
            masks.append(held)
        if view.lasso:
            corners = tuple((x * STEPS, y * STEPS) for x, y in view.lasso)
            masks.append(inside(columns.numbers("map_x"), columns.numbers("map_y"), corners, STEPS))
        if view.text:
            masks.append(columns.containing(view.text))
        holds: Mask | None = None
        for mask in masks:
            holds = mask if holds is None else np.logical_and(holds, mask, out=holds)
        if view.search is not None:
            rows, _ = self._search(view.search)
            return rows if holds is None else rows[holds[rows]]
        if holds is None:
            return np.arange(columns.images, dtype=np.int32)
        return np.flatnonzero(holds).astype(np.int32)
