"""Grouping: what of an album is alike, the best of each group, and what was taken in one burst."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jobs.albums.reading import Album, Albums
from jobs.errors import ConfigError, InputError
from udfs.albums.packs import UNKNOWN
from udfs.networks import models
from udfs.vectors.components import prepare
from udfs.vectors.cosine import Ids, Values
from udfs.vectors.similarity import THRESHOLDS, Compared, Groups, cosine_of

if TYPE_CHECKING:
    import pandas as pd

BURST_S = 3.0  # a longer gap between two pictures ends a burst
_START = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class GroupedAlbum:
    """An owner's pictures, in the order of their ids. All (n,).

    group: int64 from 0, the same for pictures that are alike; one that is like no other has a group of its own. best:
    whether it is the best of its group. cosine: in [-1, 1], to the best of its group. score: by which the best was
    found, NaN where it is not known. taken: int64 microseconds since 1970, UTC, UNKNOWN where it is not known;
    by_camera: whether the picture itself told when it was taken, else it is when its file was changed. burst: int64
    from 0 in the order of time, -1 of pictures without a time."""

    owner: str
    ids: Ids
    uris: Sequence[str]
    group: Ids
    best: NDArray[np.bool_]
    cosine: Values
    score: Values
    taken: Ids
    by_camera: NDArray[np.bool_]
    burst: Ids

    def __len__(self) -> int:
        return len(self.ids)

    def taken_at(self, row: int) -> datetime | None:
        """When a picture was taken, or None."""
        at = int(self.taken[row])
        return None if at == UNKNOWN else _START + timedelta(microseconds=at)

    def pandas(self) -> pd.DataFrame:
        """A row a picture: image_id, uri, group, best, cosine, score, taken_at, by_camera, burst."""
        import pandas as pd

        times = np.where(self.taken == UNKNOWN, np.iinfo(np.int64).min, self.taken).view("datetime64[us]")
        return pd.DataFrame(
            {"image_id": self.ids, "uri": self.uris, "group": self.group, "best": self.best, "cosine": self.cosine,
             "score": self.score, "taken_at": pd.Series(times).dt.tz_localize("UTC"), "by_camera": self.by_camera,
             "burst": self.burst}
        )  # fmt: skip

    def rows(self) -> list[dict[str, Any]]:
        """As pandas(), as values of JSON: an unknown score or time is None."""
        return [
            {
                "image_id": int(self.ids[row]),
                "uri": self.uris[row],
                "group": int(self.group[row]),
                "best": bool(self.best[row]),
                "cosine": round(float(self.cosine[row]), 6),
                "score": None if np.isnan(self.score[row]) else round(float(self.score[row]), 6),
                "taken_at": None if (at := self.taken_at(row)) is None else at.isoformat(),
                "by_camera": bool(self.by_camera[row]),
                "burst": int(self.burst[row]) if self.burst[row] >= 0 else None,
            }
            for row in range(len(self))
        ]


class OwnersAlbums:
    """The albums of a lake, to be grouped. The last one is kept with what was compared of it. lake: a canonical URI."""

    def __init__(self, lake: str) -> None:
        """Raises LakeError."""
        self._lake = lake
        self._albums = Albums(lake)
        prepare()  # or the first album would wait for it
        self._last: tuple[Album, Compared] | None = None
        self._scores: dict[str, Values] = {}
        self._groups: dict[tuple[float, str | None], Groups] = {}

    def is_current(self) -> bool:
        """Whether the albums are those of the lake as it is now."""
        return self._albums.is_current()

    def grouped(
        self, owner: str, level: str | float = "medium", by: str | None = None, burst_s: float = BURST_S
    ) -> GroupedAlbum:
        """The groups of one owner's pictures; see imagesieve.Lake.group. Raises ConfigError, InputError, LakeError."""
        if not 0 <= burst_s < float("inf"):
            raise ConfigError(f"burst: must be seconds, 0 or more, got {burst_s}")
        try:
            threshold = cosine_of(level)
        except ValueError as error:
            raise ConfigError(f"level: {error}") from error
        album, compared = self._opened(owner)
        if isinstance(level, str) and album.model != models.DEFAULT:
            raise ConfigError(f"level: {level} is made for {models.DEFAULT}; for {album.model} give a cosine")
        facts = album.pictures.facts
        score = self._score(album, by)
        if (threshold, by) not in self._groups:
            quality = np.nan_to_num(score, nan=-np.inf)
            self._groups[threshold, by] = compared.group(threshold, quality)
        found = self._groups[threshold, by]
        return GroupedAlbum(
            owner=owner,
            ids=album.pictures.ids,
            uris=[uri.decode("utf-8", "surrogatepass") for uri in album.pictures.uris],
            group=found.cluster,
            best=found.keeper == np.arange(len(found.keeper)),
            cosine=found.cosine,
            score=score,
            taken=np.ascontiguousarray(facts["taken"]),
            by_camera=facts["by_camera"] == 1,
            burst=bursts(facts["taken"], album.pictures.ids, burst_s),
        )

    def _opened(self, owner: str) -> tuple[Album, Compared]:
        if self._last is None or self._last[0].owner != owner:
            album = self._albums.album(owner)
            self._last = album, Compared(album.pictures.vectors, album.pictures.pairs)
            self._scores, self._groups = {}, {}
        return self._last

    def _score(self, album: Album, by: str | None) -> Values:
        """The quality of each picture, or what a rating of the lake gives it."""
        if by is None:
            return album.pictures.facts["quality"].astype(np.float64)
        if by not in self._scores:
            self._scores[by] = _rated(self._lake, album, by)
        return self._scores[by]


def bursts(taken: NDArray[np.int64], ids: Ids, gap_s: float) -> Ids:
    """(n,) the burst of each picture, from 0 in the order of time: one ends where the next picture was taken more than
    gap_s later. taken: (n,) microseconds or UNKNOWN, of which the burst is -1. ids: decide between equal times."""
    found = np.full(len(taken), -1, np.int64)
    order = np.lexsort((ids, taken))
    order = order[taken[order] != UNKNOWN]
    if len(order):
        later = np.diff(taken[order]) > gap_s * 1e6
        found[order] = np.concatenate([[0], np.cumsum(later)])
    return found


def _rated(lake: str, album: Album, by: str) -> Values:
    from jobs.rating import store
    from jobs.rating.vectors import LakeRows
    from udfs.ratings.heads import HeadError
    from udfs.vectors.similarity import widened

    head = store.find(lake, by).head
    if head.model != album.model:
        raise InputError(f"{head.key} is of vectors of {head.model}, the albums are of {album.model}")
    ids = album.pictures.ids
    properties = None if head.measured is None else LakeRows(lake, head.model).properties(ids, head.measured.names)
    try:
        scores, _ = head.scores(widened(album.pictures.vectors), properties)
    except HeadError as error:
        raise InputError(str(error)) from error
    return np.asarray(scores, np.float64)


def level_of(given: str) -> str | float:
    """What --level gives: a name or a cosine. Raises ConfigError."""
    if given in THRESHOLDS:
        return given
    try:
        return float(given)
    except ValueError:
        raise ConfigError(f"level: must be a cosine or one of {', '.join(THRESHOLDS)}, got {given!r}") from None
