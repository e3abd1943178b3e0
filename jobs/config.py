"""Settings: one frozen dataclass a section, defaults in conf/defaults.yaml, every fault reported at once."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import yaml

from jobs.errors import ConfigError
from jobs.tables import ISSUES, SOURCE_OVERLAP
from udfs.networks.cards import read_card
from udfs.networks.models import Model


@dataclass(frozen=True)
class Catalog:
    extensions: tuple[str, ...]
    shards: tuple[str, ...]
    stat: bool
    max_removed_share: float


@dataclass(frozen=True)
class Embed:
    model: str
    runtime: str
    max_bytes: int
    max_pixels: int
    fetch_threads: int
    timeout_s: float
    retries: int
    batch: int
    images_per_task: int
    images_per_commit: int
    max_failed_share: float
    decode_timeout_s: float
    gpu_share: float


@dataclass(frozen=True)
class Neighbours:
    k: int
    exact_images: int
    cell_mb: float
    probes: int | None
    fine_probes: int
    sample_per_centre: int
    iterations: int
    recall_images: int
    recall_floor: float
    pair_recall_floor: float


@dataclass(frozen=True)
class Clusters:
    threshold: float | None
    margin: float | None
    certain: float | None
    evidence: float | None
    keeper_slack: float
    engine: str
    max_edges_one_process: int
    max_component: int


@dataclass(frozen=True)
class Labels:
    min_images: int
    max_classes: int
    folds: int
    sample_images: int
    flag_below: float


@dataclass(frozen=True)
class Content:
    concepts: int
    topics: int | None
    typical: int


@dataclass(frozen=True)
class Issues:
    dark: float
    bright: float
    blurry: float
    noisy: float
    blocky: float
    low_contrast: float
    low_information: float
    flat: float
    low_quality: float
    odd_size: float
    odd_aspect_ratio: float
    grayscale: float
    outlier: float
    class_outlier: float


@dataclass(frozen=True)
class Clean:
    remove: tuple[str, ...]
    thresholds: dict[str, float | None]
    max_share: float
    keep: str
    never_from: tuple[str, ...]
    leaks: tuple[str, ...]
    relabel: bool
    min_confidence: float


@dataclass(frozen=True)
class Report:
    images_per_issue: int
    per_page: int
    topics: int
    topic_images: int
    thumbnail_side: int


@dataclass(frozen=True)
class Lease:
    ttl_s: float


@dataclass(frozen=True)
class Metrics:
    namespace: str | None
    usd_per_hour: float | None


@dataclass(frozen=True)
class Spark:
    engine: str
    embedded_images: int
    embedded_gb: float
    master: str | None
    driver_memory: str
    driver_java_options: str
    shuffle_partitions: int | None
    delta_package: str | None
    graphframes_package: str | None
    s3_packages: tuple[str, ...] | None
    s3_excludes: tuple[str, ...] | None


@dataclass(frozen=True)
class Config:
    """All settings of a run. Plain values: workers get single values of it, never the object."""

    catalog: Catalog
    embed: Embed
    models: dict[str, Model]  # the user's own, by name@revision
    neighbours: Neighbours
    clusters: Clusters
    labels: Labels
    content: Content
    issues: Issues
    clean: Clean
    report: Report
    lease: Lease
    metrics: Metrics
    spark: Spark

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Sections of plain values, as JSON can hold them."""
        return dataclasses.asdict(self)


# By which `clean` can remove images. Not source_overlap: which of two sources gives way cannot be known, and where
# duplicates go, it goes with them.
CLEANED = tuple(issue for issue in ISSUES if issue != SOURCE_OVERLAP)
ENGINES = ("sail", "spark", "auto")
KEEP = ("best", "oldest", "largest", "first")
_SECTIONS: dict[str, Any] = get_type_hints(Config)
_CARDS = "models"  # the one section whose keys are names


