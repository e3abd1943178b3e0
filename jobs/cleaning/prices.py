"""Prices and assumptions of conf/prices.yaml, which says what each of them is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic.dataclasses import dataclass

from jobs.config import read_figures
from udfs.typed import CLOSED, NAMED, Day, Fault, Number, String, Text, above, at, at_least, between, rule

Positive = Annotated[Number, above(0)]
Amount = Annotated[Number, at_least(0)]


@dataclass(frozen=True, config=CLOSED)
class Instance:
    """usd_per_hour: EC2 on demand. emr_usd_per_hour: on top of it. gpu_images_per_s: of a kind gpu alone."""

    name: String
    kind: Annotated[String, rule(lambda value: value in ("cpu", "gpu"), "must be cpu or gpu")]
    vcpus: Positive
    usd_per_hour: Positive
    emr_usd_per_hour: Amount
    vcpu_speed: Positive
    why: Text
    gpu_images_per_s: Positive | None = None


@dataclass(frozen=True, config=CLOSED)
class Fleets:
    """Names of instances."""

    cpu: Text
    gpu: Text
    primary: Text


@dataclass(frozen=True, config=CLOSED)
class Serverless:
    """A worker of EMR Serverless, driver or executor."""

    vcpus: Positive
    memory_gb: Amount
    usd_per_vcpu_hour: Amount
    usd_per_gb_hour: Amount
    usd_per_disk_gb_hour: Amount
    free_disk_gb: Amount
    vcpu_speed: Positive
    why: Text


@dataclass(frozen=True, config=CLOSED)
class Store:
    """Of S3 Standard."""

    get_usd_per_1000: Amount
    put_usd_per_1000: Amount
    list_usd_per_1000: Amount
    storage_usd_per_gb_month: Amount
    inventory_usd_per_million: Amount


@dataclass(frozen=True, config=CLOSED)
class StorageClass:
    """A colder class of S3."""

    usd_per_gb_month: Amount
    copy_usd_per_1000: Amount
    min_bytes: Amount
    extra_bytes: Amount
    extra_standard_bytes: Amount
    min_days: Amount


@dataclass(frozen=True, config=CLOSED)
class Moves:
    """Of moving and tagging objects."""

    batch_usd_per_job: Amount
    batch_usd_per_million: Amount
    tag_usd_per_1000: Amount
    tags_usd_per_10000_month: Amount
    classes: dict[str, StorageClass]


@dataclass(frozen=True, config=CLOSED)
class Assumptions:
    spot_discount: Annotated[Number, between(0, 1)]
    utilisation: Annotated[Positive, between(0, 1)]
    start_hours: Amount
    within_hours: Positive
    disk_gb: Amount
    disk_slack: Annotated[Number, at_least(1)]
    range_bytes: Positive
    shard_passes: Amount
    keys_per_list: Positive
    table_puts_per_1000: Amount
    table_gets_per_1000: Amount


@dataclass(frozen=True, config=CLOSED)
class Claim:
    images: Positive
    usd: Positive
    hours: Positive
    source: Text


@dataclass(frozen=True, config=CLOSED)
class Prices:
    """All of the file, in US dollars."""

    as_of: Day
    region: Text
    source: Text
    instances: Annotated[dict[str, Instance], NAMED]
    fleets: Fleets
    serverless: Serverless
    disk_usd_per_gb_month: Amount
    s3: Store
    s3_move: Moves
    assumptions: Assumptions
    claim: Claim


def load(path: Path | None = None) -> Prices:
    """conf/prices.yaml, or another file of its shape. Raises ConfigError with all faults."""
    return read_figures(Prices, "prices.yaml", path, _together)


def _together(given: Any) -> list[Fault]:
    """What only shows where several values are seen together."""
    faults = []
    instances: Mapping[str, Any] = given["instances"] if isinstance(given.get("instances"), Mapping) else {}
    for name in instances:
        if at(instances, name, "kind") == "gpu" and at(instances, name, "gpu_images_per_s") is None:
            faults.append(Fault(("instances", name, "gpu_images_per_s"), "", None, missing=True))
    for kind in ("cpu", "gpu", "primary") if instances else ():
        where, name = ("fleets", kind), at(given, "fleets", kind)
        if name is not None and name not in instances:
            faults.append(Fault(where, f"must be one of {', '.join(instances)}", name))
        elif name is not None and kind != "primary" and at(instances, name, "kind") != kind:
            faults.append(Fault(where, f"must be an instance of kind {kind}", name))
    start, within = (at(given, "assumptions", key) for key in ("start_hours", "within_hours"))
    if isinstance(start, int | float) and isinstance(within, int | float) and within <= start:
        faults.append(Fault(("assumptions", "within_hours"), "must be more than start_hours", within))
    return faults
