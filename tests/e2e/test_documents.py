"""README and docs say what the code does: tables, issues, options, settings, codes, links; their examples run."""

import argparse
import dataclasses
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import imagesieve
import numpy as np
import pytest
from imagesieve.__main__ import others
from pyspark.sql import SparkSession

from emr import command as emr_command
from emr.errors import AwsError
from jobs import __version__, config, errors
from jobs.agents import command as agents
from jobs.albums import command as albums
from jobs.analysis import command as views
from jobs.cleaning import applying
from jobs.command import parser
from jobs.demo import running as demo
from jobs.erasure import command as erasure
from jobs.live import command as watch
from jobs.rating import command as ratings
from jobs.serve import asking, review_files
from jobs.serve import command as serve
from jobs.serve.door import asking as checking
from jobs.tables import ISSUES, TABLES
from jobs.upkeep import command as upkeep
from tests.e2e import lakes
from tests.e2e.conftest import Labelled
from tests.e2e.lakes import ROOT
from udfs.errors import CODES

EMR = "docs/emr.md"  # which has a test of its own
MANUAL = ("README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md") if path.name != "emr.md"))
DOCUMENTS = (*MANUAL, EMR, "CONTRIBUTING.md", "CHANGELOG.md")
TEXT = "\n".join((ROOT / name).read_text(encoding="utf-8") for name in MANUAL)
# Of other programs that they show: spark-submit, uv, tests.bench.
FOREIGN_OPTIONS = {
    "--properties-file", "--py-files", "--files", "--constraint", "--editable", "--photos", "--others", "--labelled",
    "--cases", "--peers", "--archives", "--conf", "--no-deps", "--draws", "--parts",
}  # fmt: skip
BESIDE = {
    "check": checking, "compact": upkeep, "demo": demo, "forget": erasure, "group": albums, "mcp": agents,
    "ratings": ratings, "review": review_files, "search": asking, "serve": serve, "unapply": applying, "views": views,
    "watch": watch,
}  # fmt: skip
DEMO_LAKE, DEMO_IMAGES = "imagesieve-demo/lake", "imagesieve-demo/images"


def blocks(language: str) -> list[str]:
    """The code blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def rows_under(heading: str) -> list[list[str]]:
    """The cells of the first table after a heading or line, without its head."""
    text = TEXT[TEXT.index(heading) + len(heading) :]
    found = re.search(r"^\|.*\n\| ---.*\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert found is not None, heading
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in found[1].splitlines()]


def code(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def test_tables() -> None:
    """Catches a table, a key or a column that is not documented, is documented but not there, or may be null unsaid."""
    rows = {code(row[0])[0]: row for row in rows_under("\n## Tables\n")}
    assert list(rows) == list(TABLES)
    for name, (_, _, key, columns) in rows.items():
        schema = TABLES[name].schema
        assert tuple(code(key)) == TABLES[name].key, name
        named = [word for word in code(columns) if word in schema.names]
        assert set(named) == set(schema.names), name
        nullable = set(re.findall(r"`([^`]+)`\?", columns))
        assert nullable == {field.name for field in schema if field.nullable}, name


def test_issues() -> None:
    """Catches an issue without an explanation, and a limit that was moved without the text."""
    limits = dataclasses.asdict(config.load().issues)
    rows = {code(row[0])[0]: row for row in rows_under("\n## Issues\n")}
    assert set(rows) == set(ISSUES)
    for issue, (_, meaning, _, limit, suggestion) in rows.items():
        assert len(meaning) > 10, issue
        assert suggestion in ("remove", "relabel", "review"), issue
        if issue in limits:
            assert float(limit) == limits[issue], issue
        else:
            assert limit == "–", issue


def test_error_codes() -> None:
    """Catches a code of `failures` that nobody explains."""
    assert [code(row[0])[0] for row in rows_under("\n## Failures\n")] == list(CODES)


def test_exit_codes() -> None:
    """Catches an exit code that is missing or means something else."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.RunError)]
    there = {0, errors.INTERRUPTED, AwsError.exit_code, *(kind.exit_code for kind in kinds)}
    assert {int(row[0]) for row in rows_under("\n## Exit codes\n")} == there


def commands(of: argparse.ArgumentParser | None = None) -> dict[str, argparse.ArgumentParser]:
    actions = (of or parser(others()))._subparsers
    assert actions is not None
    choices: Any = actions._group_actions[0].choices
    return dict(choices)