def _between(low: float, high: float) -> tuple[Callable[[Any], bool], str]:
    return (lambda v: low <= v <= high), f"must be {low:g}..{high:g}"


def _one_of(*names: str) -> tuple[Callable[[Any], bool], str]:
    return (lambda v: v in names), "must be one of " + ", ".join(names)


def _names(*known: str) -> tuple[Callable[[Any], bool], str]:
    return (lambda v: set(v) <= set(known)), "must name issues of these: " + ", ".join(known)


_NAME_AT_REVISION = (lambda v: "@" in v, "must be name@revision")
# AWS/… is AWS's own.
_NAMESPACE = (
    lambda v: re.fullmatch(r"(?!AWS/)[A-Za-z0-9._/#-]{1,255}", v) is not None,
    "must be up to 255 of A-Z a-z 0-9 . _ / # - and not begin with AWS/",
)

# What a value must be beyond its type, as it is said to the user.
_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "catalog.extensions": (lambda v: len(v) > 0, "must name at least one extension"),
    "catalog.shards": (lambda v: set(v) <= {"tar", "parquet"}, "must name tar, parquet, both or none"),
    "catalog.max_removed_share": _between(0, 1),
    "embed.model": _NAME_AT_REVISION,
    "embed.runtime": _one_of("auto", "openvino", "torch", "torch-fp32"),
    "embed.max_bytes": _between(1, 2**31 - 1),
    "embed.max_pixels": _between(1, 2**31 - 1),
    "embed.fetch_threads": _between(1, 256),
    "embed.timeout_s": _between(0.1, 3600),
    "embed.retries": _between(0, 20),
    "embed.batch": _between(1, 10_000),
    "embed.images_per_task": _between(1, 1_000_000),
    "embed.images_per_commit": _between(1, 10**9),
    "embed.max_failed_share": _between(0, 1),
    "embed.decode_timeout_s": _between(1, 3600),
    "embed.gpu_share": _between(0.01, 1),
    "neighbours.k": _between(10, 100),
    "neighbours.exact_images": _between(1, 100_000),
    "neighbours.cell_mb": _between(0.001, 16_384),
    "neighbours.probes": _between(1, 64),
    "neighbours.fine_probes": _between(1, 256),
    "neighbours.sample_per_centre": _between(1, 1024),
    "neighbours.iterations": _between(0, 100),
    "neighbours.recall_images": _between(0, 10_000),
    "neighbours.recall_floor": _between(0, 1),
    "neighbours.pair_recall_floor": _between(0, 1),
    "clusters.threshold": _between(0, 1),
    "clusters.margin": _between(0, 1),
    "clusters.certain": _between(0, 1),
    "clusters.evidence": _between(0, 2.5),
    "clusters.keeper_slack": _between(0, 1),
    "clusters.engine": _one_of("auto", "scipy", "graphframes"),
    "clusters.max_edges_one_process": _between(0, 10**9),
    "clusters.max_component": _between(2, 100_000),
    "labels.min_images": _between(2, 100_000),
    "labels.max_classes": _between(2, 20_000),
    "labels.folds": _between(2, 20),
    "labels.sample_images": _between(1000, 1_000_000),
    "labels.flag_below": _between(0, 1),
    "content.concepts": _between(0, 20),
    "content.topics": _between(1, 1000),
    "content.typical": _between(1, 100),
    **{f"issues.{field.name}": _between(0, 1) for field in dataclasses.fields(Issues)},
    "clean.remove": _names(*CLEANED),
    "clean.thresholds": _names(*CLEANED),
    "clean.max_share": _between(0, 1),
    "clean.keep": _one_of(*KEEP),
    "clean.min_confidence": _between(0, 1),
    "report.images_per_issue": _between(1, 10_000),
    "report.per_page": _between(1, 1000),
    "report.topics": _between(0, 10_000),
    "report.topic_images": _between(1, 100),
    "report.thumbnail_side": _between(16, 1024),
    "lease.ttl_s": _between(1, 3600),
    "metrics.namespace": _NAMESPACE,
    "metrics.usd_per_hour": _between(0, 1_000_000),
    "spark.engine": _one_of(*ENGINES),
    "spark.embedded_images": _between(0, 10**11),
    "spark.embedded_gb": _between(0, 10**9),
    "spark.shuffle_partitions": _between(1, 100_000),
}


