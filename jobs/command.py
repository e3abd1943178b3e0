"""The command line, `imagesieve run` and a command for each stage, and the same from spark-submit."""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyspark.sql import SparkSession

from jobs import __version__, config, lakes
from jobs.engines import interrupts
from jobs.engines.base import of
from jobs.engines.choice import choose
from jobs.engines.opening import Opening, explained
from jobs.errors import INTERRUPTED, ConfigError, InputError, LakeBusyError, LakeError, RunError
from jobs.inputs import manifests, sources
from jobs.lease import LeaseHeld, LeaseLost, acquire
from jobs.progress import Reporter
from jobs.stage import Context
from udfs.networks import models, preparation, weight_files
from udfs.stores import objects, uris
from udfs.stores.s3 import StoreError

if TYPE_CHECKING:
    from jobs import clean

EMR = "emr"
AGAIN = "interrupted; run the same command again to go on"


def parser() -> argparse.ArgumentParser:
    from jobs import pipeline

    top = argparse.ArgumentParser(prog="imagesieve", description="Sieves a lake of images.", allow_abbrev=False)
    top.add_argument("--version", action="version", version=f"imagesieve {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    texts = {
        "run": "all stages, from images to the report",
        **{stage.name: stage.does for stage in pipeline.STAGES},
        "clean": "write the clean set: what to keep, what to leave out and why, corrected labels; it deletes nothing",
    }
    commands.add_parser(EMR, help="package, submit, watch and price runs on EMR: see imagesieve emr --help")
    for name, text in texts.items():
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", allow_abbrev=False)
        if name in ("run", "catalog"):
            command.add_argument(
                "inputs",
                nargs="+",
                metavar="INPUT",
                help="a folder or s3:// prefix, a tar or Parquet file of images, an S3 Inventory (…/manifest.json), "
                "or a manifest (CSV, Parquet, JSON lines, Delta)",
            )
            command.add_argument("--layout", help="reads columns from paths, such as '{split}/{label}/*'")
        command.add_argument(
            "--lake",
            required=name not in ("run", "catalog"),
            metavar="URI",
            help="where the tables lie: a folder or an s3:// prefix"
            + (" (default: ./NAME-lake, NAME that of the first INPUT)" if name in ("run", "catalog") else ""),
        )
        if name in ("run", "report", "catalog"):
            command.add_argument("--report", metavar="URI", help="where the report goes (default: LAKE/report)")
        if name == "clean":
            command.add_argument(
                "--out",
                metavar="MANIFEST",
                help="the file to write, .parquet, .csv or .jsonl; NAME.removed and NAME.relabelled go beside it",
            )
            command.add_argument("--dry-run", action="store_true", help="only print what would be done")
            command.add_argument(
                "--batch-manifest",
                metavar="FILE",
                help="also write an S3 Batch Operations manifest of what is left out, and print what moving it saves",
            )
        command.add_argument(
            "--config", action="append", default=[], metavar="FILE", help="settings as YAML, over the defaults"
        )
        command.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="SECTION.KEY=VALUE",
            dest="overrides",
            help="one setting, over all files",
        )
    return top


def main(argv: list[str] | None = None, spark: SparkSession | None = None) -> int:
    """Runs the command and returns its exit code; see jobs.errors for what each means.

    spark: a session of an engine to work in, which is left open; without it one is opened and closed."""
    given = sys.argv[1:] if argv is None else argv
    try:
        return _on_emr(given[1:]) if given[:1] == [EMR] else _main(parser().parse_args(given), spark)
    except RunError as error:
        return _stop(str(error), error.exit_code)
    except (LeaseHeld, LeaseLost) as error:
        return _stop(str(error), LakeBusyError.exit_code)
    except models.ModelError as error:
        return _stop(str(error), ConfigError.exit_code)
    except StoreError as error:
        return _stop(str(error), InputError.exit_code)
    except KeyboardInterrupt:
        return _stop(AGAIN, INTERRUPTED)


def script() -> int:
    """`imagesieve` as a program: as main(), and Ctrl-C ends the process soon, whatever it is at.

    Where all went well it does not return: to take a large process apart piece by piece costs a third of a second."""
    with interrupts.ends_soon(lambda: _stop(AGAIN, INTERRUPTED)):
        code = main()
    if code == 0:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _stop(message: str, code: int) -> int:
    line = " ".join(message.split())
    sys.stderr.write(f"imagesieve: {line}\n")
    return code


