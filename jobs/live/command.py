"""`imagesieve watch`: new images are sieved as they come."""

from __future__ import annotations

import argparse
import math
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from jobs import config, metrics
from jobs.errors import INTERRUPTED, ConfigError, InputError, LakeError, stopped
from jobs.lakes import existing, named
from jobs.live import health
from jobs.live.changes import Bringer
from jobs.live.figures import Figures
from jobs.live.log import Log
from jobs.live.service import Service
from jobs.live.sources import wanted
from jobs.live.sources.arrivals import Source
from jobs.live.sources.messages import Gathering, Messages
from jobs.live.sources.sqs import QueueError, Sqs
from jobs.progress import Reporter
from udfs.stores.s3 import StoreError
from udfs.stores.s3_objects import Limits

JOB = "watch"
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
LONGEST_EVERY_S = 6 * 3600.0  # SQS keeps a message at hand for twelve hours at most
Opener = Callable[[str, config.Config, Reporter], Bringer]


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        prog="imagesieve watch", allow_abbrev=False,
        description="Brings new, changed and removed images into a lake as they come, until it is stopped.",
    )  # fmt: skip
    options.add_argument("--lake", required=True, metavar="URI", help="where the tables lie")
    where = options.add_mutually_exclusive_group(required=True)
    where.add_argument("--queue", metavar="URL", help="of SQS, which gets events of S3: direct, by SNS or EventBridge")
    where.add_argument("--folder", metavar="DIR", help="a folder of this machine, by events of its files")
    options.add_argument(
        "--prefix", action="append", default=[], metavar="URI",
        help="only what lies below, such as s3://bucket/photos; may be repeated (default: the lake's inputs)",
    )  # fmt: skip
    options.add_argument(
        "--dead-letters", metavar="URL", help="queue for messages that cannot be used (default: by the redrive policy)"
    )
    options.add_argument(
        "--every", default="60s", metavar="TIME", help="a batch begins when the oldest is so old (default: %(default)s)"
    )
    options.add_argument(
        "--at-least", type=int, default=1000, metavar="N", help="or when so many are there (default: %(default)s)"
    )
    options.add_argument(
        "--at-most", type=int, default=5000, metavar="N", help="are taken into one batch (default: %(default)s)"
    )
    options.add_argument(
        "--visibility", default="300s", metavar="TIME",
        help="after which another gets the messages of a watch that has died (default: %(default)s)",
    )  # fmt: skip
    options.add_argument(
        "--rescan", default="10m", metavar="TIME",
        help="between two listings of --folder, which find what its events missed (default: %(default)s)",
    )  # fmt: skip
    options.add_argument("--once", action="store_true", help="take what is there now, and end")
    options.add_argument("--health", type=int, metavar="PORT", help="answers GET /live, /ready and /metrics there")
    options.add_argument(
        "--health-host", default="127.0.0.1", metavar="HOST", help="the address to answer at (default: %(default)s)"
    )
    config.add_options(options)
    return options


def main(argv: Sequence[str], open_bringer: Opener | None = None) -> int:
    """Watches until SIGTERM or Ctrl-C, and then ends the batch that is at work. open_bringer: what opens a lake; None:
    jobs.live.core's. Raises RunError."""
    try:
        return _watch(parser().parse_args(argv), open_bringer)
    except KeyboardInterrupt:
        return stopped("interrupted; nothing is lost: start it again to go on", INTERRUPTED)