def conf_text(name: str) -> str:
    """A file of conf, beside the packages: in a checkout, in site-packages, or in the zip of --py-files."""
    from importlib import resources

    root: Any = resources.files("jobs")
    return str((root.parent / "conf" / name).read_text(encoding="utf-8"))


def default_text() -> str:
    """The settings of a run that gives none."""
    return conf_text("defaults.yaml")


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
            _merge(values, {section: {key: yaml.safe_load(text)}}, "--set", faults)
        except (yaml.YAMLError, ValueError):
            faults.append(f"--set: {path} is not a YAML value, got {text!r}")
    if faults:
        raise ConfigError("; ".join(faults))
    sections: dict[str, Any] = {name: kind(**values[name]) for name, kind in _SECTIONS.items() if name != _CARDS}
    return Config(**sections, models=values[_CARDS])


def _merge(values: dict[str, dict[str, Any]], given: object, where: str, faults: list[str]) -> None:
    """Puts the checked settings of one source into values, and its faults into faults."""
    if not isinstance(given, Mapping):
        faults.append(f"{where}: must be sections of settings")
        return
    for section, settings in given.items():
        if section not in _SECTIONS:
            faults.append(f"{where}: unknown section {section!r} (there are {', '.join(_SECTIONS)})")
            continue
        if not isinstance(settings, Mapping):
            faults.append(f"{where}: {section} must be a section of settings, got {settings!r}")
            continue
        if section == _CARDS:
            for key, card in settings.items():
                model, found = read_card(key, card)
                faults += [f"{where}: {section}.{key}{fault}" for fault in found]
                if model is not None:
                    values[section][key] = model  # of two cards of one key the later is taken, whole
            continue
        hints = get_type_hints(_SECTIONS[section])
        for key, value in settings.items():
            path = f"{section}.{key}"
            if key not in hints:
                faults.append(f"{where}: unknown key {path} (there are {', '.join(hints)})")
                continue
            checked, fault = _check(path, value, hints[key])
            if fault:
                faults.append(f"{where}: {path} {fault}, got {value!r}")
            elif isinstance(checked, dict):
                values[section][key] = {
                    **values[section].get(key, {}),
                    **checked,
                }  # a later source changes single names
            else:
                values[section][key] = checked


def _is_name_and_share(name: object, share: object) -> bool:
    if isinstance(share, bool) or not isinstance(share, int | float | None):
        return False
    return isinstance(name, str) and (share is None or 0 <= share <= 1)


def _check(path: str, value: Any, hint: Any) -> tuple[Any, str | None]:
    """The value as the hint's type, and what is wrong with it or None."""
    kinds = get_args(hint) or (hint,)
    if value is None:
        return None, None if type(None) in kinds else "must be set"
    if tuple[str, ...] in (hint, *kinds):
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            return None, "must be a list of texts"
        value = tuple(value)
    elif hint == dict[str, float | None]:
        if not isinstance(value, Mapping) or not all(_is_name_and_share(*item) for item in value.items()):
            return None, "must map names to numbers in 0..1 or null"
        value = {name: None if share is None else float(share) for name, share in value.items()}
    elif float in kinds and isinstance(value, int | float) and not isinstance(value, bool):
        value = float(value)
    else:
        wanted = next(kind for kind in kinds if kind is not type(None))
        if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
            names = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
            return None, f"must be {names[wanted]}"
    rule = _RULES.get(path)
    if rule is not None and not rule[0](value):
        return None, rule[1]
    return value, None
