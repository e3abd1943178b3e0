"""Whether EC2 has what a plan asks for: types, zones, spot prices and the account's quotas.

What a server does not answer is a note, and the checks go on."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from emr.checks import Found
from emr.clients import Clients, is_aws_error, reason
from emr.costs.hardware import Instance
from emr.errors import AwsError
from emr.plan import Plan
from jobs.errors import ConfigError
from udfs.stores.s3 import aws_code

# vCPUs of "Standard" (A, C, D, H, I, M, R, T, Z) and of "G and VT" instances, on spot and on demand.
QUOTAS = {
    ("standard", "spot"): "L-34B43A08",
    ("standard", "on demand"): "L-1216C47A",
    ("g", "spot"): "L-3819A6DF",
    ("g", "on demand"): "L-DB2E81BA",
}
ARCHITECTURE = "x86_64"  # of emr.packages.archive.PLATFORM
SPOT_DAYS = 7
_ENTRIES = 20_000  # of the price history, at most


def instances(clients: Clients, names: Sequence[str], known: dict[str, Instance], found: Found) -> dict[str, Instance]:
    """The instance types as EC2 knows them. Unknown ones are faults, and those that the package was not built for;
    conf/clusters.yaml is compared with the answer."""

    def ask() -> list[dict[str, Any]]:
        pages = (
            clients.get("ec2")
            .get_paginator("describe_instance_types")
            .paginate(Filters=[{"Name": "instance-type", "Values": list(names)}])
        )
        return [told for page in pages for told in page["InstanceTypes"]]

    answer = found.optional("the instance types", ask)
    if answer is None:
        for name in names:
            if name not in known:
                found.fault(AwsError, f"instance type {name} is not in conf/clusters.yaml, and EC2 does not tell")
        return dict(known)
    out = {}
    for told in answer:
        name = told["InstanceType"]
        if ARCHITECTURE not in told["ProcessorInfo"]["SupportedArchitectures"]:
            found.fault(ConfigError, f"instance type {name} is not {ARCHITECTURE}, which the package is built for")
        gpus = sum(gpu.get("Count", 0) for gpu in told.get("GpuInfo", {}).get("Gpus", ()))
        vcpus, memory_mb = told["VCpuInfo"]["DefaultVCpus"], told["MemoryInfo"]["SizeInMiB"]
        mine = known.get(name)
        if mine and (mine.vcpus, mine.memory_mb, mine.gpus) != (vcpus, memory_mb, gpus):
            figures = f"{vcpus} vCPUs, {memory_mb} MiB, {gpus} GPUs"
            found.note(f"{name}: EC2 says {figures}, unlike conf/clusters.yaml: EC2's figures are taken")
            mine = None
        out[name] = mine or Instance(name, vcpus, memory_mb, gpus)
    for name in names:
        if name not in out:
            found.fault(ConfigError, f"instance type {name} does not exist in {clients.region}: choose others with "
                        "--task-types")  # fmt: skip
    return out


def zones(clients: Clients, subnets: Sequence[str], found: Found) -> list[str]:
    """The availability zones of the subnets, sorted. An unknown subnet is a fault."""
    if not subnets:  # which has been told
        return []
    try:
        answer = clients.get("ec2").describe_subnets(SubnetIds=list(subnets))
    except Exception as error:
        if not is_aws_error(error):
            raise
        if aws_code(error)[0].startswith("InvalidSubnet"):
            found.fault(ConfigError, f"subnets: {reason(error)}")
        else:
            found.note(f"the subnets could not be asked: {reason(error)}")
        return []
    return sorted({subnet["AvailabilityZone"] for subnet in answer["Subnets"]})


def offerings(clients: Clients, plan: Plan, where: Sequence[str], found: Found) -> None:
    """Whether each fleet has a type that is offered in a zone of the subnets."""
    names = list(dict.fromkeys([*plan.kind.primary, *plan.kind.core, *[type_.name for type_ in plan.task_types]]))

    def ask() -> set[str]:
        pages = (
            clients.get("ec2")
            .get_paginator("describe_instance_type_offerings")
            .paginate(LocationType="availability-zone", Filters=[{"Name": "instance-type", "Values": names}])
        )
        return {
            offer["InstanceType"] for page in pages for offer in page["InstanceTypeOfferings"]
            if offer["Location"] in where
        }  # fmt: skip

    offered = found.optional("where instance types are offered", ask) if where else None
    if offered is None:
        return
    fleets = {"primary": plan.kind.primary, "core": plan.kind.core,
              "task": tuple(type_.name for type_ in plan.task_types)}  # fmt: skip
    for fleet, types in fleets.items():
        missing = [name for name in types if name not in offered]
        if len(missing) == len(types):
            found.fault(ConfigError, f"{fleet} fleet: none of {', '.join(types)} is offered in {', '.join(where)}: "
                        "other --subnets, or other types")  # fmt: skip
        elif missing:
            found.note(f"{fleet} fleet: {', '.join(missing)} not offered in {', '.join(where)}")


@dataclass(frozen=True)
class Spot:
    """prices: USD an hour now by (type, zone). spread: lowest and highest of the last SPOT_DAYS by type."""

    prices: dict[tuple[str, str], float] = field(default_factory=dict)
    spread: dict[str, tuple[float, float]] = field(default_factory=dict)


def spot(clients: Clients, names: Sequence[str], where: Sequence[str], found: Found) -> Spot:
    """Prices on the spot market. A type without one in any zone has no capacity there; none at all is a fault."""
    if not where:
        return Spot()

    def ask() -> list[dict[str, Any]]:
        start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=SPOT_DAYS)
        pages = (
            clients.get("ec2")
            .get_paginator("describe_spot_price_history")
            .paginate(
                InstanceTypes=list(names),
                ProductDescriptions=["Linux/UNIX", "Linux/UNIX (Amazon VPC)"],
                StartTime=start,
                Filters=[{"Name": "availability-zone", "Values": list(where)}],
                PaginationConfig={"MaxItems": _ENTRIES},
            )
        )
        return [price for page in pages for price in page["SpotPriceHistory"]]

    history = found.optional("spot prices", ask)
    if history is None:
        return Spot()
    newest: dict[tuple[str, str], tuple[Any, float]] = {}
    spread: dict[str, tuple[float, float]] = {}
    for entry in history:
        name, zone, usd, at = (
            entry["InstanceType"],
            entry["AvailabilityZone"],
            float(entry["SpotPrice"]),
            entry["Timestamp"],
        )
        if zone not in where or name not in names:
            continue
        if (name, zone) not in newest or at >= newest[name, zone][0]:
            newest[name, zone] = (at, usd)
        low, high = spread.get(name, (usd, usd))
        spread[name] = (min(low, usd), max(high, usd))
    prices = {key: usd for key, (_, usd) in newest.items()}
    if not prices:
        found.fault(AwsError, f"no spot price for any of {', '.join(names)} in {', '.join(where)}, so no spot capacity "
                    "there: choose other types with --task-types, other --subnets, or another --region")  # fmt: skip
    else:
        for name in names:
            missing = [zone for zone in where if (name, zone) not in prices]
            if missing:
                found.note(f"{name}: no spot price in {', '.join(missing)}, so no spot capacity there")
    return Spot(prices, spread)


def quotas(clients: Clients, plan: Plan, found: Found) -> None:
    """The account's vCPUs by market and family against what the fleets may take. What else runs is not counted."""
    on_demand, on_spot = plan.vcpus
    family = "g" if plan.kind.tasks_per_gpu else "standard"
    for market, needed in ((("standard", "on demand"), on_demand), ((family, "spot"), on_spot)):
        value = _quota(clients, market, found)
        if value is not None and value < needed:
            found.fault(AwsError, f"the quota of {_named(market)} is {value:g} vCPUs, the plan takes {needed}: raise "
                        "it in Service Quotas, or give fewer with --units")  # fmt: skip
    needed = on_spot if family == "g" else on_demand + on_spot
    value = _quota(clients, (family, "on demand"), found)
    if value is not None and value < needed:
        told = f"the quota of {_named((family, 'on demand'))} is {value:g} vCPUs"
        found.note(f"{told}: where spot has no capacity, not all of it can be had on demand")


def _quota(clients: Clients, market: tuple[str, str], found: Found) -> float | None:
    def ask() -> float:
        client = clients.get("service-quotas", attempts=2)
        return float(client.get_service_quota(ServiceCode="ec2", QuotaCode=QUOTAS[market])["Quota"]["Value"])

    answer = found.optional(f"the quota of {_named(market)}", ask)
    return None if answer is None else float(answer)


def _named(market: tuple[str, str]) -> str:
    family, way = market
    instances = "G and VT instances" if family == "g" else "standard instances"
    return f"{instances} {'on spot' if way == 'spot' else way} ({QUOTAS[market]})"
