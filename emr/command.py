"""`imagesieve emr …`: packages the suite, submits it to EMR, watches it, and says what it costs."""

from __future__ import annotations

import argparse
import importlib

# name -> module, its two functions add_arguments(parser) and run(arguments), and what it is for. A module is imported
# when its command is called: `cost` needs no boto3.
COMMANDS = {
    "package": (
        "emr.packages.package",
        "build what the nodes run: the Python packages, the model, imagesieve; and upload it",
    ),
    "submit": ("emr.submit", "check, plan, estimate, ask, and run on a new cluster or on EMR Serverless"),
    "status": ("emr.watch", "what runs, in which stage, since when, and what it has cost"),
    "logs": ("emr.watch", "what a stage has printed"),
    "cancel": ("emr.watch", "stop a run and its cluster"),
    "cost": ("emr.costs.cost_page", "hours and dollars of each stage on each kind of cluster; nothing is run"),
    "health": ("emr.health", "a fixed sample of images with known answers: write it, or check a lake of it"),
}
SEVERAL = "emr.watch"  # its functions have the name of their command


def parser(only: str | None = None) -> argparse.ArgumentParser:
    """only: the command whose options are wanted; without it those of all."""
    top = argparse.ArgumentParser(prog="imagesieve emr", description=__doc__, allow_abbrev=False)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (module, text) in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", allow_abbrev=False)
        if only is None or name == only:
            add = f"add_{name}_arguments" if module == SEVERAL else "add_arguments"
            getattr(importlib.import_module(module), add)(command)
    return top


def main(argv: list[str]) -> int:
    """Runs a command and returns its exit code. Raises RunError."""
    arguments = parser(argv[0] if argv else "").parse_args(argv)
    module = COMMANDS[arguments.command][0]
    run = f"run_{arguments.command}" if module == SEVERAL else "run"
    return int(getattr(importlib.import_module(module), run)(arguments))
