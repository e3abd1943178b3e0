"""An AWS account as `emr submit` needs it, on moto: buckets, roles, subnets, a package that was uploaded, images."""

import hashlib
import json
import urllib.request
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import boto3

from emr.packages import manifest
from jobs import __version__
from tests import s3_server

BUCKET = "lake"
PACKAGE = f"s3://{BUCKET}/packages/imagesieve-{__version__}"
INPUT, LAKE = f"s3://{BUCKET}/photos/", f"s3://{BUCKET}/lakes/one"
REGION = "us-east-1"
IMAGES = 5
ANYBODY = {"Version": "2012-10-17", "Statement": []}


@dataclass
class Account:
    """endpoint: of moto itself, past any proxy. options: what a submit needs, no stack among it."""

    endpoint: str
    options: list[str]
    serverless: list[str]
    zones: list[str]

    def client(self, service: str, region: str = REGION) -> Any:
        return client(self.endpoint, service, region)

    def alive(self) -> list[dict[str, Any]]:
        """The clusters that have not ended."""
        states = ["STARTING", "BOOTSTRAPPING", "RUNNING", "WAITING"]
        return list(self.client("emr").list_clusters(ClusterStates=states)["Clusters"])

    def jobs(self) -> list[dict[str, Any]]:
        serverless = self.client("emr-serverless")
        applications = serverless.list_applications()["applications"]
        return [run for one in applications for run in serverless.list_job_runs(applicationId=one["id"])["jobRuns"]]


@lru_cache(maxsize=64)
def client(endpoint: str, service: str, region: str = REGION) -> Any:
    env = s3_server.environment(endpoint)
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name=region,
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
    )


def files() -> dict[str, bytes]:
    """Stand-ins for the files of a package: the checks look at names and sizes alone."""
    names = ["imagesieve.zip", "entry.py", "bootstrap.sh", "gpus.sh"]
    for kind, spark in (("cpu", "4.0"), ("gpu", "3.5")):
        names += [f"environment-{kind}-spark{spark}.tar.gz", f"models-{kind}.tar.gz", f"graphframes-spark{spark}.jar"]
    return {name: f"content of {name}".encode() for name in names}


def package() -> manifest.Package:
    told = {name: manifest.File(hashlib.sha256(data).hexdigest(), len(data)) for name, data in files().items()}
    environments = {
        kind: manifest.Environment(
            spark, f"environment-{kind}-spark{spark}.tar.gz", f"models-{kind}.tar.gz", f"graphframes-spark{spark}.jar"
        )
        for kind, spark in (("cpu", "4.0"), ("gpu", "3.5"))
    }
    return manifest.Package(PACKAGE, __version__, "3.11", told, environments)


def reset(endpoint: str) -> None:
    """moto forgets everything."""
    with urllib.request.urlopen(urllib.request.Request(f"{endpoint}/moto-api/reset", method="POST"), timeout=10):
        pass


def make(endpoint: str) -> Account:
    """Everything in place, from nothing."""
    s3, iam, ec2 = (client(endpoint, name) for name in ("s3", "iam", "ec2"))
    s3.create_bucket(Bucket=BUCKET)
    prefix = PACKAGE.removeprefix(f"s3://{BUCKET}/")
    for name, data in files().items():
        s3.put_object(Bucket=BUCKET, Key=f"{prefix}/{name}", Body=data)
    s3.put_object(Bucket=BUCKET, Key=f"{prefix}/{manifest.NAME}", Body=manifest.text(package()).encode())
    for number in range(IMAGES):
        s3.put_object(Bucket=BUCKET, Key=f"photos/{number}.jpg", Body=b"x" * 1000)
    document = json.dumps(ANYBODY)
    for name in ("imagesieve-service", "imagesieve-nodes", "imagesieve-serverless"):
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=document)
    iam.create_instance_profile(InstanceProfileName="imagesieve-nodes")
    iam.add_role_to_instance_profile(InstanceProfileName="imagesieve-nodes", RoleName="imagesieve-nodes")
    subnets = sorted(ec2.describe_subnets()["Subnets"], key=lambda subnet: subnet["AvailabilityZone"])[:2]
    options = ["--bucket", BUCKET, "--service-role", "imagesieve-service", "--instance-profile", "imagesieve-nodes"]
    options += ["--subnets", ",".join(subnet["SubnetId"] for subnet in subnets)]
    role = "arn:aws:iam::123456789012:role/imagesieve-serverless"
    serverless = ["--bucket", BUCKET, "--serverless-role", role]
    return Account(endpoint, options, serverless, [subnet["AvailabilityZone"] for subnet in subnets])