def _watch(given: argparse.Namespace, open_bringer: Opener | None) -> int:
    gathering, visibility_s, rescan_s = _asked(given)
    settings = config.load(given.config, given.overrides)
    if open_bringer is None:
        from jobs.live import core

        open_bringer = core.open_bringer
    log, figures = Log(), Figures()
    with ExitStack() as stack:
        try:
            lake = existing(named(given.lake))
            if given.queue is not None:
                what = wanted.in_buckets(lake, given.prefix)
                sqs = Sqs(given.queue, given.dead_letters)
                source: Source = Messages(sqs, what, gathering, visibility_s, figures, log)
            else:
                what = wanted.in_folder(lake, given.folder)
                source = _folder(lake, what, gathering, rescan_s, settings, figures, log)
        except QueueError as error:
            raise InputError(str(error)) from error
        except StoreError as error:
            raise LakeError(str(error)) from error
        stack.callback(source.close)
        figures.of_source(source.behind)
        if given.health is not None:
            port = stack.enter_context(health.serving(figures, given.health_host, given.health))
            log.event("health", host=given.health_host, port=port)
        stack.enter_context(
            metrics.watched(settings.metrics, JOB, lake, figures.metrics, lambda text: log.event("trouble", text=text))
        )
        stop = stack.enter_context(_stopping())
        for place in wanted.beyond(lake, what):
            log.event("beyond", place=place, text="is no input of the lake's last run: nothing of it is taken")
        log.event("watching", lake=lake, places=", ".join(what.places) if given.queue else what.places[0])
        limits = Limits(settings.embed.max_bytes, settings.embed.timeout_s, settings.embed.retries)
        opened = partial(open_bringer, lake, settings, log)
        Service(source, opened, limits, given.once, figures, log).run(stop)
        log.event("ended", batches=figures.counted("batches"))
    return 0


def _folder(
    lake: str,
    what: wanted.Wanted,
    gathering: Gathering,
    rescan_s: float,
    settings: config.Config,
    figures: Figures,
    log: Log,
) -> Source:
    try:
        import watchfiles  # noqa: F401
    except ImportError:
        raise ConfigError('watch --folder needs another package: pip install "imagesieve[watch]"') from None
    from jobs.live.sources.folder import Folder

    return Folder(lake, what, gathering, rescan_s, settings.catalog.max_removed_share, figures, log)


def _asked(given: argparse.Namespace) -> tuple[Gathering, int, float]:
    """How to gather, seconds that messages are kept, seconds between listings. Raises ConfigError."""
    every_s, rescan_s = seconds("--every", given.every), seconds("--rescan", given.rescan)
    visibility_s = seconds("--visibility", given.visibility)
    for name, value, least, most in (
        ("--every", every_s, 0.0, LONGEST_EVERY_S), ("--visibility", visibility_s, 1.0, 43200.0),
        ("--rescan", rescan_s, 1.0, math.inf),
    ):  # fmt: skip
        if not least <= value <= most:
            raise ConfigError(f"{name}: must be {least:g} s to {most:g} s, got {value:g} s")
    if not 1 <= given.at_least <= given.at_most <= 100_000:
        raise ConfigError(
            f"--at-least, --at-most: must be 1 or more, and at most 100000, got {given.at_least} and {given.at_most}"
        )
    if given.queue is None and (given.prefix or given.dead_letters):
        raise ConfigError("--prefix, --dead-letters: go with --queue")
    return Gathering(every_s, given.at_least, given.at_most, given.once), math.ceil(visibility_s), rescan_s


def seconds(option: str, text: str) -> float:
    """A time as people write it: 90, 90s, 1.5m, 2h. Raises ConfigError."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*([smh]?)", text.strip(), re.ASCII)
    if match is None:
        raise ConfigError(f"{option}: must be a time such as 60s, 5m or 1h, got {text[:40]!r}")
    return float(match[1]) * UNITS[match[2] or "s"]


@contextmanager
def _stopping() -> Iterator[threading.Event]:
    """An event that SIGTERM and Ctrl-C set. A second one interrupts what is at work.

    A terminal sends Ctrl-C to the children that read images, too, and without them no batch is ended. So they are not
    to hear it: what the thread that starts them does not hear, they do not. A thread of its own hears it here."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    main = threading.get_ident()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)

    def interrupt(_number: int, _frame: Any) -> None:
        raise KeyboardInterrupt

    def hear() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        while number := ours.recv(1):
            if number[0] in (signal.SIGINT, signal.SIGTERM):
                if stop.is_set():
                    signal.pthread_kill(main, signal.SIGUSR1)
                stop.set()

    handlers: dict[signal.Signals, Any] = {
        signal.SIGUSR1: interrupt, signal.SIGTERM: _nothing, signal.SIGINT: _nothing
    }  # fmt: skip
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    wakeup = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    listener = threading.Thread(target=hear, name="interrupts", daemon=True)
    listener.start()
    try:
        yield stop
    finally:
        signal.set_wakeup_fd(wakeup)
        theirs.close()
        listener.join(5)
        ours.close()
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        for number, handler in before.items():
            signal.signal(number, handler)


def _nothing(_number: int, _frame: Any) -> None:
    """A signal that is heard by another way."""
