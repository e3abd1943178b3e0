"""Arrivals: what has come and is to be brought in, whatever told of it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

FIRST_S, LONGEST_S = 30, 900  # between two tries of what was refused


@dataclass(frozen=True)
class Arrival:
    """One message, or one file. token: by which its source knows it. uris: canonical, one or more. since: seconds since
    1970, when it came. tries: how often it was handed out, this time too."""

    token: str
    uris: tuple[str, ...]
    since: float
    tries: int


class Source(Protocol):
    """Where arrivals come from. Each one that gather() gave is handed back once: done, refused, or released."""

    def gather(self, stop: threading.Event) -> list[Arrival]:
        """Waits until a batch is to be brought in; [] where stop is set, or all that was there is done and it was to
        take no more. Raises RunError, QueueError."""
        ...

    def done(self, arrivals: Sequence[Arrival]) -> None:
        """They are in the lake."""
        ...

    def refuse(self, arrival: Arrival, reason: str) -> None:
        """It is to come again, later; after many tries it is put aside with the reason."""
        ...

    def release(self, arrivals: Sequence[Arrival]) -> None:
        """They are to come again, to whoever asks first."""
        ...

    def behind(self) -> tuple[int, float]:
        """About how many images are not in the lake yet, and since when the oldest of those at hand waits: seconds
        since 1970, 0 where none does."""
        ...

    def close(self) -> None: ...


def again_in_s(tries: int) -> int:
    """Seconds until what was refused is tried again: 30, 60, 120, … 900."""
    return min(LONGEST_S, FIRST_S << max(0, min(tries, 20) - 1))
