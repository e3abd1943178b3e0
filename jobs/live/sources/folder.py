"""Folder: what changes in a folder of this machine, by events of its files, gathered into batches.

An event only says where to look. Files are taken when they have been left alone for a moment. What was done while
nobody watched, and what events missed (the kernel drops them where too many come at once), is found by a listing that
is compared with the lake: at the start, every so often, and after a burst."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jobs.errors import InputError
from jobs.live.figures import Figures
from jobs.live.log import Log
from jobs.live.sources.arrivals import Arrival, again_in_s
from jobs.live.sources.comparing import compare
from jobs.live.sources.messages import Gathering
from jobs.live.sources.wanted import Wanted
from udfs.stores import listing, uris
from udfs.stores.s3 import StoreError

TICK_S = 0.25
SETTLED_S = 1.0  # in which a file's size and time did not change
MOST_PENDING = 200_000  # files at hand; a listing finds the others later
MOST_TRIES = 5  # of one file, until it changes again
BURST = 0.5  # of the events that the kernel keeps, in one go: then some may be lost
QUEUED = Path("/proc/sys/fs/inotify/max_queued_events")
TROUBLE_S = 2.0  # between two tries to watch
MOST_FOLDERS = 1000  # that came or went, after which a listing of all is cheaper
START_S = 600.0  # until a large folder is watched


@dataclass(frozen=True)
class _Pending:
    """since: seconds since 1970. state: size and time of the file when it was last looked at, None where it is not
    there; at: when that was, not_before: when it may be taken, by the monotonic clock. settled: left alone since."""

    since: float
    tries: int
    state: tuple[int, int] | None
    at: float
    not_before: float = 0.0
    settled: bool = False


class Folder:
    """A Source: see jobs.live.sources.arrivals."""

    def __init__(
        self,
        lake: str,
        wanted: Wanted,
        gathering: Gathering,
        rescan_s: float,
        max_removed_share: float,
        figures: Figures,
        log: Log,
    ) -> None:
        """Raises InputError where the folder cannot be watched."""
        self._lake, self._wanted, self._gathering, self._rescan_s = lake, wanted, gathering, rescan_s
        self._max_removed_share, self._figures, self._log = max_removed_share, figures, log
        self._root = wanted.places[0].rstrip("/") or "/"
        self._touched: set[str] = set()  # paths, by the thread that watches
        self._lock = threading.Lock()
        self._pending: dict[str, _Pending] = {}  # by URI
        self._taken: dict[str, _Pending] = {}  # handed out, and not handed back
        self._folders: dict[str, float] = {}  # URIs of folders that came or went, and when, by the monotonic clock
        self._rescan_at = 0.0  # monotonic
        self._missed = threading.Event()  # events that may be lost
        self._first = True
        self._ended, self._started = threading.Event(), threading.Event()
        self._fault = ""
        self._thread = threading.Thread(target=self._watch, name="files", daemon=True)
        self._thread.start()
        # Before the first listing: else a file that comes between the two is missed.
        if not self._started.wait(START_S) or self._fault:
            self.close()
            raise InputError(f"{self._root}: cannot be watched: {self._fault or 'it takes too long'}")

    def gather(self, stop: threading.Event) -> list[Arrival]:
        plan = self._gathering
        while not stop.is_set():
            self._figures.beat()
            self._hear()
            missed = self._missed.is_set() and len(self._pending) < MOST_PENDING // 2
            if self._first or missed or time.monotonic() >= self._rescan_at:
                self._rescan()
            self._look_into_folders()
            more = self._settle()
            ready = [uri for uri, one in self._pending.items() if one.settled]
            age_s = time.time() - min((self._pending[uri].since for uri in ready), default=time.time())
            if plan.once and not more:
                return self._take(ready)
            if ready and (len(ready) >= plan.at_least or age_s >= plan.every_s) and (found := self._take(ready)):
                return found
            stop.wait(TICK_S)
        return []

    def done(self, arrivals: Sequence[Arrival]) -> None:
        for arrival in arrivals:
            self._taken.pop(arrival.token, None)

    def refuse(self, arrival: Arrival, reason: str) -> None:
        pending = self._taken.pop(arrival.token)
        if pending.tries >= MOST_TRIES:
            self._figures.count("poison_messages")
            self._log.event("poison", uri=arrival.token, reason=f"{reason}; it is tried again when it changes")
            return
        later = time.monotonic() + again_in_s(pending.tries)
        self._pending.setdefault(arrival.token, replace(pending, not_before=later))

    def release(self, arrivals: Sequence[Arrival]) -> None:
        for arrival in arrivals:
            if (pending := self._taken.pop(arrival.token, None)) is not None:
                self._pending.setdefault(arrival.token, pending)

    def behind(self) -> tuple[int, float]:
        here = [*list(self._pending.values()), *list(self._taken.values())]
        return len(here), min((one.since for one in here), default=0.0)

    def close(self) -> None:
        self._ended.set()
        self._thread.join(10)

    def _hear(self) -> None:
        """Takes what the watching thread has heard of."""
        with self._lock:
            touched, self._touched = self._touched, set()
        for path in touched:
            uri = uris.from_local_path(os.fsencode(path))
            below = uri[len(self._root) :].lstrip("/")
            if uri.startswith(self._wanted.leave_out) or not below or listing.is_hidden(below):
                continue
            is_there = os.path.lexists(path)
            if Path(path).is_dir():
                if not Path(path).is_symlink():  # whose contents a listing leaves out, too
                    self._folders[uri] = time.monotonic()
            elif not self._wanted.why_not(uri):
                self._add(uri)
            elif not is_there:
                self._folders[uri] = time.monotonic()  # it may have been one
            else:
                self._figures.count("left_out")

    def _add(self, uri: str) -> None:
        if len(self._pending) >= MOST_PENDING:
            self._missed.set()
            return
        found = self._pending.get(uri)
        self._pending[uri] = _Pending(found.since if found else time.time(), 0, _state(uri), time.monotonic())

    def _settle(self) -> bool:
        """Marks those pending that were left alone for SETTLED_S; returns whether others only need a moment more."""
        now, more = time.monotonic(), bool(self._folders)
        for uri, pending in list(self._pending.items()):
            if pending.settled or now < pending.not_before:
                continue
            more = True
            if now - pending.at >= SETTLED_S:
                state = _state(uri)
                self._pending[uri] = replace(pending, state=state, at=now, settled=state == pending.state)
        return more

    def _take(self, ready: Sequence[str]) -> list[Arrival]:
        found = []
        for uri in sorted(ready, key=lambda uri: self._pending[uri].since)[: self._gathering.at_most]:
            pending, state = self._pending[uri], _state(uri)
            if state != pending.state:
                self._pending[uri] = replace(pending, state=state, at=time.monotonic(), settled=False)
                continue
            del self._pending[uri]
            self._taken[uri] = taken = replace(pending, tries=pending.tries + 1)
            found.append(Arrival(uri, (uri,), taken.since, taken.tries))
        return found

    def _look_into_folders(self) -> None:
        """What came and went with folders: no event names the files in them. A moment later, when they are watched."""
        due = [uri for uri, at in self._folders.items() if time.monotonic() - at >= SETTLED_S]
        for uri in due:
            del self._folders[uri]
        if len(due) > MOST_FOLDERS:
            self._missed.set()
        elif due:
            self._compare(due)

    def _rescan(self) -> None:
        """Adds what a listing finds. Raises InputError the first time, where too much has gone or it is no folder."""
        self._missed.clear()
        self._rescan_at = time.monotonic() + self._rescan_s
        first, self._first = self._first, False
        self._compare([self._root], first)

    def _compare(self, roots: Sequence[str], raises: bool = False) -> None:
        try:
            found = compare(self._lake, roots, self._wanted)
            if roots == [self._root] and len(found.gone) > self._max_removed_share * found.known:
                raise InputError(
                    f"{self._root}: {len(found.gone)} of the lake's {found.known} images are not there: if that is "
                    "meant, --set catalog.max_removed_share=1; if not, is the disk there?"
                )
        except (StoreError, InputError) as error:
            if raises:
                raise InputError(str(error)) from error
            self._log.event("trouble", text=str(error))
            return
        if found.unlisted:
            self._log.event("trouble", text=f"{found.unlisted:,} folders could not be listed: nothing counts as gone")
        for uri in (*found.fresh, *found.gone):
            if uri not in self._pending and uri not in self._taken:
                self._add(uri)
        if found.fresh or found.gone:
            self._log.event("listed", fresh=len(found.fresh), gone=len(found.gone), known=found.known)

    def _watch(self) -> None:
        """In a thread of its own, until the end: writes down the paths that events name."""
        import watchfiles

        most = BURST * _queued()
        path = os.fsdecode(uris.local_path(self._root))
        while not self._ended.is_set():
            again, which = self._started.is_set(), _which(path)
            try:
                for changes in watchfiles.watch(
                    path, watch_filter=None, debounce=500, step=100, rust_timeout=500, yield_on_timeout=True,
                    stop_event=self._ended, raise_interrupt=False, ignore_permission_denied=True,
                ):  # fmt: skip
                    self._started.set()
                    with self._lock:
                        self._touched |= {name for _, name in changes}
                    if again or len(changes) >= most:
                        self._missed.set()
                    again = False
                    if _which(path) != which:  # it went, or something else was mounted there
                        break
            except (OSError, RuntimeError) as error:  # RuntimeError: watchfiles' own, such as for a name not in UTF-8
                if not self._started.is_set():
                    self._fault = " ".join(str(error).split())
                    self._started.set()
                    return
                if str(error) != self._fault:  # it may go on for days
                    self._fault = str(error)
                    self._log.event("trouble", text=f"the folder is watched anew: {error}")
            self._ended.wait(TROUBLE_S)


def _state(uri: str) -> tuple[int, int] | None:
    try:
        found = os.stat(uris.local_path(uri))  # noqa: PTH116 (bytes)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _which(path: str) -> tuple[int, int] | None:
    """Tells one folder from another of its name."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _queued() -> int:
    """Events that the kernel keeps until they are read; Linux's default elsewhere."""
    try:
        return int(QUEUED.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 16384
