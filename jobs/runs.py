"""Stages: skips one whose inputs did not change, checks in = out + failed, and writes a row of `runs`."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pyspark.sql import functions as F

from jobs import __version__, metrics
from jobs.config import Config
from jobs.engines.frames import frame_of
from jobs.errors import ContractError, RunError
from jobs.progress import Reporter
from jobs.tables import TABLES, Lake

Counts = dict[str, Any]


@dataclass(frozen=True)
class Context:
    """What every stage works with. Workers never see it: they get plain values."""

    lake: Lake
    config: Config
    reporter: Reporter


@dataclass(frozen=True)
class StageResult:
    """What a stage did. counts: at least in, out and failed. skipped: its inputs were as the last time."""

    job: str
    counts: Counts
    seconds: float
    skipped: bool


def run_stage(
    context: Context,
    job: str,
    inputs: tuple[str, ...],
    settings: Mapping[str, Any],
    body: Callable[[Context], Counts],
    always: bool = False,
) -> StageResult:
    """Runs one stage, unless the last run of it saw the same versions of its input tables with the same settings.

    inputs: names of tables. settings: what of the configuration decides the result. body: does the work and returns its
    counts, and under "notes" lines that the summary of a run repeats; if counts["wrote"] is 0 it changed nothing, and
    no row of `runs` is written. always: the body itself finds
    out whether anything is to be done. Raises ContractError where in != out + failed."""
    lake = context.lake
    versions = {name: lake.version(name) for name in inputs}
    settings_now = json.loads(json.dumps({**settings, "version": __version__}))
    if not always:
        last = last_done(lake, job)
        if (
            last
            and last["inputs"] == versions
            and last["settings"] == settings_now
            and not last["counts"].get("transient")
        ):
            result = StageResult(job, last["counts"], 0.0, skipped=True)
            context.reporter.stage(job, f"nothing to do: {_text(result.counts)}")
            return result
    started = _now()
    with metrics.published(
        context.config.metrics, job, lake.uri, lambda told: context.reporter.stage(job, told)
    ) as published:
        try:
            with context.reporter.working(job):
                counts = body(context)
            if counts["in"] != counts["out"] + counts["failed"]:
                raise ContractError(
                    f"{job}: {counts['in']} came in, {counts['out']} went out, {counts['failed']} failed"
                )
        except RunError:
            raise
        except Exception:
            _record(context, job, versions, settings_now, {}, started, "failed")
            raise
        if counts.pop("wrote", 1):
            _record(context, job, versions, settings_now, counts, started, "done")
        published.update(counts)
    seconds = (_now() - started).total_seconds()
    context.reporter.stage(job, f"{_text(counts)} in {seconds:.1f} s")
    return StageResult(job, counts, seconds, skipped=False)


def last_done(lake: Lake, job: str) -> dict[str, Any] | None:
    """inputs, settings and counts of the last run of a stage that ended well, or None."""
    row = (
        lake.read("runs")
        .where((F.col("job") == job) & (F.col("status") == "done"))
        .orderBy(F.desc("ended_at"))
        .select("inputs", "config", "counts")
        .head()
    )
    if row is None:
        return None
    return {
        "inputs": json.loads(row["inputs"]),
        "settings": json.loads(row["config"])["settings"],
        "counts": json.loads(row["counts"]),
    }


def _record(
    context: Context,
    job: str,
    versions: Mapping[str, int | None],
    settings: Mapping[str, Any],
    counts: Counts,
    started: datetime.datetime,
    status: str,
) -> None:
    ended = _now()
    row = {
        "run_id": context.lake.run_id,
        "job": job,
        "version": __version__,
        "config": json.dumps({"settings": settings, "all": context.config.as_dict()}, sort_keys=True),
        "inputs": json.dumps(versions, sort_keys=True),
        "counts": json.dumps(counts, sort_keys=True),
        "started_at": started,
        "ended_at": ended,
        "seconds": (ended - started).total_seconds(),
        "status": status,
    }
    context.lake.append("runs", frame_of(context.lake.spark, [row], TABLES["runs"].schema))


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _text(counts: Mapping[str, Any]) -> str:
    numbers = {name: value for name, value in counts.items() if name != "notes"}
    return ", ".join(f"{value:,} {name.replace('_', ' ')}" for name, value in numbers.items() if value or name == "in")
