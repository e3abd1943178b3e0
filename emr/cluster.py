"""The request that starts a cluster of EMR on EC2, and the steps on it: from a plan to dicts, nothing is asked or sent.

Keys: https://docs.aws.amazon.com/emr/latest/APIReference/API_RunJobFlow.html. Settings for GPUs:
https://docs.aws.amazon.com/emr/latest/ReleaseGuide/emr-spark-rapids.html. None of it has run on AWS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from emr.costs.hardware import Instance
from emr.plan import Plan

ROOT = "/opt/imagesieve"  # on the nodes; emr/bootstrap.sh makes it
CGROUP = "/spark-rapids-cgroup"  # emr/bootstrap.sh mounts it
# AWS's policy of a service role (AmazonEMRServicePolicy_v2) touches only what carries this tag.
MANAGED = {"for-use-with-amazon-emr-managed-policies": "true"}


def request(plan: Plan) -> dict[str, Any]:
    """The arguments of `run_job_flow`, with a step for each stage."""
    limits, places = plan.hardware.limits, plan.places
    asked: dict[str, Any] = {
        "Name": plan.name,
        "LogUri": places.log_uri,
        "ReleaseLabel": plan.kind.release,
        "Applications": [{"Name": "Spark"}],
        "ServiceRole": places.service_role,
        "JobFlowRole": places.instance_profile,
        "VisibleToAllUsers": True,
        "Tags": [{"Key": key, "Value": value} for key, value in (plan.tags | MANAGED).items()],
        "Instances": {
            "InstanceFleets": _fleets(plan),
            "Ec2SubnetIds": list(places.subnets),
            # Alive after the last step, so that a failed stage can be repeated; idleness ends it.
            "KeepJobFlowAliveWhenNoSteps": True,
            "TerminationProtected": False,
            "UnhealthyNodeReplacement": True,
        },
        "EbsRootVolumeSize": limits.root_gb,
        "ScaleDownBehavior": "TERMINATE_AT_TASK_COMPLETION",
        "ManagedScalingPolicy": {"ComputeLimits": _compute_limits(plan)},
        "AutoTerminationPolicy": {"IdleTimeout": limits.idle_s},
        "Configurations": _configurations(plan),
        "BootstrapActions": [_bootstrap(plan)],
        "StepConcurrencyLevel": 1,  # a stage needs the tables of the one before
        "Steps": steps(plan),
    }
    if places.security_configuration:
        asked["SecurityConfiguration"] = places.security_configuration
    return asked


def steps(plan: Plan) -> list[dict[str, Any]]:
    """A spark-submit for each stage. A stage that fails cancels those behind it and leaves the cluster."""
    return [
        {
            "Name": stage,
            "ActionOnFailure": "CANCEL_AND_WAIT",
            "HadoopJarStep": {"Jar": "command-runner.jar", "Args": _spark_submit(plan, stage)},
        }
        for stage in plan.job.stages
    ]


def stage_arguments(plan: Plan, command: str) -> list[str]:
    """Of imagesieve itself; each an argument of its own, and none is read by a shell."""
    job = plan.job
    arguments = [command]
    if command in ("run", "catalog"):
        arguments += job.inputs
        arguments += [f"--layout={job.layout}"] if job.layout else []
        arguments += [f"--owner={job.owner}"] if job.owner else []
    return [*arguments, f"--lake={job.lake}", *[f"--set={override}" for override in job.overrides]]


def shape(plan: Plan) -> dict[str, str]:
    """Spark settings of all stages: what conf/clusters.yaml says, and executors of the kind's shape."""
    executor = plan.kind.executor
    return {
        **plan.hardware.spark,
        "spark.executor.cores": str(executor.cores),
        "spark.executor.memory": f"{executor.heap_mb}m",
        "spark.executor.memoryOverhead": f"{executor.overhead_mb}m",
    }


