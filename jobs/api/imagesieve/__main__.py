"""`imagesieve` as a program: the stages, and the commands beside them."""

from __future__ import annotations

import sys

from jobs.errors import RunError
from jobs.others import Command


def _on_emr(argv: list[str]) -> int:
    from emr import command as emr

    return emr.main(argv)


def _demo(argv: list[str]) -> int:
    from jobs.demo import running

    return running.main(argv)


def _serve(argv: list[str]) -> int:
    from jobs.serve import command as serve

    return serve.main(argv)


def _search(argv: list[str]) -> int:
    from jobs.serve import asking

    return asking.main(argv)


def _review(argv: list[str]) -> int:
    from jobs.serve import review_files

    return review_files.main(argv)


OTHERS = {
    "demo": Command("draw 500 images with planted trouble, sieve them, and compare", _demo),
    "emr": Command("package, submit, watch and price runs on EMR", _on_emr),
    "review": Command("decisions of people, out of a lake and into one", _review),
    "search": Command("find pictures that are like one, or show what a text names", _search),
    "serve": Command("show a lake in the browser: look, search, decide", _serve),
}


def main(argv: list[str] | None = None) -> int:
    """Runs a command and returns its exit code; see jobs.errors for what each means."""
    from jobs import command

    return command.main(argv, others=OTHERS)


def script() -> int:
    """As main(), for a process that does nothing else; see jobs.command.script. What needs no stage starts
    without them."""
    if sys.argv[1:2] and sys.argv[1] in ("review", "search", "serve"):
        try:
            return OTHERS[sys.argv[1]].run(sys.argv[2:])
        except RunError as error:
            sys.stderr.write(f"imagesieve: {' '.join(str(error).split())}\n")
            return error.exit_code
    from jobs import command

    return command.script(OTHERS)


if __name__ == "__main__":
    sys.exit(script())
