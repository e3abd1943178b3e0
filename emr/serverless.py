"""The requests of EMR Serverless: an application, and a job run of all stages on it. Nothing is asked or sent.

Keys: https://docs.aws.amazon.com/emr-serverless/latest/APIReference/API_StartJobRun.html. Settings are properties of
spark-defaults, not one text of --conf options, so that no value can be taken apart. None of it has run on AWS."""

from __future__ import annotations

from typing import Any

from emr.cluster import shape, stage_arguments
from emr.plan import TAG, Plan

PYTHON = "./environment/bin/python"
STANDARD_GB, MOST_GB = 200, 2000  # disk of a worker: of the standard type, and of the one for shuffles


def application_name(plan: Plan) -> str:
    """Runs of one release share an application."""
    return f"{TAG}-{plan.kind.release}"


def application(plan: Plan) -> dict[str, Any]:
    """The arguments of `create_application`. It stops by itself, and costs nothing while nothing runs, unless workers
    are kept ready (initial_executors)."""
    kind = plan.kind
    driver = kind.driver or kind.executor
    most_cpus = driver.cores + plan.task_units * kind.executor.cores
    most_gb = (driver.memory_mb + plan.task_units * kind.executor.memory_mb) // 1024
    asked: dict[str, Any] = {
        "name": application_name(plan),
        "releaseLabel": kind.release,
        "type": "SPARK",
        "clientToken": plan.token,
        "tags": {key: value for key, value in plan.tags.items() if key == TAG},
        "autoStartConfiguration": {"enabled": True},
        "autoStopConfiguration": {"enabled": True, "idleTimeoutMinutes": kind.auto_stop_minutes},
    }
    if kind.initial_executors:
        asked["initialCapacity"] = {
            "DRIVER": _workers(1, driver.cores, driver.memory_mb),
            "EXECUTOR": _workers(kind.initial_executors, kind.executor.cores, kind.executor.memory_mb),
        }
    most_gb_disk = driver.disk_gb + plan.task_units * plan.disk_gb
    asked["maximumCapacity"] = {"cpu": f"{most_cpus}vCPU", "memory": f"{most_gb}GB", "disk": f"{most_gb_disk}GB"}
    return asked


def job_run(plan: Plan, application_id: str) -> dict[str, Any]:
    """The arguments of `start_job_run`. Sent twice with one token it starts one run."""
    package, files = plan.package, plan.package.environment("cpu")
    driver = plan.kind.driver or plan.kind.executor
    jars = [*plan.hardware.delta_jars, package.at(files.graphframes)]
    settings = {
        **shape(plan),
        "spark.submit.pyFiles": package.at("imagesieve.zip"),
        "spark.archives": f"{package.at(files.file)}#environment,{package.at(files.models)}#models",
        "spark.jars": ",".join(jars),
        "spark.driver.cores": str(driver.cores),
        "spark.driver.memory": f"{driver.heap_mb}m",
        "spark.driver.memoryOverhead": f"{driver.overhead_mb}m",
        "spark.emr-serverless.driver.disk": f"{driver.disk_gb}G",
        "spark.emr-serverless.executor.disk": f"{plan.disk_gb}G",
        **({"spark.emr-serverless.executor.disk.type": "shuffle_optimized"} if plan.disk_gb > STANDARD_GB else {}),
        "spark.dynamicAllocation.maxExecutors": str(plan.task_units),
        "spark.emr-serverless.driverEnv.PYSPARK_DRIVER_PYTHON": PYTHON,
        "spark.emr-serverless.driverEnv.PYSPARK_PYTHON": PYTHON,
        "spark.emr-serverless.driverEnv.IMAGESIEVE_CACHE": "./models",
        "spark.emr-serverless.driverEnv.AWS_REGION": plan.region,
        "spark.executorEnv.PYSPARK_PYTHON": PYTHON,
        "spark.executorEnv.AWS_REGION": plan.region,
    }
    return {
        "applicationId": application_id,
        "clientToken": plan.token,
        "name": plan.name,
        "executionRoleArn": plan.places.serverless_role,
        "jobDriver": {
            "sparkSubmit": {
                "entryPoint": package.at("entry.py"),
                "entryPointArguments": stage_arguments(plan, "run"),
            }
        },
        "configurationOverrides": {
            "applicationConfiguration": [{"classification": "spark-defaults", "properties": settings}],
            "monitoringConfiguration": {"s3MonitoringConfiguration": {"logUri": plan.places.log_uri}},
        },
        "executionTimeoutMinutes": 0,  # none: a run at a billion images takes longer than the 12 hours of the default
        "tags": plan.tags,
    }


def _workers(count: int, cores: int, memory_mb: int) -> dict[str, Any]:
    return {
        "workerCount": count,
        "workerConfiguration": {"cpu": f"{cores}vCPU", "memory": f"{memory_mb // 1024}GB"},
    }
