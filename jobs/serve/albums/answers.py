"""Answers: what `imagesieve serve` says of one owner's album; docs/albums.md lists it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from jobs.albums.grouping import BURST_S, OwnersAlbums, level_of
from jobs.errors import ConfigError, InputError, RunError


class AlbumAnswers:
    """The albums of one lake, opened when they are first asked for. The album that was asked for last stays in memory.
    lake: a canonical URI."""

    def __init__(self, lake: str) -> None:
        self._lake = lake
        self._albums: OwnersAlbums | None = None
        self._lock = threading.Lock()  # one album is read and compared at a time: it takes both cores as it is

    def grouped(self, query: Mapping[str, str]) -> dict[str, Any]:
        """The rows of an owner's pictures, and how many groups and bursts there are. query: owner, and where they are
        wanted level, by and burst (seconds). Raises RunError, one line."""
        owner, level, by, burst = (query.get(name, "") for name in ("owner", "level", "by", "burst"))
        if not owner:
            raise ConfigError("owner: whose pictures")
        try:
            gap = float(burst) if burst else BURST_S
        except ValueError:
            raise ConfigError(f"burst: must be seconds, got {burst!r}") from None
        with self._lock:
            if self._albums is None or not self._albums.is_current():
                self._albums = OwnersAlbums(self._lake)
            found = self._albums.grouped(owner, level_of(level or "medium"), by or None, gap)
        return {
            "owner": owner,
            "pictures": len(found),
            "groups": int(found.group.max()) + 1,
            "bursts": int(found.burst.max()) + 1,
            "rows": found.rows(),
        }


def album(albums: AlbumAnswers, query: Mapping[str, str]) -> tuple[dict[str, Any], int]:
    """The answer to a query, and the status of HTTP: 404 for an owner or a rating that is not known."""
    try:
        return albums.grouped(query), 200
    except InputError as error:
        return {"detail": str(error)}, 404
    except RunError as error:
        return {"detail": str(error)}, 400
