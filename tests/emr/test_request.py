"""The requests that start a run, compared with golden files and with botocore's own description of the API.

    python -m pytest tests/emr/test_request.py --golden

writes the files anew; look at the difference before you commit it."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from botocore.session import Session
from botocore.validate import ParamValidator

from emr import cluster, serverless
from emr.costs import hardware
from jobs.cleaning import prices
from tests.emr import plans

GOLDEN = Path(__file__).parent / "golden"


def _requests(kind: str) -> dict[str, dict[str, Any]]:
    plan = plans.plan(kind)
    if kind == "serverless":
        job_run = serverless.job_run(plan, "00application")
        return {"create_application": serverless.application(plan), "start_job_run": job_run}
    return {"run_job_flow": cluster.request(plan)}


@pytest.mark.parametrize("kind", hardware.KINDS)
def test_requests_are_as_agreed(kind: str, request: pytest.FixtureRequest) -> None:
    """Catches a setting that changes, is lost or comes unseen: each key and value of the requests is in a file."""
    text = json.dumps(_requests(kind), indent=2) + "\n"
    file = GOLDEN / f"{kind}.json"
    if request.config.getoption("--golden", default=False):  # known only where this folder is named
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8"), "look at it, then: pytest tests/emr/test_request.py --golden"


@pytest.mark.parametrize(
    ("kind", "service", "operations"),
    [
        ("cpu", "emr", {"run_job_flow": "RunJobFlow"}),
        ("gpu", "emr", {"run_job_flow": "RunJobFlow"}),
        ("serverless", "emr-serverless", {"create_application": "CreateApplication", "start_job_run": "StartJobRun"}),
    ],
)
def test_requests_fit_the_api(kind: str, service: str, operations: dict[str, str]) -> None:
    """Catches misspelt keys and values of the wrong type, which moto takes."""
    model = Session().get_service_model(service)
    for name, request in _requests(kind).items():
        shape = model.operation_model(operations[name]).input_shape
        report = ParamValidator().validate(request, shape)
        assert not report.has_errors(), report.generate_report()


def test_only_embed_asks_for_gpus() -> None:
    """Catches stages that would leave the cores of nodes without a GPU idle, and an embed stage without its GPU."""
    asking = [step["Name"] for step in cluster.steps(plans.plan("gpu")) if "resource.gpu" in str(step)]
    assert asking == ["embed"]
    assert "resource.gpu" not in str(cluster.request(plans.plan("cpu")))


@pytest.mark.parametrize("kind", hardware.EC2_KINDS)
def test_weights_are_executors(kind: str) -> None:
    """Catches executors that do not fit into the memory and cores which YARN gives away on one of the types."""
    plan = plans.plan(kind)
    executor = plan.kind.executor
    for fleet in cluster.request(plan)["Instances"]["InstanceFleets"][1:]:
        for one in fleet["InstanceTypeConfigs"]:
            instance = plan.hardware.instances[one["InstanceType"]]
            yarn = one["Configurations"][0]["Properties"]
            assert one["WeightedCapacity"] * executor.cores <= instance.vcpus
            given = int(yarn["yarn.nodemanager.resource.memory-mb"])
            assert one["WeightedCapacity"] * executor.memory_mb <= given < instance.memory_mb
            assert ("yarn.nodemanager.resource-plugins" in yarn) == bool(instance.gpus)


def test_only_some_stages() -> None:
    """Catches repeating a stage that drags others along, or steps in another order than the tables need."""
    plan = plans.plan("cpu")
    some = dataclasses.replace(plan, job=dataclasses.replace(plan.job, stages=("embed", "neighbours")))
    assert [step["Name"] for step in cluster.steps(some)] == ["embed", "neighbours"]
    assert all("s3://photos/" not in str(step) for step in cluster.steps(some))


def test_hostile_names_stay_one_argument() -> None:
    """Catches names of inputs that a shell, or the split of a text, would take apart."""
    plan = plans.plan("cpu")
    arguments = cluster.steps(plan)[0]["HadoopJarStep"]["Args"]
    assert [one for one in arguments if "photos" in one] == list(plan.job.inputs)
    driver = serverless.job_run(plans.plan("serverless"), "00a")["jobDriver"]["sparkSubmit"]
    assert "sparkSubmitParameters" not in driver
    assert list(plan.job.inputs) == driver["entryPointArguments"][1:3]


@pytest.mark.parametrize("kind", hardware.EC2_KINDS)
def test_first_types_are_those_priced(kind: str) -> None:
    """Catches an estimate for other instances than those that are asked for, and a type without a price."""
    shapes, priced = hardware.load(), prices.load()
    chosen = shapes.kinds[kind]
    assert chosen.task[0] == (priced.fleets.gpu if kind == "gpu" else priced.fleets.cpu)
    assert chosen.primary[0] == priced.fleets.primary
    assert {shapes.instances[chosen.task[0]].vcpus} == {priced.instances[chosen.task[0]].vcpus}


def test_serverless_workers_are_those_priced() -> None:
    """Catches workers larger or smaller than what the estimate reckons with."""
    priced, kind = prices.load().serverless, hardware.load().kinds["serverless"]
    assert (kind.executor.cores, kind.executor.memory_mb / 1024) == (priced.vcpus, priced.memory_gb)
    assert kind.driver is not None
    assert (kind.driver.cores, kind.driver.memory_mb / 1024) == (priced.vcpus, priced.memory_gb)