def _spark_submit(plan: Plan, stage: str) -> list[str]:
    package, files = plan.package, plan.package.environment(plan.kind.name)
    settings = {
        # The driver runs on the primary node, where the bootstrap has unpacked the environment.
        "spark.pyspark.driver.python": f"{ROOT}/environment/bin/python",
        "spark.pyspark.python": "./environment/bin/python",
        **plan.hardware.stages.get(stage, {}),
        **(_gpu_settings(plan) if stage == "embed" and plan.kind.tasks_per_gpu else {}),
    }
    conf = [part for key, value in settings.items() for part in ("--conf", f"{key}={value}")]
    return [
        "spark-submit", "--master", "yarn", "--deploy-mode", "client", "--name", f"imagesieve {stage}",
        "--py-files", package.at("imagesieve.zip"),
        "--archives", f"{package.at(files.file)}#environment",
        "--jars", package.at(files.graphframes),
        *conf,
        package.at("entry.py"),
        *stage_arguments(plan, stage),
    ]  # fmt: skip


def _gpu_settings(plan: Plan) -> dict[str, str]:
    """Of the embed stage alone: the others run on all nodes' cores, with or without a GPU."""
    return {
        "spark.executor.resource.gpu.amount": "1",
        "spark.executor.resource.gpu.discoveryScript": f"{ROOT}/gpus.sh",
        "spark.task.resource.gpu.amount": f"{1 / plan.kind.tasks_per_gpu:g}",
    }


def _fleets(plan: Plan) -> list[dict[str, Any]]:
    kind, limits, instances = plan.kind, plan.hardware.limits, plan.hardware.instances
    on_demand = {"OnDemandSpecification": {"AllocationStrategy": "lowest-price"}}
    spot = {"TimeoutDurationMinutes": limits.spot_timeout_minutes, "AllocationStrategy": "price-capacity-optimized"}
    return [
        {
            "Name": "primary",
            "InstanceFleetType": "MASTER",
            "TargetOnDemandCapacity": 1,
            "InstanceTypeConfigs": [
                {"InstanceType": name, "WeightedCapacity": 1, "EbsConfiguration": _disk(limits.disk_gb)}
                for name in kind.primary
            ],
            "LaunchSpecifications": on_demand,
        },
        {
            "Name": "core",
            "InstanceFleetType": "CORE",
            "TargetOnDemandCapacity": plan.core_units,
            "InstanceTypeConfigs": [_worker(plan, instances[name], limits.disk_gb) for name in kind.core],
            "LaunchSpecifications": on_demand,
        },
        {
            "Name": "task",
            "InstanceFleetType": "TASK",
            "TargetSpotCapacity": plan.task_units,
            "InstanceTypeConfigs": [
                {**_worker(plan, type_, plan.disk_gb), "BidPriceAsPercentageOfOnDemandPrice": 100.0}
                for type_ in plan.task_types
            ],
            "LaunchSpecifications": {"SpotSpecification": {**spot, "TimeoutAction": "SWITCH_TO_ON_DEMAND"}},
            "ResizeSpecifications": {"SpotResizeSpecification": spot},
        },
    ]


def _worker(plan: Plan, instance: Instance, disk_gb: int) -> dict[str, Any]:
    """An instance type of a fleet that runs executors."""
    # EMR's own figure differs by type; with this one the number of executors is what the weight says.
    yarn = {"yarn.nodemanager.resource.memory-mb": str(instance.memory_mb - plan.hardware.system_mb)}
    configurations = [_classified("yarn-site", {**_yarn(plan), **yarn, **(_yarn_gpu() if instance.gpus else {})})]
    if instance.gpus:
        configurations.append(
            {
                "Classification": "container-executor",
                "Properties": {},
                "Configurations": [
                    _classified("gpu", {"module.enabled": "true"}),
                    _classified("cgroups", {"root": CGROUP, "yarn-hierarchy": "yarn"}),
                ],
            }
        )
    return {
        "InstanceType": instance.name,
        "WeightedCapacity": max(1, plan.units(instance)),
        "EbsConfiguration": _disk(disk_gb),
        "Configurations": configurations,
    }


def _disk(size_gb: int) -> dict[str, Any]:
    """gp3 for what YARN and HDFS keep. The security configuration encrypts it: the request has no key for that."""
    volume = {"VolumeType": "gp3", "SizeInGB": size_gb}
    return {"EbsOptimized": True, "EbsBlockDeviceConfigs": [{"VolumeSpecification": volume, "VolumesPerInstance": 1}]}


