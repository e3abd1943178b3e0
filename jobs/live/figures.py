"""Figures: what a watch has done and what it is at, for its health endpoints, Prometheus and CloudWatch."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from jobs.live.changes import Outcome
from jobs.metrics import Metric

SILENT_S = 120.0  # without a sign of the loop, after which it hangs
STUCK_S = 3600.0  # that one batch may take
STALE_S = 10.0  # for which "behind" is not asked again
# Name, what it is.
COUNTERS = {
    "batches": "batches that were committed or changed nothing",
    "refused_batches": "batches that could not be brought in, and are tried again",
    "poison_messages": "messages that were put aside as dead letters",
    "left_out": "objects that are no images, or lie elsewhere",
    "added": "images added",
    "changed": "images whose bytes changed",
    "removed": "images that have gone",
    "same": "images that were known as they are",
    "failed": "images that could not be used",
}
GAUGES = {
    "oldest_seconds": "age of the oldest message or file at hand",
    "images_behind": "images that are not in the lake yet, about",
    "batch_seconds": "how long the last batch took",
    "lag_seconds": "age of the oldest message of the last batch when it was committed",
    "ready": "1 where batches can be brought in",
}


class Figures:
    """Counted by the loop and read by other threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(COUNTERS, 0)
        self._published = dict(self._counts)
        self._beat = time.monotonic()
        self._working_since: float | None = None
        self._trouble = "the lake is not open yet"
        self._last = {"batch_seconds": 0.0, "lag_seconds": 0.0}
        self._behind: Callable[[], tuple[int, float]] = lambda: (0, 0.0)
        self._asked: tuple[float, tuple[int, float]] | None = None

    def of_source(self, behind: Callable[[], tuple[int, float]]) -> None:
        self._behind = behind

    def count(self, name: str, number: int = 1) -> None:
        with self._lock:
            self._counts[name] += number

    def counted(self, name: str) -> int:
        with self._lock:
            return self._counts[name]

    def beat(self) -> None:
        """The loop is alive."""
        self._beat = time.monotonic()

    def working(self) -> None:
        self._working_since = time.monotonic()

    def rests(self) -> None:
        self._working_since = None
        self.beat()

    def ready(self, trouble: str = "") -> None:
        """trouble: why batches cannot be brought in; "" where they can."""
        self._trouble = " ".join(trouble.split())[:300]

    def brought(self, outcome: Outcome, seconds: float, lag_s: float) -> None:
        """lag_s: from the oldest message to the commit."""
        with self._lock:
            self._counts["batches"] += 1
            for name in ("added", "changed", "removed", "same", "failed", "left_out"):
                self._counts[name] += getattr(outcome, name)
            self._last = {"batch_seconds": seconds, "lag_seconds": lag_s}

    def not_live(self) -> str:
        """Why this process is to be started anew; "" where it is well."""
        now, since = time.monotonic(), self._working_since
        if since is not None:
            return f"one batch runs for {now - since:.0f} s" if now - since > STUCK_S else ""
        silent = now - self._beat
        return f"no sign of the loop for {silent:.0f} s" if silent > SILENT_S else ""

    def not_ready(self) -> str:
        """Why batches cannot be brought in; "" where they can."""
        return self._trouble or self.not_live()

    def gauges(self) -> dict[str, float]:
        number, oldest = self._waiting()
        return {
            "oldest_seconds": max(0.0, time.time() - oldest) if oldest else 0.0,
            "images_behind": number,
            **self._last,
            "ready": float(not self.not_ready()),
        }

    def text(self) -> str:
        """As Prometheus reads it."""
        with self._lock:
            counts = dict(self._counts)
        lines = []
        for kind, texts, values in (("counter", COUNTERS, counts), ("gauge", GAUGES, self.gauges())):
            for name, meaning in texts.items():
                full = f"imagesieve_watch_{name}{'_total' if kind == 'counter' else ''}"
                lines += [f"# HELP {full} {meaning}", f"# TYPE {full} {kind}", f"{full} {values[name]:.12g}"]
        return "\n".join(lines) + "\n"

    def metrics(self) -> list[Metric]:
        """For CloudWatch: gauges as they are, counters since the last time."""
        with self._lock:
            fresh = {name: self._counts[name] - self._published[name] for name in COUNTERS}
            self._published = dict(self._counts)
        units = {name: "Seconds" if name.endswith("seconds") else "Count" for name in GAUGES}
        found: list[Metric] = [(name, value, units[name]) for name, value in self.gauges().items()]
        return found + [(name, float(value), "Count") for name, value in fresh.items()]

    def _waiting(self) -> tuple[int, float]:
        asked = self._asked
        if asked is None or time.monotonic() - asked[0] > STALE_S:
            self._asked = asked = time.monotonic(), self._behind()
        return asked[1]
