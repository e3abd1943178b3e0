"""Catches a setting that is taken wrongly in silence, and faults that are reported one run at a time."""

import dataclasses
import json
import re
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import yaml
from pydantic import AfterValidator

from jobs import config
from jobs.errors import ConfigError
from udfs.networks import models

# Keys with no rule beyond their type, and why.
FREE = {
    "catalog.stat": "true or false",
    "clean.never_from": "names of splits, which only the lake knows; `clean` refuses one that it lacks",
    "clean.leaks": "names of splits; one that the lake lacks changes nothing",
    "clean.relabel": "true or false",
    "neighbours.mend": "true or false",
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
    if section != "models"  # its keys are names that the user gives; see the tests of cards
    for key in (field.name for field in dataclasses.fields(kind))
]


def has_rule(hint: object) -> bool:
    """Whether a type says more than what kind of value it is."""
    if any(isinstance(one, AfterValidator) for one in getattr(hint, "__metadata__", ())):
        return True
    return any(map(has_rule, get_args(hint)))


RULED = {
    f"{section}.{key}"
    for section, kind in get_type_hints(config.Config).items()
    if section != "models"
    for key, hint in get_type_hints(kind, include_extras=True).items()
    if has_rule(hint)
}


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
    assert RULED | set(FREE) == paths
    assert not RULED & set(FREE)


@pytest.mark.parametrize("path", sorted(RULED))
def test_bounds_refuse(path: str) -> None:
    """A rule that lets everything pass: no rule takes a value far outside."""
    section, _, key = path.partition(".")
    hint = get_type_hints(get_type_hints(config.Config)[section])[key]
    lists = {"catalog.extensions": "[]", "catalog.shards": "[zip]", "embed.detectors": "[smiles]"}
    lists |= {"clean.remove": "[drak]", "clean.thresholds": "{drak: 0.1}"}
    bad = lists.get(path) or ("nonsense" if hint is str else str(-(10**12)))
    (fault,) = faults(overrides=(f"{path}={bad}",))
    assert fault.startswith(f"--set: {path} must ")
    if "1000000000000" in bad:
        (fault,) = faults(overrides=(f"{path}={10**12}",))
        assert fault.startswith(f"--set: {path} must be ")


def test_a_setting_that_has_gone_names_what_takes_its_place(tmp_path: Path) -> None:
    (fault,) = faults(overrides=("labels.flag_below=0.5",))
    assert fault == (
        "--set: labels.flag_below has gone, use labels.flag (balanced, precise or thorough) or labels.precision (0.9)"
    )
    for path in config.REPLACED:
        assert tuple(path.split(".")) not in KEYS


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


def test_a_mapping_of_names_to_numbers(tmp_path: Path) -> None:
    """A later source that wipes out what an earlier one says of other names, and values that are no scores."""
    file = tmp_path / "mine.yaml"
    file.write_text("clean: {thresholds: {dark: 0.1, blurry: 1}}\n")
    loaded = config.load((str(file),), ("clean.thresholds={blurry: null, flat: 0.5}",)).clean.thresholds
    expected = {"dark": 0.1, "blurry": None, "flat": 0.5}
    assert {name: loaded[name] for name in expected} == expected
    for bad in ("[dark]", "{dark: 2}", "{dark: -0.1}", "{dark: true}", "{dark: low}", "{1: 0.5}", "{dark: .nan}"):
        (fault,) = faults(overrides=(f"clean.thresholds={bad}",))
        assert fault.startswith("--set: clean.thresholds must map names to numbers in 0..1 or null, got ")
    both = faults(overrides=("clean.thresholds={drak: 0.1}", "clean.remove=[dark, source_overlap]"))
    assert len(both) == 2


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
        ("catalog.label_separator=|", "catalog", "label_separator", "|"),
        ("catalog.label_separator=#", "catalog", "label_separator", "#"),
        ("catalog.label_separator=,", "catalog", "label_separator", ","),
        ("catalog.label_separator=null", "catalog", "label_separator", None),
        ("clusters.threshold=1", "clusters", "threshold", 1.0),
        ("embed.max_failed_share=0.25", "embed", "max_failed_share", 0.25),
    ],
)
def test_set(override: str, section: str, key: str, value: object) -> None:
    """A value that is cut at a second '=' or ':', that is not read as YAML, or that is a mark of YAML and lost."""
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