def _on_emr(argv: list[str]) -> int:
    from emr.command import main as command

    return command(argv)


def _main(arguments: argparse.Namespace, spark: SparkSession | None) -> int:
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
            spark = opening.engine(any(map(uris.is_s3, plan.read_by_engine))).spark
        if spark is not None:
            with explained(of(spark)):
                _work(arguments, settings, plan, spark, reporter)
    return 0


@dataclass(frozen=True)
class _Plan:
    """What a run is to do, as far as it is known before anything is opened or written."""

    lake: str
    report: str
    inputs: sources.Inputs | None
    targets: clean.Targets | None
    read_by_engine: tuple[str, ...]  # URIs that the engine itself reads or writes


def _plan(arguments: argparse.Namespace, settings: config.Config) -> _Plan:
    """Looks at all that was given. Raises ConfigError, InputError, LakeError, ModelError."""
    from jobs import clean, embed  # while the engine starts

    targets = None
    if arguments.command == clean.JOB:
        targets = clean.check_targets(arguments.out, arguments.batch_manifest, arguments.dry_run)
    model = models.find(settings.embed.model, settings.models)
    if arguments.command in ("run", embed.JOB):
        _check_model(model, settings.embed.runtime)
    lake_uri = _lake_uri(arguments)
    try:
        given_report = getattr(arguments, "report", None) or uris.join(lake_uri, "report")
        report_uri = uris.canonical(given_report, base=os.getcwd())  # noqa: PTH109 (a text)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    try:
        objects.check_access(lake_uri, must_exist=False)
        is_lake = lakes.read_marker(lake_uri) is not None
    except StoreError as error:
        raise LakeError(str(error)) from error
    given = getattr(arguments, "inputs", [])
    inputs = sources.check_inputs(settings, given, arguments.layout, (lake_uri, report_uri)) if given else None
    if inputs is None and not is_lake:
        raise LakeError(f"{lake_uri} is no lake yet: run `imagesieve run` or `imagesieve catalog` first")
    manifests = [source.uri for source in inputs.manifests] if inputs else []
    imported = [model.weights] if model.format == "vectors" else []
    return _Plan(lake_uri, report_uri, inputs, targets, (lake_uri, *manifests, *imported))


def _work(
    arguments: argparse.Namespace, settings: config.Config, plan: _Plan, spark: SparkSession, reporter: Reporter
) -> None:
    """Does what was planned, in a session."""
    from jobs import catalog, clean, pipeline, report

    references = manifests.read_manifests(spark, plan.inputs) if plan.inputs else None
    run_id = time.strftime("%Y%m%dT%H%M%SZ-", time.gmtime()) + secrets.token_hex(4)
    if plan.targets is not None and arguments.dry_run:
        clean.run(Context(lakes.Lake(spark, plan.lake, run_id), settings, reporter), plan.targets, dry_run=True)
        return
    with acquire(plan.lake, run_id, settings.lease.ttl_s) as lease:
        lake = lakes.Lake(spark, plan.lake, run_id, lease)
        lake.open()
        given: dict[str, Any] = {report.JOB: plan.report}
        if plan.inputs:
            given[catalog.JOB] = catalog.Given(plan.inputs, references)
        context = Context(lake, settings, reporter, given, pipeline.NAMES)
        if plan.targets is not None:
            clean.run(context, plan.targets, dry_run=False)
            return
        pipeline.run_stages(context, arguments.command)


def _mentions_s3(arguments: argparse.Namespace) -> bool:
    """Whether an argument looks like a place on S3: then the engine is to know how to get there."""
    given = [arguments.lake or "", *getattr(arguments, "inputs", []), *arguments.config, *arguments.overrides]
    return any("s3" in text for text in given)


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


def _check_model(model: models.Model, runtime: str) -> None:
    """Looks for the model's weights or vectors before anything is started or written, and checks their digest. A driver
    that has the converted network, and is not told to use torch, needs no weights.

    Raises ModelError, InputError, ConfigError."""
    from jobs import embed
    from jobs.inputs import vectors

    if model.format == "vectors":
        vectors.find_table(model)
        return
    cache = embed.model_cache()
    if runtime in ("auto", "openvino") and preparation.is_converted(model, cache):
        return
    try:
        weight_files.weights_file(model, cache)
    except OSError as error:
        told = f"{cache}: cannot be written ({error.strerror}): name another folder with IMAGESIEVE_CACHE"
        raise ConfigError(told) from error


if __name__ == "__main__":
    sys.exit(script())
