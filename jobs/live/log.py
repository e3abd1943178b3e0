"""Log: one line of JSON for each thing that happens, or a line for a person where a person is looking."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from jobs.progress import Reporter

MAX_TEXT = 2000  # characters of one value


class Log(Reporter):
    """A Reporter for what runs for months: everything that stages say, too, is a line of JSON on stderr."""

    def stage(self, job: str, text: str) -> None:
        self.event("stage", stage=job, text=text)

    def say(self, text: str) -> None:
        self.event("said", text=text)

    def event(self, kind: str, **values: Any) -> None:
        """kind: one word. values: texts and numbers; nothing secret."""
        if self.console.is_terminal:
            told = "  ".join(f"{name} {value}" for name, value in values.items() if value not in (None, ""))
            self.console.print(f"{time.strftime('%H:%M:%S')}  {kind:<9}{told}", markup=False)
            return
        short = {name: value[:MAX_TEXT] if isinstance(value, str) else value for name, value in values.items()}
        line = {"at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "event": kind, **short}
        sys.stderr.write(json.dumps(line, default=str) + "\n")  # one write: threads do not mix their lines
        sys.stderr.flush()