def test_options_exist() -> None:
    """Catches an option that is shown but not there, and one of a command that no text mentions. docs/emr.md, which
    has a test of its own, mentions those of `imagesieve emr`."""
    known = {option for command in commands().values() for option in command._option_string_actions}
    on_emr = {
        option for command in commands(emr_command.parser()).values() for option in command._option_string_actions
    }
    of_demo = {option for each in BESIDE.values() for option in each.parser()._option_string_actions}
    of_demo |= {option for each in commands(ratings.parser()).values() for option in each._option_string_actions}
    shown = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", TEXT))
    assert shown <= known | on_emr | of_demo | FOREIGN_OPTIONS
    assert known - {"-h", "--help"} <= shown


@pytest.mark.parametrize("name", sorted(commands()))
def test_commands_parse(name: str) -> None:
    """Catches an example that the command line refuses, and a command without an example."""
    text = "".join(blocks("sh")).replace("\\\n", " ")
    lines = re.findall(rf"^\S*imagesieve {name} (.*)$", text, re.MULTILINE)
    assert lines
    for line in lines:
        words = shlex.split(line, comments=True)
        if name == "emr":
            emr_command.parser().parse_args(words)
            continue
        if name in BESIDE:
            BESIDE[name].parser().parse_args(words)
            continue
        parsed = parser().parse_args([name, *words])
        config.load([ROOT / file for file in parsed.config], parsed.overrides)


def test_settings_exist() -> None:
    """Catches a setting that was renamed, and a value that it does not take."""
    sections = {section.name for section in dataclasses.fields(config.Config)}
    keys = {f"{section}.{key}" for section, values in config.load().as_dict().items() for key in values}
    for document in DOCUMENTS:
        text = (ROOT / document).read_text(encoding="utf-8")
        mentioned = {word for word in code(text) if re.fullmatch(rf"({'|'.join(sections)})\.[a-z_]+", word)}
        # A column of a table of the same name as a section: `runs.config` is no setting, `issues.score` neither.
        columns = {f"{table}.{column}" for table in TABLES for column in TABLES[table].schema.names}
        assert mentioned - columns <= keys, document
        overrides = re.findall(r"--set (\w+\.\w+=[^\s`]+)", text)
        config.load((), overrides)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_resolve(document: str) -> None:
    """Catches a link to a file that is not there."""
    text = (ROOT / document).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"https?://", link)]
    assert links or document not in ("README.md", "docs/emr.md", "CONTRIBUTING.md")
    for link in links:
        assert (ROOT / document).parent.joinpath(link.partition("#")[0]).exists(), link


def test_the_site(tmp_path: Path) -> None:
    """Catches a link that leads nowhere, an API without its text, and a page that loads from other hosts."""
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path)]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    ended = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    reference = (tmp_path / "python.html").read_text(encoding="utf-8")
    for name in imagesieve.__all__:
        if not name.startswith("__"):
            assert f'id="imagesieve.{name}"' in reference, name
    for page in tmp_path.rglob("*.html"):
        loaded = re.findall(
            r'<(?:script|link|img)[^>]+(?:src|href)="(https?://[^"]+)"', page.read_text(encoding="utf-8")
        )
        assert loaded == [], page


def test_files_exist() -> None:
    """Catches a script, a make target or a folder that is named but not there."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"\bmake ([a-z-]+)", "".join(blocks("sh"))):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for module in re.findall(r"python -m ([a-z_.]+)", TEXT):
        assert (ROOT / module.replace(".", "/")).with_suffix(".py").is_file(), module
    for path in code(TEXT):
        if re.match(r"(jobs|udfs|conf|emr|tests|notebooks)/", path):
            assert (ROOT / path).exists(), path


def test_changelog_names_the_version() -> None:
    """Catches a release without a word on what changed."""
    assert f"\n## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


ALBUM = "album.npy"


def test_every_example_is_run() -> None:
    """Catches an example in Python that neither reads the demo's lake nor the album, and so is not tried."""
    assert all((DEMO_LAKE in text) + (ALBUM in text) + (DEMO_IMAGES in text) == 1 for text in blocks("python"))


