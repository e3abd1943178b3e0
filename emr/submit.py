"""`imagesieve emr submit`: checks everything, shows the plan and its cost, asks, and starts it."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import secrets
import sys
from collections.abc import Sequence
from typing import Any

from emr import capacity, checks, cluster, images, serverless, start
from emr.checks import Found
from emr.clients import Clients, printable
from emr.costs import cost, hardware
from emr.costs.hardware import EC2_KINDS, KINDS, Hardware
from emr.costs.stage_work import STAGES
from emr.errors import AwsError, Interrupted
from emr.images import Count
from emr.packages.manifest import Package
from emr.plan import TAG, TAG_KIND, Findings, Job, Places, Plan, lines
from jobs import __version__, config
from jobs.errors import ConfigError, InputError, RunError
from udfs.stores import uris

STACK = "imagesieve"
USD_PER_HOUR = "--set=metrics.usd_per_hour="  # in the arguments of each step
_NEEDED = {
    "log_uri": "--log-uri",
    "package": "--package",
    "service_role": "--service-role",
    "instance_profile": "--instance-profile",
    "subnets": "--subnets",
    "serverless_role": "--serverless-role",
}
_OF_EC2 = ("log_uri", "package", "service_role", "instance_profile", "subnets")
_OF_SERVERLESS = ("log_uri", "package", "serverless_role")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "inputs", nargs="*", metavar="INPUT", help="s3:// prefixes or manifests, as `imagesieve run` takes"
    )
    parser.add_argument("--lake", required=True, metavar="URI", help="where the tables lie: an s3:// prefix")
    parser.add_argument("--cluster", choices=KINDS, default="cpu", help="what runs it (default: cpu)")
    parser.add_argument("--cluster-id", metavar="ID", help="add the stages to a cluster that `submit` started (j-…)")
    parser.add_argument("--stages", metavar="A,B", help=f"some of {','.join(STAGES)}")
    parser.add_argument("--images", type=float, metavar="N", help="how many images there are, for the estimate")
    parser.add_argument("--bytes-per-image", type=float, metavar="BYTES", help="their mean size, for the estimate")
    parser.add_argument("--layout", help="reads columns from paths, such as '{split}/{label}/*'")
    parser.add_argument("--owner", metavar="PATTERN", help="whose an image is, such as 'users/{owner}/**'")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", dest="overrides")
    parser.add_argument("--region", help="where the cluster runs (default: AWS_REGION, or the profile's)")
    parser.add_argument(
        "--stack", default=STACK, help=f"the CloudFormation stack with buckets and roles (default: {STACK})"
    )
    parser.add_argument("--bucket", help="for packages and logs, in place of the stack's")
    parser.add_argument("--log-uri", metavar="URI", help="where logs go (default: s3://BUCKET/logs/)")
    parser.add_argument("--package", metavar="URI", help="the folder that `emr package` uploaded")
    parser.add_argument("--service-role", metavar="NAME")
    parser.add_argument("--instance-profile", metavar="NAME")
    parser.add_argument("--serverless-role", metavar="ARN")
    parser.add_argument("--subnets", metavar="ID,ID", help="in one VPC; more zones find more spot capacity")
    parser.add_argument("--security-configuration", metavar="NAME", help="of EMR: encryption")
    parser.add_argument("--task-types", metavar="A,B", help="instance types of the task fleet")
    parser.add_argument("--units", type=int, metavar="N", help="executors of the task fleet (default: as estimated)")
    parser.add_argument("--dry-run", action="store_true", help="check, show the plan and the request; start nothing")
    parser.add_argument("--yes", action="store_true", help="do not ask")


def run(arguments: argparse.Namespace) -> int:
    """Exit code of the first fault; 0 where the run was started, or would have been."""
    found = Found()
    try:
        planned = _planned(arguments, found)
        if found.faults or planned is None:
            for fault in found.faults:
                sys.stderr.write(f"imagesieve: {printable(fault, 4000)}\n")
            sys.stderr.write("imagesieve: nothing was started\n")
            return found.faults[0].exit_code if found.faults else AwsError.exit_code
        clients, plan, shown = planned
        sys.stdout.write("\n".join(shown) + "\n")
        if arguments.dry_run:
            sys.stdout.write(json.dumps(_request(plan, arguments.cluster_id), indent=2) + "\n")
            return 0
        if not arguments.yes and not agreed("Start it?"):
            return 0
    except KeyboardInterrupt:
        raise Interrupted("interrupted: nothing was started") from None
    _start(clients, plan, arguments.cluster_id)
    return 0


def agreed(question: str) -> bool:
    """Whether the person says yes. Raises ConfigError where there is nobody to ask."""
    if not sys.stdin.isatty():
        raise ConfigError("there is no terminal to ask on: give --yes; nothing was done")
    sys.stdout.write(f"{question} [y/N] ")
    sys.stdout.flush()
    if sys.stdin.readline().strip().lower() in ("y", "yes"):
        return True
    sys.stdout.write("nothing was done\n")
    return False


def _planned(arguments: argparse.Namespace, found: Found) -> tuple[Clients, Plan, list[str]] | None:
    """Checks all that can be checked. The plan, and how it reads; None where there are too many holes for one."""
    shapes = hardware.load()
    job = _job(arguments, found)
    try:
        clients = Clients(arguments.region)
        me = checks.caller(clients)
    except RunError as error:
        found.faults.append(error)
        return None  # each further question would have the same answer
    kind, usd_per_hour = arguments.cluster, None
    if arguments.cluster_id:
        kind, usd_per_hour = _there(clients, arguments.cluster_id, found) or (kind, None)
    places = _places(clients, arguments, kind, found)
    closed = _buckets(clients, job, places, found)
    package = None
    if places.package and uris.split_s3(places.package)[0] not in closed:
        package = checks.package(clients, places.package, kind, shapes.kinds[kind].spark, found)
    if job.lake and uris.split_s3(job.lake)[0] not in closed:
        checks.busy(clients, job.lake, found)
    counted = _count(clients, arguments, job, closed, found)
    # With a fault in the images or the package the rest is checked all the same, for one image and no files.
    estimate = cost.estimate(kind, 1, 1e5)
    with found.collecting():
        estimate = cost.estimate(kind, counted.images or 1, counted.bytes_per_image or 1e5, job.stages or STAGES)
    package = package or Package(places.package, __version__, "", {}, {})
    plan = _plan(arguments, shapes, kind, job, places, package, clients.region, estimate, usd_per_hour)
    if not arguments.cluster_id:
        checks.roles(clients, me, kind, places, job.inputs, job.lake, found)
    plan, findings = _capacity(clients, arguments, plan, found)
    text = f"{counted.text}, {(counted.bytes_per_image or 0) / 1000:,.0f} KB each"
    if counted.images is None:
        return clients, plan, lines(plan, None, counted.text or "not counted", findings, new=False)
    return clients, plan, lines(plan, estimate, text, findings, new=not arguments.cluster_id)


def _job(arguments: argparse.Namespace, found: Found) -> Job:
    """What can be told to be wrong without asking AWS. What is not on S3 is left out, and is a fault."""
    stages = tuple(arguments.stages.split(",")) if arguments.stages else STAGES
    for stage in stages:
        if stage not in STAGES:
            found.fault(ConfigError, f"--stages: unknown stage {stage!r} (there are {', '.join(STAGES)})")
    stages = tuple(stage for stage in STAGES if stage in stages)
    if arguments.cluster == "serverless" and stages != STAGES and not arguments.cluster_id:
        found.fault(ConfigError, "--stages: EMR Serverless runs all stages; those that are done are skipped")
    if "catalog" in stages and not arguments.inputs:
        found.fault(ConfigError, "no INPUT: give the images, or leave out the stage catalog")
    for name in ("images", "bytes_per_image", "units"):
        value = getattr(arguments, name)
        if value is not None and not (1 <= value < math.inf):
            found.fault(ConfigError, f"--{name.replace('_', '-')} must be at least 1, got {value:g}")
    with found.collecting():
        config.load((), arguments.overrides)
    inputs = [_on_s3(uri, "INPUT", found) for uri in arguments.inputs]
    lake = _on_s3(arguments.lake, "--lake", found)
    return Job(tuple(filter(None, inputs)), lake, stages, arguments.layout, tuple(arguments.overrides), arguments.owner)


def _on_s3(text: str, where: str, found: Found) -> str:
    """The canonical URI; "" and a fault for what no cluster can reach."""
    try:
        uri = uris.canonical(text)
    except ValueError as error:
        found.fault(ConfigError, f"{where}: {error}")
        return ""
    if not uris.is_s3(uri):
        found.fault(
            ConfigError, f"{where} must be an s3:// URI, got {text!r}: a cluster cannot read this machine's files"
        )
        return ""
    return uri.rstrip("/") if where == "--lake" else uri


def _places(clients: Clients, arguments: argparse.Namespace, kind: str, found: Found) -> Places:
    """From options, and from the stack what they leave open."""
    bucket = arguments.bucket or ""
    given = Places(
        bucket=bucket,
        log_uri=arguments.log_uri or (f"s3://{bucket}/logs/" if bucket else ""),
        package=arguments.package or (_package_of(f"s3://{bucket}/packages") if bucket else ""),
        service_role=arguments.service_role or "",
        instance_profile=arguments.instance_profile or "",
        serverless_role=arguments.serverless_role or "",
        subnets=tuple(part for part in (arguments.subnets or "").split(",") if part),
        security_configuration=arguments.security_configuration or "",
    )
    needed: tuple[str, ...] = _OF_EC2 if kind in EC2_KINDS else _OF_SERVERLESS
    if arguments.cluster_id:
        needed = ("package",)
    if all(getattr(given, name) for name in needed):
        return _checked(given, found)
    stack = checks.stack_places(clients, arguments.stack, found)
    if stack.package:
        stack = dataclasses.replace(stack, package=_package_of(stack.package))
    merged = {
        field.name: getattr(given, field.name) or getattr(stack, field.name) for field in dataclasses.fields(Places)
    }
    places = Places(**merged)
    if stack != Places():  # else its absence has been told
        for name in needed:
            if not getattr(places, name):
                found.fault(ConfigError, f"stack {arguments.stack} has no output for {_NEEDED[name]}: give it")
    return _checked(places, found)


def _checked(places: Places, found: Found) -> Places:
    """Log and package places as canonical S3 URIs."""
    log_uri, package = (
        _on_s3(value, option, found).rstrip("/") if value else ""
        for value, option in ((places.log_uri, "--log-uri"), (places.package, "--package"))
    )
    return dataclasses.replace(places, log_uri=f"{log_uri}/" if log_uri else "", package=package)


def _package_of(prefix: str) -> str:
    return f"{prefix.rstrip('/')}/imagesieve-{__version__}"


def _buckets(clients: Clients, job: Job, places: Places, found: Found) -> set[str]:
    """Those that cannot be asked further."""
    named: dict[str, str] = {}
    uses = [("input", uri) for uri in job.inputs]
    uses += [("lake", job.lake), ("package", places.package), ("logs", places.log_uri)]
    for purpose, uri in uses:
        if uri:
            named.setdefault(uris.split_s3(uri)[0], purpose)
    return checks.buckets(clients, named, found)


def _count(clients: Clients, arguments: argparse.Namespace, job: Job, closed: set[str], found: Found) -> Count:
    """By options where they are given; the inputs are looked at all the same, for there must be images. closed: buckets
    that have been found fault with."""
    told = Count(None, None, "")
    faults = len(found.faults)
    lost = len(job.inputs) < len(arguments.inputs) or any(uris.split_s3(uri)[0] in closed for uri in job.inputs)
    if job.inputs and not lost:
        with found.collecting():
            told = images.count(clients, job.inputs, config.load().catalog.extensions)
    text = told.text
    number, mean = told.images, told.bytes_per_image
    if arguments.images:
        number, text = arguments.images, f"{arguments.images:,.0f}, as given"
    if arguments.bytes_per_image:
        mean = arguments.bytes_per_image
    known_why = lost or len(found.faults) > faults or ("catalog" in job.stages and not job.inputs)
    known_why = known_why or bool(arguments.cluster_id)  # its fleets are there: no plan of them is needed
    if number is None and not known_why:
        found.fault(ConfigError, f"how many images there are is not known ({text or 'no INPUT'}): give --images N and "
                    "--bytes-per-image B, for the plan and its cost")  # fmt: skip
    elif number == 0 and not known_why:
        found.fault(InputError, "the inputs hold no images")
    if number and mean is None:
        mean = 1e5
        found.note("the size of an image is not known: taken as 100 KB; give --bytes-per-image")
    return Count(number, mean, text)


def _plan(
    arguments: argparse.Namespace,
    shapes: Hardware,
    kind_name: str,
    job: Job,
    places: Places,
    package: Package,
    region: str,
    estimate: cost.Estimate,
    usd_per_hour: float | None,
) -> Plan:
    """usd_per_hour: of a cluster that is there; None for a new one."""
    kind = shapes.kinds[kind_name]
    if usd_per_hour is None:
        usd_per_hour = estimate.usd_per_hour
    metrics = [f"metrics.namespace={TAG}", f"metrics.usd_per_hour={usd_per_hour:.4f}"]
    given = {override.partition("=")[0] for override in job.overrides}
    added = tuple(setting for setting in metrics if setting.partition("=")[0] not in given)
    types = tuple(shapes.instances[name] for name in kind.task)
    each = hardware.units(types[0], kind.executor, shapes.system_mb) if types else 1
    nodes = max(1, estimate.fleet.nodes)
    return Plan(
        kind=kind,
        hardware=shapes,
        job=dataclasses.replace(job, overrides=(*job.overrides, *added)),
        places=places,
        package=package,
        region=region,
        token=secrets.token_hex(8),
        task_units=arguments.units or nodes * each,
        disk_gb=max(1, math.ceil(estimate.fleet.disk_gb)),
        usd_per_hour=usd_per_hour,
        task_types=types,
    )


def _capacity(clients: Clients, arguments: argparse.Namespace, plan: Plan, found: Found) -> tuple[Plan, Findings]:
    """Whether what the plan asks for is there to be had."""
    if plan.kind.name not in EC2_KINDS:
        if plan.disk_gb > serverless.MOST_GB:
            found.fault(ConfigError, f"each worker would need {plan.disk_gb} GB of disk, more than EMR Serverless has "
                        f"({serverless.MOST_GB}): use --cluster cpu, or more --units")  # fmt: skip
        return plan, Findings(notes=found.notes)
    if arguments.cluster_id:
        return plan, Findings(notes=found.notes)
    wanted = arguments.task_types.split(",") if arguments.task_types else list(plan.kind.task)
    names = list(dict.fromkeys([*plan.kind.primary, *plan.kind.core, *wanted]))
    known = {name: one for name, one in plan.hardware.instances.items() if name in names}
    told = capacity.instances(clients, names, known, found)
    types = [told[name] for name in wanted if name in told]
    usable = []
    for type_ in types:
        if plan.kind.tasks_per_gpu and not type_.gpus:
            found.fault(ConfigError, f"--task-types: {type_.name} has no GPU")
        elif not plan.units(type_):
            found.fault(ConfigError, f"--task-types: no executor of {plan.kind.executor.cores} vCPUs and "
                        f"{plan.kind.executor.memory_mb} MiB fits into {type_.name}")  # fmt: skip
        else:
            usable.append(type_)
    if not usable:
        return plan, Findings(notes=found.notes)
    plan = dataclasses.replace(plan, task_types=tuple(usable))
    where = capacity.zones(clients, plan.places.subnets, found)
    capacity.offerings(clients, plan, where, found)
    spot = capacity.spot(clients, [type_.name for type_ in usable], where, found)
    capacity.quotas(clients, plan, found)
    checks.security_configuration(clients, plan.places.security_configuration, found)
    return plan, Findings(spot.prices, spot.spread, found.notes)


def _there(clients: Clients, cluster_id: str, found: Found) -> tuple[str, float | None] | None:
    """The kind of a cluster that takes steps, and what it costs an hour by the plan it was started with. None and a
    fault where it is none of ours, or has ended."""
    emr = clients.get("emr")
    answer = found.optional(f"cluster {cluster_id}", lambda: emr.describe_cluster(ClusterId=cluster_id))
    if answer is None:
        found.fault(ConfigError, f"--cluster-id: no cluster {cluster_id} in {clients.region}")
        return None
    told = answer["Cluster"]
    tags = {tag["Key"]: tag["Value"] for tag in told.get("Tags", ())}
    if tags.get(TAG_KIND) not in EC2_KINDS:
        found.fault(ConfigError, f"--cluster-id: {cluster_id} was not started by imagesieve emr submit")
        return None
    if told["Status"]["State"] not in checks.ACTIVE:
        found.fault(ConfigError, f"--cluster-id: {cluster_id} is {told['Status']['State']}: start another")
    steps = found.optional("its stages", lambda: emr.list_steps(ClusterId=cluster_id)["Steps"]) or []
    costs = [
        float(argument.removeprefix(USD_PER_HOUR))
        for step in steps
        for argument in step["Config"].get("Args", ())
        if argument.startswith(USD_PER_HOUR)
    ]
    return str(tags[TAG_KIND]), costs[0] if costs else None


def _request(plan: Plan, cluster_id: str | None) -> Any:
    if cluster_id:
        return {"JobFlowId": cluster_id, "Steps": cluster.steps(plan)}
    if plan.kind.name in EC2_KINDS:
        return cluster.request(plan)
    return {
        "create_application": serverless.application(plan),
        "start_job_run": serverless.job_run(plan, "APPLICATION"),
    }


def _start(clients: Clients, plan: Plan, cluster_id: str | None) -> None:
    if cluster_id:
        added = cluster.steps(plan)
        start.steps(clients, cluster_id, added, lambda ids: _say(cluster_id, f"took {len(ids.split())} steps"))
    elif plan.kind.name in EC2_KINDS:
        start.cluster(clients, cluster.request(plan), lambda identity: _say(identity, "was started"))
    else:
        application = serverless.application(plan)
        start.job_run(
            clients, application, lambda one: serverless.job_run(plan, one), lambda one: _say(one, "was started")
        )


def _say(identity: str, what: str) -> None:
    commands: Sequence[str] = ("status", "logs", "cancel")
    sys.stdout.write(f"{identity} {what}\n" + "".join(f"  imagesieve emr {name} {identity}\n" for name in commands))
    sys.stdout.flush()
