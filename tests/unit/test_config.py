"""Catches a setting that is taken wrongly in silence, and faults that are reported one run at a time."""

import dataclasses
import re
from pathlib import Path
from typing import get_type_hints

import pytest
import yaml

from jobs import config
from jobs.errors import ConfigError

# Keys with no rule beyond their type, and why.
FREE = {
    "catalog.stat": "true or false",
    "spark.master": "any of Spark's master URLs; Spark itself says what is wrong with one",
    "spark.driver_memory": "Spark's own notation, which the JVM checks at its start",
    "spark.driver_java_options": "options of the JVM, which itself says what is wrong with one",
    "spark.delta_package": "a Maven coordinate, which only a repository can check",
    "spark.graphframes_package": "a Maven coordinate",
    "spark.s3_packages": "Maven coordinates",
    "spark.s3_excludes": "Maven coordinates, of which there may be none",
}
KEYS = [
    (section, key)
    for section, kind in get_type_hints(config.Config).items()
    for key in (field.name for field in dataclasses.fields(kind))
]


def faults(files: tuple[str, ...] = (), overrides: tuple[str, ...] = ()) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config.load(files, overrides)
    return str(caught.value).split("; ")


def test_defaults_are_complete_and_within_their_bounds() -> None:
    """A default that is missing, unknown or outside its own bounds."""
    loaded = config.load().as_dict()
    given = yaml.safe_load(config.default_text())
    assert {section: set(values) for section, values in loaded.items()} == {s: set(v) for s, v in given.items()}


def test_every_default_has_its_reason_above_it() -> None:
    """A key without a comment."""
    lines = config.default_text().splitlines()
    keys = [number for number, line in enumerate(lines) if re.match(r"  \w+:", line)]
    assert len(keys) == len(KEYS)
    bare = [lines[number] for number in keys if not lines[number - 1].strip().startswith("#")]
    assert bare == []


def test_every_key_has_bounds_or_a_reason_to_have_none() -> None:
    """A new key whose value nobody checks, and a rule or a reason for a key that is gone."""
    paths = {f"{section}.{key}" for section, key in KEYS}
    assert set(config._RULES) | set(FREE) == paths
    assert not set(config._RULES) & set(FREE)


@pytest.mark.parametrize("path", sorted(config._RULES))
def test_bounds_refuse(path: str) -> None:
    """A rule that lets everything pass: no rule takes a value far outside."""
    section, _, key = path.partition(".")
    hint = get_type_hints(get_type_hints(config.Config)[section])[key]
    bad = "[]" if hint == tuple[str, ...] else ("nonsense" if hint is str else str(-(10**12)))
    (fault,) = faults(overrides=(f"{path}={bad}",))
    assert fault.startswith(f"--set: {path} must ")
    if "1000000000000" in bad:
        (fault,) = faults(overrides=(f"{path}={10**12}",))
        assert fault.startswith(f"--set: {path} must be ")


def test_all_faults_at_once(tmp_path: Path) -> None:
    """A run that stops at the first fault, and a fault without its place, its rule or its value."""
    file = tmp_path / "mine.yaml"
    file.write_text(
        "neighbours: {k: 0, probes: many}\n"
        "embed: {batch: 1.5, model: nameless, colour: red}\n"
        "colours: {}\n"
        "report: 7\n"
        "catalog: {stat: 1, extensions: jpg}\n"
    )
    found = faults((str(file), str(tmp_path / "missing.yaml")), ("issues.dark=2", "nonsense", "lease.ttl_s=null"))
    where = f"{file}: "
    expected = [
        (where, "neighbours.k must be ", "got 0"),
        (where, "neighbours.probes must be a whole number", "got 'many'"),
        (where, "embed.batch must be a whole number", "got 1.5"),
        (where, "embed.model must be name@revision", "got 'nameless'"),
        (where, "unknown key embed.colour", "batch"),
        (where, "unknown section 'colours'", "neighbours"),
        (where, "report must be a section", "got 7"),
        (where, "catalog.stat must be true or false", "got 1"),
        (where, "catalog.extensions must be a list of texts", "got 'jpg'"),
        (f"{tmp_path}/missing.yaml: ", "cannot be read", "No such file"),
        ("--set: ", "issues.dark must be 0..1", "got 2"),
        ("--set: ", "must be section.key=value", "got 'nonsense'"),
        ("--set: ", "lease.ttl_s must be set", "got None"),
    ]
    assert len(found) == len(expected)
    for fault, (place, rule, value) in zip(found, expected, strict=True):
        assert fault.startswith(place)
        assert rule in fault
        assert value in fault


