"""The command line, `imagesieve run` and a command for each stage, and the same from spark-submit."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, NamedTuple

from pyspark.sql import SparkSession

from jobs import __version__, config, lakes, pipeline
from jobs.engines import interrupts
from jobs.engines.base import of
from jobs.engines.choice import choose
from jobs.engines.opening import Opening, explained
from jobs.errors import (
    AGAIN,
    INTERRUPTED,
    ConfigError,
    InputError,
    LakeBusyError,
    LakeError,
    MissingTableError,
    RunError,
    stopped,
)
from jobs.lease import LeaseHeld, LeaseLost, acquire, new_run_id
from jobs.progress import Reporter
from jobs.stage import Asked, Context, Ready, Stage
from udfs.networks import models
from udfs.stores import objects, uris
from udfs.stores.s3 import StoreError


class Command(NamedTuple):
    """A command beside those of the pipeline. run: gets the arguments after its name, returns an exit code."""

    does: str
    run: Callable[[list[str]], int]


def parser(others: Mapping[str, Command] | None = None) -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="imagesieve", description="Sieves a lake of images.", allow_abbrev=False)
    top.add_argument("--version", action="version", version=f"imagesieve {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, stages in pipeline.COMMANDS.items():
        text = pipeline.TEXTS[name]
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", allow_abbrev=False)
        options = {option.name: option.settings for stage in stages for option in stage.options}
        begins = any(stage.begins for stage in stages)
        named = " (default: ./NAME-lake, NAME that of the first INPUT)" if begins else ""
        lake = {"metavar": "URI", "help": f"where the tables lie: a folder or an s3:// prefix{named}"}
        for option, settings in options.items():
            command.add_argument(option, **settings)
        command.add_argument("--lake", required=not begins, **lake)
        config.add_options(command)
    for name, other in (others or {}).items():
        commands.add_parser(name, help=f"{other.does}: see imagesieve {name} --help")
    return top


def main(
    argv: list[str] | None = None, spark: SparkSession | None = None, others: Mapping[str, Command] | None = None
) -> int:
    """Runs the command and returns its exit code; see jobs.errors for what each means.

    spark: a session of an engine to work in, which is left open; without it one is opened and closed."""
    given = sys.argv[1:] if argv is None else argv
    other = (others or {}).get(given[0]) if given else None
    try:
        if other is not None:
            return other.run(given[1:])
        perform(parser(others).parse_args(given), spark)
    except RunError as error:
        return stopped(str(error), error.exit_code)
    except KeyboardInterrupt:
        return stopped(AGAIN, INTERRUPTED)
    except Exception:
        if interrupts.happened():  # of what Ctrl-C ended, as it is put in order
            return stopped(AGAIN, INTERRUPTED)
        raise
    return 0


def script(others: Mapping[str, Command] | None = None) -> int:
    """As main(), and Ctrl-C ends the process soon, whatever it is at.

    Where all went well it does not return: to take a large process apart piece by piece costs a third of a second."""
    with interrupts.ends_soon(lambda: stopped(AGAIN, INTERRUPTED)):
        code = main(others=others)
    if code == 0:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def perform(arguments: argparse.Namespace, spark: SparkSession | None = None) -> Plan:
    """Runs a command. arguments: of parser(). Returns what it was to do. Raises RunError."""
    try:
        return _perform(arguments, spark)
    except MissingTableError as error:
        writer = next(stage.name for stage in pipeline.STAGES if error.table in stage.writes)
        raise LakeError(f"{error}: run `imagesieve {writer}` first") from error
    except (LeaseHeld, LeaseLost) as error:
        raise LakeBusyError(str(error)) from error
    except models.ModelError as error:
        raise ConfigError(str(error)) from error
    except StoreError as error:
        raise InputError(str(error)) from error


def _perform(arguments: argparse.Namespace, spark: SparkSession | None) -> Plan:
    settings = config.load(arguments.config, arguments.overrides)
    reporter = Reporter()
    with ExitStack() as stack:
        opening: Opening | None = None
        if spark is None:  # started here, so that it is there when the arguments have been looked at
            opening = stack.enter_context(Opening(choose(settings.spark), settings, _mentions_s3(arguments)))
        plan = _plan(arguments, settings)
        if opening is not None:
            opening.check_lake(plan.lake)
            places = f"; tables in {plan.lake}" if arguments.lake is None else ""
            reporter.say(f"imagesieve {__version__} on {opening.choice}{places}")
            touched = (plan.lake, *(uri for ready in plan.ready.values() for uri in ready.read_by_engine))
            spark = opening.engine(any(map(uris.is_s3, touched))).spark
        if spark is not None:
            with explained(of(spark)):
                _work(arguments.command, settings, plan, spark, reporter)
    return plan


@dataclass(frozen=True)
class Plan:
    """What a command is to do, as far as it is known before anything is opened or written. lake: a canonical URI.
    ready: by the names of its stages."""

    stages: Sequence[Stage]
    lake: str
    ready: Mapping[str, Ready]


def _plan(arguments: argparse.Namespace, settings: config.Config) -> Plan:
    """Looks at all that was given. Raises ConfigError, InputError, LakeError, ModelError."""
    stages = pipeline.COMMANDS[arguments.command]
    models.find(settings.embed.model, settings.models)
    lake_uri = _lake_uri(arguments)
    try:
        objects.check_access(lake_uri, must_exist=False)
        is_lake = lakes.read_marker(lake_uri) is not None
    except StoreError as error:
        raise LakeError(str(error)) from error
    asked = Asked(arguments, settings, lake_uri)
    ready = {stage.name: stage.prepare(asked) for stage in reversed(stages)}  # inputs take the longest: last
    if not is_lake and not any(stage.begins for stage in stages):
        first = next(stage.name for stage in pipeline.STAGES if stage.begins)
        raise LakeError(f"{lake_uri} is no lake yet: run `imagesieve {pipeline.RUN}` or `imagesieve {first}` first")
    return Plan(stages, lake_uri, ready)


def _work(command: str, settings: config.Config, plan: Plan, spark: SparkSession, reporter: Reporter) -> None:
    """Does what was planned, in a session."""
    given: dict[str, Any] = {stage.name: stage.connect(spark, plan.ready[stage.name].given) for stage in plan.stages}
    run_id = new_run_id()
    if all(stage.only_reads(given[stage.name]) for stage in plan.stages):
        lake = lakes.Lake(spark, plan.lake, run_id)
        pipeline.run_stages(Context(lake, settings, reporter, given, pipeline.NAMES), command)
        return
    with acquire(plan.lake, run_id, settings.lease.ttl_s) as lease:
        lake = lakes.Lake(spark, plan.lake, run_id, lease)
        lake.open()
        pipeline.run_stages(Context(lake, settings, reporter, given, pipeline.NAMES), command)


def _mentions_s3(arguments: argparse.Namespace) -> bool:
    """Whether an argument looks like a place on S3: then the engine is to know how to get there."""
    return any("s3" in str(value) for value in vars(arguments).values())


def _lake_uri(arguments: argparse.Namespace) -> str:
    """The lake's canonical URI: as given, or ./NAME-lake for the first input's name. Raises ConfigError."""
    here = os.getcwd()  # noqa: PTH109 (a text)
    try:
        if arguments.lake is not None:
            return uris.canonical(arguments.lake, base=here).rstrip("/") or "/"
        name = uris.canonical(arguments.inputs[0], base=here).rstrip("/").rpartition("/")[2]
        return uris.canonical(f"./{name.partition('.')[0] or 'images'}-lake", base=here)
    except ValueError as error:
        raise ConfigError(str(error)) from error


if __name__ == "__main__":
    sys.exit(script())
