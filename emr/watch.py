"""`imagesieve emr status`, `logs` and `cancel`: what runs, what it has said and cost so far, and how to end it.

What AWS does not answer is told as not known; the rest is told all the same."""

from __future__ import annotations

import argparse
import datetime
import gzip
import re
import sys
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from emr import start
from emr.checks import ACTIVE, ACTIVE_JOBS, Found
from emr.clients import Clients, asking, harmless, is_aws_error, printable
from emr.errors import AwsError
from emr.plan import TAG
from emr.submit import USD_PER_HOUR, agreed
from jobs.cleaning import prices as price_file
from jobs.cleaning.prices import Prices
from jobs.errors import ConfigError
from udfs.stores import uris
from udfs.stores.s3 import aws_code

LINE = 10_000  # characters of a log's line that are shown
DAYS = 7  # that `status --all` looks back
_CLUSTER = re.compile(r"j-[A-Z0-9]{1,40}")
_JOB = re.compile(r"[a-z0-9A-Z]{1,64}/[a-z0-9A-Z]{1,64}")
_ENDED = ("COMPLETED", "FAILED", "CANCELLED", "INTERRUPTED")
_ENDED_JOB = ("SUCCESS", "FAILED", "CANCELLED")


@dataclass(frozen=True)
class Step:
    """A stage on a cluster. Times: None before."""

    id: str
    stage: str
    state: str
    started: datetime.datetime | None
    ended: datetime.datetime | None
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """A cluster or a job run. usd: so far, None where it is not known. notes: what AWS did not tell."""

    id: str
    name: str
    state: str
    why: str
    began: datetime.datetime | None
    ended: datetime.datetime | None
    steps: Sequence[Step] = ()
    usd: float | None = None
    nodes: str = ""
    notes: Sequence[str] = field(default_factory=tuple)


def add_status_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", nargs="?", metavar="ID", help="j-…, or application/run of EMR Serverless")
    parser.add_argument("--all", action="store_true", help=f"also what has ended in the last {DAYS} days")
    _add_region(parser)


def add_logs_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID")
    parser.add_argument(
        "--stage", help="of a cluster (default: the one that runs, else the last one that failed or ran)"
    )
    parser.add_argument("--stream", choices=("stdout", "stderr", "both"), default="both")
    parser.add_argument("--follow", action="store_true", help="go on until the stage has ended")
    parser.add_argument("--every", type=float, default=30.0, metavar="SECONDS", help="with --follow (default: 30)")
    _add_region(parser)


def add_cancel_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID")
    parser.add_argument("--keep-cluster", action="store_true", help="cancel the stages, let the cluster live")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    _add_region(parser)


