"""Prices and assumptions of conf/prices.yaml, which says what each of them is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from emr.costs.figures_file import Reader, Section
from emr.costs.hardware import EC2_KINDS

S3_KEYS = (
    "get_usd_per_1000",
    "put_usd_per_1000",
    "list_usd_per_1000",
    "storage_usd_per_gb_month",
    "inventory_usd_per_million",
)
# Lowest, highest, and whether it must be above the lowest.
ASSUMPTIONS: dict[str, tuple[float, float, bool]] = {
    "spot_discount": (0, 1, False),
    "utilisation": (0, 1, True),
    "start_hours": (0, math.inf, False),
    "within_hours": (0, math.inf, True),
    "disk_gb": (0, math.inf, False),
    "disk_slack": (1, math.inf, False),
    "range_bytes": (0, math.inf, True),
    "shard_passes": (0, math.inf, False),
    "keys_per_list": (0, math.inf, True),
    "table_puts_per_1000": (0, math.inf, False),
    "table_gets_per_1000": (0, math.inf, False),
}
SECTIONS = ("as_of", "region", "source", "instances", "fleets", "serverless", "disk_usd_per_gb_month", "s3", "s3_move",
            "assumptions", "claim")  # fmt: skip
INSTANCE_KEYS = ("kind", "vcpus", "usd_per_hour", "emr_usd_per_hour", "vcpu_speed", "gpu_images_per_s", "why")
SERVERLESS_KEYS = ("vcpus", "memory_gb", "usd_per_vcpu_hour", "usd_per_gb_hour", "usd_per_disk_gb_hour",
                   "free_disk_gb", "vcpu_speed", "why")  # fmt: skip
FLEETS = (*EC2_KINDS, "primary")


@dataclass(frozen=True)
class Instance:
    """usd_per_hour: EC2 on demand. emr_usd_per_hour: on top of it. gpu_images_per_s: None without a GPU."""

    name: str
    vcpus: float
    usd_per_hour: float
    emr_usd_per_hour: float
    vcpu_speed: float
    gpu_images_per_s: float | None
    why: str


@dataclass(frozen=True)
class Serverless:
    """A worker of EMR Serverless, driver or executor."""

    vcpus: float
    memory_gb: float
    usd_per_vcpu_hour: float
    usd_per_gb_hour: float
    usd_per_disk_gb_hour: float
    free_disk_gb: float
    vcpu_speed: float
    why: str


@dataclass(frozen=True)
class Claim:
    images: float
    usd: float
    hours: float
    source: str


@dataclass(frozen=True)
class Prices:
    """cpu, gpu, primary: names of instances. s3 and assumptions: by their keys."""

    as_of: str
    region: str
    source: str
    instances: Mapping[str, Instance]
    cpu: str
    gpu: str
    primary: str
    serverless: Serverless
    disk_usd_per_gb_month: float
    s3: Mapping[str, float]
    assumptions: Mapping[str, float]
    claim: Claim


def load(path: Path | None = None) -> Prices:
    """conf/prices.yaml, or another file of its shape. Raises ConfigError with all faults."""
    read = Reader("prices.yaml", path)
    given = read.given
    read.known(given, SECTIONS)
    sections = read.section(given, "instances")
    instances = {name: _instance(read, name, read.section(sections, name, "instances.")) for name in sections or {}}
    fleets = read.section(given, "fleets")
    read.known(fleets, FLEETS, "fleets.")
    chosen = {key: read.text(fleets, key, "fleets.") for key in FLEETS}
    for key, name in chosen.items():
        if not name or sections is None:
            continue
        if name not in instances:
            read.fault(f"fleets.{key}", f"one of {', '.join(instances)}", name)
        elif key != "primary" and (instances[name].gpu_images_per_s is None) == (key == "gpu"):
            read.fault(f"fleets.{key}", f"an instance of kind {key}", name)
    s3, assumptions = read.section(given, "s3"), read.section(given, "assumptions")
    read.known(s3, S3_KEYS, "s3.")
    read.known(assumptions, tuple(ASSUMPTIONS), "assumptions.")
    claim = read.section(given, "claim")
    prices = Prices(
        read.day("as_of"),
        read.text(given, "region"),
        read.text(given, "source"),
        instances,
        chosen["cpu"],
        chosen["gpu"],
        chosen["primary"],
        _serverless(read, read.section(given, "serverless")),
        read.number(given, "disk_usd_per_gb_month", ""),
        {key: read.number(s3, key, "s3.") for key in S3_KEYS},
        {
            key: read.number(assumptions, key, "assumptions.", low, high, above)
            for key, (low, high, above) in ASSUMPTIONS.items()
        },
        Claim(
            read.number(claim, "images", "claim.", above=True),
            read.number(claim, "usd", "claim.", above=True),
            read.number(claim, "hours", "claim.", above=True),
            read.text(claim, "source", "claim."),
        ),
    )
    if prices.assumptions["within_hours"] <= prices.assumptions["start_hours"]:
        read.fault("assumptions.within_hours", "more than start_hours", prices.assumptions["within_hours"])
    read.done()
    return prices


def _instance(read: Reader, name: str, given: Section) -> Instance:
    where = f"instances.{name}."
    read.known(given, INSTANCE_KEYS, where)
    kind = read.text(given, "kind", where)
    if kind and kind not in EC2_KINDS:
        read.fault(f"{where}kind", "cpu or gpu", kind)
    return Instance(
        name,
        read.number(given, "vcpus", where, above=True),
        read.number(given, "usd_per_hour", where, above=True),
        read.number(given, "emr_usd_per_hour", where),
        read.number(given, "vcpu_speed", where, above=True),
        read.number(given, "gpu_images_per_s", where, above=True) if kind == "gpu" else None,
        read.text(given, "why", where),
    )


def _serverless(read: Reader, given: Section) -> Serverless:
    where = "serverless."
    read.known(given, SERVERLESS_KEYS, where)
    numbers = {key: read.number(given, key, where, above=key in ("vcpus", "vcpu_speed"))
               for key in SERVERLESS_KEYS if key != "why"}  # fmt: skip
    return Serverless(**numbers, why=read.text(given, "why", where))
