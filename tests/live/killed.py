"""A watch in a process of its own, which ends at once at a moment that is named: before, after, deleting, never."""

import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jobs.live.changes import Change
from jobs.live.figures import Figures
from jobs.live.log import Log
from jobs.live.service import Service
from jobs.live.sources.messages import Gathering, Messages
from jobs.live.sources.sqs import Sqs
from jobs.live.sources.wanted import Wanted
from tests.live.lakes import Book
from udfs.stores.s3_objects import Limits

KILLED = 9


def main(url: str, bucket: str, file: str, moment: str) -> None:
    def at(now: str, _: Sequence[Change]) -> None:
        if moment == now:
            os._exit(KILLED)

    sqs = Sqs(url)
    if moment == "deleting":
        real: Any = sqs._ten
        calls: list[str] = []

        def ten(call: str, entries: Any) -> Any:
            if call.startswith("delete"):
                calls.append(call)
                if len(calls) > 1:
                    os._exit(KILLED)
            return real(call, entries)

        sqs._ten = ten  # type: ignore[assignment, method-assign]
    figures, log = Figures(), Log()
    gathering = Gathering(every_s=0, at_least=1, at_most=15, once=True)
    source = Messages(
        sqs, Wanted((f"s3://{bucket}/",), frozenset({"jpg"}), frozenset(), ()), gathering, 1, figures, log
    )
    book = Book(Path(file), lambda changes: at("before", changes), lambda changes: at("after", changes))
    Service(source, lambda: book, Limits(timeout_s=5, retries=1), True, figures, log).run(threading.Event())
    source.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