def _add_region(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--region", help="default: AWS_REGION, or the profile's")


def run_status(arguments: argparse.Namespace) -> int:
    clients = Clients(arguments.region)
    if arguments.id:
        runs, notes = [_run(clients, arguments.id)], []
    else:
        found = Found()
        runs = [*_clusters(clients, arguments.all, found), *_jobs(clients, arguments.all, found)]
        notes = found.notes
        if not runs:
            sys.stdout.write(f"nothing of imagesieve runs in {clients.region}\n")
    now = datetime.datetime.now(datetime.UTC)
    for run in runs:
        sys.stdout.write("\n".join(lines(run, now)) + "\n")
    for note in notes:
        sys.stdout.write(f"note: {printable(note)}\n")
    return 0


def run_logs(arguments: argparse.Namespace) -> int:
    clients = Clients(arguments.region)
    streams = ("stdout", "stderr") if arguments.stream == "both" else (arguments.stream,)
    shown: dict[str, int] = {}
    while True:
        folder, ended = _log_folder(clients, arguments.id, arguments.stage)
        for stream in streams:
            _print_log(clients, folder, stream, len(streams) > 1, shown, arguments.follow)
        if ended or not arguments.follow:
            break
        time.sleep(max(0.1, arguments.every))
    if not any(shown.values()):
        sys.stderr.write(f"no log below {printable(folder)} yet: EMR writes them about every 5 minutes\n")
    return 0


def run_cancel(arguments: argparse.Namespace) -> int:
    clients = Clients(arguments.region)
    run = _run(clients, arguments.id)
    sys.stdout.write("\n".join(lines(run, datetime.datetime.now(datetime.UTC))) + "\n")
    if not arguments.yes and not agreed(f"Cancel {run.id}?"):
        return 0
    if "/" in run.id:
        start.cancel_job(clients, run.id)
        sys.stdout.write(f"{run.id} is being cancelled; what is committed stays\n")
        return 0
    found = Found()
    waiting = [step.id for step in run.steps if step.state not in _ENDED]
    if waiting:
        answer = found.optional(
            "the stages",
            lambda: clients.get("emr", attempts=2).cancel_steps(
                ClusterId=run.id, StepIds=waiting, StepCancellationOption="TERMINATE_PROCESS"
            ),
            failed="could not be cancelled one by one",
        )
        if answer is not None:
            sys.stdout.write(f"{len(waiting)} stages of {run.id} are being cancelled\n")
    for note in found.notes:
        sys.stdout.write(f"note: {printable(note)}\n")
    if arguments.keep_cluster:
        return AwsError.exit_code if found.notes else 0
    start.terminate(clients, run.id)
    sys.stdout.write(f"{run.id} is being ended; what is committed stays\n")
    return 0


def lines(run: Run, now: datetime.datetime) -> list[str]:
    """A run for a person. now: with a time zone."""
    head = f"{printable(run.id)}  {printable(run.name)}  {run.state}"
    if run.began:
        head += f"  {_span((run.ended or now) - run.began)}"
    out = [head + (f"  ({printable(run.why, 300)})" if run.why else "")]
    if run.steps:
        done = sum(step.state == "COMPLETED" for step in run.steps)
        out.append(f"  {done} of {len(run.steps)} stages done")
    for step in run.steps:
        took = f"  {_span((step.ended or now) - step.started)}" if step.started else ""
        out.append(f"  {printable(step.stage, 40):<11} {step.state:<10}{took}")
    if run.nodes:
        out.append(f"  nodes: {run.nodes}")
    out.append(f"  cost so far: {f'{run.usd:,.2f} USD, by conf/prices.yaml' if run.usd is not None else 'not known'}")
    return out + [f"  note: {printable(note)}" for note in run.notes]


def _span(length: datetime.timedelta) -> str:
    minutes = max(0, int(length.total_seconds())) // 60
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"


def _run(clients: Clients, identity: str) -> Run:
    """Raises ConfigError for what is no id, AwsError where there is none of it."""
    if _CLUSTER.fullmatch(identity):
        return _cluster(clients, identity)
    if _JOB.fullmatch(identity):
        return _job(clients, identity)
    raise ConfigError(f"{printable(identity)} is no id: give j-… of a cluster, or application/run of EMR Serverless")


def _clusters(clients: Clients, ended: bool, found: Found) -> list[Run]:
    more: dict[str, Any] = {"ClusterStates": ACTIVE}
    if ended:
        more = {"CreatedAfter": datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=DAYS)}

    def ask() -> list[str]:
        pages = clients.get("emr").get_paginator("list_clusters").paginate(**more, PaginationConfig={"MaxItems": 1000})
        return [one["Id"] for page in pages for one in page["Clusters"] if str(one["Name"]).startswith(TAG)]

    return [_cluster(clients, identity) for identity in found.optional("the clusters", ask) or []]


def _cluster(clients: Clients, identity: str) -> Run:
    emr = clients.get("emr")
    with asking(f"cluster {identity}"):
        told = emr.describe_cluster(ClusterId=identity)["Cluster"]
    found = Found()
    steps = found.optional("its stages", lambda: _steps(emr, identity)) or []
    status = told["Status"]
    times = status.get("Timeline", {})
    began, ended = times.get("CreationDateTime"), times.get("EndDateTime")
    usd, nodes = _cost(clients, identity, found)
    if usd is None and began is not None:
        usd = _planned_cost(steps, (ended or datetime.datetime.now(datetime.UTC)) - began, found)
    why = status.get("StateChangeReason", {}).get("Message", "")
    return Run(identity, told["Name"], status["State"], why, began, ended, steps, usd, nodes, found.notes)


