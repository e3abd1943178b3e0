"""Everything that can be found out before something is started: each fault one line, all of them at once.

What a server does not answer (an error of its own, or a person who may not ask) is a note, and the checks go on."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from emr.clients import Clients, bad_credentials, is_aws_error, printable, reason
from emr.errors import AwsError
from emr.packages import manifest
from emr.packages.manifest import Package
from emr.plan import TAG, TAG_LAKE, Places, lake_tag
from jobs import lease
from jobs.errors import ConfigError, InputError, LakeBusyError, LakeError, RunError
from udfs.stores import uris
from udfs.stores.s3 import StoreError, aws_code

ACTIVE = ["STARTING", "BOOTSTRAPPING", "RUNNING", "WAITING"]
ACTIVE_JOBS = ["SUBMITTED", "PENDING", "SCHEDULED", "QUEUED", "RUNNING"]
PROBE = "imagesieve-probe"  # a key that policies are asked about; nothing is read or written


@dataclass
class Found:
    """What the checks have collected. faults: in the order found; notes: what is not known, and other remarks."""

    faults: list[RunError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def fault(self, kind: type[RunError], text: str) -> None:
        self.faults.append(kind(printable(text)))

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Keeps a RunError and goes on after the block."""
        try:
            yield
        except RunError as error:
            self.faults.append(error)

    def optional(self, what: str, ask: Callable[[], Any], failed: str = "could not be asked") -> Any:
        """The answer, or None and a note: for what may be refused or not be there."""
        try:
            return ask()
        except Exception as error:
            if not is_aws_error(error):
                raise
            self.note(f"{what} {failed}: {reason(error)}")
            return None


def caller(clients: Clients) -> str:
    """The ARN of whoever asks. Raises AwsError where the credentials are missing or wrong."""
    try:
        return str(clients.get("sts").get_caller_identity()["Arn"])
    except Exception as error:
        if not is_aws_error(error):
            raise
        text = reason(error)
        raise AwsError(text if bad_credentials(error) else f"sts: {text}") from error


