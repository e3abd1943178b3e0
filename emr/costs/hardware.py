"""The shape of clusters, from conf/clusters.yaml: instances, fleets in units of one executor, settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic.dataclasses import dataclass

from jobs.config import read_figures
from jobs.errors import ConfigError
from udfs.typed import CLOSED, NAMED, Day, Fault, String, Texts, Truth, Whole, at, at_least, rule

EC2_KINDS = ("cpu", "gpu")
KINDS = (*EC2_KINDS, "serverless")
_Size = Annotated[Whole, at_least(0)]
_Names = Annotated[Texts, rule(len, "must be a list of texts")]
_Settings = dict[String, String]


@dataclass(frozen=True, config=CLOSED)
class Instance:
    """memory_mb in 2^20 bytes. gpu: its name, "" where there is none."""

    name: String
    vcpus: _Size
    memory_mb: _Size
    gpus: _Size = 0
    gpu: String = ""
    gpu_memory_gib: _Size = 0
    nvme_gb: _Size = 0
    bf16: Truth = False


@dataclass(frozen=True, config=CLOSED)
class Executor:
    """Of an executor, or a driver: memory in 2^20 bytes, the JVM's and Python's. disk_gb: 0 where not set here."""

    cores: _Size
    heap_mb: _Size
    overhead_mb: _Size
    disk_gb: _Size = 0

    @property
    def memory_mb(self) -> int:
        return self.heap_mb + self.overhead_mb


@dataclass(frozen=True, config=CLOSED)
class Kind:
    """One kind of cluster. primary, core, task: names of instances, none for serverless, which alone has a driver."""

    name: String
    release: String
    spark: String
    executor: Executor
    primary: _Names = ()
    core: _Names = ()
    task: _Names = ()
    tasks_per_gpu: _Size = 0
    driver: Executor | None = None
    initial_executors: _Size = 0
    auto_stop_minutes: _Size = 0


@dataclass(frozen=True, config=CLOSED)
class Limits:
    idle_s: _Size
    spot_timeout_minutes: _Size
    least_task_units: _Size
    driver_heap_mb: _Size
    root_gb: _Size
    disk_gb: _Size


@dataclass(frozen=True, config=CLOSED)
class Hardware:
    """All of the file. stages: Spark settings by stage."""

    checked_on: Day
    instances: Annotated[dict[str, Instance], NAMED]
    system_mb: Annotated[Whole, at_least(1)]
    kinds: Annotated[dict[str, Kind], NAMED]
    limits: Limits
    delta_jars: _Names
    spark: _Settings
    stages: dict[str, _Settings]


def units(instance: Instance, executor: Executor, system_mb: int) -> int:
    """Executors that fit into an instance; of one with GPUs at most one for each. 0 where none fits."""
    fit = min(instance.vcpus // executor.cores, (instance.memory_mb - system_mb) // executor.memory_mb)
    return max(0, min(fit, instance.gpus) if instance.gpus else fit)


def load(path: Path | None = None) -> Hardware:
    """conf/clusters.yaml, or another file of its shape. Raises ConfigError with all faults."""
    hardware = read_figures(Hardware, "clusters.yaml", path, _together)
    for kind in hardware.kinds.values():
        for name in kind.task:
            if units(hardware.instances[name], kind.executor, hardware.system_mb) < 1:
                raise ConfigError(f"conf/clusters.yaml: kinds.{kind.name}.task: no executor fits into {name}")
    return hardware


def _together(given: Any) -> list[Fault]:
    """What only shows where several values are seen together."""
    faults = []
    kinds = given["kinds"] if isinstance(given.get("kinds"), Mapping) else {}
    for kind in (*KINDS, *kinds):
        if (kind in KINDS) != (kind in kinds):
            faults.append(Fault(("kinds", kind), "there are " + ", ".join(KINDS), None, kind in kinds, kind in KINDS))
    for kind in EC2_KINDS if kinds else ():
        for fleet in ("primary", "core", "task"):
            names = at(kinds, kind, fleet)
            if names is None:
                faults.append(Fault(("kinds", kind, fleet), "", None, missing=True))
            for name in names if isinstance(names, list) else ():
                if at(given, "instances", name) is None:
                    faults.append(Fault(("kinds", kind, fleet), "must be names of instances above", name))
    if kinds and at(kinds, "serverless", "driver") is None:
        faults.append(Fault(("kinds", "serverless", "driver"), "", None, missing=True))
    return faults
