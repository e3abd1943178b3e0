"""Matching: which image of a lake a decision of a file means."""

from __future__ import annotations

from collections.abc import Iterable

from jobs.reviews.rows import Given
from jobs.serve.columns import Columns


class Images:
    """The images of a lake that some decisions name. It goes through all URIs once."""

    def __init__(self, columns: Columns, given: Iterable[Given]) -> None:
        self._columns = columns
        names = {each.uri for each in given if each.uri}
        ends: dict[str, list[str]] = {}
        for name in names:
            ends.setdefault(name.rpartition("/")[2], []).append(name)
        self._exact: dict[str, int] = {}
        self._ending: dict[str, list[int]] = {}
        for row in range(columns.images) if names else ():
            uri = columns.uri(row)
            if uri in names:
                self._exact[uri] = row
            last = uri.rpartition("/")[2]
            for end, whole in ((last, uri), (last.rpartition(".")[0], uri.rpartition(".")[0])):
                for name in ends.get(end, ()) if end else ():
                    if whole.endswith("/" + name.lstrip("/")):
                        self._ending.setdefault(name, []).append(row)

    def row(self, given: Given) -> int | str:
        """The row of the gallery, or why there is none. A URI counts for more than an id, as another lake has others.
        An end of a URI, with or without the file's ending, counts where one image alone has it."""
        if given.uri is not None:
            found = [self._exact[given.uri]] if given.uri in self._exact else self._ending.get(given.uri, [])
            if found:
                return found[0] if len(found) == 1 else f"{len(found)} images end so ({given.uri[:200]})"
        rows = self._columns.rows_of([given.image_id] if given.image_id is not None else [])
        if not rows:
            return f"no such image ({given.image_id if given.uri is None else given.uri[:200]})"
        row = next(iter(rows.values()))
        own = self._columns.uri(row)
        if given.uri is not None and own.rpartition("/")[2] != given.uri.rpartition("/")[2]:
            return f"image {given.image_id} of this lake is {own[:200]}, not {given.uri[:200]}"
        return row
