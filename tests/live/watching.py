"""`imagesieve watch` as a program, with a Bringer that writes into a file and takes its time, as a child does that
Ctrl-C would end: then the batch fails.

python -m tests.live.watching BOOK SECONDS [OPTION ...]"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from jobs.config import Config
from jobs.errors import RunError, stopped
from jobs.live import command
from jobs.live.changes import Bringer, Change
from jobs.progress import Reporter
from tests.live.lakes import Book


def main(file: str, seconds: str, *options: str) -> int:
    def work(_: Sequence[Change]) -> None:
        Path(file).with_suffix(".at-work").touch()
        subprocess.run([sys.executable, "-c", f"import time; time.sleep({float(seconds)})"], check=True)

    def open_bringer(lake: str, settings: Config, reporter: Reporter) -> Bringer:
        reporter.stage("catalog", "opened")
        return Book(Path(file), before=work)

    try:
        return command.main(options, open_bringer)
    except RunError as error:
        return stopped(str(error), error.exit_code)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
