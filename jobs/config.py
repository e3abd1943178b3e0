"""Settings: one frozen dataclass a section, defaults in conf/defaults.yaml, every fault reported at once."""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import yaml
from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass

from jobs.errors import ConfigError
from jobs.tables import ISSUES, SOURCE_OVERLAP
from udfs.detection.detectors import DETECTORS
from udfs.images.relation_names import RELATIONS
from udfs.networks.cards import read_card
from udfs.networks.models import Model
from udfs.typed import CLOSED, Fault, Number, String, Texts, Truth, Whole, between, checked, made, one_of, rule

T = TypeVar("T")
# By which `clean` can remove images. Not source_overlap: which of two sources gives way cannot be known, and where
# duplicates go, it goes with them.
CLEANED = tuple(issue for issue in ISSUES if issue != SOURCE_OVERLAP)
ENGINES = ("sail", "spark", "auto")
KEEP = ("best", "oldest", "largest", "first")


def _scores(value: Any) -> dict[str, float | None]:
    if not isinstance(value, Mapping) or not all(_is_name_and_share(*item) for item in value.items()):
        raise TypeError
    return {name: None if share is None else float(share) for name, share in value.items()}


def _is_name_and_share(name: object, share: object) -> bool:
    if isinstance(share, bool) or not isinstance(share, int | float | None):
        return False
    return isinstance(name, str) and (share is None or 0 <= share <= 1)


_NAMED = rule(lambda value: set(value) <= set(CLEANED), "must name issues of these: " + ", ".join(CLEANED))
_RELATIONS = rule(lambda value: set(value) <= set(RELATIONS), "must name relations of these: " + ", ".join(RELATIONS))
Share = Annotated[Number, between(0, 1)]
# Settings that there were, and what has taken their place.
REPLACED = {"labels.flag_below": "labels.flag (balanced, precise or thorough) or labels.precision (0.9)"}


@dataclass(frozen=True, config=CLOSED)
class Catalog:
    extensions: Annotated[Texts, rule(len, "must name at least one extension")]
    shards: Annotated[Texts, rule(lambda v: set(v) <= {"tar", "parquet"}, "must name tar, parquet, both or none")]
    stat: Truth
    label_separator: Annotated[String, rule(lambda v: 0 < len(v) <= 10, "must have 1 to 10 characters")] | None
    max_removed_share: Share


@dataclass(frozen=True, config=CLOSED)
class Embed:
    model: Annotated[String, rule(lambda value: "@" in value, "must be name@revision")]
    runtime: Annotated[String, one_of("auto", "openvino", "torch", "torch-fp32")]
    detectors: Annotated[Texts, rule(lambda v: set(v) <= set(DETECTORS), "must name faces, text, both or none")]
    max_bytes: Annotated[Whole, between(1, 2**31 - 1)]
    max_pixels: Annotated[Whole, between(1, 2**31 - 1)]
    fetch_threads: Annotated[Whole, between(1, 256)]
    timeout_s: Annotated[Number, between(0.1, 3600)]
    retries: Annotated[Whole, between(0, 20)]
    batch: Annotated[Whole, between(1, 10_000)]
    images_per_task: Annotated[Whole, between(1, 1_000_000)]
    images_per_commit: Annotated[Whole, between(1, 10**9)]
    max_failed_share: Share
    decode_timeout_s: Annotated[Number, between(1, 3600)]
    gpu_share: Annotated[Number, between(0.01, 1)]


@dataclass(frozen=True, config=CLOSED)
class Neighbours:
    k: Annotated[Whole, between(10, 100)]
    exact_images: Annotated[Whole, between(1, 100_000)]
    cell_mb: Annotated[Number, between(0.001, 16_384)]
    probes: Annotated[Whole, between(1, 64)] | None
    fine_probes: Annotated[Whole, between(1, 256)]
    sample_per_centre: Annotated[Whole, between(1, 1024)]
    iterations: Annotated[Whole, between(0, 100)]
    recall_images: Annotated[Whole, between(0, 10_000)]
    recall_floor: Share
    pair_recall_floor: Share
    mend: bool


@dataclass(frozen=True, config=CLOSED)
class Clusters:
    threshold: Share | None
    margin: Share | None
    certain: Share | None
    evidence: Annotated[Number, between(0, 2.5)] | None
    same: Annotated[Texts, _RELATIONS]
    keeper_slack: Share
    engine: Annotated[String, one_of("auto", "scipy", "graphframes")]
    max_edges_one_process: Annotated[Whole, between(0, 10**9)]
    max_component: Annotated[Whole, between(2, 100_000)]


