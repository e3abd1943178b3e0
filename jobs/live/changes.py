"""Changes: what happened to objects, and what came of it; the seam between who is told and who brings it in."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Change:
    """What happened to one object. uri: canonical. removed: it is gone; then the rest is None."""

    uri: str
    removed: bool = False
    etag: str | None = None
    size_bytes: int | None = None
    modified_at: datetime.datetime | None = None


@dataclass(frozen=True)
class Outcome:
    """What a batch did. batch: its number in the lake, None where nothing changed. same: were known as they are.
    left_out: belong to no input of the lake."""

    batch: int | None
    added: int
    changed: int
    removed: int
    same: int
    failed: int
    left_out: int


class Bringer(Protocol):
    """Brings batches of changes into a lake."""

    def bring(self, changes: Sequence[Change]) -> Outcome:
        """Commits all tables, or raises RunError with nothing lost; may be called again with the same changes."""

    def close(self) -> None:
        """Ends what it holds."""
