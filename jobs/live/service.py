"""Service: the loop that brings into a lake what a source gathers, until it is told to stop.

Three kinds of trouble. The store does not answer for an object: its arrival is handed back, the others go on. The lake,
the engine or the network do not serve: the batch is kept, and tried again after a while. The batch itself is refused:
it is halved, again and again, so that all but the arrival at fault get in, which is handed back to come again."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Sequence

from jobs.errors import ConfigError, InputError, LakeBusyError, LakeError, MachineError, RunError
from jobs.live.changes import Bringer, Outcome
from jobs.live.figures import Figures
from jobs.live.log import Log
from jobs.live.sources.arrivals import Arrival, Source, again_in_s
from jobs.live.sources.looking import look
from jobs.live.sources.sqs import QueueError
from udfs.stores.s3 import StoreError
from udfs.stores.s3_objects import Limits

# Not the batch's fault: it is tried again as it is.
ELSEWHERE = (ConfigError, LakeBusyError, LakeError, MachineError, QueueError, StoreError)
SHARE, FEW = 0.5, 10  # of a batch's objects that the store did not answer for: then it is the store, not they
IN_A_ROW = 3  # single arrivals refused, after which each one more is waited for
OPEN_WAIT_S = 5.0  # after a first trouble; doubled up to the wait of refused arrivals


class Service:
    """open_bringer: opens the lake; called again after trouble with it. once: whether to end when nothing is left."""

    def __init__(
        self,
        source: Source,
        open_bringer: Callable[[], Bringer],
        limits: Limits,
        once: bool,
        figures: Figures,
        log: Log,
    ) -> None:
        self._source, self._open_bringer, self._limits, self._once = source, open_bringer, limits, once
        self._figures, self._log = figures, log
        self._bringer: Bringer | None = None
        self._troubles = 0  # in a row, of the lake or what is around it
        self._singles = 0  # single arrivals refused in a row
        self._refused: RunError | None = None

    def run(self, stop: threading.Event) -> None:
        """Until stop is set, and then the batch that is at work is ended. Raises RunError where the lake cannot be
        opened, but for another run that writes to it; with once also for whatever stays behind."""
        try:
            self._begin(stop, LakeBusyError)
            while not stop.is_set():
                self._begin(stop, *ELSEWHERE)
                try:
                    arrivals = self._source.gather(stop)
                except QueueError as error:
                    self._trouble(error, stop)
                    continue
                if not arrivals and self._once:
                    break
                self._sieve(arrivals, stop)
            if self._once and self._refused is not None:
                raise self._refused
        finally:
            self._figures.ready("ended")
            self._shut()

    def _begin(self, stop: threading.Event, *waits_for: type[Exception]) -> None:
        """Opens the lake where it is not open, while nothing is at hand. waits_for: the trouble to wait out."""
        while self._bringer is None and not stop.is_set():
            try:
                self._bringer = self._open_bringer()
                self._figures.ready()
            except waits_for as error:
                self._trouble(error, stop)

    def _sieve(self, arrivals: Sequence[Arrival], stop: threading.Event) -> None:
        """Hands back every arrival: done, refused, or, where stop is set before its turn, released."""
        left = [list(arrivals)] if arrivals else []
        try:
            while left:
                if stop.is_set():
                    return
                part = left.pop()
                try:
                    part = self._bring(part)
                except ELSEWHERE as error:
                    left.append(part)
                    self._trouble(error, stop)
                except Exception as error:
                    left += self._parts(part, error, stop)
                except BaseException:
                    left.append(part)
                    raise
                else:
                    self._source.done(part)
                    self._troubles = self._singles = 0
                    self._figures.ready()
        finally:
            self._source.release([arrival for part in left for arrival in part])

    def _bring(self, part: list[Arrival]) -> list[Arrival]:
        """Brings a part of a batch into the lake, but for what the store does not answer for. Returns what went in."""
        self._figures.working()
        started = time.monotonic()
        try:
            looked = look(list(dict.fromkeys(uri for arrival in part for uri in arrival.uris)), self._limits)
            if len(looked.faults) > max(FEW, SHARE * (len(looked.changes) + len(looked.faults))):
                first = next(iter(looked.faults.values()))
                raise StoreError(f"{len(looked.faults):,} objects could not be looked at: {first}")
            unsure = [arrival for arrival in part if not looked.faults.keys().isdisjoint(arrival.uris)]
            sure = [arrival for arrival in part if looked.faults.keys().isdisjoint(arrival.uris)]
            uris = {uri for arrival in sure for uri in arrival.uris}
            changes = [change for change in looked.changes if change.uri in uris]
            if changes:
                if self._bringer is None:
                    self._bringer = self._open_bringer()
                outcome = self._bringer.bring(changes)
                self._told(outcome, sure, time.monotonic() - started)
            for arrival in unsure:
                why = next(looked.faults[uri] for uri in arrival.uris if uri in looked.faults)
                self._log.event("unsure", text=why)
                self._refused = InputError(why)
                self._source.refuse(arrival, why)
            return sure
        finally:
            self._figures.rests()

    def _told(self, outcome: Outcome, arrivals: Sequence[Arrival], seconds: float) -> None:
        lag_s = time.time() - min(arrival.since for arrival in arrivals)
        self._figures.brought(outcome, seconds, lag_s)
        counts = {name: number for name, number in vars(outcome).items() if name != "batch" and number}
        times = {"seconds": round(seconds, 3), "lag_s": round(lag_s, 3)}
        self._log.event("batch", batch=outcome.batch, **counts, **times, arrivals=len(arrivals))

    def _parts(self, part: list[Arrival], error: Exception, stop: threading.Event) -> list[list[Arrival]]:
        """What is still to be tried of a part that was refused: its halves, the first of them last."""
        if isinstance(error, RunError) and isinstance(error.__cause__, StoreError):
            self._trouble(error, stop)
            return [part]
        foreseen = isinstance(error, RunError)
        reason = " ".join((str(error) if foreseen else f"{type(error).__name__}: {error}").split())[:500]
        self._figures.count("refused_batches")
        self._log.event("refused", arrivals=len(part), reason=reason)
        if not foreseen:
            self._log.event("traceback", text="".join(traceback.format_exception(error))[-1900:])
            self._shut()  # nobody knows what state it is in
        if len(part) > 1:
            half = len(part) // 2
            return [part[half:], part[:half]]
        self._refused = error if isinstance(error, RunError) else RunError(reason)
        self._source.refuse(part[0], reason)
        self._singles += 1
        if self._singles >= IN_A_ROW:  # then it may well not be them
            self._wait(again_in_s(self._singles - IN_A_ROW + 1), stop)
        return []

    def _trouble(self, error: Exception, stop: threading.Event) -> None:
        """Waits, the longer the more often. With once, raises it."""
        told = error if isinstance(error, RunError) else InputError(str(error))
        if self._once:
            raise told from error
        self._shut()
        self._troubles += 1
        wait_s = min(OPEN_WAIT_S * 2 ** min(self._troubles - 1, 20), again_in_s(20))
        self._figures.ready(str(error))
        self._log.event("trouble", text=str(error), again_in_s=wait_s)
        self._wait(wait_s, stop)

    def _wait(self, seconds: float, stop: threading.Event) -> None:
        ends = time.monotonic() + seconds
        while not stop.is_set() and (left := ends - time.monotonic()) > 0:
            self._figures.beat()
            stop.wait(min(left, 1.0))

    def _shut(self) -> None:
        bringer, self._bringer = self._bringer, None
        if bringer is None:
            return
        try:
            bringer.close()
        except Exception as error:  # what was wrong with it is told already, and what it had committed stays
            self._log.event("trouble", text=f"{type(error).__name__}: {error}")