def _steps(emr: Any, identity: str) -> list[Step]:
    """In the order in which they were added."""
    pages = emr.get_paginator("list_steps").paginate(ClusterId=identity)
    out = []
    for page in pages:
        for step in page["Steps"]:
            times = step["Status"].get("Timeline", {})
            out.append(
                Step(step["Id"], step["Name"], step["Status"]["State"], times.get("StartDateTime"),
                     times.get("EndDateTime"), tuple(step["Config"].get("Args", ())))
            )  # fmt: skip
    return out[::-1]  # AWS gives the newest first


def _cost(clients: Clients, identity: str, found: Found) -> tuple[float | None, str]:
    """USD of the instances until now, by their hours and conf/prices.yaml; and how many there are, as a text."""
    emr = clients.get("emr", attempts=2)
    fleets = found.optional("the fleets", lambda: emr.list_instance_fleets(ClusterId=identity)["InstanceFleets"])
    units = ""
    for fleet in fleets or ():
        on_demand, spot = fleet.get("ProvisionedOnDemandCapacity", 0), fleet.get("ProvisionedSpotCapacity", 0)
        units += f"{', ' if units else ''}{str(fleet['InstanceFleetType']).lower()} {on_demand + spot} units"

    def ask() -> list[dict[str, Any]]:
        pages = emr.get_paginator("list_instances").paginate(ClusterId=identity, PaginationConfig={"MaxItems": 20_000})
        return [one for page in pages for one in page["Instances"]]

    instances = found.optional("the instances", ask)
    if not instances:
        return None, units
    prices = price_file.load()
    now = datetime.datetime.now(datetime.UTC)
    usd, unknown = 0.0, set()
    for one in instances:
        times = one.get("Status", {}).get("Timeline", {})
        if one.get("InstanceType") not in prices.instances or "CreationDateTime" not in times:
            unknown.add(str(one.get("InstanceType")))
            continue
        hours = ((times.get("EndDateTime") or now) - times["CreationDateTime"]).total_seconds() / 3600
        usd += hours * _hourly(prices, one)
    if unknown:
        found.note(f"the cost of {', '.join(sorted(unknown))} is not counted: no price in conf/prices.yaml")
    alive = sum("EndDateTime" not in one.get("Status", {}).get("Timeline", {}) for one in instances)
    return usd, f"{alive} instances{f' ({units})' if units else ''}"


def _hourly(prices: Prices, instance: Mapping[str, Any]) -> float:
    known = prices.instances[instance["InstanceType"]]
    off = prices.assumptions.spot_discount if instance.get("Market") == "SPOT" else 0.0
    return known.usd_per_hour * (1 - off) + known.emr_usd_per_hour


def _planned_cost(steps: Sequence[Step], span: datetime.timedelta, found: Found) -> float | None:
    """USD by the time and by what the plan said that an hour costs; it stands in the arguments of the steps."""
    for step in steps:
        for argument in step.arguments:
            if argument.startswith(USD_PER_HOUR):
                found.note("the cost is what the plan said of an hour, times the hours: no instances are known")
                return float(argument.removeprefix(USD_PER_HOUR)) * span.total_seconds() / 3600
    return None


def _jobs(clients: Clients, ended: bool, found: Found) -> list[Run]:
    def ask() -> list[str]:
        client = clients.get("emr-serverless", attempts=2)
        out = []
        for application in client.list_applications(maxResults=50)["applications"]:
            if not str(application.get("name", "")).startswith(TAG):
                continue
            more: dict[str, Any] = {"states": ACTIVE_JOBS}
            if ended:
                more = {"createdAtAfter": datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=DAYS)}
            runs = client.list_job_runs(applicationId=application["id"], maxResults=50, **more)["jobRuns"]
            out += [f"{application['id']}/{run['id']}" for run in runs]
        return out

    return [_job(clients, identity) for identity in found.optional("the job runs of EMR Serverless", ask) or []]


