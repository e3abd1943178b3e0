"""Catches commands of docs/emr.md that the command line refuses; figures, parameters and links that went stale."""

import argparse
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from emr import command
from emr.costs import hardware
from jobs import command as jobs_command
from jobs import config
from tests.unit.test_templates import FOLDER, template

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "docs" / "emr.md"
TEXT = README.read_text(encoding="utf-8")


def shell_lines() -> list[list[str]]:
    """The words of each command in the blocks for a shell; variables stay as they are."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    text = "".join(blocks).replace("\\\n", " ")
    return [shlex.split(line) for line in text.splitlines() if line.strip()]


def ours() -> list[list[str]]:
    return [words[1:] for words in shell_lines() if words[0] == "imagesieve"]


@pytest.mark.parametrize("words", ours(), ids=" ".join)
def test_our_commands_parse(words: list[str]) -> None:
    """An option that was renamed, one that is missing, a value that it does not take."""
    parsed = command.parser().parse_args(words[1:]) if words[0] == "emr" else jobs_command.parser().parse_args(words)
    config.load((), getattr(parsed, "overrides", ()))


def test_every_command_is_shown() -> None:
    """A command without an example."""
    assert {words[1] for words in ours() if words[0] == "emr"} == set(command.COMMANDS)


def test_stacks_are_given_parameters_that_they_have() -> None:
    """A parameter that was renamed, and one without a default that is not given."""
    shown = set()
    for words in shell_lines():
        if words[:3] != ["aws", "cloudformation", "deploy"]:
            continue
        file = Path(words[words.index("--template-file") + 1])
        assert (ROOT / file).is_file()
        shown.add(file.name)
        parameters = template(file.name)["Parameters"]
        given = {word.split("=", 1)[0] for word in words[words.index("--parameter-overrides") + 1 :]}
        assert given <= set(parameters)
        assert {name for name, one in parameters.items() if "Default" not in one} <= given
        # What a request can hold; a larger one would have to go by way of a bucket.
        assert (FOLDER / file.name).stat().st_size < 51_200
    assert shown == {path.name for path in FOLDER.glob("*.yaml")}


def test_outputs_exist() -> None:
    """An output that no stack has."""
    for name in re.findall(r"output (\w+)\)", TEXT):
        assert name in template("stack.yaml")["Outputs"]


def test_settings_exist() -> None:
    """A setting that was renamed."""
    keys = {f"{section}.{key}" for section, values in config.load().as_dict().items() for key in values}
    mentioned = set(re.findall(r"`((?:embed|neighbours|metrics|lease)\.[a-z_]+)", TEXT))
    assert mentioned
    assert mentioned <= keys


def test_links_resolve() -> None:
    """A link to a file or a heading that is not there."""
    headings = {re.sub(r"[^\w -]", "", line).strip().lower().replace(" ", "-")
                for line in re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)}  # fmt: skip
    for link in re.findall(r"\]\(([^)\s]+)\)", TEXT):
        if link.startswith("#"):
            assert link[1:] in headings, link
        else:
            assert (README.parent / link.partition("#")[0]).exists(), link


def test_the_table_of_instances() -> None:
    """A type that was added to conf/clusters.yaml or changed there."""
    loaded = hardware.load()
    found = {}
    for row in re.findall(r"^\| ([a-z0-9]+\.\w+ \|.*) \|$", TEXT, re.MULTILINE):
        name, *cells = [cell.strip() for cell in row.split(" | ")]
        found[name] = cells
    assert set(found) == set(loaded.instances)
    for name, one in loaded.instances.items():
        task = [kind for kind in loaded.kinds.values() if name in kind.task]
        expected: list[Any] = [one.vcpus, one.memory_mb // 1024, one.gpu or "–", one.gpu_memory_gib or "–"]
        expected += [("yes" if one.bf16 else "no") if one.gpus else "–", one.nvme_gb or "–"]
        expected.append(hardware.units(one, task[0].executor, loaded.system_mb) if task else "primary, core")
        assert found[name] == [str(value) for value in expected], name


def test_it_says_that_nothing_has_run_on_aws() -> None:
    """A text that claims more than was tried."""
    rows = re.findall(r"^\| [^|]+ \| (\w+) \|", TEXT[TEXT.index("\n## What has run where") :], re.MULTILINE)
    assert set(rows) == {"on", "no"} or set(rows) == {"no"}


def test_parsers_take_no_abbreviations() -> None:
    """An example that only works until an option with the same beginning is added."""
    subparsers = command.parser()._subparsers
    assert subparsers is not None
    choices: dict[str, argparse.ArgumentParser] = subparsers._group_actions[0].choices  # type: ignore[assignment]
    assert not any(parser.allow_abbrev for parser in choices.values())