# --- cards ---

NETWORK = {
    "format": "torchscript", "weights": "s3://models/sscd.pt", "sha256": "aB" * 32, "input_side": 288, "dimension": 512,
    "mean": [123.675, 116.28, 103.53], "std": 58, "licence": "MIT", "source": "https://example.org",
}  # fmt: skip
TIMM = {**NETWORK, "format": "timm", "architecture": "vit_small_patch14_dinov2.lvd142m"}
VECTORS = {"format": "vectors", "weights": "v.parquet", "dimension": 64, "licence": "ours", "source": "the team"}
NEAR = {
    "near_duplicate_threshold": 0.5, "near_duplicate_margin": 0, "near_duplicate_certain": 0.9,
    "near_duplicate_evidence": 2.5,
}  # fmt: skip


def card_file(folder: Path, cards: object) -> str:
    file = folder / "cards.yaml"
    file.write_text(yaml.safe_dump({"models": cards}, sort_keys=False))
    return str(file)


def test_cards_become_models(tmp_path: Path) -> None:
    """A value of a card that is dropped, or that takes another form than the built-in model's."""
    cards = {"sscd@mixup-1.0": NETWORK, "dino@2": {**TIMM, "fit": "crop", **NEAR}, "mine@1": VECTORS}
    loaded = config.load((card_file(tmp_path, cards),), ("embed.model=sscd@mixup-1.0",))
    sscd, dino, mine = loaded.models.values()
    assert [model.key for model in (sscd, dino, mine)] == list(loaded.models) == list(cards)
    assert (sscd.format, sscd.weights, sscd.sha256) == ("torchscript", "s3://models/sscd.pt", "ab" * 32)
    assert (sscd.input_side, sscd.dimension, sscd.fit) == (288, 512, "stretch")
    assert (sscd.mean, sscd.std) == ((123.675, 116.28, 103.53), (58.0, 58.0, 58.0))
    assert (sscd.licence, sscd.source, sscd.near_duplicate_certain) == ("MIT", "https://example.org", None)
    assert (dino.architecture, dino.fit) == ("vit_small_patch14_dinov2.lvd142m", "crop")
    assert {name: getattr(dino, name) for name in NEAR} == NEAR
    assert (mine.weights, mine.sha256, mine.input_side) == (str(Path.cwd() / "v.parquet"), "", 224)
    assert models.find(loaded.embed.model, loaded.models) is sscd
    assert json.loads(json.dumps(loaded.as_dict()))["models"]["dino@2"]["mean"] == [123.675, 116.28, 103.53]


def test_the_later_card_is_taken_whole(tmp_path: Path) -> None:
    """A card made of halves of two."""
    text = json.dumps({**VECTORS, "dimension": 32})
    loaded = config.load((card_file(tmp_path, {"a@1.0": {**NETWORK, **NEAR}}),), (f"models.a@1.0={text}",))
    assert (loaded.models["a@1.0"].format, loaded.models["a@1.0"].dimension) == ("vectors", 32)
    assert loaded.models["a@1.0"].near_duplicate_margin is None