def _job(clients: Clients, identity: str) -> Run:
    told = _job_run(clients, identity)
    prices = price_file.load().serverless
    used = told.get("billedResourceUtilization") or told.get("totalResourceUtilization") or {}
    usd = None
    if any(used.values()):
        usd = (
            used.get("vCPUHour", 0) * prices.usd_per_vcpu_hour
            + used.get("memoryGBHour", 0) * prices.usd_per_gb_hour
            + used.get("storageGBHour", 0) * prices.usd_per_disk_gb_hour
        )
    ended = told.get("updatedAt") if told["state"] in _ENDED_JOB else None
    notes = () if any(used.values()) else ("AWS tells what a job run has used when it has ended",)
    return Run(identity, told.get("name", ""), told["state"], told.get("stateDetails") or "", told.get("createdAt"),
               ended, (), usd, "", notes)  # fmt: skip


def _job_run(clients: Clients, identity: str) -> dict[str, Any]:
    application, _, run = identity.partition("/")
    with asking(f"job run {identity}"):
        answer = clients.get("emr-serverless").get_job_run(applicationId=application, jobRunId=run)
    return dict(answer["jobRun"])


def _log_folder(clients: Clients, identity: str, stage: str | None) -> tuple[str, bool]:
    """Where stdout.gz and stderr.gz of a stage lie, and whether it has ended. Raises ConfigError, AwsError."""
    if _JOB.fullmatch(identity):
        told = _job_run(clients, identity)
        monitoring = told.get("configurationOverrides", {}).get("monitoringConfiguration", {})
        log_uri = monitoring.get("s3MonitoringConfiguration", {}).get("logUri")
        if not log_uri:
            raise ConfigError(f"job run {identity} writes no logs to S3")
        application, _, name = identity.partition("/")
        parts = ("applications", application, "jobs", name, "SPARK_DRIVER")
        return uris.join(uris.canonical(log_uri), *parts), told["state"] in _ENDED_JOB
    run = _run(clients, identity)
    step = _chosen(run.steps, stage)
    if step is None:
        there = ", ".join(dict.fromkeys(printable(step.stage, 40) for step in run.steps)) or "none"
        raise ConfigError(f"{identity} has no stage {printable(stage or '')}: there are {there}")
    with asking(f"cluster {identity}"):
        log_uri = clients.get("emr").describe_cluster(ClusterId=identity)["Cluster"].get("LogUri")
    if not log_uri:
        raise ConfigError(f"cluster {identity} writes no logs to S3")
    return uris.join(uris.canonical(log_uri), identity, "steps", step.id), step.state in _ENDED


def _chosen(steps: Sequence[Step], stage: str | None) -> Step | None:
    """The newest of a stage; without one the one that runs, or failed, or ran last."""
    if stage:
        return next((step for step in reversed(steps) if step.stage == stage), None)
    for state in ("RUNNING", "FAILED", "COMPLETED"):
        for step in reversed(steps):
            if step.state == state:
                return step
    return steps[-1] if steps else None


def _print_log(clients: Clients, folder: str, stream: str, headed: bool, shown: dict[str, int], follow: bool) -> None:
    """Prints the lines that were not yet shown. A running stage's file is written anew, longer each time."""
    skip = shown.get(stream, 0) if follow else 0
    number = 0
    for number, line in enumerate(_log_lines(clients, uris.join(folder, f"{stream}.gz")), start=1):
        if number <= skip:
            continue
        if headed and number == skip + 1:
            sys.stdout.write(f"== {stream}\n")
        sys.stdout.write(line + "\n")
    shown[stream] = max(number, skip)
    sys.stdout.flush()


def _log_lines(clients: Clients, uri: str) -> Iterator[str]:
    """Line by line, in bounded memory; nothing where there is no such log. Raises AwsError."""
    bucket, key = uris.split_s3(uri)
    try:
        body = clients.get("s3").get_object(Bucket=bucket, Key=key)["Body"]
    except Exception as error:
        if not is_aws_error(error):
            raise
        if aws_code(error)[0] == "NoSuchKey":
            return
        with asking(uri):
            raise
    with body, gzip.GzipFile(fileobj=body) as file:
        try:
            while data := file.readline(LINE):
                yield harmless(data.decode("utf-8", "replace").rstrip("\r\n"))
        except (OSError, EOFError, zlib.error) as error:
            raise AwsError(f"{uri}: not whole gzip ({printable(error)}): it may be written just now") from error
