"""What a person sees while a run works: a moving line on a terminal, one line a stage in a log."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text


class _Rate(ProgressColumn):
    """Images a second since the work began."""

    def render(self, task: Task) -> Text:
        rate = task.completed / task.elapsed if task.elapsed else 0.0
        return Text(f"{rate:,.0f} images/s")


class Reporter:
    """Prints to stderr, so that stdout stays the summary's."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)

    def stage(self, job: str, text: str) -> None:
        """One line for a stage that ended."""
        stamp = "" if self.console.is_terminal else time.strftime("%Y-%m-%dT%H:%M:%SZ ", time.gmtime())
        self.console.print(f"{stamp}{job:<11}{text}", markup=False)

    def say(self, text: str) -> None:
        """A line that is of no stage."""
        self.console.print(text, markup=False)

    @contextlib.contextmanager
    def images(self, label: str, total: int, done: Callable[[], int]) -> Iterator[None]:
        """While inside, shows done() of total on a terminal, with the rate and the time left; a log sees nothing."""
        if not self.console.is_terminal or total == 0:
            yield
            return
        columns = (
            TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(), _Rate(),
            TimeRemainingColumn(elapsed_when_finished=True),
        )  # fmt: skip
        with Progress(*columns, console=self.console, transient=True) as progress:
            task = progress.add_task(label, total=total)
            stop = threading.Event()

            def poll() -> None:
                while not stop.wait(0.5):
                    progress.update(task, completed=min(done(), total))

            thread = threading.Thread(target=poll, daemon=True)
            thread.start()
            try:
                yield
            finally:
                stop.set()
                thread.join()
                progress.update(task, completed=min(done(), total))

    @contextlib.contextmanager
    def working(self, label: str) -> Iterator[None]:
        """While inside, a terminal shows that the stage is at work and for how long."""
        if not self.console.is_terminal:
            yield
            return
        with self.console.status(label):
            yield


def say(text: str) -> None:
    """A line of the summary, on stdout."""
    sys.stdout.write(text + "\n")
