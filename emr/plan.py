"""What would be run: stages, fleets, places, and the plan as a person reads it before saying yes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from emr.clients import printable
from emr.costs.cost import Estimate
from emr.costs.hardware import Hardware, Instance, Kind, units
from emr.packages.manifest import Package

TAG = "imagesieve"  # on clusters, applications and job runs of this tool; the keys below start with it
TAG_LAKE = "imagesieve:lake"
TAG_TOKEN = "imagesieve:token"  # noqa: S105 (tells one submit from another; no secret)
TAG_KIND = "imagesieve:kind"


@dataclass(frozen=True)
class Places:
    """Where a run happens, by the stack's outputs or by options. URIs are canonical; "" and () where there is none.

    service_role, instance_profile: names. serverless_role: an ARN. package: s3://…/imagesieve-VERSION."""

    bucket: str = ""
    log_uri: str = ""
    package: str = ""
    service_role: str = ""
    instance_profile: str = ""
    serverless_role: str = ""
    subnets: tuple[str, ...] = ()
    security_configuration: str = ""
    dashboard: str = ""


@dataclass(frozen=True)
class Job:
    """What imagesieve itself is told. overrides: of --set. lake and inputs are canonical."""

    inputs: tuple[str, ...]
    lake: str
    stages: tuple[str, ...]
    layout: str | None = None
    overrides: tuple[str, ...] = ()
    owner: str | None = None


@dataclass(frozen=True)
class Plan:
    """All that decides the request. token: of this submit alone. task_types: in the order of conf/clusters.yaml."""

    kind: Kind
    hardware: Hardware
    job: Job
    places: Places
    package: Package
    region: str
    token: str
    task_units: int
    disk_gb: int
    usd_per_hour: float
    task_types: tuple[Instance, ...] = ()

    @property
    def name(self) -> str:
        """Of the cluster or job run; unique to this submit."""
        return f"{TAG}-{self.kind.name}-{self.token}"

    @property
    def tags(self) -> dict[str, str]:
        return {
            TAG: self.package.version,
            TAG_KIND: self.kind.name,
            TAG_LAKE: lake_tag(self.job.lake),
            TAG_TOKEN: self.token,
        }

    @property
    def core_units(self) -> int:
        """One node of the fleet's first type: for HDFS and the application master."""
        first = self.hardware.instances[self.kind.core[0]]
        return max(1, self.units(first))

    def units(self, instance: Instance) -> int:
        return units(instance, self.kind.executor, self.hardware.system_mb)

    @property
    def vcpus(self) -> tuple[int, int]:
        """(on demand, spot) that the fleets take at most, by their largest type for a unit."""
        if not self.kind.task:
            return 0, 0
        instances = self.hardware.instances
        primary = max(instances[name].vcpus for name in self.kind.primary)
        core = max(instances[name].vcpus for name in self.kind.core)
        spot = max(-(-self.task_units // max(1, self.units(type_))) * type_.vcpus for type_ in self.task_types)
        return primary + core, spot


def lake_tag(lake: str) -> str:
    """A tag's value that tells one lake from another: tags hold neither all characters of a key nor all its length."""
    return hashlib.sha256(lake.encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Findings:
    """What the checks of AWS have found out for the plan. spot: USD an hour by (type, zone). spread: lowest and highest
    of the last days by type. offered: zones by type. notes: what could not be found out, and what to look after."""

    spot: Mapping[tuple[str, str], float] = field(default_factory=dict)
    spread: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    notes: Sequence[str] = ()


def lines(plan: Plan, estimate: Estimate | None, counted: str, findings: Findings, new: bool = True) -> list[str]:
    """The plan for a person: what is started, where, what runs, how long and for how much. counted: how the number of
    images came about. estimate: None where it is not known. new: whether a cluster is started."""
    kind, job = plan.kind, plan.job
    out = [
        f"Plan {plan.name}",
        f"  cluster    {kind.name}: {kind.release}, Spark {kind.spark}, region {plan.region}",
        f"  images     {counted}",
        *[f"  input      {printable(uri)}" for uri in job.inputs],
        f"  lake       {printable(job.lake)}",
        f"  package    {printable(plan.places.package)}",
        f"  logs       {printable(plan.places.log_uri)}",
    ]
    if not new:
        out.append(f"  stages     {', '.join(job.stages)}, on a cluster that is there")
    elif kind.task:
        out += _fleets(plan, findings)
    else:
        shape = kind.executor
        memory = f"{shape.memory_mb / 1024:g} GB"
        out.append(f"  workers    up to {plan.task_units} of {shape.cores} vCPUs and {memory}, and a driver")
    if estimate is None:
        notes = [*findings.notes, "hours and cost are not estimated: give --images N and --bytes-per-image B"]
        return [*out, "", *[f"  note: {printable(note)}" for note in notes]]
    out += ["", "  stage          hours        USD"]
    out += [f"  {cost.stage:<11} {cost.hours:>8.2f} {cost.usd:>10,.2f}" for cost in estimate.stages]
    out += [
        f"  {'in all':<11} {estimate.hours:>8.2f} {estimate.usd:>10,.2f}   ({estimate.usd_per_hour:,.2f} USD an hour)",
        "  S3's requests come on top: imagesieve emr cost",
        "",
    ]
    out += [f"  note: {printable(note)}" for note in [*findings.notes, *estimate.notes]]
    return out


def _fleets(plan: Plan, findings: Findings) -> list[str]:
    kind = plan.kind
    shape = kind.executor
    out = [
        f"  primary    1 on demand: {', '.join(kind.primary)}",
        f"  core       1 on demand: {', '.join(kind.core)}",
        f"  task       {plan.task_units} executors of {shape.cores} vCPUs and {shape.memory_mb / 1024:g} GiB, on spot; "
        f"on demand for what is missing after {plan.hardware.limits.spot_timeout_minutes} minutes",
    ]
    for type_ in plan.task_types:
        prices = [usd for (name, _), usd in sorted(findings.spot.items()) if name == type_.name]
        text = f"    {type_.name:<13} {plan.units(type_)} executors, "
        if prices:
            low, high = findings.spread[type_.name]
            text += f"spot {min(prices):.4f} USD an hour (in 7 days {low:.4f}..{high:.4f}; EMR's part not counted)"
        else:
            text += "no spot price known"
        out.append(text)
    return out