@dataclass(frozen=True, config=CLOSED)
class Labels:
    min_images: Annotated[Whole, between(2, 100_000)]
    max_classes: Annotated[Whole, between(2, 20_000)]
    folds: Annotated[Whole, between(2, 20)]
    sample_images: Annotated[Whole, between(1000, 1_000_000)]
    flag: Annotated[String, one_of("balanced", "precise", "thorough")]
    precision: Annotated[Number, between(0.01, 1)] | None


@dataclass(frozen=True, config=CLOSED)
class Content:
    concepts: Annotated[Whole, between(0, 20)]
    topics: Annotated[Whole, between(1, 1000)] | None
    typical: Annotated[Whole, between(1, 100)]


@dataclass(frozen=True, config=CLOSED)
class Index:
    most_images: Annotated[Whole, between(0, 1_000_000_000)]


@dataclass(frozen=True, config=CLOSED)
class Issues:
    dark: Share
    bright: Share
    blurry: Share
    noisy: Share
    blocky: Share
    low_contrast: Share
    low_information: Share
    flat: Share
    low_quality: Share
    odd_size: Share
    odd_aspect_ratio: Share
    grayscale: Share
    needs_release: Share
    mostly_text: Share
    outlier: Share
    class_outlier: Share
    common_share: Share


@dataclass(frozen=True, config=CLOSED)
class Clean:
    remove: Annotated[Texts, _NAMED]
    thresholds: Annotated[dict[str, float | None], made(_scores, "must map names to numbers in 0..1 or null"), _NAMED]
    max_share: Share
    keep: Annotated[String, one_of(*KEEP)]
    never_from: Texts
    leaks: Texts
    relabel: Truth
    min_confidence: Share
    rating: Annotated[String, rule(lambda value: "@" in value, "must be name@revision")] | None
    rating_by: Annotated[String, one_of("cluster", "topic", "label")]
    rating_keep: Annotated[Number, between(0.001, 1_000_000)]


@dataclass(frozen=True, config=CLOSED)
class Report:
    images_per_issue: Annotated[Whole, between(1, 10_000)]
    per_page: Annotated[Whole, between(1, 1000)]
    topics: Annotated[Whole, between(0, 10_000)]
    topic_images: Annotated[Whole, between(1, 100)]
    rating_images: Annotated[Whole, between(0, 1000)]
    rating_maps: Annotated[Whole, between(0, 100)]
    thumbnail_side: Annotated[Whole, between(16, 1024)]


@dataclass(frozen=True, config=CLOSED)
class Lease:
    ttl_s: Annotated[Number, between(1, 3600)]


_NAMESPACE = rule(  # AWS/… is AWS's own
    lambda value: re.fullmatch(r"(?!AWS/)[A-Za-z0-9._/#-]{1,255}", value) is not None,
    "must be up to 255 of A-Z a-z 0-9 . _ / # - and not begin with AWS/",
)


@dataclass(frozen=True, config=CLOSED)
class Metrics:
    namespace: Annotated[String, _NAMESPACE] | None
    usd_per_hour: Annotated[Number, between(0, 1_000_000)] | None


@dataclass(frozen=True, config=CLOSED)
class Spark:
    engine: Annotated[String, one_of(*ENGINES)]
    embedded_images: Annotated[Whole, between(0, 10**11)]
    embedded_gb: Annotated[Number, between(0, 10**9)]
    master: String | None
    driver_memory: String
    driver_java_options: String
    shuffle_partitions: Annotated[Whole, between(1, 100_000)] | None
    delta_package: String | None
    graphframes_package: String | None
    s3_packages: Texts | None
    s3_excludes: Texts | None


