"""A command beside those of the pipeline: here apart, so that it need not wait for all stages to be imported."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Command(NamedTuple):
    """A command beside those of the pipeline. run: gets the arguments after its name, returns an exit code."""

    does: str
    run: Callable[[list[str]], int]
