"""One writer a lake: a lease in the lake itself, renewed by its holder and taken over when the holder is gone.

`<lake>/_leases/000001.json`, `000002.json`, …: the highest number is the current lease. A run takes the lake by
creating the next number, which only one of many can (If-None-Match on S3). The store is the only arbiter, so this also
serves drivers on several machines; Delta's default log store on S3 loses commits without it.

A holder counts its lease as lost at `expires_at` and never renews it after that; others count it as ended only half a
ttl later. So two never write at once while clocks differ by less than half a ttl, and a commit that began in time has
that long to end. On the same machine (boot, PID namespace) a holder whose process has ended is replaced at once.
"""

import json
import os
import secrets
import socket
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from udfs.stores import objects, uris
from udfs.stores.s3 import StoreError

FOLDER = "_leases"
TTL_S = 120.0
_PROC = Path("/proc")
_ATTEMPTS = 10  # at reading a folder that others change meanwhile


class LeaseHeld(RuntimeError):  # noqa: N818
    """Another run writes to this lake."""


class LeaseLost(RuntimeError):  # noqa: N818
    """This run may no longer write to its lake."""


@dataclass(frozen=True)
class Holder:
    """What a lease object says. Times in seconds since 1970, UTC. boot, process_started: "" where there is none.

    boot: one boot of one machine and one PID namespace in it. process_started: tells a process from a later one with
    its pid. token: tells two leases of one run apart."""

    run_id: str
    host: str
    boot: str
    pid: int
    process_started: str
    token: str
    ttl_s: float
    started_at: float
    expires_at: float
    released: bool

    def ends_in_s(self, now: float) -> float:
        """Seconds until others may take the lake, if it is not renewed; 0 or less where they may now."""
        if self.released or _is_dead(self):
            return 0.0
        return self.expires_at + self.ttl_s / 2 - now


class Lease:
    """The right to write to one lake, renewed by a thread each quarter of its ttl until it is released.

    A context manager that releases at its end. Made by `acquire`."""

    def __init__(self, lake: str, number: int, holder: Holder) -> None:
        self.lake = lake
        self.number = number
        self._holder = holder
        self._lock = threading.Lock()  # one renewal or release at a time
        self._lost = ""
        self._ended = threading.Event()
        self._ends = time.monotonic() + holder.expires_at - time.time()
        self._thread = threading.Thread(target=self._renew_until_ended, name=f"lease of {lake}", daemon=True)
        self._thread.start()

    @property
    def holder(self) -> Holder:
        """What the lease object says by now."""
        return self._holder

    def check(self) -> None:
        """To be called right before each commit; costs nothing. Raises LeaseLost once another run may be writing."""
        if not self._lost and (time.time() >= self._holder.expires_at or time.monotonic() >= self._ends):
            # Both clocks: one stands still while a machine sleeps, the other can be set back.
            self._lost = "it could not be renewed in time"
        if self._lost:
            raise LeaseLost(
                f"run {self._holder.run_id} has lost lake {self.lake}: {self._lost}; what it had committed stays, "
                "run the command again to go on from there"
            )

    def release(self) -> None:
        """Lets the next run begin at once; may be called twice. Raises StoreError where that cannot be written."""
        self._ended.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=30)
        with self._lock:
            if self._holder.released or self._lost or self._holder.pid != os.getpid():
                return
            if max(_numbers(self.lake), default=0) == self.number:
                objects.put(_uri(self.lake, self.number), _to_json(replace(self._holder, released=True)))
            self._holder = replace(self._holder, released=True)
            self._lost = "it was released"

    def __enter__(self) -> "Lease":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.release()
        except StoreError:
            if error is None:
                raise
            # The error that ended the run is the one to tell; the lease ends by itself.

    def _renew_until_ended(self) -> None:
        wait_s = self._holder.ttl_s / 4
        while not self._ended.wait(wait_s):
            wait_s = self._holder.ttl_s / 4
            try:
                with self._lock:
                    if self._ended.is_set():
                        return
                    self._renew()
            except LeaseLost:
                return
            except (StoreError, OSError):
                wait_s = self._holder.ttl_s / 16  # tried again, until check() finds that time is up

    def _renew(self) -> None:
        self.check()
        numbers = _numbers(self.lake)
        newest = max(numbers, default=0)
        if newest != self.number:
            self._lost = "another run has taken it over" if newest > self.number else "its lease object was deleted"
            self.check()
        self.check()
        now = time.time()
        renewed = replace(self._holder, expires_at=now + self._holder.ttl_s)
        ends = time.monotonic() + self._holder.ttl_s
        objects.put(_uri(self.lake, self.number), _to_json(renewed))
        # A write that took so long that others may have taken over meanwhile renewed nothing.
        self.check()
        self._holder, self._ends = renewed, ends
        for number in numbers:
            if number < self.number - 1:
                objects.delete(_uri(self.lake, number))


