"""Catches a run that takes another engine than its user meant, and reasons that are not told."""

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs import config
from jobs.engines import choice
from jobs.errors import ConfigError, MachineError

SETTINGS = config.load().spark


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Names the packages that are there; none of EMR."""
    monkeypatch.setattr(choice, "_EMR", tmp_path / "no")

    def only(*names: str) -> None:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if name in names else None)

    return only


@pytest.mark.parametrize(
    ("engine", "master", "environment", "there", "wanted"),
    [
        ("auto", None, {}, ("pysail",), ("sail", "on one machine")),
        ("auto", None, {}, ("pysail", "py4j"), ("sail", "on one machine")),
        ("auto", None, {}, ("py4j",), ("spark", "Sail is not installed")),
        ("auto", "local[2]", {}, ("pysail", "py4j"), ("spark", "a master is set")),
        ("auto", None, {"PYSPARK_SUBMIT_ARGS": "--master yarn pyspark-shell"}, ("pysail", "py4j"),
         ("spark", "a master is set")),
        ("auto", None, {"PYSPARK_GATEWAY_PORT": "1"}, ("pysail",), ("spark", "by spark-submit")),
        ("sail", "local[2]", {}, ("pysail", "py4j"), ("sail", "")),
        ("spark", None, {}, ("pysail", "py4j"), ("spark", "")),
    ],
)  # fmt: skip
def test_what_is_taken(
    engine: str, master: str | None, environment: dict[str, str], there: tuple[str, ...], wanted: tuple[str, str],
    installed: Callable[..., None],
) -> None:  # fmt: skip
    installed(*there)
    found = choice.choose(replace(SETTINGS, engine=engine, master=master), environment)
    assert (found.engine, found.why) == wanted


def test_on_emr(installed: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    installed("pysail", "py4j")
    monkeypatch.setattr(choice, "_EMR", tmp_path)
    assert choice.choose(SETTINGS, {}) == choice.Choice("spark", "on EMR")


@pytest.mark.parametrize(
    ("engine", "environment", "there", "error", "told"),
    [
        ("sail", {"PYSPARK_GATEWAY_PORT": "1"}, ("pysail", "py4j"), ConfigError, "started by spark-submit"),
        ("auto", {"SPARK_REMOTE": "sc://x"}, ("pysail", "py4j"), ConfigError, "a Spark driver of its own"),
        ("spark", {}, ("pysail",), MachineError, r'Spark is not installed: pip install "imagesieve\[spark\]"'),
        ("auto", {}, (), MachineError, r"Spark is not installed \(Sail is not installed\)"),
    ],
)
def test_what_cannot_be_is_told(
    engine: str, environment: dict[str, str], there: tuple[str, ...], error: type[Exception], told: str,
    installed: Callable[..., None],
) -> None:  # fmt: skip
    installed(*there)
    with pytest.raises(error, match=told):
        choice.choose(replace(SETTINGS, engine=engine), environment)


@pytest.mark.parametrize(
    ("engine", "images", "megabytes", "told"),
    [
        ("sail", SETTINGS.embedded_images, SETTINGS.embedded_gb * 1000, False),
        ("sail", SETTINGS.embedded_images + 1, 0, True),
        ("sail", 1, SETTINGS.embedded_gb * 1000 + 1, True),
        ("spark", SETTINGS.embedded_images + 1, 10**9, False),
    ],
)
def test_a_large_lake_is_told_of_spark(engine: str, images: int, megabytes: int, told: Any) -> None:
    line = choice.large_lake(engine, images, megabytes, SETTINGS)
    assert (line is not None and "Spark" in line) is told
