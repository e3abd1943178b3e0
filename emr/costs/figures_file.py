"""Files of figures: YAML whose numbers and texts are checked, every fault reported at once."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from jobs.config import conf_text
from jobs.errors import ConfigError

Section = Mapping[str, Any] | None  # None: it is not there, which has been told


class Reader:
    """Takes values out of a file of `conf`, or out of one at a path, and collects what is wrong with them."""

    def __init__(self, name: str, path: Path | None = None) -> None:
        """name: in `conf`; not read where there is a path. Raises ConfigError where the file holds no sections."""
        self.file = str(path) if path else f"conf/{name}"
        self.faults: list[str] = []
        try:
            given = yaml.safe_load(path.read_text(encoding="utf-8") if path else conf_text(name))
        except OSError as error:
            raise ConfigError(f"{self.file}: cannot be read ({error.strerror})") from error
        except (yaml.YAMLError, ValueError) as error:  # ValueError: not UTF-8, or a date that is none
            raise ConfigError(f"{self.file}: is not YAML ({' '.join(str(error).split())})") from error
        if not isinstance(given, Mapping):
            raise ConfigError(f"{self.file}: must be sections of figures, got {given!r}")
        self.given: Mapping[str, Any] = given

    def fault(self, where: str, rule: str, value: object) -> None:
        self.faults.append(f"{self.file}: {where} must be {rule}, got {value!r}")

    def section(self, of: Section, key: str, where: str = "") -> Section:
        value = self._value(of, key, where)
        if isinstance(value, Mapping) or value is None:
            return value
        self.fault(where + key, "a section", value)
        return None

    def number(
        self, of: Section, key: str, where: str, low: float = 0.0, high: float = math.inf, above: bool = False
    ) -> float:
        """From low to high, both included, or above low. NaN where it is faulty."""
        value = self._value(of, key, where)
        if value is None:
            return math.nan
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            self.fault(where + key, "a number", value)
        elif value < low or value > high or (above and value == low):
            rule = f"{low:g}..{high:g}" if high < math.inf else f"{'above' if above else 'at least'} {low:g}"
            self.fault(where + key, rule, value)
        else:
            return float(value)
        return math.nan

    def text(self, of: Section, key: str, where: str = "") -> str:
        """Empty where it is faulty."""
        value = self._value(of, key, where)
        if isinstance(value, str) and value.strip():
            return value.strip()
        if value is not None:
            self.fault(where + key, "a text", value)
        return ""

    def day(self, key: str) -> str:
        value = self.given.get(key)
        if not isinstance(value, datetime.date):
            self.fault(key, "a date such as 2026-11-21", value)
        return str(value)

    def known(self, of: Section, allowed: Sequence[str], where: str = "") -> None:
        for key in of or {}:
            if key not in allowed:
                self.faults.append(f"{self.file}: {where}{key} is unknown; there are {', '.join(allowed)}")

    def _value(self, of: Section, key: str, where: str) -> Any:
        """None where it is missing, or its whole section, which has been told already."""
        value = None if of is None else of.get(key)
        if value is None and of is not None:
            self.faults.append(f"{self.file}: {where}{key} is missing")
        return value

    def done(self) -> None:
        """Raises ConfigError, where there was a fault."""
        if self.faults:
            raise ConfigError("; ".join(self.faults))
