"""The command line, `imagesieve run` and a command for each stage, and the same from spark-submit."""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import time
from contextlib import ExitStack

from pyspark.sql import SparkSession

from jobs import __version__, config, session, tables
from jobs.errors import INTERRUPTED, ConfigError, InputError, LakeBusyError, LakeError, RunError
from jobs.lease import LeaseHeld, LeaseLost, acquire
from jobs.progress import Reporter
from jobs.runs import Context
from udfs import models, objects, uris
from udfs.s3 import StoreError

EMR = "emr"


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="imagesieve", description="Sieves a lake of images with Spark.", allow_abbrev=False
    )
    top.add_argument("--version", action="version", version=f"imagesieve {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    texts = {
        "run": "all stages, from images to the report",
        "catalog": "list the inputs and number the images",
        "embed": "read each new image: features and embedding",
        "neighbours": "find the nearest images of each image",
        "clusters": "group duplicates and choose keepers",
        "labels": "find wrong labels",
        "content": "say what is in the images: concepts and topics",
        "issues": "say what is wrong with each image",
        "report": "write the HTML report",
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
            "--lake", required=True, metavar="URI", help="where the tables lie: a folder or an s3:// prefix"
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

    spark: a session to work in, which is left open; without it one is opened and closed."""
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
        return _stop("interrupted; run the same command again to go on", INTERRUPTED)


def _stop(message: str, code: int) -> int:
    line = " ".join(message.split())
    sys.stderr.write(f"imagesieve: {line}\n")
    return code


def _on_emr(argv: list[str]) -> int:
    from emr.command import main as command

    return command(argv)


def _main(arguments: argparse.Namespace, spark: SparkSession | None) -> int:
    from jobs import catalog, clean, embed, pipeline

    settings = config.load(arguments.config, arguments.overrides)
    targets = None
    if arguments.command == clean.JOB:
        targets = clean.check_targets(arguments.out, arguments.batch_manifest, arguments.dry_run)
    model = models.find(settings.embed.model, settings.models)
    if arguments.command in ("run", embed.JOB):
        _check_model(model, settings.embed.runtime)
    try:
        lake_uri = uris.canonical(arguments.lake, base=os.getcwd()).rstrip("/") or "/"  # noqa: PTH109 (a text)
        given_report = getattr(arguments, "report", None) or uris.join(lake_uri, "report")
        report_uri = uris.canonical(given_report, base=os.getcwd())  # noqa: PTH109
    except ValueError as error:
        raise ConfigError(str(error)) from error
    try:
        objects.check_access(lake_uri, must_exist=False)
        is_lake = tables.read_marker(lake_uri) is not None
    except StoreError as error:
        raise LakeError(str(error)) from error
    given = getattr(arguments, "inputs", [])
    inputs = catalog.check_inputs(settings, given, arguments.layout, (lake_uri, report_uri)) if given else None
    if inputs is None and not is_lake:
        raise LakeError(f"{lake_uri} is no lake yet: run `imagesieve run` or `imagesieve catalog` first")
    with ExitStack() as stack:
        if spark is None:
            manifests = [source.uri for source in inputs.manifests] if inputs else []
            imported = [model.weights] if model.format == "vectors" else []
            spark = session.open_session(settings, session.needs_s3(lake_uri, *manifests, *imported))
            stack.callback(spark.stop)
        references = catalog.read_manifests(spark, inputs) if inputs else None
        run_id = time.strftime("%Y%m%dT%H%M%SZ-", time.gmtime()) + secrets.token_hex(4)
        if targets is not None and arguments.dry_run:
            clean.run(Context(tables.Lake(spark, lake_uri, run_id), settings, Reporter()), targets, dry_run=True)
            return 0
        lease = stack.enter_context(acquire(lake_uri, run_id, settings.lease.ttl_s))
        lake = tables.Lake(spark, lake_uri, run_id, lease)
        lake.open()
        context = Context(lake, settings, Reporter())
        if targets is not None:
            clean.run(context, targets, dry_run=False)
            return 0
        if inputs:
            catalog.run(context, inputs, references)
        if arguments.command != catalog.JOB:
            pipeline.run_stages(context, arguments.command, report_uri)
    return 0


def _check_model(model: models.Model, runtime: str) -> None:
    """Looks for the model's weights or vectors before anything is started or written, and checks their digest. A driver
    that has the converted network, and is not told to use torch, needs no weights.

    Raises ModelError, InputError, ConfigError."""
    from jobs import embed, vectors

    if model.format == "vectors":
        vectors.find_table(model)
        return
    cache = embed.model_cache()
    if runtime in ("auto", "openvino") and models.is_converted(model, cache):
        return
    try:
        models.weights_file(model, cache)
    except OSError as error:
        told = f"{cache}: cannot be written ({error.strerror}): name another folder with IMAGESIEVE_CACHE"
        raise ConfigError(told) from error


if __name__ == "__main__":
    sys.exit(main())
