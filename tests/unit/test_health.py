"""Catches a health sample that differs from one day to the next, and a check that lets a wrong lake pass."""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from emr import health
from emr.health import Answers, Found, sample, wrong_answers
from jobs import pipeline
from jobs.demo import plant
from jobs.demo.judge import PAIRED
from jobs.errors import ConfigError, InputError, LakeError
from jobs.tables import ISSUES
from udfs.errors import CODES


@pytest.fixture(scope="module")
def made() -> tuple[dict[str, bytes], Answers]:
    return sample()


@pytest.fixture
def drawn(made: tuple[dict[str, bytes], Answers], monkeypatch: pytest.MonkeyPatch) -> None:
    """The sample as it was drawn once."""
    monkeypatch.setattr(health, "sample", lambda: made)


def right(answers: Answers) -> Found:
    """What a lake says in which all was found that was planted, and no more."""
    issues = [(entry.path, entry.kind, entry.evidence) for entry in answers.planted if entry.required]
    return Found(answers.images, set(pipeline.NAMES), issues, answers.failures)


def arguments(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    health.add_arguments(parser)
    return parser.parse_args(argv)


def test_the_sample_is_always_the_same(made: tuple[dict[str, bytes], Answers]) -> None:
    """A sample that depends on the time, on the order of calls or on a generator without a seed."""
    assert sample() == made


def test_it_needs_no_photographs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sample that cannot be made where only imagesieve is installed."""
    for name in ("photographed", "outliers"):
        monkeypatch.setattr(plant, name, lambda: pytest.fail("draws on photographs"))
    plant.planted(size=dataclasses.replace(plant.SMALL, scenes=20, single={}, exact=(), leaks=()))


def test_every_answer_is_about_a_file(made: tuple[dict[str, bytes], Answers]) -> None:
    """An answer that nothing can fulfil."""
    files, answers = made
    assert answers.images == len(files)
    assert {entry.path for entry in answers.planted} <= set(files)
    assert {entry.evidence for entry in answers.planted if entry.kind in PAIRED} <= set(files)
    kinds = {entry.kind for entry in answers.planted if entry.required}
    assert {"corrupted", "dark", "blurry", "flat", "exact_duplicate", "near_duplicate"} <= kinds <= set(ISSUES)
    assert set(answers.failures.values()) <= set(CODES)
    assert set(answers.failures) == {entry.path for entry in answers.planted if entry.kind == "corrupted"}


def test_nothing_is_wrong_where_all_is_right(made: tuple[dict[str, bytes], Answers]) -> None:
    """A check that always finds something."""
    assert wrong_answers(made[1], right(made[1])) == []


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        ({"images": 59}, ["images: there are 59, not "]),
        ({"done": {"catalog"}}, [f"{name}: has not ended" for name in pipeline.NAMES if name != "catalog"]),
        ({"failures": {}}, ["failures: "] * 3),
        ({"issues": []}, None),
    ],
)
def test_each_wrong_answer_is_a_line(
    made: tuple[dict[str, bytes], Answers], change: dict[str, Any], lines: list[str] | None
) -> None:
    """A difference that is not told."""
    found = wrong_answers(made[1], dataclasses.replace(right(made[1]), **change))
    if lines is None:
        kinds = {entry.kind for entry in made[1].planted if entry.required}
        assert {line.split(":")[0] for line in found} == kinds
        assert all(line.endswith("not found") for line in found)
    else:
        assert len(found) == len(lines)
        assert all(line.startswith(start) for line, start in zip(found, lines, strict=True))


def test_what_is_flagged_and_should_not_be(made: tuple[dict[str, bytes], Answers]) -> None:
    """A check that counts only what is missing."""
    of_kinds = {entry.path for entry in made[1].planted}
    sound = next(path for path in made[0] if path not in of_kinds)
    found = right(made[1])
    found.issues.append((sound, "dark", None))
    assert wrong_answers(made[1], found) == ["dark: 1 that are none"]


@pytest.mark.usefixtures("drawn")
def test_make_writes_what_check_reads(tmp_path: Path, made: tuple[dict[str, bytes], Answers]) -> None:
    """Answers that cannot be read again, images that differ, and a second `--make` that adds up."""
    for _ in range(2):
        assert health.run(arguments("--make", str(tmp_path))) == 0
    assert health.read_answers(str(tmp_path / health.ANSWERS)) == made[1]
    images = tmp_path / health.IMAGES
    files = {path.relative_to(images).as_posix(): path for path in images.rglob("*") if path.is_file()}
    assert {name: path.read_bytes() for name, path in files.items()} == made[0]


@pytest.mark.usefixtures("drawn")
def test_make_leaves_other_folders_alone(tmp_path: Path) -> None:
    """A sample among somebody's photographs: its answers would be wrong."""
    (tmp_path / health.IMAGES / "train").mkdir(parents=True)
    (tmp_path / health.IMAGES / "train" / "mine.jpg").write_bytes(b"x")
    with pytest.raises(InputError, match=r"mine\.jpg"):
        health.run(arguments("--make", str(tmp_path)))
    assert sum(path.is_file() for path in tmp_path.rglob("*")) == 1


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps({"images": 1}), '{"planted": [1]}', "\xff"])
def test_answers_that_are_none(tmp_path: Path, text: str) -> None:
    """A traceback for a file of another kind."""
    (tmp_path / "a.json").write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match="make the sample again"):
        health.read_answers(str(tmp_path / "a.json"))


@pytest.mark.usefixtures("drawn")
def test_bad_arguments(tmp_path: Path) -> None:
    """A check without answers, of no lake, or of answers that are not there."""
    with pytest.raises(ConfigError, match="--answers"):
        health.run(arguments("--check", str(tmp_path)))
    with pytest.raises(InputError, match="no such file"):
        health.run(arguments("--check", str(tmp_path), "--answers", str(tmp_path / "none.json")))
    health.run(arguments("--make", str(tmp_path / "sample")))
    answers = str(tmp_path / "sample" / health.ANSWERS)
    with pytest.raises(LakeError, match="no lake yet"):
        health.run(arguments("--check", str(tmp_path / "lake"), "--answers", answers))


def test_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong lake that ends with 0: the state machine would call it well."""
    assert health.told([], "/lake") == 0
    assert health.told(["dark: a.png is none"], "/lake") == health.WRONG != 0
    assert capsys.readouterr().out.splitlines()[-1] == "wrong: dark: a.png is none"