@pytest.mark.parametrize(
    "text",
    ["embed: {batch: ]", "- a\n- b\n", "just text", "embed: {batch: 1}\n\tx: 1", "a: &a [*a", "d: 2001-99-99", "\x00"],
)
def test_what_is_no_yaml_is_one_fault_with_the_file(tmp_path: Path, text: str) -> None:
    """A traceback instead of a line that names the file."""
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    (fault,) = faults((str(file),))
    assert fault.startswith(f"{file}: ")
    assert "\n" not in fault


def test_a_file_that_is_not_utf8(tmp_path: Path) -> None:
    """A traceback for a file in another encoding."""
    file = tmp_path / "mine.yaml"
    file.write_bytes(b"embed: {model: \xff}")
    assert "is not YAML" in faults((str(file),))[0]
    assert "cannot be read" in faults((str(tmp_path),))[0]


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    """A crash on a file of comments only."""
    file = tmp_path / "mine.yaml"
    file.write_text("# nothing yet\n")
    assert config.load((str(file),)) == config.load()


def test_later_sources_win(tmp_path: Path) -> None:
    """A file that beats --set, or that resets what it does not name."""
    first, second = tmp_path / "1.yaml", tmp_path / "2.yaml"
    first.write_text("embed: {batch: 7, retries: 1}\n")
    second.write_text("embed: {batch: 8}\n")
    loaded = config.load((str(first), str(second)), ("embed.timeout_s=9", "neighbours.k=20", "neighbours.k=21"))
    assert (loaded.embed.batch, loaded.embed.retries, loaded.embed.timeout_s) == (8, 1, 9.0)
    assert isinstance(loaded.embed.timeout_s, float)
    assert loaded.neighbours.k == 21
    assert loaded.embed.model == config.load().embed.model


@pytest.mark.parametrize(
    ("override", "section", "key", "value"),
    [
        ("spark.master=spark://host:7077", "spark", "master", "spark://host:7077"),
        ("spark.master=null", "spark", "master", None),
        ("embed.model=a=b@c", "embed", "model", "a=b@c"),
        ("catalog.extensions=[jpg, png]", "catalog", "extensions", ("jpg", "png")),
        ("catalog.stat=false", "catalog", "stat", False),
        ("clusters.threshold=1", "clusters", "threshold", 1.0),
        ("embed.max_failed_share=0.25", "embed", "max_failed_share", 0.25),
    ],
)
def test_set(override: str, section: str, key: str, value: object) -> None:
    """A value that is cut at a second '=' or ':', or that is not read as YAML."""
    found = getattr(getattr(config.load((), (override,)), section), key)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "override",
    ["", "=", "embed=1", "embed.batch", "embed.batch=", "embed.batch=true", "embed.batch=1e2", "nothing.k=1",
     "embed.nothing=1", ".=1", "embed.batch=[", "embed.model=2001-99-99", "issues.dark=.nan", "lease.ttl_s=.inf",
     "issues.dark=true", "spark.driver_memory=4"],
)  # fmt: skip
def test_set_refuses(override: str) -> None:
    """A setting that is taken for something else, or a traceback."""
    (fault,) = faults(overrides=(override,))
    assert fault.startswith("--set: ")


def test_settings_cannot_be_changed_later() -> None:
    """A stage that changes a setting for those after it."""
    loaded = config.load()
    with pytest.raises(dataclasses.FrozenInstanceError):
        loaded.embed.batch = 1  # type: ignore[misc]