def new_run_id() -> str:
    """Of a run that begins now: its time in UTC, and what tells it from others of the same second."""
    return time.strftime("%Y%m%dT%H%M%SZ-", time.gmtime()) + secrets.token_hex(4)


def acquire(lake: str, run_id: str, ttl_s: float = TTL_S) -> Lease:
    """The lease of a lake, by its canonical URI. ttl_s: how long the lake stays closed, and half as long again, after a
    holder on another machine died; more than twice what clocks differ by.

    Raises LeaseHeld where another run has the lake, StoreError where the lake cannot be read or written."""
    if ttl_s <= 0:
        raise ValueError(f"ttl_s must be above 0, got {ttl_s}")
    newest, holder = _current(lake)
    if holder is not None and holder.ends_in_s(time.time()) > 0:
        raise _held(lake, holder)
    now = time.time()
    mine = Holder(
        run_id=run_id,
        host=socket.gethostname(),
        boot=_boot(),
        pid=os.getpid(),
        process_started=_process_started(os.getpid()),
        token=uuid.uuid4().hex,
        ttl_s=ttl_s,
        started_at=now,
        expires_at=now + ttl_s,
        released=False,
    )
    number = newest + 1
    created = objects.put_if_absent(_uri(lake, number), _to_json(mine))
    # Read back: the answer to a write that did happen may have been lost, and one that came very late may have got a
    # number that was in use before and has been deleted since.
    newest, holder = _current(lake)
    if holder is not None and newest == number and holder.token == mine.token:
        return Lease(lake, number, mine)
    if created and newest > number:
        objects.delete(_uri(lake, number))
    if holder is None:
        raise StoreError(f"{lake}: its lease object was deleted while it was being taken: run the command again")
    raise _held(lake, holder)


def current(lake: str) -> Holder | None:
    """Who writes to a lake, by its canonical URI, or None. For people: only `acquire` decides. Raises StoreError."""
    _, holder = _current(lake)
    return holder if holder is not None and holder.ends_in_s(time.time()) > 0 else None


def _current(lake: str) -> tuple[int, Holder | None]:
    """The highest number and what it says; (0, None) where there is none."""
    for _ in range(_ATTEMPTS):
        newest = max(_numbers(lake), default=0)
        if newest == 0:
            return 0, None
        uri = _uri(lake, newest)
        with suppress(FileNotFoundError):  # deleted since: there is a higher one
            return newest, _from_json(uri, objects.read_small(uri))
    raise StoreError(f"{lake}: its leases change too fast to be read: run the command again")


def _numbers(lake: str) -> list[int]:
    names = objects.list_small(uris.join(lake, FOLDER))
    stems = [name.removesuffix(".json") for name in names if name.endswith(".json")]
    return [int(stem) for stem in stems if stem.isascii() and stem.isdecimal()]


def _uri(lake: str, number: int) -> str:
    return uris.join(lake, FOLDER, f"{number:06}.json")


def _held(lake: str, holder: Holder) -> LeaseHeld:
    since = datetime.fromtimestamp(holder.started_at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return LeaseHeld(
        f"lake {lake} is being written by run {holder.run_id} (host {holder.host}, pid {holder.pid}) since {since}; "
        f"its lease ends in {max(1, round(holder.ends_in_s(time.time())))} s unless renewed"
    )


def _to_json(holder: Holder) -> bytes:
    return json.dumps(asdict(holder), indent=1).encode()


def _from_json(uri: str, text: bytes) -> Holder:
    try:
        return Holder(**json.loads(text))
    except (ValueError, TypeError) as error:
        raise StoreError(f"{uri} is not a lease: delete it if no run writes to this lake") from error


def _is_dead(holder: Holder) -> bool:
    """Whether the holder was a process of this machine, since its last boot, and has ended. False where in doubt."""
    if not holder.boot or holder.host != socket.gethostname() or holder.boot != _boot():
        return False
    return _process_started(holder.pid) != holder.process_started


def _boot() -> str:
    """Names this boot of this machine and this PID namespace: containers on one machine see other processes under the
    same numbers. Where there is no /proc: when it booted, which a clock that is set may change; then nobody is taken
    for dead."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {(_PROC / 'self/ns/pid').readlink()}"
    except OSError:
        import psutil

        return f"{psutil.boot_time():.0f}"


def _process_started(pid: int) -> str:
    """When a process began, in ticks since boot, or where there is no /proc in seconds since 1970; "" for none, or one
    that has ended and is not yet collected. Not always by psutil: on Linux its time moves with the clock."""
    if not (_PROC / "self").exists():
        return _started_at(pid)
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return ""
    fields = text.rpartition(")")[2].split()  # behind the name, which may hold anything: state, ppid, …
    return "" if fields[0] in "ZX" else fields[19]


def _started_at(pid: int) -> str:
    import psutil

    try:
        process = psutil.Process(pid)
        return "" if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.6f}"
    except psutil.NoSuchProcess:
        return ""
    except psutil.Error:  # another user's, of which nothing is told: it is there
        return "unknown"
