"""Catches a health sample that differs from one day to the next, and a check that lets a wrong lake pass."""

import argparse
import dataclasses
import io
import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from emr import health
from emr.costs.stage_work import STAGES
from emr.health import Answers, sample, wrong_answers
from jobs.errors import ConfigError, InputError, LakeError
from jobs.tables import ISSUES
from udfs.errors import CODES


@pytest.fixture(scope="module")
def made() -> tuple[dict[str, bytes], Answers]:
    return sample()


def arguments(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    health.add_arguments(parser)
    return parser.parse_args(argv)


def test_the_sample_is_always_the_same(made: tuple[dict[str, bytes], Answers]) -> None:
    """A sample that depends on the time, on the order of calls or on a generator without a seed."""
    assert sample() == made


def test_every_answer_is_about_a_file(made: tuple[dict[str, bytes], Answers]) -> None:
    """An answer that nothing can fulfil."""
    files, answers = made
    assert answers.images == len(files) == 60
    named = [name for names in answers.issues.values() for name in names]
    named += [name for group in answers.exact + answers.near for name in group]
    assert set(named) <= set(files)
    assert len(named) == len(set(named))  # an image has one trouble at most
    assert set(answers.issues) == set(health.CHECKED) <= set(ISSUES)
    assert set(answers.failures.values()) <= set(CODES)
    assert set(answers.failures) == set(answers.issues["corrupted"])
    assert all(list(value) == sorted(value) for value in answers.issues.values())


def test_the_answers_are_true(made: tuple[dict[str, bytes], Answers]) -> None:
    """A copy that is none, a dark picture that is light, a blurred one that is sharp: by the pixels alone."""
    files, answers = made
    pixels = {
        name: np.asarray(Image.open(io.BytesIO(data)).convert("L"), np.float64)
        for name, data in files.items()
        if name not in answers.failures
    }
    for left, right in answers.exact:
        np.testing.assert_array_equal(pixels[left], pixels[right])
    groups = {frozenset(group) for group in answers.exact}
    whole = {name: one for name, one in pixels.items() if one.shape == (health.SIZE[1], health.SIZE[0])}
    for (left, one), (right, other) in combinations(whole.items(), 2):
        assert np.array_equal(one, other) == ({left, right} in groups), (left, right)

    def steps(image: Any) -> float:
        return float(np.percentile(np.abs(np.diff(image, axis=1)), 99))

    for name, image in pixels.items():
        assert (np.percentile(image, 99) < 0.3 * 255) == (name in answers.issues["dark"]), name
        assert (np.ptp(image) == 0) == (name in answers.issues["flat"]), name
        soft = name in answers.issues["blurry"] + answers.issues["flat"]
        assert (steps(image) < 0.1 * np.ptp(image) + 1) == soft, name


def test_nothing_is_wrong_where_all_is_right(made: tuple[dict[str, bytes], Answers]) -> None:
    """A check that always finds something."""
    assert wrong_answers(made[1], made[1]) == []


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        ({"images": 59}, ["images: there are 59, not 60"]),
        ({"done": ["catalog"]}, [f"{job}: has not ended" for job in sorted(STAGES) if job != "catalog"]),
        ({"failures": {}}, [
            "failures: cut.jpg is no failure, not truncated", "failures: empty.jpg is no failure, not empty",
            "failures: text.jpg is no failure, not not_an_image",
        ]),
        ({"exact": []}, [f"exact duplicates: copy-{n}.png = scene-0{n}.png was not found" for n in range(6)]),
        ({"near": [["edit-0.jpg", "scene-30.png"]]}, None),
        ({"issues": {"dark": []}}, None),
    ],
)  # fmt: skip
def test_each_wrong_answer_is_a_line(
    made: tuple[dict[str, bytes], Answers], change: dict[str, Any], lines: list[str] | None
) -> None:
    """A difference that is not told."""
    found = wrong_answers(made[1], dataclasses.replace(made[1], **change))
    assert found
    if lines is not None:
        assert found == lines


def test_what_is_flagged_and_should_not_be(made: tuple[dict[str, bytes], Answers]) -> None:
    """A check that counts only what is missing."""
    issues = {**made[1].issues, "dark": [*made[1].issues["dark"], "scene-00.png"]}
    assert wrong_answers(made[1], dataclasses.replace(made[1], issues=issues)) == ["dark: scene-00.png is none"]


def test_make_writes_what_check_reads(tmp_path: Path, made: tuple[dict[str, bytes], Answers]) -> None:
    """Answers that cannot be read again, images that differ, and a second `--make` that adds up."""
    for _ in range(2):
        assert health.run(arguments("--make", str(tmp_path))) == 0
    assert health.read_answers(str(tmp_path / health.ANSWERS)) == made[1]
    assert {file.name: file.read_bytes() for file in (tmp_path / health.IMAGES).iterdir()} == made[0]


def test_make_leaves_other_folders_alone(tmp_path: Path) -> None:
    """A sample among somebody's photographs: its answers would be wrong."""
    (tmp_path / health.IMAGES).mkdir()
    (tmp_path / health.IMAGES / "mine.jpg").write_bytes(b"x")
    with pytest.raises(InputError, match=r"mine\.jpg"):
        health.run(arguments("--make", str(tmp_path)))
    assert len(list(tmp_path.rglob("*"))) == 2


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps({"images": 1}), "\xff"])
def test_answers_that_are_none(tmp_path: Path, text: str) -> None:
    """A traceback for a file of another kind."""
    (tmp_path / "a.json").write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match="make the sample again"):
        health.read_answers(str(tmp_path / "a.json"))


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