def stack_places(clients: Clients, stack: str, found: Found) -> Places:
    """The outputs of a stack. An unknown stack is a fault that says how to go on."""
    try:
        answer = clients.get("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]
    except Exception as error:
        if not is_aws_error(error):
            raise
        if "does not exist" in str(error):
            found.fault(ConfigError, f"stack {stack} does not exist in {clients.region}: make it (docs/emr.md), name "
                        "another with --stack, or give --bucket, --log-uri, --service-role, --instance-profile and "
                        "--subnets")  # fmt: skip
        else:
            found.fault(AwsError, f"stack {stack}: {reason(error)}")
        return Places()
    status = str(answer.get("StackStatus", ""))
    if not status.endswith("_COMPLETE") or status in ("DELETE_COMPLETE", "ROLLBACK_COMPLETE"):
        found.note(f"stack {stack} is {status}")
    given = {output["OutputKey"]: str(output["OutputValue"]) for output in answer.get("Outputs", ())}
    return Places(
        bucket=given.get("Bucket", ""),
        log_uri=given.get("LogUri", ""),
        package=given.get("PackagePrefix", ""),
        service_role=given.get("ServiceRole", ""),
        instance_profile=given.get("InstanceProfile", ""),
        serverless_role=given.get("ServerlessRole", ""),
        subnets=tuple(part.strip() for part in given.get("Subnets", "").split(",") if part.strip()),
        security_configuration=given.get("SecurityConfiguration", ""),
        dashboard=given.get("DashboardName", ""),
    )


def buckets(clients: Clients, named: dict[str, str], found: Found) -> set[str]:
    """named: what each bucket is for, by its name. Each must be there, be ours to use, and lie in the region. Returns
    those that cannot be asked further."""
    closed = set()
    for bucket, purpose in named.items():
        place = f"{purpose}: bucket {bucket}"
        try:
            answer = clients.get("s3").head_bucket(Bucket=bucket)
        except Exception as error:
            if not is_aws_error(error):
                raise
            closed.add(bucket)
            there = _region_of(error)
            code, status = aws_code(error)
            if there and there != clients.region:
                _other_region(place, there, clients.region, found)
            elif status == 404:
                found.fault(InputError, f"{place} does not exist")
            elif status == 403:
                found.fault(InputError, f"{place}: access denied (s3:ListBucket): it is another account's, or a policy "
                            "forbids it")  # fmt: skip
            else:
                # Such as a name that can be none: boto3 itself refuses it.
                kind = ConfigError if code == "ParamValidationError" else AwsError
                found.fault(kind, f"{place}: {reason(error)}")
            continue
        there = answer.get("BucketRegion") or answer["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region")
        if there and there != clients.region:
            _other_region(place, there, clients.region, found)
    return closed


def _region_of(error: Exception) -> str:
    response = getattr(error, "response", {})
    return str(response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("x-amz-bucket-region", ""))


def _other_region(place: str, there: str, here: str, found: Found) -> None:
    found.fault(ConfigError, f"{place} is in {there}, the cluster would be in {here}: every byte between them is slow "
                f"and is paid; use --region {there}, or a bucket in {here}")  # fmt: skip


def busy(clients: Clients, lake: str, found: Found) -> None:
    """Whether a run writes to the lake, by its lease, or is about to, by the tags of what this tool has started."""
    try:
        holder = lease.current(lake)
    except StoreError as error:
        found.fault(LakeError, str(error))
    else:
        if holder is not None:
            since = datetime.datetime.fromtimestamp(holder.started_at, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
            who = f"run {holder.run_id} (host {holder.host}) since {since}"
            found.fault(LakeBusyError, f"lake {lake} is being written by {who}: wait for it, or stop it")
    for cluster in running_clusters(clients, found):
        if cluster["tags"].get(TAG_LAKE) != lake_tag(lake):
            continue
        identity = cluster["id"]
        if cluster["busy"]:
            found.fault(LakeBusyError, f"cluster {identity} works on lake {lake}: imagesieve emr status {identity}")
        else:
            found.note(f"cluster {identity} of this lake is idle: with --cluster-id {identity} no other is started")
    for run in running_jobs(clients, found):
        if run["tags"].get(TAG_LAKE) == lake_tag(lake):
            identity = run["id"]
            found.fault(LakeBusyError, f"job run {identity} works on lake {lake}: imagesieve emr status {identity}")


def running_clusters(clients: Clients, found: Found) -> list[dict[str, Any]]:
    """id and tags of this tool's clusters that have not ended. busy: whether a step runs or waits."""

    def ask() -> list[dict[str, Any]]:
        emr = clients.get("emr")
        pages = emr.get_paginator("list_clusters").paginate(ClusterStates=ACTIVE, PaginationConfig={"MaxItems": 1000})
        out = []
        for page in pages:
            for cluster in page.get("Clusters", ()):
                if not str(cluster.get("Name", "")).startswith(TAG):
                    continue
                told = emr.describe_cluster(ClusterId=cluster["Id"])["Cluster"]
                tags = {tag["Key"]: tag["Value"] for tag in told.get("Tags", ())}
                if TAG not in tags:
                    continue
                steps = emr.list_steps(ClusterId=cluster["Id"], StepStates=["PENDING", "RUNNING"])["Steps"]
                out.append({"id": cluster["Id"], "tags": tags, "busy": bool(steps)})
        return out

    return found.optional("the running clusters", ask) or []


def running_jobs(clients: Clients, found: Found) -> list[dict[str, Any]]:
    """id (application/run), name, state, tags of this tool's runs on EMR Serverless that have not ended."""

    def ask() -> list[dict[str, Any]]:
        client = clients.get("emr-serverless", attempts=2)
        out = []
        for application in client.list_applications(maxResults=50).get("applications", ()):
            if not str(application.get("name", "")).startswith(TAG):
                continue
            answer = client.list_job_runs(applicationId=application["id"], states=ACTIVE_JOBS, maxResults=50)
            for run in answer.get("jobRuns", ()):
                told = client.get_job_run(applicationId=application["id"], jobRunId=run["id"])["jobRun"]
                out.append({"id": f"{application['id']}/{run['id']}", "name": told.get("name", ""),
                            "state": told["state"], "tags": told.get("tags", {})})  # fmt: skip
        return out

    return found.optional("the job runs of EMR Serverless", ask) or []


def package(clients: Clients, uri: str, kind: str, spark: str, found: Found) -> Package | None:
    """The uploaded package, with every file that this kind needs in place and of the right size."""
    try:
        told = manifest.read(uri)
        environment = told.environment("gpu" if kind == "gpu" else "cpu")
    except RunError as error:
        found.faults.append(error)
        return None
    if environment.spark != spark:
        found.fault(InputError, f"{uri}: its environment is for Spark {environment.spark}, the release runs {spark}: "
                    f"imagesieve emr package --spark {spark} --to …")  # fmt: skip
    wanted = [environment.file, environment.models, environment.graphframes, "imagesieve.zip", "entry.py"]
    wanted += ["bootstrap.sh", "gpus.sh"] if kind != "serverless" else []
    for name in wanted:
        if name not in told.files:
            found.fault(InputError, f"{told.at(name)} is not in the package: imagesieve emr package --to …")
            continue
        bucket, key = uris.split_s3(told.at(name))
        try:
            size = clients.get("s3").head_object(Bucket=bucket, Key=key)["ContentLength"]
        except Exception as error:
            if not is_aws_error(error):
                raise
            text = "is missing" if aws_code(error)[1] == 404 else reason(error)
            found.fault(InputError, f"{told.at(name)}: {text}: upload the package again")
            continue
        if size != told.files[name].bytes:
            found.fault(InputError, f"{told.at(name)} has {size} bytes, the manifest says {told.files[name].bytes}: "
                        "upload the package again")  # fmt: skip
    return told


def roles(clients: Clients, me: str, plan_kind: str, places: Places, inputs: Sequence[str], lake: str,
          found: Found) -> None:  # fmt: skip
    """Whether the roles are there, may be passed by the caller, and may read the inputs and write the lake."""
    runtime = ""
    passed: list[str] = []
    if plan_kind == "serverless":
        runtime = _role(clients, places.serverless_role.rpartition("/")[2], found) or places.serverless_role
        passed.append(runtime)
    else:
        service = _role(clients, places.service_role.rpartition("/")[2], found)
        runtime = _profile_role(clients, places.instance_profile, found)
        passed += [arn for arn in (service, runtime) if arn]
    asked: list[tuple[str, str, list[str], str]] = []
    if _policy_source(me):
        asked += [(_policy_source(me), "you", ["iam:PassRole"], arn) for arn in passed]
    if runtime:
        name = f"role {runtime.rpartition('/')[2]}"
        for uri in inputs:
            bucket, _ = uris.split_s3(uri)
            asked.append((runtime, name, ["s3:ListBucket"], f"arn:aws:s3:::{bucket}"))
            asked.append((runtime, name, ["s3:GetObject"], _object_arn(uri)))
        if lake:
            asked.append((runtime, name, ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"], _object_arn(lake)))
    silent: set[str] = set()  # of whom there was no answer, nor would there be one to the other questions
    for source, who, actions, resource in asked:
        if source not in silent and not _simulated(clients, source, who, actions, resource, found):
            silent.add(source)


def _object_arn(uri: str) -> str:
    """Of an object below a prefix."""
    bucket, key = uris.split_s3(uri)
    return f"arn:aws:s3:::{bucket}/{key.rstrip('/') + '/' if key else ''}{PROBE}"


def _role(clients: Clients, name: str, found: Found) -> str:
    """The ARN; "" where it could not be asked or is not there."""
    return _named(clients, f"role {name}", lambda: clients.get("iam").get_role(RoleName=name)["Role"]["Arn"], found)


def _profile_role(clients: Clients, name: str, found: Found) -> str:
    def ask() -> str:
        profile = clients.get("iam").get_instance_profile(InstanceProfileName=name.rpartition("/")[2])
        there = profile["InstanceProfile"]["Roles"]
        if not there:
            found.fault(ConfigError, f"instance profile {name} has no role")
            return ""
        return str(there[0]["Arn"])

    return _named(clients, f"instance profile {name}", ask, found)


def _named(clients: Clients, what: str, ask: Callable[[], str], found: Found) -> str:
    try:
        return str(ask())
    except Exception as error:
        if not is_aws_error(error):
            raise
        if aws_code(error)[0] in ("NoSuchEntity", "NoSuchEntityException"):
            found.fault(ConfigError, f"{what} does not exist in this account: make the stack (docs/emr.md)")
        else:
            found.note(f"{what} could not be asked: {reason(error)}")
        return ""


def _policy_source(me: str) -> str:
    """The ARN whose policies are simulated: an assumed role's own; "" for root, which may do all."""
    head, _, rest = me.partition(":assumed-role/")
    if rest:
        account = head.rpartition("::")[2]
        return f"arn:aws:iam::{account}:role/{rest.partition('/')[0]}"
    return me.replace(":sts:", ":iam:") if ":user/" in me or ":role/" in me else ""


def _simulated(clients: Clients, source: str, who: str, actions: list[str], resource: str, found: Found) -> bool:
    """Whether there was an answer. Policies of buckets, and conditions, are not asked."""

    def ask() -> Any:
        client = clients.get("iam", attempts=2)
        return client.simulate_principal_policy(PolicySourceArn=source, ActionNames=actions, ResourceArns=[resource])

    answer = found.optional("what policies allow (iam:SimulatePrincipalPolicy)", ask)
    for result in (answer or {}).get("EvaluationResults", ()):
        if result["EvalDecision"] != "allowed":
            where = result.get("EvalResourceName", resource)
            found.fault(AwsError, f"{who} may not {result['EvalActionName']} on {where}: allow it in a policy")
    return answer is not None


def security_configuration(clients: Clients, name: str, found: Found) -> None:
    if not name:
        found.note("no security configuration: disks are encrypted only where the account encrypts EBS by default")
        return
    try:
        clients.get("emr").describe_security_configuration(Name=name)
    except Exception as error:
        if not is_aws_error(error):
            raise
        if "does not exist" in str(error):
            found.fault(ConfigError, f"security configuration {name} does not exist in {clients.region}")
        else:
            found.note(f"security configuration {name} could not be asked: {reason(error)}")
