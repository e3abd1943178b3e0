"""`imagesieve` as a program: the stages, and the commands beside them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from jobs.errors import AGAIN, INTERRUPTED, RunError, stopped

if TYPE_CHECKING:
    from jobs.command import Command


def _on_emr(argv: list[str]) -> int:
    from emr import command as emr

    return emr.main(argv)


def _demo(argv: list[str]) -> int:
    from jobs.demo import running

    return running.main(argv)


def _serve(argv: list[str]) -> int:
    from jobs.serve import command as serve

    return serve.main(argv)


def _mcp(argv: list[str]) -> int:
    from jobs.agents import command as agents

    return agents.main(argv)


def _check(argv: list[str]) -> int:
    from jobs.serve.door import asking

    return asking.main(argv)


def _search(argv: list[str]) -> int:
    from jobs.serve import asking

    return asking.main(argv)


def _ratings(argv: list[str]) -> int:
    # Before NumPy is there: many small products, for which threads wait for one another; on a busy machine a fit takes
    # up to forty times the CPU.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from jobs.rating import command as ratings

    return ratings.main(argv)


def _group(argv: list[str]) -> int:
    from jobs.albums import command as albums

    return albums.main(argv)


def _compact(argv: list[str]) -> int:
    from jobs.upkeep import command as upkeep

    return upkeep.main(argv)


def _forget(argv: list[str]) -> int:
    from jobs.erasure import command as erasure

    return erasure.main(argv)


def _review(argv: list[str]) -> int:
    from jobs.serve import review_files

    return review_files.main(argv)


def _views(argv: list[str]) -> int:
    from jobs.analysis import command as views

    return views.main(argv)


def _unapply(argv: list[str]) -> int:
    from jobs.cleaning import applying

    return applying.main(argv)


def _watch(argv: list[str]) -> int:
    from jobs.live import command as watch

    return watch.main(argv)


# Which need no stage.
LIGHT = ("check", "compact", "forget", "group", "mcp", "ratings", "review", "search", "serve", "unapply", "views",
         "watch")  # fmt: skip
# What each does, and what runs it: commands of jobs.command, which imports all stages.
BESIDE: dict[str, tuple[str, Callable[[list[str]], int]]] = {
    "check": ("say what a lake would say of a picture that it does not have", _check),
    "compact": ("join small files of a lake's tables, and delete old versions where asked", _compact),
    "demo": ("draw 500 images with planted trouble, sieve them, and compare", _demo),
    "emr": ("package, submit, watch and price runs on EMR", _on_emr),
    "forget": ("delete all that a lake knows of a person's pictures, old versions too", _forget),
    "group": ("group the pictures of one owner: alike ones, the best of each, bursts", _group),
    "mcp": ("let an agent look into a lake, and decide where that is allowed", _mcp),
    "ratings": ("scores learnt from people's picks: fit, suggest, explain, add, list, remove", _ratings),
    "review": ("decisions of people, out of a lake and into one", _review),
    "search": ("find pictures that are like one, or show what a text names", _search),
    "serve": ("show a lake in the browser: look, search, decide", _serve),
    "unapply": ("take back what clean --apply has done", _unapply),
    "views": ("print the SQL of views over a lake: issues by day, costs, duplicates, agreement, trends", _views),
    "watch": ("sieve new images as they come", _watch),
}


def others() -> dict[str, Command]:
    """BESIDE as jobs.command takes it."""
    from jobs.command import Command

    return {name: Command(*each) for name, each in BESIDE.items()}


def main(argv: list[str] | None = None) -> int:
    """Runs a command and returns its exit code; see jobs.errors for what each means."""
    from jobs import command

    return command.main(argv, others=others())


def script() -> int:
    """As main(), for a process that does nothing else; see jobs.command.script. What needs no stage starts
    without them."""
    try:
        if sys.argv[1:2] and sys.argv[1] in LIGHT:
            return BESIDE[sys.argv[1]][1](sys.argv[2:])
        from jobs import command

        return command.script(others())
    except RunError as error:
        return stopped(str(error), error.exit_code)
    except KeyboardInterrupt:  # as modules are imported, too
        return stopped(AGAIN, INTERRUPTED)


if __name__ == "__main__":
    sys.exit(script())
