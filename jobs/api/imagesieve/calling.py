"""A command of the command line, called in this process."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jobs.command import Plan


def command(
    name: str, settings: Mapping[str, Any] | None = None, config: list[str] | None = None, **given: Any
) -> Plan:
    """Runs a command of the command line with these values of its arguments. Returns what it was to do, which is done.
    Raises RunError."""
    from jobs.command import perform  # PySpark with it

    overrides = [f"{key}={json.dumps(value)}" for key, value in (settings or {}).items()]
    return perform(argparse.Namespace(command=name, overrides=overrides, config=config or [], **given))