@dataclass(frozen=True, config=CLOSED)
class Config:
    """All settings of a run. Plain values: workers get single values of it, never the object."""

    catalog: Catalog
    embed: Embed
    models: dict[str, Model]  # the user's own, by name@revision
    neighbours: Neighbours
    clusters: Clusters
    labels: Labels
    content: Content
    index: Index
    issues: Issues
    clean: Clean
    report: Report
    lease: Lease
    metrics: Metrics
    spark: Spark

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Sections of plain values, as JSON can hold them."""
        return dataclasses.asdict(self)


_SECTIONS: dict[str, Any] = get_type_hints(Config)
_CARDS = "models"  # the one section whose keys are names


def conf_text(name: str) -> str:
    """A file of conf, beside the packages: in a checkout, in site-packages, or in the zip of --py-files."""
    from importlib import resources

    root: Any = resources.files("jobs")
    return str((root.parent / "conf" / name).read_text(encoding="utf-8"))


def read_figures(
    kind: type[T], name: str, path: Path | None = None, also: Callable[[Any], list[Fault]] = lambda _: []
) -> T:
    """A file of conf, or one at a path, as a type. also: what more is wrong with what the file holds, beyond the types.

    Raises ConfigError with all faults."""
    file = str(path) if path else f"conf/{name}"
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8") if path else conf_text(name))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: not UTF-8, or a date that is none
        raise ConfigError(f"{file}: is not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(given, Mapping):
        raise ConfigError(f"{file}: must be sections of figures, got {given!r}")
    found, faults = checked(kind, given)
    if faults := [*faults, *also(given)]:
        raise ConfigError("; ".join(f"{file}: {fault.told()}" for fault in faults))
    value: T = found
    return value


def default_text() -> str:
    """The settings of a run that gives none."""
    return conf_text("defaults.yaml")


# What --set takes as it stands: marks that would begin something else in YAML, such as | or #.
_MARKS = re.compile(r"""[^\w\s\[\]{}"'~-]+""")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options --config and --set, whose values, `config` and `overrides`, are for load()."""
    parser.add_argument(
        "--config", action="append", default=[], metavar="FILE", help="settings as YAML, over the defaults"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE", dest="overrides",
        help="one setting, over all files",
    )  # fmt: skip


def load(files: Iterable[str] = (), overrides: Iterable[str] = ()) -> Config:
    """The defaults, then each YAML file, then each `section.key=value`.

    Raises ConfigError that lists every fault as where, rule, value."""
    faults: list[str] = []
    values: dict[str, dict[str, Any]] = {name: {} for name in _SECTIONS}
    _merge(values, yaml.safe_load(default_text()), "conf/defaults.yaml", faults)
    for file in files:
        try:
            _merge(values, yaml.safe_load(Path(file).read_text(encoding="utf-8")) or {}, file, faults)
        except OSError as error:
            faults.append(f"{file}: cannot be read ({error.strerror})")
        except (yaml.YAMLError, ValueError) as error:  # ValueError: not UTF-8, or a date that is none
            faults.append(f"{file}: is not YAML ({str(error).splitlines()[0]})")
    for override in overrides:
        path, equals, text = override.partition("=")
        section, dot, key = path.partition(".")
        if not (equals and dot):
            faults.append(f"--set: must be section.key=value, got {override!r}")
            continue
        try:
            value = text if _MARKS.fullmatch(text) else yaml.safe_load(text)
            _merge(values, {section: {key: value}}, "--set", faults)
        except (yaml.YAMLError, ValueError):
            faults.append(f"--set: {path} is not a YAML value, got {text!r}")
    if faults:
        raise ConfigError("; ".join(faults))
    return TypeAdapter(Config).validate_python(values)


def _merge(values: dict[str, dict[str, Any]], given: object, where: str, faults: list[str]) -> None:
    """Puts the settings of one source into values, and its faults into faults."""
    if not isinstance(given, Mapping):
        faults.append(f"{where}: must be sections of settings")
        return
    cards = given.get(_CARDS)
    _, found = checked(Config, {**given, _CARDS: {}} if isinstance(cards, Mapping) else given)
    found = [fault for fault in found if not fault.missing]
    wrong = {fault.where for fault in found}
    places = [(str(section), str(key)) for section, keys in given.items() for key in ("", *_keys(keys))]
    found.sort(key=lambda fault: places.index(((*fault.where, "")[0], (*fault.where, "", "")[1])))
    faults += [f"{where}: {_told(fault)}" for fault in found]
    for section, settings in given.items():
        if section == _CARDS and isinstance(cards, Mapping):
            for key, card in cards.items():
                model, told = read_card(key, card)
                faults += [f"{where}: {section}.{key}{fault}" for fault in told]
                values[section][key] = model  # of two cards of one key the later is taken, whole
        elif (str(section),) not in wrong:
            for key, value in settings.items():
                earlier = values[section].get(key)
                # A later source changes single names.
                values[section][key] = (
                    {**earlier, **value} if isinstance(earlier, Mapping) and isinstance(value, Mapping) else value
                )


def _told(fault: Fault) -> str:
    path = ".".join(fault.where)
    return f"{path} has gone, use {REPLACED[path]}" if path in REPLACED else fault.told(of_settings=True)


def _keys(given: object) -> Iterable[object]:
    return given if isinstance(given, Mapping) else ()
