"""What a stage is, and how one runs: it is skipped where its inputs did not change, and leaves a row of `runs`."""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

from pyspark.sql import Row, SparkSession
from pyspark.sql import functions as F

from jobs import __version__, metrics
from jobs.config import Config
from jobs.engines.frames import frame_of
from jobs.errors import ContractError, RunError
from jobs.lakes import Lake
from jobs.progress import Reporter
from jobs.tables import TABLES

Counts = dict[str, Any]


class History:
    """The last run of each stage that ended well. `runs` is read once; what this run adds is remembered."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._last: dict[str, dict[str, Any]] | None = None

    def last_done(self, job: str) -> dict[str, Any] | None:
        """inputs, settings and counts of the last run of a stage that ended well, or None."""
        if self._last is None:
            newest = F.max_by(F.struct("inputs", "config", "counts"), "ended_at").alias("last")
            done = self._lake.read("runs").where(F.col("status") == "done").groupBy("job").agg(newest).collect()
            self._last = {row["job"]: _as_done(row["last"]) for row in done}
        return self._last.get(job)

    def add(self, row: Mapping[str, Any]) -> None:
        """row: of `runs`, as it is appended."""
        if self._last is not None and row["status"] == "done":
            self._last[row["job"]] = _as_done(row)


def _as_done(row: Row | Mapping[str, Any]) -> dict[str, Any]:
    return {
        "inputs": json.loads(row["inputs"]),
        "settings": json.loads(row["config"])["settings"],
        "counts": json.loads(row["counts"]),
    }


@dataclass(frozen=True)
class Context:
    """What every stage works with. Workers never see it: they get plain values."""

    lake: Lake
    config: Config
    reporter: Reporter
    # By the name of a stage: what it was given on the command line, as it has read that.
    given: Mapping[str, Any] = field(default_factory=dict)
    order: tuple[str, ...] = ()  # the names of all stages, as a run takes them
    _history: History | None = None

    @cached_property
    def history(self) -> History:
        return self._history or History(self.lake)

    def within(self, stage: Stage) -> Context:
        """The same with a lake that refuses tables which the stage does not declare."""
        return replace(self, lake=self.lake.within(stage.reads, stage.writes), _history=self.history)


@dataclass(frozen=True)
class StageResult:
    """What a stage did. counts: at least in, out and failed. skipped: its inputs were as the last time."""

    job: str
    counts: Counts
    seconds: float
    skipped: bool


class Option(NamedTuple):
    """An argument of the command line. settings: of ArgumentParser.add_argument."""

    name: str
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Asked:
    """What is known of a run before anything is opened or written. arguments: as the command line was read."""

    arguments: argparse.Namespace
    config: Config
    lake: str  # canonical URI


class Ready(NamedTuple):
    """What comes of looking at what was asked: a value, for the stage alone, and what the engine itself is to read or
    write for it, as canonical URIs."""

    given: Any = None
    read_by_engine: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stage:
    """One stage of a run.

    does: for people, a phrase. reads, writes: the tables that it may read (beside `runs` and those that it writes) and
    write; its body gets a lake that refuses others, and it is skipped while those that it reads stay as they are.
    settings: what of the configuration, and of what was given, decides the result. body: does the work and returns its
    counts, and under "notes" lines that the summary of a run repeats; if counts["wrote"] is 0 it changed nothing, and
    a row of `runs` only says so where the last one saw other inputs. before: called in each run, skipped or not.
    always: whether the body is to find out itself whether anything is to be done.

    options: what it takes from the command line. prepare: looks at that before anything is opened or written; raises
    RunError. connect: goes on with that in a session, before the lake is touched. begins: it makes a lake where there
    is none. recorded: it leaves rows of `runs`, and is skipped by them. only_reads: whether it needs no lease, by what
    was given."""

    name: str
    does: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    settings: Callable[[Context], Mapping[str, Any]]
    body: Callable[[Context], Counts]
    before: Callable[[Context], None] = lambda _: None
    always: Callable[[Context], bool] = lambda _: False
    options: tuple[Option, ...] = ()
    prepare: Callable[[Asked], Ready] = lambda _: Ready()
    connect: Callable[[SparkSession, Any], Any] = lambda _, given: given
    begins: bool = False
    recorded: bool = True
    only_reads: Callable[[Any], bool] = lambda _: False

    def run(self, context: Context) -> StageResult:
        """Runs the stage, unless the last run of it saw the same versions of its tables with the same settings.

        Raises ContractError where in != out + failed."""
        self.before(context)
        if not self.recorded:
            return StageResult(self.name, self.body(context.within(self)), 0.0, skipped=False)
        return _run(context, self)


def submitted(command: str) -> int:
    """What a file does that spark-submit is given: the command line, for this command. By name, for no stage knows the
    command line, which knows all stages; and what workers import must not come from a module called __main__."""
    exit_code: int = importlib.import_module("jobs.command").main([command, *sys.argv[1:]])
    return exit_code


def _run(context: Context, stage: Stage) -> StageResult:
    lake = context.lake
    job = stage.name
    versions = {name: lake.version(name) for name in stage.reads}
    settings_now = json.loads(json.dumps({**stage.settings(context), "version": __version__}))
    last = context.history.last_done(job)
    as_before = last is not None and (last["inputs"], last["settings"]) == (versions, settings_now)
    if last and as_before and not stage.always(context) and not last["counts"].get("transient"):
        result = StageResult(job, last["counts"], 0.0, skipped=True)
        context.reporter.stage(job, f"nothing to do: {_text(result.counts)}")
        return result
    started = _now()
    with metrics.published(
        context.config.metrics, job, lake.uri, lambda told: context.reporter.stage(job, told)
    ) as published:
        try:
            with context.reporter.working(job):
                counts = stage.body(context.within(stage))
            if counts["in"] != counts["out"] + counts["failed"]:
                raise ContractError(
                    f"{job}: {counts['in']} came in, {counts['out']} went out, {counts['failed']} failed"
                )
        except RunError:
            raise
        except Exception:
            _record(context, job, versions, settings_now, {}, started, "failed")
            raise
        if counts.pop("wrote", 1) or not as_before:
            _record(context, job, versions, settings_now, counts, started, "done")
        published.update(counts)
    seconds = (_now() - started).total_seconds()
    context.reporter.stage(job, f"{_text(counts)} in {seconds:.1f} s")
    return StageResult(job, counts, seconds, skipped=False)


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
    context.history.add(row)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _text(counts: Mapping[str, Any]) -> str:
    numbers = {name: value for name, value in counts.items() if isinstance(value, int | float)}
    return ", ".join(f"{value:,} {name.replace('_', ' ')}" for name, value in numbers.items() if value or name == "in")