def test_all_faults_of_all_cards_at_once(tmp_path: Path) -> None:
    """Faults that are reported one run at a time, and a fault without its place, its rule or its value."""
    without = {key: value for key, value in NETWORK.items() if key not in ("sha256", "licence")}
    cards = {
        "a@1": {**without, "colour": "red", "std": 0.225},
        "b@1": {**NETWORK, "format": "pickle", "input_side": 8},
        "nameless": NETWORK,
        "../b@1": NETWORK,
        models.DEFAULT: NETWORK,
        "c@1": 7,
        "d@1": {**VECTORS, "sha256": "ab" * 32, "dimension": 1},
        "e@1": {**NETWORK, "near_duplicate_certain": 0.9},
    }
    file = card_file(tmp_path, cards)
    found = faults((file,), ("embed.batch=0",))
    expected = [
        ("models.a@1.sha256 must be set", ""),
        ("models.a@1.licence must be set", ""),
        ("models.a@1: unknown key 'colour' for torchscript (there are format, ", "mean, std, fit)"),
        ("models.a@1.std must be one number or three, 1..255", "got 0.225"),
        ("models.b@1.format must be one of timm, torchscript, onnx, vectors", "got 'pickle'"),
        ("models.b@1.input_side must be a whole number of pixels, 16..1024", "got 8"),
        ("models.nameless must be name@revision", ""),
        ("models.../b@1 must be name@revision", ""),
        (f"models.{models.DEFAULT} is a model of imagesieve", ""),
        ("models.c@1 must be keys and values", "got 7"),
        ("models.d@1: unknown key 'sha256' for vectors", ""),
        ("models.d@1.dimension must be a whole number, 2..8192", "got 1"),
        ("models.e@1: near_duplicate_threshold, near_duplicate_margin, near_duplicate_evidence must be set too", ""),
    ]
    for text, value in expected:
        (fault,) = (fault for fault in found if fault.startswith(f"{file}: {text}"))
        assert fault.endswith(value)
    assert len(found) == len(expected) + 1
    assert found[-1].startswith("--set: embed.batch must be ")


@pytest.mark.parametrize(
    ("key", "value"),
    [("weights", ""), ("weights", "http://example.org/a.pt"), ("weights", "s3://"), ("weights", 7), ("weights", "a\0b"),
     ("sha256", "ab"), ("sha256", "g" * 64), ("sha256", 10**63), ("input_side", 1025), ("input_side", 224.0),
     ("input_side", True), ("dimension", 8193), ("dimension", "512"), ("mean", 256), ("mean", -1), ("mean", [1, 2]),
     ("mean", [1, 2, 3, 4]), ("mean", [1, 2, "3"]), ("mean", float("nan")), ("std", 0), ("std", [58, 58, 0.2]),
     ("std", float("inf")), ("std", True), ("fit", "squash"), ("licence", " "), ("source", 7), ("licence", ["MIT"]),
     ("architecture", "hf-hub:a/b"), ("architecture", "../a"), ("architecture", ""), ("architecture", 7),
     ("format", ["timm"]), ("near_duplicate_evidence", 2.6), ("near_duplicate_margin", "0.1")],
)  # fmt: skip
def test_a_card_refuses(tmp_path: Path, key: str, value: object) -> None:
    """A value that is found wrong by a worker, or a traceback."""
    found = faults((card_file(tmp_path, {"a@1": {**TIMM, **NEAR, key: value}}),))
    assert any(f": models.a@1.{key} must " in fault and fault.endswith(f"got {value!r}") for fault in found)
    assert key == "format" or len(found) == 1


def test_every_key_of_a_card_is_explained() -> None:
    """A key of a card that conf/defaults.yaml does not name."""
    text = config.default_text()
    section = text[text.index("# Other models") : text.index("models: {}")]
    for key in {**TIMM, "fit": ""}:
        assert re.search(rf"^#   .*\b{key}\b.*: ", section, re.MULTILINE), key
    assert all(f"_{name.rpartition('_')[2]}" in section for name in NEAR)


@pytest.mark.parametrize("kind", ["network", "vectors"])
def test_a_model_that_cannot_be_used_stops_the_run_before_it_writes(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lake that is begun, and a Spark session started, for a model whose weights are others than its card says."""
    from jobs import command

    monkeypatch.setenv("IMAGESIEVE_CACHE", str(tmp_path / "cache"))
    weights = tmp_path / "weights"
    weights.write_bytes(b"other bytes")
    card = {**NETWORK, "weights": str(weights)} if kind == "network" else {**VECTORS, "weights": str(tmp_path / "none")}
    arguments = ["--config", card_file(tmp_path, {"a@1": card}), "--set", "embed.model=a@1"]
    code = command.main(["run", str(tmp_path), "--lake", str(tmp_path / "lake"), *arguments])
    told = capsys.readouterr().err
    assert (code, told.count("\n")) == (2 if kind == "network" else 3, 1)
    assert told.startswith("imagesieve: a@1: ")
    assert ("has SHA-256" if kind == "network" else "check its spelling") in told
    assert not (tmp_path / "lake").exists()