def test_album_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches an example of a group of one album that does not run, or keeps the wrong ones."""
    text = next(text for text in blocks("python") if ALBUM in text)
    np.save(tmp_path / ALBUM, np.eye(4)[[0, 1, 0, 2, 1]])
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(text, "README.md", "exec"), names)
    assert names["kept"].tolist() == [0, 1, 3]


def test_readme_word_for_word(tmp_path: Path) -> None:
    """Catches a command of README that does not do what it says in an empty folder; its Python example too.

    Not run: the installation, and what needs a cluster or AWS."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = [
        line.strip() for line in "\n".join(re.findall(r"^```sh\n(.*?)^```$", text, re.M | re.S)).splitlines()
        if line.startswith("imagesieve ") and " s3://" not in line
    ]  # fmt: skip
    assert [line.split()[1] for line in lines] == ["demo", "run", "run", "clean", "clean", "serve", "watch", "emr"]
    lines = [line for line in lines if line.split()[1] not in ("serve", "watch")]  # which do not end
    script = tmp_path / "readme.sh"
    script.write_text("set -eux\n" + "\n".join(lines) + "\n", encoding="utf-8")
    example = tmp_path / "readme.py"
    example.write_text("\n".join(re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)), encoding="utf-8")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for command in (["bash", script.name], [sys.executable, example.name]):
        ended = subprocess.run(
            command, cwd=tmp_path, env=lakes.clean_environment(PATH=path), capture_output=True, text=True, check=False,
            timeout=300,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr[-3000:]
        assert "Traceback" not in ended.stderr
    assert {"clean.csv", "images-lake"} <= {path.name for path in tmp_path.iterdir()}
    assert "exact_duplicate" in ended.stdout


@pytest.mark.parametrize("text", [text for text in blocks("python") if DEMO_LAKE in text])
def test_python_runs(text: str, labelled: Labelled, spark: SparkSession, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches an example that does not run, or shows nothing."""
    exec(compile(text.replace(DEMO_LAKE, str(labelled.lake)), "README.md", "exec"), {"spark": spark})
    assert "exact_duplicate" in capsys.readouterr().out


@pytest.mark.parametrize("number", range(len(blocks("sql"))))
def test_sql_runs_alike(number: int, labelled: Labelled, spark: SparkSession) -> None:
    """Catches a query that one of the two engines refuses, answers otherwise, or that finds nothing."""
    query = blocks("sql")[number]
    names = [name for name in TABLES if re.search(rf"\b{name}\b", query)]
    with duckdb.connect() as database:
        for name in names:
            database.register(name, lakes.table(labelled.lake, name).to_pyarrow_dataset())
            spark.read.format("delta").load(f"{labelled.lake}/{name}").createOrReplaceTempView(name)
        by_duckdb = database.execute(query).fetchall()
    by_spark = [tuple(row) for row in spark.sql(query).collect()]
    if "HAVING" not in query:  # that one looks for labels that contradict each other: see below
        assert by_duckdb
    assert [plain(row) for row in by_duckdb] == [plain(row) for row in by_spark]


def plain(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Times without their zone, which the two engines give differently."""
    return tuple(cell.strftime("%M:%S.%f") if hasattr(cell, "strftime") else cell for cell in row)


def test_labels_that_differ(labelled: Labelled) -> None:
    """Catches a query for contradicting labels that finds none: each file name stands for a label here."""
    query = next(query for query in blocks("sql") if "HAVING" in query).replace("i.label", "i.uri")
    with duckdb.connect() as database:
        for name in ("images", "duplicates"):
            database.register(name, lakes.table(labelled.lake, name).to_pyarrow_dataset())
        clusters = {row["cluster_id"] for row in lakes.rows(labelled.lake, "duplicates")}
        assert {row[0] for row in database.execute(query).fetchall()} == clusters


def test_training_set(labelled: Labelled) -> None:
    """Catches a query for a clean training set that leaves a copy in it, or a picture of the test split."""
    query = next(query for query in blocks("sql") if "i.split = 'train'" in query)
    with duckdb.connect() as database:
        for name in ("images", "issues", "duplicates"):
            database.register(name, lakes.table(labelled.lake, name).to_pyarrow_dataset())
        kept = {Path(uri).name for uri, _ in database.execute(query).fetchall()}
    assert "000.jpg" not in kept  # in test
    assert {"001.jpg", "copy of 1.jpg"}.isdisjoint(kept)  # a copy is in test
    assert "truncated.jpg" not in kept
    assert {"007.jpg", "naïve 'q'.jpg"} <= kept