def _compute_limits(plan: Plan) -> dict[str, Any]:
    """Of managed scaling, in units. What it adds is spot: only the core fleet counts as on demand."""
    return {
        "UnitType": "InstanceFleetUnits",
        "MinimumCapacityUnits": plan.core_units + min(plan.hardware.limits.least_task_units, plan.task_units),
        "MaximumCapacityUnits": plan.core_units + plan.task_units,
        "MaximumOnDemandCapacityUnits": plan.core_units,
        "MaximumCoreCapacityUnits": plan.core_units,
    }


def _configurations(plan: Plan) -> list[dict[str, Any]]:
    system_mb = plan.hardware.system_mb
    most_mb = max(
        type_.memory_mb - system_mb
        for type_ in [*plan.task_types, *[plan.hardware.instances[name] for name in plan.kind.core]]
    )
    export = {"AWS_REGION": plan.region, "IMAGESIEVE_CACHE": f"{ROOT}/models"}
    out = [
        _classified("delta-defaults", {"delta.enabled": "true"}),
        _classified(
            "spark-defaults",
            {
                **shape(plan),
                "spark.driver.memory": f"{plan.hardware.limits.driver_heap_mb}m",
                "spark.dynamicAllocation.maxExecutors": str(plan.core_units + plan.task_units),
                # boto3 does not ask an instance for its region.
                "spark.executorEnv.AWS_REGION": plan.region,
            },
        ),
        {"Classification": "spark-env", "Properties": {}, "Configurations": [_classified("export", export)]},
        _classified("yarn-site", {**_yarn(plan), "yarn.scheduler.maximum-allocation-mb": str(most_mb)}),
    ]
    if plan.kind.tasks_per_gpu:
        calculator = "org.apache.hadoop.yarn.util.resource.DominantResourceCalculator"
        out += [
            # Brings NVIDIA's driver and CUDA. The plugin itself is loaded only where spark.plugins names it.
            _classified("spark", {"enableSparkRapids": "true"}),
            _classified("capacity-scheduler", {"yarn.scheduler.capacity.resource-calculator": calculator}),
        ]
    return out


def _yarn(plan: Plan) -> dict[str, str]:
    """Of all nodes. An application master on a spot node would end its stage with it; labels are off since EMR 6."""
    labels = {"yarn.node-labels.enabled": "true", "yarn.node-labels.am.default-node-label-expression": "CORE"}
    return labels | ({"yarn.resource-types": "yarn.io/gpu"} if plan.kind.tasks_per_gpu else {})


def _yarn_gpu() -> dict[str, str]:
    """Of nodes with a GPU: cgroups keep a container from GPUs that it was not given."""
    plugin, cgroups = "yarn.nodemanager.resource-plugins", "yarn.nodemanager.linux-container-executor.cgroups"
    return {
        plugin: "yarn.io/gpu",
        f"{plugin}.gpu.allowed-gpu-devices": "auto",
        f"{plugin}.gpu.path-to-discovery-executables": "/usr/bin",
        f"{cgroups}.mount": "true",
        f"{cgroups}.mount-path": CGROUP,
        f"{cgroups}.hierarchy": "yarn",
        "yarn.nodemanager.container-executor.class": (
            "org.apache.hadoop.yarn.server.nodemanager.LinuxContainerExecutor"
        ),
    }


def _bootstrap(plan: Plan) -> dict[str, Any]:
    package = plan.package
    files = package.environment(plan.kind.name)
    arguments = ["--package", package.uri, "--python", package.python]
    for option, name in (("--gpus", "gpus.sh"), ("--environment", files.file), ("--models", files.models)):
        arguments += [option, name, package.files[name].sha256]
    if plan.kind.tasks_per_gpu:
        arguments.append("--cgroup")
    return {
        "Name": "imagesieve",
        "ScriptBootstrapAction": {"Path": package.at("bootstrap.sh"), "Args": arguments},
    }


def _classified(name: str, properties: Mapping[str, str]) -> dict[str, Any]:
    return {"Classification": name, "Properties": dict(properties)}


def types(plan: Plan) -> Sequence[str]:
    """All instance types of the fleets, each once."""
    return list(dict.fromkeys([*plan.kind.primary, *plan.kind.core, *[type_.name for type_ in plan.task_types]]))
