"""`imagesieve watch` as a program, with a Bringer that writes into a file and takes its time.

python -m tests.live.watching BOOK SECONDS [OPTION ...]"""

import sys
import time
from pathlib import Path

from jobs.config import Config
from jobs.errors import RunError, stopped
from jobs.live import command
from jobs.live.changes import Bringer
from jobs.progress import Reporter
from tests.live.lakes import Book


def main(file: str, seconds: str, *options: str) -> int:
    def open_bringer(lake: str, settings: Config, reporter: Reporter) -> Bringer:
        reporter.stage("catalog", "opened")
        return Book(Path(file), before=lambda _: time.sleep(float(seconds)))

    try:
        return command.main(options, open_bringer)
    except RunError as error:
        return stopped(str(error), error.exit_code)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
