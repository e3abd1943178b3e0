"""The shape of clusters, from conf/clusters.yaml: instances, fleets in units of one executor, settings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from emr.costs.figures_file import Reader, Section
from jobs.errors import ConfigError

EC2_KINDS = ("cpu", "gpu")
KINDS = (*EC2_KINDS, "serverless")


@dataclass(frozen=True)
class Instance:
    """memory_mb in 2^20 bytes. gpu: its name, "" where there is none."""

    name: str
    vcpus: int
    memory_mb: int
    gpus: int = 0
    gpu: str = ""
    gpu_memory_gib: int = 0
    nvme_gb: int = 0
    bf16: bool = False


@dataclass(frozen=True)
class Executor:
    """Of an executor, or a driver: memory in 2^20 bytes, the JVM's and Python's. disk_gb: 0 where not set here."""

    cores: int
    heap_mb: int
    overhead_mb: int
    disk_gb: int = 0

    @property
    def memory_mb(self) -> int:
        return self.heap_mb + self.overhead_mb


@dataclass(frozen=True)
class Kind:
    """One kind of cluster. primary, core, task: names of instances, none for serverless."""

    name: str
    release: str
    spark: str
    executor: Executor
    primary: tuple[str, ...] = ()
    core: tuple[str, ...] = ()
    task: tuple[str, ...] = ()
    tasks_per_gpu: int = 0
    driver: Executor | None = None
    initial_executors: int = 0
    auto_stop_minutes: int = 0


@dataclass(frozen=True)
class Limits:
    idle_s: int
    spot_timeout_minutes: int
    least_task_units: int
    driver_heap_mb: int
    root_gb: int
    disk_gb: int


@dataclass(frozen=True)
class Hardware:
    """All of the file. stages: Spark settings by stage."""

    checked_on: str
    instances: Mapping[str, Instance]
    system_mb: int
    kinds: Mapping[str, Kind]
    limits: Limits
    delta_jars: tuple[str, ...]
    spark: Mapping[str, str]
    stages: Mapping[str, Mapping[str, str]]


def units(instance: Instance, executor: Executor, system_mb: int) -> int:
    """Executors that fit into an instance; of one with GPUs at most one for each. 0 where none fits."""
    fit = min(instance.vcpus // executor.cores, (instance.memory_mb - system_mb) // executor.memory_mb)
    return max(0, min(fit, instance.gpus) if instance.gpus else fit)


def load(path: Path | None = None) -> Hardware:
    """conf/clusters.yaml, or another file of its shape. Raises ConfigError with all faults."""
    read = Reader("clusters.yaml", path)
    given = read.given
    read.known(given, [field.name for field in fields(Hardware)])
    named = read.section(given, "instances") or {}
    instances = {name: _made(read, Instance, values, f"instances.{name}.", name=name) for name, values in named.items()}
    sections = read.section(given, "kinds") or {}
    read.known(sections, KINDS, "kinds.")
    kinds = {name: _kind(read, name, sections.get(name)) for name in KINDS}
    for kind in kinds.values():
        for fleet, names in (("primary", kind.primary), ("core", kind.core), ("task", kind.task)):
            for name in names:
                if name not in instances:
                    read.fault(f"kinds.{kind.name}.{fleet}", "names of instances above", name)
    hardware = Hardware(
        read.day("checked_on"),
        instances,
        _whole(read, given, "system_mb"),
        kinds,
        _made(read, Limits, read.section(given, "limits"), "limits."),
        _texts(read, given, "delta_jars"),
        _settings(read, read.section(given, "spark"), "spark."),
        {name: _settings(read, values, f"stages.{name}.") for name, values in (given.get("stages") or {}).items()},
    )
    read.done()
    for kind in hardware.kinds.values():
        for name in kind.task:
            if units(instances[name], kind.executor, hardware.system_mb) < 1:
                raise ConfigError(f"{read.file}: kinds.{kind.name}.task: no executor fits into {name}")
    return hardware


def _kind(read: Reader, name: str, given: Section) -> Kind:
    where = f"kinds.{name}."
    if not isinstance(given, Mapping):
        read.fault(f"kinds.{name}", "a section", given)
        given = {}
    read.known(given, [field.name for field in fields(Kind) if field.name != "name"], where)
    fleets = {fleet: _texts(read, given, fleet, where) for fleet in ("primary", "core", "task") if name in EC2_KINDS}
    whole = {key: _whole(read, given, key, where, least=0)
             for key in ("tasks_per_gpu", "initial_executors", "auto_stop_minutes") if key in given}  # fmt: skip
    driver = None
    if name not in EC2_KINDS:
        driver = _made(read, Executor, read.section(given, "driver", where), f"{where}driver.")
    executor = _made(read, Executor, read.section(given, "executor", where), f"{where}executor.")
    release, spark = read.text(given, "release", where), read.text(given, "spark", where)
    return Kind(name, release, spark, executor, driver=driver, **fleets, **whole)  # type: ignore[arg-type]


def _made(read: Reader, kind: Any, given: Any, where: str, **more: Any) -> Any:
    """A dataclass of whole numbers, texts and truths from a section; fields with a default may be missing."""
    values = dict(more)
    if not isinstance(given, Mapping):
        read.fault(where.rstrip("."), "a section", given)
        given = {}
    wanted = [field for field in fields(kind) if field.name not in more]
    read.known(given, [field.name for field in wanted], where)
    for field in wanted:
        if field.name not in given and field.default is not MISSING:
            continue
        if field.type == "int":
            values[field.name] = _whole(read, given, field.name, where, least=0)
        elif field.type == "bool":
            values[field.name] = given[field.name] is True
        else:
            values[field.name] = read.text(given, field.name, where)
    return kind(**values)


def _whole(read: Reader, given: Section, key: str, where: str = "", least: int = 1) -> int:
    value = read.number(given, key, where, low=least)
    return least if math.isnan(value) else int(value)


def _texts(read: Reader, given: Section, key: str, where: str = "") -> tuple[str, ...]:
    value = (given or {}).get(key)
    if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
        read.fault(where + key, "a list of texts", value)
        return ()
    return tuple(value)


def _settings(read: Reader, given: Section, where: str) -> dict[str, str]:
    for key, value in (given or {}).items():
        if not isinstance(value, str):
            read.fault(where + key, "a text in quotes", value)
    return {key: str(value) for key, value in (given or {}).items()}
