"""A plan of each kind, the same every time."""

import dataclasses

from emr.costs import hardware
from emr.costs.stage_work import STAGES
from emr.plan import Job, Places, Plan
from tests.emr import account

PACKAGE = "s3://lake/packages/imagesieve-1.2.3"


def plan(kind: str) -> Plan:
    shapes = hardware.load()
    chosen = shapes.kinds[kind]
    package = dataclasses.replace(account.package(), uri=PACKAGE, version="1.2.3")
    places = Places(
        log_uri="s3://lake/logs/",
        package=PACKAGE,
        service_role="imagesieve-service",
        instance_profile="imagesieve-nodes",
        serverless_role="arn:aws:iam::123456789012:role/imagesieve-serverless",
        subnets=("subnet-1", "subnet-2"),
        security_configuration="imagesieve",
    )
    job = Job(
        inputs=("s3://photos/2024 a%20b/", "s3://photos/$(touch x)/"),
        lake="s3://lake/lakes/one",
        stages=STAGES,
        layout="{split}/{label}/*",
        overrides=("neighbours.k=20", "metrics.namespace=imagesieve", "metrics.usd_per_hour=12.5000"),
    )
    return Plan(
        kind=chosen,
        hardware=shapes,
        job=job,
        places=places,
        package=package,
        region="eu-central-1",
        token="0123456789abcdef",
        task_units=40,
        disk_gb=100,
        usd_per_hour=12.5,
        task_types=tuple(shapes.instances[name] for name in chosen.task),
    )
