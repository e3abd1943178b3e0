"""Messages: what a queue of S3's events tells, gathered into batches; deleted when what it told of is in the lake."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from jobs.live.figures import Figures
from jobs.live.log import Log
from jobs.live.sources import events
from jobs.live.sources.arrivals import Arrival, again_in_s
from jobs.live.sources.sqs import Message, QueueError, Sqs
from jobs.live.sources.wanted import SHARD, Wanted

WAIT_S = 5.0  # of one request at most: so long it takes until a stop is heard
ONCE_WAIT_S = 2.0  # SQS asks all its servers where it may wait at all
MOST_TRIES = 5  # of a message, where the queue does not say
MOST_BYTES = 256 << 20  # of messages at hand


@dataclass(frozen=True)
class Gathering:
    """every_s: age of the oldest arrival with which a batch begins. at_least: number with which it begins before that;
    what else is there at once goes with it, up to at_most. once: whether to end where nothing more is there."""

    every_s: float
    at_least: int
    at_most: int
    once: bool


class Messages:
    """A Source: see jobs.live.sources.arrivals. While a message is at hand nobody else gets it."""

    def __init__(
        self, sqs: Sqs, wanted: Wanted, gathering: Gathering, visibility_s: int, figures: Figures, log: Log
    ) -> None:
        self._sqs, self._wanted, self._gathering, self._visibility_s = sqs, wanted, gathering, visibility_s
        self._figures, self._log = figures, log
        self._held: dict[str, Message] = {}  # arrivals that were not handed back, by receipt
        self._idle: list[str] = []  # receipts of messages that tell of nothing to do
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="visibility", daemon=True)
        self._keeper.start()

    def gather(self, stop: threading.Event) -> list[Arrival]:
        plan, found, size = self._gathering, list[Arrival](), 0
        try:
            while not stop.is_set():
                self._figures.beat()
                due = bool(found) and (len(found) >= plan.at_least or _age(found) >= plan.every_s)
                full = len(found) >= plan.at_most or size >= MOST_BYTES
                messages = [] if full else self._sqs.receive(self._wait_s(found, due), self._visibility_s)
                arrivals = [arrival for message in messages if (arrival := self._taken(message)) is not None]
                found += arrivals
                size += sum(len(message.body) for message in messages)
                if full or not messages or len(self._idle) >= 100:
                    self._forget_idle()
                if full or (not messages and (due or plan.once)):
                    return found
        except BaseException:
            self.release(found)
            raise
        self.release(found)
        self._forget_idle()
        return []

    def done(self, arrivals: Sequence[Arrival]) -> None:
        receipts = [arrival.token for arrival in arrivals]
        self._drop(receipts)
        try:
            stayed = len(self._sqs.delete(receipts))
        except QueueError as error:
            stayed = len(receipts)
            self._log.event("trouble", text=str(error))
        if stayed:  # they come again, and what they tell of is then the same as what is there
            self._log.event("undeleted", messages=stayed)

    def refuse(self, arrival: Arrival, reason: str) -> None:
        (message,) = self._drop([arrival.token]) or (None,)
        if message is None:  # lost meanwhile: it comes again by itself
            return
        if message.receives >= (self._sqs.most_receives or MOST_TRIES):
            self._bury(message, reason)
            return
        try:
            self._sqs.keep({message.receipt: again_in_s(message.receives)})
        except QueueError as error:  # it comes again by itself
            self._log.event("trouble", text=str(error))

    def release(self, arrivals: Sequence[Arrival]) -> None:
        receipts = [arrival.token for arrival in arrivals]
        self._drop(receipts)
        try:
            self._sqs.keep(dict.fromkeys(receipts, 0))
        except QueueError as error:  # they come again by themselves, a little later
            self._log.event("trouble", text=str(error))

    def behind(self) -> tuple[int, float]:
        with self._lock:
            held, oldest = len(self._held), min((one.sent_at for one in self._held.values()), default=0.0)
        try:
            return held + self._sqs.waiting(), oldest
        except QueueError:  # whoever asks for figures gets those that are known
            return held, oldest

    def close(self) -> None:
        self._ended.set()
        self._keeper.join(30)
        self._sqs.close()

    def _wait_s(self, found: Sequence[Arrival], due: bool) -> float:
        if due:
            return 0.0
        if self._gathering.once:
            return ONCE_WAIT_S
        left = self._gathering.every_s - _age(found) if found else WAIT_S
        return math.ceil(min(WAIT_S, max(0.0, left)))

    def _taken(self, message: Message) -> Arrival | None:
        """The message as an arrival that is at hand from now on; None where nothing is to be done for it."""
        try:
            told = events.read(message.body)
        except events.NotAnEventError as error:
            self._bury(message, str(error))
            return None
        reasons = {uri: self._wanted.why_not(uri) for uri in told.uris}
        taken = tuple(uri for uri, reason in reasons.items() if not reason)
        self._figures.count("left_out", len(reasons) - len(taken))
        for uri, reason in reasons.items():
            if reason == SHARD:
                self._log.event("shard", uri=uri, text="holds images: run `imagesieve run` to take them in")
        if not taken:
            self._idle.append(message.receipt)
            return None
        with self._lock:
            self._held[message.receipt] = message
        return Arrival(message.receipt, taken, message.sent_at, message.receives)

    def _bury(self, message: Message, reason: str) -> None:
        try:
            self._sqs.bury(message, reason)
        except QueueError as error:  # it comes again, and after its last time SQS itself puts it aside
            self._log.event("trouble", text=f"a message could not be put aside ({reason}): {error}")
            return
        self._figures.count("poison_messages")
        self._log.event("poison", reason=reason)

    def _forget_idle(self) -> None:
        receipts, self._idle = self._idle, []
        if receipts:
            self._sqs.delete(receipts)

    def _drop(self, receipts: Sequence[str]) -> list[Message]:
        with self._lock:
            return [message for one in receipts if (message := self._held.pop(one, None)) is not None]

    def _keep(self) -> None:
        """Until the end: nobody else gets what is at hand."""
        while not self._ended.wait(self._visibility_s / 3):
            with self._lock:
                receipts = dict.fromkeys(self._held, self._visibility_s)
            try:
                lost = self._drop(self._sqs.keep(receipts))
            except QueueError as error:
                self._log.event("trouble", text=str(error))
                continue
            if lost:  # such as after twelve hours, SQS's longest: another may do them too, which changes nothing
                self._log.event("lost", messages=len(lost))


def _age(found: Sequence[Arrival]) -> float:
    return time.time() - min(arrival.since for arrival in found)
