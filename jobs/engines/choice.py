"""Which engine a run takes, and why."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from jobs import config
from jobs.errors import ConfigError, MachineError

SAIL, SPARK, _ = config.ENGINES
_EMR = Path("/usr/share/aws/emr")
_SUBMITTED = "PYSPARK_GATEWAY_PORT"  # set by spark-submit


@dataclass(frozen=True)
class Choice:
    """engine: sail or spark. why: what it was chosen by, for a person; "" where the user said so."""

    engine: str
    why: str

    def __str__(self) -> str:
        package, name, how = ("pysail", "Sail", ", embedded") if self.engine == SAIL else ("pyspark", "Spark", "")
        with suppress(importlib.metadata.PackageNotFoundError):  # a Spark that was unpacked, not installed
            name = f"{name} {importlib.metadata.version(package)}"
        return f"{name}{how} ({self.why})" if self.why else name + how


def choose(settings: config.Spark, environment: Mapping[str, str] = os.environ) -> Choice:
    """What spark.engine means here. Raises ConfigError where what is asked for cannot be, MachineError where it is
    missing."""
    submitted = _SUBMITTED in environment
    if settings.engine == SAIL:
        if submitted:
            raise ConfigError(
                "spark.engine=sail: this process was started by spark-submit: use imagesieve itself, or leave it out"
            )
        return Choice(SAIL, "")
    if "SPARK_REMOTE" in environment:
        raise ConfigError("SPARK_REMOTE is set: imagesieve needs a Spark driver of its own, not Spark Connect")
    if settings.engine == SPARK:
        return Choice(SPARK, _needed(""))
    reasons = {
        "by spark-submit": submitted,
        "a master is set": settings.master is not None or "--master" in environment.get("PYSPARK_SUBMIT_ARGS", ""),
        "on EMR": _EMR.exists(),
        "Sail is not installed": importlib.util.find_spec("pysail") is None,
    }
    why = next((reason for reason, holds in reasons.items() if holds), None)
    return Choice(SAIL, "on one machine") if why is None else Choice(SPARK, why if submitted else _needed(why))


def _needed(why: str) -> str:
    """why, if there is a Spark. Raises MachineError where only its client is installed."""
    if importlib.util.find_spec("py4j") is None:  # which the client alone does not bring
        because = f" ({why})" if why else ""
        raise MachineError(f'Spark is not installed{because}: pip install "imagesieve[spark]", and a JDK 17')
    return why


def large_lake(engine: str, images: int, megabytes: int, settings: config.Spark) -> str | None:
    """The line for a lake that is larger than one machine should do, else None. megabytes: of its images."""
    if engine != SAIL or (images <= settings.embedded_images and megabytes <= settings.embedded_gb * 1000):
        return None
    return (
        f"{images:,} images, {megabytes / 1000:,.0f} GB: more than one machine does well; "
        "Spark spreads them over many: see imagesieve emr, or spark-submit"
    )
